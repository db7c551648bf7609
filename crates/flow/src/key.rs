//! The flow key: every field that a rule can match or an action can set, decoded to host byte order.
//!
//! One layout serves the datapath and the switch. The words come in the order in which a packet's
//! headers are looked at, so that a prefix of the words is what a staged lookup hashes, and everything
//! that only OpenFlow knows (registers, metadata) comes last, where the datapath need not touch it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A 128-bit field (IPv6 address, connection label, `xxreg`), most significant half first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct U128 {
    pub hi: u64,
    pub lo: u64,
}

impl From<u128> for U128 {
    fn from(v: u128) -> Self {
        U128 { hi: (v >> 64) as u64, lo: v as u64 }
    }
}

impl From<U128> for u128 {
    fn from(v: U128) -> Self {
        (u128::from(v.hi) << 64) | u128::from(v.lo)
    }
}

impl U128 {
    pub const ZERO: U128 = U128 { hi: 0, lo: 0 };
    pub const MAX: U128 = U128 { hi: u64::MAX, lo: u64::MAX };

    pub fn is_zero(self) -> bool {
        self.hi | self.lo == 0
    }
}

impl std::fmt::Debug for U128 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#034x}", u128::from(*self))
    }
}

/// An Ethernet address, or its mask.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EthAddr(pub [u8; 6]);

impl EthAddr {
    pub const ZERO: EthAddr = EthAddr([0; 6]);
    pub const BROADCAST: EthAddr = EthAddr([0xff; 6]);

    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
    pub fn to_u64(self) -> u64 {
        self.0.iter().fold(0, |v, b| (v << 8) | u64::from(*b))
    }
    /// The low 48 bits of `v`.
    pub fn from_u64(v: u64) -> Self {
        let b = v.to_be_bytes();
        EthAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl std::fmt::Display for EthAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let a = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", a[0], a[1], a[2], a[3], a[4], a[5])
    }
}

impl std::fmt::Debug for EthAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for EthAddr {
    type Err = ();
    /// Accepts six hexadecimal octets of one or two digits, separated by colons.
    fn from_str(s: &str) -> Result<Self, ()> {
        let mut out = [0; 6];
        let mut parts = s.split(':');
        for b in &mut out {
            let p = parts.next().filter(|p| (1..=2).contains(&p.len())).ok_or(())?;
            *b = u8::from_str_radix(p, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() { Err(()) } else { Ok(EthAddr(out)) }
    }
}

/// One VLAN tag. `tci` carries [`VLAN_CFI`] when the tag is present, so that an absent tag (all zero)
/// and a priority tag of VLAN 0 differ.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Vlan {
    pub tpid: u16,
    pub tci: u16,
}

impl Vlan {
    pub fn vid(self) -> u16 {
        self.tci & 0xfff
    }
    pub fn pcp(self) -> u8 {
        (self.tci >> 13) as u8
    }
    pub fn is_present(self) -> bool {
        self.tci & VLAN_CFI != 0
    }
}

/// Set in [`Vlan::tci`] of a tag that is present (the wire's drop-eligible bit reads as set).
pub const VLAN_CFI: u16 = 0x1000;
/// VLAN tags that the key holds; further ones are payload.
pub const VLANS_MAX: usize = 2;
/// MPLS label stack entries that the key holds.
pub const MPLS_LABELS_MAX: usize = 3;
/// 32-bit registers (`reg0`-`reg15`).
pub const REGS: usize = 16;
/// Bytes of tunnel option data in a key.
pub const TUN_METADATA_LEN: usize = 256;

/// `nw_frag`: set for any fragment.
pub const NW_FRAG_ANY: u8 = 1;
/// `nw_frag`: set for fragments other than the first.
pub const NW_FRAG_LATER: u8 = 2;

/// `Flow::packet_type` of an Ethernet frame: namespace 0 (`OFPHTN_ONF`), type 0.
pub const PT_ETH: u32 = 0;
/// `packet_type` of the namespace `OFPHTN_ETHERTYPE` with Ethernet type `ethertype`.
pub const fn packet_type_of_ethertype(ethertype: u16) -> u32 {
    0x1_0000 | ethertype as u32
}

/// All fields of a packet and of its context. Zero means "absent" throughout.
///
/// 84 words of 8 bytes, no padding that is not spelled out: a key is also `[u64; FLOW_WORDS]`
/// ([`Flow::words`]), which is what hashing, masking and comparing work on.
#[repr(C)]
#[derive(Clone, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Flow {
    // Stage 0: what the datapath knows before it looks at the packet.
    /// Datapath port in a datapath key, OpenFlow port in a switch key (numbered as [`crate::port`] says).
    pub in_port: u32,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    /// Namespace in the high 16 bits, type within it in the low 16.
    pub packet_type: u32,
    pub ct_state: u32,
    pub ct_mark: u32,
    pub ct_zone: u16,
    pub ct_tp_src: u16,
    pub ct_tp_dst: u16,
    pub ct_nw_proto: u8,
    pub pad_ct: u8,
    pub ct_label: U128,
    pub ct_nw_src: u32,
    pub ct_nw_dst: u32,
    pub ct_ipv6_src: U128,
    pub ct_ipv6_dst: U128,
    // Stage 1: link layer.
    pub dl_dst: EthAddr,
    pub dl_src: EthAddr,
    /// Ethernet type, or `0x05ff` for a frame without one (IEEE 802.2 length field).
    pub dl_type: u16,
    pub pad_dl: u16,
    /// Outermost tag first.
    pub vlans: [Vlan; VLANS_MAX],
    /// Whole label stack entries, outermost first.
    pub mpls_lse: [u32; MPLS_LABELS_MAX],
    pub pad_mpls: u32,
    // Stage 2: network layer.
    /// IPv4 source, or ARP sender protocol address.
    pub nw_src: u32,
    pub nw_dst: u32,
    /// IP protocol, or the low 8 bits of the ARP opcode.
    pub nw_proto: u8,
    pub nw_tos: u8,
    pub nw_ttl: u8,
    pub nw_frag: u8,
    pub ipv6_label: u32,
    pub ipv6_src: U128,
    pub ipv6_dst: U128,
    /// ARP sender, or IPv6 ND source link-layer address option.
    pub arp_sha: EthAddr,
    pub arp_tha: EthAddr,
    pub nd_reserved: u32,
    pub nd_target: U128,
    pub nsh: Nsh,
    // Stage 3: transport layer.
    /// Source port, or ICMP type.
    pub tp_src: u16,
    /// Destination port, or ICMP code.
    pub tp_dst: u16,
    pub tcp_flags: u16,
    pub nd_options_type: u8,
    pub pad_tp: u8,
    pub igmp_group_ip4: u32,
    pub pad_igmp: u32,
    // Tunnel (stage 0): the outer header that the packet was taken out of.
    pub tunnel: Tunnel,
    // OpenFlow only (stage 0): never in a datapath key.
    pub metadata: u64,
    pub regs: [u32; REGS],
    pub conj_id: u32,
    pub actset_output: u32,
}

