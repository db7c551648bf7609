//! `encap` and `decap`: put a header on, take one off.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder, be16};
use super::number::{hex_bytes, parse_u8, parse_u16};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, Protocols};
use flow::text::key_values;
use flow::{PT_ETH, Value, eth_type, packet_type_of_ethertype};

/// `(0, 0xfffe)`: what the header itself says is behind it.
pub const PT_USE_NEXT_PROTO: u32 = 0xfffe;
/// Not a packet type: nothing is known.
const PT_UNKNOWN: u32 = u32::MAX;
/// Number of packet type namespaces (`OFPHTN_*`).
const NAMESPACES: u16 = 6;

/// Headers that can be put on: name in text, packet type.
const HEADERS: [(&str, u32); 4] = [
    ("ethernet", PT_ETH),
    ("nsh", packet_type_of_ethertype(eth_type::NSH)),
    ("mpls", packet_type_of_ethertype(eth_type::MPLS)),
    ("mpls_mc", packet_type_of_ethertype(eth_type::MPLS_MCAST)),
];

/// `OFPPPC_NSH`
const CLASS_NSH: u16 = 4;
const NSH_MD_TYPE: u8 = 1;
const NSH_TLV: u8 = 2;

/// A property of the new header. All that are known are of NSH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EncapProperty {
    NshMdType(u8),
    NshTlv {
        class: u16,
        kind: u8,
        len: u8,
        /// `len` bytes, padded to a multiple of 8. What came as padding is kept.
        data: Box<[u8]>,
    },
}

/// `encap`: put a header on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encap {
    /// The packet type that comes of it.
    pub new_pkt_type: u32,
    /// Bytes in the new header, 0 for unspecified.
    pub hdr_size: u16,
    pub properties: Box<[EncapProperty]>,
}

impl Encap {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let new_pkt_type = b.u32(12);
        if !HEADERS.iter().any(|(_, pt)| *pt == new_pkt_type) {
            return Err(OfError::NxbacBadHeaderType);
        }
        let mut rest = b.from(16);
        let mut properties = Vec::new();
        while !rest.is_empty() {
            properties.push(EncapProperty::decode(&mut rest)?);
        }
        let properties = properties.into();
        Ok(Action::Encap(Box::new(Encap { new_pkt_type, hdr_size: b.u16(10), properties })))
    }

    /// `HEADER` or `HEADER(PROPERTY,...)`
    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        p.protocols &= Protocols::OF13_UP;
        let (name, arguments) = key_values(s).next().ok_or_else(|| format!("Missing encap hdr: {s}"))?;
        let (_, new_pkt_type) = HEADERS
            .iter()
            .find(|(header, _)| *header == name)
            .ok_or_else(|| format!("Encap hdr not supported: {arguments}"))?;
        let mut properties = Vec::new();
        for (key, value) in key_values(arguments) {
            if name != "nsh" {
                return Err(format!("Invalid property: {key}"));
            }
            properties.push(EncapProperty::parse(key, value)?);
        }
        let properties = properties.into();
        Ok(Action::Encap(Box::new(Encap { new_pkt_type: *new_pkt_type, hdr_size: 0, properties })))
    }
}

impl EncapProperty {
    /// Takes a property off the beginning of `rest`: class, type, length and value, padded to 8 bytes.
    fn decode(rest: &mut &[u8]) -> Result<Self, OfError> {
        let bad_len = OfError::OfpbacBadLen;
        let &[_, _, kind, len] = rest.first_chunk().ok_or(bad_len)?;
        let class = be16(rest, 0);
        let len = usize::from(len);
        if len < 4 {
            return Err(bad_len);
        }
        let (padded, tail) = rest.split_at_checked(len.next_multiple_of(8)).ok_or(bad_len)?;
        *rest = tail;
        match (class, kind) {
            (CLASS_NSH, NSH_MD_TYPE) if len > 8 => Err(OfError::NxbacBadEdProp),
            (CLASS_NSH, NSH_MD_TYPE) => Ok(EncapProperty::NshMdType(padded.get(4).copied().unwrap_or(0))),
            (CLASS_NSH, NSH_TLV) => {
                let tlv_len = padded.get(7).copied().unwrap_or(0);
                if len != 8 + usize::from(tlv_len).next_multiple_of(8) {
                    return Err(OfError::NxbacBadEdProp);
                }
                let data = padded.get(8..).unwrap_or_default().into();
                let kind = padded.get(6).copied().unwrap_or(0);
                Ok(EncapProperty::NshTlv { class: be16(padded, 4), kind, len: tlv_len, data })
            }
            _ => Err(OfError::NxbacUnknownEdProp),
        }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u16(CLASS_NSH);
        match self {
            EncapProperty::NshMdType(md_type) => out.bytes(&[NSH_MD_TYPE, 5, *md_type, 0, 0, 0]),
            EncapProperty::NshTlv { class, kind, len, data } => {
                out.bytes(&[NSH_TLV, (8 + data.len()) as u8]);
                out.u16(*class);
                out.bytes(&[*kind, *len]);
                out.bytes(data);
            }
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        match self {
            EncapProperty::NshMdType(md_type) => put!(out, "md_type={md_type}"),
            EncapProperty::NshTlv { class, kind, len, data } => {
                let value = data.get(..usize::from(*len)).unwrap_or(data);
                put!(out, "tlv({class:#06x},{kind},{})", HexNumber(value));
            }
        }
    }

    fn parse(key: &str, value: &str) -> Result<Self, String> {
        if !matches!(key, "md_type" | "tlv") {
            return Err(format!("Invalid property: {key}"));
        }
        if value.is_empty() {
            return Err("Value missing for encap property".into());
        }
        if key == "tlv" {
            return Self::parse_tlv(value).ok_or_else(|| format!("Invalid NSH TLV header: {value}"));
        }
        match parse_u8(value, "md_type")? {
            md_type @ 1..=2 => Ok(EncapProperty::NshMdType(md_type)),
            _ => Err("invalid md_type".into()),
        }
    }

    /// `0xCLASS,TYPE,0xVALUE`
    fn parse_tlv(s: &str) -> Option<Self> {
        let (class, rest) = s.strip_prefix("0x")?.split_once(',')?;
        let (kind, data) = rest.split_once(',')?;
        let digits = data.strip_prefix("0x")?;
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len()).min(TLV_DIGITS_MAX);
        let (mut data, _) = hex_bytes(digits.get(..end).filter(|d| !d.is_empty())?);
        let len = data.len() as u8;
        data.resize(data.len().next_multiple_of(8), 0);
        let class = u16::from_str_radix(class, 16).ok()?;
        Some(EncapProperty::NshTlv { class, kind: kind.parse().ok()?, len, data: data.into() })
    }
}

