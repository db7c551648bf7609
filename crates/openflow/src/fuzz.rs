//! What holds for any bytes, for the fuzz target `openflow_messages` and for tests.

use crate::msg::error_msg::{ErrorMsg, encode_reply};
use crate::msg::hello::{VersionSet, negotiate};
use crate::msg::packet_in::Continuation;
use crate::multipart::MultipartAssembler;
use crate::{Context, Form, Frame, Incoming, Message, OfError, Protocol, Target, frame, identify};

/// Takes `data` for a stream of messages and each of them for one of every version and protocol. Decodes
/// them, encodes what they mean, and decodes that again.
///
/// # Panics
/// If a message that was encoded is no message, or is another one after decoding and encoding it again;
/// that is a mistake in this crate.
pub fn fuzz(data: &[u8]) {
    let mut rest = data;
    let mut assembler = MultipartAssembler::default();
    while let Frame::Whole(len) = frame(rest) {
        let (message, tail) = rest.split_at(len);
        rest = tail;
        for whole in assembler.submit(message, 0).into_iter().flatten() {
            any_protocol(&whole);
        }
        any_protocol(message);
    }
    while let Some(error) = assembler.expire(u64::MAX) {
        assert!(identify(&error).is_ok(), "{error:02x?}");
    }
}

fn any_protocol(message: &[u8]) {
    let incoming = match identify(message) {
        Ok(incoming) => incoming,
        Err(error) => {
            let reply = encode_reply(error, message);
            let decoded = identify(&reply).ok().and_then(|reply| ErrorMsg::decode(&reply));
            assert!(decoded.is_some_and(|decoded| decoded.error == error), "{reply:02x?}");
            return;
        }
    };
    for protocol in Protocol::ALL.into_iter().filter(|p| p.version() == incoming.version) {
        let Ok(decoded) = Message::decode(&incoming, &Context::unbound(protocol)) else { continue };
        one_protocol(&decoded, &incoming, protocol);
    }
}

fn one_protocol(decoded: &Message, incoming: &Incoming<'_>, protocol: Protocol) {
    for other in Protocol::ALL {
        let _ = decoded.encode(&Target::new(other), 1);
    }
    match decoded {
        Message::Hello(hello) => _ = negotiate(VersionSet::ALL, hello.versions),
        Message::PacketIn(m) => {
            let _ = Continuation::decode(&m.continuation, incoming.version, &Context::unbound(protocol));
        }
        _ => (),
    }
    let xid = incoming.header.xid;
    let Some(encoded) = decoded.encode(&Target::new(protocol), xid) else { return };
    for part in &encoded {
        stays(part, incoming.form, protocol);
    }
}

/// A message of this crate's own comes back as it was.
fn stays(message: &[u8], from: Form, protocol: Protocol) {
    let incoming = identify(message).unwrap_or_else(|e| panic!("{from:?}: {e}: {message:02x?}"));
    let xid = incoming.header.xid;
    let context = Context::unbound(protocol);
    let decoded = match Message::decode(&incoming, &context) {
        Ok(decoded) => decoded,
        // As Open vSwitch, byte for byte: the MPLS setters of OpenFlow 1.1 take values wider than their fields,
        // and the later versions' `set_field` that they become refuses them.
        Err(OfError::OfpbacBadSetArgument) => return,
        Err(e) => panic!("{from:?}, {protocol:?}: {e}: {message:02x?}"),
    };
    // Fields of packets that contradict each other are not kept as they are.
    if matches!(decoded, Message::PacketIn(_)) {
        return;
    }
    let again = decoded.encode(&Target::new(protocol), xid).unwrap_or_default().concat();
    let mut message = message.to_vec();
    if incoming.multipart_flags() != 0
        && let (Some(to), Some(from)) = (message.get_mut(10..12), again.get(10..12))
    {
        to.copy_from_slice(from);
    }
    assert!(again == message, "{from:?}, {protocol:?}:\n{again:02x?}\n{message:02x?}");
}

#[cfg(test)]
mod tests {
    /// What the fuzzer found: a packet-out that sets an MPLS traffic class of 255.
    #[test]
    fn a_value_wider_than_its_field_is_no_mistake_of_ours() {
        let mut message = vec![5, 13, 0, 42, 0, 255, 9, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0];
        message.extend([0, 14, 0, 8, 255, 255, 255, 255, 176, 176, 176, 176, 176, 176, 236, 236, 0, 236]);
        super::fuzz(&message);
        // The same with a label of 32 bits.
        message[25] = 13;
        super::fuzz(&message);
    }
}
