//! `OFPST_PORT`: counters of ports.

use crate::elapsed::Elapsed;
use crate::form::{Form, Incoming};
use crate::multipart::MultipartWriter;
use crate::property::{Property, PropertyType, put_property};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

/// Intel's experimenter id.
const INTEL: u32 = 0x0000_aa01;
/// `OFPPSPT14_ETHERNET`
const ETHERNET: PropertyType = PropertyType::Standard(0);
/// `INTEL_PORT_STATS_RFC2819`
const RFC2819: PropertyType = PropertyType::Experimenter { vendor: INTEL, exp_type: 1 };
/// `INTEL_PORT_STATS_CUSTOM`
const CUSTOM: PropertyType = PropertyType::Experimenter { vendor: INTEL, exp_type: 2 };

const ETHERNET_LEN: usize = 40;
const RFC2819_LEN: usize = 184;
/// Fixed part of an entry in OpenFlow 1.4 and later.
const OF14_LEN: usize = 80;
/// Counters of an entry in OpenFlow 1.4 and later, outside properties.
const OF14_COUNTERS: usize = 8;
/// Longest name of a counter of a port type's own.
const CUSTOM_NAME_LEN_MAX: usize = 63;

/// A counter that is not kept.
pub const UNKNOWN: u64 = u64::MAX;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($field:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)] // The standard's names.
        pub struct $name {
            $(pub $field: u64,)+
        }

        impl $name {
            const LEN: usize = [$(stringify!($field)),+].len();

            const fn to_array(self) -> [u64; Self::LEN] {
                [$(self.$field),+]
            }

            const fn from_array([$($field),+]: [u64; Self::LEN]) -> Self {
                Self { $($field),+ }
            }
        }

        /// Nothing known.
        impl Default for $name {
            fn default() -> Self {
                Self::from_array([UNKNOWN; Self::LEN])
            }
        }
    };
}

counters! {
    /// The counters that every version has, in the order of the wire. [`UNKNOWN`] where not kept.
    PortCounters {
        rx_packets, tx_packets, rx_bytes, tx_bytes, rx_dropped, tx_dropped, rx_errors, tx_errors,
        rx_frame_errors, rx_over_errors, rx_crc_errors, collisions,
    }
}

counters! {
    /// Counters of RFC 2819, in the order of the wire. [`UNKNOWN`] where not kept.
    Rfc2819Counters {
        rx_1_to_64_packets, rx_65_to_127_packets, rx_128_to_255_packets, rx_256_to_511_packets,
        rx_512_to_1023_packets, rx_1024_to_1522_packets, rx_1523_to_max_packets,
        tx_1_to_64_packets, tx_65_to_127_packets, tx_128_to_255_packets, tx_256_to_511_packets,
        tx_512_to_1023_packets, tx_1024_to_1522_packets, tx_1523_to_max_packets,
        tx_multicast_packets, rx_broadcast_packets, tx_broadcast_packets, rx_undersized_errors,
        rx_oversize_errors, rx_fragmented_errors, rx_jabber_errors,
    }
}

/// A counter that only some types of port have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomCounter {
    /// Its name, at most 63 bytes.
    pub name: Vec<u8>,
    /// Its value.
    pub value: u64,
}

/// The counters of a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortStats {
    /// The port.
    pub port: PortNo,
    /// For how long it has been there; travels in OpenFlow 1.3 and later.
    pub duration: Option<Elapsed>,
    /// What every version has.
    pub counters: PortCounters,
    /// Travels in OpenFlow 1.4 and later.
    pub rfc2819: Rfc2819Counters,
    /// Travels in OpenFlow 1.4 and later.
    pub custom: Vec<CustomCounter>,
}

/// Decodes a request: the port asked for, [`PortNo::NONE`] for all.
///
/// # Errors
/// `OFPBAC_BAD_OUT_PORT` for a number that no port can have.
pub fn decode_request(msg: &Incoming<'_>) -> Result<PortNo, OfError> {
    match msg.form {
        Form::Ofpst10PortRequest => Ok(PortNo(msg.body().u16()?)),
        _ => PortNo::from_of11(msg.body().u32()?),
    }
}

/// Encodes a request for the counters of `port`.
#[must_use]
pub fn encode_request(port: PortNo, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    if version == Version::Of10 {
        Form::Ofpst10PortRequest.put(version, xid, &mut out, |out| {
            out.put_u16(port.0);
            out.put_zeros(6);
        });
    } else {
        Form::Ofpst11PortRequest.put(version, xid, &mut out, |out| {
            out.put_u32(port.to_of11());
            out.put_zeros(4);
        });
    }
    out
}

/// Decodes the entries of one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `OFPBAC_BAD_OUT_PORT` and those of properties.
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<PortStats>, OfError> {
    let mut r = msg.body();
    let mut entries = Vec::new();
    while !r.is_empty() {
        entries.push(PortStats::take(&mut r, msg.form)?);
    }
    Ok(entries)
}

/// Adds a port to a reply.
pub fn append(stats: &PortStats, replies: &mut MultipartWriter) -> bool {
    let form = replies.form();
    replies.append(|out| stats.put(out, form))
}

