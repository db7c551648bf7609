//! Debian's own daemon, started to be asked (tests only).

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DAEMON: &str = "/usr/lib/openvswitch-switch/ovs-vswitchd";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long the daemon may take to come up or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running `ovs-vswitchd` with one bridge `br0` of dummy ports `p1` and `p2`; ends with this value.
pub struct Stock {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Stock {
    /// `None`, with a line that says so, where Open vSwitch is not installed.
    pub fn start(name: &str) -> Option<Stock> {
        if !Path::new(DAEMON).exists() || !Path::new(SCHEMA).exists() {
            println!("skipped: no {DAEMON}");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("dpif-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut stock = Stock { dir, children: Vec::new() };
        let (db, socket) = (stock.path("conf.db"), stock.path("db.sock"));
        assert!(stock.tool("ovsdb-tool").arg("create").arg(&db).arg(SCHEMA).status().unwrap().success());
        let remote = format!("unix:{}", socket.display());
        let server = stock.tool("ovsdb-server").arg(format!("--remote=p{remote}")).arg(&db).spawn().unwrap();
        stock.children.push(server);
        stock.wait_for(&socket);
        let mut daemon = stock.tool(DAEMON);
        daemon.args(["--enable-dummy=override", "--disable-system"]);
        daemon.arg(format!("--unixctl={}", stock.path("ctl").display())).arg(&remote);
        stock.children.push(daemon.spawn().unwrap());
        stock.wait_for(&stock.path("ctl"));
        let mut vsctl = stock.tool("ovs-vsctl");
        vsctl.arg(format!("--db={remote}")).args(
            "add-br br0 -- set bridge br0 datapath-type=dummy fail-mode=secure \
             -- set open . other_config:vlan-limit=2 \
             -- add-port br0 p1 -- set int p1 type=dummy ofport_request=1 \
             -- add-port br0 p2 -- set int p2 type=dummy ofport_request=2"
                .split_whitespace(),
        );
        assert!(vsctl.status().unwrap().success());
        Some(stock)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn tool(&self, program: &str) -> Command {
        let mut c = Command::new(program);
        for var in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"] {
            c.env(var, &self.dir);
        }
        c.stdout(Stdio::null()).stderr(Stdio::null());
        c
    }

    fn wait_for(&self, path: &Path) {
        let start = Instant::now();
        while UnixStream::connect(path).is_err() {
            assert!(start.elapsed() < PATIENCE, "{} does not come up", path.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has everything that leaves by `port` written to a capture file.
    pub fn capture(&self, port: &str) -> PathBuf {
        let file = self.path(&format!("{port}.pcap"));
        let mut vsctl = self.tool("ovs-vsctl");
        vsctl.arg(format!("--db=unix:{}", self.path("db.sock").display()));
        vsctl.args(["set", "int", port, &format!("options:tx_pcap={}", file.display())]);
        assert!(vsctl.status().unwrap().success());
        file
    }

    /// What `look` sees once `is_done` says so, or when patience is at an end.
    pub fn until<T>(&self, look: impl Fn() -> T, is_done: impl Fn(&T) -> bool) -> T {
        let start = Instant::now();
        loop {
            let seen = look();
            if is_done(&seen) || start.elapsed() > PATIENCE {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks the daemon as `ovs-appctl` does: what it prints, or its error.
    pub fn appctl(&self, command: &str, args: &[&str]) -> Result<String, String> {
        let mut s = UnixStream::connect(self.path("ctl")).unwrap();
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = json!({"id": 0, "method": command, "params": args}).to_string();
        s.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 65536];
        loop {
            let n = s.read(&mut chunk).unwrap();
            answer.extend_from_slice(&chunk[..n]);
            if let Ok(v) = serde_json::from_slice::<Value>(&answer) {
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                return if v["error"].is_null() { Ok(text(&v["result"])) } else { Err(text(&v["error"])) };
            }
            assert!(n > 0, "daemon hung up on {command}");
        }
    }

    /// Runs `ovs-ofctl` on the bridge.
    pub fn ofctl(&self, args: &[&str]) -> bool {
        let bridge = format!("unix:{}", self.path("br0.mgmt").display());
        let mut c = self.tool("ovs-ofctl");
        c.args(["-O", "OpenFlow15", args[0]]).arg(bridge).args(&args[1..]);
        c.status().unwrap().success()
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        for c in &mut self.children {
            let _ = c.kill();
            let _ = c.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
