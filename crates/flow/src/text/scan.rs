//! Numbers as C's `strtoull` and `scanf` read them.

/// Reads through text from the left.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    pub rest: &'a str,
}

impl<'a> Scan<'a> {
    pub fn new(rest: &'a str) -> Scan<'a> {
        Scan { rest }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    }

    /// Takes `c` if it is next.
    pub fn literal(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(c)?;
        Some(())
    }

    /// An integer: blanks, a sign, then digits. Base 0 goes by the prefix, base 16 may have one. The
    /// second of the result tells whether it was too large for 64 bits (of which the low ones are left).
    fn wide_int(&mut self, base: u32) -> Option<(u64, bool)> {
        let mut s = *self;
        s.skip_spaces();
        let negative = s.rest.starts_with('-');
        s.rest = s.rest.strip_prefix(['-', '+']).unwrap_or(s.rest);
        let hex = s.rest.strip_prefix("0x").or_else(|| s.rest.strip_prefix("0X"));
        let mut base = base;
        match hex.filter(|h| matches!(base, 0 | 16) && h.starts_with(|c: char| c.is_ascii_hexdigit())) {
            Some(h) => {
                s.rest = h;
                base = 16;
            }
            None if base == 0 => base = if s.rest.starts_with('0') { 8 } else { 10 },
            None => {}
        }
        let n = s.rest.find(|c: char| !c.is_digit(base)).unwrap_or(s.rest.len());
        let (digits, rest) = s.rest.split_at(n);
        if digits.is_empty() {
            return None;
        }
        self.rest = rest;
        let value = |x: char| x.to_digit(base).unwrap_or(0).into();
        let wrapped = digits.chars().fold(0u64, |x, c| x.wrapping_mul(base.into()).wrapping_add(value(c)));
        let overflow = u64::from_str_radix(digits, base).is_err();
        Some((if negative { wrapped.wrapping_neg() } else { wrapped }, overflow))
    }

    /// As `strtoull`: `None` if there is no number, an error if it does not fit.
    pub fn c_u64(&mut self, base: u32) -> Option<Result<u64, ()>> {
        self.wide_int(base).map(|(x, overflow)| if overflow { Err(()) } else { Ok(x) })
    }

    /// As `scanf`: what does not fit is cut off by the caller's cast.
    pub fn int(&mut self, base: u32) -> Option<u64> {
        self.wide_int(base).map(|(x, _)| x)
    }
}
