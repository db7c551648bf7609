//! Packet-in, in all its encodings: the standard's, `NXT_PACKET_IN` and `NXT_PACKET_IN2`; and
//! `NXT_RESUME`, which hands a packet back.

mod continuation;

pub use continuation::Continuation;

pub use crate::action::reason;

use flow::{Match, oxm};

use crate::context::{Context, Target, take_nxm_match};
use crate::form::{Form, Incoming};
use crate::msg::nx::PacketInFormat;
use crate::multipart::MESSAGE_LEN_MAX;
use crate::property::{self, Property, PropertyType, put_property};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

/// The reason, or the nearest that `version` has.
#[must_use]
pub const fn reason_in(reason: u8, version: Version) -> u8 {
    match (reason, version) {
        (reason::ACTION_SET | reason::GROUP | reason::PACKET_OUT, Version::Of14 | Version::Of15) => reason,
        (reason::ACTION_SET | reason::GROUP | reason::PACKET_OUT, _) => reason::ACTION,
        (reason::EXPLICIT_MISS, Version::Of10 | Version::Of11 | Version::Of12) => reason::ACTION,
        (reason::EXPLICIT_MISS | reason::IMPLICIT_MISS, _) => reason::NO_MATCH,
        _ => reason,
    }
}

/// A cookie that is not known.
pub const COOKIE_UNKNOWN: u64 = u64::MAX;
/// No packet is buffered: all there is in Open vSwitch.
pub const NO_BUFFER: u32 = u32::MAX;

/// So much of a packet is kept at least, where not all of a message fits.
const PACKET_LEN_MIN: usize = 64;

/// Properties of `NXT_PACKET_IN2` and `NXT_RESUME`.
mod prop {
    pub const PACKET: u16 = 0;
    pub const FULL_LEN: u16 = 1;
    pub const BUFFER_ID: u16 = 2;
    pub const TABLE_ID: u16 = 3;
    pub const COOKIE: u16 = 4;
    pub const REASON: u16 = 5;
    pub const METADATA: u16 = 6;
    pub const USERDATA: u16 = 7;
    pub const CONTINUATION: u16 = 8;
}

/// A packet on its way to a controller, or back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    /// The packet, or its beginning.
    pub packet: Vec<u8>,
    /// Length of the whole packet. Only `NXT_PACKET_IN2` says of a packet that it was cut off; in the
    /// other encodings this is written as it is.
    pub full_len: usize,
    /// The buffered packet, [`NO_BUFFER`] if none. Never written.
    pub buffer_id: u32,
    /// Where the packet came in, and what else the pipeline knew of it.
    pub metadata: Match,
    /// Why it was sent, one of [`reason`].
    pub reason: u8,
    /// The table of the flow that sent it.
    pub table_id: u8,
    /// The cookie of that flow, [`COOKIE_UNKNOWN`] if none.
    pub cookie: u64,
    /// What the `controller` action asked to be sent along (`NXT_PACKET_IN2`).
    pub userdata: Vec<u8>,
    /// How to go on with the packet, as bytes that mean nothing to a controller (`NXT_PACKET_IN2`).
    /// [`Continuation`] makes and reads them.
    pub continuation: Vec<u8>,
}

impl PacketIn {
    /// A packet about which nothing is known.
    #[must_use]
    pub fn new(packet: Vec<u8>) -> Self {
        Self {
            full_len: packet.len(),
            packet,
            buffer_id: NO_BUFFER,
            metadata: Match::catchall(),
            reason: reason::NO_MATCH,
            table_id: 0,
            cookie: COOKIE_UNKNOWN,
            userdata: Vec::new(),
            continuation: Vec::new(),
        }
    }

