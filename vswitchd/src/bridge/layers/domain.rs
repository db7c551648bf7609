//! One datapath with its fabric and its threads.

use super::ct_zones::CtPolicies;
use super::openflow::OpenFlow;
use super::polling;
use super::tunnels::SharedPorts;
use crate::config::GlobalConfig;
use crate::status::bridge::Capabilities;
use clock::Clock;
use datapath::Datapath;
use dpif::{Dpif, DpifError, PortNo, Ufid, Upcall, UpcallHandler, UpcallReply};
use netdev::{DummyLevel, Env, Netdev};
use ofproto::fabric::Fabric;
use ofproto::monitor::Monitor;
use ofproto::revalidators::Revalidators;
use ofproto::tunnel::Underlay;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use stream::Tls;
use tracing::{error, info, warn};

/// Megaflows that a new datapath may hold; the revalidator raises it when it finds that it can keep up.
const FLOW_LIMIT_AT_FIRST: u32 = 10_000;
/// Time between two looks of the datapath at itself, milliseconds.
const TUNE_MS: u64 = 1_000;
/// `OVS_HASH_ALG_SYM_L4`: the best hash of the `hash` action.
const SYM_L4: u32 = 1;

/// A datapath, the switches on it, and their threads.
pub struct Domain {
    pub datapath: Arc<Datapath>,
    pub fabric: Arc<Fabric>,
    pub openflow: OpenFlow,
    /// Datapath ports that tunnels share.
    pub(super) shared_ports: SharedPorts,
    /// Threads as configured.
    pub handlers: u32,
    pub revalidators: u32,
    /// VLAN tags that keys hold.
    vlan_headers: usize,
    /// `flow-restore-wait`.
    waiting: bool,
    /// The datapath's own device, `ovs-netdev`: port 0.
    local: Option<Arc<dyn Netdev>>,
    revalidation: Option<Revalidators>,
    /// Keeps the sessions of ports going.
    monitor: Option<Monitor>,
    ct_policies: CtPolicies,
    /// When the datapath is next to be tuned, in milliseconds of the clock.
    tune_due_ms: u64,
}

impl Domain {
    /// Makes the datapath `<kind>@ovs-<kind>` and starts its threads.
    /// Must be called in a tokio runtime.
    pub fn start(
        kind: &str,
        env: &Env,
        clock: &Clock,
        tls: &Arc<Tls>,
        global: &GlobalConfig,
        underlay: &Arc<Underlay>,
    ) -> Self {
        let datapath = Datapath::new(&format!("{kind}@ovs-{kind}"), clock.clone());
        datapath.set_number_by_name(env.dummy_level() != DummyLevel::Off);
        let dpif: Arc<dyn Dpif> = datapath.clone();
        let fabric = Fabric::over(dpif, clock.clone(), underlay.clone());
        let handler: Arc<dyn UpcallHandler> = fabric.clone();
        datapath.set_upcall_handler(handler);
        datapath.set_flow_limit(global.flow_limit.min(FLOW_LIMIT_AT_FIRST) as usize);
        let local = open_local(kind, &format!("ovs-{kind}"), env, &datapath);
        let has_dummies = env.dummy_level() != DummyLevel::Off;
        let openflow = OpenFlow::new(&fabric, tls, has_dummies);
        let monitor = Monitor::start(&fabric, vlog::set_thread_name)
            .inspect_err(|e| error!(target: "ofproto_dpif_monitor", "cannot start monitor: {e}"))
            .ok();
        let mut domain = Domain {
            datapath,
            fabric,
            openflow,
            shared_ports: SharedPorts::new(),
            handlers: 0,
            revalidators: 0,
            vlan_headers: 0,
            waiting: false,
            local,
            revalidation: None,
            monitor,
            ct_policies: CtPolicies::default(),
            tune_due_ms: 0,
        };
        domain.configure(global);
        domain
    }

