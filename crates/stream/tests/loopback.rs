//! Both ends of every kind of stream.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stream::{ConnectOptions, Listener, Stream, Target, Tls, TlsConfig, connect, connect_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(20);

fn target(text: &str) -> Target {
    Target::parse(text, 6653).unwrap()
}

/// Says something each way.
async fn talk(mut a: Stream, mut b: Stream) {
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut a, &mut b];
        let [x, y] = ends;
        let (x, y) = if (from, to) == (0, 1) { (x, y) } else { (y, x) };
        x.write_all(b"hello").await.unwrap();
        x.flush().await.unwrap();
        let mut got = [0; 5];
        tokio::time::timeout(PATIENCE, y.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(&got, b"hello");
    }
}

#[tokio::test]
async fn unix_replaces_a_stale_file_and_removes_its_own() {
    let dir = tempfile::tempdir().unwrap();
    // Too long for a socket address.
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    for path in [dir.path().join("s"), deep.join("s")] {
        std::fs::write(&path, "stale").unwrap();
        let mut listener = Listener::bind(&Target::Punix(path.clone()), &Tls::default()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o707, 0o700, "group by umask, others never");
        let client = connect(&Target::Unix(path.clone()), &Tls::default()).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!((server.name(), client.name()), ("unix#1", &*format!("unix:{}", path.display())));
        talk(client, server).await;
        drop(listener);
        assert!(!path.exists());
    }
    let kept = dir.path().join("kept");
    let mut listener = Listener::bind(&Target::Punix(kept.clone()), &Tls::default()).unwrap();
    listener.keep_file();
    drop(listener);
    assert!(kept.exists());
}

#[tokio::test]
async fn tcp() {
    for host in ["127.0.0.1", "[::1]"] {
        let passive = target(&format!("ptcp:0:{host}"));
        let mut listener = match Listener::bind_with(&passive, &Tls::default(), Some(48)) {
            Ok(listener) => listener,
            Err(e) => {
                println!("skipped {host}: {e}");
                continue;
            }
        };
        let port = listener.local_addr().unwrap().port();
        let active = target(&format!("tcp:{host}:{port}"));
        let options = ConnectOptions { dscp: Some(48) };
        let client = connect_with(&active, &Tls::default(), &options).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!(client.name(), active.to_string());
        assert_eq!(server.name(), format!("tcp:{}", client.local_addr().unwrap()));
        assert_eq!(client.peer_addr(), server.local_addr());
        talk(client, server).await;
        assert!(connect_with(&active, &Tls::default(), &ConnectOptions { dscp: Some(64) }).await.is_err());
    }
    let gone = connect(&target("tcp:127.0.0.1:1"), &Tls::default()).await.unwrap_err();
    assert_eq!(stream::error_text(&gone), "Connection refused");
    assert!(connect(&target("ptcp:0"), &Tls::default()).await.is_err());
    assert!(Listener::bind(&target("tcp:127.0.0.1:1"), &Tls::default()).is_err());
}

#[tokio::test]
async fn a_socket_can_be_given_away() {
    let mut listener = Listener::bind(&target("ptcp:0:127.0.0.1"), &Tls::default()).unwrap();
    let active = target(&format!("tcp:{}", listener.local_addr().unwrap()));
    let client = connect(&active, &Tls::default()).await.unwrap();
    let server = listener.accept().await.unwrap();
    let taken = std::net::TcpStream::from(client.into_fd().unwrap());
    taken.set_nonblocking(true).unwrap();
    let taken = Stream::from_tcp(tokio::net::TcpStream::from_std(taken).unwrap(), "tcp:taken");
    talk(taken, server).await;
}

/// Makes a CA and a certificate for either side, with openssl.
fn pki(dir: &Path) -> impl Fn(&str) -> TlsConfig + use<> {
    let openssl = |args: &[&str]| {
        let out = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=ca",
        "-days",
        "2",
    ]);
    std::fs::write(dir.join("ext"), "basicConstraints=CA:false\n").unwrap();
    for (name, kind) in [("server", "rsa:2048"), ("client", "rsa:2048")] {
        let file = |suffix: &str| format!("{name}.{suffix}");
        openssl(&[
            "req",
            "-newkey",
            kind,
            "-nodes",
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
            "-subj",
            &format!("/CN={name} id:1234"),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "ext",
            "-days",
            "2",
            "-out",
            &file("pem"),
        ]);
    }
    let dir = dir.to_owned();
    move |name| TlsConfig {
        private_key: Some(dir.join(format!("{name}.key"))),
        certificate: Some(dir.join(format!("{name}.pem"))),
        ca_cert: Some(dir.join("ca.pem")),
        ..Default::default()
    }
}

