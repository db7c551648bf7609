//! Reading a key: text to a list of attributes, in any order, each on its own.

use super::PortNumbers;
use super::flags::{self, Names};
use super::scan::{DEPTH_MAX, Scan};
use super::tunnel::{self, ScannedTunnel, scan_value};
use crate::attr::{Attr, Field, Form, NAMES, Side, fields, single};
use flow::{Flow, MPLS_LABELS_MAX, Nsh, U128, VLAN_CFI};

/// One attribute as the text had it. Fields that are not its own are zero on both sides.
#[derive(Clone)]
pub(crate) struct Scanned {
    pub attr: Attr,
    pub key: Flow,
    pub mask: Flow,
    /// Of `Mpls`: how many entries.
    pub labels: usize,
    /// Of `Tunnel`: whether the text said a TTL.
    pub has_ttl: bool,
    /// Of `Encap`: what is in it.
    pub inner: Vec<Scanned>,
}

impl Scanned {
    fn new(attr: Attr) -> Scanned {
        let (key, mask) = (Flow::ZERO, Flow::ZERO);
        Scanned { attr, key, mask, labels: 0, has_ttl: false, inner: Vec::new() }
    }

    fn set(&mut self, field: &Field, (key, mask): (u128, u128)) {
        (field.set)(&mut self.key, key, Side::Key);
        (field.set)(&mut self.mask, mask, Side::Mask);
    }
}

/// Reads one `name(...)`; leaves the place alone if that fails.
pub(crate) fn scan_attr(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Scanned> {
    let mut t = s.clone();
    t.depth += 1;
    if t.depth >= DEPTH_MAX {
        return None;
    }
    let name = t.run(|c| c.is_ascii_alphanumeric() || c == '_');
    let attr = NAMES.iter().find(|(_, n)| *n == name).map(|(a, _)| *a)?;
    t.need("(")?;
    let scanned = scan_inside(&mut t, attr, ports)?;
    t.depth -= 1;
    *s = t;
    Some(scanned)
}

/// From behind the opening parenthesis through the closing one.
fn scan_inside(s: &mut Scan<'_>, attr: Attr, ports: Option<PortNumbers<'_>>) -> Option<Scanned> {
    let mut out = Scanned::new(attr);
    match attr {
        Attr::CtState => scan_flags(s, &mut out, flags::CT_STATE, 0xff, |f, v| f.ct_state = v)?,
        Attr::TcpFlags => scan_flags(s, &mut out, flags::TCP, 0xfff, |f, v| f.tcp_flags = v as u16 & 0xfff)?,
        Attr::CtLabel => {
            let (key, mask) = scan_u128(s)?;
            (out.key.ct_label, out.mask.ct_label) = (key, mask);
            s.need(")")?;
        }
        Attr::Tunnel => {
            let ScannedTunnel { key, mask, has_ttl } = tunnel::scan(s)?;
            (out.key.tunnel, out.mask.tunnel, out.has_ttl) = (key, mask, has_ttl);
        }
        Attr::InPort => {
            (out.key.in_port, out.mask.in_port) = scan_port(s, ports)?;
            s.need(")")?;
        }
        Attr::Vlan => scan_vlan(s, &mut out)?,
        Attr::Mpls => scan_mpls(s, &mut out)?,
        Attr::Nsh => (out.key.nsh, out.mask.nsh) = scan_nsh(s)?,
        Attr::Encap => out.inner = scan_encap(s, ports)?,
        Attr::RecircId => {
            // Always matched whole.
            out.key.recirc_id = s.u32()?;
            out.mask.recirc_id = u32::MAX;
            s.need(")")?;
        }
        _ => match single(attr) {
            Some(field) => {
                let pair = scan_value(s, field.form)?;
                out.set(field, pair);
                s.need(")")?;
            }
            None => scan_fields(s, &mut out, fields(attr))?,
        },
    }
    Some(out)
}

/// `name=value/mask,...)`, each field at most as often as the last one counts.
fn scan_fields(s: &mut Scan<'_>, out: &mut Scanned, fields: &[Field]) -> Option<()> {
    loop {
        if s.eat(")") {
            return Some(());
        }
        let field = fields.iter().find(|f| s.eat(f.name) || s.eat(f.alias))?;
        let pair = scan_value(s, field.form)?;
        out.set(field, pair);
        // The key may have less room than the attribute: ARP's opcode.
        if (field.get)(&out.key, Side::Key) != pair.0 {
            return None;
        }
        if !s.eat(",") && !s.peek(")") {
            return None;
        }
    }
}

fn scan_flags(
    s: &mut Scan<'_>,
    out: &mut Scanned,
    names: Names,
    allowed: u32,
    set: fn(&mut Flow, u32),
) -> Option<()> {
    let (key, mask) = flags::scan(s, names, allowed)?;
    set(&mut out.key, key);
    set(&mut out.mask, mask);
    s.need(")")
}

/// A 128-bit number with an optional mask.
pub(super) fn scan_u128(s: &mut Scan<'_>) -> Option<(U128, U128)> {
    let number = |s: &mut Scan<'_>| -> Option<U128> {
        let bytes = s.wide_hex(16)?;
        Some(u128::from_be_bytes(*bytes.first_chunk()?).into())
    };
    let key = number(s)?;
    let mask = if s.eat("/") { number(s)? } else { U128::MAX };
    Some((key, mask))
}

