//! Controllers, settings of ports and bridges, and the end of the daemon, with kernel devices. Needs root; is skipped
//! with the reason otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use tests::net::{Lan, SWITCH};

/// Starts a controller in the switch's namespace. Debian's crashes over packets of OpenFlow 1.5.
fn controller(lan: &mut Lan, options: &str) -> usize {
    lan.start(SWITCH, &format!("ovs-testcontroller --unixctl=none -O OpenFlow10,OpenFlow13 {options}"))
}

fn is_connected(lan: &Lan) -> bool {
    lan.sandbox.vsctl(&["--columns=is_connected", "--bare", "list", "controller"]).trim() == "true"
}

#[test]
fn a_secure_bridge_forwards_what_its_controller_says() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
    lan.sandbox.vsctl(&["set-controller", "br0", "tcp:127.0.0.1:6653"]);
    lan.sandbox.vsctl(&["set", "controller", "br0", "max_backoff=1000", "connection_mode=out-of-band"]);
    assert!(!lan.reaches("h1", "10.0.0.2"), "no controller, nothing is forwarded");
    let first = controller(&mut lan, "ptcp:6653:127.0.0.1");
    lan.sandbox.until("the controller is connected", || is_connected(&lan));
    lan.sandbox.until("it lets packets through", || lan.reaches("h1", "10.0.0.2"));
    assert_eq!(lan.sandbox.get("Controller", "br0", "role"), "other");
    let flows = lan.sandbox.ofctl(&["dump-flows", "br0"]);
    assert!(flows.contains("dl_src"), "{flows}");
    lan.kill(first);
    lan.sandbox.until("the loss is seen", || !is_connected(&lan));
    controller(&mut lan, "ptcp:6653:127.0.0.1");
    lan.sandbox.until("the controller is back", || is_connected(&lan));
    lan.sandbox.until("it lets packets through again", || lan.reaches("h2", "10.0.0.1"));
}

#[test]
fn a_standalone_bridge_forwards_by_itself() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.sandbox.vsctl(&["set-fail-mode", "br0", "standalone"]);
    lan.sandbox.vsctl(&["set-controller", "br0", "tcp:127.0.0.1:6653"]);
    lan.sandbox.vsctl(&["set", "controller", "br0", "max_backoff=1000", "inactivity_probe=1000"]);
    lan.sandbox.until("it forwards without a controller", || lan.reaches("h1", "10.0.0.2"));
    controller(&mut lan, "ptcp:6653:127.0.0.1");
    lan.sandbox.until("the controller is connected", || is_connected(&lan));
    lan.sandbox
        .until("the controller is in charge", || lan.sandbox.log().contains("No longer in fail-open mode"));
    lan.sandbox.until("it lets packets through", || lan.reaches("h1", "10.0.0.2"));
}

/// The controller is a host on the bridge, which has no flow of its own: only in-band control lets the connection be.
#[test]
fn a_controller_is_reached_through_the_bridge_that_it_controls() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.join("br0");
    lan.sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
    lan.sandbox.vsctl(&["set-controller", "br0", "tcp:10.0.0.1:6653"]);
    lan.sandbox.vsctl(&["set", "controller", "br0", "max_backoff=1000", "inactivity_probe=1000"]);
    lan.start("h1", "ovs-testcontroller --unixctl=none --mute -O OpenFlow13 ptcp:6653");
    lan.sandbox.until("the controller is connected", || is_connected(&lan));
    lan.sandbox.ofctl(&["del-flows", "br0"]);
    assert!(!lan.reaches("h2", "10.0.0.254"), "nothing else is let through");
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(is_connected(&lan), "probes are answered");
    let flows = lan.sandbox.appctl(&["bridge/dump-flows", "br0"]);
    let hidden =
        |what: &str| flows.lines().find(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {flows}"));
    assert!(!hidden("priority=180008,tcp,nw_src=10.0.0.1,tp_src=6653,").contains("n_packets=0,"), "{flows}");
    let mac = lan.ip("h1", "-br link show eth0").split_whitespace().nth(2).unwrap().to_owned();
    hidden(&format!("priority=180003,arp,dl_dst={mac},arp_op=2,actions=NORMAL"));
    assert_eq!(lan.sandbox.ofctl(&["dump-aggregate", "br0"]).matches("flow_count=0").count(), 1);
    lan.sandbox.vsctl(&["set", "bridge", "br0", "other_config:disable-in-band=true"]);
    lan.sandbox.until("without it the connection is lost", || !is_connected(&lan));
    assert!(!lan.sandbox.appctl(&["bridge/dump-flows", "br0"]).contains("priority=18000"));
}

