use crate::field::{Bits, Place};
use crate::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn place_bits(f: Field) -> Option<Bits> {
    match f.info().place {
        Place::Bits(b) | Place::Port11(b) | Place::Tci(b) | Place::Tag(b) => Some(b),
        Place::Tlv(_) => None,
    }
}

#[test]
fn table_is_consistent() {
    assert_eq!(Field::COUNT, 183);
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    for (i, f) in Field::all().enumerate() {
        let info = f.info();
        assert_eq!(f.index(), i);
        assert_eq!(Field::from_index(i), Some(f));
        assert!(names.insert(info.name), "{f:?}");
        assert_eq!(Field::by_name(info.name), Some(f));
        if !info.alias.is_empty() {
            assert!(names.insert(info.alias));
            assert_eq!(Field::by_name(info.alias), Some(f));
        }
        assert!(f.n_bits() > 0 && f.n_bits() <= 8 * f.n_bytes());
        for o in info.oxm {
            assert!(names.insert(o.name));
            assert!(ids.insert((o.class, o.experimenter, o.num)), "{}", o.name);
            assert!(o.num < 128);
            assert_eq!(Field::by_nxm_name(o.name), Some(f));
            assert_eq!(Field::by_header(o.class, o.experimenter, o.num), Some(f));
            assert_eq!(o.class == oxm_class::EXPERIMENTER, o.experimenter != 0);
        }
        assert!(info.oxm.is_sorted_by_key(|o| o.since));
        if let Some(b) = place_bits(f) {
            assert!(usize::from(b.ofs) + usize::from(b.unit) * usize::from(b.units) <= FLOW_LEN);
            assert_eq!(usize::from(b.ofs) % usize::from(b.unit), 0);
            assert!(matches!(b.unit, 1 | 2 | 4 | 8));
        }
    }
    assert_eq!(Field::from_index(183), None);
    assert_eq!(Field::by_name("nonsense"), None);
    assert_eq!(Field::by_header(0x8000, 0, 99), None);
}

#[test]
fn families() {
    assert_eq!(Field::tun_metadata(63), Some(Field::TunMetadata63));
    assert_eq!(Field::tun_metadata(64), None);
    assert_eq!(Field::TunMetadata7.tlv_index(), Some(7));
    assert_eq!(Field::reg(15), Some(Field::Reg15));
    assert_eq!(Field::xreg(7), Some(Field::Xreg7));
    assert_eq!(Field::xreg(8), None);
    assert_eq!(Field::xxreg(3), Some(Field::Xxreg3));
    assert!(Field::Reg0.is_register() && Field::Xxreg3.is_register() && !Field::EthSrc.is_register());
    assert_eq!(Field::all().filter(|f| f.is_pipeline()).count(), 110);
    assert!(!Field::TunTtl.is_pipeline() && !Field::CtMark.is_pipeline());
}

/// Code points as OVS prefers them: by version, NXM first for NXM.
#[test]
fn code_point_by_version() {
    let id = |f: Field, v| f.oxm_id(v).map(|o| o.name);
    assert_eq!(id(Field::EthSrc, ofp::NXM), Some("NXM_OF_ETH_SRC"));
    assert_eq!(id(Field::EthSrc, ofp::OF10), Some("NXM_OF_ETH_SRC"));
    assert_eq!(id(Field::EthSrc, ofp::OF12), Some("OXM_OF_ETH_SRC"));
    assert_eq!(id(Field::TunId, ofp::OF12), Some("NXM_NX_TUN_ID"));
    assert_eq!(id(Field::TunId, ofp::OF15), Some("OXM_OF_TUNNEL_ID"));
    assert_eq!(id(Field::TcpFlags, ofp::OF12), Some("NXM_NX_TCP_FLAGS"));
    assert_eq!(id(Field::TcpFlags, ofp::OF14), Some("ONFOXM_ET_TCP_FLAGS"));
    assert_eq!(id(Field::TcpFlags, ofp::OF15), Some("OXM_OF_TCP_FLAGS"));
    assert_eq!(id(Field::ActsetOutput, ofp::OF10), Some("ONFOXM_ET_ACTSET_OUTPUT"));
    assert_eq!(id(Field::DlVlan, ofp::OF15), None);
    assert_eq!(id(Field::DpHash, ofp::NXM), Some("NXM_NX_DP_HASH"));
    assert_eq!(id(Field::DpHash, ofp::OF15), Some("NXM_NX_DP_HASH"));
}