/// A port's number, with an optional mask, or its name.
fn scan_port(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<(u32, u32)> {
    if let Some((key, mask)) = scan_value(s, Form::Dec(32)) {
        return Some((key as u32, mask as u32));
    }
    let name = s.run(|c| c != ')');
    Some((ports?(name)?.0, u32::MAX))
}

/// Parts of a word: name, bits, shift.
type Parts = &'static [(&'static str, u32, u32)];
const TCI: Parts = &[("vid=", 12, 0), ("pcp=", 3, 13), ("cfi=", 1, 12)];
const LSE: Parts = &[("label=", 20, 12), ("tc=", 3, 9), ("ttl=", 8, 0), ("bos=", 1, 8)];

/// Reads `name=value/mask` into the part of `key` and `mask` that it names; returns which part it was.
fn scan_part(s: &mut Scan<'_>, parts: Parts, key: &mut u32, mask: &mut u32) -> Option<usize> {
    let at = parts.iter().position(|(name, ..)| s.eat(name))?;
    let (_, bits, shift) = parts[at];
    let (k, m) = scan_value(s, Form::Dec(bits))?;
    let whole = ((1 << bits) - 1) << shift;
    *key = (*key & !whole) | (k as u32) << shift;
    *mask = (*mask & !whole) | (m as u32) << shift;
    Some(at)
}

/// A tag is there, and matched as there, unless the text says `cfi=0`.
fn scan_vlan(s: &mut Scan<'_>, out: &mut Scanned) -> Option<()> {
    let (mut key, mut mask) = (u32::from(VLAN_CFI), u32::from(VLAN_CFI));
    while !s.eat(")") {
        scan_part(s, TCI, &mut key, &mut mask)?;
        if !s.eat(",") && !s.peek(")") {
            return None;
        }
    }
    (out.key.vlans[0].tci, out.mask.vlans[0].tci) = (key as u16, mask as u16);
    Some(())
}

/// Entries one after the other: a part that comes again begins the next.
fn scan_mpls(s: &mut Scan<'_>, out: &mut Scanned) -> Option<()> {
    let (mut at, mut seen) = (0, 0u32);
    while !s.eat(")") {
        let part = LSE.iter().position(|(name, ..)| s.peek(name))?;
        if seen & (1 << part) != 0 {
            (at, seen) = (at + 1, 0);
        }
        seen |= 1 << part;
        if at == MPLS_LABELS_MAX {
            return None;
        }
        scan_part(s, LSE, &mut out.key.mpls_lse[at], &mut out.mask.mpls_lse[at])?;
        if !s.eat(",") && !s.peek(")") {
            return None;
        }
    }
    out.labels = at + 1;
    Some(())
}

fn scan_nsh(s: &mut Scan<'_>) -> Option<(Nsh, Nsh)> {
    type Set = fn(&mut Nsh, u32);
    const FIELDS: [(&str, u32, Set); 10] = [
        ("flags=", 8, |n, v| n.flags = v as u8),
        ("ttl=", 8, |n, v| n.ttl = v as u8),
        ("mdtype=", 8, |n, v| n.mdtype = v as u8),
        ("np=", 8, |n, v| n.np = v as u8),
        ("spi=", 32, |n, v| n.path_hdr = n.path_hdr & 0xff | v << 8),
        ("si=", 8, |n, v| n.path_hdr = n.path_hdr & !0xff | v),
        ("c1=", 32, |n, v| n.context[0] = v),
        ("c2=", 32, |n, v| n.context[1] = v),
        ("c3=", 32, |n, v| n.context[2] = v),
        ("c4=", 32, |n, v| n.context[3] = v),
    ];
    let (mut key, mut mask) = (Nsh::default(), Nsh::default());
    while !s.eat(")") {
        let (_, bits, set) = FIELDS.iter().find(|(name, ..)| s.eat(name))?;
        let (k, m) = scan_value(s, Form::Dec(*bits))?;
        set(&mut key, k as u32);
        set(&mut mask, m as u32);
        if !s.eat(",") && !s.peek(")") {
            return None;
        }
    }
    Some((key, mask))
}

fn scan_encap(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Vec<Scanned>> {
    let mut inner = Vec::new();
    loop {
        s.skip_delimiters();
        if s.eat(")") {
            return Some(inner);
        }
        inner.push(scan_attr(s, ports)?);
    }
}
