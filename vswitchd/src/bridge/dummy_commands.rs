//! `netdev-dummy/*`: what tests do with dummy ports (`--enable-dummy`).

use super::bridges::Bridges;
use crate::dpctl::manage::change_port_number;
use dpif::text::{Fitness, parse_exact_key};
use netdev::dummy::DummyRegistry;
use netdev::dummy::commands::{conn_state, ip4addr, ip6addr, receive, set_admin_state};
use packet::Packet;
use packet::compose::{Payload, compose};
use unixctl::{Registry, UNLIMITED};

/// Bytes behind the headers of a packet that is made from a flow.
const PAYLOAD: usize = 64;

type Answer = Result<String, String>;
type Command = fn(&DummyRegistry, &[&str]) -> Answer;

/// Name, usage, least and most arguments.
const COMMANDS: [(&str, &str, usize, usize, Command); 5] = [
    ("receive", "name [--qid queue_id] packet|flow [--len packet_len]", 2, UNLIMITED, |dummies, args| {
        receive(dummies, args, &from_flow)
    }),
    ("set-admin-state", "[netdev] up|down", 1, 2, set_admin_state),
    ("conn-state", "[netdev]", 0, 1, conn_state),
    ("ip4addr", "[netdev] ipaddr/mask-prefix-len", 2, 2, ip4addr),
    ("ip6addr", "[netdev] ip6addr", 2, 2, ip6addr),
];

/// The commands, over [`Bridges`].
pub fn registry() -> Registry<Bridges> {
    let mut r = Registry::new();
    for (name, usage, min, max, command) in COMMANDS {
        r.add_sync(&format!("netdev-dummy/{name}"), usage, min, max, move |b: &mut Bridges, args| {
            command(b.layers().env().dummies(), args)
        });
    }
    const RENUMBER: &str = "dpif-dummy/change-port-number";
    r.add_sync(RENUMBER, "dp port new-number", 3, 3, change_port_number);
    r
}

/// A packet of a flow in datapath syntax; with a length, of exactly that many bytes.
fn from_flow(text: &str, len: Option<usize>) -> Result<Packet, String> {
    let bad = || "bad packet or flow syntax".to_owned();
    let (flow, fitness) = parse_exact_key(text, None).map_err(|e| e.to_string())?;
    if fitness == Fitness::TooLittle {
        return Err(bad());
    }
    let Some(len) = len else { return Ok(compose(&flow, Payload::Count(PAYLOAD))) };
    let headers = compose(&flow, Payload::Count(0)).len();
    let payload = len.checked_sub(headers).ok_or_else(bad)?;
    Ok(compose(&flow, Payload::Count(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_long_as_asked() {
        let flow = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),\
                    ipv4(src=192.168.0.1,dst=192.168.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=8,dst=9)";
        assert_eq!(from_flow(flow, None).unwrap().len(), 42 + PAYLOAD);
        assert_eq!(from_flow(flow, Some(100)).unwrap().len(), 100);
        assert_eq!(from_flow(flow, Some(10)).unwrap_err(), "bad packet or flow syntax");
        assert!(from_flow("eth(", None).is_err());
    }
}