#[test]
fn a_controller_is_spoken_to_over_ssl() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    let pki = |line: &str| {
        let mut command = lan.sandbox.command("ovs-pki");
        let output = command.arg("--dir=pki").args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    pki("init --force");
    pki("req+sign ctl controller");
    pki("req+sign sc switch");
    let path = |name: &str| lan.sandbox.path(name).display().to_string();
    let (key, cert, ca) = (path("sc-privkey.pem"), path("sc-cert.pem"), path("pki/controllerca/cacert.pem"));
    lan.sandbox.vsctl(&["set-ssl", &key, &cert, &ca]);
    lan.sandbox.vsctl(&["set-fail-mode", "br0", "secure"]);
    lan.sandbox.vsctl(&["set-controller", "br0", "ssl:127.0.0.1:6653"]);
    let line = format!(
        "-p {} -c {} -C {} pssl:6653:127.0.0.1",
        path("ctl-privkey.pem"),
        path("ctl-cert.pem"),
        path("pki/switchca/cacert.pem")
    );
    controller(&mut lan, &line);
    lan.sandbox.until("the controller is connected", || is_connected(&lan));
    lan.sandbox.until("it lets packets through", || lan.reaches("h1", "10.0.0.2"));
}

#[test]
fn controllers_and_snoopers_see_packets() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    let file = |lan: &Lan, name: &str| lan.sandbox.path(name).display().to_string();
    let (seen, snooped) = (file(&lan, "seen"), file(&lan, "snooped"));
    lan.sandbox.vsctl(&["set-controller", "br0", "tcp:127.0.0.1:6653"]);
    controller(&mut lan, "ptcp:6653:127.0.0.1");
    lan.sandbox.until("the controller is connected", || is_connected(&lan));
    for (name, file, command) in [("monitor", &seen, "monitor br0 65534"), ("snoop", &snooped, "snoop br0")] {
        let script = lan.sandbox.path(&format!("{name}.sh"));
        std::fs::write(&script, format!("exec ovs-ofctl {command} > {file} 2>&1")).unwrap();
        lan.start(SWITCH, &format!("sh {}", script.display()));
    }
    let count =
        |file: &str, what: &str| std::fs::read_to_string(file).map_or(0, |text| text.matches(what).count());
    lan.sandbox.ofctl(&["add-flow", "br0", "priority=9,udp,tp_dst=9,actions=controller"]);
    let script = lan.sandbox.path("send.sh");
    std::fs::write(&script, "for i in $(seq 100); do echo x > /dev/udp/10.0.0.2/9; done").unwrap();
    lan.sandbox.until("the monitor is on", || {
        lan.run("h1", &format!("bash {}", script.display()));
        count(&seen, "tp_dst=9") > 0
    });
    let before = count(&seen, "tp_dst=9");
    lan.run("h1", &format!("bash {}", script.display()));
    lan.sandbox.until("every packet is reported", || count(&seen, "tp_dst=9") >= before + 100);
    assert!(lan.reaches("h1", "10.0.0.2"));
    lan.sandbox.until("the snooper has seen packet-ins", || count(&snooped, "OFPT_PACKET_IN") > 0);
}

