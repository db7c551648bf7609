//! The daemon as a process, with Debian's ovsdb-server and ovs-appctl: start, stop, monitor, texts.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that fails

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DAEMON: &str = env!("CARGO_BIN_EXE_ovs-vswitchd");

/// A run directory of its own with an ovsdb-server in it.
struct Sandbox {
    dir: TempDir,
    database: std::process::Child,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("conf.db");
        let mut create = Command::new("ovsdb-tool");
        create.arg("create").arg(&file).arg("/usr/share/openvswitch/vswitch.ovsschema");
        assert!(create.status().unwrap().success());
        let socket = dir.path().join("db.sock");
        let database = Command::new("ovsdb-server")
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg("--unixctl=none")
            .arg("-vconsole:off")
            .arg("-vsyslog:off")
            .arg(&file)
            .spawn()
            .unwrap();
        let sandbox = Sandbox { dir, database };
        sandbox.until("the database listens", || socket.exists());
        sandbox
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
            command.env(variable, self.dir.path());
        }
        command
    }

    /// Starts the daemon in the background; it is up when this returns.
    fn start(&self, options: &[&str]) -> Output {
        let mut command = self.command(DAEMON);
        command.args([
            "--detach",
            "--no-chdir",
            "--pidfile",
            "-vsyslog:off",
            "-vconsole:off",
            "--disable-system",
        ]);
        command.args(["--log-file", "--enable-dummy=override"]).args(options).output().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pid(&self) -> i32 {
        fs::read_to_string(self.path("ovs-vswitchd.pid")).unwrap().trim().parse().unwrap()
    }

    fn appctl(&self, args: &[&str]) -> Output {
        let socket = self.path(&format!("ovs-vswitchd.{}.ctl", self.pid()));
        self.command("ovs-appctl").args(["-T", "10", "-t"]).arg(socket).args(args).output().unwrap()
    }

    fn kill(&self, signal: &str, pid: i32) {
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success()
        );
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(15);
        while !done() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.path("ovs-vswitchd.pid").exists() {
            self.appctl(&["exit"]);
        }
        let _ = self.database.kill();
        let _ = self.database.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn detach_and_double_start() {
    let s = Sandbox::new();
    let first = s.start(&[]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let pid = s.pid();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "ovs-vswitchd\n", "pid_comm_check");
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap(), Path::new("/dev/null"));
    }
    let second = s.start(&[]);
    assert_eq!(second.status.code(), Some(1));
    let expected = format!(
        "ovs-vswitchd: {}: already running as pid {pid}, aborting\n",
        s.path("ovs-vswitchd.pid").display()
    );
    assert_eq!(text(&second.stderr), expected);
    assert_eq!(s.pid(), pid);
}

#[test]
fn commands_of_the_process() {
    let s = Sandbox::new();
    assert!(s.start(&[]).status.success());
    let version = text(&s.appctl(&["version"]).stdout);
    assert!(version.starts_with("ovs-vswitchd (Open vSwitch) 3.1.0\novs-rs "), "{version}");
    let list = text(&s.appctl(&["list-commands"]).stdout);
    for line in ["  exit                    [--cleanup]\n", "  time/warp               [large_msecs] msecs\n"]
    {
        assert!(list.contains(line), "{list}");
    }
    assert_eq!(text(&s.appctl(&["time/stop"]).stdout), "");
    assert_eq!(text(&s.appctl(&["time/warp", "100", "10"]).stdout), "warped\n");
    assert!(text(&s.appctl(&["time/warp", "x"]).stderr).starts_with("invalid MSECS\n"));
    assert!(
        text(&s.appctl(&["coverage/show"]).stdout)
            .starts_with("Event coverage, avg rate over last: 5 seconds")
    );
    assert_eq!(text(&s.appctl(&["coverage/read-counter", "afxdp_fq_full"]).stdout), "0\n");
    let log = s.path("ovs-vswitchd.log");
    fs::rename(&log, s.path("old.log")).unwrap();
    assert!(s.appctl(&["vlog/reopen"]).status.success());
    assert!(
        fs::read_to_string(&log)
            .unwrap()
            .ends_with(&format!("|vlog|INFO|opened log file {}\n", log.display()))
    );
}

#[test]
fn ends_leave_nothing_behind() {
    let s = Sandbox::new();
    let files = || {
        let names =
            fs::read_dir(s.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with(".ctl") || n.contains(".pid")).collect::<Vec<_>>()
    };
    assert!(s.start(&[]).status.success());
    let pid = s.pid();
    assert!(s.appctl(&["exit"]).status.success());
    s.until("exit ends it", || !running(pid));
    assert_eq!(files(), Vec::<String>::new());

    let daemon = s
        .command(DAEMON)
        .args(["--pidfile", "-vsyslog:off", "-vPATTERN:console:%p|%m"])
        .stderr(Stdio::piped())
        .spawn();
    let daemon = daemon.unwrap();
    s.until("it is up", || files().len() == 2);
    s.kill("TERM", daemon.id() as i32);
    let output = daemon.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(15), "dies of the signal");
    assert!(
        text(&output.stderr).ends_with("WARN|terminating with signal 15 (Terminated)\n"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(files(), Vec::<String>::new());
}

#[test]
fn monitor_restarts_a_crashed_daemon() {
    let s = Sandbox::new();
    assert!(s.start(&["--monitor"]).status.success());
    let first = s.pid();
    let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let monitor: i32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    let title = || fs::read_to_string(format!("/proc/{monitor}/cmdline")).unwrap();
    // The monitor sets its title just after it has let the parent go.
    let healthy = format!("ovs-vswitchd: monitoring pid {first} (healthy)\0");
    s.until("the monitor's title", || title().starts_with(&healthy));
    s.kill("ABRT", first);
    s.until("a new daemon", || s.pid() != first && s.appctl(&["version"]).status.success());
    s.until("the title says so", || {
        title().contains(&format!("(1 crashes: pid {first} died, killed (Aborted"))
    });
    let log = fs::read_to_string(s.path("ovs-vswitchd.log")).unwrap();
    assert!(
        log.contains(&format!("|daemon_unix(monitor)|ERR|1 crashes: pid {first} died, killed (Aborted")),
        "{log}"
    );
    s.appctl(&["exit"]);
    s.until("the monitor ends too", || !running(monitor));
}

#[test]
fn a_child_that_fails_fails_the_parent() {
    let s = Sandbox::new();
    for options in [&["--unixctl=/nonexistent/x"][..], &["--monitor", "--unixctl=/nonexistent/x"]] {
        let output = s.start(options);
        assert_eq!(output.status.code(), Some(1));
        let expected =
            "ovs-vswitchd: /nonexistent/x: could not initialize control socket (No such file or directory)\n";
        assert_eq!(text(&output.stderr), expected);
        assert!(!s.path("ovs-vswitchd.pid").exists());
    }
}
