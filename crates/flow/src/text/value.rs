//! One field's value as text, in both directions.

use super::scan::Scan;
use super::*;
use crate::field::{Field, Format};
use crate::key::{EthAddr, NW_FRAG_ANY, NW_FRAG_LATER};
use crate::port;
use crate::value::Value;

/// Reserved ports, by the name that OVS prints.
const PORTS: [(&str, u16); 10] = [
    ("IN_PORT", port::IN_PORT),
    ("TABLE", port::TABLE),
    ("NORMAL", port::NORMAL),
    ("FLOOD", port::FLOOD),
    ("ALL", port::ALL),
    ("CONTROLLER", port::CONTROLLER),
    ("LOCAL", port::LOCAL),
    ("ANY", port::NONE),
    ("UNSET", port::UNSET),
    // Understood, but never printed.
    ("NONE", port::NONE),
];

/// A port's name, quoted unless it is a word of letters and digits, or its number.
pub fn format_port(port: u16, names: &dyn PortNames) -> String {
    if let Some((name, _)) = PORTS.iter().find(|(_, p)| *p == port) {
        return (*name).into();
    }
    match names.name_of(port) {
        None => port.to_string(),
        Some(n) if is_word(&n) => n,
        Some(n) => quoted(&n),
    }
}

fn is_word(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic()) && s.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// `s` as a JSON string.
fn quoted(s: &str) -> String {
    let mut out = String::from('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\x0c' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The opposite of [`quoted`], without the quotes.
fn unquoted(s: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = s.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '/') => c,
                'b' => '\x08',
                't' => '\t',
                'n' => '\n',
                'f' => '\x0c',
                'r' => '\r',
                'u' => {
                    let hex: String = chars.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == 4)?)?
                }
                _ => return None,
            },
            '"' => return None,
            c => c,
        });
    }
    Some(out)
}

/// A port by number, reserved name (in any case) or name in `names`, quoted or not.
pub fn parse_port(s: &str, names: &dyn PortNames) -> Option<u16> {
    if s.starts_with('-') {
        return None;
    }
    let mut scan = Scan::new(s);
    if let Some(Ok(n)) = scan.c_u64(10)
        && scan.rest.is_empty()
        && n <= u32::MAX.into()
    {
        return u16::try_from(n).ok().or_else(|| port::from_11(n as u32));
    }
    if let Some((_, p)) = PORTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(s)) {
        return Some(*p);
    }
    match s.strip_prefix('"') {
        None => names.number_of(s),
        Some(q) => names.number_of(&unquoted(q.strip_suffix('"')?)?),
    }
}

/// Kinds of fragment, the name to print first: name, mask, value.
const FRAGS: [(&str, u8, u8); 7] = {
    const A: u8 = NW_FRAG_ANY;
    const L: u8 = NW_FRAG_LATER;
    [
        ("no", A | L, 0),
        ("first", A | L, A),
        ("later", A | L, A | L),
        ("no", A, 0),
        ("yes", A, A),
        ("not_later", L, 0),
        ("later", L, L),
    ]
};

type Parsed = Result<(Value, Value), String>;

impl Field {
    /// `value` under `mask` (exact without one) as OVS prints it, e.g. in `set_field`.
    pub fn format_value(self, value: &Value, mask: Option<&Value>, names: &dyn PortNames) -> String {
        if mask.is_some_and(|m| m.is_zero() && !m.is_empty()) {
            return "ANY".into();
        }
        let mask = mask.filter(|m| !m.is_ones());
        let x = value.to_u128();
        let m = mask.map_or(u128::MAX, Value::to_u128);
        match self.info().format {
            Format::PortOxm if mask.is_none() => {
                format_port(port::from_11(x as u32).unwrap_or(port::NONE), names)
            }
            Format::Port if mask.is_none() => format_port(x as u16, names),
            Format::Hex => with_hex_mask(value.to_string(), mask),
            Format::Port | Format::PortOxm | Format::Decimal => with_hex_mask((x as i64).to_string(), mask),
            Format::CtState => masked_flags_text(CT_STATE, x as u32, m as u32, 0xffff),
            Format::Ethernet => {
                let mac = |v: u128| EthAddr::from_u64(v as u64).to_string();
                mask.map_or_else(|| mac(x), |_| format!("{}/{}", mac(x), mac(m)))
            }
            Format::Ipv4 => ipv4_masked_text(x as u32, m as u32),
            Format::Ipv6 => ipv6_masked_text(x, m),
            Format::Frag => {
                let (m, x) = (m as u8 & 3, (x & m) as u8 & 3);
                FRAGS.iter().find(|f| f.1 == m && f.2 == x).map_or("<error>", |f| f.0).into()
            }
            Format::TunFlags => masked_flags_text(TUN_FLAGS, x as u32, m as u32 & 1, 1),
            Format::TcpFlags => masked_flags_text(TCP_FLAGS, x as u32, m as u32 & 0xfff, 0xfff),
            Format::PacketType => packet_type_text(x as u32, m as u32),
        }
    }

