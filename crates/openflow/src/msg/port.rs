//! Descriptions of ports: in features replies, port status and multipart replies.

use bitflags::bitflags;
use flow::EthAddr;

use crate::form::{Form, Incoming};
use crate::multipart::MultipartWriter;
use crate::property::{Property, PropertyType, put_property};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

bitflags! {
    /// What was configured for a port.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct PortConfig: u32 {
        /// Administratively down.
        const DOWN = 1 << 0;
        /// Not part of the spanning tree (OpenFlow 1.0).
        const NO_STP = 1 << 1;
        /// Drop what is received.
        const NO_RECV = 1 << 2;
        /// Drop spanning tree frames that are received (OpenFlow 1.0).
        const NO_RECV_STP = 1 << 3;
        /// Leave out when flooding (OpenFlow 1.0).
        const NO_FLOOD = 1 << 4;
        /// Drop what is to be sent.
        const NO_FWD = 1 << 5;
        /// Send no packet-in for packets from here.
        const NO_PACKET_IN = 1 << 6;
    }
}

bitflags! {
    /// In what state a port is. With the bits of `STP_MASK` clear it is listening.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct PortState: u32 {
        /// No link.
        const LINK_DOWN = 1 << 0;
        /// Blocked by a protocol other than OpenFlow (OpenFlow 1.1+).
        const BLOCKED = 1 << 1;
        /// Live for fast failover groups (OpenFlow 1.1+).
        const LIVE = 1 << 2;
        /// Spanning tree: learning (OpenFlow 1.0).
        const STP_LEARN = 1 << 8;
        /// Spanning tree: forwarding (OpenFlow 1.0).
        const STP_FORWARD = 2 << 8;
        /// Spanning tree: blocked (OpenFlow 1.0).
        const STP_MASK = 3 << 8;
    }
}

bitflags! {
    /// Speeds, media and pause of a port.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    #[allow(missing_docs)] // Names that say it all.
    pub struct PortFeatures: u32 {
        const HD_10MB = 1 << 0;
        const FD_10MB = 1 << 1;
        const HD_100MB = 1 << 2;
        const FD_100MB = 1 << 3;
        const HD_1GB = 1 << 4;
        const FD_1GB = 1 << 5;
        const FD_10GB = 1 << 6;
        const FD_40GB = 1 << 7;
        const FD_100GB = 1 << 8;
        const FD_1TB = 1 << 9;
        const OTHER = 1 << 10;
        const COPPER = 1 << 11;
        const FIBER = 1 << 12;
        const AUTONEG = 1 << 13;
        const PAUSE = 1 << 14;
        const PAUSE_ASYM = 1 << 15;
    }
}

impl PortConfig {
    /// The bits that `version` has.
    #[must_use]
    pub const fn of_version(version: Version) -> Self {
        match version {
            Version::Of10 => Self::all(),
            _ => Self::DOWN.union(Self::NO_RECV).union(Self::NO_FWD).union(Self::NO_PACKET_IN),
        }
    }

    pub(crate) fn from_wire(bits: u32, version: Version) -> Self {
        Self::from_bits_truncate(bits).intersection(Self::of_version(version))
    }

    pub(crate) fn to_wire(self, version: Version) -> u32 {
        self.intersection(Self::of_version(version)).bits()
    }
}

impl PortState {
    /// The bits that `version` has.
    #[must_use]
    pub const fn of_version(version: Version) -> Self {
        match version {
            Version::Of10 => Self::LINK_DOWN.union(Self::STP_MASK),
            _ => Self::LINK_DOWN.union(Self::BLOCKED).union(Self::LIVE),
        }
    }

    fn from_wire(bits: u32, version: Version) -> Self {
        Self::from_bits_truncate(bits).intersection(Self::of_version(version))
    }

    fn to_wire(self, version: Version) -> u32 {
        self.intersection(Self::of_version(version)).bits()
    }
}

impl PortFeatures {
    /// The speeds that OpenFlow 1.0 has, in the same place as later.
    const OF10_SPEEDS: u32 = 0x7f;
    /// Media and pause, which stand four bits lower in OpenFlow 1.0.
    const MEDIA: u32 = 0xf800;

    /// Speeds, fastest first, in kb/s.
    const SPEEDS_KBPS: [(Self, u32); 7] = [
        (Self::FD_1TB, 1_000_000_000),
        (Self::FD_100GB, 100_000_000),
        (Self::FD_40GB, 40_000_000),
        (Self::FD_10GB, 10_000_000),
        (Self::HD_1GB.union(Self::FD_1GB), 1_000_000),
        (Self::HD_100MB.union(Self::FD_100MB), 100_000),
        (Self::HD_10MB.union(Self::FD_10MB), 10_000),
    ];

