//! Debian's stock kernels: which there are of a series, and the newest one unpacked in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::image;
use crate::paths::Paths;
use crate::process;
use crate::progress::Step;
use crate::setup::archive::{self, Archive};

/// Suites with kernels, and whether they are of the security archive. Old stable releases get kernels there
/// for years; backports hold what is newer than the stable release.
const SUITES: [(&str, bool); 4] = [
    ("bullseye-security", true),
    ("bookworm-security", true),
    ("trixie-security", true),
    ("trixie-backports", false),
];
/// Without debug symbols and drivers of hardware: a few megabytes.
const FLAVOUR: &str = "-cloud-amd64";
/// A package name is one of these, the release and the flavour. Newer kernels are split in two, and
/// `linux-image` is a stub.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
/// Point releases leave the archive, so the index must be looked at; but not for each run.
const INDEX_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
const READY: &str = "ready";

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `6.1`
    pub series: String,
    /// `6.1.0-56-cloud-amd64`
    pub release: String,
    /// The uncompressed image.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// The newest kernels of these series; `newest` stands for the newest series there is.
pub fn prepare(paths: &Paths, wanted: &[String]) -> Result<Vec<Kernel>> {
    let cache = paths.cache.join("kernels");
    let step = Step::begin("stock kernels");
    let archive = open(&cache)?;
    let names = match current_names(&archive, &cache, &step) {
        Ok(names) => names,
        Err(error) => {
            step.say(&format!("no index ({error:#}); taking what is in the cache"));
            cached_names(&cache)
        }
    };
    let kernels = wanted.iter().map(|series| {
        let release = newest(&names, series).with_context(|| {
            let known = known_series(&names).join(", ");
            format!("Debian has no kernel of series {series}; it has {known}")
        })?;
        let packages = PARTS.iter().map(|part| format!("{part}{release}"));
        let packages: Vec<String> = packages.filter(|package| names.contains(package)).collect();
        kernel(&cache, &release, &packages, &archive, &step)
            .with_context(|| format!("cannot get kernel {release}"))
    });
    let kernels = kernels.collect::<Result<Vec<_>>>()?;
    step.done();
    Ok(kernels)
}

fn open(cache: &Path) -> Result<Archive> {
    let mirrors = archive::mirrors()?;
    let mirror = mirrors.first().context("no mirror")?;
    let sources = SUITES.map(|(suite, security)| {
        let address = if security { format!("{mirror}-security") } else { mirror.clone() };
        (address, suite)
    });
    Archive::new(cache.join("apt"), &sources)
}

/// Names of all kernel packages of the flavour, fetched at most once a day.
fn current_names(archive: &Archive, cache: &Path, step: &Step) -> Result<Vec<String>> {
    let stamp = cache.join("apt/updated");
    let fresh = stamp
        .metadata()
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < INDEX_LASTS));
    if !fresh {
        archive.update(step)?;
        fs::write(&stamp, "")?;
    }
    let pattern = format!("^linux-(image|binary|modules)-[0-9].*{FLAVOUR}$");
    let found = archive.ask(&["search", "--names-only", &pattern])?;
    Ok(found.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// As if the kernels of the cache were all there are.
fn cached_names(cache: &Path) -> Vec<String> {
    let entries = fs::read_dir(cache).into_iter().flatten().filter_map(Result::ok);
    let ready = entries.filter(|entry| entry.path().join(READY).exists());
    ready.filter_map(|entry| Some(format!("linux-image-{}", entry.file_name().to_str()?))).collect()
}

/// The release in the name of a package that holds an image.
fn release(name: &str) -> Option<&str> {
    PARTS[..2].iter().find_map(|part| name.strip_prefix(part)).filter(|rest| rest.ends_with(FLAVOUR))
}

/// `6.12.117+deb13-cloud-amd64` is of series `6.12`.
fn series(release: &str) -> String {
    release.split(['.', '-', '+']).take(2).collect::<Vec<_>>().join(".")
}

/// All numbers in order: kernels of one series compare by them.
fn numbers(release: &str) -> Vec<u64> {
    let release = release.strip_suffix(FLAVOUR).unwrap_or(release);
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn newest(names: &[String], wanted: &str) -> Option<String> {
    let releases = names.iter().filter_map(|name| release(name));
    let chosen = releases.filter(|release| wanted == super::NEWEST || series(release) == wanted);
    chosen.max_by_key(|release| numbers(release)).map(str::to_owned)
}

fn known_series(names: &[String]) -> Vec<String> {
    let mut known: Vec<String> = names.iter().filter_map(|name| release(name)).map(series).collect();
    known.sort_by_key(|series| numbers(series));
    known.dedup();
    known
}

/// The kernel from the cache, or first into it.
fn kernel(
    cache: &Path,
    release: &str,
    packages: &[String],
    archive: &Archive,
    step: &Step,
) -> Result<Kernel> {
    let folder = cache.join(release);
    let kernel = Kernel {
        series: series(release),
        release: release.to_owned(),
        image: folder.join("vmlinux"),
        modules: folder.join("modules"),
    };
    if folder.join(READY).exists() {
        return Ok(kernel);
    }
    let scratch = cache.join("unpacking");
    for old in [&scratch, &folder] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(scratch.join("root"))?;
    for package in packages {
        step.say(&format!("Debian package {package}"));
        let file = archive.download(package, step)?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&file).arg(scratch.join("root"));
        process::run(&mut unpack)?;
        fs::remove_file(file)?;
    }
    let root = scratch.join("root");
    let beside = ["usr/lib/modules", "lib/modules"].map(|place| root.join(place).join(release));
    let modules = beside.iter().find(|folder| folder.join("kernel").is_dir()).context("no modules in it")?;
    let images = [root.join(format!("boot/vmlinuz-{release}")), beside[0].join("vmlinuz")];
    let Some(compressed) = images.iter().find(|image| image.is_file()) else { bail!("no image in it") };
    image::uncompress(compressed, &scratch.join("vmlinux"))?;
    fs::rename(modules, scratch.join("modules"))?;
    fs::remove_dir_all(&root)?;
    fs::write(scratch.join(READY), "")?;
    fs::rename(&scratch, &folder)?;
    remove_older(cache, release)?;
    Ok(kernel)
}

/// Point releases that another one has taken the place of.
fn remove_older(cache: &Path, release: &str) -> Result<()> {
    for entry in fs::read_dir(cache)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(other) = name.to_str().filter(|name| name.ends_with(FLAVOUR)) else { continue };
        if series(other) == series(release) && numbers(other) < numbers(release) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        [
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.96+deb13-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.4.1+deb13-cloud-amd64",
        ]
        .map(str::to_owned)
        .into()
    }

    #[test]
    fn the_newest_of_a_series_is_found_by_numbers() {
        let newest = |series| newest(&names(), series);
        assert_eq!(newest("6.1").as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(newest("6.12").as_deref(), Some("6.12.117+deb13-cloud-amd64"));
        assert_eq!(newest("7.3").as_deref(), Some("7.3.4+deb13-cloud-amd64"));
        assert_eq!(newest(super::super::NEWEST), newest("7.3"), "modules without a kernel are none");
        assert_eq!(newest("6.18"), None);
    }

    #[test]
    fn series_are_told_in_order() {
        assert_eq!(known_series(&names()), ["6.1", "6.12", "7.3"]);
    }
}
