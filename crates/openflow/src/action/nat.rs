//! `nat`, within `ct`: translate addresses and ports.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{Number, number};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::OfError;
use crate::wire::{Reader, Truncated};
use flow::eth_type;
use flow::text::key_values;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

bitflags::bitflags! {
    /// `NX_NAT_F_*`
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct NatFlags: u16 {
        const SRC = 1 << 0;
        const DST = 1 << 1;
        const PERSISTENT = 1 << 2;
        const PROTO_HASH = 1 << 3;
        const PROTO_RANDOM = 1 << 4;
    }
}

/// What to translate to. Without [`NatFlags::SRC`] and [`NatFlags::DST`]: what the connection has already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Nat {
    pub flags: NatFlags,
    pub addr: Option<AddrRange>,
    /// First port, 0 for none.
    pub port_min: u16,
    /// Last port, 0 if there is no other than the first.
    pub port_max: u16,
}

/// Addresses, both inclusive; an all-zero last one if there is no other than the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddrRange {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// `NX_NAT_RANGE_*`: which of the optional numbers are there, in this order.
mod present {
    pub const IPV4_MIN: u16 = 1 << 0;
    pub const IPV4_MAX: u16 = 1 << 1;
    pub const IPV6_MIN: u16 = 1 << 2;
    pub const IPV6_MAX: u16 = 1 << 3;
    pub const PORT_MIN: u16 = 1 << 4;
    pub const PORT_MAX: u16 = 1 << 5;
}

struct BadNat;

impl From<Truncated> for BadNat {
    fn from(_: Truncated) -> Self {
        BadNat
    }
}

impl Nat {
    /// Whether it has no arguments.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.flags.is_empty() && self.addr.is_none()
    }

    fn has_direction(&self) -> bool {
        self.flags.intersects(NatFlags::SRC | NatFlags::DST)
    }

    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let nat = Self::decode_body(b).map_err(|BadNat| OfError::OfpbacBadArgument)?;
        Ok(Action::Nat(Box::new(nat)))
    }

    fn decode_body(b: &Body<'_, '_>) -> Result<Nat, BadNat> {
        let flags = NatFlags::from_bits(b.u16(12)).ok_or(BadNat)?;
        for both in [NatFlags::SRC | NatFlags::DST, NatFlags::PROTO_HASH | NatFlags::PROTO_RANDOM] {
            if flags.contains(both) {
                return Err(BadNat);
            }
        }
        let has = |bit| b.u16(14) & bit != 0;
        let mut rest = Reader::new(b.from(16));
        let addr = if has(present::IPV4_MIN) {
            if has(present::IPV6_MIN) || has(present::IPV6_MAX) {
                return Err(BadNat);
            }
            let min = rest.u32()?;
            let max = if has(present::IPV4_MAX) { Some(rest.u32()?) } else { None };
            if min == 0 || max.is_some_and(|max| max < min) {
                return Err(BadNat);
            }
            Some(AddrRange::V4(min.into(), max.unwrap_or(0).into()))
        } else if has(present::IPV4_MAX) {
            return Err(BadNat);
        } else if has(present::IPV6_MIN) {
            let min = u128::from_be_bytes(rest.array()?);
            let max = if has(present::IPV6_MAX) { Some(u128::from_be_bytes(rest.array()?)) } else { None };
            if min == 0 || max.is_some_and(|max| max < min) {
                return Err(BadNat);
            }
            Some(AddrRange::V6(min.into(), max.unwrap_or(0).into()))
        } else if has(present::IPV6_MAX) {
            return Err(BadNat);
        } else {
            None
        };
        let mut nat = Nat { flags, addr, port_min: 0, port_max: 0 };
        if has(present::PORT_MIN) {
            nat.port_min = rest.u16()?;
            nat.port_max = if has(present::PORT_MAX) { rest.u16()? } else { 0 };
            let is_bad = has(present::PORT_MAX) && nat.port_max < nat.port_min;
            if addr.is_none() || nat.port_min == 0 || is_bad {
                return Err(BadNat);
            }
        } else if has(present::PORT_MAX) {
            return Err(BadNat);
        }
        Ok(nat)
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut nat = Nat::default();
        for (key, value) in key_values(s) {
            nat.flags |= match key {
                "src" => NatFlags::SRC,
                "dst" => NatFlags::DST,
                "persistent" => NatFlags::PERSISTENT,
                "hash" => NatFlags::PROTO_HASH,
                "random" => NatFlags::PROTO_RANDOM,
                _ => return Err(format!("invalid key \"{key}\" in \"nat\" argument")),
            };
            if matches!(key, "src" | "dst") {
                nat.parse_range(value)?;
            }
        }
        if nat.flags.contains(NatFlags::SRC | NatFlags::DST) {
            Err("May only specify one of \"src\" or \"dst\".".into())
        } else if !nat.has_direction() && !nat.flags.is_empty() {
            Err("Flags allowed only with \"src\" or \"dst\".".into())
        } else if nat.flags.contains(NatFlags::PROTO_HASH | NatFlags::PROTO_RANDOM) {
            Err("Both \"hash\" and \"random\" are not allowed.".into())
        } else {
            Ok(Action::Nat(Box::new(nat)))
        }
    }

    /// `ADDR[-ADDR][:PORT[-PORT]]`; IPv6 addresses may be in brackets.
    fn parse_range(&mut self, s: &str) -> Result<(), String> {
        let invalid = || format!("invalid nat range \"{s}\"");
        let mut rest = s;
        self.addr = None;
        if let Some(min) = take_addr(&mut rest) {
            let second = rest.strip_prefix('-');
            let max = match second {
                Some(mut tail) => {
                    let max = take_addr(&mut tail).ok_or_else(invalid)?;
                    rest = tail;
                    Some(max)
                }
                None => None,
            };
            self.addr = Some(addr_range(min, max).ok_or_else(invalid)?);
        } else {
            // As in Open vSwitch, what only looks like an address does not matter.
            rest = rest.trim_start_matches(is_addr_char);
        }
        if let (Some(_), Some(mut tail)) = (self.addr, rest.strip_prefix(':')) {
            self.port_min = take_port(&mut tail).ok_or_else(invalid)?;
            if let Some(mut after) = tail.strip_prefix('-') {
                self.port_max = take_port(&mut after).ok_or_else(invalid)?;
                tail = after;
                if self.port_max < self.port_min {
                    return Err(invalid());
                }
            }
            rest = tail;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(format!("garbage ({rest}) after nat range \"{s}\" (pos: {})", s.len() - rest.len()))
        }
    }
}

