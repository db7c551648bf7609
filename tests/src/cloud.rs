//! Hosts under a cloud's control: hypervisors, each a network namespace with a database and a daemon, joined by a wire
//! that is Debian's daemon; and machines, which are namespaces on their ports.

use crate::net::{Namespaces, iperf_rate};
use crate::{PATIENCE, Sandbox, daemon_binary};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Debian's own daemon.
pub const STOCK: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";
/// The namespace of the wire between hypervisors.
const WIRE: &str = "wire";

/// A host.
pub struct Hypervisor {
    pub name: String,
    pub sandbox: Sandbox,
}

/// Hypervisors `hv1` to `hvN` with addresses 192.168.100.N on `br-phys`, and an empty `br-ex`.
pub struct Cloud {
    dir: TempDir,
    pub hypervisors: Vec<Hypervisor>,
    wire: Option<Sandbox>,
    started: Vec<Child>,
    namespaces: Namespaces,
    daemon: PathBuf,
}

/// What a command said.
pub(crate) fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

impl Cloud {
    /// `None`, with the reason on standard error, where namespaces cannot be made.
    pub fn new(hypervisors: usize) -> Option<Self> {
        Self::with_daemon(daemon_binary(), hypervisors)
    }

    /// As [`Cloud::new`] with this daemon on the hypervisors.
    pub fn with_daemon(daemon: &Path, hypervisors: usize) -> Option<Self> {
        let mut namespaces = Namespaces::new();
        if let Err(why) = namespaces.add(WIRE) {
            eprintln!("skipped: no network namespaces: {why}");
            return None;
        }
        let mut cloud = Cloud {
            dir: tempfile::tempdir().unwrap(),
            hypervisors: Vec::new(),
            wire: None,
            started: Vec::new(),
            namespaces,
            daemon: daemon.to_owned(),
        };
        if hypervisors > 1 {
            let wire = Sandbox::with_daemon_in(Path::new(STOCK), &cloud.namespaces.full(WIRE), &[]);
            wire.vsctl(&["add-br", "wire", "--", "set", "bridge", "wire", "datapath_type=netdev"]);
            cloud.wire = Some(wire);
        }
        (1..=hypervisors).for_each(|no| cloud.hypervisor(no));
        Some(cloud)
    }

