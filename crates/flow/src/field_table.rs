//! THE field table: names, widths, code points, prerequisites and places of all fields.
//!
//! Source: ovs-fields(7) of Open vSwitch 3.1; OpenFlow 1.5.1 section 7.2.3. To add a field, add its row.

use crate::field::{Bits, FieldInfo, Fixed, Format, Maskable, OxmId, Place, Prereq};
use crate::key::{Flow, Vlan};
use std::mem::offset_of;

const RW: bool = true;
const RO: bool = false;

const fn bits(ofs: usize, unit: u8, units: u8, mask: u128, shift: u8) -> Bits {
    Bits { ofs: ofs as u16, unit, units, mask, shift }
}

/// All of `units` integers of `unit` bytes.
const fn whole(ofs: usize, unit: u8, units: u8) -> Bits {
    bits(ofs, unit, units, u128::MAX >> (128 - 8 * unit as u32 * units as u32), 0)
}

const TCI: usize = offset_of!(Flow, vlans) + offset_of!(Vlan, tci);

/// A place in the key: a type and a path, `& mask >> shift` for a part of an integer.
macro_rules! place {
    (u8 $($path:tt).+) => { Place::Bits(whole(offset_of!(Flow, $($path).+), 1, 1)) };
    (u16 $($path:tt).+) => { Place::Bits(whole(offset_of!(Flow, $($path).+), 2, 1)) };
    (u32 $($path:tt).+) => { Place::Bits(whole(offset_of!(Flow, $($path).+), 4, 1)) };
    (u64 $($path:tt).+) => { Place::Bits(whole(offset_of!(Flow, $($path).+), 8, 1)) };
    (u128 $($path:tt).+) => { Place::Bits(whole(offset_of!(Flow, $($path).+), 8, 2)) };
    (mac $($path:tt).+) => { Place::Bits(whole(offset_of!(Flow, $($path).+), 1, 6)) };
    (u8 $($path:ident).+ & $mask:literal >> $shift:literal) => {
        Place::Bits(bits(offset_of!(Flow, $($path).+), 1, 1, $mask, $shift))
    };
    (u16 $($path:ident).+ & $mask:literal >> $shift:literal) => {
        Place::Bits(bits(offset_of!(Flow, $($path).+), 2, 1, $mask, $shift))
    };
    (u32 $($path:ident).+ & $mask:literal >> $shift:literal) => {
        Place::Bits(bits(offset_of!(Flow, $($path).+), 4, 1, $mask, $shift))
    };
    (port11 $path:ident) => { Place::Port11(whole(offset_of!(Flow, $path), 4, 1)) };
    (Tci $mask:literal >> $shift:literal) => { Place::Tci(bits(TCI, 2, 1, $mask, $shift)) };
    (Tag $mask:literal >> $shift:literal) => { Place::Tag(bits(TCI, 2, 1, $mask, $shift)) };
    (reg $i:literal times $n:literal) => { Place::Bits(whole(offset_of!(Flow, regs) + 4 * $i, 4, $n)) };
    (nsh_context $i:literal) => { Place::Bits(whole(offset_of!(Flow, nsh.context) + 4 * $i, 4, 1)) };
    (tlv $i:literal) => { Place::Tlv($i) };
}

/// The first OpenFlow version with a code point; NXM's, and other extensions', are in all.
macro_rules! since {
    () => {
        0
    };
    ($v:literal) => {
        $v
    };
}

macro_rules! fixed {
    () => {
        (Fixed::No, Fixed::No)
    };
    ($of10:ident $of11:ident) => {
        (Fixed::$of10, Fixed::$of11)
    };
}

macro_rules! fields {
    ($($var:ident $name:literal $(aka $alias:literal)?, $bytes:literal : $bits:literal $mask:ident
       $format:ident, $prereq:ident $rw:ident {$($place:tt)+}
       [$($oxm:ident($num:literal) $(since $since:literal)?),*] $(fixed $of10:ident $of11:ident)?;)*) => {
        /// A field that can be matched, set or copied, in OVS's order.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Field { $($var),* }

        pub(crate) const N_FIELDS: usize = [$(Field::$var),*].len();

        pub(crate) static FIELDS: [FieldInfo; N_FIELDS] = [$(FieldInfo {
            field: Field::$var,
            name: $name,
            alias: concat!($($alias)?),
            n_bytes: $bytes,
            n_bits: $bits,
            maskable: Maskable::$mask,
            format: Format::$format,
            prereq: Prereq::$prereq,
            writable: $rw,
            place: place!($($place)+),
            oxm: &[$(OxmId::new(stringify!($oxm), $num, since!($($since)?))),*],
            of10: fixed!($($of10 $of11)?).0,
            of11: fixed!($($of10 $of11)?).1,
        }),*];
    };
}

