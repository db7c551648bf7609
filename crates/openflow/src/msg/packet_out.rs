//! `OFPT_PACKET_OUT`: send a packet.

use flow::{Field, Match, oxm};

use crate::action::Action;
use crate::context::{Context, Target};
use crate::form::{Form, Incoming};
use crate::msg::flow_mod::NO_BUFFER;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, PortNo, Version};

/// A packet-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// Where the packet shall seem to come from and what else is known of it.
    pub metadata: Match,
    /// The buffered packet to send, [`NO_BUFFER`] for the one in the message.
    pub buffer_id: u32,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet; empty if a buffered one is to be sent.
    pub packet: Vec<u8>,
}

impl PacketOut {
    /// The port that the packet shall seem to come from.
    #[must_use]
    pub fn in_port(&self) -> PortNo {
        PortNo(self.metadata.flow.in_port as u16)
    }

    /// Decodes a packet-out.
    ///
    /// # Errors
    /// `OFPBRC_BAD_PORT` if the packet seems to come from no port, `OFPBAC_BAD_OUT_PORT` if from one that
    /// cannot be, and those of matches and actions.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let buffer_id = r.u32()?;
        let (metadata, actions_len) = match msg.form {
            Form::Ofpt10PacketOut => {
                let port = PortNo(r.u16()?);
                (from_port(port), r.u16()?)
            }
            Form::Ofpt11PacketOut => {
                let port = PortNo::from_of11(r.u32()?)?;
                let actions_len = r.u16()?;
                r.skip(6)?;
                (from_port(port), actions_len)
            }
            _ => {
                let actions_len = r.u16()?;
                r.skip(2)?;
                (take_metadata(&mut r, context)?, actions_len)
            }
        };
        // Actions of a length that cannot be are an error of the message, not of the actions.
        let actions = r.take(actions_len.into())?;
        let actions = context.decoder(msg.version).actions(actions)?;
        let packet = if buffer_id == NO_BUFFER { r.take_rest().to_vec() } else { Vec::new() };
        let packet_out = Self { metadata, buffer_id, actions, packet };
        packet_out.check_port()?;
        Ok(packet_out)
    }

    fn check_port(&self) -> Result<(), OfError> {
        match self.in_port() {
            PortNo::LOCAL | PortNo::NONE | PortNo::CONTROLLER => Ok(()),
            port if port.is_ordinary() => Ok(()),
            _ => Err(OfError::OfpbrcBadPort),
        }
    }

    /// Encodes a packet-out.
    #[must_use]
    pub fn encode(&self, target: &Target<'_>, xid: u32) -> Vec<u8> {
        let form = match target.version() {
            Version::Of10 => Form::Ofpt10PacketOut,
            Version::Of15 => Form::Ofpt15PacketOut,
            _ => Form::Ofpt11PacketOut,
        };
        let mut out = Vec::with_capacity(64 + self.packet.len());
        form.put(target.version(), xid, &mut out, |out| {
            out.put_u32(self.buffer_id);
            let actions_len_at = self.put_port(out, form, target);
            let start = out.len();
            target.encoder(out).actions(&self.actions);
            let actions_len = len16(out.len() - start);
            out.set_u16(actions_len_at, actions_len);
            if self.buffer_id == NO_BUFFER {
                out.put_bytes(&self.packet);
            }
        });
        out
    }

    /// Appends what is between the buffer and the actions. Returns where the actions' length belongs.
    fn put_port(&self, out: &mut Vec<u8>, form: Form, target: &Target<'_>) -> usize {
        match form {
            Form::Ofpt10PacketOut => {
                out.put_u16(self.in_port().0);
                out.put_zeros(2);
                out.len() - 2
            }
            Form::Ofpt11PacketOut => {
                out.put_u32(self.in_port().to_of11());
                out.put_zeros(8);
                out.len() - 8
            }
            _ => {
                let at = out.len();
                out.put_zeros(4);
                target.put_oxm_match(out, &self.metadata);
                at
            }
        }
    }
}

/// What is known of an Ethernet frame that seems to come from `port`.
fn from_port(port: PortNo) -> Match {
    let mut m = Match::catchall();
    m.set_default_packet_type();
    m.set_in_port(port.0);
    m
}

fn take_metadata(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Match, OfError> {
    let mut rest = r.rest();
    let options = oxm::Options { loose: true, pipeline_fields_only: true, ..context.match_options() };
    let metadata = oxm::pull_oxm_match(&mut rest, options)?;
    *r = Reader::new(rest);
    if Field::InPort.is_all_wild(&metadata.mask) {
        return Err(OfError::OfpbrcBadPort);
    }
    Ok(metadata)
}