    /// A file in the directory of what is common to all hosts.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that works in that directory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        for variable in ["OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR", "OVS_RUNDIR", "OVS_LOGDIR"] {
            command.env(variable, self.dir.path());
        }
        command
    }

    fn hypervisor(&mut self, no: usize) {
        let name = format!("hv{no}");
        self.namespaces.add(&name).unwrap();
        let sandbox = Sandbox::with_daemon_in(&self.daemon, &self.namespaces.full(&name), &[]);
        for bridge in ["br-ex", "br-phys"] {
            sandbox.vsctl(&["add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev"]);
        }
        if let Some(wire) = &self.wire {
            let (here, there) = (self.namespaces.full(&name), self.namespaces.full(WIRE));
            let veth = format!("link add name eth0 netns {here} type veth peer name {name} netns {there}");
            self.ip(&name, &veth);
            self.ip(&name, "link set eth0 up");
            // The wire ends in the switch. Without this the host answers questions for its addresses there, too.
            self.run(&name, "sysctl -qw net.ipv4.conf.eth0.arp_ignore=1");
            // As in `plug`: the wire is Debian's daemon.
            self.run(&name, "ethtool -K eth0 tx off");
            self.ip(WIRE, &format!("link set {name} up"));
            wire.vsctl(&["add-port", "wire", &name]);
            sandbox.vsctl(&["add-port", "br-phys", "eth0"]);
        }
        self.ip(&name, "link set br-phys up");
        self.ip(&name, &format!("addr add 192.168.100.{no}/24 dev br-phys"));
        self.hypervisors.push(Hypervisor { name, sandbox });
    }

    /// The database and the daemon of a hypervisor, counted from 1.
    pub fn sandbox(&self, no: usize) -> &Sandbox {
        &self.hypervisors[no - 1].sandbox
    }

    /// As [`Cloud::sandbox`], to stop and start them.
    pub fn sandbox_mut(&mut self, no: usize) -> &mut Sandbox {
        &mut self.hypervisors[no - 1].sandbox
    }

    /// The name that the system knows a namespace by.
    pub fn namespace(&self, name: &str) -> String {
        self.namespaces.full(name)
    }

    /// A namespace whose `eth0` is the device of this name on a hypervisor.
    pub fn plug(&mut self, hypervisor: usize, name: &str, mac: &str) {
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

    /// A machine outside: on the hypervisor's `br-ex`.
    pub fn outsider(&mut self, hypervisor: usize, name: &str, mac: &str, address: &str) {
        self.plug(hypervisor, name, mac);
        self.sandbox(hypervisor).vsctl(&["add-port", "br-ex", name]);
        self.ip(name, &format!("addr add {address} dev eth0"));
    }

    /// A command in a namespace.
    pub fn prepared(&self, namespace: &str, line: &str) -> Command {
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

    /// Starts a Python program in a namespace; it is killed at the end of the test, or by [`Cloud::end`].
    pub fn serve(&mut self, namespace: &str, program: &str) -> usize {
        let mut command = self.prepared(namespace, "python3 -c");
        let child = command.arg(program).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.keep(child.unwrap())
    }

    /// A process that ends with the test at the latest.
    pub(crate) fn keep(&mut self, child: Child) -> usize {
        self.started.push(child);
        self.started.len() - 1
    }

    /// How many such processes there are.
    pub(crate) fn children(&self) -> usize {
        self.started.len()
    }

    /// Kills one of them.
    pub fn end(&mut self, child: usize) {
        let _ = self.started[child].kill();
        let _ = self.started[child].wait();
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
            assert!(Instant::now() < end, "{from} does not reach {to}\n{}{}", self.state(), self.logs());
        }
    }

    /// What the hypervisors do with packets: their flows, what they dropped, whom their tunnels know.
    fn state(&self) -> String {
        let commands = ["dpctl/dump-flows", "coverage/show", "tnl/neigh/show", "ovs/route/show"];
        let of = |h: &Hypervisor| -> String {
            let told = commands.map(|c| format!("{c}:\n{}", text(&h.sandbox.appctl_output(&[c]))));
            format!("== {}\n{}\n", h.name, told.concat())
        };
        self.hypervisors.iter().map(of).collect()
    }

    /// Runs iperf3 between two namespaces, once; bits per second that came through to `address`, which is `to`'s.
    pub fn iperf(&self, from: &str, to: &str, address: &str, options: &str) -> f64 {
        self.run(to, "iperf3 -s -1 -D");
        iperf_rate(|line| self.output(from, line), address, options).unwrap_or_else(|said| panic!("{said}"))
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
    pub fn say(&mut self, namespace: &str, port: u16) -> usize {
        let family = "socket.AF_INET6";
        let program = format!(
            "import socket\ns=socket.socket({family})\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
             s.bind((\"::\",{port}))\ns.listen(64)\nwhile True:\n c,a=s.accept()\n \
             c.sendall((\"{namespace} \"+a[0].replace(\"::ffff:\",\"\")).encode())\n c.close()"
        );
        let child = self.serve(namespace, &program);
        let end = Instant::now() + PATIENCE;
        while !self.run(namespace, "ss -Hltn").contains(&format!(":{port}")) {
            assert!(Instant::now() < end, "{namespace} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    /// The daemons' logs.
    pub fn logs(&self) -> String {
        self.hypervisors.iter().map(|h| format!("== {}\n{}\n", h.name, h.sandbox.log())).collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        for child in &mut self.started {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
