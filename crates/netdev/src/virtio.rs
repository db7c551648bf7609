//! The virtio network header (VIRTIO 1.2, 5.1.6) that packet sockets and taps put before each frame.

use packet::{Checksum, Gso, GsoKind, Offload, Packet};

/// Bytes of the header without `num_buffers`.
pub const HEADER_LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The header's bytes, in the host's byte order as legacy devices have them.
pub type Header = [u8; HEADER_LEN];

/// The header contradicts the frame or asks for something unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadHeader;

fn field(header: &Header, at: usize) -> u16 {
    u16::from_ne_bytes([header[at], header[at + 1]])
}

/// Fills `packet.offload` from what the kernel said about the frame.
pub fn decode(header: &Header, packet: &mut Packet) -> Result<(), BadHeader> {
    packet.offload = offload(header, packet.len())?;
    Ok(())
}

/// What a header says about a frame of `len` bytes.
pub fn offload(header: &Header, len: usize) -> Result<Offload, BadHeader> {
    let [flags, gso_type, ..] = *header;
    let checksum = if flags & F_NEEDS_CSUM != 0 {
        let (start, offset) = (field(header, 6), field(header, 8));
        if usize::from(start) + usize::from(offset) + 2 > len {
            return Err(BadHeader);
        }
        Checksum::Partial { start, offset }
    } else if flags & F_DATA_VALID != 0 {
        Checksum::Good
    } else {
        Checksum::Unknown
    };
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE => return Ok(Offload { checksum, gso: None }),
        GSO_TCPV4 => GsoKind::Tcp4,
        GSO_TCPV6 => GsoKind::Tcp6,
        GSO_UDP_L4 => GsoKind::Udp,
        _ => return Err(BadHeader),
    };
    let size = field(header, 4);
    if size == 0 {
        return Err(BadHeader);
    }
    Ok(Offload { checksum, gso: Some(Gso { kind, size, ecn: gso_type & GSO_ECN != 0 }) })
}

/// The header that tells the kernel what is left to do for `packet`.
pub fn encode(packet: &Packet) -> Header {
    encode_offload(&packet.offload, packet.len(), |at| packet.data().get(at).copied())
}

/// As [`encode`], for a frame of `len` bytes, some of which `byte` knows.
pub fn encode_offload(offload: &Offload, len: usize, byte: impl Fn(usize) -> Option<u8>) -> Header {
    let mut header = [0; HEADER_LEN];
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    let mut flags = 0;
    let mut headers_end = 0;
    match offload.checksum {
        Checksum::Partial { start, offset } => {
            flags = F_NEEDS_CSUM;
            put(6, start);
            put(8, offset);
            headers_end = transport_end(offload, len, start, byte);
        }
        Checksum::Good => flags = F_DATA_VALID,
        Checksum::Unknown => {}
    }
    let mut gso_type = GSO_NONE;
    if let Some(gso) = offload.gso {
        gso_type = match gso.kind {
            GsoKind::Tcp4 => GSO_TCPV4,
            GsoKind::Tcp6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        };
        if gso.ecn {
            gso_type |= GSO_ECN;
        }
        put(4, gso.size);
        // Without it the kernel copies the whole super-packet into one piece of contiguous memory.
        put(2, headers_end);
    }
    header[0] = flags;
    header[1] = gso_type;
    header
}

/// Where the transport header at `start` ends, 0 if it lies beyond the packet.
fn transport_end(offload: &Offload, len: usize, start: u16, byte: impl Fn(usize) -> Option<u8>) -> u16 {
    let header = match offload.gso.map(|g| g.kind) {
        Some(GsoKind::Udp) => 8,
        _ => byte(usize::from(start) + 12).map_or(0, |b| u16::from(b >> 4) * 4),
    };
    match start.checked_add(header) {
        Some(end) if usize::from(end) <= len => end,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Packet {
        let mut p = Packet::from_slice(&[0; 200]);
        p.data_mut()[34 + 12] = 0x80;
        p
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for gso in [
            None,
            Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn: false }),
            Some(Gso { kind: GsoKind::Tcp6, size: 1428, ecn: true }),
            Some(Gso { kind: GsoKind::Udp, size: 1200, ecn: false }),
        ] {
            for checksum in [Checksum::Unknown, Checksum::Good, Checksum::Partial { start: 34, offset: 16 }] {
                let mut p = frame();
                p.offload = packet::Offload { checksum, gso };
                let mut q = frame();
                assert_eq!(decode(&encode(&p), &mut q), Ok(()));
                assert_eq!(q.offload, p.offload);
            }
        }
    }

    #[test]
    fn header_length_covers_the_tcp_header() {
        let mut p = frame();
        p.offload.checksum = Checksum::Partial { start: 34, offset: 16 };
        p.offload.gso = Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn: false });
        assert_eq!(field(&encode(&p), 2), 34 + 32);
        p.offload.checksum = Checksum::Partial { start: 65_000, offset: 16 };
        assert_eq!(field(&encode(&p), 2), 0);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut p = frame();
        let mut h = [0; HEADER_LEN];
        h[1] = 9;
        assert_eq!(decode(&h, &mut p), Err(BadHeader));
        h[1] = GSO_TCPV4;
        assert_eq!(decode(&h, &mut p), Err(BadHeader), "segments of no size");
        h[0] = F_NEEDS_CSUM;
        h[6..8].copy_from_slice(&199_u16.to_ne_bytes());
        assert_eq!(decode(&h, &mut p), Err(BadHeader), "checksum beyond the frame");
    }
}
