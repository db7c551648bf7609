//! Debian's OVN around our daemon: a central (northbound and southbound database, northd) and hypervisors, each in a
//! network namespace of its own with a database, a daemon and an ovn-controller. Debian's daemon is the wire between.
//!
//! Needs root, `ip` and the OVN packages; where they are not there, [`Ovn::new`] says so and the test is skipped.

use crate::net::Namespaces;
use crate::{PATIENCE, Sandbox, daemon_binary};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Debian's own daemon.
pub const STOCK: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";
const SCHEMAS: &str = "/usr/share/ovn";
/// The namespace of the wire between hypervisors.
const WIRE: &str = "wire";

/// A host under OVN's control.
pub struct Hypervisor {
    pub name: String,
    pub sandbox: Sandbox,
    controller: Option<Child>,
}

/// A central and its hypervisors.
pub struct Ovn {
    dir: TempDir,
    central: Vec<Child>,
    pub hypervisors: Vec<Hypervisor>,
    wire: Option<Sandbox>,
    started: Vec<Child>,
    namespaces: Namespaces,
    daemon: PathBuf,
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
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
        Self::with_daemon(hypervisors, encap, daemon_binary())
    }

    /// As [`Ovn::new`], with this daemon.
    pub fn with_daemon(hypervisors: usize, encap: &str, binary: &Path) -> Option<Self> {
        if !Path::new(SCHEMAS).join("ovn-nb.ovsschema").exists() {
            eprintln!("skipped: OVN is not installed");
            return None;
        }
        let mut namespaces = Namespaces::new();
        if let Err(why) = namespaces.add(WIRE) {
            eprintln!("skipped: no network namespaces: {why}");
            return None;
        }
        let mut ovn = Ovn {
            dir: tempfile::tempdir().unwrap(),
            central: Vec::new(),
            hypervisors: Vec::new(),
            wire: None,
            started: Vec::new(),
            namespaces,
            daemon: binary.to_owned(),
        };
        ovn.start_central();
        if hypervisors > 1 {
            let wire = Sandbox::with_daemon_in(Path::new(STOCK), &ovn.namespaces.full(WIRE), &[]);
            wire.vsctl(&["add-br", "wire", "--", "set", "bridge", "wire", "datapath_type=netdev"]);
            ovn.wire = Some(wire);
        }
        (1..=hypervisors).for_each(|no| ovn.hypervisor(no, encap, binary));
        Some(ovn)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        for variable in ["OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR", "OVS_RUNDIR", "OVS_LOGDIR"] {
            command.env(variable, self.dir.path());
        }
        command
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

    /// A host with the address 192.168.100.N on `br-phys`, through which its tunnels go.
    fn hypervisor(&mut self, no: usize, encap: &str, binary: &Path) {
        let name = format!("hv{no}");
        self.namespaces.add(&name).unwrap();
        let sandbox = Sandbox::with_daemon_in(binary, &self.namespaces.full(&name), &[]);
        self.hypervisors.push(Hypervisor { name: name.clone(), sandbox, controller: None });
        let ids = format!(
            "set open . external_ids:system-id={name} external_ids:ovn-remote={} external_ids:ovn-encap-type={encap} \
             external_ids:ovn-encap-ip=192.168.100.{no} external_ids:ovn-bridge-datapath-type=netdev \
             external_ids:ovn-bridge-mappings=phys:br-ex -- add-br br-ex -- set bridge br-ex datapath_type=netdev \
             fail_mode=standalone -- add-br br-phys -- set bridge br-phys datapath_type=netdev",
            self.socket("sb.sock"),
        );
        let args: Vec<&str> = ids.split_whitespace().collect();
        self.hypervisors[no - 1].sandbox.vsctl(&args);
        if let Some(wire) = &self.wire {
            let (here, there) = (self.namespaces.full(&name), self.namespaces.full(WIRE));
            let veth = format!("link add name eth0 netns {here} type veth peer name {name} netns {there}");
            self.ip(&name, &veth);
            self.ip(&name, "link set eth0 up");
            self.ip(WIRE, &format!("link set {name} up"));
            wire.vsctl(&["add-port", "wire", &name]);
            self.hypervisors[no - 1].sandbox.vsctl(&["add-port", "br-phys", "eth0"]);
        }
        self.ip(&name, "link set br-phys up");
        self.ip(&name, &format!("addr add 192.168.100.{no}/24 dev br-phys"));
        self.start_controller(no);
    }

    /// Starts a hypervisor's ovn-controller.
    pub fn start_controller(&mut self, no: usize) {
        let hypervisor = &mut self.hypervisors[no - 1];
        let mut ip = hypervisor.sandbox.command("ip");
        let namespace = self.namespaces.full(&hypervisor.name);
        ip.args(["netns", "exec", &namespace, "ovn-controller"]);
        ip.env("OVN_RUNDIR", hypervisor.sandbox.directory());
        ip.arg(format!("unix:{}", hypervisor.sandbox.path("db.sock").display()));
        ip.args(["-vconsole:off", "-vsyslog:off"]);
        ip.arg(format!("--log-file={}", hypervisor.sandbox.path("ovn-controller.log").display()));
        hypervisor.controller = Some(ip.spawn().unwrap());
    }

    /// Ends a hypervisor's ovn-controller as if it had crashed.
    pub fn kill_controller(&mut self, no: usize) {
        if let Some(mut controller) = self.hypervisors[no - 1].controller.take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
    }

    /// A hypervisor's ovn-controller and daemon, in their own words.
    pub fn logs(&self) -> String {
        let log = |h: &Hypervisor| {
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
        let sandbox = &self.hypervisors[hypervisor - 1].sandbox;
        // ovn-controller makes br-int.
        sandbox.vsctl(&[
            "--may-exist",
            "add-br",
            "br-int",
            "--",
            "set",
            "bridge",
            "br-int",
            "datapath_type=netdev",
        ]);
        sandbox.vsctl(&["add-port", "br-int", name, "--", "set", "interface", name, &interface]);
    }

    /// As [`Ovn::machine`], outside: on the hypervisor's `br-ex`.
    pub fn outsider(&mut self, hypervisor: usize, name: &str, mac: &str, address: &str) {
        self.plug(hypervisor, name, mac);
        self.hypervisors[hypervisor - 1].sandbox.vsctl(&["add-port", "br-ex", name]);
        self.ip(name, &format!("addr add {address} dev eth0"));
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

    fn plug(&mut self, hypervisor: usize, name: &str, mac: &str) {
        let host = self.hypervisors[hypervisor - 1].name.clone();
        self.namespaces.add(name).unwrap();
        let (here, there) = (self.namespaces.full(&host), self.namespaces.full(name));
        let veth =
            format!("link add name {name} netns {here} type veth peer name eth0 netns {there} address {mac}");
        self.ip(&host, &veth);
        self.ip(&host, &format!("link set {name} up"));
        self.ip(name, "link set eth0 up");
        if self.daemon == Path::new(STOCK) {
            // Debian's daemon takes a checksum that is left to the device for a wrong one.
            self.run(name, "ethtool -K eth0 tx off");
        }
    }

    fn prepared(&self, namespace: &str, line: &str) -> Command {
        let mut command = self.command("ip");
        command.args(["netns", "exec", &self.namespaces.full(namespace)]).args(line.split_whitespace());
        command
    }

    /// Runs a command in a namespace to its end.
    pub fn output(&self, namespace: &str, line: &str) -> Output {
        self.prepared(namespace, line).output().unwrap()
    }

    /// As [`Ovn::output`]; the test fails if the command does.
    pub fn run(&self, namespace: &str, line: &str) -> String {
        let output = self.output(namespace, line);
        assert!(output.status.success(), "{namespace}: {line}:\n{}\n{}", text(&output), self.logs());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a Python program in a namespace; what it prints.
    pub fn python(&self, namespace: &str, program: &str) -> String {
        let output = self.prepared(namespace, "python3 -c").arg(program).output().unwrap();
        assert!(output.status.success(), "{namespace}:\n{program}\n{}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts a Python program in a namespace; it is killed at the end of the test.
    pub fn serve(&mut self, namespace: &str, program: &str) {
        let mut command = self.prepared(namespace, "python3 -c");
        let child = command.arg(program).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.started.push(child.unwrap());
    }

    /// `ip` in a namespace.
    pub fn ip(&self, namespace: &str, line: &str) -> String {
        self.run(namespace, &format!("ip {line}"))
    }

    /// Whether one of three pings is answered.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        self.output(from, &format!("ping -n -c 3 -i 0.3 -W 1 {to}")).status.success()
    }

    /// Pings until an answer comes; the test fails if none does.
    pub fn ping(&self, from: &str, to: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.reaches(from, to) {
            assert!(Instant::now() < end, "{from} does not reach {to}\n{}", self.logs());
        }
    }

    /// What a TCP server at this address says first; `None` if it says nothing within a second.
    pub fn hears(&self, from: &str, to: &str, port: u16) -> Option<String> {
        let program = format!(
            "import socket\ntry:\n s=socket.create_connection((\"{to}\",{port}),1)\n s.settimeout(1)\n \
             print(s.recv(99).decode())\nexcept OSError: pass"
        );
        Some(self.python(from, &program)).filter(|said| !said.is_empty())
    }

    /// Starts a TCP server that tells everybody its own name and the address that it sees.
    pub fn say(&mut self, namespace: &str, port: u16) {
        let family = "socket.AF_INET6";
        let program = format!(
            "import socket\ns=socket.socket({family})\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
             s.bind((\"::\",{port}))\ns.listen(64)\nwhile True:\n c,a=s.accept()\n \
             c.sendall((\"{namespace} \"+a[0].replace(\"::ffff:\",\"\")).encode())\n c.close()"
        );
        self.serve(namespace, &program);
        let end = Instant::now() + PATIENCE;
        while !self.run(namespace, "ss -Hltn").contains(&format!(":{port}")) {
            assert!(Instant::now() < end, "{namespace} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Ovn {
    fn drop(&mut self) {
        let controllers = self.hypervisors.iter_mut().filter_map(|h| h.controller.as_mut());
        for child in self.started.iter_mut().chain(controllers).chain(&mut self.central) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
