//! `OFPT_ERROR`.
//!
//! ```text
//!  8              10              12
//! |     type      |     code      | data ...                            standard error
//! |    0xb0c2     |       0       | vendor (4) | type (2) | code (2) | data ...   Nicira, until 1.1
//! |    0xffff     |     type      | vendor (4) | data ...               experimenter, since 1.2
//! ```

use crate::error::{OPENFLOW, OfError, WireError};
use crate::form::{Form, Incoming};
use crate::wire::PutBytes;
use crate::{Header, Version};

/// `NXET_VENDOR`: the error type of Nicira's wrapper.
const NICIRA_WRAPPER: u16 = 0xb0c2;
/// `OFPET12_EXPERIMENTER`
const EXPERIMENTER: u16 = 0xffff;

/// An error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMsg {
    /// What went wrong.
    pub error: OfError,
    /// What it went wrong with: the start of a request, or text if hellos could not agree.
    pub data: Vec<u8>,
}

impl ErrorMsg {
    /// Decodes an error message; `None` if its numbers are not in the table of the version.
    #[must_use]
    pub fn decode(msg: &Incoming<'_>) -> Option<Self> {
        let mut r = msg.body();
        let error_type = r.u16().ok()?;
        let code = r.u16().ok()?;
        let wire = match (error_type, code) {
            (NICIRA_WRAPPER, 0) => {
                WireError { vendor: r.u32().ok()?, error_type: r.u16().ok()?, code: r.u16().ok()? }
            }
            (EXPERIMENTER, error_type) => WireError { vendor: r.u32().ok()?, error_type, code: 0 },
            _ => WireError { vendor: OPENFLOW, error_type, code },
        };
        let version = Version::from_wire(msg.header.version)?;
        Some(Self { error: OfError::from_wire(version, wire)?, data: r.take_rest().to_vec() })
    }

    /// Encodes the error for `version`. An error that the version has no number for becomes
    /// `NXBRC_UNENCODABLE_ERROR`; data past the 64 KiB of a message is cut off.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        encode(self.error, version.wire(), xid, &self.data)
    }
}

/// The reply that tells that `request` failed with `error`. It carries all of the request that fits.
///
/// A request of an unknown version is answered in OpenFlow 1.0.
#[must_use]
pub fn encode_reply(error: OfError, request: &[u8]) -> Vec<u8> {
    let (version, xid) = Header::parse(request).map_or((Version::Of10.wire(), 0), |h| (h.version, h.xid));
    encode(error, version, xid, request)
}

/// The message that tells a peer that hellos could not agree on a version, with `text` saying why.
#[must_use]
pub fn encode_hello_failed(error: OfError, version: Version, text: &str) -> Vec<u8> {
    encode(error, version.wire(), 0, text.as_bytes())
}

fn encode(error: OfError, wire_version: u8, xid: u32, data: &[u8]) -> Vec<u8> {
    let version = Version::from_wire(wire_version).unwrap_or(Version::Of10);
    let Some(wire) = error.wire(version).or_else(|| OfError::NxbrcUnencodableError.wire(version)) else {
        return Vec::new(); // Every version has a number for NXBRC_UNENCODABLE_ERROR.
    };
    let mut out = Vec::with_capacity(Header::LEN + 12 + data.len());
    Form::OfptError.put(version, xid, &mut out, |out| {
        put_numbers(wire, wire_version, out);
        let room = usize::from(u16::MAX) - out.len();
        out.put_bytes(data.get(..room).unwrap_or(data));
    });
    out
}

fn put_numbers(wire: WireError, wire_version: u8, out: &mut Vec<u8>) {
    if wire.vendor == OPENFLOW {
        out.put_u16(wire.error_type);
        out.put_u16(wire.code);
    } else if wire_version <= Version::Of11.wire() {
        out.put_u16(NICIRA_WRAPPER);
        out.put_u16(0);
        out.put_u32(wire.vendor);
        out.put_u16(wire.error_type);
        out.put_u16(wire.code);
    } else {
        out.put_u16(EXPERIMENTER);
        out.put_u16(wire.error_type);
        out.put_u32(wire.vendor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::{bytes, text};
    use crate::identify;

    /// What Debian's ovs-vswitchd 3.1.0 answers to the request in the error's data.
    const SAMPLES: &[(OfError, Version, &str)] = &[
        (OfError::OfpbrcBadType, Version::Of10, "0101001400000005000100010163000800000005"),
        (OfError::OfpbrcBadType, Version::Of14, "0501001400000005000100010563000800000005"),
        (OfError::OfpbrcBadLen, Version::Of13, "0401001c000000050001000604140010000000050000000000000000"),
        (
            OfError::OfprrfcBadRole,
            Version::Of10,
            "0101002800000005b0c2000000002320000102010104001400000005000023200000000a00000009",
        ),
        (
            OfError::OfprrfcBadRole,
            Version::Of13,
            "0401002400000005000b0002041800180000000500000009000000000000000000000000",
        ),
        (
            OfError::NxttmfcBadCommand,
            Version::Of11,
            "0201002c00000005b0c20000000023200001020f02040018000000050000232000000018004d0000 \
             00000000",
        ),
        (
            OfError::NxttmfcBadCommand,
            Version::Of13,
            "0401002800000005ffff00100000232004040018000000050000232000000018004d000000000000",
        ),
        (
            OfError::OfpbfcBadId,
            Version::Of13,
            "0401002800000005ffff08fe4f4e460004040018000000054f4e4600000008fc0000000700040001",
        ),
        (OfError::OfpbfcBadId, Version::Of14, "0501001c000000050011000205210010000000050000000700040001"),
        (
            OfError::NxbrcUnencodableError,
            Version::Of11,
            "020100240000395bb0c200000000232000010209021100100000395bfe00000001000002",
        ),
        (
            OfError::OfpbmcBadType,
            Version::Of12,
            "030100440000000500040000030e0038000000050000000000000000000000000000000000000000 \
             00000000000000000000000000000000000000000009000400000000",
        ),
    ];

    #[test]
    fn samples() {
        for &(error, version, hex) in SAMPLES {
            let message = bytes(hex);
            let decoded = ErrorMsg::decode(&identify(&message).unwrap()).unwrap();
            assert_eq!(decoded.error, error, "{hex}");
            assert_eq!(text(&encode_reply(error, &decoded.data)), text(&message));
            assert_eq!(identify(&message).unwrap().version, version);
        }
    }

    #[test]
    fn all_errors_in_all_versions() {
        for version in Version::ALL {
            for &error in OfError::ALL {
                let msg = ErrorMsg { error, data: b"data".to_vec() };
                let encoded = msg.encode(version, 5);
                let decoded = ErrorMsg::decode(&identify(&encoded).unwrap()).unwrap();
                assert_eq!(decoded.data, msg.data);
                assert_eq!(decoded.encode(version, 5), encoded);
                if error.wire(version).is_none() {
                    assert_eq!(decoded.error, OfError::NxbrcUnencodableError);
                }
            }
        }
    }

    #[test]
    fn unknown_numbers_are_no_error() {
        let msg = bytes("01 01 000c 00000000 0063 0063");
        assert_eq!(ErrorMsg::decode(&identify(&msg).unwrap()), None);
    }

    #[test]
    fn long_requests_are_cut() {
        let mut request = vec![4, 14, 0xff, 0xff, 0, 0, 0, 3];
        request.resize(65_535, 1);
        let reply = encode_reply(OfError::OfpbrcEperm, &request);
        assert_eq!(reply.len(), 65_535);
        assert_eq!(identify(&reply).unwrap().header.length, 65_535);
    }
}
