//! The codecs and texts of this crate against those of an installed `ovs-ofctl`, which has hidden
//! commands for testing just that. Where it is not installed, there is nothing to compare.

#![allow(clippy::unwrap_used)] // A test: to panic is to fail.

use flow::oxm::{self, Header, Options, OxmError};
use flow::text::{NoNames, format_match, parse_match};
use flow::{Field, Format, Match, Value, legacy, ofp};
use std::io::Write;
use std::process::{Command, Stdio};

/// Feeds `input` to `ovs-ofctl args`; `None` if there is none.
fn ovs_ofctl(args: &[&str], input: &str) -> Option<String> {
    let mut child =
        Command::new("ovs-ofctl").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output().unwrap();
    let _ = feeder.join().unwrap();
    Some(String::from_utf8(out.stdout).unwrap())
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Bits that a value of `f` may have.
fn value_bits(f: Field) -> u128 {
    match f {
        Field::VlanVid => 0x1fff,
        Field::IpDscp => 0xfc,
        Field::ArpOp => 0xff,
        Field::NshTtl => 0x3f,
        Field::CtState => 0xff,
        _ if f.info().format == Format::PortOxm => 0x7fff,
        _ if f.n_bits() >= 128 => u128::MAX,
        _ => (1 << f.n_bits()) - 1,
    }
}

/// Leaves out what OVS is known to get wrong: the masks of these it takes from the value.
fn is_sound(f: Field) -> bool {
    !(f.name().starts_with("tun_erspan") || f.name().starts_with("tun_gtpu"))
}

/// Fields that make others possible, then some of any, as (field, value, mask).
fn random_fields(r: &mut Random) -> Vec<(Field, Value, Option<Value>)> {
    let mut out = vec![];
    let mut add = |f: Field, v: u128, m: Option<u128>| {
        let n = if f.is_variable_len() { 4 } else { f.n_bytes() };
        let m = m.map(|m| Value::from_u128(n, m));
        let v = Value::from_u128(n, v);
        out.push((f, m.map_or(v, |m| v.and(&m)), m));
    };
    if !r.one_in(4) {
        add(Field::EthType, r.pick(&[0x800, 0x806, 0x8035, 0x86dd, 0x8847, 0x894f, 0x5ff, 0x1234]), None);
        if !r.one_in(3) {
            add(Field::IpProto, r.pick(&[1, 6, 17, 58, 132, 99]), None);
            if r.one_in(3) {
                add(Field::Icmpv6Type, r.pick(&[135, 136, 1]), None);
                add(Field::Icmpv6Code, 0, None);
            }
        }
    }
    if r.one_in(4) {
        add(Field::CtState, 0x21, Some(0x31));
    }
    if r.one_in(4) {
        add(Field::VlanVid, 0x1000 | u128::from(r.next() & 0xfff), None);
    }
    for _ in 0..r.below(8) {
        let f = Field::from_index(r.below(Field::COUNT)).unwrap();
        if f.info().oxm.is_empty() || !is_sound(f) {
            continue;
        }
        let mut v = u128::from(r.next()) << 64 | u128::from(r.next());
        if !r.one_in(20) {
            v &= value_bits(f);
        }
        let mask = u128::from(r.next()) << 64 | u128::from(r.next());
        let m = match r.below(8) {
            0 if r.one_in(4) => Some(0),
            0..=2 if f.info().maskable == flow::Maskable::Bitwise || r.one_in(20) => Some(mask),
            3 => Some(u128::MAX),
            _ => None,
        };
        add(f, v, m);
    }
    if r.one_in(10) {
        let i = r.below(out.len().max(1));
        if let Some(x) = out.get(i).copied() {
            out.push(x);
        }
    }
    if r.one_in(10) && !out.is_empty() {
        out.rotate_left(1);
    }
    out
}

/// Entries as bytes, with a mask of all ones left standing.
fn put_all(fields: &[(Field, Value, Option<Value>)], version: u8) -> Vec<u8> {
    let mut out = vec![];
    for (f, v, m) in fields {
        let id = f.oxm_id(version).unwrap();
        let extra = if id.class == 0xffff { 4 } else { 0 };
        let len = extra + v.len() * if m.is_some() { 2 } else { 1 };
        Header {
            class: id.class,
            num: id.num,
            has_mask: m.is_some(),
            len: len as u8,
            experimenter: id.experimenter,
        }
        .put(&mut out);
        out.extend(v.as_bytes());
        out.extend(m.iter().flat_map(|m| m.as_bytes().to_vec()));
    }
    out
}

/// Entries in the syntax of `ovs-ofctl parse-oxm`: with names where there are any for output, with
/// numbers for input.
fn entries_text(mut b: &[u8], names: bool) -> String {
    let mut out = vec![];
    while !b.is_empty() {
        let start = b;
        let h = Header::pull(&mut b).unwrap();
        let header = &start[..start.len() - b.len()];
        let (payload, rest) = b.split_at(h.payload_len());
        b = rest;
        let (v, m) = payload.split_at(h.value_len());
        let hex = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
        let f = Field::by_header(h.class, h.experimenter, h.num);
        let id = f.and_then(|f| f.info().oxm.iter().find(|o| (o.class, o.num) == (h.class, h.num)));
        // ovs-ofctl prints the wrong bytes of the buffer that holds these: zeros.
        let zeros = names && f.is_some_and(Field::is_variable_len);
        let hex = |b: &[u8]| if zeros { "00".repeat(b.len()) } else { hex(b) };
        let name = match id {
            Some(id) if names => format!("{}{}", id.name, if h.has_mask { "_W" } else { "" }),
            None if names => format!("{}:{}", h.class, h.num),
            _ => hex(header),
        };
        let mask = if h.has_mask { format!("/{}", hex(m)) } else { String::new() };
        out.push(format!("{name}({}{mask})", hex(v)));
    }
    if out.is_empty() { "<any>".into() } else { out.join(", ") }
}

fn check_entries(version: u8, loose: bool, seed: u64) {
    let mut r = Random(seed);
    let inputs: Vec<Vec<u8>> = (0..3000)
        .map(|_| {
            let mut fields = random_fields(&mut r);
            // OVS keeps both in one place, which shows without prerequisites.
            fields.retain(|f| !loose || !matches!(f.0, Field::NdOptionsType | Field::TcpFlags));
            put_all(&fields, version)
        })
        .collect();
    let lines = inputs.iter().map(|b| entries_text(b, false) + "\n").collect::<String>();
    let version_name = format!("OpenFlow1{}", version.max(1) - 1);
    let mut args = if version == 0 { vec!["parse-nxm"] } else { vec!["parse-oxm", &version_name] };
    if !loose {
        args.insert(0, "--strict");
    }
    let Some(theirs) = ovs_ofctl(&args, &lines) else { return };
    assert_eq!(theirs.lines().count(), inputs.len());
    let mut good = 0;
    for (input, theirs) in inputs.iter().zip(theirs.lines()) {
        let opts = Options { loose, allow_cookie: version == 0, ..Options::default() };
        let ours = match oxm::decode(input, opts) {
            Ok(d) => {
                good += 1;
                let mut b = vec![];
                oxm::encode_with_cookie(&mut b, &d.matched, version, None, d.cookie, d.cookie_mask);
                entries_text(&b, true)
            }
            Err(e) => format!("nx_pull_match() returned error {e}"),
        };
        assert_eq!(ours, theirs, "{}", entries_text(input, true));
    }
    assert!(good > 500, "{good}");
}

#[test]
fn nxm() {
    check_entries(ofp::NXM, false, 1);
    check_entries(ofp::NXM, true, 2);
}

#[test]
fn oxm() {
    for version in ofp::OF12..=ofp::OF15 {
        check_entries(version, false, version.into());
    }
    check_entries(ofp::OF15, true, 99);
}

/// Text of matches: what `ovs-ofctl` prints of a flow that it has read.
#[test]
fn text() {
    let mut r = Random(7);
    let mut matches = vec![];
    while matches.len() < 3000 {
        let bytes = put_all(&random_fields(&mut r), ofp::OF15);
        if let Ok(m) = oxm::decode_fields(&bytes, Options::default()) {
            matches.push(m);
        }
    }
    let said: Vec<(String, Match)> = matches
        .into_iter()
        .filter_map(|m| {
            let text = format_match(&m, None, &NoNames, None);
            let (back, _) = parse_match(&text, &NoNames, None).ok()?;
            Some((text, back))
        })
        .filter(|(text, m)| encodable(m) && understood(text))
        .collect();
    assert!(said.len() > 1000, "{}", said.len());
    let lines = said.iter().map(|(t, _)| format!("{t},actions=drop\n")).collect::<String>();
    let Some(theirs) = ovs_ofctl(&["parse-flows", "-"], &lines) else { return };
    let theirs: Vec<&str> = theirs.lines().filter(|l| l.contains("(xid=")).collect();
    assert_eq!(theirs.len(), said.len());
    for ((text, m), theirs) in said.iter().zip(theirs) {
        let mut m = m.clone();
        m.normalize();
        let ours = match m.is_ct_tuple_consistent() {
            true => format!("{} actions=drop", format_match(&m, None, &NoNames, None)),
            false => "***decode error: OFPBAC_MATCH_INCONSISTENT***".into(),
        };
        let (_, theirs) = theirs.split_once("): ").unwrap();
        let theirs = theirs.strip_prefix("ADD ").unwrap_or(theirs);
        assert_eq!(ours.trim_start(), theirs, "{text}");
    }
}

/// Whether OVS would not stumble over the match when it sends and reads it back.
fn encodable(m: &Match) -> bool {
    let mut b = vec![];
    oxm::encode(&mut b, m, ofp::NXM, None);
    oxm::decode_fields(&b, Options::default()).is_ok_and(|back| back == *m)
}

/// Whether OVS can read the text: it takes an IPv6 mask that starts with a digit for a prefix length.
fn understood(text: &str) -> bool {
    text.split(',').filter_map(|kv| kv.split_once('=')).all(|(key, v)| {
        let v6 = key.contains("ipv6_") || key == "nd_target";
        let mask = v.split_once('/').map_or("", |(_, m)| m);
        !(v6 && mask.contains(':') && mask.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|x| format!("{x:02x}")).collect()
}

/// One paragraph per input; the first line is the match's text.
fn first_lines(out: &str) -> Vec<&str> {
    out.split("\n\n").filter(|p| !p.is_empty()).map(|p| p.lines().next().unwrap_or("")).collect()
}

#[test]
fn openflow_10() {
    let mut r = Random(10);
    let inputs: Vec<[u8; legacy::OFP10_MATCH_LEN]> = (0..2000)
        .map(|_| {
            let mut b: [u8; 40] = r.bytes(40).try_into().unwrap();
            let dl_type: u16 = r.pick(&[0x800, 0x806, 0x86dd, 0x8847, 0x5ff, 0x1234]);
            b[22..24].copy_from_slice(&dl_type.to_be_bytes());
            b[25] = r.pick(&[1, 6, 17, 132, 58]);
            if r.one_in(4) {
                b[18..20].copy_from_slice(&[0xff, 0xff]);
            }
            b
        })
        .collect();
    let lines = inputs.iter().map(|b| hex(b) + "\n").collect::<String>();
    let Some(theirs) = ovs_ofctl(&["parse-ofp10-match"], &lines) else { return };
    // The text of a match that asks for nothing is an empty line.
    let theirs: Vec<&str> = theirs.split("\n\n").map(|p| p.lines().next().unwrap_or("")).collect();
    for (input, theirs) in inputs.iter().zip(theirs) {
        let m = legacy::decode_ofp10(input);
        assert_eq!(format_match(&m, None, &NoNames, None), theirs, "{}", hex(input));
    }
}

#[test]
fn openflow_11() {
    let mut r = Random(11);
    let inputs: Vec<[u8; legacy::OFP11_MATCH_LEN]> = (0..3000)
        .map(|_| {
            let mut b: [u8; 88] = r.bytes(88).try_into().unwrap();
            b[..4].copy_from_slice(&[0, 0, 0, 88]);
            b[4..8].copy_from_slice(&[0, 0, 0, 5]);
            let dl_type: u16 = r.pick(&[0x800, 0x806, 0x8035, 0x86dd, 0x8847, 0x8848, 0x1234]);
            b[40..42].copy_from_slice(&dl_type.to_be_bytes());
            b[43] = r.pick(&[1, 6, 17, 132, 58]);
            if !r.one_in(4) {
                b[36] &= 0xf;
                b[38] &= 7;
                b[42] &= 0xfc;
            }
            match r.below(6) {
                0 => b[36..38].copy_from_slice(&[0xff, 0xff]),
                1 => b[36..38].copy_from_slice(&[0xff, 0xfe]),
                2 => b[60] = 0,
                _ => {}
            }
            b
        })
        .collect();
    let lines = inputs.iter().map(|b| hex(b) + "\n").collect::<String>();
    let Some(theirs) = ovs_ofctl(&["parse-ofp11-match"], &lines) else { return };
    let theirs = first_lines(&theirs);
    assert_eq!(theirs.len(), inputs.len());
    for (input, theirs) in inputs.iter().zip(theirs) {
        let ours = match legacy::decode_ofp11(input) {
            Ok(m) => format_match(&m, None, &NoNames, None),
            Err(e) => format!("bad ofp11_match: {e}"),
        };
        assert_eq!(ours, theirs, "{}", hex(input));
    }
}

#[test]
fn error_names() {
    assert_eq!(OxmError::BadPrereq.to_string(), "OFPBMC_BAD_PREREQ");
}

/// Parts of values, good and bad.
const PIECES: &[&str] = &[
    "0",
    "1",
    "9",
    "08",
    "0x",
    "0xf",
    "0xfffff",
    "65535",
    "65536",
    "4294967296",
    "18446744073709551616",
    "-1",
    "+1",
    " ",
    "/",
    "/",
    ":",
    ".",
    "a",
    "ff",
    "(",
    ")",
    ",",
    "|",
    "+",
    "-",
    "*",
    "trk",
    "est",
    "syn",
    "[200]",
    "oam",
    "df",
    "yes",
    "later",
    "NOT_LATER",
    "local",
    "ANY",
    "10.0.0.1",
    "255.0.255.0",
    "/33",
    "/24",
    "::1",
    "fe80::",
    "/129",
    "/64",
    "00:11:22:33:44:55",
    "1:2:3:4:5:6",
    "(0,0x800)",
    "(1",
];

/// The words with which bad values are refused.
#[test]
fn value_errors() {
    let mut r = Random(5);
    for _ in 0..400 {
        let f = Field::from_index(r.below(Field::COUNT)).unwrap();
        let value: String = (0..1 + r.below(3)).map(|_| r.pick(PIECES)).collect();
        let flow = format!("{}={value},", f.name());
        let Ok(out) = Command::new("ovs-ofctl").args(["parse-flow", &format!("{flow}actions=drop")]).output()
        else {
            return;
        };
        let stderr = String::from_utf8(out.stderr).unwrap();
        let theirs = stderr.lines().find_map(|l| l.strip_prefix("ovs-ofctl: "));
        // Only what stands before the actions is ours to judge.
        let pairs: Vec<_> = flow::text::key_values(&flow).collect();
        if pairs.len() != 1 || !is_sound(f) {
            continue;
        }
        let ours = parse_match(&flow, &NoNames, None).map(|_| ()).map_err(|e| e.to_string());
        match theirs.filter(|t| !t.starts_with("no usable protocol") && !t.starts_with("actions are invalid"))
        {
            Some(t) => assert_eq!(ours, Err(t.to_string()), "{flow}"),
            None => assert_eq!(ours, Ok(()), "{flow}"),
        }
    }
}
