//! What is remembered of a connection's protocol, and what a packet changes in it.

use crate::extract::Segment;
use crate::key::{Key, is_icmp_request};
use crate::tcp;
use crate::timeout::Timeout;
use packet::proto::ip_proto;
use serde::{Deserialize, Serialize};

/// What a packet is to the connection it was found to belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Invalid,
    Valid,
    /// Valid, and the connection is still new.
    ValidNew,
    /// The connection is over, and the packet begins another.
    Anew,
}

/// How far a conversation without a handshake has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Stage {
    First,
    /// More packets, all from the same end.
    Multiple,
    Answered,
}

/// The state of a connection's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ProtoState {
    Tcp([tcp::Peer; 2]),
    Icmp {
        answered: bool,
    },
    /// UDP and everything else.
    Other(Stage),
}

/// Whether a connection may begin with a packet of this key.
pub fn may_begin(key: &Key, segment: Option<&Segment>) -> bool {
    match segment {
        Some(s) => tcp::may_begin(s),
        None if key.is_icmp() => is_icmp_request(key.family, key.icmp_type()),
        None => true,
    }
}

impl ProtoState {
    /// After the first packet, with the timeout that then holds.
    pub fn begin(key: &Key, segment: Option<&Segment>) -> (ProtoState, Timeout) {
        match segment {
            Some(s) if key.proto == ip_proto::TCP => (ProtoState::Tcp(tcp::begin(s)), Timeout::TcpSynSent),
            _ if key.is_icmp() => (ProtoState::Icmp { answered: false }, Timeout::IcmpFirst),
            _ => (ProtoState::Other(Stage::First), Timeout::UdpFirst),
        }
    }

    /// Takes in a packet. The timeout is `None` where it stays as it is.
    #[inline]
    pub fn update(
        &mut self,
        is_reply: bool,
        segment: Option<&Segment>,
        check_seq: bool,
    ) -> (Verdict, Option<Timeout>) {
        match self {
            ProtoState::Tcp(peers) => match segment {
                Some(s) => tcp::update(peers, usize::from(is_reply), s, check_seq),
                None => (Verdict::Invalid, None),
            },
            ProtoState::Icmp { answered } => {
                *answered |= is_reply;
                match answered {
                    true => (Verdict::Valid, Some(Timeout::IcmpReply)),
                    false => (Verdict::ValidNew, Some(Timeout::IcmpFirst)),
                }
            }
            ProtoState::Other(stage) => {
                *stage = match *stage {
                    _ if is_reply => Stage::Answered,
                    Stage::First => Stage::Multiple,
                    other => other,
                };
                match stage {
                    Stage::Answered => (Verdict::Valid, Some(Timeout::UdpMultiple)),
                    _ => (Verdict::ValidNew, Some(Timeout::UdpSingle)),
                }
            }
        }
    }
}