    pub(crate) fn from_wire(bits: u32, version: Version) -> Self {
        Self::from_bits_truncate(match version {
            Version::Of10 => bits & Self::OF10_SPEEDS | (bits << 4) & Self::MEDIA,
            _ => bits,
        })
    }

    pub(crate) const fn to_wire(self, version: Version) -> u32 {
        match version {
            Version::Of10 => self.bits() & Self::OF10_SPEEDS | (self.bits() & Self::MEDIA) >> 4,
            _ => self.bits(),
        }
    }

    /// The fastest speed in the set, in kb/s; 0 if there is none.
    #[must_use]
    pub fn speed_kbps(self) -> u32 {
        Self::SPEEDS_KBPS.iter().find(|(f, _)| self.intersects(*f)).map_or(0, |(_, kbps)| *kbps)
    }
}

/// Length of the name field; names are at most one byte shorter.
const NAME_LEN: usize = 16;
/// `OFPPDPT14_ETHERNET`
const ETHERNET: u16 = 0;
const ETHERNET_LEN: usize = 32;
/// Fixed part of a description in OpenFlow 1.4 and later.
const OF14_LEN: usize = 40;

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortDesc {
    /// Its number.
    pub port: PortNo,
    /// Its Ethernet address.
    pub hw_addr: EthAddr,
    /// Its name; bytes past the 15th do not travel.
    pub name: Vec<u8>,
    /// What was configured.
    pub config: PortConfig,
    /// In what state it is.
    pub state: PortState,
    /// Features in use.
    pub curr: PortFeatures,
    /// Features offered to the link's other end.
    pub advertised: PortFeatures,
    /// Features that it has.
    pub supported: PortFeatures,
    /// Features that the link's other end offers.
    pub peer: PortFeatures,
    /// Current speed in kb/s. Does not travel in OpenFlow 1.0.
    pub curr_speed_kbps: u32,
    /// Highest speed in kb/s. Does not travel in OpenFlow 1.0.
    pub max_speed_kbps: u32,
}

impl PortDesc {
    /// Bytes that a description takes in the features reply of `version`, which is before 1.3.
    pub(crate) const fn len_in_features(version: Version) -> usize {
        if matches!(version, Version::Of10) { 48 } else { 64 }
    }

    /// Takes a description off `r`.
    pub(crate) fn take(r: &mut Reader<'_>, version: Version) -> Result<Self, OfError> {
        match version {
            Version::Of10 => Self::take_of10(r),
            Version::Of11 | Version::Of12 | Version::Of13 => Self::take_of11(r),
            Version::Of14 | Version::Of15 => Self::take_of14(r),
        }
    }

    /// Appends the description.
    pub(crate) fn put(&self, out: &mut Vec<u8>, version: Version) {
        match version {
            Version::Of10 => self.put_of10(out),
            Version::Of11 | Version::Of12 | Version::Of13 => self.put_of11(out),
            Version::Of14 | Version::Of15 => self.put_of14(out),
        }
    }

    fn take_of10(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut desc = Self { port: PortNo(r.u16()?), ..Self::default() };
        desc.take_common(r, Version::Of10)?;
        desc.take_features(r, Version::Of10)?;
        desc.curr_speed_kbps = desc.curr.speed_kbps();
        desc.max_speed_kbps = desc.supported.speed_kbps();
        Ok(desc)
    }

    fn put_of10(&self, out: &mut Vec<u8>) {
        out.put_u16(self.port.0);
        out.put_bytes(&self.hw_addr.0);
        self.put_common(out, Version::Of10);
        self.put_features(out, Version::Of10);
    }

    fn take_of11(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut desc = Self { port: PortNo::from_of11(r.u32()?)?, ..Self::default() };
        r.skip(4)?;
        desc.take_common(r, Version::Of11)?;
        desc.take_features(r, Version::Of11)?;
        Ok(desc)
    }

    fn put_of11(&self, out: &mut Vec<u8>) {
        out.put_u32(self.port.to_of11());
        out.put_zeros(4);
        out.put_bytes(&self.hw_addr.0);
        out.put_zeros(2);
        self.put_common(out, Version::Of11);
        self.put_features(out, Version::Of11);
    }

