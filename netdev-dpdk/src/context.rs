//! DPDK as a whole: started once, with all ports that are open.

use crate::args::{Init, eal_args};
use crate::device::DpdkDevice;
use crate::ffi::eal;
use crate::ffi::port::{self, Port};
use crate::mempools::Mempools;
use crate::prepare::Prepared;
use netdev::{Netdev, Provider, StringMap};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tracing::{error, info};

/// How often links are looked at.
const WATCH: Duration = Duration::from_secs(5);
const PROGRAM: &str = "ovs-vswitchd";

/// DPDK, up and running. There is one of it in a process.
pub struct Dpdk {
    me: Weak<Dpdk>,
    pub(crate) mempools: Mempools,
    pub(crate) devices: Mutex<Vec<Weak<DpdkDevice>>>,
    /// Held while devices are attached, detached or looked up.
    pub(crate) bus: Mutex<()>,
    pub(crate) prepared: Prepared,
    /// Threads that send: each wants a queue of its own.
    senders: AtomicU16,
}

/// The one attempt to start DPDK.
#[derive(Default)]
pub enum Startup {
    #[default]
    NotTried,
    /// The database does not want it, which was said.
    Disabled,
    Failed,
    Up(Arc<Dpdk>),
}

impl Startup {
    /// Starts DPDK if the database wants it and nobody tried before. Returns whether it came up just now.
    ///
    /// A failure is said in the log once; everything but `dpdk` ports goes on.
    pub fn configure(&mut self, other_config: &StringMap) -> Option<&Arc<Dpdk>> {
        let wanted = Init::of(other_config);
        match (&*self, wanted) {
            (Startup::NotTried | Startup::Disabled, Init::Yes | Init::Try) => {}
            (Startup::NotTried, Init::No) => {
                info!(target: "dpdk", "DPDK Disabled - Use other_config:dpdk-init to enable");
                *self = Startup::Disabled;
                return None;
            }
            _ => return None,
        }
        info!(target: "dpdk", "Using {}", eal::version());
        info!(target: "dpdk", "DPDK Enabled - initializing...");
        match Dpdk::start(other_config) {
            Ok(dpdk) => {
                info!(target: "dpdk", "DPDK Enabled - initialized");
                *self = Startup::Up(dpdk);
            }
            Err(why) => {
                error!(target: "dpdk", "Unable to initialize DPDK: {why}");
                *self = Startup::Failed;
            }
        }
        self.get()
    }

    pub fn get(&self) -> Option<&Arc<Dpdk>> {
        match self {
            Startup::Up(dpdk) => Some(dpdk),
            _ => None,
        }
    }
}

impl Dpdk {
    /// Starts EAL. Must be called by the main thread, whose affinity stays as it is unless the configuration
    /// gives EAL's threads cores of their own.
    fn start(other_config: &StringMap) -> Result<Arc<Self>, String> {
        let begin = Instant::now();
        if let Err(why) = eal::log_here() {
            error!(target: "dpdk", "Can't redirect DPDK log: {why}.");
        }
        let me = Pid::from_raw(0);
        let affinity = sched_getaffinity(me).ok();
        let core = affinity.as_ref().and_then(first_core).unwrap_or(0);
        let (args, is_our_choice) = eal_args(other_config, core);
        let args = [vec![PROGRAM.to_owned()], args].concat();
        info!(target: "dpdk", "EAL ARGS: {}", args.join(" "));
        let result = eal::init(&args);
        if let Some(former) = affinity.filter(|_| is_our_choice) {
            let _ = sched_setaffinity(me, &former);
        }
        result?;
        info!(target: "dpdk", "EAL is up after {} ms", begin.elapsed().as_millis());
        let dpdk = Arc::new_cyclic(|me| Dpdk {
            me: me.clone(),
            mempools: Mempools::new(other_config),
            devices: Mutex::default(),
            bus: Mutex::default(),
            prepared: Prepared::default(),
            senders: AtomicU16::new(2),
        });
        port::hear_resets();
        watch(&dpdk);
        Ok(dpdk)
    }

    /// How many threads send: as many transmit queues are asked for when a port starts.
    ///
    /// Ports that run keep the queues that they have, which threads then share: not every driver starts again.
    pub fn set_senders(&self, threads: u16) {
        self.senders.store(threads.max(1), Ordering::Relaxed);
    }

    pub(crate) fn senders(&self) -> u16 {
        self.senders.load(Ordering::Relaxed)
    }

    /// The open ports.
    pub(crate) fn open_devices(&self) -> Vec<Arc<DpdkDevice>> {
        let mut devices = self.devices.lock();
        devices.retain(|d| d.strong_count() > 0);
        devices.iter().filter_map(Weak::upgrade).collect()
    }

    /// The open port that has this number in DPDK.
    pub(crate) fn user_of(&self, port: Port) -> Option<Arc<DpdkDevice>> {
        self.open_devices().into_iter().find(|d| d.port() == Some(port))
    }
}

fn first_core(set: &CpuSet) -> Option<usize> {
    (0..CpuSet::count()).find(|core| set.is_set(*core) == Ok(true))
}

/// Looks at all links now and then, as drivers without interrupts tell nobody.
fn watch(dpdk: &Arc<Dpdk>) {
    let dpdk = Arc::downgrade(dpdk);
    let run = move || {
        while let Some(dpdk) = dpdk.upgrade() {
            dpdk.open_devices().iter().for_each(|d| d.look_at_link());
            drop(dpdk);
            std::thread::sleep(WATCH);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("dpdk_watchdog".to_owned()).spawn(run) {
        error!(target: "netdev_dpdk", "links are not watched: {error}");
    }
}

/// Opens `dpdk` ports.
impl Provider for Dpdk {
    fn types(&self) -> &'static [&'static str] {
        &["dpdk"]
    }

    fn open(
        &self,
        _kind: &'static str,
        name: &str,
        _fds: Vec<(String, OwnedFd)>,
    ) -> io::Result<Arc<dyn Netdev>> {
        let dpdk = self.me.upgrade().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let device = Arc::new(DpdkDevice::new(name, dpdk));
        self.devices.lock().push(Arc::downgrade(&device));
        Ok(device)
    }
}
