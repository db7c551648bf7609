//! A sandbox for whole-daemon tests: an ovsdb-server and our daemon in a run directory of their own, and Debian's
//! tools to talk to them. Everything that was started ends with the sandbox.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

pub mod cloud;
pub mod differential;
pub mod dpdk;
pub mod guest;
pub mod net;
pub mod neutron;
pub mod ovn;
pub mod probes;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon's binary: `OVS_RS_VSWITCHD`, or built if need be.
pub fn daemon_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = std::env::var_os("OVS_RS_VSWITCHD") {
            return given.into();
        }
        // target/debug/deps/this-test
        let exe = std::env::current_exe().expect("this test's path");
        let profile_dir = exe.parent().and_then(Path::parent).expect("target/debug").to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-q", "-p", "vswitchd", "--bin", "ovs-vswitchd"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        build.arg("--target-dir").arg(profile_dir.parent().expect("target"));
        if profile_dir.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo").success(), "the daemon does not build");
        profile_dir.join("ovs-vswitchd")
    })
}

/// An ovsdb-server and a daemon.
pub struct Sandbox {
    dir: TempDir,
    database: Option<Child>,
    daemon: Option<Child>,
    binary: PathBuf,
    options: Vec<String>,
    /// The daemon's network namespace, if it is to have one.
    namespace: Option<String>,
}

impl Sandbox {
    /// Starts both; ports are dummies.
    pub fn new() -> Self {
        Self::with_options(&["--enable-dummy=override", "--disable-system"])
    }

    /// Starts both, the daemon with these options.
    pub fn with_options(options: &[&str]) -> Self {
        Self::start(daemon_binary(), options, None)
    }

    /// As [`Sandbox::with_options`], the daemon in this network namespace.
    pub fn in_namespace(namespace: &str, options: &[&str]) -> Self {
        Self::start(daemon_binary(), options, Some(namespace.to_owned()))
    }

    /// Starts a database and this daemon.
    pub fn with_daemon(binary: &Path, options: &[&str]) -> Self {
        Self::start(binary, options, None)
    }

    /// As both: this daemon in this network namespace.
    pub fn with_daemon_in(binary: &Path, namespace: &str, options: &[&str]) -> Self {
        Self::start(binary, options, Some(namespace.to_owned()))
    }

    pub(crate) fn start(binary: &Path, options: &[&str], namespace: Option<String>) -> Self {
        let mut sandbox = Sandbox {
            dir: tempfile::tempdir().unwrap(),
            database: None,
            daemon: None,
            binary: binary.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            namespace,
        };
        let file = sandbox.path("conf.db");
        let mut create = sandbox.command("ovsdb-tool");
        create.arg("create").arg(file).arg(SCHEMA);
        assert!(create.status().unwrap().success());
        sandbox.start_database();
        sandbox.vsctl(&["--no-wait", "init"]);
        sandbox.start_daemon();
        sandbox
    }

    /// A file in the run directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The run directory.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// A command that finds this sandbox's sockets.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.dir.path());
        }
        command
    }

    pub fn start_database(&mut self) {
        let socket = self.path("db.sock");
        let _ = fs::remove_file(&socket);
        let mut command = self.command("ovsdb-server");
        command.arg(format!("--remote=punix:{}", socket.display()));
        command.args(["--unixctl=none", "-vconsole:off", "-vsyslog:off", "conf.db"]);
        self.database = Some(command.spawn().unwrap());
        self.until("the database listens", || UnixStream::connect(&socket).is_ok());
    }

    pub fn stop_database(&mut self) {
        if let Some(mut database) = self.database.take() {
            let _ = database.kill();
            let _ = database.wait();
        }
    }

    pub fn start_daemon(&mut self) {
        let mut command = match &self.namespace {
            None => self.command(&self.binary),
            Some(namespace) => {
                // Becomes the daemon: the process is the same.
                let mut ip = self.command("ip");
                ip.args(["netns", "exec", namespace]).arg(&self.binary);
                ip
            }
        };
        command.args(["-vconsole:off", "-vsyslog:off", "--pidfile", "--log-file"]).args(&self.options);
        self.daemon = Some(command.spawn().unwrap());
        let ready = || self.appctl_output(&["version"]).status.success();
        self.until("the daemon answers", || self.path("ovs-vswitchd.pid").exists() && ready());
    }

    /// Ends the daemon as if the power failed.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Asks the daemon to exit, and waits.
    pub fn stop_daemon(&mut self, cleanup: bool) {
        let args: &[&str] = if cleanup { &["exit", "--cleanup"] } else { &["exit"] };
        self.appctl(args);
        let status = self.daemon.take().expect("a daemon").wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").id()
    }

    /// What a tool prints; the test fails if the tool does.
    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{program} {args:?}: {}\n{out}{err}\n{}", output.status, self.log());
        out
    }

    pub fn vsctl(&self, args: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.path("db.sock").display());
        self.run("ovs-vsctl", &[&["-t", "20", &database], args].concat())
    }

    pub fn ofctl(&self, args: &[&str]) -> String {
        self.run("ovs-ofctl", args)
    }

    pub fn appctl(&self, args: &[&str]) -> String {
        self.run("ovs-appctl", args)
    }

    /// As [`Sandbox::appctl`], without judging.
    pub fn appctl_output(&self, args: &[&str]) -> Output {
        self.command("ovs-appctl").args(args).output().unwrap()
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("ovs-vswitchd.log")).unwrap_or_default()
    }

    /// One column of a row, without quotes.
    pub fn get(&self, table: &str, row: &str, column: &str) -> String {
        self.vsctl(&["get", table, row, column]).trim().trim_matches('"').to_owned()
    }

    /// One key of a column of an interface, without quotes; empty while it is not there, as a port that no guest has
    /// connected to lists neither all keys of its status nor all statistics.
    pub fn key(&self, interface: &str, column: &str, key: &str) -> String {
        let mut get = self.command("ovs-vsctl");
        let output =
            get.args(["get", "Interface", interface]).arg(format!("{column}:{key}")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().trim_matches('"').to_owned()
    }

    /// What an interface has counted; 0 of what it does not list.
    pub fn statistic(&self, interface: &str, name: &str) -> u64 {
        self.key(interface, "statistics", name).parse().unwrap_or(0)
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends what commands left in the background with a pidfile in the run directory.
    pub fn end_background(&self) {
        for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "pid") || path.ends_with("ovs-vswitchd.pid") {
                continue;
            }
            let pid = fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
            if let Some(pid) = pid {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
            }
        }
    }

    /// Open descriptors and threads of the daemon.
    pub fn resources(&self) -> (usize, usize) {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", self.daemon_pid())).map(|d| d.count()).unwrap_or(0)
        };
        (count("fd"), count("task"))
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill_daemon();
        self.stop_database();
    }
}
