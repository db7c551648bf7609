use super::*;
use crate::layer::Layer;
use crate::rate_limit::RateLimit;
use std::os::unix::net::UnixDatagram;
use tracing_subscriber::layer::SubscriberExt;

/// A log that writes only to a file, with messages and modules alone.
fn to_file(dir: &Path) -> (&'static Vlog, PathBuf) {
    let vlog: &'static Vlog = Box::leak(Box::default());
    set_thread_name("");
    vlog.set("console:off").unwrap();
    vlog.set("syslog:off").unwrap();
    vlog.set("pattern:file:%c%T|%p|%m").unwrap();
    let path = dir.join("test.log");
    vlog.set_log_file(&path).unwrap();
    (vlog, path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn tracing_events_follow_levels() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, path) = to_file(dir.path());
    let run = || {
        tracing::debug!(target: "dpif", "hidden");
        tracing::warn!(target: "dpif", port = 3, name = "p1", "shown {}", 1);
        tracing::info!(target: "no::module", "fallback");
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Layer(vlog)), || {
        run();
        vlog.set("dpif:dbg").unwrap();
        vlog.set("vswitchd:warn").unwrap();
        run();
    });
    let opened = format!("vlog|INFO|opened log file {}\n", path.display());
    let expected = "dpif|WARN|shown 1 port=3 name=p1\nno::module|INFO|fallback\n\
                    dpif|DBG|hidden\ndpif|WARN|shown 1 port=3 name=p1\n";
    assert_eq!(read(&path), opened + expected);
}

#[test]
fn rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, path) = to_file(dir.path());
    let old = dir.path().join("old");
    vlog.reopen_log_file().unwrap();
    std::fs::rename(&path, &old).unwrap();
    vlog.log("bridge", Level::Err, "one");
    vlog.reopen_log_file().unwrap();
    vlog.log("bridge", Level::Err, "two");
    vlog.close_log_file();
    assert!(!vlog.enabled("bridge", Level::Emer));
    vlog.log("bridge", Level::Err, "lost");
    vlog.reopen_log_file().unwrap();
    let opened = format!("vlog|INFO|opened log file {}\n", path.display());
    assert_eq!(read(&old), format!("{opened}bridge|ERR|one\nvlog|INFO|closing log file\n"));
    assert_eq!(read(&path), format!("{opened}bridge|ERR|two\n{opened}"));
}

#[test]
fn files_that_cannot_be() {
    let vlog = Vlog::new();
    vlog.set("off").unwrap();
    assert_eq!(vlog.reopen_log_file().unwrap_err().to_string(), "Logging to file not configured");
    let error = vlog.set_log_file(Path::new("/nonexistent/x")).unwrap_err();
    assert_eq!(error.to_string(), "No such file or directory");
}

#[test]
fn dropped_messages_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, path) = to_file(dir.path());
    set_thread_name("handler1");
    let clock = Clock::new();
    clock.stop();
    vlog.set_clock(clock.clone());
    let limit = RateLimit::new(1, 2);
    let shout = || {
        if vlog.admit("ofproto", Level::Warn, &limit) {
            vlog.log("ofproto", Level::Warn, "ouch");
        }
    };
    (0..5).for_each(|_| shout());
    clock.warp(std::time::Duration::from_secs(60));
    shout();
    let text = read(&path);
    let expected = "ofproto(handler1)|WARN|ouch\nofproto(handler1)|WARN|ouch\n\
        ofproto(handler1)|WARN|Dropped 3 log messages in last 60 seconds (most recently, 60 seconds ago) due to excessive rate\n\
        ofproto(handler1)|WARN|ouch\n";
    assert_eq!(text.split_once('\n').unwrap().1, expected);
}

#[test]
fn syslog_gets_each_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let vlog = Vlog::new();
    vlog.set("console:off").unwrap();
    vlog.set_syslog_method(&format!("unix:{}", path.display())).unwrap();
    vlog.set_syslog_method("null").unwrap();
    vlog.set("FACILITY:local1").unwrap();
    vlog.set("pattern:syslog:%m").unwrap();
    vlog.set_program("prog");
    vlog.log("dpif", Level::Err, "a\n\nb");
    let receive = || {
        let mut buffer = [0; 200];
        let n = daemon.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert_eq!((receive(), receive()), ("<139>a".into(), "<139>b".into()));
    vlog.set_syslog_target(&target.local_addr().unwrap().to_string());
    vlog.warn_of_deprecated_options();
    assert!(receive().ends_with("use --syslog-method instead"));
    let mut buffer = [0; 200];
    let n = target.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
    let (start, end) =
        (text.split_once('1').unwrap().0, format!(" prog {} vlog - \u{feff}--sys", std::process::id()));
    assert!(start == "<" && text.contains(&end), "{text}");
}
