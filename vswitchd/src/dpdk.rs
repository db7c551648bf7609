//! DPDK in the daemon, or its absence (feature `dpdk`).

pub use imp::{Dpdk, registry, version};

/// `Open_vSwitch.dpdk_version` of a build without DPDK.
pub const NONE: &str = "none";

#[cfg(feature = "dpdk")]
mod imp {
    use crate::bridge::Bridges;
    use crate::config::DpdkPort;
    use datapath::PollConfig;
    use netdev::Env;
    use netdev_dpdk::commands::COMMANDS;
    use netdev_dpdk::{Expected, Startup};
    use std::collections::{BTreeMap, BTreeSet};
    use unixctl::Registry;

    /// `DPDK 22.11.x`.
    pub fn version() -> String {
        netdev_dpdk::version()
    }

    /// DPDK, from the moment that the database wants it.
    #[derive(Default)]
    pub struct Dpdk(Startup);

    impl Dpdk {
        /// Starts DPDK when the database wants it, and tells it what else concerns it. `ports` are those that will
        /// be opened, in that order.
        pub fn configure(
            &mut self,
            other_config: &BTreeMap<String, String>,
            ports: Vec<DpdkPort>,
            env: &Env,
        ) {
            if let Some(dpdk) = self.0.configure(other_config) {
                dpdk.prepare(ports.into_iter().map(expected).collect());
                env.add_provider(dpdk.clone());
            }
            if let Some(dpdk) = self.0.get() {
                dpdk.set_senders(senders(other_config));
            }
        }

        pub fn is_up(&self) -> bool {
            self.0.get().is_some()
        }
    }

    fn expected(port: DpdkPort) -> Expected {
        Expected { name: port.name, devargs: port.devargs, mtu: port.mtu }
    }

    /// Threads that send: the polling ones and all others, which share a queue.
    fn senders(other_config: &BTreeMap<String, String>) -> u16 {
        let config = PollConfig::default();
        let mask = other_config.get("pmd-cpu-mask").and_then(|mask| PollConfig::parse_mask(mask));
        let polling = match mask.filter(|cores| !cores.is_empty()) {
            Some(cores) => config.machine.iter().filter(|c| cores.contains(&c.id)).count(),
            None => config.machine.iter().map(|c| c.numa).collect::<BTreeSet<_>>().len(),
        };
        u16::try_from(polling + 1).unwrap_or(u16::MAX)
    }

    /// `dpdk/*` and `netdev-dpdk/*`.
    pub fn registry() -> Registry<Bridges> {
        let mut r = Registry::new();
        for (name, usage, min, max, command) in COMMANDS {
            r.add_sync(name, usage, min, max, move |b: &mut Bridges, args| match b.dpdk().0.get().cloned() {
                Some(dpdk) => {
                    let answer = command(&dpdk, args);
                    b.refresh();
                    answer
                }
                None => Err(format!("\"{name}\" is not a valid command (DPDK is not initialized)")),
            });
        }
        r
    }
}

#[cfg(not(feature = "dpdk"))]
mod imp {
    use crate::bridge::Bridges;
    use crate::config::DpdkPort;
    use netdev::Env;
    use std::collections::BTreeMap;
    use unixctl::Registry;

    pub fn version() -> String {
        super::NONE.to_owned()
    }

    /// What is not in this build.
    #[derive(Default)]
    pub struct Dpdk {
        is_told: bool,
    }

    impl Dpdk {
        /// Says once that there is no DPDK, if the database wants it.
        pub fn configure(&mut self, other_config: &BTreeMap<String, String>, _: Vec<DpdkPort>, _: &Env) {
            let wanted = other_config.get("dpdk-init").is_some_and(|v| v.eq_ignore_ascii_case("true"));
            if wanted && !self.is_told {
                self.is_told = true;
                tracing::error!(target: "dpdk", "DPDK not supported in this copy of Open vSwitch.");
            }
        }

        pub fn is_up(&self) -> bool {
            false
        }
    }

    pub fn registry() -> Registry<Bridges> {
        Registry::new()
    }
}
