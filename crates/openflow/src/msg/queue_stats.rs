//! `OFPST_QUEUE`: counters of queues.

use crate::elapsed::Elapsed;
use crate::form::{Form, Incoming};
use crate::multipart::MultipartWriter;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

/// `OFPQ_ALL`: all queues of a port.
pub const QUEUE_ALL: u32 = u32::MAX;

/// Length of an entry in OpenFlow 1.4 and later.
const OF14_LEN: usize = 48;

/// A request for counters of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatsRequest {
    /// The port, [`PortNo::NONE`] for all.
    pub port: PortNo,
    /// The queue, [`QUEUE_ALL`] for all.
    pub queue: u32,
}

/// The counters of a queue, `u64::MAX` where not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// The port that the queue belongs to.
    pub port: PortNo,
    /// The queue.
    pub queue: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped because the queue was full.
    pub tx_errors: u64,
    /// For how long the queue has been there; travels in OpenFlow 1.3 and later.
    pub duration: Option<Elapsed>,
}

impl QueueStatsRequest {
    /// Decodes a request. OpenFlow 1.0 says `ALL` where later versions say `ANY`.
    ///
    /// # Errors
    /// `OFPBAC_BAD_OUT_PORT` for a number that no port can have.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        if msg.form != Form::Ofpst10QueueRequest {
            let port = r.u32()?;
            let queue = r.u32()?;
            return Ok(Self { port: PortNo::from_of11(port)?, queue });
        }
        let port = PortNo(r.u16()?);
        r.skip(2)?;
        let port = if port == PortNo::ALL { PortNo::NONE } else { port };
        Ok(Self { port, queue: r.u32()? })
    }

    /// Encodes a request.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        if version == Version::Of10 {
            let port = if self.port == PortNo::NONE { PortNo::ALL } else { self.port };
            Form::Ofpst10QueueRequest.put(version, xid, &mut out, |out| {
                out.put_u16(port.0);
                out.put_zeros(2);
                out.put_u32(self.queue);
            });
        } else {
            Form::Ofpst11QueueRequest.put(version, xid, &mut out, |out| {
                out.put_u32(self.port.to_of11());
                out.put_u32(self.queue);
            });
        }
        out
    }
}

/// Decodes the entries of one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `OFPBAC_BAD_OUT_PORT`
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<QueueStats>, OfError> {
    let mut r = msg.body();
    let mut entries = Vec::new();
    while !r.is_empty() {
        entries.push(QueueStats::take(&mut r, msg.form)?);
    }
    Ok(entries)
}

/// Adds a queue to a reply.
pub fn append(stats: &QueueStats, replies: &mut MultipartWriter) -> bool {
    let form = replies.form();
    replies.append(|out| stats.put(out, form))
}

impl QueueStats {
    fn take(r: &mut Reader<'_>, form: Form) -> Result<Self, OfError> {
        if form == Form::Ofpst14QueueReply {
            let len = usize::from({ *r }.u16()?);
            if len < OF14_LEN {
                return Err(OfError::OfpbrcBadLen);
            }
            // Properties may follow the counters; none are known.
            let mut entry = r.sub(len)?;
            entry.skip(8)?;
            return Self::take_counters(&mut entry, Form::Ofpst13QueueReply);
        }
        Self::take_counters(r, form)
    }

    fn take_counters(r: &mut Reader<'_>, form: Form) -> Result<Self, OfError> {
        let port = match form {
            Form::Ofpst10QueueReply => {
                let port = PortNo(r.u16()?);
                r.skip(2)?;
                port
            }
            _ => PortNo::from_of11(r.u32()?)?,
        };
        Ok(Self {
            port,
            queue: r.u32()?,
            tx_bytes: r.u64()?,
            tx_packets: r.u64()?,
            tx_errors: r.u64()?,
            duration: match form {
                Form::Ofpst13QueueReply => Elapsed::from_wire(r.u32()?, r.u32()?),
                _ => None,
            },
        })
    }

    fn put(&self, out: &mut Vec<u8>, form: Form) {
        if form == Form::Ofpst14QueueReply {
            out.put_u16(len16(OF14_LEN));
            out.put_zeros(6);
        }
        if form == Form::Ofpst10QueueReply {
            out.put_u16(self.port.0);
            out.put_zeros(2);
        } else {
            out.put_u32(self.port.to_of11());
        }
        out.put_u32(self.queue);
        for counter in [self.tx_bytes, self.tx_packets, self.tx_errors] {
            out.put_u64(counter);
        }
        if matches!(form, Form::Ofpst13QueueReply | Form::Ofpst14QueueReply) {
            let (sec, nsec) = Elapsed::to_wire(self.duration);
            out.put_u32(sec);
            out.put_u32(nsec);
        }
    }
}