fn is_addr_char(c: char) -> bool {
    c.is_ascii_hexdigit() || c == ':' || c == '.'
}

/// Takes an address off the beginning of `s`.
fn take_addr(s: &mut &str) -> Option<IpAddr> {
    let v4_len = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
    if let Ok(addr) = s[..v4_len].parse::<Ipv4Addr>() {
        *s = &s[v4_len..];
        return Some(addr.into());
    }
    let (text, rest) = match s.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => {
            let end = s.find(|c| !is_addr_char(c)).unwrap_or(s.len());
            s.split_at(end)
        }
    };
    let addr = text.parse::<Ipv6Addr>().ok()?;
    *s = rest;
    Some(addr.into())
}

fn take_port(s: &mut &str) -> Option<u16> {
    let Number { magnitude, rest, .. } = number(s, 10)?;
    *s = rest;
    magnitude.map(|n| n as u16)
}

fn addr_range(min: IpAddr, max: Option<IpAddr>) -> Option<AddrRange> {
    match (min, max) {
        (IpAddr::V4(min), None) => Some(AddrRange::V4(min, Ipv4Addr::UNSPECIFIED)),
        (IpAddr::V6(min), None) => Some(AddrRange::V6(min, Ipv6Addr::UNSPECIFIED)),
        (IpAddr::V4(min), Some(IpAddr::V4(max))) if min <= max => Some(AddrRange::V4(min, max)),
        (IpAddr::V6(min), Some(IpAddr::V6(max))) if min <= max => Some(AddrRange::V6(min, max)),
        _ => None,
    }
}

impl ActionCode for Nat {
    fn encode(&self, out: &mut Encoder<'_>) {
        let mut tail = Vec::new();
        let mut present = 0;
        let mut put = |bit, bytes: &[u8]| {
            if bytes.iter().any(|b| *b != 0) {
                present |= bit;
                tail.extend_from_slice(bytes);
            }
        };
        match self.addr {
            Some(AddrRange::V4(min, max)) => {
                put(present::IPV4_MIN, &min.octets());
                put(present::IPV4_MAX, &max.octets());
            }
            Some(AddrRange::V6(min, max)) => {
                put(present::IPV6_MIN, &min.octets());
                put(present::IPV6_MAX, &max.octets());
            }
            None => {}
        }
        if self.addr.is_some() {
            put(present::PORT_MIN, &self.port_min.to_be_bytes());
            put(present::PORT_MAX, &self.port_max.to_be_bytes());
        }
        let open = out.begin(Form::Nat);
        out.zeros(2);
        out.u16(self.flags.bits());
        out.u16(present);
        out.bytes(&tail);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("nat");
        if !self.has_direction() {
            return;
        }
        out.put_str(if self.flags.contains(NatFlags::SRC) { "(src" } else { "(dst" });
        if self.addr.is_some() {
            out.put_str("=");
            self.format_range(out);
            for (flag, name) in [
                (NatFlags::PERSISTENT, ",persistent"),
                (NatFlags::PROTO_HASH, ",hash"),
                (NatFlags::PROTO_RANDOM, ",random"),
            ] {
                if self.flags.contains(flag) {
                    out.put_str(name);
                }
            }
        }
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let ok = match (self.addr, cx.flow.effective_dl_type()) {
            (Some(AddrRange::V4(..)), dl_type) => dl_type == eth_type::IPV4,
            (Some(AddrRange::V6(..)), dl_type) => dl_type == eth_type::IPV6,
            (None, _) => cx.flow.is_ip_any(),
        };
        if ok { Ok(()) } else { Err(OfError::OfpbacMatchInconsistent) }
    }
}

impl Nat {
    fn format_range(&self, out: &mut Text<'_>) {
        match self.addr {
            Some(AddrRange::V4(min, max)) => {
                put!(out, "{min}");
                if !max.is_unspecified() && max != min {
                    put!(out, "-{max}");
                }
            }
            Some(AddrRange::V6(min, max)) => {
                // Brackets tell the address from the port.
                let (open, close) = if self.port_min != 0 { ("[", "]") } else { ("", "") };
                put!(out, "{open}{min}{close}");
                if !max.is_unspecified() && max != min {
                    put!(out, "-{open}{max}{close}");
                }
            }
            None => {}
        }
        if self.port_min != 0 {
            put!(out, ":{}", self.port_min);
            if self.port_max != 0 && self.port_max != self.port_min {
                put!(out, "-{}", self.port_max);
            }
        }
    }
}