    fn take_of14(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut head = *r;
        let port = head.u32()?;
        let len = usize::from(head.u16()?);
        if len < OF14_LEN {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut r = r.sub(len)?;
        r.skip(8)?;
        let mut desc = Self { port: PortNo::from_of11(port)?, ..Self::default() };
        desc.take_common(&mut r, Version::Of14)?;
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            if property.kind == PropertyType::Standard(ETHERNET) {
                let mut value = property.fixed(ETHERNET_LEN)?;
                value.skip(4)?;
                desc.take_features(&mut value, Version::Of14)?;
            }
        }
        Ok(desc)
    }

    fn put_of14(&self, out: &mut Vec<u8>) {
        out.put_u32(self.port.to_of11());
        out.put_u16(len16(OF14_LEN + ETHERNET_LEN));
        out.put_zeros(2);
        out.put_bytes(&self.hw_addr.0);
        out.put_zeros(2);
        self.put_common(out, Version::Of14);
        put_property(out, PropertyType::Standard(ETHERNET), |out| {
            out.put_zeros(4);
            self.put_features(out, Version::Of14);
        });
    }

    /// Address, name, configuration and state; the address is followed by padding after OpenFlow 1.0.
    fn take_common(&mut self, r: &mut Reader<'_>, version: Version) -> Result<(), OfError> {
        self.hw_addr = EthAddr(r.array()?);
        if version != Version::Of10 {
            r.skip(2)?;
        }
        self.name = r.c_string(NAME_LEN)?.to_vec();
        self.config = PortConfig::from_wire(r.u32()?, version);
        self.state = PortState::from_wire(r.u32()?, version);
        Ok(())
    }

    fn put_common(&self, out: &mut Vec<u8>, version: Version) {
        out.put_c_string(&self.name, NAME_LEN);
        out.put_u32(self.config.to_wire(version));
        out.put_u32(self.state.to_wire(version));
    }

    fn take_features(&mut self, r: &mut Reader<'_>, version: Version) -> Result<(), OfError> {
        for features in [&mut self.curr, &mut self.advertised, &mut self.supported, &mut self.peer] {
            *features = PortFeatures::from_wire(r.u32()?, version);
        }
        if version != Version::Of10 {
            self.curr_speed_kbps = r.u32()?;
            self.max_speed_kbps = r.u32()?;
        }
        Ok(())
    }

    fn put_features(&self, out: &mut Vec<u8>, version: Version) {
        for features in [self.curr, self.advertised, self.supported, self.peer] {
            out.put_u32(features.to_wire(version));
        }
        if version != Version::Of10 {
            out.put_u32(self.curr_speed_kbps);
            out.put_u32(self.max_speed_kbps);
        }
    }
}

/// Decodes `OFPST_PORT_DESC` requests: the port asked for, [`PortNo::NONE`] for all. Only OpenFlow 1.5
/// can ask for one.
///
/// # Errors
/// `OFPBAC_BAD_OUT_PORT` for a number that no port can have.
pub fn decode_desc_request(msg: &Incoming<'_>) -> Result<PortNo, OfError> {
    match msg.form {
        Form::Ofpst15PortDescRequest => PortNo::from_of11(msg.body().u32()?),
        _ => Ok(PortNo::NONE),
    }
}

/// Encodes a request for the description of `port`, of all ports before OpenFlow 1.5.
#[must_use]
pub fn encode_desc_request(port: PortNo, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    if version == Version::Of15 {
        Form::Ofpst15PortDescRequest.put(version, xid, &mut out, |out| {
            out.put_u32(port.to_of11());
            out.put_zeros(4);
        });
    } else {
        Form::Ofpst10PortDescRequest.put(version, xid, &mut out, |_| ());
    }
    out
}

/// Decodes the ports in one message of an `OFPST_PORT_DESC` reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `OFPBAC_BAD_OUT_PORT` and those of properties.
pub fn decode_desc_reply(msg: &Incoming<'_>) -> Result<Vec<PortDesc>, OfError> {
    take_all(msg.body(), msg.version)
}

pub(crate) fn take_all(mut r: Reader<'_>, version: Version) -> Result<Vec<PortDesc>, OfError> {
    let mut ports = Vec::new();
    while !r.is_empty() {
        ports.push(PortDesc::take(&mut r, version)?);
    }
    Ok(ports)
}

/// Adds a port to an `OFPST_PORT_DESC` reply.
pub fn append_desc(port: &PortDesc, replies: &mut MultipartWriter) -> bool {
    let version = replies.version();
    replies.append(|out| port.put(out, version))
}