    /// Decodes a packet-in or a resume. A packet-in may hold fields and properties that are not known, a
    /// resume not.
    ///
    /// # Errors
    /// `OFPBRC_BAD_LEN` and those of matches and properties.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let mut this = Self::new(Vec::new());
        let loose = oxm::Options { loose: true, ..context.match_options() };
        match msg.form {
            Form::NxtPacketIn2 => return Self::take_properties(r, true, loose),
            Form::NxtResume => return Self::take_properties(r, false, context.match_options()),
            Form::Ofpt10PacketIn => this.take_of10(&mut r)?,
            Form::Ofpt11PacketIn => this.take_of11(&mut r)?,
            Form::NxtPacketIn => this.take_nxt(&mut r, loose)?,
            form => this.take_of12(&mut r, form, loose)?,
        }
        this.packet = r.take_rest().to_vec();
        Ok(this)
    }

    fn take_of10(&mut self, r: &mut Reader<'_>) -> Result<(), OfError> {
        self.buffer_id = r.u32()?;
        self.full_len = r.u16()?.into();
        self.metadata.set_in_port(r.u16()?);
        self.reason = r.u8()?;
        r.skip(1)?;
        Ok(())
    }

    fn take_of11(&mut self, r: &mut Reader<'_>) -> Result<(), OfError> {
        self.buffer_id = r.u32()?;
        self.metadata.set_in_port(PortNo::from_of11(r.u32()?)?.0);
        r.skip(4)?;
        self.full_len = r.u16()?.into();
        self.reason = r.u8()?;
        self.table_id = r.u8()?;
        Ok(())
    }

    fn take_of12(
        &mut self,
        r: &mut Reader<'_>,
        form: Form,
        options: oxm::Options<'_>,
    ) -> Result<(), OfError> {
        self.take_lengths(r)?;
        if form == Form::Ofpt13PacketIn {
            self.cookie = r.u64()?;
        }
        let mut rest = r.rest();
        self.metadata = oxm::pull_oxm_match(&mut rest, options)?;
        *r = Reader::new(rest);
        r.skip(2)?;
        Ok(())
    }

    fn take_nxt(&mut self, r: &mut Reader<'_>, options: oxm::Options<'_>) -> Result<(), OfError> {
        self.take_lengths(r)?;
        self.cookie = r.u64()?;
        let match_len = usize::from(r.u16()?);
        r.skip(6)?;
        self.metadata = take_nxm_match(r, match_len, options)?.matched;
        r.skip(2)?;
        Ok(())
    }

    fn take_lengths(&mut self, r: &mut Reader<'_>) -> Result<(), OfError> {
        self.buffer_id = r.u32()?;
        self.full_len = r.u16()?.into();
        self.reason = r.u8()?;
        self.table_id = r.u8()?;
        Ok(())
    }

    fn take_properties(mut r: Reader<'_>, loose: bool, options: oxm::Options<'_>) -> Result<Self, OfError> {
        let mut this = Self { full_len: 0, ..Self::new(Vec::new()) };
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            let PropertyType::Standard(number) = property.kind else {
                if loose {
                    continue;
                }
                return Err(property.kind.unknown());
            };
            match number {
                prop::PACKET => this.packet = property.value().to_vec(),
                prop::FULL_LEN => this.full_len = property.u32()? as usize,
                prop::BUFFER_ID => this.buffer_id = property.u32()?,
                prop::TABLE_ID => this.table_id = property.u8()?,
                prop::COOKIE => this.cookie = property.u64()?,
                prop::REASON => this.reason = property.u8()?,
                prop::METADATA => this.metadata = oxm::decode_fields(property.value(), options)?,
                prop::USERDATA => this.userdata = property.value().to_vec(),
                prop::CONTINUATION => this.continuation = property.aligned_value()?.rest().to_vec(),
                _ if loose => (),
                _ => return Err(property.kind.unknown()),
            }
        }
        if this.packet.is_empty() || this.full_len != 0 && this.full_len < this.packet.len() {
            return Err(OfError::OfpbrcBadLen);
        }
        if this.full_len == 0 {
            this.full_len = this.packet.len();
        }
        Ok(this)
    }

    /// Encodes a packet-in in `format`. An asynchronous message: `xid` is 0 in Open vSwitch's.
    ///
    /// What does not fit in a message is left out: the end of the packet first, then the continuation and
    /// the userdata.
    #[must_use]
    pub fn encode(&self, format: PacketInFormat, target: &Target<'_>, xid: u32) -> Vec<u8> {
        self.encode_fitting(|this| this.encode_whole(format, target, xid))
    }

    /// Encodes a resume; what does not fit is left out as in a packet-in.
    #[must_use]
    pub fn encode_resume(&self, target: &Target<'_>, xid: u32) -> Vec<u8> {
        self.encode_fitting(|this| {
            let mut out = this.buffer();
            Form::NxtResume
                .put(target.version(), xid, &mut out, |out| this.put_properties(out, target, false));
            out
        })
    }

    fn encode_fitting(&self, encode: impl Fn(&Self) -> Vec<u8>) -> Vec<u8> {
        let mut encoded = encode(self);
        if encoded.len() <= MESSAGE_LEN_MAX {
            return encoded;
        }
        let mut shorter = self.clone();
        for step in 0..3 {
            match step {
                0 => (),
                1 => shorter.continuation.clear(),
                _ => shorter.userdata.clear(),
            }
            // The length of the whole packet may have to be said now.
            let excess = encode(&shorter).len().saturating_sub(MESSAGE_LEN_MAX) + 16;
            let keep = shorter.packet.len().saturating_sub(excess).max(PACKET_LEN_MIN);
            shorter.packet.truncate(keep);
            encoded = encode(&shorter);
            if encoded.len() <= MESSAGE_LEN_MAX {
                break;
            }
        }
        encoded
    }

    fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(128 + self.packet.len() + self.continuation.len() + self.userdata.len())
    }

    fn encode_whole(&self, format: PacketInFormat, target: &Target<'_>, xid: u32) -> Vec<u8> {
        let version = target.version();
        let form = match (format, version) {
            (PacketInFormat::Nxt, _) => Form::NxtPacketIn,
            (PacketInFormat::Nxt2, _) => Form::NxtPacketIn2,
            (PacketInFormat::Standard, Version::Of10) => Form::Ofpt10PacketIn,
            (PacketInFormat::Standard, Version::Of11) => Form::Ofpt11PacketIn,
            (PacketInFormat::Standard, Version::Of12) => Form::Ofpt12PacketIn,
            (PacketInFormat::Standard, _) => Form::Ofpt13PacketIn,
        };
        let mut out = self.buffer();
        form.put(version, xid, &mut out, |out| match form {
            Form::Ofpt10PacketIn => self.put_of10(out),
            Form::Ofpt11PacketIn => self.put_of11(out),
            Form::NxtPacketIn => self.put_nxt(out, target),
            Form::NxtPacketIn2 => self.put_properties(out, target, true),
            _ => self.put_of12(out, form, target),
        });
        out
    }

    fn put_of10(&self, out: &mut Vec<u8>) {
        out.put_u32(NO_BUFFER);
        out.put_u16(len16(self.full_len));
        out.put_u16(self.metadata.flow.in_port as u16);
        out.put_u8(reason_in(self.reason, Version::Of10));
        out.put_zeros(1);
        out.put_bytes(&self.packet);
    }

    fn put_of11(&self, out: &mut Vec<u8>) {
        let port = PortNo(self.metadata.flow.in_port as u16).to_of11();
        out.put_u32(NO_BUFFER);
        out.put_u32(port);
        out.put_u32(port);
        out.put_u16(len16(self.full_len));
        out.put_u8(reason_in(self.reason, Version::Of11));
        out.put_u8(self.table_id);
        out.put_bytes(&self.packet);
    }

    fn put_lengths(&self, out: &mut Vec<u8>, version: Version) {
        out.put_u32(NO_BUFFER);
        out.put_u16(len16(self.full_len));
        out.put_u8(reason_in(self.reason, version));
        out.put_u8(self.table_id);
    }

    fn put_of12(&self, out: &mut Vec<u8>, form: Form, target: &Target<'_>) {
        self.put_lengths(out, target.version());
        if form == Form::Ofpt13PacketIn {
            out.put_u64(self.cookie);
        }
        target.put_oxm_match(out, &self.metadata);
        out.put_zeros(2);
        out.put_bytes(&self.packet);
    }

    fn put_nxt(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        self.put_lengths(out, target.version());
        out.put_u64(self.cookie);
        let match_len_at = out.len();
        out.put_zeros(8);
        let match_len = target.put_nxm_match(out, &self.metadata, 0, 0);
        out.set_u16(match_len_at, len16(match_len));
        out.put_zeros(2);
        out.put_bytes(&self.packet);
    }

    fn put_properties(&self, out: &mut Vec<u8>, target: &Target<'_>, with_userdata: bool) {
        let bytes = |out: &mut Vec<u8>, number, bytes: &[u8]| {
            put_property(out, PropertyType::Standard(number), |out| out.put_bytes(bytes));
        };
        bytes(out, prop::PACKET, &self.packet);
        if self.full_len != self.packet.len() {
            property::put_u32(out, prop::FULL_LEN, self.full_len as u32);
        }
        property::put_u8(out, prop::TABLE_ID, self.table_id);
        if self.cookie != COOKIE_UNKNOWN {
            property::put_u64(out, prop::COOKIE, self.cookie);
        }
        property::put_u8(out, prop::REASON, reason_in(self.reason, target.version()));
        put_property(out, PropertyType::Standard(prop::METADATA), |out| {
            oxm::encode(out, &self.metadata, target.version().wire(), target.tlv);
        });
        // A resume has a continuation even if there is nothing in it.
        if !self.continuation.is_empty() || !with_userdata {
            property::put_aligned_property(out, PropertyType::Standard(prop::CONTINUATION), |out| {
                out.put_bytes(&self.continuation);
            });
        }
        if with_userdata && !self.userdata.is_empty() {
            bytes(out, prop::USERDATA, &self.userdata);
        }
    }
}

#[cfg(test)]
mod tests;
