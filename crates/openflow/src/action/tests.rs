//! Properties of all actions, for bytes that are made after the table of forms.

use super::form::{FormInfo, Shape, Vendor, form_by_code};
use super::table::FORMS;
use super::*;
use crate::error::{NICIRA, ONF};
use crate::wire::PutBytes;
use crate::{OfError, Version};
use flow::{Field, TlvTable, oxm};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes of some form, right in number and length, with headers of fields where forms have them.
fn arb_form() -> impl Strategy<Value = (Version, Vec<u8>)> {
    let byte = prop_oneof![3 => Just(0), 1 => 0u8..16, 1 => any::<u8>()];
    let headers = vec((0usize..16, 0..Field::COUNT, any::<bool>()), 0..3);
    (0..Version::ALL.len(), 0..FORMS.len(), vec(byte, 0..80), headers).prop_map(|(v, form, body, headers)| {
        let version = Version::ALL[v];
        (version, build(&FORMS[form], version, body, &headers))
    })
}

fn build(form: &FormInfo, version: Version, mut body: Vec<u8>, headers: &[(usize, usize, bool)]) -> Vec<u8> {
    for (at, field, masked) in headers {
        let mut header = Vec::new();
        let field = Field::from_index(*field).unwrap();
        oxm::put_header(&mut header, field, if *masked { version.wire() } else { 0 }, false, None);
        let at = 2 * at;
        body.resize(body.len().max(at + header.len()), 0);
        body[at..at + header.len()].copy_from_slice(&header);
    }
    let code = form.codes.iter().find(|c| c.first <= version && version <= c.last).unwrap_or(&form.codes[0]);
    let mut out = Vec::new();
    let vendor = match code.vendor {
        Vendor::OpenFlow => None,
        Vendor::Nicira => Some(NICIRA),
        Vendor::Onf => Some(ONF),
    };
    out.put_u16(if vendor.is_some() { 0xffff } else { code.number });
    out.put_u16(0);
    if let Some(id) = vendor {
        out.put_u32(id);
        out.put_u16(code.number);
    }
    out.extend(body);
    let len = match form.shape {
        Shape::Fixed(n) => n.into(),
        Shape::Min(n) => out.len().max(n.into()).next_multiple_of(8),
        Shape::U64 => 24,
        _ if vendor.is_some() => 16,
        _ => 8,
    };
    out.resize(len, 0);
    out.set_u16(2, len as u16);
    out
}

fn decode(version: Version, bytes: &[u8]) -> Result<Vec<Action>, OfError> {
    Decoder::new(version).actions(bytes)
}

fn encode(version: Version, actions: &[Action]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(version, &mut out).actions(actions);
    out
}

fn text(actions: &[Action]) -> String {
    let mut out = String::new();
    Text::new(&mut out).actions(actions);
    out
}

/// Actions that some versions took without a look at their values, and have to turn into others.
fn has_wild_value(action: &Action) -> bool {
    match action {
        Action::SetMplsLabel(a) => a.label > 0xfffff,
        Action::SetMplsTc(a) => a.tc > 7,
        // A specification that says nothing reads as padding.
        Action::Learn(a) => a.specs.iter().any(|s| s.n_bits() == 0),
        _ => false,
    }
}