/// Network Service Header (RFC 8300).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Nsh {
    pub flags: u8,
    pub ttl: u8,
    pub mdtype: u8,
    pub np: u8,
    /// Service path identifier (24 bits) and service index (8 bits).
    pub path_hdr: u32,
    pub context: [u32; 4],
}

/// The outer header of a packet received from, or to be sent to, a tunnel.
#[repr(C)]
#[derive(Clone, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tunnel {
    pub id: u64,
    pub src: u32,
    pub dst: u32,
    pub ipv6_src: U128,
    pub ipv6_dst: U128,
    /// [`tun_flags`] bits.
    pub flags: u16,
    pub tos: u8,
    pub ttl: u8,
    pub tp_src: u16,
    pub tp_dst: u16,
    pub gbp_id: u16,
    pub gbp_flags: u8,
    pub erspan_ver: u8,
    pub erspan_idx: u32,
    pub erspan_dir: u8,
    pub erspan_hwid: u8,
    pub gtpu_flags: u8,
    pub gtpu_msgtype: u8,
    pub pad: u32,
    /// In a switch key: bit `i` says that `tun_metadata<i>` is present. In a datapath key: the number of
    /// bytes of raw Geneve options in `metadata`.
    pub metadata_present: u64,
    pub metadata: [u8; TUN_METADATA_LEN],
}

/// Bits of [`Tunnel::flags`].
pub mod tun_flags {
    pub const OAM: u16 = 1 << 0;
    pub const DONT_FRAGMENT: u16 = 1 << 1;
    pub const CSUM: u16 = 1 << 2;
    pub const KEY: u16 = 1 << 3;
    /// `metadata` holds raw Geneve options (a datapath key).
    pub const UDPIF: u16 = 1 << 4;
}

impl Tunnel {
    pub fn is_ipv6(&self) -> bool {
        !self.ipv6_dst.is_zero()
    }
    /// Whether the packet came from, or goes to, a tunnel at all.
    pub fn is_set(&self) -> bool {
        self.dst != 0 || !self.ipv6_dst.is_zero()
    }
}