    /// Parses a value, possibly masked; the mask is all ones if there was none. The error is OVS's text.
    pub fn parse_masked(self, s: &str, names: &dyn PortNames) -> Parsed {
        let n = self.n_bytes();
        if s == "*" {
            return Ok((Value::zero(n), Value::zero(n)));
        }
        let (value, mask) = match self.info().format {
            Format::Decimal | Format::Hex => self.parse_integer(s)?,
            Format::CtState => flags_value(parse_flags(s, CT_STATE, "ct_state", 0xff)?, n),
            Format::TunFlags => flags_value(parse_flags(s, TUN_FLAGS, "tunnel", 1)?, n),
            Format::TcpFlags => flags_value(parse_flags(s, TCP_FLAGS, "TCP", 0xfff)?, n),
            Format::Ethernet => parse_eth(s).ok_or_else(|| format!("{s}: invalid Ethernet address"))?,
            Format::Ipv4 => parse_ipv4(s)?,
            Format::Ipv6 => parse_ipv6(s)?,
            Format::Port => {
                let invalid = || format!("{s}: invalid or unknown port for {}", self.name());
                (parse_port(s, names).ok_or_else(invalid)?.into(), Value::ones(n))
            }
            Format::PortOxm => {
                let invalid = || format!("{s}: port value out of range for {}", self.name());
                let p = parse_port(s, names).ok_or_else(invalid)?;
                (port::to_11(p.into()).into(), Value::ones(n))
            }
            Format::Frag => parse_frag(s)?,
            Format::PacketType => (parse_packet_type(s)?, Value::ones(n)),
        };
        if !self.is_mask_valid(&mask) {
            return Err(format!("{s}: invalid mask for field {}", self.name()));
        }
        Ok((value, mask))
    }

    /// Parses a value without a mask.
    pub fn parse_value(self, s: &str, names: &dyn PortNames) -> Result<Value, String> {
        match self.parse_masked(s, names)? {
            (value, mask) if mask.is_ones() => Ok(value),
            _ => Err(format!("{s}: wildcards not allowed here")),
        }
    }

    fn parse_integer(self, s: &str) -> Parsed {
        let n = self.n_bytes();
        let error = |what: &str, e: NumberError| match e {
            NumberError::Range => format!("{s}: {what} too large for {n}-byte field {}", self.name()),
            NumberError::Syntax => format!("{s}: bad syntax for {} {what}", self.name()),
        };
        let (value, rest) = parse_number(s, n).map_err(|e| error("value", e))?;
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Ok((value, Value::ones(n))),
            None => Err(error("value", NumberError::Syntax)),
            Some(m) => match parse_number(m, n) {
                Ok((mask, "")) => Ok((value, mask)),
                Ok(_) => Err(error("mask", NumberError::Syntax)),
                Err(e) => Err(error("mask", e)),
            },
        }
    }
}

fn with_hex_mask(value: String, mask: Option<&Value>) -> String {
    mask.map_or(value.clone(), |m| format!("{value}/{m}"))
}

fn flags_value((flags, mask): (u32, u32), n: usize) -> (Value, Value) {
    (Value::from_u128(n, flags.into()), Value::from_u128(n, mask.into()))
}

enum NumberError {
    Range,
    Syntax,
}