fn have_openssl() -> bool {
    let have = Command::new("openssl").arg("version").output().is_ok();
    if !have {
        println!("skipped: openssl is missing");
    }
    have
}

#[tokio::test]
async fn tls_both_ways() {
    if !have_openssl() {
        return;
    }
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (pki(dir.path()), pki(other.path()));
    let server_tls = Tls::new(ours("server"));
    let mut listener = Listener::bind(&target("pssl:0:127.0.0.1"), &server_tls).unwrap();
    let address = listener.local_addr().unwrap();
    let active = target(&format!("ssl:{address}"));

    // A peer that says nothing holds up no other.
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let client_tls = Tls::new(ours("client"));
    let (client, server) = tokio::join!(connect(&active, &client_tls), listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap());
    assert!(server.name().starts_with("ssl:127.0.0.1:"));
    assert!(client.is_tls() && client.local_addr().is_some());
    talk(client, server).await;

    // A client of another CA is refused; so is a server of another.
    let mut stranger = theirs("client");
    assert!(connect_while_accepting(&active, stranger.clone(), &mut listener).await.is_err());
    stranger.ca_cert = ours("client").ca_cert;
    assert!(connect_while_accepting(&active, stranger, &mut listener).await.is_err());
    // Unless nobody is to be checked.
    let careless = TlsConfig { ca_cert: Some("none".into()), ..ours("client") };
    assert!(connect_while_accepting(&active, careless, &mut listener).await.is_ok());

    // Without its CA in the chain there is nothing to learn from the server.
    let learnt = dir.path().join("learnt.pem");
    let learner = TlsConfig { ca_cert: Some(learnt.clone()), bootstrap_ca_cert: true, ..ours("client") };
    assert!(connect_while_accepting(&active, learner.clone(), &mut listener).await.is_err());
    assert!(!learnt.exists());
    server_tls.set(TlsConfig { peer_ca_cert: Some(dir.path().join("ca.pem")), ..ours("server") });
    assert!(connect_while_accepting(&active, learner.clone(), &mut listener).await.is_err(), "learns first");
    assert_eq!(std::fs::metadata(&learnt).unwrap().permissions().mode() & 0o777, 0o444);
    assert!(connect_while_accepting(&active, learner, &mut listener).await.is_ok());
}

/// Connects and waits until the server has said something or hung up: with TLS 1.3 a client hears of its
/// refusal only then.
async fn connect_while_accepting(
    target: &Target,
    config: TlsConfig,
    listener: &mut Listener,
) -> std::io::Result<()> {
    let serve = async {
        loop {
            let mut peer = listener.accept().await.unwrap();
            let _ = peer.write_all(b"x").await;
            let _ = peer.flush().await;
        }
    };
    let call = async {
        let mut stream = connect(target, &Tls::new(config)).await?;
        stream.read_exact(&mut [0]).await.map(drop)
    };
    tokio::select! {
        result = call => result,
        () = serve => Ok(()),
        () = tokio::time::sleep(PATIENCE) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// The certificates that an Open vSwitch installation makes for itself.
#[tokio::test]
async fn tls_with_ovs_pki() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let ovs_pki = |args: &[&str]| {
        let mut command = Command::new("ovs-pki");
        command.arg(format!("--dir={}", at("pki").display())).arg(format!("--log={}", at("log").display()));
        command.arg("-u").args(args).current_dir(dir.path()).output()
    };
    if !have_openssl() || ovs_pki(&["--help"]).is_err() {
        println!("skipped: ovs-pki is missing");
        return;
    }
    for args in [&["init"][..], &["req+sign", "ctl", "controller"], &["req+sign", "sw", "switch"]] {
        let out = ovs_pki(args).unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let files = |name: &str, peer: &str| TlsConfig {
        private_key: Some(at(&format!("{name}-privkey.pem"))),
        certificate: Some(at(&format!("{name}-cert.pem"))),
        ca_cert: Some(at("pki").join(peer).join("cacert.pem")),
        ..Default::default()
    };
    let controller = Tls::new(files("ctl", "switchca"));
    let mut listener = Listener::bind(&target("pssl:0:127.0.0.1"), &controller).unwrap();
    let active = target(&format!("ssl:{}", listener.local_addr().unwrap()));
    connect_while_accepting(&active, files("sw", "controllerca"), &mut listener).await.unwrap();
    assert!(connect_while_accepting(&active, files("sw", "switchca"), &mut listener).await.is_err());
}
