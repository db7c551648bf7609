//! Stateful pipelines between hosts in network namespaces: a firewall, translation, errors about translated
//! packets, FTP through a translating helper, fragments. Needs root; is skipped with the reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use tests::net::Lan;

/// `h1` may talk to `h2` and hears the answers; it is seen as 10.0.0.100 if `nat`.
fn stateful(lan: &Lan, nat: bool) {
    let (known, new) = if nat { (",nat", ",alg=ftp,nat(src=10.0.0.100)") } else { ("", "") };
    let flows = format!(
        "table=0,priority=100,arp,actions=NORMAL\n\
         table=0,ip,actions=ct(table=1,zone=5{known})\n\
         table=0,icmp6,actions=NORMAL\n\
         table=1,in_port=1,ip,tcp,tp_dst=21,ct_state=+trk+new,actions=ct(commit,zone=5{new}),2\n\
         table=1,priority=1,in_port=1,ip,ct_state=+trk+new,actions=ct(commit,zone=5{}),2\n\
         table=1,in_port=1,ip,ct_state=+trk+est,actions=2\n\
         table=1,in_port=1,ip,ct_state=+trk+rel,actions=2\n\
         table=1,in_port=2,ip,ct_state=+trk+est,actions=1\n\
         table=1,in_port=2,ip,ct_state=+trk+rel-new,actions=1\n\
         table=1,in_port=2,ip,ct_state=+trk+rel+new,actions=ct(commit,zone=5{known}),1\n",
        new.replace(",alg=ftp", "")
    );
    let file = lan.sandbox.path("flows");
    std::fs::write(&file, flows).unwrap();
    lan.sandbox.ofctl(&["-O", "OpenFlow14", "replace-flows", "br0", file.to_str().unwrap()]);
    if nat {
        let mac = lan.run("h1", "cat /sys/class/net/eth0/address");
        lan.ip("h2", &format!("neigh add 10.0.0.100 lladdr {} dev eth0", mac.trim()));
    }
}

/// Runs a Python program in a namespace.
fn python(lan: &Lan, namespace: &str, name: &str, program: &str) -> String {
    let file = lan.sandbox.path(name);
    std::fs::write(&file, program).unwrap();
    lan.run(namespace, &format!("python3 {}", file.display()))
}

#[test]
fn a_firewall_lets_answers_in_and_nothing_else() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    stateful(&lan, false);
    lan.ping("h1", "10.0.0.2", 20);
    assert!(!lan.reaches("h2", "10.0.0.1"));
    lan.serve_iperf("h2");
    assert!(lan.iperf("h1", "10.0.0.2", "-t 1") > 20e6);
    assert!(lan.iperf("h1", "10.0.0.2", "-t 1 -R") > 20e6);
    let connections = lan.sandbox.appctl(&["dpctl/dump-conntrack", "zone=5"]);
    assert!(connections.contains("tcp,orig=(src=10.0.0.1,dst=10.0.0.2"), "{connections}");
    assert!(connections.contains("icmp,orig=(src=10.0.0.1,dst=10.0.0.2"), "{connections}");
    // Fragments are put together for the tracker, and arrive.
    lan.run("h1", "ping -n -c 3 -s 4000 -W 5 10.0.0.2");
    let status = lan.sandbox.appctl(&["dpctl/ipf-get-status"]);
    let number = |name: &str| -> u32 {
        let line = status.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert!(number("v4 frags accepted:") >= 18, "{status}");
    assert_eq!(number("v4 frags accepted:"), number("v4 frags completed:"), "{status}");
    lan.sandbox.ofctl(&["ct-flush-zone", "br0", "5"]);
    let left = lan.sandbox.appctl(&["dpctl/dump-conntrack", "zone=5"]);
    assert!(!left.contains("icmp"), "{left}");
}

/// Listens, connects back where it is told (and says what it was told), and tells what it was sent.
const FTP_SERVER: &str = "
import socket, re
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('10.0.0.2', 21)); s.listen()
c, peer = s.accept()
c.sendall(b'220 ready\\r\\n')
line = c.recv(200).decode()
n = [int(x) for x in re.findall(r'\\d+', line)]
address = '%d.%d.%d.%d' % tuple(n[:4])
c.sendall(b'200 ok\\r\\n')
d = socket.create_connection((address, n[4] * 256 + n[5]), timeout=5)
d.sendall(('%s %s' % (peer[0], address)).encode()); d.close()
c.recv(200)
c.sendall(b'221 bye\\r\\n'); c.close()
";

const FTP_CLIENT: &str = "
import socket, time
for _ in range(100):
    try:
        c = socket.create_connection(('10.0.0.2', 21), timeout=5); break
    except OSError:
        time.sleep(0.05)
assert c.recv(200) == b'220 ready\\r\\n'
l = socket.socket(); l.bind(('10.0.0.1', 0)); l.listen(); l.settimeout(5)
port = l.getsockname()[1]
c.sendall(b'PORT 10,0,0,1,%d,%d\\r\\n' % (port >> 8, port & 255))
assert c.recv(200) == b'200 ok\\r\\n'
d, _ = l.accept()
print(d.recv(200).decode())
c.sendall(b'QUIT\\r\\n')
assert c.recv(200) == b'221 bye\\r\\n'
";

const REFUSED: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.connect(('10.0.0.2', 999)); s.send(b'x')
try:
    s.recv(10)
except ConnectionRefusedError:
    print('refused')
";

#[test]
fn a_translated_host_gets_answers_errors_and_files() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    stateful(&lan, true);
    lan.ping("h1", "10.0.0.2", 20);
    lan.serve_iperf("h2");
    assert!(lan.iperf("h1", "10.0.0.2", "-t 1") > 20e6);
    let connections = lan.sandbox.appctl(&["dpctl/dump-conntrack", "zone=5"]);
    assert!(connections.contains("reply=(src=10.0.0.2,dst=10.0.0.100,sport=5201"), "{connections}");
    assert_eq!(python(&lan, "h1", "refused.py", REFUSED).trim(), "refused");
    let server = lan.sandbox.path("server.py");
    std::fs::write(&server, FTP_SERVER).unwrap();
    lan.start("h2", &format!("python3 {}", server.display()));
    assert_eq!(python(&lan, "h1", "client.py", FTP_CLIENT).trim(), "10.0.0.100 10.0.0.100");
    let connections = lan.sandbox.appctl(&["dpctl/dump-conntrack", "-m", "zone=5"]);
    assert!(connections.contains("parent=(src=10.0.0.1,dst=10.0.0.2"), "{connections}");
}
