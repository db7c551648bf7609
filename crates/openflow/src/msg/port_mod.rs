//! `OFPT_PORT_MOD`: change a port's configuration.

use flow::EthAddr;

use crate::form::{Form, Incoming};
use crate::msg::port::{PortConfig, PortFeatures};
use crate::property::{Property, PropertyType, put_u32};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, PortNo, Version};

/// `OFPPMPT14_ETHERNET`
const ETHERNET: u16 = 0;

/// A port-mod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortMod {
    /// The port to change.
    pub port: PortNo,
    /// Its Ethernet address, to make sure.
    pub hw_addr: EthAddr,
    /// The new bits, a subset of `mask`.
    pub config: PortConfig,
    /// Which bits to change.
    pub mask: PortConfig,
    /// Features to advertise; empty for no change.
    pub advertise: PortFeatures,
}

impl PortMod {
    /// Decodes a port-mod.
    ///
    /// # Errors
    /// `OFPBAC_BAD_OUT_PORT` and those of properties.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let version = msg.version;
        let port = match version {
            Version::Of10 => PortNo(r.u16()?),
            _ => {
                let port = PortNo::from_of11(r.u32()?)?;
                r.skip(4)?;
                port
            }
        };
        let hw_addr = EthAddr(r.array()?);
        if version != Version::Of10 {
            r.skip(2)?;
        }
        let config = PortConfig::from_wire(r.u32()?, version);
        let mask = PortConfig::from_wire(r.u32()?, version);
        let advertise = match msg.form {
            Form::Ofpt14PortMod => take_advertise_property(r)?,
            _ => PortFeatures::from_wire(r.u32()?, version),
        };
        Ok(Self { port, hw_addr, config: config & mask, mask, advertise })
    }

    /// Encodes a port-mod.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let form = match version {
            Version::Of10 => Form::Ofpt10PortMod,
            Version::Of11 | Version::Of12 | Version::Of13 => Form::Ofpt11PortMod,
            Version::Of14 | Version::Of15 => Form::Ofpt14PortMod,
        };
        let mut out = Vec::with_capacity(40);
        form.put(version, xid, &mut out, |out| self.put_body(version, out));
        out
    }

    fn put_body(&self, version: Version, out: &mut Vec<u8>) {
        let is_of10 = version == Version::Of10;
        if is_of10 {
            out.put_u16(self.port.0);
        } else {
            out.put_u32(self.port.to_of11());
            out.put_zeros(4);
        }
        out.put_bytes(&self.hw_addr.0);
        out.put_zeros(if is_of10 { 0 } else { 2 });
        out.put_u32(self.config.to_wire(version));
        out.put_u32(self.mask.to_wire(version));
        let advertise = self.advertise.to_wire(version);
        if version < Version::Of14 {
            out.put_u32(advertise);
            out.put_zeros(4);
        } else if !self.advertise.is_empty() {
            put_u32(out, ETHERNET, advertise);
        }
    }
}

fn take_advertise_property(mut properties: Reader<'_>) -> Result<PortFeatures, OfError> {
    let mut advertise = PortFeatures::empty();
    while !properties.is_empty() {
        let property = Property::take(&mut properties)?;
        match property.kind {
            PropertyType::Standard(ETHERNET) => {
                advertise = PortFeatures::from_wire(property.u32()?, Version::Of14);
            }
            other => return Err(other.unknown()),
        }
    }
    Ok(advertise)
}
