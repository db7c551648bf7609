//! The bytes of actions: headers, forms, and how to read and write them.
//!
//! An action's *form* is one layout that it has in some versions: OpenFlow 1.0's 8-byte output and
//! OpenFlow 1.1's 16-byte one are two forms of `output`. The table in `table.rs` lists all forms.

use super::Action;
use super::table::{FORMS, Form};
use crate::error::{NICIRA, ONF};
use crate::{OfError, PortNo, Version};
use flow::{SubfieldError, TlvTable};
use std::sync::LazyLock;

/// Actions and instructions are padded to a multiple of this.
pub(crate) const ALIGN: usize = 8;
/// `OFPAT_VENDOR`: the action's number stands in a vendor's header.
const TYPE_VENDOR: u16 = 0xffff;
/// The longest action.
const LEN_MAX: usize = 65528;
/// How deep actions may be nested in actions (`clone`, `ct`). Open vSwitch has the same limit for text.
pub const NESTING_MAX: u8 = 100;

/// Who numbered an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Vendor {
    OpenFlow,
    Nicira,
    Onf,
}

/// The number of a form in a range of versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub vendor: Vendor,
    pub number: u16,
    pub first: Version,
    pub last: Version,
}

/// A standard action's number.
pub(crate) const fn of(number: u16, first: Version, last: Version) -> Code {
    Code { vendor: Vendor::OpenFlow, number, first, last }
}

/// A Nicira action's subtype.
pub(crate) const fn nx(number: u16, first: Version, last: Version) -> Code {
    Code { vendor: Vendor::Nicira, number, first, last }
}

/// An ONF action's subtype.
pub(crate) const fn onf(number: u16, first: Version, last: Version) -> Code {
    Code { vendor: Vendor::Onf, number, first, last }
}

/// What stands behind a form's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Void,
    /// An integer, at the first place behind the header that is aligned for it.
    U8,
    U16,
    U32,
    U64,
    /// The action has exactly so many bytes.
    Fixed(u16),
    /// The action has at least so many bytes.
    Min(u16),
}

impl Shape {
    /// Place and size of the integer argument, if the shape has one.
    const fn arg(self, header_len: usize) -> Option<(usize, usize)> {
        let size = match self {
            Shape::U8 => 1,
            Shape::U16 => 2,
            Shape::U32 => 4,
            Shape::U64 => 8,
            Shape::Void | Shape::Fixed(_) | Shape::Min(_) => return None,
        };
        Some((header_len.next_multiple_of(size), size))
    }

    const fn len_min(self, header_len: usize) -> usize {
        match (self, self.arg(header_len)) {
            (Shape::Fixed(n) | Shape::Min(n), _) => n as usize,
            (_, Some((at, size))) => (at + size).next_multiple_of(ALIGN),
            _ => header_len.next_multiple_of(ALIGN),
        }
    }
}

/// Reads an action of some form.
pub(crate) type DecodeFn = fn(&mut Body<'_, '_>) -> Result<Action, OfError>;

/// One line of the table of forms.
pub(crate) struct FormInfo {
    pub codes: &'static [Code],
    pub shape: Shape,
    pub decode: DecodeFn,
}

impl FormInfo {
    /// The code in `version`; if the version lacks it, that of the oldest version that has it.
    fn code(&self, version: Version) -> Option<&Code> {
        let has = |c: &&Code| c.first <= version && version <= c.last;
        self.codes.iter().find(has).or(self.codes.first())
    }
}

const fn header_len(vendor: Vendor) -> usize {
    if matches!(vendor, Vendor::OpenFlow) { 4 } else { 10 }
}

/// Numbers below this are found by index, others (ONF's) by search.
const INDEXED: usize = 256;
type Index = [[Option<u8>; INDEXED]; 2];

static BY_CODE: LazyLock<Box<[Index; 6]>> = LazyLock::new(|| {
    let mut index = Box::new([[[None; INDEXED]; 2]; 6]);
    for (i, form) in FORMS.iter().enumerate() {
        for c in form.codes.iter().filter(|c| c.vendor != Vendor::Onf) {
            for v in c.first.wire()..=c.last.wire() {
                index[usize::from(v - 1)][c.vendor as usize][usize::from(c.number)] = u8::try_from(i).ok();
            }
        }
    }
    index
});

pub(super) fn form_by_code(version: Version, vendor: Vendor, number: u16) -> Option<&'static FormInfo> {
    match (vendor, usize::from(number)) {
        (Vendor::OpenFlow | Vendor::Nicira, n) if n < INDEXED => {
            let i = BY_CODE[usize::from(version.wire() - 1)][vendor as usize][n]?;
            FORMS.get(usize::from(i))
        }
        _ => FORMS.iter().find(|f| {
            f.codes
                .iter()
                .any(|c| c.vendor == vendor && c.number == number && c.first <= version && version <= c.last)
        }),
    }
}

