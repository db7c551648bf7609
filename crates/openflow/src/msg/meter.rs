//! Meters: `OFPT_METER_MOD` and the multipart messages about them (OpenFlow 1.3 and later).

use bitflags::bitflags;
use smallvec::SmallVec;

use crate::elapsed::Elapsed;
use crate::form::{Form, Incoming};
use crate::multipart::MultipartWriter;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// Meter ids that stand for something else than a meter of the table.
pub mod id {
    /// The last id that a meter of the table can have.
    pub const MAX: u32 = 0xffff_0000;
    /// The meter of the slow path.
    pub const SLOWPATH: u32 = 0xffff_fffd;
    /// The meter of packets to the controller.
    pub const CONTROLLER: u32 = 0xffff_fffe;
    /// All meters.
    pub const ALL: u32 = 0xffff_ffff;
}

bitflags! {
    /// How a meter counts. Bits that are not known are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MeterFlags: u16 {
        /// Rates are in kilobits per second.
        const KBPS = 1 << 0;
        /// Rates are in packets per second.
        const PKTPS = 1 << 1;
        /// Burst sizes count.
        const BURST = 1 << 2;
        /// Keep counters.
        const STATS = 1 << 3;
        const _ = !0;
    }
}

/// What happens to packets above a band's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BandType {
    /// They are dropped.
    Drop,
    /// Their drop precedence in the DSCP goes up by this much.
    DscpRemark(u8),
}

/// A band of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MeterBand {
    /// What it does.
    pub band_type: BandType,
    /// From which rate on, in the unit of the meter's flags.
    pub rate: u32,
    /// Burst size in kilobits or packets.
    pub burst_size: u32,
}

/// A meter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MeterConfig {
    /// Its id.
    pub meter_id: u32,
    /// How it counts.
    pub flags: MeterFlags,
    /// Its bands.
    pub bands: Vec<MeterBand>,
}

/// What to do with the meter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MeterCommand {
    /// Add a meter.
    Add = 0,
    /// Change a meter.
    Modify = 1,
    /// Delete a meter, or all.
    Delete = 2,
}

/// A meter-mod. A delete has neither flags nor bands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// With which meter.
    pub meter: MeterConfig,
}

/// `OFPMBT13_DROP`
const DROP: u16 = 1;
/// `OFPMBT13_DSCP_REMARK`
const DSCP_REMARK: u16 = 2;
/// All bands that are known have this length.
const BAND_LEN: usize = 16;

impl MeterBand {
    fn take_all(mut r: Reader<'_>) -> Result<Vec<Self>, OfError> {
        let mut bands = Vec::with_capacity(r.len() / BAND_LEN);
        while r.len() >= BAND_LEN {
            bands.push(Self::take(&mut r)?);
        }
        if r.is_empty() { Ok(bands) } else { Err(OfError::OfpbrcBadLen) }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let wire_type = r.u16()?;
        if usize::from(r.u16()?) != BAND_LEN {
            return Err(OfError::OfpbrcBadLen);
        }
        let rate = r.u32()?;
        let burst_size = r.u32()?;
        let prec_level = r.u8()?;
        r.skip(3)?;
        let band_type = match wire_type {
            DROP => BandType::Drop,
            DSCP_REMARK => BandType::DscpRemark(prec_level),
            _ => return Err(OfError::OfpmmfcBadBand),
        };
        Ok(Self { band_type, rate, burst_size })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (wire_type, prec_level) = match self.band_type {
            BandType::Drop => (DROP, 0),
            BandType::DscpRemark(level) => (DSCP_REMARK, level),
        };
        out.put_u16(wire_type);
        out.put_u16(len16(BAND_LEN));
        out.put_u32(self.rate);
        out.put_u32(self.burst_size);
        out.put_u8(prec_level);
        out.put_zeros(3);
    }
}

impl MeterMod {
    /// Decodes a meter-mod.
    ///
    /// # Errors
    /// `OFPMMFC_BAD_COMMAND`, `_BAD_FLAGS`, `_BAD_BAND`, `OFPBRC_BAD_LEN`
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let command = match r.u16()? {
            0 => MeterCommand::Add,
            1 => MeterCommand::Modify,
            2 => MeterCommand::Delete,
            _ => return Err(OfError::OfpmmfcBadCommand),
        };
        let flags = MeterFlags::from_bits_retain(r.u16()?);
        let meter_id = r.u32()?;
        let meter = if command == MeterCommand::Delete {
            MeterConfig { meter_id, flags: MeterFlags::empty(), bands: Vec::new() }
        } else {
            if flags.contains(MeterFlags::KBPS | MeterFlags::PKTPS) {
                return Err(OfError::OfpmmfcBadFlags);
            }
            MeterConfig { meter_id, flags, bands: MeterBand::take_all(r)? }
        };
        Ok(Self { command, meter })
    }

    /// Encodes a meter-mod, which versions before 1.3 do not have.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        if version < Version::Of13 {
            return None;
        }
        let is_delete = self.command == MeterCommand::Delete;
        let mut out = Vec::with_capacity(16 + self.meter.bands.len() * BAND_LEN);
        Form::Ofpt13MeterMod.put(version, xid, &mut out, |out| {
            out.put_u16(self.command as u16);
            out.put_u16(if is_delete { 0 } else { self.meter.flags.bits() });
            out.put_u32(self.meter.meter_id);
            self.meter.bands.iter().for_each(|b| b.put(out));
        });
        Some(out)
    }
}

