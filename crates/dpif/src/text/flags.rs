//! Sets of named bits: `a|b`, or with a mask `+a-b`.

use super::scan::{Scan, chomp};
use std::fmt::Write;

/// Names of bits, lowest first; an empty name is a bit without one.
pub(crate) type Names = &'static [&'static str];

pub(crate) const CT_STATE: Names = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
pub(crate) const TCP: Names =
    &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
pub(crate) const TUNNEL: Names = &["oam", "df", "csum", "key"];
pub(crate) const SLOW_PATH: Names = &["cfm", "bfd", "lacp", "stp", "lldp", "action", "match"];

fn name_of(names: Names, bit: u32) -> Option<&'static str> {
    names.get(bit.trailing_zeros() as usize).copied().filter(|n| !n.is_empty())
}

fn bits(mut set: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = set & set.wrapping_neg();
        set &= !bit;
        (bit != 0).then_some(bit)
    })
}

/// `a|b`, then what has no name as one number; `0` for none.
pub(crate) fn put(out: &mut String, names: Names, set: u32, delimiter: char) {
    if set == 0 {
        out.push('0');
        return;
    }
    let mut nameless = 0;
    for bit in bits(set) {
        match name_of(names, bit) {
            Some(n) => {
                let _ = write!(out, "{n}{delimiter}");
            }
            None => nameless |= bit,
        }
    }
    if nameless != 0 {
        let _ = write!(out, "{nameless:#x}{delimiter}");
    }
    if out.ends_with(delimiter) {
        out.pop();
    }
    chomp(out);
}

/// `+a-b` over the bits of `mask`; as [`put`] if `mask` has all bits of `full`.
pub(crate) fn put_masked(out: &mut String, names: Names, set: u32, mask: u32, full: u32) {
    if mask == full {
        put(out, names, set, '|');
    } else if mask == 0 {
        out.push_str("0/0");
    }
    for bit in bits(if mask == full { 0 } else { mask }) {
        let sign = if set & bit != 0 { '+' } else { '-' };
        let _ = write!(out, "{sign}{}", name_of(names, bit).unwrap_or("[Unknown]"));
    }
}

/// Reads what [`put`] (with any of `|` and `,`) or [`put_masked`] wrote, or numbers, up to a `)`, which is
/// left. Without a mask in the text the mask is all ones. Bits outside `allowed` are an error.
pub(crate) fn scan(s: &mut Scan<'_>, names: Names, allowed: u32) -> Option<(u32, u32)> {
    if let Some(pair) = scan_numeric(s, allowed) {
        return Some(pair);
    }
    let (mut set, mut mask) = (0, 0);
    if s.peek("+") || s.peek("-") {
        while !s.peek(")") {
            let on = s.eat("+");
            if !on {
                s.need("-")?;
            }
            let bit = scan_name(s, names, "+-)").filter(|b| b & allowed != 0 && b & mask == 0)?;
            mask |= bit;
            set |= if on { bit } else { 0 };
        }
        return Some((set, mask));
    }
    while !s.peek(")") {
        let bit = match s.number(32) {
            Some(v) => v as u32,
            None => scan_name(s, names, "|,)")?,
        };
        if bit & !allowed != 0 {
            return None;
        }
        set |= bit;
        if !(s.eat("|") || s.eat(",") || s.peek(")")) {
            return None;
        }
    }
    Some((set, u32::MAX))
}

fn scan_numeric(s: &mut Scan<'_>, allowed: u32) -> Option<(u32, u32)> {
    let mut t = s.clone();
    let set = t.u32()?;
    t.need("/")?;
    let mask = t.u32()?;
    if (set | mask) & !allowed != 0 {
        return None;
    }
    *s = t;
    Some((set, mask))
}

fn scan_name(s: &mut Scan<'_>, names: Names, ends: &str) -> Option<u32> {
    let at = names.iter().position(|n| {
        let rest = s.rest.strip_prefix(n).filter(|_| !n.is_empty());
        rest.is_some_and(|r| r.starts_with(|c| ends.contains(c)))
    })?;
    s.eat(names[at]);
    Some(1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(set: u32, mask: u32) -> String {
        let mut s = String::new();
        put_masked(&mut s, CT_STATE, set, mask, u32::MAX);
        s
    }

    #[test]
    fn masked_flags_both_ways() {
        assert_eq!(masked(0x21, 0x27), "+new-est-rel+trk");
        assert_eq!(masked(0x21, u32::MAX), "new|trk");
        assert_eq!(masked(1, 0), "0/0");
        for (text, want) in [
            ("+new-est-rel+trk)", Some((0x21, 0x27))),
            ("new|trk)", Some((0x21, u32::MAX))),
            ("0x21/0x27)", Some((0x21, 0x27))),
            ("0)", Some((0, u32::MAX))),
            ("0/0)", Some((0, 0))),
            ("+new+new)", None),
            ("nonsense)", None),
            ("0x100)", None),
        ] {
            assert_eq!(scan(&mut Scan::new(text), CT_STATE, 0xff), want, "{text}");
        }
    }
}
