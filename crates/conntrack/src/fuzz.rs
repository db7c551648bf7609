//! Entry points for fuzzing: any bytes are dealt with.

use crate::alg::{Announce, Message, read_ftp};
use crate::ipf::{Carrier, Fragments, Ipf, Offered};
use crate::{Conntrack, Family, Helper, PacketCt, Request};
use dpif::{Nat, NatAddr, NatDirection};
use packet::{Meta, Packet};

/// Reads a payload as both families do and checks what comes out.
pub fn alg(payload: &[u8]) {
    for family in [Family::V4, Family::V6] {
        if let Message::Announce(Announce { address: Some((_, range)), .. }) = read_ftp(payload, family) {
            assert!(payload.get(range).is_some_and(|text| !text.is_empty()));
        }
    }
}

#[derive(Clone)]
struct Frame(Packet, PacketCt);

impl Carrier for Frame {
    fn packet(&self) -> &Packet {
        &self.0
    }
    fn packet_mut(&mut self) -> &mut Packet {
        &mut self.0
    }
    fn recirc_id(&self) -> u32 {
        0
    }
    fn set_ct(&mut self, ct: &PacketCt) {
        self.1 = *ct;
    }
}

/// Takes `data` as frames (a byte of length, then the bytes behind the MAC addresses) and sends them through
/// reassembly and a tracker that translates. Checksums are taken for good, so that more is reached.
pub fn packets(mut data: &[u8]) {
    let (conntrack, ipf) = (Conntrack::new(1), Ipf::<Frame>::default());
    ipf.set_min_frag(Family::V4, crate::ipf::MIN_FRAG_BOUND);
    let address = NatAddr::V4(0x0a09_0909);
    let nat = Nat { direction: Some(NatDirection::Src), addr: Some((address, address)), ..Nat::default() };
    let mut now = 0;
    while let Some((len, rest)) = data.split_first() {
        let (body, next) = rest.split_at(usize::from(*len).min(rest.len()));
        data = next;
        now += 1_000;
        let mut p = Packet::from_slice(&[&[0; 12][..], body].concat());
        packet::parse::flow_of(&mut p, &Meta::default());
        p.offload.checksum = packet::Checksum::Good;
        let family = if p.l3_type() == Some(0x86dd) { Family::V6 } else { Family::V4 };
        let request =
            Request { commit: true, nat: Some(&nat), helper: Some(Helper::Ftp), ..Request::default() };
        match ipf.offer(Frame(p, PacketCt::default()), family, 0, now) {
            Offered::Back(mut f) | Offered::Invalid(mut f) => {
                conntrack.process(&mut f.0, family, &mut f.1, &request, now);
            }
            Offered::Held => {}
            Offered::Whole(mut whole) => {
                let Frame(p, ct) = &mut whole.carrier;
                conntrack.process(p, family, ct, &request, now);
                let ct = *ct;
                ipf.take_apart(whole, &ct);
            }
        }
    }
    conntrack.flush(None);
    conntrack.sweep(crate::SHARDS as u32, now);
    assert_eq!((conntrack.len(), conntrack.stored()), (0, 0));
}
