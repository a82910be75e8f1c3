//! Service baselines: what the kernel does with kube-proxy's rules.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use netroute_tests::netns::feed;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::AsRawFd as _;

use crate::baseline_rules::{iptables, nftables};

/// The interface to netfilter that the rules are written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tool {
    Nftables,
    Iptables,
}

impl Tool {
    pub const ALL: [Self; 2] = [Self::Nftables, Self::Iptables];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }

    /// Loads the rules in the calling thread's namespace.
    pub fn install(self, services: u32) -> Result<()> {
        match self {
            Self::Nftables => feed(Command::new("nft").args(["-f", "-"]), &nftables(services)?),
            // The faster of the two that go by the name, where the kernel still has it.
            Self::Iptables => {
                let rules = iptables(services)?;
                feed(&mut Command::new("iptables-legacy-restore"), &rules)
                    .or_else(|_| feed(&mut Command::new("iptables-restore"), &rules))
            }
        }
        // The rules are long, and no help.
        .map_err(|error| {
            let text = error.to_string();
            anyhow::anyhow!("{}", text.split("\ninput was:").next().unwrap_or_default().to_owned())
        })
        .with_context(|| format!("cannot load the rules of {services} Services"))
    }
}

/// Removes all IPv4 connections of the calling thread's namespace: an `IPCTNL_MSG_CT_DELETE` that
/// names none (`linux/netfilter/nfnetlink_conntrack.h`).
pub fn forget_connections() -> Result<()> {
    const CTNETLINK_DELETE: u16 = 1 << 8 | 2;
    const REQUEST_ACK: u16 = 1 | 4;
    const AF_INET: u8 = 2;
    const ERROR_AT: usize = 16;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let mut message = Vec::with_capacity(20);
    message.extend(20_u32.to_ne_bytes());
    message.extend(CTNETLINK_DELETE.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([AF_INET, 0, 0, 0]);
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).context("cannot reach conntrack")?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer.get(ERROR_AT..ERROR_AT + 4).filter(|_| length >= ERROR_AT + 4);
    let code = i32::from_ne_bytes(code.context("no answer of conntrack")?.try_into()?);
    ensure!(code == 0, "conntrack: {}", std::io::Error::from_raw_os_error(-code));
    Ok(())
}
