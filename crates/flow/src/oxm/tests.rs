use super::*;
use crate::{Field, Flow, Match, TlvTable, Value, eth_type, ip_proto, ofp};
use proptest::prelude::*;

fn one(field: Field, version: u8, v: u128, mask: Option<u128>) -> Vec<u8> {
    let n = field.n_bytes();
    let mut out = vec![];
    put_entry(
        &mut out,
        field,
        version,
        &Value::from_u128(n, v),
        mask.map(|m| Value::from_u128(n, m)).as_ref(),
    );
    out
}

fn strict(b: &[u8]) -> Result<Match, OxmError> {
    decode_fields(b, Options::default())
}

#[test]
fn headers() {
    assert_eq!(one(Field::InPort, ofp::NXM, 1, None), [0, 0, 0, 2, 0, 1]);
    assert_eq!(one(Field::InPortOxm, ofp::OF13, 1, None), [0x80, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(one(Field::Reg1, ofp::OF13, 1, Some(3)), [0, 1, 3, 8, 0, 0, 0, 1, 0, 0, 0, 3]);
    assert_eq!(
        one(Field::TcpFlags, ofp::OF13, 1, Some(3)),
        [0xff, 0xff, 42 << 1 | 1, 8, 0x4f, 0x4e, 0x46, 0, 0, 1, 0, 3]
    );
    assert_eq!(one(Field::DlVlan, ofp::OF13, 1, None), []);
    assert_eq!(header32(Field::Reg0, None), 0x0001_0004);
    assert_eq!(header32(Field::NshFlags, None), 0);
    let mut tlv = TlvTable::default();
    tlv.add(2, 1, 1, 8).unwrap();
    assert_eq!(header32(Field::TunMetadata2, Some(&tlv)), 0x0001_0000 | 42 << 9 | 8);
}

#[test]
fn header_errors() {
    let pull = |b: &[u8]| pull_header(&mut &*b, None);
    assert_eq!(pull(&[0, 0, 0]), Err(OxmError::BadLen));
    assert_eq!(pull(&[0xff, 0xff, 0, 8, 0, 0, 0]), Err(OxmError::BadLen));
    assert_eq!(pull(&[0xff, 0xff, 0, 3, 0, 0, 0x23, 0x20]), Err(OxmError::BadLen));
    assert_eq!(pull(&[0, 0, 0, 3]), Err(OxmError::BadField));
    assert_eq!(pull(&[0, 0, 1, 4]), Ok((Field::InPort, true)));
    assert_eq!(pull(&[0xff, 0xff, 0, 8, 0, 0, 0x23, 0x20]), Ok((Field::DpHash, false)));
    let entry = |b: &[u8], mask| pull_entry(&mut &*b, Some(&TlvTable::EMPTY), mask).map(|e| e.field);
    assert_eq!(entry(&[0, 0, 0, 3, 1, 2, 3], true), Err(OxmError::BadSetLen));
    assert_eq!(entry(&[9, 9, 0, 3, 1, 2, 3], true), Err(OxmError::BadSetType));
    assert_eq!(entry(&[0, 1, 1, 8, 0, 0, 0, 1, 0, 0, 0, 1], false), Err(OxmError::BadMask));
    assert_eq!(entry(&[0, 1, 1, 8, 0, 0, 0, 3, 0, 0, 0, 1], true), Err(OxmError::BadWildcards));
    assert_eq!(entry(&[0, 1, 1, 8, 0, 0, 0, 1, 0, 0, 0, 1], true), Ok(Field::Reg0));
    assert_eq!(entry(&[0, 1, 80, 1, 0], true), Err(OxmError::InvalidTlvField));
}

#[test]
fn match_errors() {
    let tcp = [
        one(Field::EthType, ofp::NXM, 0x800, None),
        one(Field::IpProto, ofp::NXM, 6, None),
        one(Field::TcpSrc, ofp::NXM, 80, None),
    ];
    let m = strict(&tcp.concat()).unwrap();
    assert_eq!((m.flow.tp_src, m.flow.packet_type, m.mask.packet_type), (80, 0, u32::MAX));
    assert_eq!(strict(&tcp[1..].concat()), Err(OxmError::BadPrereq));
    assert_eq!(strict(&[&*tcp.concat(), &tcp[2]].concat()), Err(OxmError::DupField));
    assert_eq!(strict(&one(Field::InPortOxm, ofp::OF13, 0x10000, None)), Err(OxmError::BadValue));
    assert_eq!(strict(&one(Field::EthType, ofp::OF13, 0x10, Some(0xff))), Err(OxmError::BadMask));
    assert_eq!(strict(&one(Field::Reg0, ofp::OF13, 0x100, Some(0xff))), Err(OxmError::BadWildcards));
    let unknown = [0x80, 0, 0xfe, 1, 7];
    assert_eq!(strict(&unknown), Err(OxmError::BadField));
    let loose = Options { loose: true, ..Options::default() };
    assert_eq!(decode_fields(&unknown, loose), Ok(Match::catchall()));
    assert!(decode_fields(&tcp[2], loose).is_ok());
    let pipeline = Options { pipeline_fields_only: true, ..Options::default() };
    assert_eq!(decode_fields(&tcp[0], pipeline), Err(OxmError::PipelineFieldsOnly));
    let tlv = Options { tlv: Some(&TlvTable::EMPTY), ..Options::default() };
    assert_eq!(decode_fields(&one(Field::TunMetadata0, 0, 1, None), tlv), Err(OxmError::InvalidTlvField));
}

#[test]
fn cookies() {
    let mut b = vec![];
    let m = Match::catchall().with(Field::InPort, 5u16);
    assert_eq!(put_nxm_match(&mut b, &m, None, 0x1234, 0xff00), 26);
    assert_eq!(b.len(), 32);
    let opts = Options { allow_cookie: true, ..Options::default() };
    let d = pull_nxm_match(&mut &*b, 26, opts).unwrap();
    assert_eq!(d, Decoded { matched: m, cookie: 0x1200, cookie_mask: 0xff00 });
    assert_eq!(strict(&b[..26]), Err(OxmError::BadField));
    let twice = [&b[6..26], &b[6..26]].concat();
    assert_eq!(decode(&twice, opts), Err(OxmError::DupField));
}

#[test]
fn whole_oxm_match() {
    let mut b = vec![];
    let m = Match::catchall().with(Field::InPort, 0xfffeu16);
    assert_eq!(put_oxm_match(&mut b, &m, ofp::OF13, None), 12);
    assert_eq!(b, [0, 1, 0, 12, 0x80, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0]);
    let mut rest = &*b;
    assert_eq!(pull_oxm_match(&mut rest, Options::default()), Ok(m));
    assert!(rest.is_empty());
    let pull = |b: &[u8]| pull_oxm_match(&mut &*b, Options::default()).unwrap_err();
    assert_eq!(pull(&b[..12]), OxmError::BadLen);
    assert_eq!(pull(&[0, 1, 0, 3]), OxmError::BadLen);
    assert_eq!(pull(&[0, 0, 0, 4, 0, 0, 0, 0]), OxmError::BadType);
    b.clear();
    assert_eq!(put_oxm_match(&mut b, &Match::catchall(), ofp::OF13, None), 4);
    assert_eq!(b, [0, 1, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn implied_packet_type() {
    let enc = |m: &Match, v| {
        let mut b = vec![];
        encode(&mut b, m, v, None);
        b
    };
    let pt = [0x80, 0, 88, 4, 0, 0, 0, 0];
    let mut m = Match::catchall();
    m.set_default_packet_type();
    assert_eq!(enc(&m, ofp::OF15), pt);
    m.set(Field::InPort, 1u16);
    assert_eq!(enc(&m, ofp::NXM), [&pt[..], &[0, 0, 0, 2, 0, 1]].concat());
    m.set(Field::EthType, 0x800u16);
    assert_eq!(enc(&m, ofp::NXM), [0, 0, 0, 2, 0, 1, 0, 0, 6, 2, 8, 0]);
}

#[test]
fn mapped_tunnel_options() {
    let mut tlv = TlvTable::default();
    tlv.add(0, 0xffff, 0, 4).unwrap();
    let opts = Options { tlv: Some(&tlv), ..Options::default() };
    let b = one(Field::TunMetadata0, ofp::OF15, 0x12, None);
    assert_eq!(b, [0, 1, 80, 1, 0x12]);
    let m = decode_fields(&b, opts).unwrap();
    assert_eq!(Field::TunMetadata0.get_in(&m.flow, &tlv), Value::from(0x12u32));
    let mut out = vec![];
    encode(&mut out, &m, ofp::OF15, Some(&tlv));
    assert_eq!(out, [0, 1, 80, 4, 0, 0, 0, 0x12]);
    // Without a table the match remembers how long the value was.
    let m = decode_fields(&b, Options::default()).unwrap();
    let mut out = vec![];
    encode(&mut out, &m, ofp::OF15, None);
    assert_eq!(out, b);
}

#[test]
fn field_arrays() {
    let ports = one(Field::TcpDst, ofp::OF15, 0xffff, None);
    let ip = one(Field::Ipv4Src, ofp::OF15, 0xffff_ff00, None);
    let a = pull_field_array(&[&*ports, &ip].concat()).unwrap();
    assert_eq!(a[0].0, Field::Ipv4Src);
    let mut out = vec![];
    put_field_array(&mut out, &a, ofp::OF15);
    assert_eq!(out, [&*ip, &ports].concat());
    assert_eq!(pull_field_array(&[&*ip, &ip].concat()), Err(OxmError::DupField));
    assert_eq!(pull_field_array(&one(Field::IpProto, 6, 0x10, None)), Err(OxmError::BadMask));
}

/// A match such as a controller would ask for.
pub(crate) fn any_match() -> impl Strategy<Value = Match> {
    let dl = prop::sample::select(vec![0u16, 0x800, 0x806, 0x8035, 0x86dd, 0x8847, 0x894f, 0x1234]);
    let proto = prop::sample::select(vec![0u8, 1, 6, 17, 58, 132, 99]);
    let icmp = prop::sample::select(vec![0u16, 135, 136]);
    let sets = prop::collection::vec((0..Field::COUNT, any::<u128>(), any::<u128>(), any::<bool>()), 0..10);
    (dl, proto, icmp, sets).prop_map(|(dl, proto, icmp, sets)| {
        let mut m = Match::catchall();
        for (f, v) in [(Field::EthType, dl), (Field::IpProto, proto.into()), (Field::Icmpv6Type, icmp)] {
            set_if_valid(&mut m, f, v.into(), None);
        }
        for (i, v, mask, exact) in sets {
            if let Some(f) = Field::from_index(i).filter(|f| !f.info().oxm.is_empty()) {
                set_if_valid(&mut m, f, v, (!exact).then_some(mask));
            }
        }
        m
    })
}

fn set_if_valid(m: &mut Match, f: Field, v: u128, mask: Option<u128>) {
    let n = f.n_bytes();
    // A later fragment, which has no ports, would contradict ports that were set before.
    let v = if f == Field::IpFrag { v & 1 } else { v };
    let v = Value::from_u128(n, if f.n_bits() < 128 { v & ((1 << f.n_bits()) - 1) } else { v });
    let mask = mask.map(|m| Value::from_u128(n, m));
    let valid = f.is_value_valid(&v) && mask.is_none_or(|m| f.is_mask_valid(&m));
    if v.to_u128() != 0 && valid && f.prereqs_ok(&m.flow, &m.mask) && f.is_all_wild(&m.mask) {
        let v = mask.map_or(v, |m| v.and(&m));
        let _ = m.set_field(f, &v, mask.as_ref(), None);
        m.add_ethernet_prereq(f);
    }
}

proptest! {
    #[test]
    fn decoding_is_total(b: Vec<u8>, loose: bool, allow_cookie: bool) {
        let _ = decode(&b, Options { loose, allow_cookie, ..Options::default() });
        let _ = pull_oxm_match(&mut &*b, Options::default());
        let _ = pull_field_array(&b);
    }

    #[test]
    fn what_is_encoded_decodes(m in any_match(), version in 0u8..7) {
        let mut b = vec![];
        encode(&mut b, &m, version, None);
        let back = strict(&b);
        // OXM cannot say what `vlan_tci` can: a priority without a tag, or a part of one.
        let pcp = m.mask.vlans[0].tci & 0xe000;
        prop_assume!(version == 0 || pcp == 0 || pcp == 0xe000 && m.flow.vlans[0].is_present());
        // Without a table, where an option lies depends on which came first.
        if m.mask.tunnel.metadata_present.count_ones() < 2 {
            prop_assert!(back.as_ref() == Ok(&m), "{:02x?}", b);
        }
        let mut again = vec![];
        encode(&mut again, &back.unwrap(), version, None);
        prop_assert_eq!(again, b);
    }
}

#[test]
fn order_is_that_of_headers() {
    let mut m = Match::catchall().with(Field::EthType, eth_type::IPV4).with(Field::IpProto, ip_proto::TCP);
    m.set_default_packet_type();
    m.set(Field::Metadata, 1u64);
    m.set(Field::TcpDst, 80u16);
    m.set(Field::Reg3, 7u32);
    m.set(Field::TunId, 9u64);
    m.set(Field::InPort, 1u16);
    let mut b = vec![];
    encode(&mut b, &m, ofp::OF14, None);
    let mut fields = vec![];
    let mut rest = &*b;
    while !rest.is_empty() {
        fields.push(pull_entry(&mut rest, None, true).unwrap().field);
    }
    use Field as F;
    assert_eq!(fields, [F::InPortOxm, F::EthType, F::IpProto, F::TcpDst, F::TunId, F::Reg3, F::Metadata]);
    assert_eq!(Flow::ZERO.regs[3], 0);
}
