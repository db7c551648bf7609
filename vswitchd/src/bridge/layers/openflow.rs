//! A datapath's OpenFlow connections: their events, their settings, and what they may do with devices.

use super::{Domain, Layers};
use crate::config::{self, Band, ControllerKind, RemotesConfig};
use flow::EthAddr;
use netdev::Netdev;
use netdev::next_hop::next_hop_mac;
use netdev::qos::QueueReport;
use netdev::sys::strerror;
use ofproto::conn::agent::{ControllerConfig, ControllerStatus, Description, FailMode};
use ofproto::conn::in_band::InBandConfig;
use ofproto::conn::manager::{Env, Ofproto, PortControl, Queue};
use ofproto::conn::remote::RemoteConfig;
use ofproto::conn::session::{ConnKind, ConnSettings};
use ofproto::conn::{ConnEvent, EVENT_QUEUE_LEN};
use ofproto::fabric::Fabric;
use ofproto::ids::{OfPort, SwitchId};
use openflow::msg::port_stats::{CustomCounter, PortCounters, PortStats, UNKNOWN};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use stream::{Target, Tls};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Connection events handled in one go, before others get their turn.
const EVENTS_AT_ONCE: usize = 32;

/// The devices of ports, for whoever knows only the port.
#[derive(Default)]
pub struct Devices {
    of_port: Mutex<HashMap<(SwitchId, OfPort), Arc<dyn Netdev>>>,
    /// A device was changed from here.
    touched: AtomicBool,
}

impl Devices {
    pub(super) fn insert(&self, switch: SwitchId, port: OfPort, device: Arc<dyn Netdev>) {
        self.of_port.lock().insert((switch, port), device);
    }

    pub(super) fn remove(&self, switch: SwitchId, port: OfPort) {
        self.of_port.lock().remove(&(switch, port));
    }
}

impl PortControl for Devices {
    fn set_admin(&self, switch: SwitchId, port: OfPort, up: bool) -> bool {
        let device = self.of_port.lock().get(&(switch, port)).cloned();
        self.touched.store(true, Relaxed);
        device.is_some_and(|device| device.set_admin_up(up).is_ok())
    }

    fn refine_stats(&self, switch: SwitchId, port: OfPort, stats: &mut PortStats) {
        let device = self.of_port.lock().get(&(switch, port)).cloned();
        let device = device.filter(|d| d.as_patch().is_none() && d.as_tunnel().is_none());
        if let Some(of_device) = device.and_then(|d| d.stats().ok()) {
            stats.counters = counters(&of_device);
            let custom = |(name, value): (String, u64)| CustomCounter { name: name.into_bytes(), value };
            stats.custom = of_device.custom.into_iter().map(custom).collect();
        }
    }

    fn next_hop(&self, switch: SwitchId, ip: Ipv4Addr) -> Result<Option<EthAddr>, String> {
        let local = self.of_port.lock().get(&(switch, OfPort::LOCAL)).cloned();
        if local.is_none_or(|device| device.as_dummy().is_some()) {
            // No device of the kernel, so no route of the kernel leads there.
            return Ok(None);
        }
        next_hop_mac(ip).map_err(|e| strerror(&e))
    }

    fn queues(&self, switch: SwitchId, port: OfPort) -> Vec<Queue> {
        let device = self.of_port.lock().get(&(switch, port)).cloned();
        let Some(device) = device else { return Vec::new() };
        if device.as_dummy().is_some() {
            // One queue, about which nothing is known.
            return vec![Queue::default()];
        }
        device.qos().map(|report| report.queues.iter().map(queue).collect()).unwrap_or_default()
    }
}

fn queue(report: &QueueReport) -> Queue {
    Queue {
        id: report.id,
        tx_packets: Some(report.tx_packets),
        tx_bytes: Some(report.tx_bytes),
        tx_errors: Some(report.tx_errors),
        ..Queue::default()
    }
}

