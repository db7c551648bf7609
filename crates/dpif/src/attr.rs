//! The attributes that a datapath key consists of (`OVS_KEY_ATTR_*` of openvswitch.h), as one table: what
//! each is called, which fields it has, how they are written, and where they lie in a [`Flow`].
//!
//! A mask is a [`Flow`] too. The accessors are told which of the two they work on, because a few fields
//! are one thing in the key and another in the text: fragment bits, ARP opcodes, ICMP types.

use flow::{EthAddr, Flow, NW_FRAG_ANY, NW_FRAG_LATER};

/// An attribute, in the order in which a key lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attr {
    Priority,
    Tunnel,
    SkbMark,
    CtState,
    CtZone,
    CtMark,
    CtLabel,
    CtTuple4,
    CtTuple6,
    RecircId,
    DpHash,
    InPort,
    PacketType,
    Ethernet,
    EtherType,
    Vlan,
    Encap,
    Ipv4,
    Ipv6,
    Arp,
    Mpls,
    Nsh,
    Tcp,
    TcpFlags,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    Nd,
    NdExt,
}

/// How a field is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Mac,
    Ipv4,
    Ipv6,
    /// Decimal, of so many bits.
    Dec(u32),
    /// `0x` hexadecimal, of so many bits.
    Hex(u32),
    /// `no`, `first` or `later`.
    Frag,
}

impl Form {
    pub(crate) fn bits(self) -> u32 {
        match self {
            Form::Mac => 48,
            Form::Ipv4 => 32,
            Form::Ipv6 => 128,
            Form::Dec(b) | Form::Hex(b) => b,
            Form::Frag => 8,
        }
    }
    /// The mask of an exact match.
    pub(crate) fn exact(self) -> u128 {
        match self.bits() {
            128 => u128::MAX,
            b => (1 << b) - 1,
        }
    }
}

/// Whether an accessor reads and writes a key or a mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Key,
    Mask,
}

pub(crate) struct Field {
    pub name: &'static str,
    /// What reading accepts as well.
    pub alias: &'static str,
    pub form: Form,
    pub get: fn(&Flow, Side) -> u128,
    pub set: fn(&mut Flow, u128, Side),
}

/// A field that is the same on both sides.
macro_rules! field {
    ($name:literal, $form:expr, $path:ident as $t:ty) => {
        Field {
            name: $name,
            alias: $name,
            form: $form,
            get: |f, _| u128::from(f.$path),
            set: |f, v, _| f.$path = v as $t,
        }
    };
    ($name:literal, mac $path:ident) => {
        Field {
            name: $name,
            alias: $name,
            form: Form::Mac,
            get: |f, _| u128::from(f.$path.to_u64()),
            set: |f, v, _| f.$path = EthAddr::from_u64(v as u64),
        }
    };
    ($name:literal, v6 $path:ident) => {
        Field {
            name: $name,
            alias: $name,
            form: Form::Ipv6,
            get: |f, _| u128::from(f.$path),
            set: |f, v, _| f.$path = v.into(),
        }
    };
}

/// `frag`: an enumeration in the text, with a mask of all or nothing; two bits in the key.
const FRAG: Field = Field {
    name: "frag=",
    alias: "frag=",
    form: Form::Frag,
    get: |f, side| u128::from(frag_to_text(f.nw_frag, side)),
    set: |f, v, side| f.nw_frag = frag_from_text(v as u8, side),
};

/// Fragment bits of the key as the text's number: 0 for no, 1 for first, 2 for later.
pub(crate) fn frag_to_text(bits: u8, side: Side) -> u8 {
    match side {
        Side::Mask if bits & NW_FRAG_ANY != 0 => 0xff,
        Side::Mask => 0,
        Side::Key if bits & NW_FRAG_ANY == 0 => 0,
        Side::Key if bits & NW_FRAG_LATER != 0 => 2,
        Side::Key => 1,
    }
}

