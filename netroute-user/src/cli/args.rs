//! The grammar of the command line, but for the cmdlets.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api::MOST_FLOWS;
use crate::api::types::FlowState;
use crate::config::{DEFAULT_PATH, DEFAULT_SOCKET};
use crate::explain::query::SOURCE_PORT;

/// Custom routes in the kernel's fast path, on nodes with more than one NIC.
#[derive(Debug, Parser)]
#[command(
    name = "netroute",
    version = super::version::LINE,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Cmdlets, in PowerShell's grammar: Add-HcsNetRoute, Get-HcsNetRoute, Remove-HcsNetRoute.\n\
                  Exit status: 0 done, 1 refused (nothing changed), 2 usage, 3 no agent at the socket."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The agent's socket
    #[arg(long, global = true, env = "NETROUTE_SOCKET", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent
    Agent {
        /// The agent's configuration
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Custom routes
    #[command(subcommand)]
    Route(Route),
    /// Next hops: metrics, neighbour, liveness, packets
    #[command(subcommand, name = "nexthop")]
    NextHop(NextHop),
    /// Services: front ends, endpoints, packets
    #[command(subcommand)]
    Service(Service),
    /// Egress policies: state, pods, packets
    #[command(subcommand)]
    Egress(Egress),
    /// Flows to Services
    #[command(subcommand)]
    Flow(Flow),
    /// What would become of a packet, stage by stage; nothing is sent and nothing changed
    #[command(
        after_help = "The packet is the first of a connection (TCP SYN), a datagram or an echo request, without \
                      payload.\nIt is judged by the data plane's own code over the live maps, as they are now.\n\n\
                      netroute explain --from shop/web --to 203.0.113.10:443/tcp\n\
                      netroute explain --from 192.168.20.50 --to shop/web:80/tcp --in Port3 -o json"
    )]
    Explain(Explain),
    /// Packets by hook and reason: what the fast path sent and what it left to the kernel
    Drops {
        /// Show again every second, with rates
        #[arg(short, long)]
        watch: bool,
    },
    /// Health, interfaces, programs, maps
    Status,
    /// Check kernel and NICs; each finding comes with its fix (exit status 1 if one fails)
    Doctor,
    /// What the maps should hold against what they hold
    Diff,
    /// The agent's configuration
    #[command(subcommand)]
    Config(Config),
    /// Version of this program and of the map layouts
    Version,
    /// Remove programs, maps and the routes in the kernel; traffic goes on as if never installed
    Detach {
        /// The configuration of the agent that is not running any more
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print shell completions
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write the pages of all commands into a folder
    Man {
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Write the custom resource definitions into a folder
    #[command(hide = true)]
    Crds {
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Route {
    /// Add a route, or change the one with the same destination, next hop and interface
    Add(AddRoute),
    /// List custom routes
    #[command(visible_alias = "ls")]
    List {
        /// Only routes of this interface
        #[arg(long, value_name = "IFACE")]
        dev: Option<String>,
        /// The whole compiled table, each route with its origin
        #[arg(long)]
        all: bool,
    },
    /// Remove the routes of a destination on an interface
    #[command(visible_alias = "rm")]
    Remove {
        /// Prefix, or one address
        #[arg(value_name = "DEST")]
        destination: String,
        #[arg(long, value_name = "IFACE")]
        dev: String,
        /// Only the route with this next hop
        #[arg(long, value_name = "ADDR")]
        via: Option<String>,
    },
    /// Which prefix, next hop and interface an address gets, and why
    Get {
        #[arg(value_name = "ADDR")]
        address: IpAddr,
        /// Source address, for the choice among next hops of equal metric
        #[arg(long, value_name = "ADDR")]
        from: Option<IpAddr>,
    },
    /// Add the routes of a file: all of them or none
    #[command(after_help = "Each line is: DEST via ADDR dev IFACE [metric N] [weight N] [force]\n\
                      Text after # is a comment. A file of NetRoute objects (YAML) is read too.")]
    Import {
        /// `-` reads standard input
        file: PathBuf,
    },
    /// Print the routes of the command line in the form that import reads
    Export {
        /// Write to a file instead
        file: Option<PathBuf>,
        /// The routes of manifests too
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub struct AddRoute {
    /// Prefix without host bits, or one address
    #[arg(value_name = "DEST")]
    pub destination: String,
    /// Next hop; may lie inside DEST
    #[arg(long, value_name = "ADDR")]
    pub via: String,
    /// Interface: alias of the agent's configuration, or device name
    #[arg(long, value_name = "IFACE")]
    pub dev: String,
    /// Lower is preferred [default: 256]
    #[arg(long, value_name = "N")]
    pub metric: Option<u32>,
    /// Share among routes of equal metric [default: 1]
    #[arg(long, value_name = "N")]
    pub weight: Option<u8>,
    /// Accept an interface that has only dynamic addresses
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum NextHop {
    /// List next hops
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Debug, Subcommand)]
pub enum Service {
    /// List Services, a row for each port
    #[command(visible_alias = "ls")]
    List {
        /// Only Services of this namespace
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
    },
    /// Front ends and endpoints of one Service
    Show {
        name: String,
        #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
        namespace: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Egress {
    /// List policies in the order in which they are asked
    #[command(visible_alias = "ls")]
    List,
    /// What one policy says, its state and its counters
    Show { name: String },
}

#[derive(Debug, Args)]
pub struct Explain {
    /// Who sends: an address, or a pod of this node as NAMESPACE/NAME
    #[arg(long, value_name = "ADDR|POD")]
    pub from: String,
    /// Where to: ADDR:PORT/PROTO ([ADDR]:PORT/PROTO for IPv6), ADDR/icmp, or a Service as
    /// NAMESPACE/NAME:PORT/PROTO; PROTO is tcp, udp or sctp
    #[arg(long, value_name = "TARGET")]
    pub to: String,
    /// Source port, or identifier of the echo: endpoint, translated port and next hops of equal metric
    /// depend on it
    #[arg(long, value_name = "PORT", default_value_t = SOURCE_PORT)]
    pub source_port: u16,
    /// Where the packet comes in: a NIC, or the host end of a pod's veth [default: where the route to its
    /// source leads]
    #[arg(long = "in", value_name = "IFACE")]
    pub interface: Option<String>,
    /// The same as --output json
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Flow {
    /// List flows: each with its client, front end and endpoint
    #[command(visible_alias = "ls")]
    List {
        /// Only flows of this Service
        #[arg(long, value_name = "NAMESPACE/NAME")]
        service: Option<String>,
        /// Only flows of this client
        #[arg(long, value_name = "ADDR")]
        client: Option<IpAddr>,
        /// Only flows that are so far
        #[arg(long, value_enum)]
        state: Option<FlowState>,
        /// Show no more than this
        #[arg(long, value_name = "N", default_value_t = MOST_FLOWS)]
        limit: usize,
    },
    /// Remove flows: their next packets are treated as the first of new ones
    Flush(FlowsOf),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct FlowsOf {
    /// Flows of this Service
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub service: Option<String>,
    /// Flows of this client
    #[arg(long, value_name = "ADDR")]
    pub client: Option<IpAddr>,
    /// All flows
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check a configuration, its manifests and the kept routes, without an agent
    Check {
        #[arg(value_name = "FILE", default_value = DEFAULT_PATH)]
        file: PathBuf,
    },
}
