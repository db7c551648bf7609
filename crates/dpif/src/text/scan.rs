//! Reading datapath text from left to right.
//!
//! Numbers are C's `%i`: decimal, `0x` hexadecimal, or octal with a leading zero. What does not fit its
//! field is an error, not cut.

use flow::{EthAddr, U128};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Deepest nesting of keys and actions that is followed.
pub(crate) const DEPTH_MAX: usize = 32;
/// What separates keys, and actions.
const DELIMITERS: &[char] = &[',', ' ', '\t', '\r', '\n'];

/// A place in the text. All methods either take what they name or leave the place alone.
#[derive(Clone)]
pub(crate) struct Scan<'a> {
    pub rest: &'a str,
    /// Nesting so far.
    pub depth: usize,
}

impl<'a> Scan<'a> {
    pub fn new(rest: &'a str) -> Self {
        Scan { rest, depth: 0 }
    }

    /// Takes `what` if it comes next.
    pub fn eat(&mut self, what: &str) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// As [`Scan::eat`], for use with `?`.
    pub fn need(&mut self, what: &str) -> Option<()> {
        self.eat(what).then_some(())
    }

    pub fn peek(&self, what: &str) -> bool {
        self.rest.starts_with(what)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn skip_delimiters(&mut self) {
        self.rest = self.rest.trim_start_matches(DELIMITERS);
    }

    /// Whether the text ends here or a delimiter follows.
    pub fn at_delimiter(&self) -> bool {
        self.rest.is_empty() || self.rest.starts_with(DELIMITERS)
    }

    /// Takes the longest run of characters for which `is_in` holds; maybe none.
    pub fn run(&mut self, is_in: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_in(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// A number of at most `bits` bits in the given radix; 0 means by prefix.
    pub fn number_in(&mut self, radix: u32, bits: u32) -> Option<u128> {
        let mut s = self.clone();
        let negative = s.eat("-");
        if !negative {
            s.eat("+");
        }
        let hex_prefix = (radix == 0 || radix == 16)
            && (s.peek("0x") || s.peek("0X"))
            && s.rest[2..].starts_with(|c: char| c.is_ascii_hexdigit());
        let radix = match radix {
            _ if hex_prefix => {
                s.rest = &s.rest[2..];
                16
            }
            0 if s.peek("0") => 8,
            0 => 10,
            r => r,
        };
        let digits = s.run(|c| c.is_digit(radix));
        let value = u128::from_str_radix(digits, radix).ok()?;
        let max = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
        if value > max {
            return None;
        }
        *self = s;
        Some(if negative { value.wrapping_neg() & max } else { value })
    }

    pub fn number(&mut self, bits: u32) -> Option<u128> {
        self.number_in(0, bits)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.number(8).map(|v| v as u8)
    }
    pub fn u16(&mut self) -> Option<u16> {
        self.number(16).map(|v| v as u16)
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.number(32).map(|v| v as u32)
    }
    /// Hexadecimal with or without `0x`.
    pub fn hex(&mut self, bits: u32) -> Option<u128> {
        self.number_in(16, bits)
    }

    pub fn mac(&mut self) -> Option<EthAddr> {
        let mut s = self.clone();
        let run = s.run(|c| c.is_ascii_hexdigit() || c == ':');
        let addr = run.parse().ok()?;
        *self = s;
        Some(addr)
    }

    pub fn ipv4(&mut self) -> Option<u32> {
        let mut s = self.clone();
        let mut addr = 0u32;
        for i in 0..4 {
            if i > 0 {
                s.need(".")?;
            }
            let digits = s.run(|c| c.is_ascii_digit());
            addr = (addr << 8) | u32::from(digits.parse::<u8>().ok()?);
        }
        *self = s;
        Some(addr)
    }

    pub fn ipv6(&mut self) -> Option<U128> {
        let mut s = self.clone();
        let run = s.run(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
        let addr: Ipv6Addr = run.parse().ok()?;
        *self = s;
        Some(u128::from(addr).into())
    }

    /// Bytes in hexadecimal, spaces between them allowed; maybe none.
    pub fn hex_bytes(&mut self) -> Option<Vec<u8>> {
        let run = self.run(|c| c.is_ascii_hexdigit() || c.is_ascii_whitespace());
        let digits: Vec<u8> = run.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        Some(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
    }

    /// A number of `len` bytes, as [`put_hex`] writes one.
    pub fn wide_hex(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut s = self.clone();
        let mut out = vec![0; len];
        if s.eat("0x") || s.eat("0X") {
            let digits = s.run(|c| c.is_ascii_hexdigit()).trim_start_matches('0');
            if digits.len() > len * 2 {
                return None;
            }
            for (i, d) in digits.bytes().rev().enumerate() {
                let v = char::from(d).to_digit(16)? as u8;
                let at = len - 1 - i / 2;
                out[at] |= v << (4 * (i % 2));
            }
        } else {
            let v = s.number(64)?;
            if len < 16 && v >> (8 * len) != 0 {
                return None;
            }
            for (i, b) in out.iter_mut().rev().enumerate().take(16) {
                *b = (v >> (8 * i)) as u8;
            }
        }
        *self = s;
        Some(out)
    }
}

/// Appends a value as C's `%#x` does: no prefix for 0.
pub(crate) fn put_hash_x(out: &mut String, v: u128) {
    use std::fmt::Write;
    let _ = if v == 0 { write!(out, "0") } else { write!(out, "{v:#x}") };
}

/// Appends `bytes` as one hexadecimal number, leading zeros left out.
pub(crate) fn put_hex(out: &mut String, bytes: &[u8]) {
    use std::fmt::Write;
    let mut printed = false;
    for b in bytes {
        let _ = match (printed, *b) {
            (false, 0) => continue,
            (false, b) => write!(out, "0x{b:x}"),
            (true, b) => write!(out, "{b:02x}"),
        };
        printed = true;
    }
    if !printed {
        out.push('0');
    }
}

/// Takes one `,` off the end, if there is one.
pub(crate) fn chomp(out: &mut String) {
    if out.ends_with(',') {
        out.pop();
    }
}

pub(crate) fn put_ipv4(out: &mut String, a: u32) {
    use std::fmt::Write;
    let _ = write!(out, "{}", Ipv4Addr::from(a));
}

pub(crate) fn put_ipv6(out: &mut String, a: U128) {
    use std::fmt::Write;
    let _ = write!(out, "{}", Ipv6Addr::from(u128::from(a)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_prefix() {
        for (text, bits, want, rest) in [
            ("10,", 8, Some(10), ","),
            ("0x1fx", 8, Some(31), "x"),
            ("017", 8, Some(15), ""),
            ("0", 8, Some(0), ""),
            ("0x", 8, Some(0), "x"),
            ("256", 8, None, "256"),
            ("-1", 32, Some(0xffff_ffff), ""),
            ("x", 8, None, "x"),
        ] {
            let mut s = Scan::new(text);
            assert_eq!((s.number(bits), s.rest), (want, rest), "{text}");
        }
    }

    #[test]
    fn addresses_and_bytes() {
        assert_eq!(Scan::new("1.2.3.4/").ipv4(), Some(0x0102_0304));
        assert_eq!(Scan::new("1.2.3").ipv4(), None);
        assert_eq!(Scan::new("::1)").ipv6(), Some(1.into()));
        assert_eq!(Scan::new("1:2:3:4:5:6)").mac(), Some(EthAddr([1, 2, 3, 4, 5, 6])));
        assert_eq!(Scan::new("01 ff)").hex_bytes(), Some(vec![1, 255]));
        assert_eq!(Scan::new("0x102").wide_hex(3), Some(vec![0, 1, 2]));
        assert_eq!(Scan::new("0x1020304").wide_hex(3), None);
        assert_eq!(Scan::new("258").wide_hex(3), Some(vec![0, 1, 2]));
        let mut s = String::new();
        put_hex(&mut s, &[0, 10, 1]);
        put_hash_x(&mut s, 0);
        assert_eq!(s, "0xa010");
    }
}
