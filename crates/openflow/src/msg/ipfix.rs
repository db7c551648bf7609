//! `NXST_IPFIX_BRIDGE` and `NXST_IPFIX_FLOW`: counters of IPFIX exporters.

use crate::OfError;
use crate::form::Incoming;
use crate::multipart::MultipartWriter;
use crate::wire::PutBytes;

/// The counters of an exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The extension's names.
pub struct IpfixStats {
    pub total_flows: u64,
    pub current_flows: u64,
    pub pkts: u64,
    pub ipv4_pkts: u64,
    pub ipv6_pkts: u64,
    pub error_pkts: u64,
    pub ipv4_error_pkts: u64,
    pub ipv6_error_pkts: u64,
    pub tx_pkts: u64,
    pub tx_errors: u64,
    /// The collectors that it sends to, 0 for a bridge's exporter.
    pub collector_set_id: u32,
}

/// Decodes the entries of one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<IpfixStats>, OfError> {
    let mut r = msg.body();
    let mut entries = Vec::new();
    while !r.is_empty() {
        entries.push(IpfixStats {
            total_flows: r.u64()?,
            current_flows: r.u64()?,
            pkts: r.u64()?,
            ipv4_pkts: r.u64()?,
            ipv6_pkts: r.u64()?,
            error_pkts: r.u64()?,
            ipv4_error_pkts: r.u64()?,
            ipv6_error_pkts: r.u64()?,
            tx_pkts: r.u64()?,
            tx_errors: r.u64()?,
            collector_set_id: r.u32()?,
        });
        r.skip(4)?;
    }
    Ok(entries)
}

/// Adds an exporter to a reply.
pub fn append(s: &IpfixStats, replies: &mut MultipartWriter) -> bool {
    let counters = [
        s.total_flows,
        s.current_flows,
        s.pkts,
        s.ipv4_pkts,
        s.ipv6_pkts,
        s.error_pkts,
        s.ipv4_error_pkts,
        s.ipv6_error_pkts,
        s.tx_pkts,
        s.tx_errors,
    ];
    replies.append(|out| {
        counters.into_iter().for_each(|c| out.put_u64(c));
        out.put_u32(s.collector_set_id);
        out.put_zeros(4);
    })
}
