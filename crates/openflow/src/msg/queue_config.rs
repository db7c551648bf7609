//! `OFPT_QUEUE_GET_CONFIG`, in OpenFlow 1.4 and later `OFPMP_QUEUE_DESC`: which queues there are and what
//! rates they have.

use crate::form::{Form, Incoming, finish};
use crate::msg::queue_stats::QUEUE_ALL;
use crate::multipart::{MESSAGE_LEN_MAX, MultipartWriter};
use crate::property::{self, Property, PropertyType};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

/// `OFPQT10_MIN_RATE`
const MIN_RATE: u16 = 1;
/// `OFPQT11_MAX_RATE`
const MAX_RATE: u16 = 2;

/// A request for the configuration of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfigRequest {
    /// The port; [`PortNo::NONE`] for all, which OpenFlow 1.0 has no way to say.
    pub port: PortNo,
    /// The queue, [`QUEUE_ALL`] for all. Travels in OpenFlow 1.4 and later.
    pub queue: u32,
}

/// The configuration of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// The port that the queue belongs to.
    pub port: PortNo,
    /// The queue.
    pub queue: u32,
    /// Guaranteed rate in tenths of a percent of the link's; above 1000 it is not in force.
    pub min_rate: Option<u16>,
    /// Rate limit, in the same unit.
    pub max_rate: Option<u16>,
}

impl QueueConfigRequest {
    /// Decodes a request.
    ///
    /// # Errors
    /// `OFPQOFC_BAD_PORT` for a reserved port in versions before 1.4, `OFPBAC_BAD_OUT_PORT` for a number
    /// that no port can have.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let port = match msg.form {
            Form::Ofpt10QueueGetConfigRequest => PortNo(r.u16()?),
            _ => PortNo::from_of11(r.u32()?)?,
        };
        if msg.form == Form::Ofpst14QueueDescRequest {
            return Ok(Self { port, queue: r.u32()? });
        }
        let all = msg.form == Form::Ofpt11QueueGetConfigRequest && port == PortNo::NONE;
        if !port.is_ordinary() && !all {
            return Err(OfError::OfpqofcBadPort);
        }
        Ok(Self { port, queue: QUEUE_ALL })
    }

    /// Encodes a request.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let form = match version {
            Version::Of10 => Form::Ofpt10QueueGetConfigRequest,
            Version::Of11 | Version::Of12 | Version::Of13 => Form::Ofpt11QueueGetConfigRequest,
            Version::Of14 | Version::Of15 => Form::Ofpst14QueueDescRequest,
        };
        form.put(version, xid, &mut out, |out| match form {
            Form::Ofpt10QueueGetConfigRequest => {
                out.put_u16(self.port.0);
                out.put_zeros(2);
            }
            Form::Ofpt11QueueGetConfigRequest => {
                out.put_u32(self.port.to_of11());
                out.put_zeros(4);
            }
            _ => {
                out.put_u32(self.port.to_of11());
                out.put_u32(self.queue);
            }
        });
        out
    }
}

/// The port in the header of a reply, which OpenFlow 1.4 and later do not have: [`PortNo::NONE`].
///
/// # Errors
/// `OFPBAC_BAD_OUT_PORT` for a number that no port can have.
pub fn reply_port(msg: &Incoming<'_>) -> Result<PortNo, OfError> {
    match msg.form {
        Form::Ofpst14QueueDescReply => Ok(PortNo::NONE),
        Form::Ofpt10QueueGetConfigReply => Ok(PortNo(msg.body().u16()?)),
        _ => PortNo::from_of11(msg.body().u32()?),
    }
}

/// Decodes one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `OFPBAC_BAD_OUT_PORT` and those of properties.
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<QueueConfig>, OfError> {
    let mut r = msg.body();
    let port = reply_port(msg)?;
    let is_of14 = msg.form == Form::Ofpst14QueueDescReply;
    r.skip(if is_of14 { 0 } else { 8 })?;
    let mut queues = Vec::new();
    while !r.is_empty() {
        queues.push(if is_of14 {
            QueueConfig::take_of14(&mut r)?
        } else {
            QueueConfig::take_of10(&mut r, port, msg.version)?
        });
    }
    Ok(queues)
}