#[test]
fn settings_of_ports_and_bridges_hold() {
    let Some(lan) = Lan::with_hosts(2) else { return };
    let s = &lan.sandbox;
    s.vsctl(&["set", "bridge", "br0", "other_config:hwaddr=02:00:00:00:00:aa"]);
    assert!(lan.ip(SWITCH, "link show br0").contains("02:00:00:00:00:aa"));
    assert_eq!(s.get("Bridge", "br0", "datapath_id"), "00000200000000aa");
    s.vsctl(&["--may-exist", "add-br", "br0", "--", "--may-exist", "add-port", "br0", "h1"]);
    s.vsctl(&["add-port", "br0", "i1", "--", "set", "interface", "i1", "type=internal", "mtu_request=1400"]);
    assert!(lan.ip(SWITCH, "link show i1").contains("mtu 1400"));
    assert_eq!(s.get("Interface", "i1", "mtu"), "1400");
    s.vsctl(&["set", "interface", "h1", "mtu_request=1450"]);
    assert!(lan.ip(SWITCH, "link show h1").contains("mtu 1450"));
    // A fake bridge: its ports are in its VLAN.
    s.vsctl(&["add-br", "fake", "br0", "30"]);
    s.vsctl(&["add-port", "fake", "i2", "--", "set", "interface", "i2", "type=internal"]);
    assert_eq!(s.vsctl(&["list-br"]), "br0\nfake\n");
    assert_eq!(s.vsctl(&["br-to-vlan", "fake"]), "30\n");
    assert!(lan.ip(SWITCH, "link show fake").contains("fake"));
    assert_eq!(s.get("Port", "i2", "tag"), "30");
    lan.ip(SWITCH, "link set fake up");
    s.vsctl(&["--if-exists", "del-br", "fake", "--", "--if-exists", "del-br", "nothing"]);
    assert!(!lan.output(SWITCH, "ip link show fake").status.success());
}

#[test]
fn policing_limits_what_comes_in() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.serve_iperf("h2");
    let free = lan.iperf("h1", "10.0.0.2", "-u -b 60M -t 1");
    assert!(free > 40e6, "{free}");
    let burst = ["ingress_policing_rate=10000", "ingress_policing_burst=1000"];
    lan.sandbox.vsctl(&[&["set", "interface", "h1"], &burst[..]].concat());
    let policed = lan.iperf("h1", "10.0.0.2", "-u -b 60M -t 2");
    assert!((4e6..16e6).contains(&policed), "{policed}");
    lan.sandbox.vsctl(&["set", "interface", "h1", "ingress_policing_rate=0"]);
    let free = lan.iperf("h1", "10.0.0.2", "-u -b 60M -t 1");
    assert!(free > 40e6, "{free}");
}

/// Internal ports live as long as the daemon has them open, with and without `--cleanup`.
#[test]
fn internal_ports_end_with_the_daemon() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    lan.join("br0");
    lan.ping("h1", "10.0.0.254", 5);
    for cleanup in [false, true] {
        assert!(lan.output(SWITCH, "ip link show br0").status.success());
        lan.sandbox.stop_daemon(cleanup);
        for name in ["br0", "ovs-netdev"] {
            let shown = lan.output(SWITCH, &format!("ip link show {name}"));
            assert!(!shown.status.success(), "{name} is left, cleanup: {cleanup}");
        }
        // A device that was there before stays.
        lan.ip(SWITCH, "link show h1");
        lan.sandbox.start_daemon();
        lan.sandbox.until("the hosts are joined again", || lan.reaches("h1", "10.0.0.2"));
    }
}