    /// Takes over settings of the daemon.
    pub fn configure(&mut self, global: &GlobalConfig) {
        let knobs = &self.fabric.knobs;
        knobs.flow_limit.store(global.flow_limit.into(), Relaxed);
        knobs.max_idle_ms.store(global.max_idle_ms.into(), Relaxed);
        if let Some(ms) = global.max_revalidator_ms {
            knobs.max_revalidator_ms.store(ms.into(), Relaxed);
        }
        knobs.min_revalidate_pps.store(global.min_revalidate_pps.into(), Relaxed);
        if self.datapath.flow_limit() > global.flow_limit as usize {
            self.datapath.set_flow_limit(global.flow_limit as usize);
        }
        self.vlan_headers = match global.vlan_limit as usize {
            0 => flow::VLANS_MAX,
            n => n.min(flow::VLANS_MAX),
        };
        self.datapath.set_vlan_limit(self.vlan_headers as u8);
        self.hold(global.flow_restore_wait);
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let (handlers, revalidators) = global.threads(cpus);
        if (handlers, revalidators) != (self.handlers, self.revalidators) {
            (self.handlers, self.revalidators) = (handlers, revalidators);
            info!(
                target: "ofproto_dpif_upcall",
                "Setting n-handler-threads to {handlers}, setting n-revalidator-threads to {revalidators}"
            );
            self.datapath.set_handlers(handlers as usize);
            // The old ones must be gone before the new ones come.
            self.revalidation = None;
            let started = Revalidators::start(&self.fabric, revalidators as usize, vlog::set_thread_name);
            self.revalidation = started
                .inspect_err(|e| error!(target: "ofproto_dpif_upcall", "cannot start revalidators: {e}"))
                .ok();
        }
        polling::configure(&self.datapath, &global.other_config);
        let name = self.datapath.name();
        let kind = name.split('@').next().unwrap_or_default();
        let zones = global.ct_zones.get(kind).cloned().unwrap_or_default();
        self.ct_policies.apply(&zones, &self.datapath, &self.fabric);
        self.fabric.changed();
    }
}

impl Domain {
    /// What the datapath can do.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_vlan_headers: self.vlan_headers,
            max_mpls_depth: flow::MPLS_LABELS_MAX,
            max_hash_alg: SYM_L4,
            recirc: true,
            conntrack: true,
            nd_ext: true,
            masked_set_action: true,
            tnl_push_pop: true,
            ufid: true,
            trunc: true,
            clone: true,
            sample_nesting: true,
            check_pkt_len: true,
            explicit_drop_action: true,
            lb_output_action: false,
            add_mpls: true,
        }
    }

    /// Does what is due about once a second; returns when it is due again.
    pub fn tune(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.tune_due_ms {
            self.tune_due_ms = now_ms + TUNE_MS;
            self.datapath.tune();
        }
        self.tune_due_ms
    }

    /// While flows are restored, nothing is forwarded by translation.
    fn hold(&mut self, waiting: bool) {
        if self.waiting != waiting {
            self.waiting = waiting;
            let handler: Arc<dyn UpcallHandler> =
                if waiting { Arc::new(Nobody) } else { self.fabric.clone() };
            self.datapath.set_upcall_handler(handler);
        }
    }
}

/// The device through which the host could use the datapath itself. Nothing depends on it.
pub(super) fn open_local(kind: &str, name: &str, env: &Env, datapath: &Datapath) -> Option<Arc<dyn Netdev>> {
    let device_kind = if kind == "dummy" { "dummy-internal" } else { "internal" };
    let opened = env.open(device_kind, name).map_err(|e| e.to_string()).and_then(|device| {
        datapath.port_add(device.clone(), Some(PortNo::LOCAL)).map_err(|e| e.to_string())?;
        Ok(device)
    });
    opened.inspect_err(|e| warn!(target: "dpif_netdev", "{name}: no local port: {e}")).ok()
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.revalidation = None;
        self.monitor = None;
        if self.local.take().is_some() {
            let _ = self.datapath.port_del(PortNo::LOCAL);
        }
        // The fabric holds the datapath; now the datapath lets go of the fabric.
        self.datapath.set_upcall_handler(Arc::new(Nobody));
    }
}

/// Answers for a datapath that is going away: nothing is forwarded.
struct Nobody;

impl UpcallHandler for Nobody {
    fn upcall(&self, _: Upcall<'_>) -> UpcallReply {
        UpcallReply::default()
    }
    fn installed(&self, _: Ufid, _: Option<u32>, _: Result<(), DpifError>) {}
}
