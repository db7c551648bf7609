//! `NXT_CT_FLUSH_ZONE` and `NXT_CT_FLUSH`: forget tracked connections.

use std::net::Ipv6Addr;

use crate::form::{Form, Incoming};
use crate::property::{self, Property, PropertyType, put_aligned_property, put_property};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, Version};

const IPPROTO_ICMP: u8 = 1;
const IPPROTO_ICMPV6: u8 = 58;

/// Properties of the message.
mod outer {
    pub const ORIG_TUPLE: u16 = 0;
    pub const REPLY_TUPLE: u16 = 1;
    pub const ZONE_ID: u16 = 2;
}

/// Properties of a tuple.
mod tuple {
    pub const SRC: u16 = 0;
    pub const DST: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    pub const ICMP_ID: u16 = 4;
    pub const ICMP_TYPE: u16 = 5;
    pub const ICMP_CODE: u16 = 6;
}

/// Decodes a request to forget all connections of a zone.
///
/// # Errors
/// `NXBRC_MUST_BE_ZERO`
pub fn decode_zone(msg: &Incoming<'_>) -> Result<u16, OfError> {
    let mut r = msg.body();
    if r.array()? != [0; 6] {
        return Err(OfError::NxbrcMustBeZero);
    }
    Ok(r.u16()?)
}

/// Encodes a request to forget all connections of `zone`.
#[must_use]
pub fn encode_zone(zone: u16, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Form::NxtCtFlushZone.put(version, xid, &mut out, |out| {
        out.put_zeros(6);
        out.put_u16(zone);
    });
    out
}

/// The addresses and ports of one direction. Zero, and the unspecified address, stand for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CtTuple {
    /// Source; IPv4 addresses are mapped.
    pub src: Ipv6Addr,
    /// Destination; IPv4 addresses are mapped.
    pub dst: Ipv6Addr,
    /// Source port, or ICMP id.
    pub src_port: u16,
    /// Destination port; 0 for ICMP.
    pub dst_port: u16,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
}

impl Default for CtTuple {
    fn default() -> Self {
        let any = Ipv6Addr::UNSPECIFIED;
        Self { src: any, dst: any, src_port: 0, dst_port: 0, icmp_type: 0, icmp_code: 0 }
    }
}

/// The layer 3 protocol that the addresses are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum L3 {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

/// Which connections to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CtFlush {
    /// The zone, all if `None`.
    pub zone: Option<u16>,
    /// IP protocol, 0 for any.
    pub ip_proto: u8,
    /// The layer 3 protocol of the last address in the message.
    pub l3: Option<L3>,
    /// The direction in which the connection was opened.
    pub orig: CtTuple,
    /// The other direction.
    pub reply: CtTuple,
}

impl CtFlush {
    /// Decodes a flush.
    ///
    /// # Errors
    /// `NXBRC_MUST_BE_ZERO`, `OFPBPC_BAD_VALUE` if IPv4 and IPv6 are mixed, and those of properties.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let mut flush = Self { ip_proto: r.u8()?, ..Self::default() };
        if r.array()? != [0; 7] {
            return Err(OfError::NxbrcMustBeZero);
        }
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            match property.kind {
                PropertyType::Standard(outer::ORIG_TUPLE) => {
                    flush.orig.take(property.aligned_value()?, &mut flush.l3)?;
                }
                PropertyType::Standard(outer::REPLY_TUPLE) => {
                    flush.reply.take(property.aligned_value()?, &mut flush.l3)?;
                }
                PropertyType::Standard(outer::ZONE_ID) => flush.zone = Some(property.u16()?),
                _ => (),
            }
        }
        Ok(flush)
    }

    /// Encodes a flush.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Form::NxtCtFlush.put(version, xid, &mut out, |out| {
            out.put_u8(self.ip_proto);
            out.put_zeros(7);
            for (number, tuple) in [(outer::ORIG_TUPLE, &self.orig), (outer::REPLY_TUPLE, &self.reply)] {
                let mut properties = Vec::new();
                tuple.put(&mut properties, self.ip_proto);
                if !properties.is_empty() {
                    let kind = PropertyType::Standard(number);
                    put_aligned_property(out, kind, |out| out.put_bytes(&properties));
                }
            }
            if let Some(zone) = self.zone {
                property::put_u16(out, outer::ZONE_ID, zone);
            }
        });
        out
    }
}

fn take_address(property: &Property<'_>, l3: &mut Option<L3>) -> Result<Ipv6Addr, OfError> {
    let bytes: [u8; 16] = Reader::new(property.value()).array().map_err(|_| OfError::OfpbpcBadLen)?;
    let address = Ipv6Addr::from(bytes);
    let this = match address {
        Ipv6Addr::UNSPECIFIED => None,
        a if a.to_ipv4_mapped().is_some() => Some(L3::Ipv4),
        _ => Some(L3::Ipv6),
    };
    if l3.is_some() && this.is_some() && *l3 != this {
        return Err(OfError::OfpbpcBadValue);
    }
    *l3 = this;
    Ok(address)
}

impl CtTuple {
    fn take(&mut self, mut r: Reader<'_>, l3: &mut Option<L3>) -> Result<(), OfError> {
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            let PropertyType::Standard(number) = property.kind else { continue };
            match number {
                tuple::SRC => self.src = take_address(&property, l3)?,
                tuple::DST => self.dst = take_address(&property, l3)?,
                tuple::SRC_PORT | tuple::ICMP_ID => self.src_port = property.u16()?,
                tuple::DST_PORT => self.dst_port = property.u16()?,
                tuple::ICMP_TYPE => self.icmp_type = property.u8()?,
                tuple::ICMP_CODE => self.icmp_code = property.u8()?,
                _ => (),
            }
        }
        Ok(())
    }

    fn put(&self, out: &mut Vec<u8>, ip_proto: u8) {
        for (number, address) in [(tuple::SRC, self.src), (tuple::DST, self.dst)] {
            if !address.is_unspecified() {
                put_property(out, PropertyType::Standard(number), |out| out.put_bytes(&address.octets()));
            }
        }
        if matches!(ip_proto, IPPROTO_ICMP | IPPROTO_ICMPV6) {
            property::put_u16(out, tuple::ICMP_ID, self.src_port);
            property::put_u8(out, tuple::ICMP_TYPE, self.icmp_type);
            property::put_u8(out, tuple::ICMP_CODE, self.icmp_code);
            return;
        }
        for (number, port) in [(tuple::SRC_PORT, self.src_port), (tuple::DST_PORT, self.dst_port)] {
            if port != 0 {
                property::put_u16(out, number, port);
            }
        }
    }
}
