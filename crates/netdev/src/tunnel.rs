//! Tunnel ports. A port of a switch has a [`TunnelConfig`]; all ports of one protocol and UDP port share one port
//! of the datapath, which takes outer headers off and puts them on and whose device this is as well.

use crate::device::*;
use crate::vport::Virtual;
use dpif::tunnel::{TunnelConfig, TunnelKind};
use flow::EthAddr;
use packet::Batch;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// What the tunnels of a process share.
pub struct Tunnels {
    /// The range of outer UDP source ports: the least in the low half, the one behind the last in the high half.
    source_ports: AtomicU32,
    /// VXLAN ports, of which those with one UDP port have to agree about the group based policy.
    vxlans: Mutex<Vec<Weak<TunnelPort>>>,
}

/// Outer UDP source ports unless configured (`tnl/egress_port_range`).
const SOURCE_PORTS: (u16, u16) = (32_768, 61_000);

impl Default for Tunnels {
    fn default() -> Self {
        let new = Tunnels { source_ports: AtomicU32::new(0), vxlans: Mutex::default() };
        new.set_source_ports(SOURCE_PORTS.0, SOURCE_PORTS.1);
        new
    }
}

impl Tunnels {
    pub fn source_ports(&self) -> (u16, u16) {
        let both = self.source_ports.load(Ordering::Relaxed);
        (both as u16, (both >> 16) as u16)
    }

    pub fn set_source_ports(&self, min: u16, max: u16) {
        self.source_ports.store(u32::from(max) << 16 | u32::from(min), Ordering::Relaxed);
    }

    pub(crate) fn open(self: &Arc<Self>, kind: TunnelKind, name: &str) -> Arc<TunnelPort> {
        let port = Arc::new(TunnelPort {
            port: Virtual::new(name),
            kind,
            config: Mutex::new(Arc::new(TunnelConfig::new(kind))),
            status: Mutex::default(),
            sequence: AtomicU32::new(0),
            tunnels: Arc::clone(self),
        });
        if kind == TunnelKind::Vxlan {
            let mut vxlans = self.vxlans.lock();
            vxlans.retain(|w| w.strong_count() > 0);
            vxlans.push(Arc::downgrade(&port));
        }
        port
    }

    /// Whether another VXLAN port has the same UDP port and another opinion of the group based policy.
    fn has_opposite(&self, me: &TunnelPort, config: &TunnelConfig) -> bool {
        let others: Vec<Arc<TunnelPort>> = self.vxlans.lock().iter().filter_map(Weak::upgrade).collect();
        others.iter().any(|other| {
            let theirs = other.config();
            let is_configured = theirs.remote.is_flow || !theirs.remote.ip.is_unspecified();
            !std::ptr::eq(&**other, me)
                && is_configured
                && theirs.dst_port == config.dst_port
                && theirs.gbp != config.gbp
        })
    }
}

/// A tunnel port.
pub struct TunnelPort {
    port: Virtual,
    kind: TunnelKind,
    config: Mutex<Arc<TunnelConfig>>,
    status: Mutex<StringMap>,
    /// The next sequence number, for headers that have one.
    sequence: AtomicU32,
    tunnels: Arc<Tunnels>,
}

impl TunnelPort {
    pub fn tunnel_kind(&self) -> TunnelKind {
        self.kind
    }

    pub fn config(&self) -> Arc<TunnelConfig> {
        self.config.lock().clone()
    }

    /// Name of the datapath port that the tunnel uses now.
    pub fn device_name(&self) -> String {
        self.kind.device_name(self.config().dst_port)
    }

