//! `OFPT_HELLO`: which versions a side speaks.

use crate::form::{Form, Incoming};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, Version};

/// `OFPHET_VERSIONBITMAP`
const VERSION_BITMAP: u16 = 1;

/// A set of versions, among them ones that this crate does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VersionSet(u32);

impl VersionSet {
    /// All versions that this crate knows, which are also those that a bridge has if none are configured.
    pub const ALL: Self = Self(0x7e);

    /// The set in which bit `n` stands for wire version `n`. Bit 0 does not count.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & !1)
    }

    /// Bit `n` stands for wire version `n`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `version` is in the set.
    #[must_use]
    pub const fn contains(self, version: Version) -> bool {
        self.0 & (1 << version.wire()) != 0
    }

    /// All versions up to the wire number `wire`.
    const fn up_to(wire: u8) -> Self {
        if wire < 32 { Self::from_bits((2u32 << wire).wrapping_sub(1)) } else { Self(u32::MAX - 1) }
    }

    /// The versions in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The newest version in the set.
    #[must_use]
    pub fn newest(self) -> Option<Version> {
        Version::ALL.into_iter().rev().find(|v| self.contains(*v))
    }

    /// Whether the set is all versions up to its newest, which a header says as well as a bitmap.
    const fn is_prefix(self) -> bool {
        ((self.0 >> 1) + 1).is_power_of_two()
    }
}

impl FromIterator<Version> for VersionSet {
    fn from_iter<I: IntoIterator<Item = Version>>(versions: I) -> Self {
        Self(versions.into_iter().fold(0, |bits, v| bits | 1 << v.wire()))
    }
}

/// A hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What the peer speaks.
    pub versions: VersionSet,
    /// Whether everything in the message was understood; what was not is ignored.
    pub understood: bool,
}

impl Hello {
    /// Decodes a hello. Without a bitmap, the peer speaks the header's version and all before.
    #[must_use]
    pub fn decode(msg: &Incoming<'_>) -> Self {
        let mut hello = Self { versions: VersionSet::up_to(msg.header.version), understood: true };
        let mut elements = msg.body();
        while !elements.is_empty() {
            if hello.take_element(&mut elements).is_err() {
                hello.understood = false;
                break;
            }
        }
        hello
    }

    fn take_element(&mut self, elements: &mut Reader<'_>) -> Result<(), OfError> {
        let mut header = *elements;
        let kind = header.u16()?;
        let len = usize::from(header.u16()?);
        if len < 4 {
            return Err(OfError::OfpbrcBadLen);
        }
        let padded = elements.take(len.next_multiple_of(8))?;
        let value = padded.get(4..len).unwrap_or_default();
        match (kind, version_bitmap(value)) {
            (VERSION_BITMAP, Some(versions)) => self.versions = versions,
            _ => self.understood = false,
        }
        Ok(())
    }

    /// The hello of a side that speaks `versions`: in its newest version, with a bitmap where that says
    /// more than the header. Empty if there are no versions to offer.
    #[must_use]
    pub fn encode(versions: VersionSet, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(newest) = versions.newest() else { return out };
        Form::OfptHello.put(newest, xid, &mut out, |out| {
            if !versions.is_prefix() {
                out.put_u16(VERSION_BITMAP);
                out.put_u16(8);
                out.put_u32(versions.bits());
            }
        });
        out
    }
}

/// The first word of a bitmap element; the rest is for versions from 32 on.
fn version_bitmap(value: &[u8]) -> Option<VersionSet> {
    if !value.len().is_multiple_of(4) {
        return None;
    }
    let first = Reader::new(value).u32().ok()?;
    Some(VersionSet::from_bits(first)).filter(|v| !v.is_empty())
}

/// The version that two sides agree on: the newest that both speak.
///
/// # Errors
/// `OFPHFC_INCOMPATIBLE` if there is none; [`crate::msg::error_msg::encode_hello_failed`] makes the message.
pub fn negotiate(ours: VersionSet, theirs: VersionSet) -> Result<Version, OfError> {
    ours.intersection(theirs).newest().ok_or(OfError::OfphfcIncompatible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::bytes;
    use crate::identify;

    fn decode(hex: &str) -> (u32, bool) {
        let message = bytes(hex);
        let hello = Hello::decode(&identify(&message).unwrap());
        (hello.versions.bits(), hello.understood)
    }

    #[test]
    fn decoding() {
        assert_eq!(decode("01 00 0008 00000000"), (0x02, true));
        assert_eq!(decode("06 00 0008 00000000"), (0x7e, true));
        assert_eq!(decode("ff 00 0008 00000000"), (0xffff_fffe, true));
        assert_eq!(decode("00 00 0008 00000000"), (0, true));
        assert_eq!(decode("04 00 0010 00000000 0001 0008 00000012"), (0x12, true));
        assert_eq!(decode("04 00 0010 00000000 0001 0008 00000013"), (0x12, true), "version 0 is none");
        // A bitmap of more than 32 versions, and one without any.
        assert_eq!(decode("04 00 0018 00000000 0001 000c 00000012 ffffffff 00000000"), (0x12, true));
        assert_eq!(decode("04 00 0010 00000000 0001 0008 00000001"), (0x1e, false));
        // Unknown element before a known one; element too short; element cut off.
        assert_eq!(decode("04 00 0018 00000000 0002 0008 00000000 0001 0008 00000002"), (0x02, false));
        assert_eq!(decode("04 00 0010 00000000 0001 0003 00000012"), (0x1e, false));
        assert_eq!(decode("04 00 000a 00000000 0001"), (0x1e, false));
        assert_eq!(decode("04 00 000c 00000000 0001 0008"), (0x1e, false));
    }

    #[test]
    fn encoding() {
        assert_eq!(Hello::encode(VersionSet::ALL, 1), bytes("06 00 0008 00000001"));
        let only = |v| std::iter::once(v).collect();
        assert_eq!(Hello::encode(only(Version::Of10), 2), bytes("01 00 0008 00000002"));
        let of13 = bytes("04 00 0010 00000003 0001 0008 00000010");
        assert_eq!(Hello::encode(only(Version::Of13), 3), of13);
        assert!(Hello::encode(VersionSet::default(), 0).is_empty());
    }

    #[test]
    fn newest_common_version_wins() {
        let set = |versions: &[Version]| versions.iter().copied().collect::<VersionSet>();
        let ours = set(&[Version::Of10, Version::Of13]);
        assert_eq!(negotiate(ours, VersionSet::ALL), Ok(Version::Of13));
        assert_eq!(negotiate(ours, set(&[Version::Of10, Version::Of12])), Ok(Version::Of10));
        assert_eq!(negotiate(ours, set(&[Version::Of15])), Err(OfError::OfphfcIncompatible));
        assert_eq!(negotiate(VersionSet::ALL, VersionSet::from_bits(0x80)), Err(OfError::OfphfcIncompatible));
    }
}
