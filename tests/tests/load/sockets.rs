//! The programs of sockets: on a control group beside others, replaced in place, taken off.

use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use netroute_tests::cgroup::Cgroup;
use netroute_tests::namespace::enter;
use netroute_user::config::SocketGroup;
use netroute_user::load::{Attachments, SocketsError, detach};

use super::wire::{Folder, limits};

fn serve(folder: &Folder, group: Option<SocketGroup>) -> Result<(Attachments, Option<SocketsError>)> {
    let switched = folder.open(limits())?.with_sockets(group).switch_programs(&[], &[])?;
    Ok((switched.attachments, switched.sockets_refused))
}

fn at(path: &Path) -> Option<SocketGroup> {
    Some(SocketGroup::At(path.to_path_buf()))
}

/// Ids of the programs, all of which must run.
fn ids(attachments: &Attachments) -> Result<Vec<u32>> {
    let programs = attachments.socket_programs();
    programs.into_iter().map(|program| program.id.with_context(|| format!("no {}", program.name))).collect()
}

fn run(ids: &[u32]) -> usize {
    loaded_programs().filter_map(Result::ok).filter(|program| ids.contains(&program.id())).count()
}

#[test]
fn x1_socket_programs_stand_beside_those_of_others() -> Result<()> {
    enter()?;
    let Some(group) = Cgroup::enter()? else {
        println!("SKIP x1_socket_programs_stand_beside_those_of_others: no control groups of version 2");
        return Ok(());
    };
    let (mine, theirs) = (Folder::new(), Folder::new());
    let (others, None) = serve(&theirs, at(group.path()))? else { anyhow::bail!("refused") };
    let other_ids = ids(&others)?;
    let (attachments, None) = serve(&mine, at(group.path()))? else { anyhow::bail!("refused") };
    let first = ids(&attachments)?;
    assert_eq!((first.len(), run(&first), run(&other_ids)), (8, 8, 8));
    assert_eq!(attachments.missing_pin(), None);
    drop(attachments);
    assert_eq!(run(&first), 8, "they stay without their agent");

    let (attachments, None) = serve(&mine, at(group.path()))? else { anyhow::bail!("refused") };
    let second = ids(&attachments)?;
    assert!(first.iter().all(|id| !second.contains(id)), "replaced");
    let links = std::fs::read_dir(mine.path.join("v4/links"))?.count();
    assert_eq!(links, 8, "one link each");
    drop(attachments);
    assert_eq!(detach(&mine.path)?.sockets, 8);
    assert_eq!((run(&first), run(&second), run(&other_ids)), (0, 0, 8));
    Ok(())
}

#[test]
fn sockets_that_cannot_be_served_are_left_alone() -> Result<()> {
    enter()?;
    let Some(group) = Cgroup::enter()? else {
        println!("SKIP sockets_that_cannot_be_served_are_left_alone: no control groups of version 2");
        return Ok(());
    };
    let folder = Folder::new();
    let (attachments, None) = serve(&folder, at(group.path()))? else { anyhow::bail!("refused") };
    let running = ids(&attachments)?;
    drop(attachments);
    for (path, other) in [("/nowhere/at/all", false), ("/proc", true)] {
        let (attachments, Some(error)) = serve(&folder, at(Path::new(path)))? else {
            anyhow::bail!("served {path}");
        };
        assert_eq!(matches!(error, SocketsError::OtherFileSystem { .. }), other, "{error}");
        assert!(error.fix().contains("sockets.cgroup"), "{}", error.fix());
        assert_eq!((attachments.sockets(), run(&running)), (None, 0));
    }
    let (attachments, None) = serve(&folder, at(group.path()))? else { anyhow::bail!("refused") };
    let running = ids(&attachments)?;
    drop(attachments);
    let (attachments, None) = serve(&folder, None)? else { anyhow::bail!("refused") };
    assert_eq!((attachments.socket_programs().len(), run(&running)), (0, 0), "switched off");
    Ok(())
}
