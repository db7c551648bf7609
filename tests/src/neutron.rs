//! Neutron's Open vSwitch agent, as Debian ships it, on each hypervisor of a [`Cloud`], with a stand-in for the server
//! (`tests/neutron/agent.py`).

use crate::PATIENCE;
use crate::cloud::Cloud;
use serde_json::{Value, json};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/neutron/agent.py");

/// Agents and their hypervisors.
pub struct Neutron {
    cloud: Cloud,
    agents: Vec<Option<Child>>,
    ports: Vec<(usize, Value)>,
    rules: Vec<Value>,
}

impl Deref for Neutron {
    type Target = Cloud;
    fn deref(&self) -> &Cloud {
        &self.cloud
    }
}

impl DerefMut for Neutron {
    fn deref_mut(&mut self) -> &mut Cloud {
        &mut self.cloud
    }
}

impl Neutron {
    /// Hypervisors without agents; `None`, with the reason on standard error, where the agent is not installed.
    pub fn new(hypervisors: usize) -> Option<Self> {
        if !Path::new("/usr/bin/neutron-openvswitch-agent").exists() {
            eprintln!("skipped: Neutron's Open vSwitch agent is not installed");
            return None;
        }
        let cloud = Cloud::new(hypervisors)?;
        let agents = (0..hypervisors).map(|_| None).collect();
        Some(Neutron { cloud, agents, ports: Vec::new(), rules: Vec::new() })
    }

    /// A security group rule, as a JSON object that `agent.py` understands.
    pub fn rule(&mut self, rule: Value) {
        self.rules.push(rule);
    }

    /// A machine with this address on a network of the type and segment, in these security groups. Its port is told
    /// to agents that start afterwards.
    pub fn machine(&mut self, hypervisor: usize, name: &str, address: &str, network: &str, groups: &[&str]) {
        let no = self.ports.len() + 1;
        let mac = format!("fa:16:3e:00:00:{no:02x}");
        self.plug(hypervisor, name, &mac);
        self.ip(name, &format!("addr add {address}/24 dev eth0"));
        let (kind, segment) = network.split_once('-').unwrap();
        let port = json!({
            "id": id(no), "mac": mac, "ip": address, "network": network, "type": kind,
            "physical": if kind == "vlan" { json!("phys") } else { Value::Null },
            "segment": segment.parse::<u32>().unwrap(), "groups": groups, "name": name,
        });
        self.ports.push((hypervisor, port));
    }

    /// Starts a hypervisor's agent, and plugs its machines in once br-int is there.
    pub fn start_agent(&mut self, no: usize) {
        let tunnels: Vec<String> =
            (1..=self.agents.len()).map(|peer| format!("192.168.100.{peer}")).collect();
        let mine: Vec<&Value> = self.ports.iter().filter(|(h, _)| *h == no).map(|(_, p)| p).collect();
        let world =
            json!({ "host": format!("hv{no}"), "tunnels": tunnels, "ports": mine, "rules": self.rules });
        let directory = self.sandbox(no).directory().to_owned();
        std::fs::write(directory.join("world.json"), world.to_string()).unwrap();
        std::fs::write(directory.join("agent.ini"), settings(no, &directory)).unwrap();
        let log = std::fs::File::create(directory.join("agent.log")).unwrap();
        // It runs ovs-ofctl, which has to find this host's daemon.
        let mut agent = self.sandbox(no).command("ip");
        agent.args(["netns", "exec", &self.namespace(&format!("hv{no}"))]);
        agent.args(["/usr/bin/python3", AGENT, "world.json", "--config-file", "agent.ini"]);
        agent.stdout(log.try_clone().unwrap()).stderr(log);
        self.agents[no - 1] = Some(agent.spawn().unwrap());
        let sandbox = self.sandbox(no);
        let end = Instant::now() + 3 * PATIENCE;
        while !sandbox.vsctl(&["list-br"]).lines().any(|b| b == "br-int") {
            assert!(Instant::now() < end, "the agent does not make br-int:\n{}", self.agent_log(no));
            std::thread::sleep(Duration::from_millis(100));
        }
        for port in &mine {
            let [name, id, mac] = ["name", "id", "mac"].map(|key| port[key].as_str().unwrap());
            let ids = format!("external_ids:iface-id={id} external_ids:attached-mac={mac}");
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let add = ["--may-exist", "add-port", "br-int", name, "--", "set", "interface", name];
            sandbox.vsctl(&[&add[..], &ids[..]].concat());
        }
    }

    /// Waits until a hypervisor's agent has told its server that all machines there are up.
    pub fn until_up(&self, no: usize) {
        let log = self.sandbox(no).path("world.json.log");
        let wanted = self.ports.iter().filter(|(h, _)| *h == no).map(|(_, p)| p["id"].as_str().unwrap());
        let wanted: Vec<String> = wanted.map(|id| format!("up {id}")).collect();
        let end = Instant::now() + 3 * PATIENCE;
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if wanted.iter().all(|line| said.lines().any(|l| l == line)) {
                return;
            }
            assert!(Instant::now() < end, "{}", self.agent_log(no));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends a hypervisor's agent; what it said so far about devices is forgotten.
    pub fn stop_agent(&mut self, no: usize) {
        if let Some(mut agent) = self.agents[no - 1].take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = std::fs::remove_file(self.sandbox(no).path("world.json.log"));
    }

    /// The agent's own words.
    pub fn agent_log(&self, no: usize) -> String {
        std::fs::read_to_string(self.sandbox(no).path("agent.log")).unwrap_or_default()
    }
}

/// The identifier of the port with this number.
fn id(no: usize) -> String {
    format!("11111111-1111-1111-1111-{no:012}")
}

fn settings(no: usize, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[DEFAULT]\ntransport_url = fake://\nhost = hv{no}\nstate_path = {directory}/state\n\
         [agent]\nroot_helper =\ntunnel_types = vxlan\npolling_interval = 1\n\
         [ovs]\novsdb_connection = unix:{directory}/db.sock\ndatapath_type = netdev\nbridge_mappings = phys:br-ex\n\
         local_ip = 192.168.100.{no}\n\
         [securitygroup]\nfirewall_driver = openvswitch\n\
         [oslo_concurrency]\nlock_path = {directory}/lock\n[privsep]\nhelper_command = privsep-helper\n"
    )
}

impl Drop for Neutron {
    fn drop(&mut self) {
        (1..=self.agents.len()).for_each(|no| self.stop_agent(no));
    }
}
