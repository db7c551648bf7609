//! Connections as they are shown, and which of them a command means.

use crate::ConntrackError;
use crate::conn::{Conn, ConnRef, Helper};
use crate::control::pause;
use crate::errand::{Copies, Task, Walk};
use crate::key::{Family, Key, icmp_types};
use crate::proto::ProtoState;
use crate::tcp::{Scale, State};
use crate::track::{Conntrack, SHARDS};
use dpif::ct::{CtFamily, CtMatch, CtTupleMatch};
use flow::U128;
use packet::proto::ip_proto;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Both ends of a TCP connection: that of the original direction first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpInfo {
    pub states: [State; 2],
    scales: [Scale; 2],
}

impl TcpInfo {
    /// The one state that stands for both, in the words of kernels.
    pub fn state(&self) -> State {
        match self.states[0].max(self.states[1]) {
            State::FinWait2 => State::TimeWait,
            State::SynRecv => State::Established,
            other => other,
        }
    }
}

/// A connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub orig: Key,
    pub reply: Key,
    pub mark: u32,
    pub label: U128,
    /// Seconds until it expires.
    pub timeout: u64,
    pub tcp: Option<TcpInfo>,
    pub helper: Option<Helper>,
    pub parent: Option<Key>,
}

impl Entry {
    pub(crate) fn of(conn: &Conn, now: u64) -> Entry {
        let tcp = match &conn.proto {
            ProtoState::Tcp(ends) => {
                Some(TcpInfo { states: ends.map(|e| e.state), scales: ends.map(|e| e.scale) })
            }
            _ => None,
        };
        Entry {
            orig: conn.key,
            reply: conn.reply_key(),
            mark: conn.mark,
            label: conn.label,
            timeout: conn.expires.saturating_sub(now) / 1000,
            tcp,
            helper: conn.helper(),
            parent: conn.parent().copied(),
        }
    }

    /// A line of `dpctl/dump-conntrack`; `verbose` for `-m`, `stats` for `-s`.
    pub fn text(&self, verbose: bool, stats: bool) -> String {
        let mut s = proto_name(self.orig.proto).map_or_else(|| self.orig.proto.to_string(), str::to_owned);
        let _ = write!(s, ",orig=({}),reply=({})", tuple_text(&self.orig), tuple_text(&self.reply));
        let mut put = |wanted: bool, text: &str| s.push_str(if wanted { text } else { "" });
        put(verbose, ",id=0");
        put(self.orig.zone != 0, &format!(",zone={}", self.orig.zone));
        put(verbose, ",status=0");
        put(stats, &format!(",timeout={}", self.timeout));
        put(self.mark != 0, &format!(",mark={}", self.mark));
        put(self.label != U128::ZERO, &format!(",labels={:#x}", u128::from(self.label)));
        if let Some(tcp) = &self.tcp {
            put(true, &tcp_text(tcp, verbose));
        }
        if let Some(helper) = self.helper {
            put(true, &format!(",helper={}", helper.name()));
        }
        if let (true, Some(parent)) = (verbose, &self.parent) {
            put(true, &format!(",parent=({})", tuple_text(parent)));
        }
        s
    }
}

fn tcp_text(tcp: &TcpInfo, verbose: bool) -> String {
    if !verbose {
        return format!(",protoinfo=(state={})", tcp.state().name());
    }
    let scale = |s: Scale| if let Scale::By(n) = s { n } else { 0 };
    let flags = |s: Scale| match s {
        Scale::None => "0",
        Scale::By(_) => "WINDOW_SCALE",
        Scale::Unknown => "BE_LIBERAL",
    };
    let [orig, reply] = tcp.states.map(State::name);
    let [a, b] = tcp.scales;
    let scales = match (scale(a), scale(b)) {
        (0, 0) => String::new(),
        (a, b) => format!(",wscale_orig={a},wscale_reply={b}"),
    };
    let (a, b) = (flags(a), flags(b));
    format!(",protoinfo=(state_orig={orig},state_reply={reply}{scales},flags_orig={a},flags_reply={b})")
}

/// Name of an IP protocol in the output of commands.
pub fn proto_name(proto: u8) -> Option<&'static str> {
    Some(match proto {
        1 => "icmp",
        58 => "icmpv6",
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        136 => "udplite",
        33 => "dccp",
        2 => "igmp",
        _ => return None,
    })
}

fn address(a: U128, family: Family) -> String {
    match family {
        Family::V4 => Ipv4Addr::from(a.lo as u32).to_string(),
        Family::V6 => Ipv6Addr::from(u128::from(a)).to_string(),
    }
}

/// ICMP's identifier, type and code, or the ports.
fn icmp_or_ports(key: &Key) -> String {
    match key.proto {
        ip_proto::ICMP | ip_proto::ICMPV6 => {
            format!("id={},type={},code=0", key.sport, key.icmp_type())
        }
        _ => format!("sport={},dport={}", key.sport, key.dport),
    }
}

fn tuple_text(key: &Key) -> String {
    let (src, dst) = (address(key.src, key.family), address(key.dst, key.family));
    format!("src={src},dst={dst},{}", icmp_or_ports(key))
}

/// Connections of a piece of a dump.
pub(crate) const PIECE: usize = 4096;

impl Conntrack {
    /// Adds connections of `zone`, or of all, where a walk goes on, until there is no room or it is over. What comes or goes
    /// meanwhile may be seen or not, nothing twice.
    pub(crate) fn copy(&self, walk: &mut Walk, zone: Option<u16>, now: u64, into: Copies) -> Copies {
        pause();
        match self.run(Task::Copy { walk: *walk, zone, now, into }) {
            Task::Copy { walk: w, into, .. } => {
                *walk = w;
                into
            }
            _ => Copies::Shown(Vec::new()),
        }
    }

