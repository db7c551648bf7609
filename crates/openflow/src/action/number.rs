//! Numbers in text, with the liberties that C's `strtol` family takes: white space before, a sign, `0x`
//! and `0` for bases 16 and 8, and trailing text where the caller does not mind.

use flow::Value;

/// A number at the beginning of a text.
pub(crate) struct Number<'a> {
    pub negative: bool,
    /// Without the sign; `None` if it has more than 64 bits.
    pub magnitude: Option<u64>,
    /// What follows it.
    pub rest: &'a str,
}

impl Number<'_> {
    /// As `strtoull`: negative numbers wrap. `None` where C reports a range error.
    pub fn as_u64(&self) -> Option<u64> {
        let m = self.magnitude?;
        Some(if self.negative { m.wrapping_neg() } else { m })
    }

    /// As `strtoll`. `None` where C reports a range error.
    pub fn as_i64(&self) -> Option<i64> {
        let m = i128::from(self.magnitude?);
        i64::try_from(if self.negative { -m } else { m }).ok()
    }
}

/// The number at the beginning of `s`, or `None` if there is none. Base 0 goes by the prefix.
pub(crate) fn number(s: &str, base: u32) -> Option<Number<'_>> {
    let t = s.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, t) = match t.strip_prefix('-') {
        Some(t) => (true, t),
        None => (false, t.strip_prefix('+').unwrap_or(t)),
    };
    let hex = t.strip_prefix("0x").or_else(|| t.strip_prefix("0X"));
    let hex = hex.filter(|h| h.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (base, digits) = match (base, hex) {
        (0 | 16, Some(h)) => (16, h),
        (0, None) if t.starts_with('0') => (8, t),
        (0, None) => (10, t),
        (b, _) => (b, t),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at(end);
    Some(Number { negative, magnitude: u64::from_str_radix(digits, base).ok(), rest })
}

fn whole_i64(s: &str, base: u32) -> Option<i64> {
    number(s, base).filter(|n| n.rest.is_empty())?.as_i64()
}

/// A number in `0..=max`. `what` names it in the error.
fn bounded(s: &str, what: &str, max: i64) -> Result<i64, String> {
    match whole_i64(s, 0) {
        Some(n) if (0..=max).contains(&n) => Ok(n),
        _ => Err(format!("invalid {what} \"{s}\"")),
    }
}

pub(crate) fn parse_u8(s: &str, what: &str) -> Result<u8, String> {
    bounded(s, what, 0xff).map(|n| n as u8)
}

pub(crate) fn parse_u16(s: &str, what: &str) -> Result<u16, String> {
    bounded(s, what, 0xffff).map(|n| n as u16)
}

/// A number of 64 bits; negative ones wrap.
pub(crate) fn parse_u64(s: &str) -> Result<u64, String> {
    if s.is_empty() {
        return Err("missing required numeric argument".into());
    }
    let invalid = || format!("invalid numeric format {s}");
    number(s, 0).filter(|n| n.rest.is_empty()).and_then(|n| n.as_u64()).ok_or_else(invalid)
}

/// The low 32 bits of a number as [`parse_u64`] reads it.
pub(crate) fn parse_u32(s: &str) -> Result<u32, String> {
    parse_u64(s).map(|n| n as u32)
}

/// As `atoi`: 0 if there is no number, and the rest of the text does not matter.
pub(crate) fn lenient_i32(s: &str) -> i32 {
    match number(s, 10) {
        None => 0,
        Some(n) => n.as_i64().unwrap_or(if n.negative { i64::MIN } else { i64::MAX }) as i32,
    }
}

/// A decimal number of up to 32 bits, as ports and tables are numbered.
pub(crate) fn decimal_u32(s: &str) -> Option<u32> {
    u32::try_from(whole_i64(s, 10)?).ok()
}

/// The number at the beginning of `s` as a field's value of `n_bytes`, with what follows it; `None` if there
/// is none or it does not fit. Hexadecimal digits (any number of them) may have blanks between them.
pub(crate) fn wide(s: &str, n_bytes: usize) -> Option<(Value, &str)> {
    let Some(hex) = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) else {
        let n = number(s, 0)?;
        let value = n.as_u64()?;
        let fits = n_bytes >= 8 || value >> (8 * n_bytes) == 0;
        return fits.then(|| (Value::from_u128(n_bytes, value.into()), n.rest));
    };
    let end = hex.find(|c: char| !c.is_ascii_hexdigit() && !" \t\r\n".contains(c)).unwrap_or(hex.len());
    let (digits, rest) = hex.split_at(end);
    let nibbles = digits.chars().filter_map(|c| c.to_digit(16)).skip_while(|d| *d == 0);
    let nibbles: Vec<u8> = nibbles.map(|d| d as u8).collect();
    if nibbles.len().div_ceil(2) > n_bytes {
        return None;
    }
    let mut value = Value::zero(n_bytes);
    for (byte, pair) in value.as_mut_bytes().iter_mut().rev().zip(nibbles.rchunks(2)) {
        *byte = pair.iter().fold(0, |x, d| x << 4 | d);
    }
    Some((value, rest))
}

