use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::hex::{bytes, text};
use crate::{Form, Protocol, Target};

/// Messages that Debian's ovs-vswitchd and ovs-ofctl 3.1.0 sent each other: a line each, the protocol and
/// the bytes, behind a line that says who sent it in answer to what.
const SAMPLES: &str = include_str!("samples.txt");

fn protocol(name: &str) -> Protocol {
    Protocol::ALL.into_iter().find(|p| format!("{p:?}") == name).unwrap()
}

/// The message again, in the form in which it came.
fn encode_as(form: Form, message: &Message, target: &Target<'_>, xid: u32) -> Option<Vec<Vec<u8>>> {
    match (form, message) {
        (Form::NxtPacketIn, Message::PacketIn(m)) => {
            Some(vec![m.encode(nx::PacketInFormat::Nxt, target, xid)])
        }
        (Form::NxtPacketIn2, Message::PacketIn(m)) => {
            Some(vec![m.encode(nx::PacketInFormat::Nxt2, target, xid)])
        }
        _ => message.encode(target, xid),
    }
}

/// Nicira's ways to say what the standard says, too: the standard's is what is encoded.
fn has_other_form(form: Form, version: crate::Version) -> bool {
    match form {
        Form::NxtSetAsyncConfig => version >= crate::Version::Of13,
        Form::NxtSetAsyncConfig2 => true,
        _ => false,
    }
}

/// Decodes a message and encodes it again; says what is different.
fn round_trip(protocol: Protocol, message: &[u8]) -> Result<Form, String> {
    let incoming = identify(message).map_err(|e| format!("identify: {e}"))?;
    let form = incoming.form;
    let context = Context::unbound(protocol);
    let decoded = Message::decode(&incoming, &context).map_err(|e| format!("{form:?}: {e}"))?;
    let target = Target::new(protocol);
    if let Message::PacketIn(m) = &decoded {
        let continuation = Continuation::decode(&m.continuation, incoming.version, &context);
        let continuation = continuation.map_err(|e| format!("{form:?}: continuation: {e}"))?;
        assert_eq!(continuation.encode(&target), m.continuation);
    }
    if has_other_form(form, incoming.version) {
        return Ok(form);
    }
    let encoded = encode_as(form, &decoded, &target, incoming.header.xid).ok_or("not encoded")?;
    let mut is = encoded.iter().map(|m| text(m)).collect::<Vec<_>>().join(" ");
    if incoming.multipart_flags() != 0 {
        is.replace_range(20..24, "0001");
    }
    if is == text(message) { Ok(form) } else { Err(format!("{form:?}\n  is  {is}\n  not {}", text(message))) }
}

/// Every sample with its comment, protocol and bytes.
fn samples(file: &str) -> impl Iterator<Item = (&str, Protocol, Vec<u8>)> {
    let mut comment = "";
    file.lines().filter_map(move |line| {
        let Some((name, hex)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else {
            comment = line;
            return None;
        };
        Some((comment, protocol(name), bytes(hex)))
    })
}

#[test]
fn captured() {
    let mut forms = std::collections::BTreeSet::new();
    let mut bad = Vec::new();
    // Another file with as many messages as one likes.
    let extra = std::env::var("OF_CAPTURE").map(|path| std::fs::read_to_string(path).unwrap());
    for (comment, protocol, message) in samples(extra.as_deref().unwrap_or(SAMPLES)) {
        match round_trip(protocol, &message) {
            Ok(form) => _ = forms.insert(form),
            Err(e) => bad.push(format!("{comment}\n{protocol:?} {e}")),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    let missing: Vec<_> = Form::ALL.iter().filter(|form| !forms.contains(form)).collect();
    let unseen = [
        Form::Onft13FlowMonitorPaused,
        Form::NxtFlowMonitorPaused,
        Form::Onft13FlowMonitorResumed,
        Form::NxtFlowMonitorResumed,
    ];
    assert!(extra.is_ok() || missing == unseen.iter().collect::<Vec<_>>(), "no sample of {missing:?}");
}

/// Messages that Debian's ovs-vswitchd or `ovs-ofctl ofp-parse` 3.1.0 refused: damaged [`SAMPLES`]. A line each: the protocol, the
/// error and the bytes.
const REFUSED: &str = include_str!("refused.txt");

#[test]
fn refused() {
    let mut bad = Vec::new();
    for line in REFUSED.lines() {
        let [name, error, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let is = decode(&bytes(hex), &Context::unbound(protocol(name)));
        if is.as_ref().err().map(|e| e.name()) != Some(error) {
            bad.push(format!("{line}\n  is {is:?}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// A change to a message that leaves most of it as it was.
#[derive(Debug, Clone)]
enum Change {
    Set(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Cut(usize),
}

impl Change {
    fn apply(&self, place: Index, message: &mut Vec<u8>) {
        let at = place.index(message.len());
        match self {
            Self::Set(byte) => message[at] = *byte,
            Self::Insert(bytes) => _ = message.splice(at..at, bytes.iter().copied()),
            Self::Remove(n) => _ = message.drain(at..message.len().min(at + n)),
            Self::Cut(n) => message.truncate(message.len().saturating_sub(*n).max(8)),
        }
        let len = u16::try_from(message.len()).unwrap();
        message.resize(message.len().max(8), 0);
        message[2..4].copy_from_slice(&len.max(8).to_be_bytes());
    }
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    let byte = prop_oneof![0u8..9, any::<u8>(), Just(0x10), Just(0xff), Just(0xfe)];
    let len = prop_oneof![Just(1usize), Just(4), Just(8), Just(16)];
    let change = prop_oneof![
        6 => byte.prop_map(Change::Set),
        1 => len.clone().prop_flat_map(|n| prop::collection::vec(any::<u8>(), n)).prop_map(Change::Insert),
        1 => len.clone().prop_map(Change::Remove),
        1 => len.prop_map(Change::Cut),
    ];
    prop::collection::vec((any::<Index>(), change), 0..4)
}

static MESSAGES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| samples(SAMPLES).map(|(_, _, message)| message).collect());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changed_messages_hold_what_holds_for_any_bytes(sample in any::<Index>(), changes in changes()) {
        let mut message = sample.get(&MESSAGES).clone();
        for (place, change) in &changes {
            change.apply(*place, &mut message);
        }
        crate::fuzz::fuzz(&message);
    }

    #[test]
    fn random_bytes_hold_what_holds_for_any_bytes(
        version in 1u8..8,
        msg_type in 0u8..36,
        mut message in prop::collection::vec(any::<u8>(), 8..200),
    ) {
        let len = message.len() as u8;
        message[..4].copy_from_slice(&[version, msg_type, 0, len]);
        crate::fuzz::fuzz(&message);
    }
}