/// Queues of a kernel device: the rate holds, and the counters are shown.
#[test]
fn a_port_is_shaped() {
    let Some(mut lan) = Lan::with_hosts(2) else { return };
    let sandbox = &lan.sandbox;
    sandbox.vsctl(&[
        "--",
        "set",
        "port",
        "h2",
        "qos=@q",
        "--",
        "--id=@q",
        "create",
        "qos",
        "type=linux-htb",
        "other-config:max-rate=20000000",
        "queues:0=@q0",
        "queues:7=@q7",
        "--",
        "--id=@q0",
        "create",
        "queue",
        "other-config:min-rate=1000000",
        "--",
        "--id=@q7",
        "create",
        "queue",
        "other-config:max-rate=5000000",
    ]);
    let qos = sandbox.appctl(&["qos/show", "h2"]);
    for line in ["QoS: h2 linux-htb", "max-rate: 20000000", "Default:", "Queue 7:", "  max-rate: 5000000"] {
        assert!(qos.lines().any(|l| l == line), "{line}:\n{qos}");
    }
    let classes = lan.run(tests::net::SWITCH, "tc class show dev h2");
    assert_eq!(classes.lines().count(), 3, "{classes}");
    lan.ping("h1", "10.0.0.2", 3);
    lan.serve_iperf("h2");
    let shaped = lan.iperf("h1", "10.0.0.2", "-t 3");
    assert!((10e6..21e6).contains(&shaped), "{shaped} bit/s through a queue of 20 Mbit/s");
    let counters = lan.sandbox.ofctl(&["-O", "OpenFlow13", "queue-stats", "br0", "2", "0"]);
    let bytes: u64 =
        counters.split("bytes=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap();
    assert!(bytes > 3_000_000, "{counters}");
    lan.sandbox.vsctl(&["clear", "port", "h2", "qos"]);
    assert_eq!(lan.sandbox.appctl(&["qos/show", "h2"]), "QoS not configured on h2\n");
    let free = lan.iperf("h1", "10.0.0.2", "-t 2");
    assert!(free > 2.0 * shaped, "{free} bit/s without a queue");
}

/// What a queue is for goes there, marked as the queue asks, whatever other packets come between.
#[test]
fn packets_go_to_the_queue_that_flows_name() {
    let Some(lan) = Lan::with_hosts(2) else { return };
    let qos = "-- set port h2 qos=@q -- --id=@q create qos type=linux-htb other-config:max-rate=100000000 \
               queues:1=@q1 queues:2=@q2 -- --id=@q1 create queue other-config:min-rate=1000000 \
               -- --id=@q2 create queue other-config:min-rate=1000000 dscp=46";
    lan.sandbox.vsctl(&qos.split_whitespace().collect::<Vec<_>>());
    lan.settle();
    for flow in [
        "priority=9,icmp,nw_tos=32,in_port=1,actions=set_queue:1,output:2",
        "priority=9,icmp,nw_tos=64,in_port=1,actions=enqueue(2,2)",
    ] {
        lan.sandbox.ofctl(&["add-flow", "br0", flow]);
    }
    let sent = |class: &str| -> u64 {
        let text = lan.run(SWITCH, &format!("tc -s class show dev h2 classid {class}"));
        let packets = text.split_whitespace().skip_while(|w| *w != "bytes").nth(1);
        packets.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    let classes = ["1:1", "1:2", "1:3"];
    let before = classes.map(sent);
    let mut marked = lan.command("h2", "timeout 20 tcpdump -nn -c 8 -i eth0 icmp[0]==8 and ip[1]==0xb8");
    let marked =
        marked.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    for (tos, count) in [("0x20", 7), ("0x40", 8), ("0", 5)] {
        lan.run("h1", &format!("ping -n -Q {tos} -c {count} -i 0.05 10.0.0.2"));
    }
    let after = classes.map(sent);
    let grown: Vec<u64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    assert_eq!(grown[1..], [7, 8], "{grown:?}");
    assert!((5..5 + 7).contains(&grown[0]), "the default queue has the others, and ARP: {grown:?}");
    let seen = String::from_utf8_lossy(&marked.wait_with_output().unwrap().stdout).into_owned();
    assert_eq!(seen.matches("ICMP echo request").count(), 8, "{seen}");
}

/// A mirror sends what two hosts say to each other to a third.
#[test]
fn a_mirror_shows_both_directions() {
    let Some(mut lan) = Lan::with_hosts(3) else { return };
    lan.settle();
    let file = lan.sandbox.path("mirror.pcap");
    lan.sandbox.vsctl(&[
        "--",
        "set",
        "bridge",
        "br0",
        "mirrors=@m",
        "--",
        "--id=@out",
        "get",
        "port",
        "h3",
        "--",
        "--id=@in",
        "get",
        "port",
        "h1",
        "--",
        "--id=@m",
        "create",
        "mirror",
        "name=m",
        "select_src_port=@in",
        "select_dst_port=@in",
        "output_port=@out",
        "snaplen=60",
    ]);
    let capture = lan.start("h3", &format!("tcpdump -U -n -i eth0 -w {} icmp", file.display()));
    lan.sandbox.until("the capture runs", || file.exists());
    // No more than these: every copy is counted.
    lan.run("h1", "ping -n -c 10 -i 0.2 10.0.0.2");
    let packets = || {
        let out = lan.sandbox.command("tcpdump").args(["-n", "-r"]).arg(&file).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    lan.sandbox.until("twenty packets are copied", || packets().lines().count() == 20);
    let said = packets();
    assert_eq!(said.matches("echo request").count(), 10, "{said}");
    lan.kill(capture);
    let len = std::fs::metadata(lan.sandbox.path("mirror.pcap")).unwrap().len();
    assert_eq!(len, 24 + 20 * (16 + 60), "copies are cut");
    assert!(!lan.reaches("h3", "10.0.0.1"), "the output port serves nothing else");
}
