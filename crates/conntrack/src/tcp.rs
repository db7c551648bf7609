//! The state of a TCP connection, followed from outside, after Guido van Rooij, "Real Stateful TCP Packet
//! Filtering in IP Filter" (2000), as the userspace datapath of Open vSwitch does it.

use crate::extract::Segment;
use crate::proto::Verdict;
use crate::timeout::Timeout;
use packet::proto::tcp::{ACK, FIN, PSH, RST, SYN, URG};
use serde::{Deserialize, Serialize};

/// What one end has shown so far. The order is that of the numbers by which states are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    #[default]
    Closed,
    Listen,
    SynSent,
    SynRecv,
    Established,
    CloseWait,
    FinWait1,
    Closing,
    LastAck,
    FinWait2,
    TimeWait,
}

impl State {
    /// As `dpctl/dump-conntrack` prints it.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 11] = [
            "CLOSED",
            "LISTEN",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "CLOSE_WAIT",
            "FIN_WAIT_1",
            "CLOSING",
            "LAST_ACK",
            "FIN_WAIT_2",
            "TIME_WAIT",
        ];
        NAMES[self as usize]
    }
}

/// How an end scales the windows it announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Scale {
    #[default]
    None,
    By(u8),
    /// The connection was there before we were: any scale may be in force.
    Unknown,
}

