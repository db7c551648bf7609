//! The `ct` action in the datapath.

use super::fake::*;
use crate::DropCause;
use dpif::*;
use flow::ct_state as cs;
use std::sync::Arc;

/// What a firewall does: port 1 may begin conversations, port 2 may answer.
fn firewall(u: &Upcall<'_>) -> UpcallReply {
    let ct = |commit| Action::Ct(Box::new(Ct { commit, zone: 3, ..Ct::default() }));
    let reply = |actions| {
        let mut reply = reply(actions);
        if let Some(new) = &mut reply.flow {
            new.mask.ct_state = u32::MAX;
        }
        reply
    };
    match (u.key.recirc_id, u.key.in_port, u.key.ct_state) {
        (0, ..) => reply(vec![ct(false), Action::Recirc(1)]),
        (_, 1, s) if s & cs::INV == 0 => reply(vec![ct(true), Action::Output(PortNo(2))]),
        (_, 2, s) if s & cs::EST != 0 => reply(vec![Action::Output(PortNo(1))]),
        _ => reply(vec![]),
    }
}

fn two() -> (Arc<Wire>, Arc<Wire>, Arc<crate::Datapath>) {
    let (a, b) = (Wire::new("a", false, 1, false), Wire::new("b", false, 1, false));
    let dp = datapath(&[&a, &b], &Switch::new(firewall));
    (a, b, dp)
}

fn inject(dp: &crate::Datapath, port: u32, frame: &[u8]) {
    dp.inject(PortNo(port), packet::Packet::from_slice(frame));
}

/// A UDP frame with a checksum in its IP header.
fn frame() -> Vec<u8> {
    let mut f = udp(1, 100);
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f
}

/// A UDP frame the other way.
fn turned(frame: &[u8]) -> Vec<u8> {
    let mut f = frame.to_vec();
    f[26..30].copy_from_slice(&frame[30..34]);
    f[30..34].copy_from_slice(&frame[26..30]);
    f[34..36].copy_from_slice(&frame[36..38]);
    f[36..38].copy_from_slice(&frame[34..36]);
    f
}

#[test]
fn only_answers_come_in() {
    let (a, b, dp) = two();
    let frame = frame();
    inject(&dp, 2, &turned(&frame));
    assert_eq!((a.take().len(), dp.conntrack().len()), (0, 0));
    inject(&dp, 1, &frame);
    assert_eq!((b.take().len(), dp.conntrack().len()), (1, 1));
    inject(&dp, 2, &turned(&frame));
    assert_eq!(a.take(), [turned(&frame)]);
    assert_eq!(dp.conntrack().zone_len(3), 1);
    let t = dp.port_totals(PortNo(2)).unwrap();
    assert_eq!(t.received + t.copied + t.reinjected, t.output + t.upcalled + t.finished + t.dropped);
}

/// An IPv4 packet of `len` bytes of payload in fragments of `unit` bytes.
fn fragments(len: usize, unit: usize) -> Vec<Vec<u8>> {
    let whole = udp(1, 42 + len);
    let payload = &whole[34..];
    let n = payload.len().div_ceil(unit);
    let cut = |(i, part): (usize, &[u8])| {
        let mut f = whole[..34].to_vec();
        let flags = (i * unit / 8) as u16 | if i + 1 < n { 0x2000 } else { 0 };
        f[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        f[20..22].copy_from_slice(&flags.to_be_bytes());
        f[24..26].fill(0);
        let sum = packet::checksum::checksum(&f[14..34]);
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f.extend(part);
        f
    };
    payload.chunks(unit).enumerate().map(cut).collect()
}

#[test]
fn fragments_wait_for_each_other_and_go_on_as_they_were() {
    let (_, b, dp) = two();
    let parts = fragments(3000, 1400);
    assert_eq!(parts.len(), 3);
    inject(&dp, 1, &parts[2]);
    inject(&dp, 1, &parts[0]);
    assert_eq!((b.take().len(), dp.fragments().nfrag().1), (0, 2));
    inject(&dp, 1, &parts[1]);
    let mut sent = b.take();
    assert_eq!((sent.len(), dp.conntrack().len()), (3, 1));
    sent.sort();
    let mut want = parts.clone();
    want.sort();
    assert_eq!(sent, want);
    let t = dp.port_totals(PortNo(1)).unwrap();
    assert_eq!(t.received + t.copied + t.reinjected, t.output + t.upcalled + t.finished + t.dropped);
}

#[test]
fn what_is_no_ip_is_invalid() {
    let (_, b, dp) = two();
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([0; 20]);
    inject(&dp, 1, &arp);
    assert_eq!(b.take().len(), 0);
    assert!(dp.drops().iter().any(|d| d.cause == DropCause::OfPipeline && d.packets == 1));
}
