//! The lab's server process: `netroute-lab-peer rtsp=554 udp=5000 …`, or a replica of the two-tier
//! application: `netroute-lab-peer web NAME`, or a client of it: `netroute-lab-peer client`.
//!
//! A server prints `ready` once all ports listen, and serves until it is killed.

use std::io::Write;

use anyhow::{Context, Result, bail};
use netroute_tests::{
    app::{CLIENT, Replica, serve_asker},
    peer::{READY, Server},
};

fn main() -> Result<()> {
    // Lives on when the terminal that built the lab is closed.
    nix::unistd::setsid().ok();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == [CLIENT] {
        return serve_asker();
    }
    if let [word, name] = &arguments[..]
        && let Some(replica) = Replica::ALL.into_iter().find(|replica| replica.word() == word)
    {
        return replica.serve(name);
    }
    let mut servers = Vec::new();
    for argument in arguments {
        let (service, port) =
            argument.split_once('=').with_context(|| format!("{argument:?} is not SERVICE=PORT"))?;
        let port = port.parse().with_context(|| format!("{port:?} is no port"))?;
        servers.push(Server::bind(service.parse()?, port)?);
    }
    let Some(first) = servers.pop() else {
        bail!("usage: netroute-lab-peer SERVICE=PORT… | web NAME | database NAME | client")
    };
    writeln!(std::io::stdout(), "{READY}")?;
    first.wait();
    Ok(())
}