#[test]
fn protocols() {
    let p = |f: Field| (f.protocols_exact(), f.protocols_cidr(), f.protocols_bitwise());
    use Protocols as P;
    assert_eq!(p(Field::Ipv4Src), (P::ANY, P::ANY, P::NXM_OF11_UP));
    assert_eq!(p(Field::EthSrc), (P::ANY, P::NXM_OF11_UP, P::NXM_OF11_UP));
    assert_eq!(p(Field::TcpSrc), (P::ANY, P::NXM_OXM_ANY, P::NXM_OXM_ANY));
    assert_eq!(p(Field::Metadata), (P::NXM_OF11_UP, P::NXM_OF11_UP, P::NXM_OF11_UP));
    assert_eq!(p(Field::DlVlan), (P::ANY, P::empty(), P::empty()));
    assert_eq!(p(Field::SkbPriority), (P::empty(), P::empty(), P::empty()));
}

/// The most that a field can hold.
fn all_bits(f: Field) -> u128 {
    match f {
        Field::ArpOp => 0xff,
        Field::IpDscp => 0xfc,
        Field::CtState => 0xff,
        Field::VlanVid => 0x1fff,
        _ => value::ones128(f.n_bits()),
    }
}

/// Any field but `tun_metadata<i>`.
fn fixed_field() -> impl Strategy<Value = Field> {
    prop::sample::select(Field::all().filter(|f| f.tlv_index().is_none()).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn get_what_was_set(f in fixed_field(), x: u128, noise: u64) {
        prop_assume!(f.info().format != Format::PortOxm);
        let v = Value::from_u128(f.n_bytes(), x & all_bits(f));
        let mut flow = Flow::ZERO;
        flow.words_mut().fill(noise);
        let before = flow.clone();
        f.set(&mut flow, &v);
        if f != Field::DlVlan || v.to_u64() != 0xffff {
            prop_assert_eq!(f.get(&flow), v);
        }
        // Nothing but the field (and the presence of a tag) changed.
        let mut mask = Mask::NONE;
        f.unwildcard(&mut mask);
        if !matches!(f.info().place, Place::Tci(_) | Place::Tag(_)) {
            for (w, (a, b)) in flow.words().iter().zip(before.words()).enumerate() {
                prop_assert_eq!((a ^ b) & !mask.words()[w], 0);
            }
        }
    }

    #[test]
    fn masks(f in fixed_field(), x: u128) {
        let mut mask = Mask::NONE;
        prop_assert!(f.is_all_wild(&mask) && f.get_mask(&mask).is_zero());
        f.unwildcard(&mut mask);
        prop_assert!(f.get_mask(&mask).is_ones() && !f.is_all_wild(&mask));
        prop_assert!(f.is_exact_mask(&f.get_mask(&mask)));
        let bits = Value::from_u128(f.n_bytes(), x & all_bits(f));
        f.set_mask(&mut mask, &bits);
        if !f.is_exact_mask(&bits) && f.info().format != Format::PortOxm && f != Field::ArpOp {
            prop_assert_eq!(f.get_mask(&mask), bits);
        }
        f.set_mask(&mut mask, &Value::zero(f.n_bytes()));
        prop_assert!(f.is_all_wild(&mask));
    }

    #[test]
    fn subfield_text(i in 0..Field::COUNT, ofs: u16, n: u16) {
        let f = Field::from_index(i).unwrap();
        let ofs = ofs % f.info().n_bits;
        let n = 1 + n % (f.info().n_bits - ofs);
        let sf = Subfield::new(f, ofs, n).unwrap();
        prop_assert_eq!(Subfield::parse(&sf.to_string()), Ok(sf));
    }

    #[test]
    fn subfield_parse_is_total(s in "\\PC*") {
        let _ = Subfield::parse(&s);
        let _ = Subfield::parse(&format!("reg0[{s}"));
    }
}

#[test]
fn overlaps() {
    let mut f = Flow::ZERO;
    Field::Xxreg1.set(&mut f, &Value::from(0x0011_2233_4455_6677_8899_aabb_ccdd_eeffu128));
    assert_eq!(f.regs[4..8], [0x0011_2233, 0x4455_6677, 0x8899_aabb, 0xccdd_eeff]);
    assert_eq!(Field::Xreg3.get_u64(&f), 0x8899_aabb_ccdd_eeff);
    assert_eq!(f.xreg(3), 0x8899_aabb_ccdd_eeff);
    Field::CtLabel.set(&mut f, &Value::from(7u128 << 64 | 9));
    assert_eq!((f.ct_label.hi, f.ct_label.lo), (7, 9));
    f.nw_tos = 0x55;
    assert_eq!(Field::IpDscp.get_u64(&f), 0x54);
    assert_eq!(Field::IpDscpShifted.get_u64(&f), 0x15);
    assert_eq!(Field::IpEcn.get_u64(&f), 1);
    f.mpls_lse[0] = 0x1234_5abc;
    assert_eq!(Field::MplsLabel.get_u64(&f), 0x12345);
    assert_eq!(Field::MplsTc.get_u64(&f), 5);
    assert_eq!(Field::MplsBos.get_u64(&f), 0);
    assert_eq!(Field::MplsTtl.get_u64(&f), 0xbc);
}

#[test]
fn vlan_tags() {
    let mut f = Flow::ZERO;
    Field::DlVlan.set_u64(&mut f, 5);
    assert_eq!((f.vlans[0].tpid, f.vlans[0].tci), (0x8100, 0x1005));
    Field::VlanPcp.set_u64(&mut f, 3);
    assert_eq!(f.vlans[0].tci, 0x7005);
    assert_eq!(Field::VlanVid.get_u64(&f), 0x1005);
    Field::DlVlan.set_u64(&mut f, DL_VLAN_NONE.into());
    assert_eq!(f.vlans[0].tci, 0);
    let mut m = Mask::NONE;
    Field::DlVlanPcp.unwildcard(&mut m);
    assert_eq!((m.vlans[0].tpid, m.vlans[0].tci), (0, 0xf000));
    Field::DlVlan.unwildcard(&mut m);
    assert_eq!(m.vlans[0].tci, 0xffff);
}

#[test]
fn ports() {
    let mut f = Flow::ZERO;
    Field::InPortOxm.set_u64(&mut f, 0xffff_fffe);
    assert_eq!(f.in_port, port::LOCAL.into());
    assert_eq!(Field::InPort.get_u64(&f), 0xfffe);
    assert_eq!(Field::InPortOxm.get_u64(&f), 0xffff_fffe);
    Field::InPortOxm.set_u64(&mut f, 0x10000);
    assert_eq!(f.in_port, port::LOCAL.into(), "unrepresentable");
    assert!(!Field::InPortOxm.is_value_valid(&Value::from(0x10000u32)));
}

#[test]
fn tun_metadata() {
    let mut tlv = TlvTable::default();
    tlv.add(3, 1, 2, 4).unwrap();
    let f3 = Field::TunMetadata3;
    let mut flow = Flow::ZERO;
    f3.set(&mut flow, &Value::from(1u32));
    assert_eq!(flow, Flow::ZERO, "no table, no place");
    f3.set_in(&mut flow, &Value::from_u128(124, 0x0102_0304), &tlv);
    assert_eq!(f3.get_in(&flow, &tlv), Value::from(0x0102_0304u32));
    assert!(f3.is_set(&flow));
    let sf = Subfield { field: f3, ofs: 8, n_bits: 8 };
    assert_eq!(sf.read_u64(&flow, &tlv), 3);
    let mut wc = Mask::NONE;
    let dst = Subfield { field: Field::Reg0, ofs: 4, n_bits: 8 };
    assert!(sf.copy_to(&dst, &mut flow, &mut wc, &tlv));
    assert_eq!(flow.regs[0], 0x30);
    assert_eq!(wc.regs[0], 0xff0);
    assert_eq!(f3.get_mask_in(&wc, &tlv), Value::from(0xff00u32));
    assert!(!f3.is_all_wild(&wc));
    assert_eq!((f3.n_bytes_in(&tlv), f3.n_bits_in(&tlv)), (4, 32));
}

#[test]
fn subfield_errors() {
    let e = |s| Subfield::parse(s).unwrap_err();
    assert_eq!(e("foo[0]"), "foo[0]: unknown field `foo'");
    assert_eq!(e("reg0[3..1]"), "reg0[3..1]: starting bit 3 is after ending bit 1");
    assert_eq!(e("reg0[32]"), "reg0[32]: starting bit 32 is not valid because field is only 32 bits wide");
    assert_eq!(
        e("reg0[0..32]"),
        "reg0[0..32]: ending bit 32 is not valid because field is only 32 bits wide"
    );
    assert_eq!(e("reg0[x]"), "reg0[x]: syntax error expecting [] or [<bit>] or [<start>..<end>]");
    assert_eq!(e("reg0[]x"), "unexpected input following field syntax");
    let sf = Subfield::parse("NXM_NX_REG0[0..15]").unwrap();
    assert_eq!(sf, Subfield { field: Field::Reg0, ofs: 0, n_bits: 16 });
    assert_eq!(Subfield::parse_prefix("eth_dst->reg0").unwrap(), (Subfield::whole(Field::EthDst), "->reg0"));
    assert_eq!(Subfield::parse("reg0[]").unwrap().to_string(), "NXM_NX_REG0[]");
    assert_eq!(Subfield::parse("vlan_tci[12]").unwrap().to_string(), "NXM_OF_VLAN_TCI[12]");
}

#[test]
fn prerequisites() {
    let mut f = Flow::ZERO;
    let mut m = Mask::NONE;
    assert!(!Field::TcpSrc.prereqs_ok(&f, &m));
    f.dl_type = eth_type::IPV6;
    f.nw_proto = ip_proto::TCP;
    assert!(Field::TcpSrc.prereqs_ok(&f, &m) && !Field::Ipv4Src.prereqs_ok(&f, &m));
    assert!(Field::TcpSrc.check_prereqs(&f, &mut m));
    assert_eq!(m.nw_proto, 0xff);
    f.nw_frag = NW_FRAG_ANY | NW_FRAG_LATER;
    assert!(!Field::TcpSrc.prereqs_ok(&f, &m));
    f.packet_type = packet_type_of_ethertype(eth_type::IPV4);
    assert!(Field::Ipv4Src.prereqs_ok(&f, &m) && !Field::EthSrc.prereqs_ok(&f, &m));
    f.ct_state = ct_state::TRK;
    assert!(!Field::CtNwProto.prereqs_ok(&f, &m));
    m.ct_state = ct_state::INV | ct_state::TRK;
    assert!(Field::CtNwProto.prereqs_ok(&f, &m));
    assert!(!Field::CtNwProto.prereqs_ok_in_packet(&f));
}

/// Widths, masking and access as the manual page has them, where it is installed.
#[test]
fn agrees_with_the_manual_page() {
    let Ok(out) = std::process::Command::new("man").args(["-P", "cat", "7", "ovs-fields"]).output() else {
        return;
    };
    let text = String::from_utf8_lossy(&out.stdout).replace(char::is_control, "\n");
    if !out.status.success() {
        return;
    }
    let mut seen = 0;
    for line in text.lines() {
        let w: Vec<&str> = line.split_whitespace().collect();
        let Some(f) = w.first().and_then(|n| Field::by_name(n)) else { continue };
        let rest: Vec<&str> = w.iter().skip(if w.get(1) == Some(&"aka") { 3 } else { 1 }).copied().collect();
        let Some(bytes) = rest.first().and_then(|b| b.parse::<usize>().ok()) else { continue };
        let (bits, rest) = match rest.get(1) {
            Some(&"(low") => (rest[2].parse().unwrap(), &rest[4..]),
            _ => (bytes * 8, &rest[1..]),
        };
        let [mask, rw, ..] = rest else { continue };
        assert_eq!((bytes, bits), (f.n_bytes(), f.n_bits()), "{line}");
        assert_eq!(*mask == "yes", f.info().maskable == Maskable::Bitwise, "{line}");
        assert_eq!(*rw == "yes", f.info().writable, "{line}");
        seen += 1;
    }
    assert!(seen > 100, "{seen} rows found");
}
