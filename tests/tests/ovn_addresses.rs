//! Addresses that Debian's OVN gives away through our daemon: DHCPv6, and router advertisements that the kernel's own
//! stack believes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use tests::ovn::Ovn;

/// A client of DHCPv6 (RFC 8415) that asks with solicit, then request; prints each answer's type and its options: the
/// address of an IA_NA (3), the first DNS server (23).
const DHCPV6: &str = r#"
import socket, struct, os
me = struct.pack('>HH', 3, 1) + bytes.fromhex('505400000001')
index = socket.if_nametoindex('eth0')
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('', 546))
s.settimeout(1)
option = lambda code, body: struct.pack('>HH', code, len(body)) + body
def options(data):
    while data:
        code, length = struct.unpack('>HH', data[:4])
        yield code, data[4:4 + length]
        data = data[4 + length:]
def ask(kind, more):
    number = os.urandom(3)
    body = option(1, me) + option(8, bytes(2)) + option(6, struct.pack('>H', 23)) + more
    for _ in range(20):
        s.sendto(bytes([kind]) + number + body, ('ff02::1:2', 547, 0, index))
        try:
            answer = s.recv(1500)
        except TimeoutError:
            continue
        if answer[1:4] == number:
            return answer[0], dict(options(answer[4:]))
    raise SystemExit('no answer')
def show(kind, got):
    for code, body in options(got.get(3, bytes(12))[12:]):
        if code == 5:
            print(kind, 'address', socket.inet_ntop(socket.AF_INET6, body[:16]))
    if 23 in got:
        print(kind, 'dns', socket.inet_ntop(socket.AF_INET6, got[23][:16]))
    assert got[1] == me
"#;

/// Flushes what the test has configured and lets the kernel do as a host does: a router is asked for when the link
/// comes up.
fn plug_in(ovn: &Ovn, machine: &str) {
    ovn.ip(machine, "link set eth0 down");
    ovn.ip(machine, "-6 addr flush dev eth0 scope global");
    ovn.run(machine, "sysctl -q -w net.ipv6.conf.eth0.accept_ra=2 net.ipv6.conf.eth0.accept_dad=0");
    ovn.ip(machine, "link set eth0 up");
}

/// One that keeps the state and one that only gives options.
fn dhcpv6(ovn: &Ovn) {
    let server = "server_id=00:00:00:00:ff:01";
    let options = |more: &[&str]| {
        let row = [&["create", "DHCP_Options", "cidr=\"fd01::/64\""], more].concat();
        ovn.nbctl_words(&row).trim().to_owned()
    };
    let server = format!("options:{server}");
    let names = "options:dns_server=\"fd01::53\"";
    let stateful = options(&[&*server, names]);
    ovn.nbctl(&format!("lsp-set-dhcpv6-options vm1 {stateful}"));
    ovn.sync();
    let solicit = format!(
        "{DHCPV6}\nkind,got=ask(1,option(3,b'onea'+bytes(8)))\nshow(kind,got)\n\
         kind,got=ask(3,option(2,got[2])+option(3,b'onea'+bytes(8)))\nshow(kind,got)"
    );
    let said = ovn.python("vm1", &solicit);
    for line in ["2 address fd01::11", "2 dns fd01::53", "7 address fd01::11", "7 dns fd01::53"] {
        assert!(said.lines().any(|l| l == line), "{line}: {said}");
    }
    // Without state: an information request is answered, a solicit gets no address.
    let stateless = options(&[&*server, "options:dhcpv6_stateless=true", names]);
    ovn.nbctl(&format!("lsp-set-dhcpv6-options vm1 {stateless}"));
    ovn.sync();
    let said = ovn.python("vm1", &format!("{DHCPV6}\nkind,got=ask(11,b'')\nshow(kind,got)"));
    assert_eq!(said, "7 dns fd01::53");
}

/// What the router says makes the kernel give itself an address, a route, an MTU and a name server.
fn router_advertisements(ovn: &mut Ovn) {
    ovn.nbctl(
        "set Logical_Router_Port lr0-ls0 ipv6_ra_configs:address_mode=slaac ipv6_ra_configs:mtu=1400 \
         ipv6_ra_configs:send_periodic=true ipv6_ra_configs:min_interval=3 ipv6_ra_configs:max_interval=4",
    );
    ovn.nbctl_words(&["set", "Logical_Router_Port", "lr0-ls0", "ipv6_ra_configs:rdnss=\"fd01::53\""]);
    ovn.sync();
    let heard = ovn.watch("vm2", "icmp6[0]==134");
    plug_in(ovn, "vm1");
    let own = "fd01::5254:ff:fe00:1";
    ovn.until("an address", || ovn.ip("vm1", "-6 addr show dev eth0 scope global").contains(own));
    let route = ovn.ip("vm1", "-6 route show default");
    assert!(route.contains("via fe80::200:ff:fe00:ff01 dev eth0 proto ra"), "{route}");
    assert_eq!(ovn.run("vm1", "cat /proc/sys/net/ipv6/conf/eth0/mtu").trim(), "1400");
    // The address is nobody's that OVN was told of: the router finds it by asking.
    ovn.ping("vm1", "fd02::13");
    // Nobody asked on vm2: it hears the router from time to time all the same.
    ovn.until("advertisements come by themselves", || heard.count("router advertisement") >= 2);
    // Where DHCPv6 is to be asked for addresses, the advertisement says so and the kernel makes none up.
    ovn.nbctl("set Logical_Router_Port lr0-ls0 ipv6_ra_configs:address_mode=dhcpv6_stateful");
    ovn.sync();
    let verbose = ovn.watch("vm1", "-v icmp6[0]==134");
    plug_in(ovn, "vm1");
    ovn.until("managed", || verbose.count("Flags [managed]") > 0);
    let addresses = ovn.ip("vm1", "-6 addr show dev eth0 scope global");
    assert!(!addresses.contains(own), "{addresses}");
}

#[test]
fn addresses_of_ipv6() {
    let Some(mut ovn) = Ovn::new(1, "geneve") else { return };
    ovn.two_switches(&[1, 1, 1, 1]);
    router_advertisements(&mut ovn);
    dhcpv6(&ovn);
}
