//! Neutron's Open vSwitch agent 21, unmodified, with its native OpenFlow driver and the `openvswitch` firewall.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use serde_json::json;
use std::process::Stdio;
use tests::net::{ping_line, unanswered};
use tests::neutron::Neutron;

/// Machines of one network on one hypervisor or two, in a group that lets in pings from everybody and the web from
/// `vm2` only.
fn cloud(hypervisors: usize, network: &str) -> Option<Neutron> {
    let mut neutron = Neutron::new(hypervisors)?;
    neutron.rule(json!({ "id": "out", "group": "web", "direction": "egress" }));
    neutron.rule(json!({ "id": "ping", "group": "web", "direction": "ingress", "protocol": "icmp" }));
    neutron.rule(json!({
        "id": "http", "group": "web", "direction": "ingress", "protocol": "tcp", "port_min": 80, "port_max": 80,
        "remote_ip": "10.0.0.2/32",
    }));
    for no in 1..=3 {
        let hypervisor = if no == 3 { hypervisors } else { 1 };
        neutron.machine(hypervisor, &format!("vm{no}"), &format!("10.0.0.{no}"), network, &["web"]);
    }
    (1..=hypervisors).for_each(|no| neutron.start_agent(no));
    (1..=hypervisors).for_each(|no| neutron.until_up(no));
    Some(neutron)
}

fn is_guarded(neutron: &mut Neutron) {
    for vm in ["vm1", "vm3"] {
        neutron.say(vm, 80);
        neutron.say(vm, 81);
    }
    for to in ["10.0.0.2", "10.0.0.3"] {
        neutron.ping("vm1", to);
    }
    neutron.ping("vm3", "10.0.0.1");
    assert_eq!(neutron.hears("vm2", "10.0.0.1", 80).as_deref(), Some("vm1 10.0.0.2"));
    assert_eq!(neutron.hears("vm2", "10.0.0.3", 80).as_deref(), Some("vm3 10.0.0.2"));
    assert_eq!(neutron.hears("vm2", "10.0.0.1", 81), None, "no rule allows this port");
    assert_eq!(neutron.hears("vm3", "10.0.0.1", 80), None, "no rule allows this machine");
    // A machine may not speak under another's address.
    neutron.ip("vm2", "addr add 10.0.0.77/24 dev eth0");
    let spoofed = neutron.output("vm2", "ping -n -c 2 -i 0.2 -W 1 -I 10.0.0.77 10.0.0.1");
    assert!(!spoofed.status.success(), "an address that is not the port's");
}

#[test]
fn machines_of_a_vlan_are_guarded() {
    let Some(mut neutron) = cloud(1, "vlan-100") else { return };
    is_guarded(&mut neutron);
}

#[test]
fn machines_of_a_tunnelled_network_are_guarded() {
    let Some(mut neutron) = cloud(2, "vxlan-42") else { return };
    is_guarded(&mut neutron);
}

/// The agent comes back to a switch full of flows: nobody loses a packet.
#[test]
fn the_agent_restarts_without_loss() {
    let Some(mut neutron) = cloud(1, "vlan-100") else { return };
    neutron.ping("vm1", "10.0.0.2");
    let line = format!("{} 10.0.0.2", ping_line(600, "0.05"));
    let ping = neutron.prepared("vm1", &line).stdout(Stdio::piped()).spawn().unwrap();
    neutron.stop_agent(1);
    neutron.start_agent(1);
    neutron.until_up(1);
    let said = ping.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(unanswered(&said, 600), None, "{said}\n{}", neutron.agent_log(1));
}