    /// Takes the next sequence number.
    pub fn next_sequence(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The range of outer UDP source ports.
    pub fn source_ports(&self) -> (u16, u16) {
        self.tunnels.source_ports()
    }

    /// Says by which device packets of the tunnel leave now, and whether its carrier is up.
    pub fn set_egress(&self, egress: Option<(&str, bool)>) {
        let mut new = StringMap::new();
        if let Some((device, carrier)) = egress {
            new.insert("tunnel_egress_iface".to_owned(), device.to_owned());
            let carrier = if carrier { "up" } else { "down" };
            new.insert("tunnel_egress_iface_carrier".to_owned(), carrier.to_owned());
        }
        let mut status = self.status.lock();
        if *status != new {
            *status = new;
            self.port.changed();
        }
    }

    fn read(&self, options: &StringMap) -> Result<TunnelConfig, String> {
        let (config, lines) =
            TunnelConfig::parse(self.kind, &self.port.name, options).map_err(|e| e.to_string())?;
        if self.kind == TunnelKind::Vxlan && self.tunnels.has_opposite(self, &config) {
            let text = "VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port";
            return Err(format!("{}: {text}", self.port.name));
        }
        if !lines.is_empty() {
            tracing::warn!(target: "netdev_vport", "{}", lines.join("\n"));
        }
        Ok(config)
    }
}

impl Netdev for TunnelPort {
    fn name(&self) -> &str {
        &self.port.name
    }
    fn kind(&self) -> &'static str {
        self.kind.name()
    }
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError> {
        let config = self.read(options).map_err(|text| {
            tracing::warn!(target: "netdev_vport", "{text}");
            self.port.refuse_options();
            NetdevError::Config(text)
        })?;
        let mut current = self.config.lock();
        if **current != config {
            *current = Arc::new(config);
            self.port.changed();
        }
        Ok(())
    }
    fn options(&self) -> StringMap {
        self.config().options()
    }
    fn link(&self) -> LinkState {
        self.port.link()
    }
    fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError> {
        self.port.set_mac(mac);
        Ok(())
    }
    fn set_mtu(&self, _mtu: u32) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        self.port.set_admin_up(up)
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        // The switch counts: a packet never passes through here.
        Ok(DeviceStats { absent: ONLY_PACKETS_AND_BYTES.to_vec(), ..DeviceStats::default() })
    }
    fn status(&self) -> StringMap {
        self.status.lock().clone()
    }
    fn change_seq(&self) -> u64 {
        self.port.change_seq()
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        Ok(Vec::new())
    }
    fn open_tx(&self, _thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Ok(Box::new(Nowhere))
    }
    fn as_tunnel(&self) -> Option<&TunnelPort> {
        Some(self)
    }
}

/// Packets that are output to a tunnel without a header have nowhere to go.
struct Nowhere;

impl TxQueue for Nowhere {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let dropped_error = batch.len() as u32;
        let dropped_bytes = batch.iter().map(|p| p.len() as u64).sum();
        batch.clear();
        TxOutcome { dropped_error, dropped_bytes, ..TxOutcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_bad_configuration_changes_nothing() {
        let all = Arc::new(Tunnels::default());
        let port = all.open(TunnelKind::Geneve, "t");
        port.configure(&options(&[("remote_ip", "1.2.3.4"), ("dst_port", "7000")])).expect("good");
        let seq = port.change_seq();
        let error = port.configure(&options(&[])).expect_err("no remote");
        assert_eq!(error.to_string(), "t: geneve type requires valid 'remote_ip' argument");
        assert_eq!((port.device_name().as_str(), port.change_seq()), ("genev_sys_7000", seq));
        assert_eq!(all.open(TunnelKind::Gre, "g").device_name(), "gre_sys");
    }

    #[test]
    fn vxlan_ports_of_one_number_agree_about_policy() {
        let all = Arc::new(Tunnels::default());
        let (a, b) = (all.open(TunnelKind::Vxlan, "a"), all.open(TunnelKind::Vxlan, "b"));
        a.configure(&options(&[("remote_ip", "1.2.3.4"), ("exts", "gbp")])).expect("good");
        let error = b.configure(&options(&[("remote_ip", "1.2.3.5")])).expect_err("opposite");
        assert!(error.to_string().starts_with("b: VXLAN-GBP, and non-VXLAN-GBP"), "{error}");
        b.configure(&options(&[("remote_ip", "1.2.3.5"), ("dst_port", "4790")])).expect("another port");
        drop(a);
        b.configure(&options(&[("remote_ip", "1.2.3.5")])).expect("a is gone");
    }

    #[test]
    fn source_port_range_is_kept() {
        let all = Tunnels::default();
        assert_eq!(all.source_ports(), (32_768, 61_000));
        all.set_source_ports(1, 65_535);
        assert_eq!(all.source_ports(), (1, 65_535));
    }
}
