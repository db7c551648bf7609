//! Debian's OVN around our daemons: a central (northbound and southbound database, northd) and an ovn-controller on
//! each hypervisor of a [`Cloud`].
//!
//! Where the OVN packages are not there, [`Ovn::new`] says so and the test is skipped.

use crate::cloud::{Cloud, text};
use crate::{PATIENCE, daemon_binary};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

const SCHEMAS: &str = "/usr/share/ovn";

/// A central and its hypervisors.
pub struct Ovn {
    cloud: Cloud,
    central: Vec<Child>,
    controllers: Vec<Option<Child>>,
}

impl Deref for Ovn {
    type Target = Cloud;
    fn deref(&self) -> &Cloud {
        &self.cloud
    }
}

impl DerefMut for Ovn {
    fn deref_mut(&mut self) -> &mut Cloud {
        &mut self.cloud
    }
}

/// Waits for a file to be there.
fn until_there(path: &Path) {
    let end = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < end, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Ovn {
    /// A central and this many hypervisors `hv1` to `hvN`, with tunnels of this type between them.
    pub fn new(hypervisors: usize, encap: &str) -> Option<Self> {
        Self::with_daemon(daemon_binary(), hypervisors, encap)
    }

    /// As [`Ovn::new`] with this daemon on the hypervisors.
    pub fn with_daemon(daemon: &Path, hypervisors: usize, encap: &str) -> Option<Self> {
        if !Path::new(SCHEMAS).join("ovn-nb.ovsschema").exists() {
            eprintln!("skipped: OVN is not installed");
            return None;
        }
        let cloud = Cloud::with_daemon(daemon, hypervisors)?;
        let mut ovn = Ovn { cloud, central: Vec::new(), controllers: Vec::new() };
        ovn.start_central();
        for no in 1..=hypervisors {
            let ids = format!(
                "set open . external_ids:system-id=hv{no} external_ids:ovn-remote={} \
                 external_ids:ovn-encap-type={encap} external_ids:ovn-encap-ip=192.168.100.{no} \
                 external_ids:ovn-bridge-datapath-type=netdev external_ids:ovn-bridge-mappings=phys:br-ex",
                ovn.socket("sb.sock"),
            );
            ovn.sandbox(no).vsctl(&ids.split_whitespace().collect::<Vec<_>>());
            ovn.controllers.push(None);
            ovn.start_controller(no);
        }
        Some(ovn)
    }

    fn socket(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    fn start_central(&mut self) {
        for which in ["nb", "sb"] {
            let file = self.path(&format!("{which}.db"));
            let schema = format!("{SCHEMAS}/ovn-{which}.ovsschema");
            let made = self.command("ovsdb-tool").arg("create").arg(&file).arg(schema).output().unwrap();
            assert!(made.status.success(), "{}", text(&made));
            let socket = self.path(&format!("{which}.sock"));
            let mut server = self.command("ovsdb-server");
            server.arg(format!("--remote=punix:{}", socket.display()));
            server.args(["--unixctl=none", "-vconsole:off", "-vsyslog:off"]).arg(file);
            self.central.push(server.spawn().unwrap());
            until_there(&socket);
        }
        let mut northd = self.command("ovn-northd");
        northd.arg(format!("--ovnnb-db={}", self.socket("nb.sock")));
        northd.arg(format!("--ovnsb-db={}", self.socket("sb.sock")));
        northd.args(["--unixctl=none", "-vconsole:off", "-vsyslog:off"]);
        self.central.push(northd.spawn().unwrap());
    }

    /// Starts a hypervisor's ovn-controller.
    pub fn start_controller(&mut self, no: usize) {
        let sandbox = self.sandbox(no);
        let mut ip = sandbox.command("ip");
        ip.args(["netns", "exec", &self.namespace(&format!("hv{no}")), "ovn-controller"]);
        ip.env("OVN_RUNDIR", sandbox.directory());
        ip.arg(format!("unix:{}", sandbox.path("db.sock").display()));
        ip.args(["-vconsole:off", "-vsyslog:off"]);
        ip.arg(format!("--log-file={}", sandbox.path("ovn-controller.log").display()));
        self.controllers[no - 1] = Some(ip.spawn().unwrap());
    }

    /// Ends a hypervisor's ovn-controller as if it had crashed.
    pub fn kill_controller(&mut self, no: usize) {
        if let Some(mut controller) = self.controllers[no - 1].take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
    }

    /// What a hypervisor's ovn-controller has logged.
    pub fn controller_log(&self, no: usize) -> String {
        std::fs::read_to_string(self.sandbox(no).path("ovn-controller.log")).unwrap_or_default()
    }

    /// The hypervisors' ovn-controllers and daemons, in their own words.
    pub fn logs(&self) -> String {
        let log = |h: &crate::cloud::Hypervisor| {
            let controller =
                std::fs::read_to_string(h.sandbox.path("ovn-controller.log")).unwrap_or_default();
            format!("== {}\n{controller}\n{}", h.name, h.sandbox.log())
        };
        self.hypervisors.iter().map(log).collect()
    }

    /// Runs `ovn-nbctl` with words; several commands are separated by ` -- `.
    pub fn nbctl(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.nbctl_words(&words)
    }

    /// As [`Ovn::nbctl`], where words have spaces in them.
    pub fn nbctl_words(&self, words: &[&str]) -> String {
        let database = format!("--db={}", self.socket("nb.sock"));
        let output = self.command("ovn-nbctl").args(["-t", "60", &database]).args(words).output().unwrap();
        assert!(output.status.success(), "ovn-nbctl {words:?}: {}\n{}", text(&output), self.logs());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `ovn-sbctl`.
    pub fn sbctl(&self, line: &str) -> String {
        let database = format!("--db={}", self.socket("sb.sock"));
        let output = self.command("ovn-sbctl").arg(database).args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ovn-sbctl {line}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until every hypervisor has done what the northbound database says.
    pub fn sync(&self) {
        self.nbctl("--wait=hv sync");
    }

    /// A machine: a namespace whose `eth0` is a port of a hypervisor's br-int, for the logical port of the same name.
    pub fn machine(&mut self, hypervisor: usize, name: &str, mac: &str) {
        self.plug(hypervisor, name, mac);
        let interface = format!("external_ids:iface-id={name}");
        let sandbox = self.sandbox(hypervisor);
        // ovn-controller makes br-int.
        let bridge = ["br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"];
        sandbox.vsctl(&[&["--may-exist", "add-br"], &bridge[..]].concat());
        sandbox.vsctl(&["add-port", "br-int", name, "--", "set", "interface", name, &interface]);
    }

    /// Two switches of two machines each and a router between them: `vm1` and `vm2` with 10.0.1.1N and fd01::1N on
    /// `ls0`, `vm3` and `vm4` with 10.0.2.1N and fd02::1N on `ls1`, each on one of the hypervisors.
    pub fn two_switches(&mut self, hypervisors: &[usize; 4]) {
        self.nbctl("lr-add lr0");
        for net in [1, 2] {
            let (switch, port) = (format!("ls{}", net - 1), format!("lr0-ls{}", net - 1));
            self.nbctl(&format!(
                "ls-add {switch} -- lrp-add lr0 {port} 00:00:00:00:ff:0{net} 10.0.{net}.1/24 fd0{net}::1/64 \
                 -- lsp-add {switch} {switch}-lr0 -- lsp-set-type {switch}-lr0 router \
                 -- lsp-set-addresses {switch}-lr0 router -- lsp-set-options {switch}-lr0 router-port={port}"
            ));
        }
        for (no, hypervisor) in (1..).zip(hypervisors) {
            let net = (no + 1) / 2;
            let (name, mac) = (format!("vm{no}"), format!("50:54:00:00:00:0{no}"));
            self.nbctl(&format!("lsp-add ls{} {name}", net - 1));
            let addresses = format!("{mac} 10.0.{net}.1{no} fd0{net}::1{no}");
            self.nbctl_words(&["lsp-set-addresses", &name, &addresses]);
            self.machine(*hypervisor, &name, &mac);
            self.ip(&name, &format!("addr add 10.0.{net}.1{no}/24 dev eth0"));
            self.ip(&name, &format!("addr add fd0{net}::1{no}/64 dev eth0 nodad"));
            self.ip(&name, &format!("route add default via 10.0.{net}.1"));
            self.ip(&name, &format!("route add default via fd0{net}::1"));
        }
        self.sync();
    }

    /// Joins every hypervisor's `br-ex` to its `br-phys`: outside is one network for all of them.
    pub fn join_outside(&self) {
        for hypervisor in &self.hypervisors {
            let patch = |bridge: &str, port: &str, peer: &str| {
                let line = format!(
                    "add-port {bridge} {port} -- set interface {port} type=patch options:peer={peer}"
                );
                hypervisor.sandbox.vsctl(&line.split(' ').collect::<Vec<_>>());
            };
            patch("br-ex", "to-phys", "to-ex");
            patch("br-phys", "to-ex", "to-phys");
        }
    }

    /// A way out of `lr0` at 172.16.0.1 through the `br-ex` of the first of these hypervisors that lives; 10.0.1.0/24
    /// goes out under that address.
    pub fn gateway(&self, hypervisors: &[&str]) {
        self.nbctl(
            "ls-add public -- lsp-add public ln -- lsp-set-type ln localnet -- lsp-set-addresses ln unknown \
             -- lsp-set-options ln network_name=phys -- lrp-add lr0 lr0-public 00:00:00:00:ff:03 172.16.0.1/24 \
             -- lsp-add public public-lr0 -- lsp-set-type public-lr0 router -- lsp-set-addresses public-lr0 router \
             -- lsp-set-options public-lr0 router-port=lr0-public \
             -- lr-nat-add lr0 snat 172.16.0.1 10.0.1.0/24",
        );
        for (hypervisor, priority) in hypervisors.iter().zip((1..=100).rev()) {
            self.nbctl(&format!("lrp-set-gateway-chassis lr0-public {hypervisor} {priority}"));
        }
    }
}

impl Drop for Ovn {
    fn drop(&mut self) {
        let controllers = self.controllers.iter_mut().flatten();
        for child in controllers.chain(&mut self.central) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
