//! Forms: the distinct layouts in which messages travel, and how to tell them apart.
//!
//! A message of one meaning ([`MsgType`]) has up to six forms, each for a range of versions or for an
//! extension's header. [`identify`] finds the form of received bytes and holds their length against it;
//! whatever decodes a message afterwards may rely on the fixed part of its body being there.

mod msg_type;
mod table;

pub use msg_type::MsgType;
pub use table::Form;

use crate::error::{NICIRA, ONF};
use crate::header::Header;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// `OFPT_VENDOR`, later `OFPT_EXPERIMENTER`.
const OFPT_VENDOR: u8 = 4;
/// `OFPST_VENDOR`, later `OFPMP_EXPERIMENTER`.
const OFPST_VENDOR: u16 = 0xffff;

/// Which header a message has, and with that the name space of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Standard message.
    Ofpt,
    /// Nicira extension message.
    Nxt,
    /// ONF extension message.
    Onft,
    /// Standard multipart ("statistics") request.
    OfpstRequest,
    /// Standard multipart reply.
    OfpstReply,
    /// Nicira multipart request.
    NxstRequest,
    /// Nicira multipart reply.
    NxstReply,
    /// ONF multipart request.
    OnfstRequest,
    /// ONF multipart reply.
    OnfstReply,
}

impl Kind {
    const fn vendor(self) -> u32 {
        match self {
            Self::Nxt | Self::NxstRequest | Self::NxstReply => NICIRA,
            Self::Onft | Self::OnfstRequest | Self::OnfstReply => ONF,
            Self::Ofpt | Self::OfpstRequest | Self::OfpstReply => 0,
        }
    }

    const fn is_request(self) -> bool {
        matches!(self, Self::OfpstRequest | Self::NxstRequest | Self::OnfstRequest)
    }

    const fn is_multipart(self) -> bool {
        !matches!(self, Self::Ofpt | Self::Nxt | Self::Onft)
    }

    /// The multipart kind of `vendor`.
    const fn multipart(vendor: u32, request: bool) -> Self {
        match (vendor, request) {
            (NICIRA, true) => Self::NxstRequest,
            (NICIRA, false) => Self::NxstReply,
            (ONF, true) => Self::OnfstRequest,
            (ONF, false) => Self::OnfstReply,
            (_, true) => Self::OfpstRequest,
            (_, false) => Self::OfpstReply,
        }
    }

    /// The kind of the replies to requests of this kind.
    const fn of_reply(self) -> Self {
        Self::multipart(self.vendor(), false)
    }

    /// Bytes before the body.
    const fn header_len(self, version: u8) -> usize {
        match self {
            Self::Ofpt => Header::LEN,
            Self::OfpstRequest | Self::OfpstReply if version == Version::Of10.wire() => 12,
            Self::Nxt | Self::Onft | Self::OfpstRequest | Self::OfpstReply => 16,
            Self::NxstRequest | Self::NxstReply | Self::OnfstRequest | Self::OnfstReply => 24,
        }
    }
}

/// The version range of a form.
#[derive(Debug, Clone, Copy)]
enum Versions {
    /// Every version there ever will be.
    Every,
    /// Those from the first to the second.
    Range(Version, Version),
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Info {
    name: &'static str,
    kind: Kind,
    number: u32,
    versions: Versions,
    /// Bytes of the body's fixed part.
    body_min: usize,
    /// What the length of the rest is a multiple of; 0 where there is no rest.
    rest_unit: usize,
    msg_type: MsgType,
}

impl Info {
    fn has_version(&self, version: u8) -> bool {
        match self.versions {
            Versions::Every => true,
            Versions::Range(first, last) => (first.wire()..=last.wire()).contains(&version),
        }
    }