// One row a field: variant, name, second name; bytes:bits, masking, text; prerequisites, access, place;
// code points with the first OpenFlow version (wire number) that has them; what the fixed matches of
// OpenFlow 1.0 and 1.1 can say.
fields! {
    DpHash "dp_hash", 4:32 Bitwise Hex, None RO {u32 dp_hash} [NXOXM_ET_DP_HASH(0), NXM_NX_DP_HASH(35)];
    RecircId "recirc_id", 4:32 No Decimal, None RO {u32 recirc_id} [NXM_NX_RECIRC_ID(36)];
    PacketType "packet_type", 4:32 No PacketType, None RO {u32 packet_type} [OXM_OF_PACKET_TYPE(44) since 6];
    ConjId "conj_id", 4:32 No Decimal, None RO {u32 conj_id} [NXM_NX_CONJ_ID(37)];
    TunId "tun_id" aka "tunnel_id", 8:64 Bitwise Hex, None RW {u64 tunnel.id}
        [NXM_NX_TUN_ID(16), OXM_OF_TUNNEL_ID(38) since 4];
    TunSrc "tun_src", 4:32 Bitwise Ipv4, None RW {u32 tunnel.src} [NXM_NX_TUN_IPV4_SRC(31)];
    TunDst "tun_dst", 4:32 Bitwise Ipv4, None RW {u32 tunnel.dst} [NXM_NX_TUN_IPV4_DST(32)];
    TunIpv6Src "tun_ipv6_src", 16:128 Bitwise Ipv6, None RW {u128 tunnel.ipv6_src} [NXM_NX_TUN_IPV6_SRC(109)];
    TunIpv6Dst "tun_ipv6_dst", 16:128 Bitwise Ipv6, None RW {u128 tunnel.ipv6_dst} [NXM_NX_TUN_IPV6_DST(110)];
    TunFlags "tun_flags", 2:1 Bitwise TunFlags, None RW {u16 tunnel.flags & 0x0001 >> 0}
        [NXM_NX_TUN_FLAGS(104)];
    TunTtl "tun_ttl", 1:8 No Decimal, None RO {u8 tunnel.ttl} [];
    TunTos "tun_tos", 1:8 No Decimal, None RO {u8 tunnel.tos} [];
    TunGbpId "tun_gbp_id", 2:16 Bitwise Decimal, None RW {u16 tunnel.gbp_id} [NXM_NX_TUN_GBP_ID(38)];
    TunGbpFlags "tun_gbp_flags", 1:8 Bitwise Hex, None RW {u8 tunnel.gbp_flags} [NXM_NX_TUN_GBP_FLAGS(39)];
    TunErspanIdx "tun_erspan_idx", 4:20 Bitwise Hex, None RW {u32 tunnel.erspan_idx}
        [NXOXM_ET_ERSPAN_IDX(11)];
    TunErspanVer "tun_erspan_ver", 1:4 Bitwise Decimal, None RW {u8 tunnel.erspan_ver}
        [NXOXM_ET_ERSPAN_VER(12)];
    TunErspanDir "tun_erspan_dir", 1:1 Bitwise Decimal, None RW {u8 tunnel.erspan_dir}
        [NXOXM_ET_ERSPAN_DIR(13)];
    TunErspanHwid "tun_erspan_hwid", 1:6 Bitwise Hex, None RW {u8 tunnel.erspan_hwid}
        [NXOXM_ET_ERSPAN_HWID(14)];
    TunGtpuFlags "tun_gtpu_flags", 1:8 Bitwise Hex, None RO {u8 tunnel.gtpu_flags} [NXOXM_ET_GTPU_FLAGS(15)];
    TunGtpuMsgtype "tun_gtpu_msgtype", 1:8 Bitwise Decimal, None RO {u8 tunnel.gtpu_msgtype}
        [NXOXM_ET_GTPU_MSGTYPE(16)];
    TunMetadata0 "tun_metadata0", 124:992 Bitwise Hex, None RW {tlv 0} [NXM_NX_TUN_METADATA0(40)];
    TunMetadata1 "tun_metadata1", 124:992 Bitwise Hex, None RW {tlv 1} [NXM_NX_TUN_METADATA1(41)];
    TunMetadata2 "tun_metadata2", 124:992 Bitwise Hex, None RW {tlv 2} [NXM_NX_TUN_METADATA2(42)];
    TunMetadata3 "tun_metadata3", 124:992 Bitwise Hex, None RW {tlv 3} [NXM_NX_TUN_METADATA3(43)];
    TunMetadata4 "tun_metadata4", 124:992 Bitwise Hex, None RW {tlv 4} [NXM_NX_TUN_METADATA4(44)];
    TunMetadata5 "tun_metadata5", 124:992 Bitwise Hex, None RW {tlv 5} [NXM_NX_TUN_METADATA5(45)];
    TunMetadata6 "tun_metadata6", 124:992 Bitwise Hex, None RW {tlv 6} [NXM_NX_TUN_METADATA6(46)];
    TunMetadata7 "tun_metadata7", 124:992 Bitwise Hex, None RW {tlv 7} [NXM_NX_TUN_METADATA7(47)];
    TunMetadata8 "tun_metadata8", 124:992 Bitwise Hex, None RW {tlv 8} [NXM_NX_TUN_METADATA8(48)];
    TunMetadata9 "tun_metadata9", 124:992 Bitwise Hex, None RW {tlv 9} [NXM_NX_TUN_METADATA9(49)];
    TunMetadata10 "tun_metadata10", 124:992 Bitwise Hex, None RW {tlv 10} [NXM_NX_TUN_METADATA10(50)];
    TunMetadata11 "tun_metadata11", 124:992 Bitwise Hex, None RW {tlv 11} [NXM_NX_TUN_METADATA11(51)];
    TunMetadata12 "tun_metadata12", 124:992 Bitwise Hex, None RW {tlv 12} [NXM_NX_TUN_METADATA12(52)];
    TunMetadata13 "tun_metadata13", 124:992 Bitwise Hex, None RW {tlv 13} [NXM_NX_TUN_METADATA13(53)];
    TunMetadata14 "tun_metadata14", 124:992 Bitwise Hex, None RW {tlv 14} [NXM_NX_TUN_METADATA14(54)];
    TunMetadata15 "tun_metadata15", 124:992 Bitwise Hex, None RW {tlv 15} [NXM_NX_TUN_METADATA15(55)];
    TunMetadata16 "tun_metadata16", 124:992 Bitwise Hex, None RW {tlv 16} [NXM_NX_TUN_METADATA16(56)];
    TunMetadata17 "tun_metadata17", 124:992 Bitwise Hex, None RW {tlv 17} [NXM_NX_TUN_METADATA17(57)];
    TunMetadata18 "tun_metadata18", 124:992 Bitwise Hex, None RW {tlv 18} [NXM_NX_TUN_METADATA18(58)];
    TunMetadata19 "tun_metadata19", 124:992 Bitwise Hex, None RW {tlv 19} [NXM_NX_TUN_METADATA19(59)];
    TunMetadata20 "tun_metadata20", 124:992 Bitwise Hex, None RW {tlv 20} [NXM_NX_TUN_METADATA20(60)];
    TunMetadata21 "tun_metadata21", 124:992 Bitwise Hex, None RW {tlv 21} [NXM_NX_TUN_METADATA21(61)];
    TunMetadata22 "tun_metadata22", 124:992 Bitwise Hex, None RW {tlv 22} [NXM_NX_TUN_METADATA22(62)];
    TunMetadata23 "tun_metadata23", 124:992 Bitwise Hex, None RW {tlv 23} [NXM_NX_TUN_METADATA23(63)];
    TunMetadata24 "tun_metadata24", 124:992 Bitwise Hex, None RW {tlv 24} [NXM_NX_TUN_METADATA24(64)];
    TunMetadata25 "tun_metadata25", 124:992 Bitwise Hex, None RW {tlv 25} [NXM_NX_TUN_METADATA25(65)];
    TunMetadata26 "tun_metadata26", 124:992 Bitwise Hex, None RW {tlv 26} [NXM_NX_TUN_METADATA26(66)];
    TunMetadata27 "tun_metadata27", 124:992 Bitwise Hex, None RW {tlv 27} [NXM_NX_TUN_METADATA27(67)];
    TunMetadata28 "tun_metadata28", 124:992 Bitwise Hex, None RW {tlv 28} [NXM_NX_TUN_METADATA28(68)];
    TunMetadata29 "tun_metadata29", 124:992 Bitwise Hex, None RW {tlv 29} [NXM_NX_TUN_METADATA29(69)];
    TunMetadata30 "tun_metadata30", 124:992 Bitwise Hex, None RW {tlv 30} [NXM_NX_TUN_METADATA30(70)];
    TunMetadata31 "tun_metadata31", 124:992 Bitwise Hex, None RW {tlv 31} [NXM_NX_TUN_METADATA31(71)];
    TunMetadata32 "tun_metadata32", 124:992 Bitwise Hex, None RW {tlv 32} [NXM_NX_TUN_METADATA32(72)];
    TunMetadata33 "tun_metadata33", 124:992 Bitwise Hex, None RW {tlv 33} [NXM_NX_TUN_METADATA33(73)];
    TunMetadata34 "tun_metadata34", 124:992 Bitwise Hex, None RW {tlv 34} [NXM_NX_TUN_METADATA34(74)];
    TunMetadata35 "tun_metadata35", 124:992 Bitwise Hex, None RW {tlv 35} [NXM_NX_TUN_METADATA35(75)];
    TunMetadata36 "tun_metadata36", 124:992 Bitwise Hex, None RW {tlv 36} [NXM_NX_TUN_METADATA36(76)];
    TunMetadata37 "tun_metadata37", 124:992 Bitwise Hex, None RW {tlv 37} [NXM_NX_TUN_METADATA37(77)];
    TunMetadata38 "tun_metadata38", 124:992 Bitwise Hex, None RW {tlv 38} [NXM_NX_TUN_METADATA38(78)];
    TunMetadata39 "tun_metadata39", 124:992 Bitwise Hex, None RW {tlv 39} [NXM_NX_TUN_METADATA39(79)];
    TunMetadata40 "tun_metadata40", 124:992 Bitwise Hex, None RW {tlv 40} [NXM_NX_TUN_METADATA40(80)];
    TunMetadata41 "tun_metadata41", 124:992 Bitwise Hex, None RW {tlv 41} [NXM_NX_TUN_METADATA41(81)];
    TunMetadata42 "tun_metadata42", 124:992 Bitwise Hex, None RW {tlv 42} [NXM_NX_TUN_METADATA42(82)];
    TunMetadata43 "tun_metadata43", 124:992 Bitwise Hex, None RW {tlv 43} [NXM_NX_TUN_METADATA43(83)];
    TunMetadata44 "tun_metadata44", 124:992 Bitwise Hex, None RW {tlv 44} [NXM_NX_TUN_METADATA44(84)];
    TunMetadata45 "tun_metadata45", 124:992 Bitwise Hex, None RW {tlv 45} [NXM_NX_TUN_METADATA45(85)];
    TunMetadata46 "tun_metadata46", 124:992 Bitwise Hex, None RW {tlv 46} [NXM_NX_TUN_METADATA46(86)];
    TunMetadata47 "tun_metadata47", 124:992 Bitwise Hex, None RW {tlv 47} [NXM_NX_TUN_METADATA47(87)];
    TunMetadata48 "tun_metadata48", 124:992 Bitwise Hex, None RW {tlv 48} [NXM_NX_TUN_METADATA48(88)];
    TunMetadata49 "tun_metadata49", 124:992 Bitwise Hex, None RW {tlv 49} [NXM_NX_TUN_METADATA49(89)];
    TunMetadata50 "tun_metadata50", 124:992 Bitwise Hex, None RW {tlv 50} [NXM_NX_TUN_METADATA50(90)];
    TunMetadata51 "tun_metadata51", 124:992 Bitwise Hex, None RW {tlv 51} [NXM_NX_TUN_METADATA51(91)];
    TunMetadata52 "tun_metadata52", 124:992 Bitwise Hex, None RW {tlv 52} [NXM_NX_TUN_METADATA52(92)];
    TunMetadata53 "tun_metadata53", 124:992 Bitwise Hex, None RW {tlv 53} [NXM_NX_TUN_METADATA53(93)];
    TunMetadata54 "tun_metadata54", 124:992 Bitwise Hex, None RW {tlv 54} [NXM_NX_TUN_METADATA54(94)];
    TunMetadata55 "tun_metadata55", 124:992 Bitwise Hex, None RW {tlv 55} [NXM_NX_TUN_METADATA55(95)];
    TunMetadata56 "tun_metadata56", 124:992 Bitwise Hex, None RW {tlv 56} [NXM_NX_TUN_METADATA56(96)];
    TunMetadata57 "tun_metadata57", 124:992 Bitwise Hex, None RW {tlv 57} [NXM_NX_TUN_METADATA57(97)];
    TunMetadata58 "tun_metadata58", 124:992 Bitwise Hex, None RW {tlv 58} [NXM_NX_TUN_METADATA58(98)];
    TunMetadata59 "tun_metadata59", 124:992 Bitwise Hex, None RW {tlv 59} [NXM_NX_TUN_METADATA59(99)];
    TunMetadata60 "tun_metadata60", 124:992 Bitwise Hex, None RW {tlv 60} [NXM_NX_TUN_METADATA60(100)];
    TunMetadata61 "tun_metadata61", 124:992 Bitwise Hex, None RW {tlv 61} [NXM_NX_TUN_METADATA61(101)];
    TunMetadata62 "tun_metadata62", 124:992 Bitwise Hex, None RW {tlv 62} [NXM_NX_TUN_METADATA62(102)];
    TunMetadata63 "tun_metadata63", 124:992 Bitwise Hex, None RW {tlv 63} [NXM_NX_TUN_METADATA63(103)];
    Metadata "metadata", 8:64 Bitwise Hex, None RW {u64 metadata}
        [OXM_OF_METADATA(2) since 3] fixed No Bitwise;
    InPort "in_port", 2:16 No Port, None RW {u32 in_port} [NXM_OF_IN_PORT(0)] fixed Exact Exact;
    InPortOxm "in_port_oxm", 4:32 No PortOxm, None RW {port11 in_port}
        [OXM_OF_IN_PORT(0) since 3] fixed No Exact;
    ActsetOutput "actset_output", 4:32 No PortOxm, None RO {port11 actset_output}
        [ONFOXM_ET_ACTSET_OUTPUT(43) since 4, OXM_OF_ACTSET_OUTPUT(43) since 6];
    SkbPriority "skb_priority", 4:32 No Hex, None RO {u32 skb_priority} [];
    PktMark "pkt_mark", 4:32 Bitwise Hex, None RW {u32 pkt_mark} [NXM_NX_PKT_MARK(33)];
    CtState "ct_state", 4:32 Bitwise CtState, None RO {u32 ct_state & 0xff >> 0} [NXM_NX_CT_STATE(105)];
    CtZone "ct_zone", 2:16 No Hex, None RO {u16 ct_zone} [NXM_NX_CT_ZONE(106)];
    CtMark "ct_mark", 4:32 Bitwise Hex, None RW {u32 ct_mark} [NXM_NX_CT_MARK(107)];
    CtLabel "ct_label", 16:128 Bitwise Hex, None RW {u128 ct_label} [NXM_NX_CT_LABEL(108)];
    CtNwProto "ct_nw_proto", 1:8 No Decimal, CtValid RO {u8 ct_nw_proto} [NXM_NX_CT_NW_PROTO(119)];
    CtNwSrc "ct_nw_src", 4:32 Bitwise Ipv4, CtValid RO {u32 ct_nw_src} [NXM_NX_CT_NW_SRC(120)];
    CtNwDst "ct_nw_dst", 4:32 Bitwise Ipv4, CtValid RO {u32 ct_nw_dst} [NXM_NX_CT_NW_DST(121)];
    CtIpv6Src "ct_ipv6_src", 16:128 Bitwise Ipv6, CtValid RO {u128 ct_ipv6_src} [NXM_NX_CT_IPV6_SRC(122)];
    CtIpv6Dst "ct_ipv6_dst", 16:128 Bitwise Ipv6, CtValid RO {u128 ct_ipv6_dst} [NXM_NX_CT_IPV6_DST(123)];
    CtTpSrc "ct_tp_src", 2:16 Bitwise Decimal, CtValid RO {u16 ct_tp_src} [NXM_NX_CT_TP_SRC(124)];
    CtTpDst "ct_tp_dst", 2:16 Bitwise Decimal, CtValid RO {u16 ct_tp_dst} [NXM_NX_CT_TP_DST(125)];
    Reg0 "reg0", 4:32 Bitwise Hex, None RW {reg 0 times 1} [NXM_NX_REG0(0)];
    Reg1 "reg1", 4:32 Bitwise Hex, None RW {reg 1 times 1} [NXM_NX_REG1(1)];
    Reg2 "reg2", 4:32 Bitwise Hex, None RW {reg 2 times 1} [NXM_NX_REG2(2)];
    Reg3 "reg3", 4:32 Bitwise Hex, None RW {reg 3 times 1} [NXM_NX_REG3(3)];
    Reg4 "reg4", 4:32 Bitwise Hex, None RW {reg 4 times 1} [NXM_NX_REG4(4)];
    Reg5 "reg5", 4:32 Bitwise Hex, None RW {reg 5 times 1} [NXM_NX_REG5(5)];
    Reg6 "reg6", 4:32 Bitwise Hex, None RW {reg 6 times 1} [NXM_NX_REG6(6)];
    Reg7 "reg7", 4:32 Bitwise Hex, None RW {reg 7 times 1} [NXM_NX_REG7(7)];
    Reg8 "reg8", 4:32 Bitwise Hex, None RW {reg 8 times 1} [NXM_NX_REG8(8)];
    Reg9 "reg9", 4:32 Bitwise Hex, None RW {reg 9 times 1} [NXM_NX_REG9(9)];
    Reg10 "reg10", 4:32 Bitwise Hex, None RW {reg 10 times 1} [NXM_NX_REG10(10)];
    Reg11 "reg11", 4:32 Bitwise Hex, None RW {reg 11 times 1} [NXM_NX_REG11(11)];
    Reg12 "reg12", 4:32 Bitwise Hex, None RW {reg 12 times 1} [NXM_NX_REG12(12)];
    Reg13 "reg13", 4:32 Bitwise Hex, None RW {reg 13 times 1} [NXM_NX_REG13(13)];
    Reg14 "reg14", 4:32 Bitwise Hex, None RW {reg 14 times 1} [NXM_NX_REG14(14)];
    Reg15 "reg15", 4:32 Bitwise Hex, None RW {reg 15 times 1} [NXM_NX_REG15(15)];
    Xreg0 "xreg0", 8:64 Bitwise Hex, None RW {reg 0 times 2} [OXM_OF_PKT_REG0(0) since 4];
    Xreg1 "xreg1", 8:64 Bitwise Hex, None RW {reg 2 times 2} [OXM_OF_PKT_REG1(1) since 4];
    Xreg2 "xreg2", 8:64 Bitwise Hex, None RW {reg 4 times 2} [OXM_OF_PKT_REG2(2) since 4];
    Xreg3 "xreg3", 8:64 Bitwise Hex, None RW {reg 6 times 2} [OXM_OF_PKT_REG3(3) since 4];
    Xreg4 "xreg4", 8:64 Bitwise Hex, None RW {reg 8 times 2} [OXM_OF_PKT_REG4(4) since 4];
    Xreg5 "xreg5", 8:64 Bitwise Hex, None RW {reg 10 times 2} [OXM_OF_PKT_REG5(5) since 4];
    Xreg6 "xreg6", 8:64 Bitwise Hex, None RW {reg 12 times 2} [OXM_OF_PKT_REG6(6) since 4];
    Xreg7 "xreg7", 8:64 Bitwise Hex, None RW {reg 14 times 2} [OXM_OF_PKT_REG7(7) since 4];
    Xxreg0 "xxreg0", 16:128 Bitwise Hex, None RW {reg 0 times 4} [NXM_NX_XXREG0(111)];
    Xxreg1 "xxreg1", 16:128 Bitwise Hex, None RW {reg 4 times 4} [NXM_NX_XXREG1(112)];
    Xxreg2 "xxreg2", 16:128 Bitwise Hex, None RW {reg 8 times 4} [NXM_NX_XXREG2(113)];
    Xxreg3 "xxreg3", 16:128 Bitwise Hex, None RW {reg 12 times 4} [NXM_NX_XXREG3(114)];
    EthSrc "eth_src" aka "dl_src", 6:48 Bitwise Ethernet, Ethernet RW {mac dl_src}
        [NXM_OF_ETH_SRC(2), OXM_OF_ETH_SRC(4) since 3] fixed Exact Bitwise;
    EthDst "eth_dst" aka "dl_dst", 6:48 Bitwise Ethernet, Ethernet RW {mac dl_dst}
        [NXM_OF_ETH_DST(1), OXM_OF_ETH_DST(3) since 3] fixed Exact Bitwise;
    EthType "eth_type" aka "dl_type", 2:16 No Hex, Ethernet RO {u16 dl_type}
        [NXM_OF_ETH_TYPE(3), OXM_OF_ETH_TYPE(5) since 3] fixed Exact Exact;
    VlanTci "vlan_tci", 2:16 Bitwise Hex, Ethernet RW {Tci 0xffff >> 0}
        [NXM_OF_VLAN_TCI(4)] fixed Exact Exact;
    DlVlan "dl_vlan", 2:12 No Decimal, Ethernet RW {Tag 0x0fff >> 0} [] fixed Exact Exact;
    VlanVid "vlan_vid", 2:12 Bitwise Decimal, Ethernet RW {Tci 0x1fff >> 0}
        [OXM_OF_VLAN_VID(6) since 3] fixed Exact Exact;
    DlVlanPcp "dl_vlan_pcp", 1:3 No Decimal, Ethernet RW {Tag 0xe000 >> 13} [] fixed Exact Exact;
    VlanPcp "vlan_pcp", 1:3 No Decimal, VlanVid RW {Tag 0xe000 >> 13}
        [OXM_OF_VLAN_PCP(7) since 3] fixed Exact Exact;
    MplsLabel "mpls_label", 4:20 No Decimal, Mpls RW {u32 mpls_lse & 0xffff_f000 >> 12}
        [OXM_OF_MPLS_LABEL(34) since 3] fixed No Exact;
    MplsTc "mpls_tc", 1:3 No Decimal, Mpls RW {u32 mpls_lse & 0xe00 >> 9}
        [OXM_OF_MPLS_TC(35) since 3] fixed No Exact;
    MplsBos "mpls_bos", 1:1 No Decimal, Mpls RO {u32 mpls_lse & 0x100 >> 8} [OXM_OF_MPLS_BOS(36) since 4];
    MplsTtl "mpls_ttl", 1:8 No Decimal, Mpls RW {u32 mpls_lse & 0xff >> 0} [NXM_NX_MPLS_TTL(30)];
    Ipv4Src "ip_src" aka "nw_src", 4:32 Bitwise Ipv4, Ipv4 RW {u32 nw_src}
        [NXM_OF_IP_SRC(7), OXM_OF_IPV4_SRC(11) since 3] fixed Cidr Bitwise;
    Ipv4Dst "ip_dst" aka "nw_dst", 4:32 Bitwise Ipv4, Ipv4 RW {u32 nw_dst}
        [NXM_OF_IP_DST(8), OXM_OF_IPV4_DST(12) since 3] fixed Cidr Bitwise;
    Ipv6Src "ipv6_src", 16:128 Bitwise Ipv6, Ipv6 RW {u128 ipv6_src}
        [NXM_NX_IPV6_SRC(19), OXM_OF_IPV6_SRC(26) since 3];
    Ipv6Dst "ipv6_dst", 16:128 Bitwise Ipv6, Ipv6 RW {u128 ipv6_dst}
        [NXM_NX_IPV6_DST(20), OXM_OF_IPV6_DST(27) since 3];
    Ipv6Label "ipv6_label", 4:20 Bitwise Hex, Ipv6 RW {u32 ipv6_label}
        [NXM_NX_IPV6_LABEL(27), OXM_OF_IPV6_FLABEL(28) since 3];
    IpProto "nw_proto" aka "ip_proto", 1:8 No Decimal, IpAny RO {u8 nw_proto}
        [NXM_OF_IP_PROTO(6), OXM_OF_IP_PROTO(10) since 3] fixed Exact Exact;
    IpDscp "nw_tos", 1:8 No Decimal, IpAny RW {u8 nw_tos & 0xfc >> 0} [NXM_OF_IP_TOS(5)] fixed Exact Exact;
    IpDscpShifted "ip_dscp", 1:6 No Decimal, IpAny RW {u8 nw_tos & 0xfc >> 2}
        [OXM_OF_IP_DSCP(8) since 3] fixed Exact Exact;
    IpEcn "nw_ecn" aka "ip_ecn", 1:2 No Decimal, IpAny RW {u8 nw_tos & 0x03 >> 0}
        [NXM_NX_IP_ECN(28), OXM_OF_IP_ECN(9) since 3] fixed No Exact;
    IpTtl "nw_ttl", 1:8 No Decimal, IpAny RW {u8 nw_ttl} [NXM_NX_IP_TTL(29)];
    IpFrag "ip_frag" aka "nw_frag", 1:2 Bitwise Frag, IpAny RO {u8 nw_frag & 0x03 >> 0} [NXM_NX_IP_FRAG(26)];
    ArpOp "arp_op", 2:16 No Decimal, Arp RW {u8 nw_proto}
        [NXM_OF_ARP_OP(15), OXM_OF_ARP_OP(21) since 3] fixed Exact Exact;
    ArpSpa "arp_spa", 4:32 Bitwise Ipv4, Arp RW {u32 nw_src}
        [NXM_OF_ARP_SPA(16), OXM_OF_ARP_SPA(22) since 3] fixed Cidr Bitwise;
    ArpTpa "arp_tpa", 4:32 Bitwise Ipv4, Arp RW {u32 nw_dst}
        [NXM_OF_ARP_TPA(17), OXM_OF_ARP_TPA(23) since 3] fixed Cidr Bitwise;
    ArpSha "arp_sha", 6:48 Bitwise Ethernet, Arp RW {mac arp_sha}
        [NXM_NX_ARP_SHA(17), OXM_OF_ARP_SHA(24) since 3];
    ArpTha "arp_tha", 6:48 Bitwise Ethernet, Arp RW {mac arp_tha}
        [NXM_NX_ARP_THA(18), OXM_OF_ARP_THA(25) since 3];
    TcpSrc "tcp_src" aka "tp_src", 2:16 Bitwise Decimal, Tcp RW {u16 tp_src}
        [NXM_OF_TCP_SRC(9), OXM_OF_TCP_SRC(13) since 3] fixed Exact Exact;
    TcpDst "tcp_dst" aka "tp_dst", 2:16 Bitwise Decimal, Tcp RW {u16 tp_dst}
        [NXM_OF_TCP_DST(10), OXM_OF_TCP_DST(14) since 3] fixed Exact Exact;
    TcpFlags "tcp_flags", 2:12 Bitwise TcpFlags, Tcp RO {u16 tcp_flags}
        [NXM_NX_TCP_FLAGS(34), ONFOXM_ET_TCP_FLAGS(42) since 4, OXM_OF_TCP_FLAGS(42) since 6];
    UdpSrc "udp_src", 2:16 Bitwise Decimal, Udp RW {u16 tp_src}
        [NXM_OF_UDP_SRC(11), OXM_OF_UDP_SRC(15) since 3] fixed Exact Exact;
    UdpDst "udp_dst", 2:16 Bitwise Decimal, Udp RW {u16 tp_dst}
        [NXM_OF_UDP_DST(12), OXM_OF_UDP_DST(16) since 3] fixed Exact Exact;
    SctpSrc "sctp_src", 2:16 Bitwise Decimal, Sctp RW {u16 tp_src}
        [OXM_OF_SCTP_SRC(17) since 3] fixed No Exact;
    SctpDst "sctp_dst", 2:16 Bitwise Decimal, Sctp RW {u16 tp_dst}
        [OXM_OF_SCTP_DST(18) since 3] fixed No Exact;
    Icmpv4Type "icmp_type", 1:8 No Decimal, Icmpv4 RW {u16 tp_src}
        [NXM_OF_ICMP_TYPE(13), OXM_OF_ICMPV4_TYPE(19) since 3] fixed Exact Exact;
    Icmpv4Code "icmp_code", 1:8 No Decimal, Icmpv4 RW {u16 tp_dst}
        [NXM_OF_ICMP_CODE(14), OXM_OF_ICMPV4_CODE(20) since 3] fixed Exact Exact;
    Icmpv6Type "icmpv6_type", 1:8 No Decimal, Icmpv6 RW {u16 tp_src}
        [NXM_NX_ICMPV6_TYPE(21), OXM_OF_ICMPV6_TYPE(29) since 3];
    Icmpv6Code "icmpv6_code", 1:8 No Decimal, Icmpv6 RW {u16 tp_dst}
        [NXM_NX_ICMPV6_CODE(22), OXM_OF_ICMPV6_CODE(30) since 3];
    NdTarget "nd_target", 16:128 Bitwise Ipv6, Nd RW {u128 nd_target}
        [NXM_NX_ND_TARGET(23), OXM_OF_IPV6_ND_TARGET(31) since 3];
    NdSll "nd_sll", 6:48 Bitwise Ethernet, NdSolicit RW {mac arp_sha}
        [NXM_NX_ND_SLL(24), OXM_OF_IPV6_ND_SLL(32) since 3];
    NdTll "nd_tll", 6:48 Bitwise Ethernet, NdAdvert RW {mac arp_tha}
        [NXM_NX_ND_TLL(25), OXM_OF_IPV6_ND_TLL(33) since 3];
    NdReserved "nd_reserved", 4:32 No Decimal, Nd RW {u32 nd_reserved} [ERICOXM_OF_ICMPV6_ND_RESERVED(1)];
    NdOptionsType "nd_options_type", 1:8 No Decimal, Nd RW {u8 nd_options_type}
        [ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE(2)];
    NshFlags "nsh_flags", 1:8 Bitwise Decimal, Nsh RW {u8 nsh.flags} [NXOXM_NSH_FLAGS(1)];
    NshMdtype "nsh_mdtype", 1:8 No Decimal, Nsh RO {u8 nsh.mdtype} [NXOXM_NSH_MDTYPE(2)];
    NshNp "nsh_np", 1:8 No Decimal, Nsh RO {u8 nsh.np} [NXOXM_NSH_NP(3)];
    NshSpi "nsh_spi" aka "nsp", 4:24 No Hex, Nsh RW {u32 nsh.path_hdr & 0xffff_ff00 >> 8} [NXOXM_NSH_SPI(4)];
    NshSi "nsh_si" aka "nsi", 1:8 No Decimal, Nsh RW {u32 nsh.path_hdr & 0xff >> 0} [NXOXM_NSH_SI(5)];
    NshC1 "nsh_c1" aka "nshc1", 4:32 Bitwise Hex, Nsh RW {nsh_context 0} [NXOXM_NSH_C1(6)];
    NshC2 "nsh_c2" aka "nshc2", 4:32 Bitwise Hex, Nsh RW {nsh_context 1} [NXOXM_NSH_C2(7)];
    NshC3 "nsh_c3" aka "nshc3", 4:32 Bitwise Hex, Nsh RW {nsh_context 2} [NXOXM_NSH_C3(8)];
    NshC4 "nsh_c4" aka "nshc4", 4:32 Bitwise Hex, Nsh RW {nsh_context 3} [NXOXM_NSH_C4(9)];
    NshTtl "nsh_ttl", 1:8 No Decimal, Nsh RW {u8 nsh.ttl} [NXOXM_NSH_TTL(10)];
}