/// Bytes in a [`Flow`].
pub const FLOW_LEN: usize = size_of::<Flow>();
/// 64-bit words in a [`Flow`].
pub const FLOW_WORDS: usize = FLOW_LEN / 8;
const _: () = assert!(FLOW_LEN == 84 * 8 && align_of::<Flow>() == 8);

/// Word index of the first word of each part, in order of [`Flow`]'s layout.
pub mod word {
    use super::Flow;
    use std::mem::offset_of;
    pub const L2: usize = offset_of!(Flow, dl_dst) / 8;
    pub const L3: usize = offset_of!(Flow, nw_src) / 8;
    pub const L4: usize = offset_of!(Flow, tp_src) / 8;
    pub const TUNNEL: usize = offset_of!(Flow, tunnel) / 8;
    /// The first word that only OpenFlow knows.
    pub const OPENFLOW: usize = offset_of!(Flow, metadata) / 8;
}

impl Default for Flow {
    fn default() -> Self {
        Flow::ZERO
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Flow::ZERO.tunnel
    }
}

impl Flow {
    /// A key with every field absent.
    pub const ZERO: Flow = zerocopy::transmute!([0u64; FLOW_WORDS]);
    /// Every bit set: as a mask, an exact match on everything.
    pub const ONES: Flow = zerocopy::transmute!([u64::MAX; FLOW_WORDS]);

    pub fn words(&self) -> &[u64; FLOW_WORDS] {
        zerocopy::transmute_ref!(self)
    }

    pub fn words_mut(&mut self) -> &mut [u64; FLOW_WORDS] {
        zerocopy::transmute_mut!(self)
    }

    pub fn is_ip(&self) -> bool {
        matches!(self.dl_type, 0x0800 | 0x86dd)
    }

    /// `xreg<i>`: `reg<2i>` is the high half.
    pub fn xreg(&self, i: usize) -> u64 {
        (u64::from(self.regs[2 * i]) << 32) | u64::from(self.regs[2 * i + 1])
    }

    pub fn set_xreg(&mut self, i: usize, v: u64) {
        self.regs[2 * i] = (v >> 32) as u32;
        self.regs[2 * i + 1] = v as u32;
    }

    /// `xxreg<i>`: `reg<4i>` is the most significant quarter.
    pub fn xxreg(&self, i: usize) -> u128 {
        (u128::from(self.xreg(2 * i)) << 64) | u128::from(self.xreg(2 * i + 1))
    }

    pub fn set_xxreg(&mut self, i: usize, v: u128) {
        self.set_xreg(2 * i, (v >> 64) as u64);
        self.set_xreg(2 * i + 1, v as u64);
    }
}

/// Which bits of a [`Flow`] matter: a set bit is significant, a clear one wildcarded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mask(pub Flow);

impl std::ops::Deref for Mask {
    type Target = Flow;
    fn deref(&self) -> &Flow {
        &self.0
    }
}

impl std::ops::DerefMut for Mask {
    fn deref_mut(&mut self) -> &mut Flow {
        &mut self.0
    }
}

impl Mask {
    /// Nothing significant.
    pub const NONE: Mask = Mask(Flow::ZERO);
    /// Everything significant.
    pub const EXACT: Mask = Mask(Flow::ONES);

    /// Makes every bit significant that `other` has.
    pub fn union(&mut self, other: &Mask) {
        for (a, b) in self.0.words_mut().iter_mut().zip(other.0.words()) {
            *a |= b;
        }
    }

    /// Whether every bit of `self` is also in `other`.
    pub fn is_subset_of(&self, other: &Mask) -> bool {
        self.0.words().iter().zip(other.0.words()).all(|(a, b)| a & !b == 0)
    }

    pub fn is_none(&self) -> bool {
        self.0.words().iter().all(|w| *w == 0)
    }

    /// `flow` with the bits that do not matter cleared.
    pub fn apply(&self, flow: &Flow) -> Flow {
        let mut out = flow.clone();
        for (w, m) in out.words_mut().iter_mut().zip(self.0.words()) {
            *w &= m;
        }
        out
    }

    /// Whether `a` and `b` agree on every significant bit.
    pub fn matches(&self, a: &Flow, b: &Flow) -> bool {
        (0..FLOW_WORDS).all(|i| (a.words()[i] ^ b.words()[i]) & self.0.words()[i] == 0)
    }
}
