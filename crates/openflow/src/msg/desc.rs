//! `OFPST_DESC`: names of the switch and of those who made it.

use crate::form::{Form, Incoming};
use crate::wire::PutBytes;
use crate::{OfError, Version};

const DESC_LEN: usize = 256;
const SERIAL_LEN: usize = 32;

/// A description of a switch. Longer texts are cut off when they travel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desc {
    /// Manufacturer, at most 255 bytes.
    pub manufacturer: Vec<u8>,
    /// Hardware, at most 255 bytes.
    pub hardware: Vec<u8>,
    /// Software, at most 255 bytes.
    pub software: Vec<u8>,
    /// Serial number, at most 31 bytes.
    pub serial: Vec<u8>,
    /// The datapath for people, at most 255 bytes.
    pub datapath: Vec<u8>,
}

impl Desc {
    /// Decodes a reply.
    ///
    /// # Errors
    /// None once [`crate::identify`] has taken the message.
    pub fn decode_reply(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let mut text = |len| r.c_string(len).map(<[u8]>::to_vec);
        Ok(Self {
            manufacturer: text(DESC_LEN)?,
            hardware: text(DESC_LEN)?,
            software: text(DESC_LEN)?,
            serial: text(SERIAL_LEN)?,
            datapath: text(DESC_LEN)?,
        })
    }

    /// Encodes a reply.
    #[must_use]
    pub fn encode_reply(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Form::OfpstDescReply.put(version, xid, &mut out, |out| {
            for text in [&self.manufacturer, &self.hardware, &self.software] {
                out.put_c_string(text, DESC_LEN);
            }
            out.put_c_string(&self.serial, SERIAL_LEN);
            out.put_c_string(&self.datapath, DESC_LEN);
        });
        out
    }
}
