//! The fields that a table can keep a prefix trie for (`Flow_Table.prefixes`).

use crate::lanes::stage_of;
use crate::trie::{Prefix, high_bits};
use flow::{Flow, Mask, U128};

/// Prefix fields that one table may have (ovs-vswitchd.conf.db(5)).
pub const PREFIX_FIELDS_MAX: usize = 3;

/// A field that a prefix trie can be kept for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PrefixField {
    TunId,
    TunSrc,
    TunDst,
    TunIpv6Src,
    TunIpv6Dst,
    CtNwSrc,
    CtNwDst,
    CtIpv6Src,
    CtIpv6Dst,
    IpSrc,
    IpDst,
    Ipv6Src,
    Ipv6Dst,
}

impl PrefixField {
    /// What a table has unless it is configured otherwise.
    pub const DEFAULT: [PrefixField; 2] = [PrefixField::IpDst, PrefixField::IpSrc];

    const NAMES: [(&'static str, PrefixField); 15] = [
        ("tun_id", PrefixField::TunId),
        ("tun_src", PrefixField::TunSrc),
        ("tun_dst", PrefixField::TunDst),
        ("tun_ipv6_src", PrefixField::TunIpv6Src),
        ("tun_ipv6_dst", PrefixField::TunIpv6Dst),
        ("ct_nw_src", PrefixField::CtNwSrc),
        ("ct_nw_dst", PrefixField::CtNwDst),
        ("ct_ipv6_src", PrefixField::CtIpv6Src),
        ("ct_ipv6_dst", PrefixField::CtIpv6Dst),
        ("ip_src", PrefixField::IpSrc),
        ("ip_dst", PrefixField::IpDst),
        ("nw_src", PrefixField::IpSrc),
        ("nw_dst", PrefixField::IpDst),
        ("ipv6_src", PrefixField::Ipv6Src),
        ("ipv6_dst", PrefixField::Ipv6Dst),
    ];

    /// The field called `name`, if it can have a trie.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, f)| *f == self).map_or("", |(n, _)| n)
    }

    pub(crate) fn width(self) -> u8 {
        match self {
            Self::TunId => 64,
            Self::TunSrc | Self::TunDst | Self::CtNwSrc | Self::CtNwDst | Self::IpSrc | Self::IpDst => 32,
            Self::TunIpv6Src | Self::TunIpv6Dst | Self::CtIpv6Src | Self::CtIpv6Dst => 128,
            Self::Ipv6Src | Self::Ipv6Dst => 128,
        }
    }

    /// The field's value, aligned to the high end.
    pub(crate) fn get(self, flow: &Flow) -> u128 {
        match self {
            Self::TunId => u128::from(flow.tunnel.id) << 64,
            Self::TunSrc => u128::from(flow.tunnel.src) << 96,
            Self::TunDst => u128::from(flow.tunnel.dst) << 96,
            Self::TunIpv6Src => flow.tunnel.ipv6_src.into(),
            Self::TunIpv6Dst => flow.tunnel.ipv6_dst.into(),
            Self::CtNwSrc => u128::from(flow.ct_nw_src) << 96,
            Self::CtNwDst => u128::from(flow.ct_nw_dst) << 96,
            Self::CtIpv6Src => flow.ct_ipv6_src.into(),
            Self::CtIpv6Dst => flow.ct_ipv6_dst.into(),
            Self::IpSrc => u128::from(flow.nw_src) << 96,
            Self::IpDst => u128::from(flow.nw_dst) << 96,
            Self::Ipv6Src => flow.ipv6_src.into(),
            Self::Ipv6Dst => flow.ipv6_dst.into(),
        }
    }

    /// Makes the `n` leading bits of the field significant.
    pub(crate) fn unwildcard(self, mask: &mut Mask, n: u8) {
        let bits = high_bits(n);
        let (short, long) = ((bits >> 96) as u32, U128::from(bits));
        let or = |field: &mut U128| *field = U128 { hi: field.hi | long.hi, lo: field.lo | long.lo };
        match self {
            Self::TunId => mask.tunnel.id |= long.hi,
            Self::TunSrc => mask.tunnel.src |= short,
            Self::TunDst => mask.tunnel.dst |= short,
            Self::TunIpv6Src => or(&mut mask.tunnel.ipv6_src),
            Self::TunIpv6Dst => or(&mut mask.tunnel.ipv6_dst),
            Self::CtNwSrc => mask.ct_nw_src |= short,
            Self::CtNwDst => mask.ct_nw_dst |= short,
            Self::CtIpv6Src => or(&mut mask.ct_ipv6_src),
            Self::CtIpv6Dst => or(&mut mask.ct_ipv6_dst),
            Self::IpSrc => mask.nw_src |= short,
            Self::IpDst => mask.nw_dst |= short,
            Self::Ipv6Src => or(&mut mask.ipv6_src),
            Self::Ipv6Dst => or(&mut mask.ipv6_dst),
        }
    }

    /// Whether the leading `n` bits are significant already.
    pub(crate) fn is_unwildcarded(self, mask: &Mask, n: u8) -> bool {
        self.get(mask) & high_bits(n) == high_bits(n)
    }

    /// Whether the field means anything in `flow`. Some fields hold other things for other protocols.
    pub(crate) fn applies_to(self, flow: &Flow) -> bool {
        match self {
            Self::IpSrc | Self::IpDst => flow.dl_type == 0x0800,
            Self::Ipv6Src | Self::Ipv6Dst => flow.dl_type == 0x86dd,
            Self::CtNwSrc | Self::CtNwDst => flow.ct_nw_proto != 0 && flow.dl_type == 0x0800,
            Self::CtIpv6Src | Self::CtIpv6Dst => flow.ct_nw_proto != 0 && flow.dl_type == 0x86dd,
            Self::TunId | Self::TunSrc | Self::TunDst | Self::TunIpv6Src | Self::TunIpv6Dst => true,
        }
    }

    /// Length of the prefix that `mask` selects of this field; 0 for none, or for a mask that is no prefix.
    pub(crate) fn prefix_len(self, mask: &Mask) -> u8 {
        let bits = self.get(mask);
        let len = bits.leading_ones() as u8;
        if bits == high_bits(len) { len } else { 0 }
    }

    pub(crate) fn prefix(self, flow: &Flow, len: u8) -> Prefix {
        Prefix { bits: self.get(flow) & high_bits(len), len }
    }

    /// The stage of the lookup that looks at this field.
    pub(crate) fn stage(self) -> usize {
        let mut mask = Mask::NONE;
        self.unwildcard(&mut mask, self.width());
        stage_of(&mask)
    }
}