/// A device's counters; one that it does not keep is unknown.
fn counters(device: &netdev::DeviceStats) -> PortCounters {
    let of = |name: &str| device.counter(name).unwrap_or(UNKNOWN);
    PortCounters {
        rx_packets: of("rx_packets"),
        tx_packets: of("tx_packets"),
        rx_bytes: of("rx_bytes"),
        tx_bytes: of("tx_bytes"),
        rx_dropped: of("rx_dropped"),
        tx_dropped: of("tx_dropped"),
        rx_errors: of("rx_errors"),
        tx_errors: of("tx_errors"),
        rx_frame_errors: of("rx_frame_err"),
        rx_over_errors: of("rx_over_err"),
        rx_crc_errors: of("rx_crc_err"),
        collisions: of("collisions"),
    }
}

/// Which datapath has something to do.
#[derive(Debug)]
pub struct DomainWake {
    kind: String,
    event: Option<ConnEvent>,
}

/// What may look different after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    pub devices: bool,
    /// A connection came or went.
    pub controllers: bool,
}

/// The OpenFlow side of a domain.
pub struct OpenFlow {
    pub ofproto: Ofproto,
    pub devices: Arc<Devices>,
    events: mpsc::Receiver<ConnEvent>,
    /// A message when the fabric has something for controllers.
    news: mpsc::Receiver<()>,
    listener: JoinHandle<()>,
}

impl OpenFlow {
    /// Must be called in a tokio runtime.
    pub(super) fn new(fabric: &Arc<Fabric>, tls: &Arc<Tls>, debug_actions: bool) -> Self {
        let (sender, events) = mpsc::channel(EVENT_QUEUE_LEN);
        let devices = Arc::new(Devices::default());
        let ports: Arc<dyn PortControl> = devices.clone();
        let env = Env { fabric: fabric.clone(), events: sender, tls: tls.clone(), ports, debug_actions };
        let (poke, news) = mpsc::channel(1);
        let waiting = fabric.clone();
        let listener = tokio::spawn(async move {
            loop {
                waiting.async_queue.wait().await;
                if poke.send(()).await.is_err() {
                    return;
                }
            }
        });
        OpenFlow { ofproto: Ofproto::new(env), devices, events, news, listener }
    }
}

impl Drop for OpenFlow {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Domain {
    fn handle(&mut self, event: Option<ConnEvent>) {
        let mut next = event;
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = next.take() else { break };
            self.openflow.ofproto.handle_event(event);
            self.tell_controllers();
            next = self.openflow.events.try_recv().ok();
        }
        if let Some(event) = next {
            self.openflow.ofproto.handle_event(event);
        }
        self.tell_controllers();
    }

    /// Empties the queue of news; packets that messages sent may have filled it.
    fn tell_controllers(&mut self) {
        for event in self.fabric.async_queue.take() {
            self.openflow.ofproto.handle_async(event);
        }
    }
}

