//! What there is to know about a field: ovs-fields(7), one entry each.

use crate::field_table::FIELDS;
pub use crate::field_table::Field;
use bitflags::bitflags;
use std::collections::HashMap;
use std::sync::LazyLock;

/// OpenFlow version numbers as the wire has them.
pub mod ofp {
    pub const OF10: u8 = 1;
    pub const OF11: u8 = 2;
    pub const OF12: u8 = 3;
    pub const OF13: u8 = 4;
    pub const OF14: u8 = 5;
    pub const OF15: u8 = 6;
    /// In place of a version: prefer NXM headers.
    pub const NXM: u8 = 0;
}

/// `oxm_class` numbers.
pub mod oxm_class {
    pub const NXM_0: u16 = 0x0000;
    pub const NXM_1: u16 = 0x0001;
    /// Ericsson's member class, allotted by ONF.
    pub const ERICSSON: u16 = 0x1000;
    pub const BASIC: u16 = 0x8000;
    pub const PACKET_REGS: u16 = 0x8001;
    pub const EXPERIMENTER: u16 = 0xffff;
}

/// Experimenter identifiers that own OXM fields.
pub mod experimenter {
    pub const NICIRA: u32 = 0x0000_2320;
    pub const ONF: u32 = 0x4f4e_4600;
    pub const NSH: u32 = 0x005a_d650;
}

bitflags! {
    /// OpenFlow versions with their flow formats ("protocols" in ovs-ofctl(8)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Protocols: u16 {
        const OF10_STD = 1 << 0;
        const OF10_STD_TID = 1 << 1;
        const OF10_NXM = 1 << 2;
        const OF10_NXM_TID = 1 << 3;
        const OF11_STD = 1 << 4;
        const OF12_OXM = 1 << 5;
        const OF13_OXM = 1 << 6;
        const OF14_OXM = 1 << 7;
        const OF15_OXM = 1 << 8;
        const OF10_STD_ANY = 0x003;
        const OF10_NXM_ANY = 0x00c;
        const OF10_ANY = 0x00f;
        const ANY_OXM = 0x1e0;
        const OF11_UP = 0x1f0;
        const OF12_UP = 0x1e0;
        const OF13_UP = 0x1c0;
        const OF14_UP = 0x180;
        const OF15_UP = 0x100;
        const NXM_OF11_UP = 0x1fc;
        const NXM_OXM_ANY = 0x1ec;
        const ANY = 0x1ff;
        /// Those whose flow-mods can name a table.
        const TID = 0x1fa;
    }
}

/// How far a match on the field can be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maskable {
    /// All or nothing.
    No,
    /// Each bit on its own.
    Bitwise,
}

/// How a value looks in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Decimal,
    Hex,
    CtState,
    Ethernet,
    Ipv4,
    Ipv6,
    /// 16-bit port number or name (OpenFlow 1.0).
    Port,
    /// 32-bit port number or name (OpenFlow 1.1+).
    PortOxm,
    Frag,
    TunFlags,
    TcpFlags,
    PacketType,
}

/// What else must be matched before the field may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prereq {
    None,
    Ethernet,
    Arp,
    VlanVid,
    Ipv4,
    Ipv6,
    IpAny,
    Nsh,
    Mpls,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    /// A conntrack state that implies a valid connection.
    CtValid,
    Nd,
    NdSolicit,
    NdAdvert,
}

/// What OpenFlow 1.0's or 1.1's fixed match structure can say about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    No,
    Exact,
    Cidr,
    Bitwise,
}

/// One code point of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OxmId {
    /// E.g. `NXM_OF_ETH_DST`.
    pub name: &'static str,
    pub class: u16,
    /// 0 unless `class` is [`oxm_class::EXPERIMENTER`].
    pub experimenter: u32,
    pub num: u8,
    /// The first OpenFlow version (wire number) that has it. NXM and other extensions: 0.
    pub since: u8,
}

impl OxmId {
    /// The class follows from the name, as in OVS's own tables.
    pub(crate) const fn new(name: &'static str, num: u8, since: u8) -> OxmId {
        const CLASSES: [(&str, u16, u32); 8] = [
            ("NXM_OF_", oxm_class::NXM_0, 0),
            ("NXM_NX_", oxm_class::NXM_1, 0),
            ("OXM_OF_PKT_REG", oxm_class::PACKET_REGS, 0),
            ("OXM_OF_", oxm_class::BASIC, 0),
            ("ERICOXM_OF_", oxm_class::ERICSSON, 0),
            ("NXOXM_NSH_", oxm_class::EXPERIMENTER, experimenter::NSH),
            ("NXOXM_ET_", oxm_class::EXPERIMENTER, experimenter::NICIRA),
            ("ONFOXM_ET_", oxm_class::EXPERIMENTER, experimenter::ONF),
        ];
        let mut i = 0;
        while i < CLASSES.len() {
            if has_prefix(name.as_bytes(), CLASSES[i].0.as_bytes()) {
                return OxmId { name, class: CLASSES[i].1, experimenter: CLASSES[i].2, num, since };
            }
            i += 1;
        }
        panic!("unknown class of OXM name") // At compile time only: the table is `static`.
    }
}