    fn check_body_len(&self, body_len: usize) -> Result<(), OfError> {
        let rest = body_len.checked_sub(self.body_min).ok_or(OfError::OfpbrcBadLen)?;
        let fits = if self.rest_unit == 0 { rest == 0 } else { rest.is_multiple_of(self.rest_unit) };
        if fits { Ok(()) } else { Err(OfError::OfpbrcBadLen) }
    }
}

/// What the headers of a message say.
struct Key {
    kind: Kind,
    number: u32,
    header_len: usize,
}

fn vendor_kind(vendor: u32) -> Result<Kind, OfError> {
    match vendor {
        NICIRA => Ok(Kind::Nxt),
        ONF => Ok(Kind::Onft),
        _ => Err(OfError::OfpbrcBadVendor),
    }
}

/// Which multipart message types `version` has: `Some(true)` for the request's.
fn multipart_direction(version: u8, msg_type: u8) -> Option<bool> {
    let request_type = if version == Version::Of10.wire() { 16 } else { 18 };
    match msg_type.checked_sub(request_type)? {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

fn read_key(header: Header, bytes: &[u8]) -> Result<Key, OfError> {
    let mut r = Reader::new(bytes);
    r.skip(Header::LEN)?;
    if header.msg_type == OFPT_VENDOR {
        let vendor = r.u32()?;
        let number = r.u32()?;
        let kind = vendor_kind(vendor)?;
        return Ok(Key { kind, number, header_len: kind.header_len(header.version) });
    }
    match multipart_direction(header.version, header.msg_type) {
        Some(request) => read_multipart_key(header.version, request, r),
        None => {
            let number = u32::from(header.msg_type);
            Ok(Key { kind: Kind::Ofpt, number, header_len: Header::LEN })
        }
    }
}

fn read_multipart_key(version: u8, request: bool, mut r: Reader<'_>) -> Result<Key, OfError> {
    let is_of10 = version == Version::Of10.wire();
    let stat = r.u16()?;
    r.skip(if is_of10 { 2 } else { 6 })?;
    let (vendor, number) = if stat == OFPST_VENDOR {
        let vendor = r.u32()?;
        // Later versions have room for the subtype in the same header.
        let later_subtype = if is_of10 { None } else { Some(r.u32()?) };
        if vendor != NICIRA && (is_of10 || vendor != ONF) {
            return Err(OfError::OfpbrcBadVendor);
        }
        let subtype = match later_subtype {
            Some(subtype) => subtype,
            None => {
                let subtype = r.u32()?;
                r.skip(4)?;
                subtype
            }
        };
        (vendor, subtype)
    } else {
        (0, u32::from(stat))
    };
    let kind = Kind::multipart(vendor, request);
    Ok(Key { kind, number, header_len: kind.header_len(version) })
}

fn find(version: u8, kind: Kind, number: u32) -> Option<Form> {
    let position =
        Form::TABLE.iter().position(|i| i.number == number && i.kind == kind && i.has_version(version))?;
    Form::ALL.get(position).copied()
}

/// The error for a message that no form fits.
fn unknown(header: Header, kind: Kind) -> OfError {
    if kind.vendor() != 0 {
        OfError::OfpbrcBadSubtype
    } else if kind.is_multipart() && Version::from_wire(header.version).is_some() {
        OfError::OfpbrcBadStat
    } else {
        OfError::OfpbrcBadType
    }
}

/// A received message whose form is known and whose length fits that form.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its form.
    pub form: Form,
    /// Its version. For a version that is not known, which only hello, error and echo can have, the
    /// newest; [`Incoming::header`] has the number itself.
    pub version: Version,
    /// Its header.
    pub header: Header,
    /// The whole message.
    pub bytes: &'a [u8],
    header_len: usize,
}

impl<'a> Incoming<'a> {
    /// What follows the headers.
    #[must_use]
    pub fn body(&self) -> Reader<'a> {
        Reader::new(self.bytes.get(self.header_len..).unwrap_or_default())
    }

    /// What the message means.
    #[must_use]
    pub fn msg_type(&self) -> MsgType {
        self.form.msg_type()
    }

    /// The flags of a multipart message, 0 for others.
    #[must_use]
    pub fn multipart_flags(&self) -> u16 {
        multipart_flags(self.form, self.bytes)
    }

    /// Bytes before the body.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }
}

fn multipart_flags(form: Form, bytes: &[u8]) -> u16 {
    match bytes.get(10..12) {
        Some(&[a, b]) if form.info().kind.is_multipart() => u16::from_be_bytes([a, b]),
        _ => 0,
    }
}

/// As [`identify`], but for a part of a multipart request: an empty body is of the right length.
pub(crate) fn identify_part(bytes: &[u8]) -> Result<Incoming<'_>, OfError> {
    let header = Header::parse(bytes).ok_or(OfError::OfpbrcBadLen)?;
    let key = read_key(header, bytes)?;
    let form = find(header.version, key.kind, key.number).ok_or_else(|| unknown(header, key.kind))?;
    let body_len = bytes.len().saturating_sub(key.header_len);
    if body_len > 0 {
        form.info().check_body_len(body_len)?;
    }
    let version = Version::from_wire(header.version).unwrap_or(Version::Of15);
    Ok(Incoming { form, version, header, bytes, header_len: key.header_len })
}

