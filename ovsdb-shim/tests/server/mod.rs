//! A real ovsdb-server with its own database, for tests.

#![allow(dead_code)] // each test binary uses its part

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The installed schema; `None` (with a note) when Open vSwitch is not installed.
pub fn installed_schema() -> Option<Value> {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !runs("ovsdb-server") || !runs("ovsdb-tool") || !Path::new(SCHEMA).exists() {
        println!("skipped: ovsdb-server, ovsdb-tool or {SCHEMA} is missing");
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap())
}

pub struct Server {
    pub dir: tempfile::TempDir,
    pub args: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Creates a database of this schema and serves it on `db.sock`, with further arguments.
    pub fn start(schema: &Value, args: &[String]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("schema");
        std::fs::write(&file, schema.to_string()).unwrap();
        let db = dir.path().join("conf.db");
        let made = Command::new("ovsdb-tool").arg("create").args([&db, &file]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = Server { dir, args: args.to_vec(), child: None };
        server.run();
        server.vsctl(&["init"]);
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("db.sock")
    }

    pub fn run(&mut self) {
        let dir = self.dir.path();
        let child = Command::new("ovsdb-server")
            .arg(dir.join("conf.db"))
            .arg(format!("--remote=punix:{}", self.socket().display()))
            .arg(format!("--unixctl={}", dir.join("ctl").display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .args(&self.args)
            .env("OVS_RUNDIR", dir)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "ovsdb-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn vsctl(&self, args: &[&str]) -> String {
        let output = Command::new("ovs-vsctl")
            .arg(format!("--db=unix:{}", self.socket().display()))
            .args(["--no-wait", "--timeout=20"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
