use super::*;
use flow::{EthAddr, Flow, PT_ETH, TlvTable, Value, tun_flags};
use packet::Packet;
use packet::parse::{Meta, flow_of};
use packet::proto::packet_type;
use packet::tunnel::{PushContext, pop, push};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn parse(kind: TunnelKind, pairs: &[(&str, &str)]) -> TunnelConfig {
    TunnelConfig::parse(kind, "t", &options(pairs)).expect("good options").0
}

#[test]
fn options_are_read_and_shown_again() {
    for (kind, pairs) in [
        (TunnelKind::Geneve, &[("remote_ip", "1.1.2.92"), ("key", "123")][..]),
        (TunnelKind::Geneve, &[("remote_ip", "flow"), ("local_ip", "flow"), ("key", "flow")][..]),
        (TunnelKind::Vxlan, &[("csum", "true"), ("out_key", "flow"), ("remote_ip", "fd00::1")][..]),
        (TunnelKind::Vxlan, &[("dst_port", "4790"), ("egress_pkt_mark", "7"), ("remote_ip", "1.2.3.4")][..]),
        (TunnelKind::Gre, &[("packet_type", "legacy_l3"), ("remote_ip", "1.2.3.4"), ("seq", "true")][..]),
        (
            TunnelKind::Gre,
            &[("df_default", "false"), ("remote_ip", "1.2.3.4"), ("tos", "0x10"), ("ttl", "9")][..],
        ),
        (TunnelKind::Gre, &[("remote_ip", "1.2.3.4"), ("tos", "inherit"), ("ttl", "inherit")][..]),
        (TunnelKind::Erspan, &[("erspan_idx", "0x3"), ("erspan_ver", "1"), ("remote_ip", "1.2.3.4")][..]),
        (
            TunnelKind::Erspan,
            &[("erspan_dir", "1"), ("erspan_hwid", "0x7"), ("erspan_ver", "2"), ("remote_ip", "1.2.3.4")][..],
        ),
    ] {
        assert_eq!(parse(kind, pairs).options(), options(pairs), "{kind:?}");
    }
}

#[test]
fn bad_options_are_refused_with_the_texts_of_the_database() {
    for (kind, pairs, text) in [
        (TunnelKind::Vxlan, &[][..], "t: vxlan type requires valid 'remote_ip' argument"),
        (
            TunnelKind::Gre,
            &[("remote_ip", "nonsense")][..],
            "t: bad gre 'remote_ip'\nt: gre type requires valid 'remote_ip' argument",
        ),
        (TunnelKind::Gre, &[("remote_ip", "224.0.0.1")][..], "t: multicast remote_ip=224.0.0.1 not allowed"),
        (
            TunnelKind::Geneve,
            &[("local_ip", "flow"), ("remote_ip", "1.2.3.4")][..],
            "t: geneve type requires 'remote_ip=flow' with 'local_ip=flow'",
        ),
        (
            TunnelKind::Geneve,
            &[("local_ip", "fd00::1"), ("remote_ip", "1.2.3.4")][..],
            "t: 'remote_ip' and 'local_ip' has to be of the same address family",
        ),
        (
            TunnelKind::Vxlan,
            &[("packet_type", "legacy_l3"), ("remote_ip", "1.2.3.4")][..],
            "t: legacy_l3 configured on VXLAN (without GPE) tunnel that cannot carry L3 traffic",
        ),
        (
            TunnelKind::Erspan,
            &[("erspan_ver", "3"), ("remote_ip", "1.2.3.4")][..],
            "t: invalid erspan version: 3",
        ),
    ] {
        let error = TunnelConfig::parse(kind, "t", &options(pairs)).expect_err(text);
        assert_eq!(error.to_string(), text);
    }
    let odd = options(&[("remote_ip", "1.2.3.4"), ("tos", "3"), ("what", "ever")]);
    let (_, lines) = TunnelConfig::parse(TunnelKind::Gre, "t", &odd).expect("only warnings");
    assert_eq!(lines, ["t: invalid TOS 3", "t: unknown gre argument 'what'"]);
}

/// A flow in switch terms that goes out by a tunnel.
fn outgoing(is_v6: bool, id: u64) -> Flow {
    let mut f = Flow::ZERO;
    if is_v6 {
        f.tunnel.ipv6_dst = 2u128.into();
    } else {
        f.tunnel.dst = 0x0101_025c;
    }
    (f.tunnel.id, f.tunnel.tos, f.tunnel.ttl) = (id, 0xb8, 64);
    f
}

fn ends(is_v6: bool) -> Ends {
    let src_ip = if is_v6 { Ipv6Addr::LOCALHOST } else { mapped(0x0101_0258) };
    Ends { src_mac: EthAddr::from_u64(1), dst_mac: EthAddr::from_u64(2), src_ip }
}