/// A number of `n` bytes: hexadecimal of any length after `0x`, else as C reads it.
fn parse_number(s: &str, n: usize) -> Result<(Value, &str), NumberError> {
    if let Some(hex) = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        let end = hex.find(|c: char| !c.is_ascii_hexdigit() && !blank(c)).unwrap_or(hex.len());
        let (digits, rest) = hex.split_at(end);
        let nibbles = digits.chars().filter_map(|c| c.to_digit(16)).skip_while(|d| *d == 0);
        let count = nibbles.clone().count();
        if count > 2 * n {
            return Err(NumberError::Range);
        }
        let mut v = Value::zero(n);
        for (i, d) in nibbles.enumerate() {
            let at = count - 1 - i;
            if let Some(b) = v.as_mut_bytes().get_mut(n - 1 - at / 2) {
                *b |= (d as u8) << (4 * (at % 2));
            }
        }
        return Ok((v, rest));
    }
    let mut scan = Scan::new(s);
    let x = scan.c_u64(0).ok_or(NumberError::Syntax)?.map_err(|()| NumberError::Range)?;
    if n < 8 && x >> (8 * n) != 0 {
        return Err(NumberError::Range);
    }
    Ok((Value::from_u128(n, x.into()), scan.rest))
}

/// Flags: `value/mask`, `+set-clear` or names and numbers with `|` between them (then exact: mask
/// `u32::MAX`).
fn parse_flags(s: &str, names: &BitNames, what: &str, allowed: u32) -> Result<(u32, u32), String> {
    let unknown = |s: &str| format!("{s}: unknown {what} flag(s)");
    let mut scan = Scan::new(s);
    if let Some(flags) = scan.int(0)
        && scan.literal('/').is_some()
        && let Some(mask) = scan.int(0)
    {
        let (flags, mask) = (flags as u32, mask as u32);
        return if (flags | mask) & !allowed != 0 { Err(unknown(s)) } else { Ok((flags, mask)) };
    }
    if s.starts_with(['+', '-']) {
        signed_flags(s, names, what, allowed)
    } else {
        named_flags(s, names, what, allowed)
    }
}

fn signed_flags(mut s: &str, names: &BitNames, what: &str, allowed: u32) -> Result<(u32, u32), String> {
    let (mut flags, mut mask) = (0, 0);
    while !s.is_empty() {
        let set = match s.as_bytes().first() {
            Some(b'+') => true,
            Some(b'-') => false,
            _ => return Err(format!("{s}: {what} must be preceded by '+' (for SET) or '-' (NOT SET)")),
        };
        s = &s[1..];
        let n = s.find(['+', '-']).unwrap_or(s.len());
        let bit = names.iter().find(|(name, _)| *name == &s[..n]).map_or(0, |(_, b)| *b);
        if bit & mask != 0 {
            return Err(format!("{s}: Each {what} flag can be specified only once"));
        }
        if bit & allowed == 0 {
            return Err(format!("{s}: unknown {what} flag(s)"));
        }
        mask |= bit;
        flags |= if set { bit } else { 0 };
        s = &s[n..];
    }
    Ok((flags, mask))
}

fn named_flags(s: &str, names: &BitNames, what: &str, allowed: u32) -> Result<(u32, u32), String> {
    let unknown = || format!("{s}: unknown {what} flag(s)");
    let mut result = 0;
    let mut scan = Scan::new(s);
    while !scan.rest.is_empty() {
        if let Some(x) = scan.int(0) {
            result |= x as u32;
        } else {
            let n = scan.rest.find('|').unwrap_or(scan.rest.len());
            let (name, rest) = scan.rest.split_at(n);
            result |= names.iter().find(|(x, _)| *x == name).ok_or_else(unknown)?.1;
            scan.rest = rest;
        }
        if result & !allowed != 0 {
            return Err(unknown());
        }
        let _ = scan.literal('|');
    }
    Ok((result, u32::MAX))
}

fn parse_eth(s: &str) -> Option<(Value, Value)> {
    let mut scan = Scan::new(s);
    let mac = |scan: &mut Scan<'_>| -> Option<EthAddr> {
        let mut a = [0; 6];
        for (i, b) in a.iter_mut().enumerate() {
            if i > 0 {
                scan.literal(':')?;
            }
            *b = scan.int(16)? as u8;
        }
        Some(EthAddr(a))
    };
    let value = mac(&mut scan)?;
    if scan.rest.is_empty() {
        return Some((value.into(), Value::ones(6)));
    }
    scan.literal('/')?;
    let mask = mac(&mut scan)?;
    scan.rest.is_empty().then(|| (value.into(), mask.into()))
}

