//! Actions as text: what writing and reading need to know, and the syntax that all actions share
//! (ovs-actions(7)).

use super::Action;
use super::number::decimal_u32;
use super::oxm::field_bits;
use super::parse;
use crate::{PortNo, Protocols};
use flow::text::{NoNames, PortNames, format_port, parse_port};
use flow::{Field, Subfield, TlvTable, Value, ofp};
use std::fmt::{self, Write};

/// Appends actions as text.
pub struct Text<'a> {
    pub out: &'a mut String,
    /// Names of the bridge's ports.
    pub names: &'a dyn PortNames,
    /// The bridge's tunnel options, as in [`super::Decoder::tlv`].
    pub tlv: Option<&'a TlvTable>,
}

/// Appends formatted text to a [`Text`].
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {
        $text.put_fmt(format_args!($($arg)*))
    };
}
pub(super) use put;

impl<'a> Text<'a> {
    #[must_use]
    pub fn new(out: &'a mut String) -> Self {
        Text { out, names: &NoNames, tlv: None }
    }

    /// `actions`, separated by commas; `drop` if there are none.
    pub fn actions(&mut self, actions: &[Action]) {
        if actions.is_empty() {
            self.put_str("drop");
        }
        for (i, a) in actions.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            a.code().format(self);
        }
    }

    pub(super) fn put_str(&mut self, s: &str) {
        self.out.push_str(s);
    }

    pub(super) fn put_fmt(&mut self, args: fmt::Arguments<'_>) {
        // A string takes whatever it is given.
        let _ = self.out.write_fmt(args);
    }

    pub(super) fn port(&mut self, port: PortNo) {
        self.out.push_str(&format_port(port.0, self.names));
    }

    pub(super) fn table(&mut self, table: u8) {
        put!(self, "{table}");
    }

    /// A field's value, as `set_field` has it.
    pub(super) fn field_value(&mut self, field: Field, value: &Value, mask: Option<&Value>) {
        self.out.push_str(&field.format_value(value, mask, self.names));
    }

    /// Bytes in hexadecimal, separated by dots.
    pub(super) fn dotted(&mut self, bytes: &[u8]) {
        for (i, b) in bytes.iter().enumerate() {
            put!(self, "{}{b:02x}", if i > 0 { "." } else { "" });
        }
    }

    /// A part of a field, by the name of its Nicira code point if it has one.
    pub(super) fn subfield(&mut self, sf: &Subfield) {
        let is_whole = sf.ofs == 0 && usize::from(sf.n_bits) == field_bits(sf.field, self.tlv);
        let name = sf.field.oxm_id(ofp::NXM).map_or(sf.field.name(), |id| id.name);
        match sf.n_bits {
            _ if is_whole => put!(self, "{name}[]"),
            1 => put!(self, "{name}[{}]", sf.ofs),
            n => put!(self, "{name}[{}..{}]", sf.ofs, i32::from(sf.ofs) + i32::from(n) - 1),
        }
    }

    /// Takes a comma off the end.
    pub(super) fn chomp(&mut self) {
        if self.out.ends_with(',') {
            self.out.pop();
        }
    }
}

/// Reads actions from text.
pub struct Parser<'a> {
    /// Names of the bridge's ports.
    pub names: &'a dyn PortNames,
    /// The protocols that can carry what was read so far.
    pub protocols: Protocols,
    pub(super) depth: u8,
}

impl Default for Parser<'_> {
    fn default() -> Self {
        Parser::new(&NoNames)
    }
}

impl<'a> Parser<'a> {
    #[must_use]
    pub fn new(names: &'a dyn PortNames) -> Self {
        Parser { names, protocols: Protocols::ANY, depth: 0 }
    }

    /// Reads actions, as `packet-out` and group buckets have them.
    ///
    /// # Errors
    /// A sentence for the user, as `ovs-ofctl` words it.
    pub fn actions(&mut self, s: &str) -> Result<Vec<Action>, String> {
        parse::list(self, s, false, None)
    }

    /// Reads actions and instructions, as a flow has them.
    ///
    /// # Errors
    /// As [`Parser::actions`].
    pub fn instructions(&mut self, s: &str) -> Result<Vec<Action>, String> {
        parse::list(self, s, true, None)
    }

    /// A port's number or name, the latter possibly in quotes.
    pub(super) fn port(&self, s: &str) -> Option<PortNo> {
        parse_port(s, self.names).map(PortNo)
    }

    pub(super) fn table(&self, s: &str) -> Option<u8> {
        u8::try_from(decimal_u32(s)?).ok()
    }
}

/// Splits like C's `strtok_r`: the token at the beginning of `s`, after any delimiters.
pub(super) fn token<'a>(s: &mut &'a str, delimiters: &[char]) -> Option<&'a str> {
    let t = s.trim_start_matches(delimiters);
    if t.is_empty() {
        *s = t;
        return None;
    }
    let end = t.find(delimiters).unwrap_or(t.len());
    *s = t.get(end + 1..).unwrap_or_default();
    Some(&t[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let mut s = ",a, b,";
        assert_eq!(token(&mut s, &[',', ' ']), Some("a"));
        assert_eq!(token(&mut s, &[',', ' ']), Some("b"));
        assert_eq!(token(&mut s, &[',', ' ']), None);
    }
}
