//! Changing a packet's headers, checksums kept right.
//!
//! Every function works on the headers that parsing found (the packet's offsets) and does nothing when
//! the header it wants is not there. Values come as [`Masked`]: bits outside the mask stay.
//!
//! Checksums are updated incrementally, so that one that was wrong stays wrong. One that is left to the
//! device ([`crate::Checksum::Partial`]) holds the sum of the pseudo header only; it follows addresses
//! and nothing else.

mod ip;
mod l2;
mod l4;
#[cfg(test)]
mod tests;

pub(crate) use ip::Chain;
pub use ip::{set_arp, set_ecn_ce, set_ipv4, set_ipv6};
pub use l2::{
    add_mpls, pop_eth, pop_mpls, pop_nsh, pop_vlan, push_eth, push_mpls, push_nsh, push_vlan, set_eth,
    set_mpls, set_nsh,
};
pub use l4::{set_icmp, set_nd, set_nd_ext, set_sctp, set_tcp, set_udp};

use crate::header::Masked;
use crate::proto::ethertype;
use crate::{Checksum, NO_OFFSET, Packet};
use flow::{EthAddr, PT_ETH, U128};
use std::ops::{BitAnd, BitOr, Not};

/// `old` with the bits of `m.mask` taken from `m.key`.
#[inline(always)]
fn merge<T>(old: T, key: T, mask: T) -> T
where
    T: Copy + BitAnd<Output = T> + BitOr<Output = T> + Not<Output = T>,
{
    (key & mask) | (old & !mask)
}

fn merge128(old: U128, key: U128, mask: U128) -> U128 {
    U128 { hi: merge(old.hi, key.hi, mask.hi), lo: merge(old.lo, key.lo, mask.lo) }
}

fn merge_mac(old: EthAddr, m: Masked<EthAddr>) -> EthAddr {
    EthAddr::from_u64(merge(old.to_u64(), m.key.to_u64(), m.mask.to_u64()))
}

impl Packet {
    /// Where the bytes from header offset `ofs` on start, if there are at least `N` of them that do not
    /// belong to the link layer's padding.
    fn header<const N: usize>(&mut self, ofs: u16) -> Option<&mut [u8; N]> {
        if ofs == NO_OFFSET {
            return None;
        }
        let end = self.len().saturating_sub(usize::from(self.l2_pad));
        self.data_mut().get_mut(usize::from(ofs)..end)?.first_chunk_mut::<N>()
    }

    /// Bytes from the transport header to the end of the packet, without link-layer padding. 0 if there is
    /// no transport header.
    pub fn l4_len(&self) -> usize {
        self.l4_bytes().len()
    }

    /// Transport header and payload; empty if there are none.
    pub fn l4_bytes(&self) -> &[u8] {
        let end = self.len().saturating_sub(usize::from(self.l2_pad));
        match self.l4_ofs {
            NO_OFFSET => &[],
            o => self.data().get(usize::from(o)..end).unwrap_or(&[]),
        }
    }

    fn l4_bytes_mut(&mut self) -> &mut [u8] {
        let end = self.len().saturating_sub(usize::from(self.l2_pad));
        match self.l4_ofs {
            NO_OFFSET => &mut [],
            o => self.data_mut().get_mut(usize::from(o)..end).unwrap_or(&mut []),
        }
    }

    pub fn is_eth(&self) -> bool {
        self.packet_type == PT_ETH
    }

    /// The Ethernet type of what starts at `l3_ofs`.
    pub fn l3_type(&self) -> Option<u16> {
        if !self.is_eth() {
            return (self.l2_5_ofs == NO_OFFSET).then_some(self.packet_type as u16);
        }
        let at = match (self.l2_5_ofs, self.l3_ofs) {
            (NO_OFFSET, NO_OFFSET) => return None,
            (NO_OFFSET, l3) => usize::from(l3),
            (_, _) => return Some(ethertype::MPLS),
        };
        let type_bytes = self.data().get(at.checked_sub(2)?..at)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*type_bytes))
    }

    /// Whether the transport header's own checksum is left to the device.
    fn l4_checksum_is_partial(&self) -> bool {
        matches!(self.offload.checksum, Checksum::Partial { start, .. } if start == self.l4_ofs)
    }

    /// A promise that the checksum was verified does not outlive the header it was made for.
    fn forget_good_checksum(&mut self) {
        if self.offload.checksum == Checksum::Good {
            self.offload.checksum = Checksum::Unknown;
        }
    }

    fn forget_offsets(&mut self) {
        (self.l2_5_ofs, self.l3_ofs, self.l4_ofs, self.l2_pad) = (NO_OFFSET, NO_OFFSET, NO_OFFSET, 0);
    }
}