/// Frame, pushed header, popped again: what came out, and its tunnel fields.
fn round_trip(
    config: &TunnelConfig,
    f: &Flow,
    is_v6: bool,
    tlv: &TlvTable,
    inner: &[u8],
) -> (Packet, flow::Tunnel) {
    let (_, header) = build(config, f, tlv, &ends(is_v6)).expect("a header");
    let mut p = Packet::from_slice(inner);
    p.packet_type = f.packet_type;
    let cx = PushContext { source_port: 40_000, sequence: 7, timestamp: 9 };
    assert!(push(&mut p, &header, config.kind, &cx));
    let outer = flow_of(&mut p, &Meta::default());
    assert_eq!(outer.nw_proto, config.kind.ip_proto());
    assert_eq!(outer.nw_tos, 0xb8);
    let mut t = flow::Tunnel::default();
    pop(&mut p, config.kind, &mut t).expect("our own header");
    (p, t)
}

proptest! {
    /// Whatever the options, what was put on comes off again and says what was meant.
    #[test]
    fn what_is_pushed_is_popped(
        which in 0usize..7, is_v6: bool, csum: bool, seq: bool, id in 0u64..1024, option: u32,
        inner in proptest::collection::vec(any::<u8>(), 14..200),
    ) {
        let kind = TunnelKind::ALL[which];
        let mut config = TunnelConfig { csum, seq, out_key: Setting::Fixed(id), ..TunnelConfig::new(kind) };
        config.erspan_ver = Setting::Fixed(1 + (id & 1) as u8);
        config.erspan_dir = Setting::Fixed(1);
        config.erspan_hwid = Setting::Fixed(0x2d);
        config.erspan_idx = Setting::Fixed(0x12345);
        let mut tlv = TlvTable::EMPTY;
        tlv.add(3, 0x0102, 0x80, 4).unwrap();
        let mut f = outgoing(is_v6, id);
        if csum {
            f.tunnel.flags |= tun_flags::CSUM;
        }
        tlv.write(&mut f.tunnel, 3, &Value::from(option));
        let mut inner = inner;
        if kind == TunnelKind::Gtpu {
            f.packet_type = packet_type::IPV4;
            inner[0] = 0x45;
        }
        let (p, t) = round_trip(&config, &f, is_v6, &tlv, &inner);
        prop_assert_eq!(p.data(), &inner[..]);
        prop_assert_eq!((p.packet_type, t.id, t.tos, t.ttl), (f.packet_type, id, 0xb8, 64));
        prop_assert_eq!(outer_dst(&t), outer_dst(&f.tunnel));
        prop_assert_eq!(outer_src(&t), ends(is_v6).src_ip);
        match kind {
            TunnelKind::Geneve => {
                let sw = tlv.from_raw(&t, &t).unwrap();
                prop_assert_eq!(tlv.read(&sw, 3), Some(Value::from(option)));
            }
            TunnelKind::Erspan | TunnelKind::Ip6Erspan if id & 1 == 1 => {
                prop_assert_eq!((t.erspan_ver, t.erspan_dir, t.erspan_hwid), (2, 1, 0x2d));
            }
            TunnelKind::Erspan | TunnelKind::Ip6Erspan => {
                prop_assert_eq!((t.erspan_ver, t.erspan_idx), (1, 0x12345));
            }
            _ => {}
        }
        let says_sum = t.flags & tun_flags::CSUM != 0;
        match kind {
            TunnelKind::Erspan | TunnelKind::Ip6Erspan => {}
            TunnelKind::Gtpu => prop_assert!(says_sum),
            TunnelKind::Gre | TunnelKind::Ip6Gre => prop_assert_eq!(says_sum, csum),
            _ => prop_assert_eq!(says_sum, csum || is_v6),
        }
    }
}

#[test]
fn vxlan_extensions_travel() {
    let mut f = outgoing(false, 9);
    (f.tunnel.gbp_id, f.tunnel.gbp_flags) = (0x1234, 0x48);
    let gbp = TunnelConfig { gbp: true, ..TunnelConfig::new(TunnelKind::Vxlan) };
    let (_, t) = round_trip(&gbp, &f, false, &TlvTable::EMPTY, &[0; 60]);
    assert_eq!((t.gbp_id, t.gbp_flags, t.id), (0x1234, 0x48, 9));
    let gpe = TunnelConfig { gpe: true, ..TunnelConfig::new(TunnelKind::Vxlan) };
    for packet_type in [PT_ETH, packet_type::IPV4, packet_type::IPV6, packet_type::NSH] {
        let f = Flow { packet_type, ..f.clone() };
        let (p, _) = round_trip(&gpe, &f, false, &TlvTable::EMPTY, &[0x45; 60]);
        assert_eq!(p.packet_type, packet_type);
    }
    assert_eq!(
        build(&gpe, &Flow { packet_type: 0x1_8847, ..f }, &TlvTable::EMPTY, &ends(false)),
        Err(BuildError::PacketType)
    );
}
