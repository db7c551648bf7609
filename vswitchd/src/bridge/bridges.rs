//! The part of the daemon between the database and the switch: what the main loop calls.
//!
//! ```text
//!  session events --\                             /--> layers (devices, datapaths, switches)
//!  link changes -----+--> Bridges: read, plan, do
//!  timers ----------/                             \--> status batches --> session
//! ```
//!
//! Without the lock of the database, nothing exists and nothing is written.

use super::layers::{DomainWake, Layers};
use super::reconcile::Reconciler;
use crate::config::{self, Desired, Surroundings};
use crate::dpdk::Dpdk;
use crate::status;
use crate::vhost::Vhost;
use clock::Clock;
use netdev::DummyLevel;
use netdev::link::{LinkEvent, LinkEventKind};
use ovsdb_shim::{Event, LockState, SessionHandle, Snapshot, StatusBatch};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use stream::{Tls, TlsConfig};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::error;

/// What there is to do for [`Bridges::handle`].
#[derive(Debug)]
pub enum Wake {
    Session(Event),
    Links,
    /// Routes or addresses of the host changed.
    Routes,
    System(BTreeMap<String, String>),
    OpenFlow(DomainWake),
}

/// How far the first configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Nothing was configured yet.
    Waiting,
    /// Configured; the database knows it with this status batch.
    Writing(u64),
    Done,
}

/// All bridges, as the database wants them.
pub struct Bridges {
    around: Surroundings,
    clock: Clock,
    /// For the database and for OpenFlow.
    tls: Tls,
    /// What the command line said of it.
    tls_default: TlsConfig,
    session: SessionHandle,
    events: mpsc::Receiver<Event>,
    lock: LockState,
    snapshot: Option<Snapshot>,
    desired: Desired,
    reconciler: Reconciler,
    layers: Layers,
    dpdk: Dpdk,
    vhost: Vhost,
    links: AsyncFd<OwnedFd>,
    routes: Option<AsyncFd<OwnedFd>>,
    start: Start,
    stats_due_ms: u64,
    system: Option<JoinHandle<BTreeMap<String, String>>>,
}

impl Bridges {
    /// `session` and `events` come from [`ovsdb_shim::start`]. Must be called in a tokio runtime.
    pub fn new(
        around: Surroundings,
        layers: Layers,
        session: SessionHandle,
        events: mpsc::Receiver<Event>,
        tls: Tls,
        clock: Clock,
    ) -> io::Result<Self> {
        let fd = layers.env().link_monitor().fd().try_clone_to_owned()?;
        #[allow(deprecated)]
        // its successor is unsafe, for types that may change their descriptor; OwnedFd cannot
        let links = AsyncFd::new(fd)?;
        #[allow(deprecated)] // as above
        let routes = layers.route_fd().map(AsyncFd::new).transpose()?;
        Ok(Bridges {
            around,
            clock,
            tls_default: tls.get(),
            tls,
            session,
            events,
            lock: LockState::Unknown,
            snapshot: None,
            desired: Desired::default(),
            reconciler: Reconciler::default(),
            layers,
            dpdk: Dpdk::default(),
            vhost: Vhost::default(),
            links,
            routes,
            start: Start::Waiting,
            stats_due_ms: 0,
            system: None,
        })
    }

