//! vhost-user ports in the daemon: their part of `Open_vSwitch.other_config`.

use netdev::Env;
use netdev_vhost::VhostPorts;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{error, warn};

/// The port types, from the first configuration on.
#[derive(Default)]
pub struct Vhost {
    ports: Option<Arc<VhostPorts>>,
    /// `vhost-sock-dir` as last seen.
    subdirectory: Option<String>,
}

impl Vhost {
    /// Makes the types known, once, and takes in what has changed.
    pub fn configure(&mut self, other_config: &BTreeMap<String, String>, rundir: &Path, env: &Env) {
        let is_first = self.ports.is_none();
        let ports = self.ports.get_or_insert_with(|| {
            let ports = Arc::new(VhostPorts::new(rundir));
            env.add_provider(ports.clone());
            ports
        });
        let wanted = other_config.get("vhost-sock-dir");
        if self.subdirectory.as_ref() != wanted {
            self.subdirectory = wanted.cloned();
            ports.set_socket_dir(&socket_dir(rundir, wanted.map_or("", String::as_str)));
        }
        let is_true = |key: &str| other_config.get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        for key in ["vhost-iommu-support", "vhost-postcopy-support"] {
            if is_first && is_true(key) {
                warn!(target: "dpdk", "{key}: not supported, vhost-user ports go on without");
            }
        }
    }
}

/// Where `dpdkvhostuser` ports make their sockets: a directory in `rundir`.
fn socket_dir(rundir: &Path, subdirectory: &str) -> PathBuf {
    let dir = rundir.join(subdirectory.trim_start_matches('/'));
    match () {
        () if subdirectory.is_empty() => rundir.to_owned(),
        () if subdirectory.contains("..") => {
            let shown = rundir.display();
            error!(target: "dpdk", "vhost-user sock directory request '{shown}/{subdirectory}' has invalid characters '..' - using {shown} instead.");
            rundir.to_owned()
        }
        () if !dir.is_dir() => {
            error!(target: "dpdk", "vhost-user sock directory '{}' does not exist.", dir.display());
            rundir.to_owned()
        }
        () => dir,
    }
}