pub(crate) fn frag_from_text(v: u8, side: Side) -> u8 {
    match (side, v) {
        (_, 0) => 0,
        (Side::Key, 1) => NW_FRAG_ANY,
        _ => NW_FRAG_ANY | NW_FRAG_LATER,
    }
}

/// The key holds 8 bits of ARP's 16-bit opcode.
const ARP_OP: Field = Field {
    name: "op=",
    alias: "op=",
    form: Form::Dec(16),
    get: |f, side| match side {
        Side::Mask if f.nw_proto == u8::MAX => 0xffff,
        _ => f.nw_proto.into(),
    },
    set: |f, v, _| f.nw_proto = v as u8,
};

const TP_SRC: Field = field!("src=", Form::Dec(16), tp_src as u16);
const TP_DST: Field = field!("dst=", Form::Dec(16), tp_dst as u16);
const ICMP: &[Field] =
    &[field!("type=", Form::Dec(8), tp_src as u16), field!("code=", Form::Dec(8), tp_dst as u16)];

/// The fields of an attribute that has `name=value` fields and no more; empty for the others.
pub(crate) fn fields(attr: Attr) -> &'static [Field] {
    match attr {
        Attr::CtTuple4 => &[
            field!("src=", Form::Ipv4, ct_nw_src as u32),
            field!("dst=", Form::Ipv4, ct_nw_dst as u32),
            field!("proto=", Form::Dec(8), ct_nw_proto as u8),
            field!("tp_src=", Form::Dec(16), ct_tp_src as u16),
            field!("tp_dst=", Form::Dec(16), ct_tp_dst as u16),
        ],
        Attr::CtTuple6 => &[
            field!("src=", v6 ct_ipv6_src),
            field!("dst=", v6 ct_ipv6_dst),
            field!("proto=", Form::Dec(8), ct_nw_proto as u8),
            Field { alias: "tp_src=", ..field!("src_port=", Form::Dec(16), ct_tp_src as u16) },
            Field { alias: "tp_dst=", ..field!("dst_port=", Form::Dec(16), ct_tp_dst as u16) },
        ],
        Attr::PacketType => &[
            Field {
                name: "ns=",
                alias: "ns=",
                form: Form::Dec(16),
                get: |f, _| u128::from(f.packet_type >> 16),
                set: |f, v, _| f.packet_type = (f.packet_type & 0xffff) | ((v as u32) << 16),
            },
            Field {
                name: "id=",
                alias: "id=",
                form: Form::Hex(16),
                get: |f, _| u128::from(f.packet_type & 0xffff),
                set: |f, v, _| f.packet_type = (f.packet_type & !0xffff) | (v as u32 & 0xffff),
            },
        ],
        Attr::Ethernet => &[field!("src=", mac dl_src), field!("dst=", mac dl_dst)],
        Attr::Ipv4 => &[
            field!("src=", Form::Ipv4, nw_src as u32),
            field!("dst=", Form::Ipv4, nw_dst as u32),
            field!("proto=", Form::Dec(8), nw_proto as u8),
            field!("tos=", Form::Hex(8), nw_tos as u8),
            field!("ttl=", Form::Dec(8), nw_ttl as u8),
            FRAG,
        ],
        Attr::Ipv6 => &[
            field!("src=", v6 ipv6_src),
            field!("dst=", v6 ipv6_dst),
            field!("label=", Form::Hex(20), ipv6_label as u32),
            field!("proto=", Form::Dec(8), nw_proto as u8),
            field!("tclass=", Form::Hex(8), nw_tos as u8),
            field!("hlimit=", Form::Dec(8), nw_ttl as u8),
            FRAG,
        ],
        Attr::Arp => &[
            field!("sip=", Form::Ipv4, nw_src as u32),
            field!("tip=", Form::Ipv4, nw_dst as u32),
            ARP_OP,
            field!("sha=", mac arp_sha),
            field!("tha=", mac arp_tha),
        ],
        Attr::Tcp | Attr::Udp | Attr::Sctp => &[TP_SRC, TP_DST],
        Attr::Icmp | Attr::Icmpv6 => ICMP,
        Attr::Nd => {
            &[field!("target=", v6 nd_target), field!("sll=", mac arp_sha), field!("tll=", mac arp_tha)]
        }
        Attr::NdExt => &[
            field!("nd_reserved=", Form::Hex(32), nd_reserved as u32),
            field!("nd_options_type=", Form::Dec(8), nd_options_type as u8),
        ],
        _ => &[],
    }
}