fn take_counters<const N: usize>(r: &mut Reader<'_>) -> Result<[u64; N], OfError> {
    let mut counters = [UNKNOWN; N];
    for counter in &mut counters {
        *counter = r.u64()?;
    }
    Ok(counters)
}

fn put_counters(out: &mut Vec<u8>, counters: &[u64]) {
    for &counter in counters {
        out.put_u64(counter);
    }
}

impl PortStats {
    fn take(r: &mut Reader<'_>, form: Form) -> Result<Self, OfError> {
        if form == Form::Ofpst14PortReply {
            return Self::take_of14(r);
        }
        let port = match form {
            Form::Ofpst10PortReply => {
                let port = PortNo(r.u16()?);
                r.skip(6)?;
                port
            }
            _ => {
                let port = PortNo::from_of11(r.u32()?)?;
                r.skip(4)?;
                port
            }
        };
        let counters = PortCounters::from_array(take_counters(r)?);
        let duration = match form {
            Form::Ofpst13PortReply => Elapsed::from_wire(r.u32()?, r.u32()?),
            _ => None,
        };
        Ok(Self { port, duration, counters, ..Self::default() })
    }

    fn take_of14(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let len = usize::from({ *r }.u16()?);
        if len < OF14_LEN {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut r = r.sub(len)?;
        r.skip(4)?;
        let mut stats = Self { port: PortNo::from_of11(r.u32()?)?, ..Self::default() };
        stats.duration = Elapsed::from_wire(r.u32()?, r.u32()?);
        let mut counters = stats.counters.to_array();
        for counter in counters.iter_mut().take(OF14_COUNTERS) {
            *counter = r.u64()?;
        }
        stats.counters = PortCounters::from_array(counters);
        while !r.is_empty() {
            stats.take_property(Property::take(&mut r)?)?;
        }
        Ok(stats)
    }

    fn take_property(&mut self, property: Property<'_>) -> Result<(), OfError> {
        match property.kind {
            ETHERNET => {
                let mut value = property.fixed(ETHERNET_LEN)?;
                value.skip(4)?;
                let c = &mut self.counters;
                [c.rx_frame_errors, c.rx_over_errors, c.rx_crc_errors, c.collisions] =
                    take_counters(&mut value)?;
            }
            RFC2819 => {
                let mut value = property.fixed(RFC2819_LEN)?;
                value.skip(4)?;
                self.rfc2819 = Rfc2819Counters::from_array(take_counters(&mut value)?);
            }
            CUSTOM => {
                let mut value = Reader::new(property.value());
                self.custom = take_custom(&mut value).map_err(|_| OfError::OfpbpcBadLen)?;
            }
            _ => (),
        }
        Ok(())
    }

    fn put(&self, out: &mut Vec<u8>, form: Form) {
        match form {
            Form::Ofpst14PortReply => return self.put_of14(out),
            Form::Ofpst10PortReply => {
                out.put_u16(self.port.0);
                out.put_zeros(6);
            }
            _ => {
                out.put_u32(self.port.to_of11());
                out.put_zeros(4);
            }
        }
        put_counters(out, &self.counters.to_array());
        if form == Form::Ofpst13PortReply {
            self.put_duration(out);
        }
    }

    fn put_duration(&self, out: &mut Vec<u8>) {
        let (sec, nsec) = Elapsed::to_wire(self.duration);
        out.put_u32(sec);
        out.put_u32(nsec);
    }

    fn put_of14(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_zeros(4);
        out.put_u32(self.port.to_of11());
        self.put_duration(out);
        let counters = self.counters.to_array();
        let (outside, ethernet) = counters.split_at(OF14_COUNTERS);
        put_counters(out, outside);
        put_property(out, ETHERNET, |out| {
            out.put_zeros(4);
            put_counters(out, ethernet);
        });
        put_property(out, RFC2819, |out| {
            out.put_zeros(4);
            put_counters(out, &self.rfc2819.to_array());
        });
        if !self.custom.is_empty() {
            put_property(out, CUSTOM, |out| put_custom(out, &self.custom));
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }
}

/// Custom counters: 2 bytes of padding, how many there are, then for each the length of its name in a
/// byte, the name and the value, all unaligned.
fn take_custom(r: &mut Reader<'_>) -> Result<Vec<CustomCounter>, OfError> {
    r.skip(2)?;
    let n = r.u16()?;
    let mut counters = Vec::new();
    for _ in 0..n {
        let name_len = usize::from(r.u8()?);
        let name = r.take(name_len)?;
        let name = name.get(..CUSTOM_NAME_LEN_MAX).unwrap_or(name).to_vec();
        counters.push(CustomCounter { name, value: r.u64()? });
    }
    Ok(counters)
}

fn put_custom(out: &mut Vec<u8>, counters: &[CustomCounter]) {
    out.put_zeros(2);
    out.put_u16(len16(counters.len()));
    for counter in counters {
        let name = counter.name.get(..CUSTOM_NAME_LEN_MAX).unwrap_or(&counter.name);
        out.put_u8(name.len() as u8);
        out.put_bytes(name);
        out.put_u64(counter.value);
    }
}