/// Decodes an `OFPMP_METER` or `OFPMP_METER_CONFIG` request: the meter asked for, [`id::ALL`] for all.
///
/// # Errors
/// None once [`crate::identify`] has taken the message.
pub fn decode_request(msg: &Incoming<'_>) -> Result<u32, OfError> {
    Ok(msg.body().u32()?)
}

/// Encodes a request of the form `Ofpst13MeterRequest` or `Ofpst13MeterConfigRequest`.
#[must_use]
pub fn encode_request(form: Form, meter_id: u32, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| {
        out.put_u32(meter_id);
        out.put_zeros(4);
    });
    out
}

/// Decodes the meters in one message of an `OFPMP_METER_CONFIG` reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `OFPMMFC_BAD_BAND`
pub fn decode_config_reply(msg: &Incoming<'_>) -> Result<Vec<MeterConfig>, OfError> {
    let mut r = msg.body();
    let mut meters = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.u16()?).checked_sub(8).ok_or(OfError::OfpbrcBadLen)?;
        let flags = MeterFlags::from_bits_retain(r.u16()?);
        let meter_id = r.u32()?;
        meters.push(MeterConfig { meter_id, flags, bands: MeterBand::take_all(r.sub(len)?)? });
    }
    Ok(meters)
}

/// Adds a meter to an `OFPMP_METER_CONFIG` reply.
pub fn append_config(meter: &MeterConfig, replies: &mut MultipartWriter) -> bool {
    replies.append(|out| {
        out.put_u16(len16(8 + meter.bands.len() * BAND_LEN));
        out.put_u16(meter.flags.bits());
        out.put_u32(meter.meter_id);
        meter.bands.iter().for_each(|b| b.put(out));
    })
}

/// The counters of a band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BandStats {
    /// Packets above its rate.
    pub packet_count: u64,
    /// Bytes of them.
    pub byte_count: u64,
}

/// The counters of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeterStats {
    /// The meter.
    pub meter_id: u32,
    /// Flows that send packets through it.
    pub flow_count: u32,
    /// Packets that went in.
    pub packet_in_count: u64,
    /// Bytes of them.
    pub byte_in_count: u64,
    /// For how long the meter has been there.
    pub duration: Elapsed,
    /// Its bands.
    pub bands: SmallVec<[BandStats; 1]>,
}

/// Fixed part of an entry.
const STATS_LEN: usize = 40;

/// Decodes the entries of one message of an `OFPMP_METER` reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`
pub fn decode_stats_reply(msg: &Incoming<'_>) -> Result<Vec<MeterStats>, OfError> {
    let mut r = msg.body();
    let mut entries = Vec::new();
    while !r.is_empty() {
        entries.push(MeterStats::take(&mut r)?);
    }
    Ok(entries)
}

/// Adds a meter to an `OFPMP_METER` reply.
pub fn append_stats(stats: &MeterStats, replies: &mut MultipartWriter) -> bool {
    replies.append(|out| stats.put(out))
}

impl MeterStats {
    fn take(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let meter_id = r.u32()?;
        let bands_len = usize::from(r.u16()?).checked_sub(STATS_LEN).ok_or(OfError::OfpbrcBadLen)?;
        r.skip(6)?;
        let mut stats = Self {
            meter_id,
            flow_count: r.u32()?,
            packet_in_count: r.u64()?,
            byte_in_count: r.u64()?,
            duration: Elapsed { sec: r.u32()?, nsec: r.u32()? },
            bands: SmallVec::new(),
        };
        let mut bands = r.sub(bands_len)?;
        while !bands.is_empty() {
            stats.bands.push(BandStats { packet_count: bands.u64()?, byte_count: bands.u64()? });
        }
        Ok(stats)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.meter_id);
        out.put_u16(len16(STATS_LEN + self.bands.len() * 16));
        out.put_zeros(6);
        out.put_u32(self.flow_count);
        out.put_u64(self.packet_in_count);
        out.put_u64(self.byte_in_count);
        out.put_u32(self.duration.sec);
        out.put_u32(self.duration.nsec);
        for band in &self.bands {
            out.put_u64(band.packet_count);
            out.put_u64(band.byte_count);
        }
    }
}

/// What the switch's meters can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeterFeatures {
    /// How many there can be.
    pub max_meters: u32,
    /// Bit `n` for `OFPMBT13_*` number `n`.
    pub band_types: u32,
    /// [`MeterFlags`].
    pub capabilities: u32,
    /// Bands that one can have.
    pub max_bands: u8,
    /// Colours.
    pub max_color: u8,
}

impl MeterFeatures {
    /// Decodes a reply.
    ///
    /// # Errors
    /// None once [`crate::identify`] has taken the message.
    pub fn decode_reply(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        Ok(Self {
            max_meters: r.u32()?,
            band_types: r.u32()?,
            capabilities: r.u32()?,
            max_bands: r.u8()?,
            max_color: r.u8()?,
        })
    }

    /// Encodes a reply.
    #[must_use]
    pub fn encode_reply(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Form::Ofpst13MeterFeaturesReply.put(version, xid, &mut out, |out| {
            out.put_u32(self.max_meters);
            out.put_u32(self.band_types);
            out.put_u32(self.capabilities);
            out.put_u8(self.max_bands);
            out.put_u8(self.max_color);
            out.put_zeros(2);
        });
        out
    }
}