fn scan_ipv4(scan: &mut Scan<'_>) -> Option<u32> {
    let mut ip = 0;
    for i in 0..4 {
        if i > 0 {
            scan.literal('.')?;
        }
        ip = ip << 8 | (scan.int(10)? & 0xff) as u32;
    }
    Some(ip)
}

fn parse_ipv4(s: &str) -> Parsed {
    let invalid = || format!("{s}: invalid IP address");
    let mut scan = Scan::new(s);
    let ip = scan_ipv4(&mut scan).ok_or_else(invalid)?;
    let mut mask = u32::MAX;
    if scan.literal('/').is_some() {
        let mut as_mask = scan;
        if let Some(m) = scan_ipv4(&mut as_mask) {
            (mask, scan) = (m, as_mask);
        } else {
            let prefix = scan.int(10).ok_or_else(invalid)? as i32;
            if !(0..=32).contains(&prefix) {
                return Err(format!("{s}: IPv4 network prefix bits not between 0 and 32, inclusive"));
            }
            mask = u32::MAX.checked_shl(32 - prefix as u32).unwrap_or(0);
        }
    }
    if scan.rest.is_empty() { Ok((ip.into(), mask.into())) } else { Err(invalid()) }
}

fn parse_ipv6(s: &str) -> Parsed {
    let invalid = || format!("{s}: invalid IPv6 address");
    let (ip, mask) = s.split_once('/').map_or((s, None), |(ip, m)| (ip, Some(m)));
    let ip: Ipv6Addr = ip.trim_start().parse().map_err(|_| invalid())?;
    let mask = match mask {
        None => u128::MAX,
        // OVS takes a mask that starts with a decimal digit for a prefix length, and fails.
        Some(m) => match m.parse::<Ipv6Addr>() {
            Ok(mask) => mask.into(),
            Err(_) => {
                let mut scan = Scan::new(m);
                let prefix = scan.int(10).ok_or_else(|| format!("{s}: Invalid IPv6 mask"))?;
                if prefix > 128 {
                    return Err(format!("{s}: IPv6 network prefix bits not between 0 and 128, inclusive"));
                }
                if !scan.rest.is_empty() {
                    return Err(invalid());
                }
                u128::MAX.checked_shl(128 - prefix as u32).unwrap_or(0)
            }
        },
    };
    Ok((u128::from(ip).into(), mask.into()))
}

fn parse_frag(s: &str) -> Parsed {
    let unknown = || {
        let valid = "\"no\", \"yes\", \"first\", \"later\", \"not_later\"";
        format!("{s}: unknown fragment type (valid types are {valid}")
    };
    let (_, mask, value) = FRAGS.iter().find(|f| f.0.eq_ignore_ascii_case(s)).ok_or_else(unknown)?;
    // With the upper bits, so that a mask for both bits is one for all of the byte.
    Ok(((*value).into(), (mask | !3).into()))
}

fn parse_packet_type(s: &str) -> Result<Value, String> {
    let error = |what: &str| format!("{s}: bad syntax for packet type {what}");
    let number = |s| parse_number(s, 2).map(|(v, rest)| (v.to_u64() as u32, rest));
    let rest = s.strip_prefix('(').ok_or_else(|| error("missing '('"))?;
    let inner = rest;
    // OVS names what follows the parenthesis in these messages.
    let error = |what: &str| format!("{inner}: bad syntax for packet type {what}");
    let (ns, rest) = number(rest).map_err(|_| error("ns"))?;
    let rest = rest.strip_prefix(',').ok_or_else(|| error("missing ','"))?;
    let error = |what: &str| format!("{rest}: bad syntax for packet type {what}");
    let (ns_type, end) = number(rest).map_err(|_| error("ns_type"))?;
    if !end.starts_with(')') {
        return Err(error("missing ')'"));
    }
    Ok((ns << 16 | ns_type).into())
}