/// What decoding actions needs to know besides their bytes.
pub struct Decoder<'a> {
    pub version: Version,
    /// The bridge's tunnel options. Without (as in `ovs-ofctl`), every `tun_metadata<i>` has its full width.
    pub tlv: Option<&'a TlvTable>,
    /// Bit `i` is set once an action names `tun_metadata<i>` of [`Decoder::tlv`].
    pub tlv_used: u64,
    /// Whether the debugging actions are understood (`--enable-dummy`).
    pub debug: bool,
    depth: u8,
}

impl<'a> Decoder<'a> {
    #[must_use]
    pub fn new(version: Version) -> Self {
        Decoder { version, tlv: None, tlv_used: 0, debug: false, depth: 0 }
    }

    #[must_use]
    pub fn with_tlv(self, tlv: &'a TlvTable) -> Self {
        Decoder { tlv: Some(tlv), ..self }
    }

    /// Reads all of `bytes`, appending to `out`. Says nothing about how the actions go together.
    pub(crate) fn action_list(&mut self, bytes: &[u8], out: &mut Vec<Action>) -> Result<(), OfError> {
        if self.depth >= NESTING_MAX {
            return Err(OfError::OfpbacTooMany);
        }
        self.depth += 1;
        let mut rest = bytes;
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            result = self.action(&mut rest).map(|a| out.push(a));
        }
        self.depth -= 1;
        result
    }

    /// Reads the action at the beginning of `rest` and moves `rest` past it.
    fn action(&mut self, rest: &mut &[u8]) -> Result<Action, OfError> {
        let (info, vendor) = self.find_form(rest)?;
        let len = usize::from(be16(rest, 2));
        let (min, fixed) = (info.shape.len_min(header_len(vendor)), !matches!(info.shape, Shape::Min(_)));
        if len < min || len > if fixed { min } else { LEN_MAX } || len % ALIGN != 0 {
            return Err(OfError::OfpbacBadLen);
        }
        let (bytes, tail) = rest.split_at_checked(len).ok_or(OfError::OfpbacBadLen)?;
        *rest = tail;
        let arg = match info.shape.arg(header_len(vendor)) {
            Some((at, size)) => bytes.iter().skip(at).take(size).fold(0, |x, b| (x << 8) | u64::from(*b)),
            None => 0,
        };
        (info.decode)(&mut Body { bytes, arg, cx: self })
    }

    fn find_form(&self, bytes: &[u8]) -> Result<(&'static FormInfo, Vendor), OfError> {
        if bytes.len() < 8 {
            return Err(OfError::OfpbacBadLen);
        }
        let mut number = be16(bytes, 0);
        let mut vendor = Vendor::OpenFlow;
        if number == TYPE_VENDOR {
            vendor = match be32(bytes, 4) {
                NICIRA => Vendor::Nicira,
                ONF => Vendor::Onf,
                _ => return Err(OfError::OfpbacBadVendor),
            };
            if bytes.len() < 16 {
                return Err(OfError::OfpbacBadLen);
            }
            number = be16(bytes, 8);
        }
        match form_by_code(self.version, vendor, number) {
            Some(info) => Ok((info, vendor)),
            None if vendor == Vendor::OpenFlow => Err(OfError::OfpbacBadType),
            None => Err(OfError::OfpbacBadVendorType),
        }
    }
}

/// The bytes of one action, as long as its form asks for.
pub(crate) struct Body<'a, 'b> {
    pub bytes: &'a [u8],
    /// The integer, if the form consists of one.
    pub arg: u64,
    pub cx: &'a mut Decoder<'b>,
}

impl<'a> Body<'a, '_> {
    pub fn u8(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }
    pub fn u16(&self, at: usize) -> u16 {
        be16(self.bytes, at)
    }
    pub fn u32(&self, at: usize) -> u32 {
        be32(self.bytes, at)
    }
    pub fn u64(&self, at: usize) -> u64 {
        (u64::from(self.u32(at)) << 32) | u64::from(self.u32(at + 4))
    }
    /// What stands at `at` and after it.
    pub fn from(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }
    pub fn is_zero(&self, range: std::ops::Range<usize>) -> bool {
        self.bytes.get(range).unwrap_or_default().iter().all(|b| *b == 0)
    }
}

