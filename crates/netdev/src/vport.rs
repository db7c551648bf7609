//! Ports without a device of their own ([`Virtual`]). `patch`: a wire to a port of another bridge.

use crate::device::*;
use flow::EthAddr;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What ports without a device of their own have all the same: a name, a made-up address, a count of changes.
pub(crate) struct Virtual {
    pub name: String,
    mac: Mutex<EthAddr>,
    seq: AtomicU64,
}

impl Virtual {
    pub fn new(name: &str) -> Self {
        Virtual { name: name.to_owned(), mac: Mutex::new(random_mac()), seq: AtomicU64::new(1) }
    }

    /// Something that [`Netdev::link`] or [`Netdev::status`] tells has changed.
    pub fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Release);
    }

    pub fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    pub fn set_mac(&self, mac: EthAddr) {
        *self.mac.lock() = mac;
        self.changed();
    }

    /// Always up.
    pub fn link(&self) -> LinkState {
        LinkState { admin_up: true, carrier: true, mac: *self.mac.lock(), ..LinkState::default() }
    }

    /// Taking such a port down is not possible.
    pub fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        if up { Ok(()) } else { Err(NetdevError::Unsupported) }
    }

    /// Says in the log that the options were no good.
    pub fn refuse_options(&self) {
        let (name, why) = (&self.name, crate::sys::errno_text(libc::EINVAL));
        tracing::warn!(target: "netdev", "{name}: could not set configuration ({why})");
    }
}

/// A patch port. Packets never pass through it: the switch goes on at the peer and counts here.
pub struct Patch {
    port: Virtual,
    peer: Mutex<Option<String>>,
    counters: [AtomicU64; 4],
}

impl Patch {
    pub(crate) fn new(name: &str) -> Self {
        Patch { port: Virtual::new(name), peer: Mutex::new(None), counters: Default::default() }
    }

    /// The name of the port at the other end.
    pub fn peer(&self) -> Option<String> {
        self.peer.lock().clone()
    }

    pub fn count_rx(&self, packets: u64, bytes: u64) {
        self.counters[0].fetch_add(packets, Ordering::Relaxed);
        self.counters[1].fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn count_tx(&self, packets: u64, bytes: u64) {
        self.counters[2].fetch_add(packets, Ordering::Relaxed);
        self.counters[3].fetch_add(bytes, Ordering::Relaxed);
    }

    fn peer_of(&self, options: &StringMap) -> Result<String, NetdevError> {
        let name = &self.port.name;
        let error = |text: String| Err(NetdevError::Config(text));
        let Some(peer) = options.get("peer") else {
            return error(format!("{name}: patch type requires valid 'peer' argument"));
        };
        if options.len() > 1 {
            return error(format!("{name}: patch type takes only a 'peer' argument"));
        }
        if peer == name {
            return error(format!("{name}: patch peer must not be self"));
        }
        Ok(peer.clone())
    }
}

/// A random unicast address, marked as locally administered.
pub(crate) fn random_mac() -> EthAddr {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let mut mac = EthAddr::from_u64(random);
    mac.0[0] = mac.0[0] & !1 | 2;
    mac
}

impl Netdev for Patch {
    fn name(&self) -> &str {
        &self.port.name
    }
    fn kind(&self) -> &'static str {
        "patch"
    }
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError> {
        let peer = self.peer_of(options).inspect_err(|error| {
            tracing::error!(target: "netdev_vport", "{error}");
            self.port.refuse_options();
        })?;
        let former = self.peer.lock().replace(peer.clone());
        if former.as_ref() != Some(&peer) {
            self.port.changed();
        }
        Ok(())
    }
    fn options(&self) -> StringMap {
        self.peer().map(|p| ("peer".to_owned(), p)).into_iter().collect()
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
        let [rx_packets, rx_bytes, tx_packets, tx_bytes] =
            std::array::from_fn(|i| self.counters[i].load(Ordering::Relaxed));
        Ok(DeviceStats {
            common: dpif::PortStats {
                rx_packets,
                rx_bytes,
                tx_packets,
                tx_bytes,
                ..dpif::PortStats::default()
            },
            absent: ONLY_PACKETS_AND_BYTES.to_vec(),
            ..DeviceStats::default()
        })
    }
    fn change_seq(&self) -> u64 {
        self.port.change_seq()
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        Ok(Vec::new())
    }
    fn open_tx(&self, _thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Err(NetdevError::Unsupported)
    }
    fn as_patch(&self) -> Option<&Patch> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn peer_is_checked_and_a_bad_one_changes_nothing() {
        let p = Patch::new("a");
        p.configure(&options(&[("peer", "b")])).expect("good");
        let seq = p.change_seq();
        for (given, text) in [
            (&[][..], "a: patch type requires valid 'peer' argument"),
            (&[("peer", "b"), ("x", "y")][..], "a: patch type takes only a 'peer' argument"),
            (&[("peer", "a")][..], "a: patch peer must not be self"),
        ] {
            let error = p.configure(&options(given)).expect_err(text);
            assert_eq!(error.to_string(), text);
        }
        assert_eq!((p.peer().as_deref(), p.change_seq()), (Some("b"), seq));
    }

    #[test]
    fn only_packets_and_bytes_are_counted() {
        let p = Patch::new("a");
        p.count_rx(2, 120);
        p.count_tx(1, 60);
        let s = p.stats().expect("stats").statistics();
        let s: Vec<_> = s.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(s, [("rx_bytes", 120), ("rx_packets", 2), ("tx_bytes", 60), ("tx_packets", 1)]);
    }
}