impl Scale {
    fn shift(self) -> u32 {
        if let Scale::By(n) = self { u32::from(n) } else { 0 }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Peer {
    /// The sequence number after the last one sent.
    pub sent: u32,
    /// The last sequence number that the other end lets it send.
    pub limit: u32,
    /// The greatest window that it has announced, unscaled.
    pub window: u16,
    pub scale: Scale,
    pub state: State,
}

/// How far an acknowledgement may be off: a window, and some more.
const SKEW_MAX: i64 = 0xffff + 1500;
const SCALE_UNKNOWN: u32 = 14;

fn at_least(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// Combinations of flags that no sane stack sends.
fn flags_are_invalid(flags: u16) -> bool {
    let opens = flags & SYN != 0;
    (opens && flags & (RST | FIN) != 0)
        || (!opens && flags & (ACK | RST) == 0)
        || (flags & ACK == 0 && flags & (FIN | PSH | URG) != 0)
}

/// Whether a connection may begin with this segment: not with the second of a handshake that we missed.
pub fn may_begin(s: &Segment) -> bool {
    !flags_are_invalid(s.flags) && s.flags & (SYN | ACK) != SYN | ACK
}

/// The two ends after the first segment.
pub fn begin(s: &Segment) -> [Peer; 2] {
    let syn = s.flags & SYN != 0;
    let scale = match s.scale {
        Some(n) => Scale::By(n),
        None if syn => Scale::None,
        None => Scale::Unknown,
    };
    let extra = 1 + u32::from(syn) + u32::from(s.flags & FIN != 0);
    let window = u32::from(s.window.max(1)).div_ceil(1 << scale.shift()) as u16;
    let limit = s.seq.wrapping_add(s.len).wrapping_add(extra);
    let ours = Peer { sent: s.seq, limit, window, scale, state: State::SynSent };
    let scale = if syn { Scale::None } else { Scale::Unknown };
    [ours, Peer { limit: 1, window: 1, scale, ..Peer::default() }]
}

/// A segment on its way through [`update`].
struct Pass {
    seq: u32,
    ack: u32,
    end: u32,
    window: u32,
    src_shift: u32,
    dst_shift: u32,
    /// Whether the acknowledgement can be judged.
    check_skew: bool,
}

/// Takes in a segment from `peers[from]`. Gives the timeout to set, if any.
pub fn update(
    peers: &mut [Peer; 2],
    from: usize,
    s: &Segment,
    check_seq: bool,
) -> (Verdict, Option<Timeout>) {
    let [a, b] = peers;
    let (src, dst) = if from == 0 { (a, b) } else { (b, a) };
    if flags_are_invalid(s.flags) {
        coverage::counter::conntrack_invalid_tcp_flags.inc();
        return (Verdict::Invalid, None);
    }
    if s.flags & (SYN | ACK) == SYN {
        if src.state >= State::FinWait2 && dst.state >= State::FinWait2 {
            (src.state, dst.state) = (State::Closed, State::Closed);
            return (Verdict::Anew, None);
        }
        if src.state <= State::SynSent {
            src.state = State::SynSent;
            return (Verdict::ValidNew, Some(Timeout::TcpSynSent));
        }
    }
    let pass = measure(src, dst, s);
    let is_inside = in_window(src, dst, s, &pass);
    if is_inside || !check_seq {
        if !is_inside {
            coverage::counter::conntrack_tcp_seq_chk_bypass.inc();
        }
        slide(src, dst, &pass);
        advance(src, dst, s.flags);
        return (Verdict::Valid, Some(timeout(src.state, dst.state)));
    }
    if is_near_miss(src, dst, &pass) {
        slide(src, dst, &pass);
        if s.flags & FIN != 0 && src.state < State::Closing {
            src.state = State::Closing;
        }
        if s.flags & RST != 0 {
            (src.state, dst.state) = (State::TimeWait, State::TimeWait);
        }
        return (Verdict::Valid, None);
    }
    coverage::counter::conntrack_tcp_seq_chk_failed.inc();
    (Verdict::Invalid, None)
}

/// Sequence numbers and windows; takes in the first segment of an end.
fn measure(src: &mut Peer, dst: &mut Peer, s: &Segment) -> Pass {
    let syn = s.flags & SYN != 0;
    let (mut src_shift, mut dst_shift) = match (src.scale, dst.scale) {
        (Scale::By(a), Scale::By(b)) if !syn => (u32::from(a), u32::from(b)),
        (Scale::Unknown, Scale::Unknown) if !syn => (SCALE_UNKNOWN, SCALE_UNKNOWN),
        _ => (0, 0),
    };
    let mut window = u32::from(s.window);
    let end = s.seq.wrapping_add(s.len + u32::from(syn) + u32::from(s.flags & FIN != 0));
    let mut check_skew = true;
    if src.state < State::SynSent {
        if syn && let Scale::By(theirs) = dst.scale {
            src.scale = s.scale.map_or(Scale::None, Scale::By);
            if let Scale::By(ours) = src.scale {
                // The window of a SYN is not scaled itself.
                (src_shift, dst_shift) = (u32::from(ours), u32::from(theirs));
                window = window.div_ceil(1 << ours);
            } else {
                // No scaling after all.
                dst.window = (u32::from(dst.window) << theirs) as u16;
                dst.scale = Scale::None;
            }
        }
        src.sent = s.seq;
        src.state = State::SynSent;
        let limit = end.wrapping_add((u32::from(dst.window) << dst_shift).max(1));
        // Either the connection is new to us, or an answer came before anything else did.
        if src.limit == 1 || at_least(limit, src.limit) {
            src.limit = limit;
            check_skew = false;
        }
        src.window = src.window.max(window as u16);
    }
    let acks = s.flags & ACK != 0;
    // Some stacks leave the number zero when they refuse a connection.
    let ack_is_void = !acks || (s.ack == 0 && s.flags & RST != 0);
    let ack = if ack_is_void { dst.sent } else { s.ack };
    let (seq, end) = if s.seq == end { (src.sent, src.sent) } else { (s.seq, end) };
    Pass { seq, ack, end, window, src_shift, dst_shift, check_skew }
}

fn in_window(src: &Peer, dst: &Peer, s: &Segment, p: &Pass) -> bool {
    let skew = if p.check_skew { i64::from(dst.sent.wrapping_sub(p.ack) as i32) } else { 0 };
    let back = u32::from(dst.window) << p.dst_shift;
    at_least(src.limit, p.end)
        && at_least(p.seq, src.sent.wrapping_sub(back))
        && skew >= -SKEW_MAX
        && skew <= SKEW_MAX << p.src_shift
        // Resets must hit the number, or one next to it.
        && (s.flags & RST == 0 || s.seq.wrapping_sub(src.sent).wrapping_add(1) <= 2)
}

/// Outside the window, but near it, where we have not seen enough of the connection, or when it is closing.
fn is_near_miss(src: &Peer, dst: &Peer, p: &Pass) -> bool {
    let loose = dst.state < State::SynSent || dst.state >= State::FinWait2 || src.state >= State::FinWait2;
    let slack = SKEW_MAX as u32;
    loose && at_least(src.limit.wrapping_add(slack), p.end) && at_least(p.seq, src.sent.wrapping_sub(slack))
}

fn slide(src: &mut Peer, dst: &mut Peer, p: &Pass) {
    src.window = src.window.max(p.window as u16);
    if at_least(p.end, src.sent) {
        src.sent = p.end;
    }
    let scaled = p.window << p.src_shift;
    if at_least(p.ack.wrapping_add(scaled), dst.limit) {
        dst.limit = p.ack.wrapping_add(scaled.max(1));
    }
}

fn advance(src: &mut Peer, dst: &mut Peer, flags: u16) {
    if flags & SYN != 0 && src.state < State::SynSent {
        src.state = State::SynSent;
    }
    if flags & FIN != 0 && src.state < State::Closing {
        src.state = State::Closing;
    }
    if flags & ACK != 0 {
        dst.state = match dst.state {
            State::SynSent => State::Established,
            State::Closing => State::FinWait2,
            other => other,
        };
    }
    if flags & RST != 0 {
        (src.state, dst.state) = (State::TimeWait, State::TimeWait);
    }
}

fn timeout(a: State, b: State) -> Timeout {
    let (low, high) = (a.min(b), a.max(b));
    if low >= State::FinWait2 {
        Timeout::TcpClose
    } else if low >= State::Closing {
        Timeout::TcpTimeWait
    } else if low < State::Established {
        Timeout::TcpSynRecv
    } else if high >= State::Closing {
        Timeout::TcpFinWait
    } else {
        Timeout::TcpEstablished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u16, seq: u32, ack: u32, len: u32) -> Segment {
        Segment { seq, ack, window: 100, flags, len, scale: None }
    }

    fn established() -> [Peer; 2] {
        let mut p = begin(&segment(SYN, 100, 0, 0));
        assert_eq!(update(&mut p, 1, &segment(SYN | ACK, 500, 101, 0), true).0, Verdict::Valid);
        let (verdict, t) = update(&mut p, 0, &segment(ACK, 101, 501, 0), true);
        assert_eq!((verdict, t), (Verdict::Valid, Some(Timeout::TcpEstablished)));
        p
    }

    #[test]
    fn handshake_data_and_close() {
        let mut p = established();
        assert_eq!(p.map(|e| e.state), [State::Established; 2]);
        assert_eq!(update(&mut p, 0, &segment(ACK | PSH, 101, 501, 50), true).0, Verdict::Valid);
        let fin = update(&mut p, 0, &segment(ACK | FIN, 151, 501, 0), true);
        assert_eq!(fin, (Verdict::Valid, Some(Timeout::TcpFinWait)));
        let fin = update(&mut p, 1, &segment(ACK | FIN, 501, 152, 0), true);
        assert_eq!(fin, (Verdict::Valid, Some(Timeout::TcpTimeWait)));
        let last = update(&mut p, 0, &segment(ACK, 152, 502, 0), true);
        assert_eq!(last, (Verdict::Valid, Some(Timeout::TcpClose)));
        assert_eq!(update(&mut p, 0, &segment(SYN, 900, 0, 0), true).0, Verdict::Anew);
    }

    #[test]
    fn what_is_far_outside_the_window_is_invalid_unless_nobody_checks() {
        let mut p = established();
        let far = segment(ACK | PSH, 101 + 1_000_000, 501, 10);
        assert_eq!(update(&mut p, 0, &far, true), (Verdict::Invalid, None));
        assert_eq!(update(&mut p, 0, &far, false).0, Verdict::Valid);
    }

    #[test]
    fn resets_must_hit() {
        let mut p = established();
        assert_eq!(update(&mut p, 0, &segment(RST, 101 + 50, 0, 0), true).0, Verdict::Invalid);
        let (verdict, t) = update(&mut p, 0, &segment(RST, 101, 0, 0), true);
        assert_eq!((verdict, t), (Verdict::Valid, Some(Timeout::TcpClose)));
    }

    #[test]
    fn flags_and_beginnings() {
        assert!(!may_begin(&segment(SYN | ACK, 1, 1, 0)));
        assert!(!may_begin(&segment(SYN | FIN, 1, 1, 0)));
        assert!(!may_begin(&segment(0, 1, 1, 0)));
        assert!(may_begin(&segment(SYN, 1, 0, 0)));
        assert!(may_begin(&segment(ACK, 1, 0, 0)));
        assert_eq!(begin(&segment(ACK, 1, 0, 0))[1].scale, Scale::Unknown);
    }
}
