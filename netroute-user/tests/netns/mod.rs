//! A network namespace per test. Needs root; says so and skips otherwise.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::process::{Command, Stdio};
use std::time::Duration;

use netroute_user::input::netlink::{Event, Options, Watch};
use netroute_user::kernel::{Change, KernelState};
use nix::sched::{CloneFlags, unshare};

/// Runs the test in a fresh namespace, on a thread of its own with a single-threaded runtime.
/// Programs it starts inherit the namespace.
pub fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("SKIPPED: a network namespace needs root ({error})");
            return;
        }
        ip("link set lo up");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip` with these words; panics with its message if it fails.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `ip -batch` with these lines.
pub fn ip_batch(lines: &str) {
    use std::io::Write;
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("write to ip");
    assert!(child.wait().expect("ip").success(), "ip -batch failed");
}

/// Sets a sysctl of this namespace: `/proc/sys/net` shows the namespace of the thread that opens it.
pub fn sysctl(path: &str, value: &str) {
    let path = format!("/proc/sys/net/{path}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// A namespace of its own for the far end of a cable, gone when dropped.
pub struct Far {
    process: std::process::Child,
}

impl Far {
    /// Moves the device there and gives it these addresses.
    pub fn with(device: &str, addresses: &[&str]) -> Self {
        let mut process = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is installed");
        // `cat` answers once it runs, and then it runs in the new namespace.
        use std::io::{Read, Write};
        process.stdin.as_mut().expect("piped").write_all(b"!").expect("write");
        process.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("read");
        let far = Self { process };
        ip(&format!("link set {device} netns {}", far.process.id()));
        far.ip("link set lo up");
        far.ip(&format!("link set {device} up"));
        for address in addresses {
            far.ip(&format!(
                "addr add {address} dev {device} {}",
                if address.contains(':') { "nodad" } else { "" }
            ));
        }
        far
    }

    /// `ip` in there.
    pub fn ip(&self, words: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.process.id());
        let output = Command::new("nsenter")
            .arg(net)
            .arg("ip")
            .args(words.split_whitespace())
            .output()
            .expect("nsenter");
        assert!(output.status.success(), "far ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Two ends of a cable, `a` and `b`, both up.
pub fn veth(a: &str, b: &str) {
    ip(&format!("link add {a} type veth peer name {b}"));
    ip(&format!("link set {a} up"));
    ip(&format!("link set {b} up"));
}

/// A watch with the state it told so far.
pub struct Observed {
    pub watch: Watch,
    pub state: KernelState,
}

impl Observed {
    pub async fn open(options: Options) -> Self {
        let mut watch = Watch::open(options).await.expect("watch");
        match within(watch.next()).await {
            Some(Event::Synced(state)) => Self { watch, state },
            other => panic!("the first event is not the state: {other:?}"),
        }
    }

    /// The next event, taken into the state.
    pub async fn next(&mut self) -> Event {
        let event = within(self.watch.next()).await.expect("watch goes on");
        match event.clone() {
            Event::Synced(state) => self.state = state,
            Event::Changed(change) => drop(self.state.apply(change)),
        }
        event
    }

    /// Takes events in until the state is as asked.
    pub async fn until(&mut self, asked: impl Fn(&KernelState) -> bool) {
        while !asked(&self.state) {
            self.next().await;
        }
    }

    /// Takes events in until one of them is as asked.
    pub async fn change(&mut self, asked: impl Fn(&Change) -> bool) -> Change {
        loop {
            if let Event::Changed(change) = self.next().await
                && asked(&change)
            {
                return change;
            }
        }
    }

    pub fn index(&self, name: &str) -> u32 {
        self.state.links.values().find(|link| link.name == name).expect("link").index
    }
}

/// Fails instead of waiting for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("nothing happened for 10 s")
}