    /// DPDK, if it is in this build.
    pub fn dpdk(&self) -> &Dpdk {
        &self.dpdk
    }

    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    pub fn layers_mut(&mut self) -> &mut Layers {
        &mut self.layers
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// What `memory/show` counts here and below.
    pub fn memory_usage(&self, usage: &mut BTreeMap<String, u64>) {
        self.layers.memory_usage(usage);
        // Cells of the database that are held: rows times columns.
        let rows = self.snapshot.iter().flat_map(|s| s.tables()).flat_map(|(_, table)| table.values());
        let cells: usize = rows.map(|row| row.columns().count()).sum();
        usage.insert("idl-cells-Open_vSwitch".to_owned(), cells as u64);
    }

    /// Drops the OpenFlow connections of one bridge, or of all; false if there is no such bridge.
    pub fn reconnect(&mut self, bridge: Option<&str>) -> bool {
        self.layers.reconnect(bridge)
    }

    /// Whether the first configuration is in force and the database knows it.
    pub fn is_ready(&self) -> bool {
        self.start == Start::Done
    }

    /// Waits for something to do. Cancel safe.
    pub async fn next(&mut self) -> Wake {
        tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => Wake::Session(event),
                // The session ends with the daemon only.
                None => pending().await,
            },
            ready = self.links.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                Wake::Links
            }
            () = readable(self.routes.as_ref()) => Wake::Routes,
            wake = self.layers.next() => Wake::OpenFlow(wake),
            stats = finished(&mut self.system) => Wake::System(stats),
        }
    }

    /// Does what [`Bridges::next`] brought.
    pub fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Session(event) => self.session_event(event),
            Wake::Links => self.links_changed(),
            Wake::Routes => {
                self.layers.refresh_underlay();
                self.refresh();
            }
            Wake::OpenFlow(wake) => {
                let changed = self.layers.handle(wake);
                if changed.devices {
                    self.refresh();
                }
                if changed.controllers {
                    let mut batch = StatusBatch::new();
                    self.report_controllers(&mut batch);
                    self.submit(batch);
                }
            }
            Wake::System(stats) => {
                self.system = None;
                if let Some(root) = self.desired.root.filter(|_| self.desired.global.system_stats) {
                    self.write(|batch| status::daemon::statistics(batch, root, &stats));
                }
            }
        }
    }

    fn session_event(&mut self, event: Event) {
        match event {
            Event::Snapshot { snapshot, .. } => {
                self.snapshot = Some(snapshot);
                self.reconfigure();
            }
            Event::LockChanged(lock) => self.lock_changed(lock),
            Event::StatusWritten(upto) => {
                if matches!(self.start, Start::Writing(batch) if batch <= upto) {
                    self.start = Start::Done;
                }
            }
            Event::Connected { .. } | Event::Disconnected | Event::TxnResult { .. } => {}
        }
    }

    fn lock_changed(&mut self, lock: LockState) {
        self.lock = lock;
        match lock {
            LockState::Owned => self.reconfigure(),
            LockState::Contended => {
                error!(
                    target: "bridge",
                    "another ovs-vswitchd process is running, disabling this process (pid {}) until it goes away",
                    std::process::id()
                );
                self.layers.leave_devices();
                self.reconciler.clear(&mut self.layers);
                self.desired = Desired::default();
            }
            LockState::Unknown | LockState::Released => {}
        }
    }

    /// Makes what exists what the database asks for, and says so.
    pub fn reconfigure(&mut self) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.lock == LockState::Owned) else { return };
        coverage::counter::bridge_reconfigure.inc();
        self.desired = config::read(snapshot, &self.around);
        // Once flows are restored, they are: the key counts at the start only.
        self.around.flows_restored |= !self.desired.global.flow_restore_wait;
        self.set_tls();
        self.vhost.configure(&self.desired.global.other_config, &self.around.rundir, self.layers.env());
        let ports = self.desired.dpdk_ports();
        self.dpdk.configure(&self.desired.global.other_config, ports, self.layers.env());
        self.reconciler.apply(&self.desired, &mut self.layers);
        // Ports that now want other queues get them; their links are reported below.
        self.layers.refresh_links();
        self.layers.revise_flows();
        let batch = self.configuration_status();
        let number = self.session.status(batch);
        if self.start == Start::Waiting {
            self.start = Start::Writing(number);
        }
    }

    /// Takes the SSL table's files, or those of the command line if it has none.
    fn set_tls(&self) {
        let config = match &self.desired.tls {
            None => self.tls_default.clone(),
            Some(files) => {
                let given = |path: &PathBuf| Some(path.clone()).filter(|p| !p.as_os_str().is_empty());
                TlsConfig {
                    private_key: given(&files.private_key),
                    certificate: given(&files.certificate),
                    ca_cert: given(&files.ca_cert),
                    bootstrap_ca_cert: files.bootstrap_ca_cert,
                    peer_ca_cert: self.tls_default.peer_ca_cert.clone(),
                }
            }
        };
        self.tls.set(config);
    }

    /// What the database is told after a configuration.
    fn configuration_status(&mut self) -> StatusBatch {
        let mut batch = StatusBatch::new();
        for (name, is) in &self.reconciler.actual().bridges {
            let Some(config) = self.desired.bridges.get(name) else { continue };
            status::bridge::bridge(&mut batch, config, is);
            for (interface, config) in &config.interfaces {
                let Some(row) = config.row else { continue };
                match is.interfaces.get(interface) {
                    Some(is) => status::interface::added(&mut batch, row, is.ofport),
                    None => {
                        let why = self.reconciler.failure(name, interface).unwrap_or_default();
                        status::interface::failed(&mut batch, row, why);
                    }
                }
            }
        }
        for (row, why) in &self.desired.refused {
            status::interface::failed(&mut batch, *row, why);
        }
        for (kind, domain) in self.layers.domains() {
            if let Some(row) = self.desired.datapaths.get(kind) {
                status::bridge::datapath(&mut batch, *row, &domain.capabilities());
            }
        }
        self.report_links(&mut batch);
        if let Some(root) = self.desired.root {
            let iface_types: Vec<String> =
                self.layers.env().iface_types().into_iter().map(str::to_owned).collect();
            status::daemon::types(&mut batch, root, &self.around.datapath_types, &iface_types);
            status::daemon::dpdk(&mut batch, root, self.dpdk.is_up(), &crate::dpdk::version());
            if !self.desired.global.system_stats {
                status::daemon::statistics(&mut batch, root, &BTreeMap::new());
            }
            status::daemon::configured(&mut batch, root, self.desired.next_cfg);
        }
        batch
    }

    /// The links that changed, and the counters of ports that are new.
    fn report_links(&mut self, batch: &mut StatusBatch) {
        for report in self.layers.unreported() {
            let interfaces = self.desired.bridges.get(&report.bridge).map(|b| &b.interfaces);
            let Some(row) = interfaces.and_then(|i| i.get(&report.interface)?.row) else { continue };
            status::interface::link(batch, row, &report.link, &report.status);
            if report.is_new
                && let Some(counters) = self.layers.statistics(&report.bridge, &report.interface)
            {
                status::interface::statistics(batch, row, &counters);
            }
        }
    }

    fn links_changed(&mut self) {
        let events = self.layers.env().link_monitor().drain();
        let may_help = |e: &LinkEvent| match e.kind {
            LinkEventKind::Present => self.reconciler.waits_for(&e.name),
            LinkEventKind::Resync => true,
            LinkEventKind::Gone => false,
        };
        if events.iter().any(may_help) {
            self.reconfigure();
        }
        self.refresh();
    }

    /// Takes in what devices say of themselves; to be called when a command may have changed one.
    pub fn refresh(&mut self) {
        if self.layers.env().dummy_level() != DummyLevel::Off {
            self.layers.refresh_underlay();
        }
        let bridges = self.layers.refresh_links();
        if bridges.is_empty() {
            return;
        }
        self.reconciler.identify_all(&self.desired, &mut self.layers);
        let mut batch = StatusBatch::new();
        for (name, is) in &self.reconciler.actual().bridges {
            if let Some(config) = self.desired.bridges.get(name) {
                status::bridge::bridge(&mut batch, config, is);
            }
        }
        self.report_links(&mut batch);
        self.submit(batch);
    }

    /// Does what time asks for; returns when to come again, in milliseconds of the clock.
    pub fn run(&mut self) -> u64 {
        let now_ms = self.clock.now_ms();
        if now_ms >= self.stats_due_ms {
            self.stats_due_ms = now_ms + self.desired.global.stats_interval_ms;
            self.write_stats();
            // Devices of other drivers than the kernel's change without an event.
            self.refresh();
        }
        self.report_health();
        self.layers.underlay().expire(now_ms);
        if self.underlay_due_ms().is_some_and(|due_ms| now_ms >= due_ms) {
            self.layers.refresh_underlay();
        }
        let due = [self.layers.run(), self.underlay_due_ms()];
        due.into_iter().flatten().fold(self.stats_due_ms, u64::min)
    }

    /// Nobody needs routes before the first configuration, which asks for them.
    fn underlay_due_ms(&self) -> Option<u64> {
        self.layers.underlay_due_ms().filter(|_| self.snapshot.is_some())
    }

    fn write_stats(&mut self) {
        let mut batch = StatusBatch::new();
        for (bridge, config) in &self.desired.bridges {
            for (interface, config) in &config.interfaces {
                let counters = self.layers.statistics(bridge, interface);
                if let (Some(row), Some(counters)) = (config.row, counters) {
                    status::interface::statistics(&mut batch, row, &counters);
                }
            }
        }
        self.report_mirrors(&mut batch);
        self.report_controllers(&mut batch);
        self.submit(batch);
        if self.desired.global.system_stats && self.system.is_none() {
            let (around, wall_ms) = (self.around.clone(), self.clock.wall_ms());
            let collect = move || status::system::collect(&around.rundir, around.pidfile.as_deref(), wall_ms);
            self.system = Some(tokio::task::spawn_blocking(collect));
        }
    }

    /// Tells the database of sessions that changed.
    fn report_health(&mut self) {
        let reports = self.layers.health_reports();
        if reports.is_empty() {
            return;
        }
        let mut batch = StatusBatch::new();
        for report in reports {
            let interfaces = self.desired.bridges.get(&report.bridge).map(|b| &b.interfaces);
            if let Some(row) = interfaces.and_then(|i| i.get(&report.interface)?.row) {
                status::interface::bfd(&mut batch, row, &report.bfd);
            }
        }
        self.submit(batch);
    }

    fn report_mirrors(&self, batch: &mut StatusBatch) {
        for bridge in self.desired.bridges.values().filter(|b| !b.settings.mirrors.is_empty()) {
            for (row, packets, bytes) in self.layers.mirror_statistics(&bridge.name) {
                status::bridge::mirror(batch, row, packets, bytes);
            }
        }
    }

    fn report_controllers(&self, batch: &mut StatusBatch) {
        for (bridge, config) in &self.desired.bridges {
            let status = self.layers.controllers(bridge);
            for controller in &config.remotes.controllers {
                status::controller::controller(batch, controller.row, status.get(&controller.name));
            }
        }
    }

    fn write(&self, fill: impl FnOnce(&mut StatusBatch)) {
        let mut batch = StatusBatch::new();
        fill(&mut batch);
        self.submit(batch);
    }

    fn submit(&self, batch: StatusBatch) {
        if !batch.is_empty() {
            self.session.status(batch);
        }
    }

    /// The daemon ends. With `cleanup`, nothing of what it made is left.
    pub fn shut_down(&mut self) {
        self.reconciler.clear(&mut self.layers);
    }
}

/// Waits until a descriptor, which may not be there, is readable.
async fn readable(fd: Option<&AsyncFd<OwnedFd>>) {
    match fd {
        None => pending().await,
        Some(fd) => {
            if let Ok(mut ready) = fd.readable().await {
                ready.clear_ready();
            }
        }
    }
}

/// Waits for a task that may not be there.
async fn finished(task: &mut Option<JoinHandle<BTreeMap<String, String>>>) -> BTreeMap<String, String> {
    match task {
        Some(task) => task.await.unwrap_or_default(),
        None => pending().await,
    }
}