/// Pairs of hexadecimal digits at the beginning of `s`, with blanks and dots between pairs. Returns the
/// bytes and the rest of `s`.
pub(crate) fn hex_bytes(s: &str) -> (Vec<u8>, &str) {
    let mut out = Vec::new();
    let mut rest = s;
    loop {
        rest = rest.trim_start_matches([' ', '.', '\t', '\r', '\n']);
        let pair = rest.get(..2).filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = pair.and_then(|p| u8::from_str_radix(p, 16).ok()) else { return (out, rest) };
        out.push(byte);
        rest = &rest[2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_c_numbers() {
        assert_eq!(parse_u8("0x10", "x"), Ok(16));
        assert_eq!(parse_u8(" 010", "x"), Ok(8));
        assert_eq!(parse_u8("256", "TOS"), Err("invalid TOS \"256\"".into()));
        assert_eq!(parse_u8("", "TOS"), Err("invalid TOS \"\"".into()));
        assert_eq!(parse_u16("-1", "x"), Err("invalid x \"-1\"".into()));
        assert_eq!(parse_u32("-1"), Ok(u32::MAX));
        assert_eq!(parse_u32("4294967296"), Ok(0));
        assert_eq!(parse_u32("1x"), Err("invalid numeric format 1x".into()));
        assert_eq!(
            parse_u64("18446744073709551616"),
            Err("invalid numeric format 18446744073709551616".into())
        );
        assert_eq!(parse_u64("0x"), Err("invalid numeric format 0x".into()));
        assert_eq!(parse_u64(""), Err("missing required numeric argument".into()));
        assert_eq!(lenient_i32("12abc"), 12);
        assert_eq!(lenient_i32("abc"), 0);
        assert_eq!(decimal_u32("0x1"), None);
        assert_eq!(decimal_u32("4294967295"), Some(u32::MAX));
    }

    #[test]
    fn wide_numbers() {
        let show = |s, n| wide(s, n).map(|(v, rest)| (format!("{v:?}"), rest));
        assert_eq!(show("0x1 23->a", 3), Some(("0x000123".into(), "->a")));
        assert_eq!(show("0x000123", 1), None);
        assert_eq!(show("0x00012", 1), Some(("0x12".into(), "")));
        assert_eq!(show("256", 1), None);
        assert_eq!(show("-1", 8), Some(("0xffffffffffffffff".into(), "")));
        assert_eq!(show("10x", 16), Some(("0x0000000000000000000000000000000a".into(), "x")));
        assert_eq!(show("0x", 2), Some(("0x0000".into(), "")));
        assert_eq!(show("x", 2), None);
    }

    #[test]
    fn hex_pairs() {
        assert_eq!(hex_bytes("01.0a ff"), (vec![1, 10, 255], ""));
        assert_eq!(hex_bytes("01.0ag"), (vec![1, 10], "g"));
        assert_eq!(hex_bytes("0é"), (vec![], "0é"));
    }
}
