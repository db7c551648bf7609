//! Checksums of frames that stay with the guest: their bytes are read where they are, and kept nowhere.

use super::frames::Frames;
use super::source::Source;
use packet::checksum::{finish, offset_in_l4, pseudo_v4, sum};
use packet::proto::{ethertype, header_len, ip_proto};

/// Bytes that are looked at together; an even number, as sums are of pairs.
const STEP: usize = 512;
/// Where the transport header is behind an untagged IPv4 header without options.
const L4: usize = header_len::ETH + header_len::IPV4;
/// More fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;

/// The sum of the first `len` bytes; `None` if there are not as many.
fn sum_of(mut source: Source<'_>, len: usize) -> Option<u32> {
    let (mut bytes, mut left, mut all) = ([0; STEP], len, 0);
    while left > 0 {
        let now = bytes.get_mut(..left.min(STEP))?;
        if source.read(now) < now.len() {
            return None;
        }
        left -= now.len();
        all += u32::from(packet::checksum::fold(sum(now)));
    }
    Some(all)
}

impl Frames {
    /// Whether the lent frame at `place` is TCP or UDP over untagged IPv4 without options, whole, and its transport checksum
    /// is right, or one that UDP does without. The guest may change it afterwards: then it is wrong when it arrives.
    pub(super) fn is_right(&self, place: usize) -> bool {
        self.residue(place) == Some(0)
    }

    /// What is left of the checksum of such a frame.
    fn residue(&self, place: usize) -> Option<u16> {
        let (head, len) = self.shown_at(place);
        let ip = head.get(header_len::ETH..)?.first_chunk::<{ header_len::IPV4 }>()?;
        let half = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
        let is_ipv4 = head.get(header_len::ETH - 2..header_len::ETH)? == ethertype::IPV4.to_be_bytes();
        let (proto, payload) = (ip[9], usize::from(half(2)).checked_sub(header_len::IPV4)?);
        let has_ports = matches!(proto, ip_proto::TCP | ip_proto::UDP);
        if !is_ipv4 || ip[0] != 0x45 || half(6) & FRAGMENT != 0 || !has_ports || L4 + payload > len {
            return None;
        }
        let own = head.get(L4 + offset_in_l4(proto)?..)?.first_chunk()?;
        if proto == ip_proto::UDP && *own == [0; 2] {
            return Some(0);
        }
        let all = sum_of(self.source(place)?.behind(L4), payload)?;
        Some(finish(pseudo_v4(word(12), word(16), proto, payload as u32) + all))
    }
}
