//! What the benches of DPDK ports share: a switch with one bridge, wires into it, and somebody who sends.

use ::tests::Sandbox;
use netdev::{DummyLevel, Env, Netdev, RxQueue, TxQueue};
use packet::{BATCH_LEN, Batch, Packet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Debian's daemon with DPDK.
pub const STOCK_DPDK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";

/// The stock daemon under the name by which its files in the run directory are found.
pub fn stock_in(directory: &Path) -> PathBuf {
    let link = directory.join("ovs-vswitchd");
    symlink(STOCK_DPDK, &link).unwrap();
    link
}

/// Frames that wait at the switch's end of a wire.
const RING: u32 = 8192;

/// What [`configure`] asks for: DPDK, a polling thread on core 1, and the bridge `br0`.
pub fn configure(sandbox: &Sandbox, other_config: &[&str], fail_mode: &str) {
    let open = ["set", "Open_vSwitch", ".", "other_config:dpdk-init=true", "other_config:pmd-cpu-mask=2"];
    let fail_mode = format!("fail_mode={fail_mode}");
    let bridge = ["--", "add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev", &fail_mode];
    sandbox.vsctl(&[&["--no-wait"], &open[..], other_config, &bridge[..]].concat());
}

/// The arguments of `ovs-vsctl` that add a `dpdk` port.
pub fn port_args(name: &str, devargs: &str, number: u32) -> Vec<String> {
    let options = format!("options:dpdk-devargs=\"{devargs}\"");
    let number = format!("ofport_request={number}");
    ["add-port", "br0", name, "--", "set", "Interface", name, "type=dpdk", &options, &number]
        .map(str::to_owned)
        .to_vec()
}

/// Adds a `dpdk` port; ends the bench if it has an error.
pub fn add_port(sandbox: &Sandbox, name: &str, devargs: &str, number: u32) {
    let args = port_args(name, devargs, number);
    sandbox.vsctl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let error = sandbox.get("Interface", name, "error");
    assert_eq!(error.trim(), "[]", "{name}");
}

/// Packets that have left by a port, by its number or name.
pub fn sent(sandbox: &Sandbox, bridge: &str, port: &str) -> f64 {
    packets(sandbox, bridge, port, "tx pkts=")
}

/// Packets that have come in by a port.
pub fn received(sandbox: &Sandbox, bridge: &str, port: &str) -> f64 {
    packets(sandbox, bridge, port, "rx pkts=")
}

fn packets(sandbox: &Sandbox, bridge: &str, port: &str, name: &str) -> f64 {
    let text = sandbox.ofctl(&["dump-ports", bridge, port]);
    let at = text.split(name).nth(1).unwrap();
    at.split(',').next().unwrap().trim().parse().unwrap()
}

/// Runs `ip` with these words.
pub fn ip(args: &str) {
    assert!(Command::new("ip").args(args.split(' ')).status().unwrap().success(), "ip {args}");
}

/// A pair of joined devices: `<name>` for the switch, `<name>x` for the bench.
pub struct Wire {
    /// Keeps the devices' sockets.
    _env: Env,
    device: Arc<dyn Netdev>,
    name: String,
}

impl Wire {
    pub fn new(name: &str) -> Self {
        ip(&format!("link add {name} type veth peer name {name}x"));
        for end in [name, &format!("{name}x")] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").unwrap();
            ip(&format!("link set {end} up"));
        }
        let env = Env::new(DummyLevel::Off).unwrap();
        let device = env.open("system", &format!("{name}x")).unwrap();
        Wire { _env: env, device, name: name.to_owned() }
    }

    /// `dpdk-devargs` of the switch's end as device `no`.
    pub fn devargs(&self, no: u32) -> String {
        format!("net_af_packet{no},iface={},framecnt={RING}", self.name)
    }

    pub fn sender(&self) -> Sender {
        Sender { queue: self.device.open_tx(0).unwrap(), sent: 0 }
    }

    /// The receive queues of the bench's end.
    pub fn receivers(&self) -> Vec<Box<dyn RxQueue>> {
        self.device.open_rx().unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &format!("{}x", self.name)]).status();
    }
}

/// Sends frames and counts them.
pub struct Sender {
    queue: Box<dyn TxQueue>,
    /// Frames that the kernel took.
    pub sent: u64,
}

impl Sender {
    /// Sends the frames from `from` up to `to` of an endless sequence.
    pub fn send(&mut self, from: u64, to: u64, frame: impl Fn(u64) -> [u8; 60]) {
        let mut batch = Batch::new();
        for i in from..to {
            batch.push(Packet::from_slice(&frame(i)));
            if batch.len() == BATCH_LEN || i + 1 == to {
                self.sent += u64::from(self.queue.send(&mut batch).sent);
                batch.clear();
            }
        }
    }
}

/// UDP of `flow`, 60 bytes: the number is in the source's address and port.
pub fn udp(flow: u64, destination: [u8; 4]) -> [u8; 60] {
    let mut f = [0; 60];
    f[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    f[14..26].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    let [.., a, b, c, d] = (flow >> 8).to_be_bytes();
    f[26..30].copy_from_slice(&[10 | (a & 1), b, c, d]);
    f[30..34].copy_from_slice(&destination);
    f[34..42].copy_from_slice(&[16, flow as u8, 0, 53, 0, 26, 0, 0]);
    let sum: u32 = f[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    f[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    f
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn flows_differ_in_addresses_or_ports_and_their_headers_are_right() {
        let all: HashSet<Vec<u8>> = (0..100_000).map(|i| udp(i, [10, 1, 0, 1])[26..38].to_vec()).collect();
        assert_eq!(all.len(), 100_000);
        let sum: u32 = udp(77, [1, 2, 3, 4])[14..34]
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