const fn has_prefix(s: &[u8], prefix: &[u8]) -> bool {
    let mut i = 0;
    while i < prefix.len() {
        if i >= s.len() || s[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Everything known about one field.
#[derive(Debug)]
pub struct FieldInfo {
    pub field: Field,
    pub name: &'static str,
    /// A second name that is understood, or "".
    pub alias: &'static str,
    /// Width of the value. For `tun_metadata<i>` the most it can have.
    pub n_bytes: u8,
    /// Bits of the value that can be nonzero (for `vlan_vid` bit 12, "present", comes on top).
    pub n_bits: u16,
    pub maskable: Maskable,
    pub format: Format,
    pub prereq: Prereq,
    pub writable: bool,
    pub(crate) place: Place,
    /// Oldest OpenFlow version first; of those for the same, the preferred one last.
    pub oxm: &'static [OxmId],
    pub of10: Fixed,
    pub of11: Fixed,
}

/// Where a field lies in a [`crate::Flow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Bits(Bits),
    /// An OpenFlow 1.1+ (32-bit) port number kept in 16-bit numbering.
    Port11(Bits),
    /// Part of the outermost tag's TCI. Writing it adds a tag protocol identifier where there is none.
    Tci(Bits),
    /// As `Tci`, and writing it makes the tag present (sets the CFI bit).
    Tag(Bits),
    /// `tun_metadata<i>`: the bridge's TLV table knows.
    Tlv(u8),
}

/// A run of bits within `units` integers of `unit` bytes each, most significant integer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub ofs: u16,
    pub unit: u8,
    pub units: u8,
    /// The field's bits among those of the storage.
    pub mask: u128,
    /// From the field's bit 0 to the storage's.
    pub shift: u8,
}

static BY_NAME: LazyLock<HashMap<&str, Field>> = LazyLock::new(|| {
    let alias = FIELDS.iter().filter(|f| !f.alias.is_empty()).map(|f| (f.alias, f.field));
    FIELDS.iter().map(|f| (f.name, f.field)).chain(alias).collect()
});

static BY_OXM_NAME: LazyLock<HashMap<&str, Field>> =
    LazyLock::new(|| FIELDS.iter().flat_map(|f| f.oxm.iter().map(|o| (o.name, f.field))).collect());

static BY_OXM: LazyLock<HashMap<(u16, u32, u8), Field>> = LazyLock::new(|| {
    FIELDS.iter().flat_map(|f| f.oxm.iter().map(|o| ((o.class, o.experimenter, o.num), f.field))).collect()
});

impl Field {
    /// Number of fields.
    pub const COUNT: usize = crate::field_table::N_FIELDS;

    /// Every field, in order.
    pub fn all() -> impl ExactSizeIterator<Item = Field> + Clone {
        FIELDS.iter().map(|f| f.field)
    }

    pub fn info(self) -> &'static FieldInfo {
        &FIELDS[self as usize]
    }

    /// Position among all fields, which is OVS's `MFF_*` number.
    pub fn index(self) -> usize {
        self as usize
    }

    pub fn from_index(i: usize) -> Option<Field> {
        FIELDS.get(i).map(|f| f.field)
    }

    fn nth_from(self, i: usize, n: usize) -> Option<Field> {
        if i < n { Field::from_index(self.index() + i) } else { None }
    }

    /// `tun_metadata<i>`, `i` < 64.
    pub fn tun_metadata(i: usize) -> Option<Field> {
        Field::TunMetadata0.nth_from(i, 64)
    }

    /// `reg<i>`, `i` < 16.
    pub fn reg(i: usize) -> Option<Field> {
        Field::Reg0.nth_from(i, 16)
    }

    /// `xreg<i>`, `i` < 8.
    pub fn xreg(i: usize) -> Option<Field> {
        Field::Xreg0.nth_from(i, 8)
    }

    /// `xxreg<i>`, `i` < 4.
    pub fn xxreg(i: usize) -> Option<Field> {
        Field::Xxreg0.nth_from(i, 4)
    }

    /// The `i` of `tun_metadata<i>`.
    pub fn tlv_index(self) -> Option<usize> {
        match self.info().place {
            Place::Tlv(i) => Some(usize::from(i)),
            _ => None,
        }
    }

    /// Finds a field by its name or its second name, e.g. `eth_dst` or `dl_dst`.
    pub fn by_name(name: &str) -> Option<Field> {
        BY_NAME.get(name).copied()
    }

    /// Finds a field by the name of one of its code points, e.g. `NXM_OF_ETH_DST` or `OXM_OF_ETH_DST`.
    pub fn by_nxm_name(name: &str) -> Option<Field> {
        BY_OXM_NAME.get(name).copied()
    }

    /// Finds a field by code point. `experimenter` is 0 unless `class` is 0xffff.
    pub fn by_header(class: u16, experimenter: u32, num: u8) -> Option<Field> {
        BY_OXM.get(&(class, experimenter, num)).copied()
    }

    /// The code point to use when speaking OpenFlow `version` ([`ofp::NXM`] prefers NXM): the newest
    /// that the version has, or else the oldest there is. `None` for fields without any.
    pub fn oxm_id(self, version: u8) -> Option<&'static OxmId> {
        let ids = self.info().oxm;
        ids.iter().rev().find(|o| o.since <= version).or(ids.first())
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn n_bytes(self) -> usize {
        usize::from(self.info().n_bytes)
    }

    pub fn n_bits(self) -> usize {
        usize::from(self.info().n_bits)
    }

    /// Whether OXM carries it with its leading zero bytes left off.
    pub fn is_variable_len(self) -> bool {
        self.tlv_index().is_some()
    }

    pub fn is_register(self) -> bool {
        (Field::Reg0..=Field::Xxreg3).contains(&self)
    }

    /// Whether it lies above layer 2 (the order of fields is that of headers).
    pub fn is_l3_or_higher(self) -> bool {
        self >= Field::Ipv4Src
    }

    /// Whether it travels with a packet outside its headers (OpenFlow 1.5 section 7.2.3.9).
    pub fn is_pipeline(self) -> bool {
        let tunnel_or_metadata = (Field::TunId..=Field::InPortOxm).contains(&self);
        self == Field::PacketType
            || tunnel_or_metadata && !matches!(self, Field::TunTtl | Field::TunTos)
            || self.is_register()
    }

    /// Whether `Flow_Table.prefixes` may name it (ovs-vswitchd.conf.db(5)).
    pub fn is_prefix_capable(self) -> bool {
        matches!(
            self,
            Field::TunId
                | Field::TunSrc
                | Field::TunDst
                | Field::TunIpv6Src
                | Field::TunIpv6Dst
                | Field::CtNwSrc
                | Field::CtNwDst
                | Field::CtIpv6Src
                | Field::CtIpv6Dst
                | Field::Ipv4Src
                | Field::Ipv4Dst
                | Field::Ipv6Src
                | Field::Ipv6Dst
        )
    }

    /// Whether a frozen packet keeps it apart from its headers.
    pub fn is_frozen_metadata(self) -> bool {
        (Field::TunId..=Field::InPortOxm).contains(&self) || self.is_register()
    }

    /// Protocols in which it can be matched or set as a whole.
    pub fn protocols_exact(self) -> Protocols {
        let i = self.info();
        // These two have no code point, but `vlan_vid` and `vlan_tci` can say the same everywhere.
        if matches!(self, Field::DlVlan | Field::DlVlanPcp) {
            return Protocols::ANY;
        }
        let mut p = Protocols::empty();
        p.set(Protocols::OF10_STD_ANY, i.of10 != Fixed::No);
        p.set(Protocols::OF11_STD, i.of11 != Fixed::No);
        p.set(Protocols::NXM_OXM_ANY, !i.oxm.is_empty());
        p
    }

    /// Protocols in which a prefix of it can be matched.
    pub fn protocols_cidr(self) -> Protocols {
        let i = self.info();
        let mut p = self.protocols_exact();
        if i.maskable == Maskable::No {
            return Protocols::empty();
        }
        p.set(Protocols::OF10_STD_ANY, matches!(i.of10, Fixed::Cidr | Fixed::Bitwise));
        p.set(Protocols::OF11_STD, matches!(i.of11, Fixed::Cidr | Fixed::Bitwise));
        p
    }

    /// Protocols in which any of its bits can be matched.
    pub fn protocols_bitwise(self) -> Protocols {
        let i = self.info();
        let mut p = self.protocols_cidr();
        p.set(Protocols::OF10_STD_ANY, i.of10 == Fixed::Bitwise);
        p.set(Protocols::OF11_STD, i.of11 == Fixed::Bitwise);
        if i.maskable == Maskable::No { Protocols::empty() } else { p }
    }
}