/// The big-endian integer at `at`, 0 where there are no bytes.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| b.iter().fold(0, |x, b| (x << 8) | u16::from(*b)))
}

/// The big-endian integer at `at`, 0 where there are no bytes.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| b.iter().fold(0, |x, b| (x << 8) | u32::from(*b)))
}

/// Whether an action may output to `port` in a switch whose own ports are below `ports_max`.
///
/// # Errors
/// `OFPBAC_BAD_OUT_PORT`
pub fn check_output_port(port: PortNo, ports_max: PortNo) -> Result<(), OfError> {
    match port {
        PortNo::IN_PORT
        | PortNo::TABLE
        | PortNo::NORMAL
        | PortNo::FLOOD
        | PortNo::ALL
        | PortNo::CONTROLLER
        | PortNo::LOCAL => Ok(()),
        p if p < ports_max && p != PortNo::NONE => Ok(()),
        _ => Err(OfError::OfpbacBadOutPort),
    }
}

/// The error that stands for `e`.
pub(crate) fn subfield_error(e: SubfieldError) -> OfError {
    match e {
        SubfieldError::BadSetLen => OfError::OfpbacBadSetLen,
        SubfieldError::MatchInconsistent => OfError::OfpbacMatchInconsistent,
        SubfieldError::BadSetArgument => OfError::OfpbacBadSetArgument,
    }
}

/// Appends actions in one version's forms.
pub struct Encoder<'a> {
    pub version: Version,
    /// The bridge's tunnel options, as in [`Decoder::tlv`].
    pub tlv: Option<&'a TlvTable>,
    pub buf: &'a mut Vec<u8>,
}

/// An action whose length is not known yet.
#[must_use]
pub(crate) struct Open {
    start: usize,
    len_min: usize,
}

impl<'a> Encoder<'a> {
    #[must_use]
    pub fn new(version: Version, buf: &'a mut Vec<u8>) -> Self {
        Encoder { version, tlv: None, buf }
    }

    #[must_use]
    pub fn with_tlv(self, tlv: &'a TlvTable) -> Self {
        Encoder { tlv: Some(tlv), ..self }
    }

    /// Writes the header of `form`. What is put after it is the body, up to [`Encoder::end`].
    pub(crate) fn begin(&mut self, form: Form) -> Open {
        let start = self.buf.len();
        let info = form.info();
        let Some(code) = info.code(self.version) else { return Open { start, len_min: 0 } };
        let vendor = match code.vendor {
            Vendor::OpenFlow => None,
            Vendor::Nicira => Some(NICIRA),
            Vendor::Onf => Some(ONF),
        };
        self.u16(if vendor.is_some() { TYPE_VENDOR } else { code.number });
        self.u16(0);
        if let Some(id) = vendor {
            self.u32(id);
            self.u16(code.number);
        }
        Open { start, len_min: info.shape.len_min(header_len(code.vendor)) }
    }

    /// Pads the action and fills in its length.
    pub(crate) fn end(&mut self, open: Open) {
        let len = (self.buf.len() - open.start).max(open.len_min).next_multiple_of(ALIGN);
        self.buf.resize(open.start + len, 0);
        self.set_len(open.start, len);
    }

    /// Fills in the length of what begins at `start` and has `len` bytes.
    pub(crate) fn set_len(&mut self, start: usize, len: usize) {
        let len = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = self.buf.get_mut(start + 2..start + 4) {
            place.copy_from_slice(&len);
        }
    }

    /// A whole action whose form is an integer, or nothing.
    pub(crate) fn arg(&mut self, form: Form, arg: u64) {
        let open = self.begin(form);
        if let Some((at, size)) = form.info().shape.arg(self.buf.len() - open.start) {
            self.buf.resize(open.start + at, 0);
            let be = arg.to_be_bytes();
            self.bytes(&be[8 - size..]);
        }
        self.end(open);
    }

    pub(crate) fn void(&mut self, form: Form) {
        self.arg(form, 0);
    }

    pub(crate) fn u8(&mut self, x: u8) {
        self.buf.push(x);
    }
    pub(crate) fn u16(&mut self, x: u16) {
        self.bytes(&x.to_be_bytes());
    }
    pub(crate) fn u32(&mut self, x: u32) {
        self.bytes(&x.to_be_bytes());
    }
    pub(crate) fn u64(&mut self, x: u64) {
        self.bytes(&x.to_be_bytes());
    }
    pub(crate) fn bytes(&mut self, b: &[u8]) {
        self.buf.extend_from_slice(b);
    }
    pub(crate) fn zeros(&mut self, n: usize) {
        self.buf.resize(self.buf.len() + n, 0);
    }
}