/// The value of an attribute that is one number, as `name(value/mask)`.
pub(crate) fn single(attr: Attr) -> Option<&'static Field> {
    const PRIORITY: Field = field!("", Form::Hex(32), skb_priority as u32);
    const SKB_MARK: Field = field!("", Form::Hex(32), pkt_mark as u32);
    const CT_ZONE: Field = field!("", Form::Hex(16), ct_zone as u16);
    const CT_MARK: Field = field!("", Form::Hex(32), ct_mark as u32);
    const RECIRC_ID: Field = field!("", Form::Hex(32), recirc_id as u32);
    const DP_HASH: Field = field!("", Form::Hex(32), dp_hash as u32);
    const IN_PORT: Field = field!("", Form::Dec(32), in_port as u32);
    const ETHER_TYPE: Field = field!("", Form::Hex(16), dl_type as u16);
    Some(match attr {
        Attr::Priority => &PRIORITY,
        Attr::SkbMark => &SKB_MARK,
        Attr::CtZone => &CT_ZONE,
        Attr::CtMark => &CT_MARK,
        Attr::RecircId => &RECIRC_ID,
        Attr::DpHash => &DP_HASH,
        Attr::InPort => &IN_PORT,
        Attr::EtherType => &ETHER_TYPE,
        _ => return None,
    })
}

/// Every attribute with its name in the text.
pub(crate) const NAMES: &[(Attr, &str)] = &[
    (Attr::Priority, "skb_priority"),
    (Attr::Tunnel, "tunnel"),
    (Attr::SkbMark, "skb_mark"),
    (Attr::CtState, "ct_state"),
    (Attr::CtZone, "ct_zone"),
    (Attr::CtMark, "ct_mark"),
    (Attr::CtLabel, "ct_label"),
    (Attr::CtTuple4, "ct_tuple4"),
    (Attr::CtTuple6, "ct_tuple6"),
    (Attr::RecircId, "recirc_id"),
    (Attr::DpHash, "dp_hash"),
    (Attr::InPort, "in_port"),
    (Attr::PacketType, "packet_type"),
    (Attr::Ethernet, "eth"),
    (Attr::EtherType, "eth_type"),
    (Attr::Vlan, "vlan"),
    (Attr::Encap, "encap"),
    (Attr::Ipv4, "ipv4"),
    (Attr::Ipv6, "ipv6"),
    (Attr::Arp, "arp"),
    (Attr::Mpls, "mpls"),
    (Attr::Nsh, "nsh"),
    (Attr::Tcp, "tcp"),
    (Attr::TcpFlags, "tcp_flags"),
    (Attr::Udp, "udp"),
    (Attr::Sctp, "sctp"),
    (Attr::Icmp, "icmp"),
    (Attr::Icmpv6, "icmpv6"),
    (Attr::Nd, "nd"),
    (Attr::NdExt, "nd_ext"),
];

impl Attr {
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_of_the_enum() {
        for (i, (attr, name)) in NAMES.iter().enumerate() {
            assert_eq!((*attr as usize, attr.name()), (i, *name));
        }
    }

    #[test]
    fn accessors_read_what_they_wrote() {
        for (attr, _) in NAMES {
            for field in fields(*attr).iter().chain(single(*attr)) {
                let mut f = Flow::ZERO;
                let v = if field.form == Form::Frag { 2 } else { 0x55 };
                (field.set)(&mut f, v, Side::Key);
                assert_eq!((field.get)(&f, Side::Key), v, "{attr:?} {}", field.name);
                (field.set)(&mut f, 0, Side::Key);
                assert_eq!(f, Flow::ZERO);
            }
        }
    }
}
