//! Brings the application into a lab, and takes replicas away as a kubelet does.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{BALANCER, Replica};
use crate::{
    lab::{Lab, Pod, Vm},
    peer::READY,
};

const NODES: &str = include_str!("../../../examples/manifests/nodes.yaml");
const WEB: &str = include_str!("../../../examples/manifests/web.yaml");
const DATABASE: &str = include_str!("../../../examples/manifests/database.yaml");

/// What an EndpointSlice says of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Ready,
    /// Still answers what it got.
    Terminating,
    /// Not in the slice.
    Gone,
}

/// The application in a lab. Dropping it leaves all as it is; replicas end with the lab.
#[derive(Debug)]
pub struct App {
    vms: [Vm; 2],
    pods: BTreeMap<String, Pod>,
    running: BTreeMap<(Replica, String), Child>,
    endpoints: BTreeMap<(Replica, String), Endpoint>,
}

impl App {
    /// Starts all replicas, and gives both agents their manifests; the internal switch gets routes to the
    /// balancer's address, which nobody announces.
    ///
    /// # Errors
    /// When a server does not start.
    pub fn deploy(lab: &Lab) -> Result<Self> {
        let pods = lab.vms().into_iter().flat_map(|vm| {
            let name = vm.name();
            (1..).zip(vm.pods()).map(move |(number, pod)| (format!("{name}-pod{number}"), pod))
        });
        let (running, endpoints) = (BTreeMap::new(), BTreeMap::new());
        let mut app = Self { vms: lab.vms(), pods: pods.collect(), running, endpoints };
        for replica in Replica::ALL {
            for pod in app.replicas() {
                app.start(replica, &pod)?;
            }
        }
        for vm in &app.vms {
            vm.publish("nodes", NODES)?;
        }
        for replica in Replica::ALL {
            app.publish(replica)?;
        }
        let switch = lab.ns("intsw");
        for (address, via) in BALANCER.both().into_iter().zip(lab.vm("master").port("Port2").address.both()) {
            switch.ip(&format!("route replace {address} via {via}"))?;
        }
        Ok(app)
    }

    /// Names of the pods, which are those of the replicas in them.
    pub fn replicas(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// The server of a pod, also one that was ended.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start(&mut self, replica: Replica, pod: &str) -> Result<()> {
        let mut command = self.pod(pod)?.ns.command(crate::lab::server_program()?);
        let command = command.args([replica.word(), pod]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        ensure!(line.trim() == READY, "{} of {pod} did not start", replica.word());
        self.running.insert((replica, pod.to_owned()), child);
        Ok(())
    }

    /// Kills the server of a pod.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill(&mut self, replica: Replica, pod: &str) -> Result<()> {
        let mut child = self.running.remove(&(replica, pod.to_owned())).context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Says of a replica what its EndpointSlices say from now on, and tells both agents.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn set(&mut self, replica: Replica, pod: &str, endpoint: Endpoint) -> Result<()> {
        self.pod(pod)?;
        self.endpoints.insert((replica, pod.to_owned()), endpoint);
        self.publish(replica)
    }

    fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.get(name).with_context(|| format!("there is no pod {name}"))
    }

    fn publish(&self, replica: Replica) -> Result<()> {
        let mut text = match replica {
            Replica::Web => WEB,
            Replica::Database => DATABASE,
        }
        .to_owned();
        for ((of, pod), &endpoint) in &self.endpoints {
            for address in self.pod(pod)?.address.both().iter().filter(|_| *of == replica) {
                text = with(&text, &address.to_string(), endpoint)?;
            }
        }
        self.vms.iter().try_for_each(|vm| vm.publish(replica.word(), &text))
    }
}

/// The manifest with another word on one endpoint, which has a line of its own.
fn with(text: &str, address: &str, endpoint: Endpoint) -> Result<String> {
    let own =
        |line: &&str| line.contains(&format!("[{address}]")) || line.contains(&format!("[\"{address}\"]"));
    ensure!(text.lines().filter(own).count() == 1, "{address} is not on a line of its own:\n{text}");
    let line = |line| match endpoint {
        _ if !own(&line) => Some(line.to_owned()),
        Endpoint::Ready => Some(line.to_owned()),
        Endpoint::Terminating => {
            Some(line.replace("{ready: true}", "{ready: false, serving: true, terminating: true}"))
        }
        Endpoint::Gone => None,
    };
    Ok(text.lines().filter_map(line).map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_changes_and_the_others_stay() {
        for (text, address) in [(WEB, "10.244.1.11"), (DATABASE, "fd00:244:2::10")] {
            assert_eq!(with(text, address, Endpoint::Ready).unwrap(), text);
            let terminating = with(text, address, Endpoint::Terminating).unwrap();
            assert_eq!(terminating.matches("terminating: true").count(), 1, "{terminating}");
            let gone = with(text, address, Endpoint::Gone).unwrap();
            assert_eq!(gone.lines().count() + 1, text.lines().count());
            assert!(!gone.contains(&format!("{address}]")) && !gone.contains(&format!("{address}\"]")));
        }
    }
}
