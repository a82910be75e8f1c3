//! What is run on each kernel. Emulation is some ten times slower than the machine, so the netns tests are a
//! choice: one for each thing that a kernel could do differently, none that is about time.

use std::process::Command;

use anyhow::{Result, bail};
use netroute_tests::guest;

use crate::paths::Paths;
use crate::process;
use crate::test::suite::Suite;

/// Column of the table that a suite counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Vectors,
    Differential,
    Load,
    Store,
    Netns,
}

impl Column {
    pub const ALL: [Self; 5] = [Self::Vectors, Self::Differential, Self::Load, Self::Store, Self::Netns];

    pub fn title(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::Differential => "differential",
            Self::Load => "load",
            Self::Store => "store",
            Self::Netns => "netns",
        }
    }
}

/// Test binary of a package, and the tests of it that are run.
pub struct Chosen {
    pub target: &'static str,
    pub column: Column,
    /// Whole names; empty for all.
    tests: &'static [&'static str],
    /// At a time; streams that must lose nothing leave no processor time for another such test.
    threads: u8,
}

const fn all(target: &'static str, column: Column, threads: u8) -> Chosen {
    Chosen { target, column, tests: &[], threads }
}

const fn some(target: &'static str, column: Column, tests: &'static [&'static str]) -> Chosen {
    Chosen { target, column, tests, threads: 1 }
}

pub const CHOSEN: &[Chosen] = &[
    all("load_kernel", Column::Load, 1),
    some("vectors_kernel", Column::Vectors, &["one_object_judges_all_vectors"]),
    some("differential", Column::Differential, &["r12_n11_host_and_kernel_agree_on_random_packets"]),
    // Few: each loads all programs several times, some seconds of the emulated verifier each.
    some(
        "load",
        Column::Load,
        &[
            "x4_a_driver_without_native_xdp_gets_generic_mode",
            "x1_a_foreign_xdp_program_stays_and_is_named",
            "x2_an_interface_made_anew_is_attached_once",
            "detach_leaves_nothing_and_may_be_repeated",
            "traffic::filters_serve_where_there_is_no_tcx",
            "traffic::programs_forward_and_count",
        ],
    ),
    all("store", Column::Store, 1),
    some("e2e_kernel", Column::Netns, &["the_agent_names_its_fallbacks"]),
    some(
        "netlink_neighbours",
        Column::Netns,
        &[
            "wanted_neighbours_are_resolved_and_released",
            "r14_a_host_that_was_away_is_asked_again_where_the_kernel_does_not",
        ],
    ),
    some("netlink_fib", Column::Netns, &["r2_r13_writes_replaces_and_removes_both_families"]),
    some(
        "netlink_watch",
        Column::Netns,
        &["tells_what_is_there_and_then_each_change", "multipath_and_nexthop_objects_are_resolved"],
    ),
    // The route is added by the cmdlet's line.
    some("e2e_cameras", Column::Netns, &["r2_cameras_by_port3_and_internet_by_port2"]),
    some("e2e_restart", Column::Netns, &["n14_kill_and_restart_lose_nothing"]),
    some("e2e_failover", Column::Netns, &["r6_r14_a_cable_is_pulled_and_put_back"]),
    some(
        "e2e_services",
        Column::Netns,
        &["s1_s17_pods_reach_all_endpoints_and_keep_their_address", "s17_a_pod_reaches_itself"],
    ),
    some("e2e_lifecycle", Column::Netns, &["r13_detach_leaves_nothing"]),
];

/// A suite that is not run on a series, and why: a gap of the product that is known. It is told with each run.
pub const LEFT_OUT: &[(&str, &str, &str)] = &[];

/// Why `target` is not run on kernels of `series`, if it is not.
pub fn left_out(series: &str, target: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(on, what, _)| *on == series && *what == target).map(|(_, _, why)| *why)
}

/// Environment of every suite.
const ENVIRONMENT: [(&str, &str); 4] = [
    // Streams are this many times as thin, deadlines longer.
    ("NETROUTE_TEST_PATIENCE", "20"),
    ("NETROUTE_PACKETS", "24000"),
    ("NETROUTE_TEST_ROUTES", "10000"),
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
];

/// The machine kills a suite that takes longer.
const SECONDS: u64 = 400;

impl Chosen {
    /// Asks the binary whether it has all of these tests: one that was renamed would not be missed.
    pub fn check(&self, suite: &Suite) -> Result<()> {
        let listed = process::read(Command::new(&suite.program).args(["--list", "--format=terse"]))?;
        let missing =
            self.tests.iter().find(|name| !listed.lines().any(|line| line == format!("{name}: test")));
        missing.map_or(Ok(()), |name| bail!("{} has no test {name}: was it renamed?", self.target))
    }

    /// The run of this choice of `suite`'s tests.
    pub fn run(&self, suite: &Suite, paths: &Paths) -> guest::Suite {
        let mut arguments = vec!["--show-output".to_owned(), format!("--test-threads={}", self.threads)];
        if !self.tests.is_empty() {
            arguments.push("--exact".to_owned());
        }
        arguments.extend(self.tests.iter().map(|name| (*name).to_owned()));
        let mut environment: std::collections::BTreeMap<String, String> =
            ENVIRONMENT.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        environment.insert("CARGO_MANIFEST_DIR".to_owned(), suite.folder.display().to_string());
        environment.insert("NETROUTE_BPF_OBJECT".to_owned(), paths.object().display().to_string());
        guest::Suite {
            name: self.target.to_owned(),
            program: suite.program.clone(),
            arguments,
            folder: suite.folder.clone(),
            environment,
            seconds: SECONDS,
        }
    }
}