impl Layers {
    /// Waits for a connection's event, or for something to tell controllers. Cancel safe.
    pub async fn next(&mut self) -> DomainWake {
        poll_fn(|cx| {
            for (kind, domain) in &mut self.domains {
                let openflow = &mut domain.openflow;
                if let Poll::Ready(event @ Some(_)) = openflow.events.poll_recv(cx) {
                    return Poll::Ready(DomainWake { kind: kind.clone(), event });
                }
                if let Poll::Ready(Some(())) = openflow.news.poll_recv(cx) {
                    return Poll::Ready(DomainWake { kind: kind.clone(), event: None });
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Does what [`Layers::next`] brought.
    pub fn handle(&mut self, wake: DomainWake) -> Changed {
        let Some(domain) = self.domains.get_mut(&wake.kind) else { return Changed::default() };
        let controllers = matches!(wake.event, Some(ConnEvent::Up(_) | ConnEvent::Down { .. }));
        domain.handle(wake.event);
        Changed { devices: domain.openflow.devices.touched.swap(false, Relaxed), controllers }
    }

    /// Does what time asks for; returns when to come again, in milliseconds of the clock.
    pub fn run(&mut self) -> Option<u64> {
        let now_ms = self.clock.now_ms();
        let due = |domain: &mut Domain| {
            let tune_ms = domain.tune(now_ms);
            domain.openflow.ofproto.run().map_or(tune_ms, |due_ms| due_ms.min(tune_ms))
        };
        self.domains.values_mut().map(due).min()
    }

    /// The OpenFlow side of a bridge.
    pub(super) fn openflow(&mut self, bridge: &str) -> Option<(&mut OpenFlow, SwitchId)> {
        let b = self.bridges.get(bridge)?;
        Some((&mut self.domains.get_mut(&b.datapath_type)?.openflow, b.switch))
    }

    pub(super) fn configure_remotes(&mut self, bridge: &str, remotes: &RemotesConfig) {
        let Some((openflow, switch)) = self.openflow(bridge) else { return };
        let ofproto = &mut openflow.ofproto;
        ofproto.set_protocols(switch, remotes.versions);
        ofproto.set_controllers(switch, remotes.controllers.iter().map(controller).collect());
        let in_band =
            InBandConfig { managers: remotes.in_band_managers.clone(), queue: remotes.in_band_queue };
        ofproto.set_in_band(switch, in_band);
        ofproto.set_fail_mode(
            switch,
            match remotes.fail_mode {
                config::FailMode::Standalone => FailMode::Standalone,
                config::FailMode::Secure => FailMode::Secure,
            },
        );
        let (mgmt, snoop) = (Target::Punix(remotes.mgmt.clone()), Target::Punix(remotes.snoop.clone()));
        ofproto.set_paths(switch, mgmt, snoop, remotes.queue_size as usize);
    }

    pub(super) fn describe(&mut self, bridge: &str, datapath: Option<&str>, serial: Option<&str>) {
        if let Some((openflow, switch)) = self.openflow(bridge) {
            let description =
                Description { datapath: datapath.map(str::to_owned), serial: serial.map(str::to_owned) };
            openflow.ofproto.set_description(switch, description);
        }
    }

    /// Controllers that a bridge connects to, by target.
    pub fn controllers(&self, bridge: &str) -> BTreeMap<String, ControllerStatus> {
        let home = self.home(bridge);
        home.map(|(b, domain)| domain.openflow.ofproto.controller_status(b.switch)).unwrap_or_default()
    }

    /// `bridge/reconnect`: drops the connections of one bridge, or of all. False if there is no such bridge.
    pub fn reconnect(&mut self, bridge: Option<&str>) -> bool {
        let Some(bridge) = bridge else {
            self.domains.values_mut().for_each(|domain| domain.openflow.ofproto.reconnect(None));
            return true;
        };
        let found = self.openflow(bridge);
        found.map(|(openflow, switch)| openflow.ofproto.reconnect(Some(switch))).is_some()
    }
}

/// A controller in the terms of `ofproto`.
fn controller(config: &config::ControllerConfig) -> ControllerConfig {
    let ms = |s: u64| u32::try_from(s.saturating_mul(1000)).unwrap_or(u32::MAX);
    ControllerConfig {
        in_band: config.band == Band::InBand,
        remote: RemoteConfig {
            target: config.target.clone(),
            max_backoff_ms: ms(config.max_backoff_s),
            probe_interval_ms: ms(config.probe_interval_s),
            dscp: Some(config.dscp),
        },
        settings: ConnSettings {
            kind: match config.kind {
                ControllerKind::Primary => ConnKind::Primary,
                ControllerKind::Service => ConnKind::Service,
            },
            enable_async: config.enable_async,
            rate_limit: config.rate_limit,
            burst_limit: config.burst_limit,
            queue_size: config.queue_size as usize,
        },
    }
}