/// Hexadecimal digits that the text of a TLV can have.
const TLV_DIGITS_MAX: usize = 251;

/// Bytes as one number.
struct HexNumber<'a>(&'a [u8]);

impl std::fmt::Display for HexNumber<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = self.0.iter().position(|b| *b != 0).unwrap_or(self.0.len());
        // The first digits go without leading zero, which a value of one byte takes care of.
        for (i, b) in self.0[start..].iter().enumerate() {
            if i == 0 { write!(f, "{}", Value::from(*b))? } else { write!(f, "{b:02x}")? }
        }
        if start == self.0.len() { f.write_str("0") } else { Ok(()) }
    }
}

impl ActionCode for Encap {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Encap);
        out.u16(self.hdr_size);
        out.u32(self.new_pkt_type);
        for p in &self.properties {
            p.encode(out);
        }
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        let name =
            HEADERS.iter().find(|(_, pt)| *pt == self.new_pkt_type).map_or("UNKNOWN", |(name, _)| name);
        put!(out, "encap({name}");
        for (i, p) in self.properties.iter().enumerate() {
            out.put_str(if i == 0 { "(" } else { "," });
            p.format(out);
        }
        out.put_str(if self.properties.is_empty() { ")" } else { "))" });
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let flow = &mut cx.flow;
        flow.packet_type = self.new_pkt_type;
        if flow.packet_type >> 16 == 1 {
            flow.dl_type = flow.packet_type as u16;
        }
        if !flow.is_ip_any() {
            flow.nw_proto = 0;
        }
        Ok(())
    }
}

/// `decap`: take the outermost header off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decap {
    /// The packet type that comes of it, or [`PT_USE_NEXT_PROTO`].
    pub new_pkt_type: u32,
}

impl Decap {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        // No property is known.
        if b.bytes.len() > 16 {
            return Err(OfError::NxbacUnknownEdProp);
        }
        Ok(Action::Decap(Decap { new_pkt_type: b.u32(12) }))
    }

    /// Nothing, or `packet_type(ns=NS,type=TYPE)`
    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let new_pkt_type = match key_values(s).next() {
            None => PT_USE_NEXT_PROTO,
            Some(("packet_type", value)) => parse_packet_type(value)?,
            Some((key, _)) => return Err(format!("Invalid decap argument: {key}")),
        };
        Ok(Action::Decap(Decap { new_pkt_type }))
    }
}

fn parse_packet_type(s: &str) -> Result<u32, String> {
    let mut attributes = key_values(s);
    let Some(("ns", ns)) = attributes.next() else { return Err("Missing packet_type attribute ns".into()) };
    let ns = parse_u16(ns, "ns")?;
    if ns >= NAMESPACES {
        return Err(format!("Unsupported ns value: {ns}"));
    }
    let Some(("type", ns_type)) = attributes.next() else {
        return Err("Missing packet_type attribute type".into());
    };
    Ok(u32::from(ns) << 16 | u32::from(parse_u16(ns_type, "type")?))
}

impl ActionCode for Decap {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::Decap);
        out.zeros(2);
        out.u32(self.new_pkt_type);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("decap(");
        if self.new_pkt_type != PT_USE_NEXT_PROTO {
            let (ns, ns_type) = (self.new_pkt_type >> 16, self.new_pkt_type & 0xffff);
            put!(out, "packet_type(ns={ns},type={})", super::field::HexOrZero(ns_type.into()));
        }
        out.put_str(")");
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let flow = &mut cx.flow;
        if flow.packet_type == PT_ETH {
            flow.packet_type = packet_type_of_ethertype(flow.dl_type);
        } else {
            // Only the packet will tell what is behind the header.
            flow.packet_type = PT_UNKNOWN;
            flow.dl_type = u16::MAX;
        }
        Ok(())
    }
}
