//! Rule sets of the shape that kube-proxy makes, for Services of one UDP port with a few endpoints
//! each. What concerns filtering is left out; that makes the baseline the faster.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The port of all Services; the generator sends to it.
pub const PORT: u16 = 9;
pub const ENDPOINTS: u32 = 4;
pub const TARGET_PORT: u16 = 8080;
/// All of them are in it.
pub const SERVICES: &str = "10.96.0.0/12";
/// Clients are outside of it, so that their packets are masqueraded.
pub const PODS: &str = "10.244.0.0/16";

/// The virtual address of a Service.
pub fn service(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number)
}

/// Its endpoints are numbered on.
pub fn endpoint(service: u32, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 0, 1)) + service * ENDPOINTS + number)
}

/// As in kube-proxy's nftables mode: one lookup of address, protocol and port finds a Service's
/// chain, a random number the endpoint's.
pub fn nftables(services: u32) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "table ip kube-proxy {
         chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
         chain masquerading {
           meta mark & 0x4000 == 0 return
           meta mark set meta mark ^ 0x4000
           masquerade fully-random
         }\n",
    );
    for number in 0..services {
        let address = service(number);
        let mut choices = Vec::new();
        for place in 0..ENDPOINTS {
            let to = endpoint(number, place);
            let chain = format!("endpoint-{number}-{place}");
            writeln!(text, "chain {chain} {{")?;
            writeln!(text, "  ip saddr {to} jump mark-for-masquerade")?;
            writeln!(text, "  meta l4proto udp dnat to {to}:{TARGET_PORT}\n}}")?;
            choices.push(format!("{place} : goto {chain}"));
        }
        writeln!(text, "chain service-{number} {{")?;
        writeln!(text, "  ip daddr {address} udp dport {PORT} ip saddr != {PODS} jump mark-for-masquerade")?;
        writeln!(text, "  numgen random mod {ENDPOINTS} vmap {{ {} }}\n}}", choices.join(", "))?;
    }
    text += "map service-ips {\n type ipv4_addr . inet_proto . inet_service : verdict\n elements = {\n";
    for number in 0..services {
        writeln!(text, "  {} . udp . {PORT} : goto service-{number},", service(number))?;
    }
    text += "} }
         chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
         chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
         chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
       }\n";
    Ok(text)
}

/// As in kube-proxy's iptables mode: one rule per Service, looked at one after the other.
pub fn iptables(services: u32) -> Result<String, std::fmt::Error> {
    let mut chains = String::new();
    let mut rules = String::new();
    for number in 0..services {
        let address = service(number);
        writeln!(chains, ":KUBE-SVC-{number} - [0:0]")?;
        writeln!(
            rules,
            "-A KUBE-SERVICES -d {address}/32 -p udp -m comment --comment \"bench/s{number} cluster IP\" \
             -m udp --dport {PORT} -j KUBE-SVC-{number}
-A KUBE-SVC-{number} ! -s {PODS} -d {address}/32 -p udp -m udp --dport {PORT} -j KUBE-MARK-MASQ"
        )?;
        for place in 0..ENDPOINTS {
            let to = endpoint(number, place);
            writeln!(chains, ":KUBE-SEP-{number}-{place} - [0:0]")?;
            let chance = 1.0 / f64::from(ENDPOINTS - place);
            let statistic = if place + 1 == ENDPOINTS {
                String::new()
            } else {
                format!("-m statistic --mode random --probability {chance:.11} ")
            };
            writeln!(
                rules,
                "-A KUBE-SVC-{number} {statistic}-j KUBE-SEP-{number}-{place}
-A KUBE-SEP-{number}-{place} -s {to}/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-{number}-{place} -p udp -m udp -j DNAT --to-destination {to}:{TARGET_PORT}"
            )?;
        }
    }
    Ok(format!(
        "*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
{chains}-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
{rules}COMMIT\n"
    ))
}
