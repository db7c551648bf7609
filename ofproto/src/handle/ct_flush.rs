//! `NXT_CT_FLUSH_ZONE` and `NXT_CT_FLUSH`: tracked connections are forgotten.

use super::Cx;
use dpif::ct::{CtFamily, CtMatch, CtTupleMatch};
use openflow::msg::ct_flush::{self, CtFlush, CtTuple, L3};
use openflow::{Incoming, OfError};

pub fn zone(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    let zone = ct_flush::decode_zone(msg)?;
    // As in the stock daemon, that there was nothing to forget is no error.
    let _ = cx.env.fabric.dpif.ct_flush(Some(zone), &CtMatch::default());
    Ok(())
}

pub fn matching(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    let flush = CtFlush::decode(msg)?;
    let which = CtMatch {
        family: flush.l3.map(|l3| match l3 {
            L3::Ipv4 => CtFamily::V4,
            L3::Ipv6 => CtFamily::V6,
        }),
        proto: flush.ip_proto,
        orig: tuple(&flush.orig),
        reply: tuple(&flush.reply),
    };
    let _ = cx.env.fabric.dpif.ct_flush(flush.zone, &which);
    Ok(())
}

fn tuple(t: &CtTuple) -> CtTupleMatch {
    let CtTuple { src, dst, src_port, dst_port, icmp_type, icmp_code } = *t;
    CtTupleMatch { src, dst, src_port, dst_port, icmp_type, icmp_code }
}