    /// Shows pieces of all connections of `zone`, or of all, to `f`, which empties them.
    fn for_each_piece(&self, zone: Option<u16>, now: u64, mut f: impl FnMut(&mut Vec<Entry>)) {
        let (mut walk, mut piece) = (Walk::over(0, SHARDS as u32), Vec::with_capacity(PIECE));
        while !walk.is_over() && zone.is_none_or(|z| self.zones.count(z) > 0) {
            if let Copies::Shown(all) = self.copy(&mut walk, zone, now, Copies::Shown(piece)) {
                piece = all;
            } else {
                return;
            }
            f(&mut piece);
        }
    }

    /// Shows every connection of `zone`, or of all, to `f`.
    pub fn for_each(&self, zone: Option<u16>, now: u64, mut f: impl FnMut(&Entry)) {
        self.for_each_piece(zone, now, |piece| piece.drain(..).for_each(|entry| f(&entry)));
    }

    /// Every connection of `zone`, or of all.
    pub fn dump_all(&self, zone: Option<u16>, now: u64) -> Vec<Entry> {
        let mut out = Vec::new();
        self.for_each(zone, now, |entry| out.push(*entry));
        out
    }

    /// Forgets the connections of a zone, or all. Returns how many there were.
    pub fn flush(&self, zone: Option<u16>) -> u32 {
        match zone {
            Some(zone) => self.zones.flush(zone),
            None => (0..=u16::MAX).map(|zone| self.zones.flush(zone)).sum(),
        }
    }

    /// Forgets what `wanted` names. A match that names one connection must name the original direction.
    pub fn flush_matching(
        &self,
        zone: Option<u16>,
        wanted: &CtMatch,
        now: u64,
    ) -> Result<(), ConntrackError> {
        if wanted.is_any() {
            self.flush(zone);
            return Ok(());
        }
        let is_icmp = wanted.is_icmp();
        if wanted.orig.is_complete(is_icmp) && wanted.reply.is_any(is_icmp) {
            let key = complete_key(wanted, zone.unwrap_or(0)).ok_or(ConntrackError::NotFound)?;
            return if self.remove_keys(vec![key], now) == 0 {
                Ok(())
            } else {
                Err(ConntrackError::NotFound)
            };
        }
        self.for_each_piece(zone, now, |piece| {
            // What is gone meanwhile has been forgotten as well.
            let keys: Vec<Key> = piece.drain(..).filter(|e| matches(wanted, e)).map(|e| e.orig).collect();
            self.remove_keys(keys, now);
        });
        Ok(())
    }

    /// Removes connections by their original keys. Returns how many were not there.
    fn remove_keys(&self, keys: Vec<Key>, now: u64) -> usize {
        if keys.is_empty() {
            return 0;
        }
        match self.run(Task::Remove { keys, at: 0, now, missing: 0 }) {
            Task::Remove { missing, .. } => missing,
            _ => 0,
        }
    }

    /// Removes the connection with this original key. Says whether it was there.
    pub(crate) fn remove_key(&self, key: &Key, now: u64) -> bool {
        let place: Option<(ConnRef, bool)> = self.with_key(key, now, |_, r, _, by_alias| (r, by_alias));
        matches!(place, Some((conn, false)) if self.remove(conn))
    }
}

fn complete_key(wanted: &CtMatch, zone: u16) -> Option<Key> {
    let t = &wanted.orig;
    let family = match wanted.family? {
        CtFamily::V4 => Family::V4,
        CtFamily::V6 => Family::V6,
    };
    let address = |a: Ipv6Addr| match family {
        Family::V4 => a.to_ipv4_mapped().map_or(U128::ZERO, |a| U128 { hi: 0, lo: u32::from(a).into() }),
        Family::V6 => u128::from(a).into(),
    };
    let mut key = Key {
        src: address(t.src),
        dst: address(t.dst),
        sport: t.src_port,
        dport: t.dst_port,
        zone,
        proto: wanted.proto,
        family,
    };
    if key.is_icmp() {
        key.dport = icmp_types(family, t.icmp_type)?;
    }
    Some(key)
}

fn matches(wanted: &CtMatch, entry: &Entry) -> bool {
    let family = match entry.orig.family {
        Family::V4 => CtFamily::V4,
        Family::V6 => CtFamily::V6,
    };
    wanted.family.is_none_or(|f| f == family)
        && (wanted.proto == 0 || wanted.proto == entry.orig.proto)
        && tuple_matches(&wanted.orig, &entry.orig, wanted.is_icmp())
        && tuple_matches(&wanted.reply, &entry.reply, wanted.is_icmp())
}

fn tuple_matches(wanted: &CtTupleMatch, key: &Key, is_icmp: bool) -> bool {
    let address = |wanted: Ipv6Addr, has: U128| {
        let mapped = match key.family {
            Family::V4 => Ipv4Addr::from(has.lo as u32).to_ipv6_mapped(),
            Family::V6 => Ipv6Addr::from(u128::from(has)),
        };
        wanted.is_unspecified() || wanted == mapped
    };
    let port = |wanted: u16, has: u16| wanted == 0 || wanted == has;
    address(wanted.src, key.src)
        && address(wanted.dst, key.dst)
        && match is_icmp {
            true => (wanted.src_port, wanted.icmp_type, wanted.icmp_code) == (key.sport, key.icmp_type(), 0),
            false => port(wanted.src_port, key.sport) && port(wanted.dst_port, key.dport),
        }
}