/// Actions whose text does not say all.
fn has_lossy_text(action: &Action) -> bool {
    match action {
        // Reasons without a name, and an empty one.
        Action::Controller(a) => a.reason >= reason::EXPLICIT_MISS,
        // Protocols without a name, flags that nobody knows.
        Action::Ct(a) => !matches!(a.alg, alg::NONE | alg::FTP | alg::TFTP),
        // Text takes no widths outside of fields.
        Action::Learn(_) => true,
        // An empty name of a header property is not possible in text, nor a type of metadata above 2.
        Action::Encap(a) => !a.properties.is_empty(),
        Action::Decap(a) => a.new_pkt_type >> 16 >= 6,
        // Neither port nor table.
        Action::Resubmit(a) => a.in_port == crate::PortNo::IN_PORT && a.table_id == Resubmit::SAME_TABLE,
        Action::OutputTrunc(_) => true,
        Action::DecTtl(a) => a.controller_ids().is_empty(),
        // Numbers that have a name only on the wire, or values that text does not allow.
        Action::SetField(a) => a.form() == SetForm::Load2 || a.mask().iter().all(|b| *b == 0),
        _ => has_wild_value(action),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// What decodes encodes to what decodes to the same.
    #[test]
    fn bytes_come_back((version, bytes) in arb_form()) {
        if let Ok(actions) = decode(version, &bytes)
            && !actions.iter().any(has_wild_value)
        {
            let again = encode(version, &actions);
            let back = decode(version, &again);
            prop_assert_eq!(back.map(|b| encode(version, &b)), Ok(again));
        }
    }

    /// Actions of one version go to every other.
    #[test]
    fn versions_convert((version, bytes) in arb_form()) {
        if let Ok(actions) = decode(version, &bytes) {
            for other in Version::ALL {
                let converted = encode(other, &actions);
                prop_assert_eq!(converted.len() % 8, 0);
                let mut instructions = Vec::new();
                Encoder::new(other, &mut instructions).instructions(&actions);
                prop_assert_eq!(instructions.len() % 8, 0);
                let _ = Decoder::new(other).instructions(&instructions);
            }
        }
    }

    /// What is written as text reads as the same.
    #[test]
    fn text_comes_back((version, bytes) in arb_form()) {
        if let Ok(actions) = decode(version, &bytes)
            && !actions.iter().any(has_lossy_text)
        {
            let written = text(&actions);
            let read = Parser::default().actions(&written);
            prop_assert_eq!(read.map(|r| text(&r)), Ok(written));
        }
    }

    /// Nothing that a peer sends is more than an error.
    #[test]
    fn any_bytes_are_safe(bytes in vec(any::<u8>(), 0..200), aligned: bool) {
        let mut bytes = bytes;
        if aligned {
            bytes.truncate(bytes.len() / 8 * 8);
        }
        for version in Version::ALL {
            let _ = Decoder::new(version).actions(&bytes);
            let _ = Decoder::new(version).instructions(&bytes);
        }
    }

    /// Nothing that a user writes is more than an error.
    #[test]
    fn any_text_is_safe(name in 0..KINDS.len(), separator in "[:=(]?", arguments in "[ -~]{0,40}|\\PC{0,20}") {
        let s = format!("{}{separator}{arguments}", KINDS[name].name);
        if let Ok(actions) = Parser::default().instructions(&s) {
            let _ = text(&actions);
            for version in Version::ALL {
                let mut out = Vec::new();
                Encoder::new(version, &mut out).instructions(&actions);
            }
        }
    }
}

/// Each form is found by its number, in each of its versions.
#[test]
fn forms_are_found() {
    for form in FORMS {
        for code in form.codes {
            for version in Version::ALL.into_iter().filter(|v| code.first <= *v && *v <= code.last) {
                let clash = FORMS.iter().flat_map(|f| f.codes).filter(|c| {
                    c.vendor == code.vendor
                        && c.number == code.number
                        && c.first <= version
                        && version <= c.last
                });
                assert_eq!(clash.count(), 1, "{code:?} in {version}");
                let found = form_by_code(version, code.vendor, code.number).unwrap();
                assert!(std::ptr::eq(found, form), "{code:?} in {version}");
            }
        }
    }
    assert_eq!(decode(Version::Of13, &[0, 77, 0, 8, 0, 0, 0, 0]), Err(OfError::OfpbacBadType));
}

#[test]
fn nesting_is_limited() {
    let nest = |depth: usize| {
        let mut bytes = Vec::new();
        for level in (1..=depth).rev() {
            bytes.put_u16(0xffff);
            bytes.put_u16(16 * level as u16);
            bytes.put_u32(NICIRA);
            bytes.put_u16(42);
            bytes.put_zeros(6);
        }
        decode(Version::Of10, &bytes)
    };
    assert!(nest(usize::from(NESTING_MAX) - 1).is_ok());
    assert_eq!(nest(usize::from(NESTING_MAX)), Err(OfError::OfpbacTooMany));
    assert_eq!(nest(4000), Err(OfError::OfpbacTooMany));
    let deep = "clone(".repeat(200);
    assert_eq!(Parser::default().actions(&deep), Err("Action nested too deeply".into()));
}

/// With a bridge's tunnel options, fields have the width that is mapped, and the use is noted.
#[test]
fn tunnel_options() {
    let mut tlv = TlvTable::default();
    tlv.add(3, 0xffff, 1, 4).unwrap();
    let load = Parser::default().actions("load:0x12->tun_metadata3[0..7],push:tun_metadata3[0..31]").unwrap();
    let bytes = encode(Version::Of13, &load);
    let mut decoder = Decoder::new(Version::Of13).with_tlv(&tlv);
    let actions = decoder.actions(&bytes).unwrap();
    assert_eq!(decoder.tlv_used, 1 << 3);
    let [Action::SetField(set), Action::StackPush(_)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((set.value(), set.mask()), (&[0, 0, 0, 0x12][..], &[0, 0, 0, 0xff][..]));
    let mut out = String::new();
    Text { tlv: Some(&tlv), ..Text::new(&mut out) }.actions(&actions);
    assert_eq!(out, "set_field:0x12/0xff->tun_metadata3,push:NXM_NX_TUN_METADATA3[]");
    let mut encoded = Vec::new();
    Encoder::new(Version::Of13, &mut encoded).with_tlv(&tlv).actions(&actions[1..]);
    assert_eq!(encoded[14..16], [40 << 1 | 3 << 1, 4], "header with the mapped length");
    let unmapped = encode(Version::Of13, &Parser::default().actions("push:tun_metadata4").unwrap());
    assert_eq!(decoder.actions(&unmapped), Err(OfError::NxfmfcInvalidTlvField));
}

#[test]
fn debugging_actions_need_leave() {
    let bytes = encode(Version::Of10, &[Action::DebugRecirc(DebugRecirc)]);
    assert_eq!(decode(Version::Of10, &bytes), Err(OfError::OfpbacBadVendorType));
    let mut decoder = Decoder::new(Version::Of10);
    decoder.debug = true;
    assert_eq!(decoder.actions(&bytes), Ok(vec![Action::DebugRecirc(DebugRecirc)]));
}

#[test]
fn questions() {
    let actions = Parser::default()
        .instructions("meter:7,clone(1,enqueue(2,3)),ct(commit,nat),write_actions(group:4),goto_table:1")
        .unwrap();
    assert_eq!(flattened(&actions).count(), 9);
    assert_eq!(meter(&actions), 7);
    assert_eq!(meter(&actions[1..]), 0);
    for (port, expected) in [(1, true), (2, true), (3, false)] {
        assert_eq!(output_to_port(&actions, crate::PortNo(port)), expected);
    }
    assert!(output_to_group(&actions, 4));
    assert!(!output_to_group(&actions, 5));
}