/// Finds out what `bytes`, which are one whole message, are.
///
/// # Errors
/// `OFPBRC_BAD_TYPE`, `_BAD_STAT`, `_BAD_VENDOR` and `_BAD_SUBTYPE` for what is not known in the message's
/// version, `_BAD_LEN` where headers are cut off or the length does not fit the form.
pub fn identify(bytes: &[u8]) -> Result<Incoming<'_>, OfError> {
    let incoming = identify_part(bytes)?;
    let body_len = bytes.len().saturating_sub(incoming.header_len);
    incoming.form.info().check_body_len(body_len)?;
    Ok(incoming)
}

impl Form {
    pub(crate) fn info(self) -> &'static Info {
        // The table has a line for each variant, in the same order.
        &Self::TABLE[self as usize]
    }

    /// The message's name in the standard's or the extension's header, e.g. `OFPST_FLOW request`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// What messages of this form mean.
    #[must_use]
    pub fn msg_type(self) -> MsgType {
        self.info().msg_type
    }

    /// Whether `version` has this form.
    #[must_use]
    pub fn is_in(self, version: Version) -> bool {
        self.info().has_version(version.wire())
    }

    /// Whether this is a multipart request.
    #[must_use]
    pub fn is_multipart_request(self) -> bool {
        self.info().kind.is_request()
    }

    /// Bytes of the body's fixed part.
    pub(crate) fn body_min(self) -> usize {
        self.info().body_min
    }

    /// The form of the replies to a multipart request of this form.
    #[must_use]
    pub fn reply(self, version: Version) -> Option<Self> {
        let info = self.info();
        if !info.kind.is_request() {
            return None;
        }
        find(version.wire(), info.kind.of_reply(), info.number)
    }

    /// Appends the headers of a message, with a length that [`finish`] puts right.
    fn put_headers(self, version: Version, xid: u32, out: &mut Vec<u8>) {
        let Info { kind, number, .. } = *self.info();
        let is_of10 = version == Version::Of10;
        let msg_type = match kind {
            Kind::Ofpt => number as u8,
            Kind::Nxt | Kind::Onft => OFPT_VENDOR,
            _ => (if is_of10 { 16 } else { 18 }) + u8::from(!kind.is_request()),
        };
        out.put_u8(version.wire());
        out.put_u8(msg_type);
        out.put_u16(0);
        out.put_u32(xid);
        if kind.is_multipart() {
            out.put_u16(if kind.vendor() == 0 { number as u16 } else { OFPST_VENDOR });
            out.put_zeros(if is_of10 { 2 } else { 6 });
        }
        if kind.vendor() != 0 {
            out.put_u32(kind.vendor());
            out.put_u32(number);
            if kind.is_multipart() && is_of10 {
                out.put_zeros(4);
            }
        }
    }

    /// Appends a message of this form whose body `body` appends.
    ///
    /// The caller answers for `version` being one that has this form.
    pub fn put(self, version: Version, xid: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.is_in(version), "{self:?} in {version}");
        let start = out.len();
        self.put_headers(version, xid, out);
        body(out);
        finish(out, start);
    }
}

/// Puts the length of the message that starts at `start` and goes to the end into its header.
pub(crate) fn finish(out: &mut Vec<u8>, start: usize) {
    let length = len16(out.len() - start);
    out.set_u16(start + 2, length);
}

#[cfg(test)]
mod tests;