/// Encodes the reply to a request for the queues of `port`: several messages only in OpenFlow 1.4 and
/// later, before that as many of the queues as fit in one. `port` is the one of the request.
#[must_use]
pub fn encode_reply(port: PortNo, queues: &[QueueConfig], version: Version, xid: u32) -> Vec<Vec<u8>> {
    if version >= Version::Of14 {
        let mut replies = MultipartWriter::new(Form::Ofpst14QueueDescReply, version, xid);
        for queue in queues {
            replies.append(|out| queue.put_of14(out));
        }
        return replies.finish();
    }
    let form = match version {
        Version::Of10 => Form::Ofpt10QueueGetConfigReply,
        _ => Form::Ofpt11QueueGetConfigReply,
    };
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| match version {
        Version::Of10 => {
            out.put_u16(port.0);
            out.put_zeros(6);
        }
        _ => {
            out.put_u32(port.to_of11());
            out.put_zeros(4);
        }
    });
    for queue in queues {
        let start = out.len();
        queue.put_of10(&mut out, version);
        if out.len() > MESSAGE_LEN_MAX {
            out.truncate(start);
            break;
        }
    }
    finish(&mut out, 0);
    vec![out]
}

impl QueueConfig {
    const fn header_len(version: Version) -> usize {
        if matches!(version, Version::Of10 | Version::Of11) { 8 } else { 16 }
    }

    fn take_of10(r: &mut Reader<'_>, port: PortNo, version: Version) -> Result<Self, OfError> {
        let mut head = *r;
        let queue = head.u32()?;
        let header_len = Self::header_len(version);
        if header_len == 16 {
            head.skip(4)?; // The port once more.
        }
        let len = usize::from(head.u16()?);
        if len < header_len || !len.is_multiple_of(8) {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut properties = r.sub(len)?;
        properties.skip(header_len)?;
        let mut config = Self { port, queue, min_rate: None, max_rate: None };
        while !properties.is_empty() {
            config.take_of10_property(&mut properties)?;
        }
        Ok(config)
    }

    /// A property with a header of 8 bytes: type, length, padding.
    fn take_of10_property(&mut self, r: &mut Reader<'_>) -> Result<(), OfError> {
        let mut head = *r;
        let number = head.u16()?;
        let len = usize::from(head.u16()?);
        if len < 8 || !len.is_multiple_of(8) {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut property = r.sub(len)?;
        let rate = match number {
            MIN_RATE => &mut self.min_rate,
            MAX_RATE => &mut self.max_rate,
            _ => return Ok(()),
        };
        if len != 16 {
            return Err(OfError::OfpbrcBadLen);
        }
        property.skip(8)?;
        *rate = known_rate(property.u16()?);
        Ok(())
    }

    fn put_of10(&self, out: &mut Vec<u8>, version: Version) {
        let start = out.len();
        out.put_u32(self.queue);
        let len_at = if Self::header_len(version) == 16 {
            out.put_u32(self.port.to_of11());
            out.put_zeros(8);
            start + 8
        } else {
            out.put_zeros(4);
            start + 4
        };
        for (number, rate) in [(MIN_RATE, self.min_rate), (MAX_RATE, self.max_rate)] {
            if let Some(rate) = rate {
                out.put_u16(number);
                out.put_u16(16);
                out.put_zeros(4);
                out.put_u16(rate);
                out.put_zeros(6);
            }
        }
        let len = len16(out.len() - start);
        out.set_u16(len_at, len);
    }

    fn take_of14(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut head = *r;
        let port = head.u32()?;
        let queue = head.u32()?;
        let len = usize::from(head.u16()?);
        let port = PortNo::from_of11(port)?;
        if len < 16 || !len.is_multiple_of(8) {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut properties = r.sub(len)?;
        properties.skip(16)?;
        let mut config = Self { port, queue, min_rate: None, max_rate: None };
        while !properties.is_empty() {
            let property = Property::take(&mut properties)?;
            match property.kind {
                PropertyType::Standard(MIN_RATE) => config.min_rate = known_rate(property.u16()?),
                PropertyType::Standard(MAX_RATE) => config.max_rate = known_rate(property.u16()?),
                _ => (),
            }
        }
        Ok(config)
    }

    fn put_of14(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32(self.port.to_of11());
        out.put_u32(self.queue);
        out.put_zeros(8);
        for (number, rate) in [(MIN_RATE, self.min_rate), (MAX_RATE, self.max_rate)] {
            if let Some(rate) = rate {
                property::put_u16(out, number, rate);
            }
        }
        let len = len16(out.len() - start);
        out.set_u16(start + 8, len);
    }
}

fn known_rate(rate: u16) -> Option<u16> {
    if rate == u16::MAX { None } else { Some(rate) }
}
