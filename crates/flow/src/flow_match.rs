//! A match: which packets a rule is for.

use crate::field::{Field, Prereq, Protocols};
use crate::key::*;
use crate::prereq::{eth_type, ip_proto};
use crate::tlv::TlvTable;
use crate::value::Value;

const VID: u16 = 0xfff;
const PCP: u16 = 0xe000;
const ND_SOLICIT: u16 = 135;
const ND_ADVERT: u16 = 136;

/// Where a match that was made without a bridge's [`TlvTable`] keeps its `tun_metadata<i>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlvAlloc {
    pub table: TlvTable,
    /// Bit `i`: `tun_metadata<i>` was given with a mask.
    pub masked: u64,
    used: usize,
}

/// Values and the bits of them that matter; the other bits of `flow` are zero.
#[derive(Clone, Default)]
pub struct Match {
    pub flow: Flow,
    pub mask: Mask,
    pub tlv: Option<Box<TlvAlloc>>,
}

impl PartialEq for Match {
    fn eq(&self, other: &Match) -> bool {
        self.flow == other.flow && self.mask == other.mask
    }
}

impl Eq for Match {}

impl std::fmt::Debug for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Match({self})")
    }
}

impl Match {
    /// Matches every packet.
    pub fn catchall() -> Match {
        Match::default()
    }

    /// Matches packets that agree with `flow` where `mask` says so.
    pub fn new(flow: &Flow, mask: Mask) -> Match {
        Match { flow: mask.apply(flow), mask, tlv: None }
    }

    pub fn is_catchall(&self) -> bool {
        self.mask.is_none()
    }

    pub fn matches(&self, flow: &Flow) -> bool {
        self.mask.matches(&self.flow, flow)
    }

    /// Clears the bits of `flow` that do not matter: to be called after `mask` was changed by hand.
    pub fn zero_wildcarded(&mut self) {
        self.flow = self.mask.apply(&self.flow);
    }

    /// The table that tells where `tun_metadata<i>` are: the match's own, or else `tlv`.
    pub fn tlv_table<'a>(&'a self, tlv: Option<&'a TlvTable>) -> &'a TlvTable {
        const EMPTY: &TlvTable = &TlvTable::EMPTY;
        self.tlv.as_ref().map(|a| &a.table).or(tlv).unwrap_or(EMPTY)
    }

    /// Matches `value` exactly; a value of another length than the field's counts as a number.
    /// `tun_metadata<i>` needs [`Match::set_field`].
    pub fn set(&mut self, field: Field, value: impl Into<Value>) {
        if field.tlv_index().is_none() {
            self.set_exact(field, &value.into());
        }
    }

    /// As [`Match::set`], for chains.
    pub fn with(mut self, field: Field, value: impl Into<Value>) -> Match {
        self.set(field, value);
        self
    }

    /// Matches those bits of `value` that `mask` has, and no other bit of the field.
    pub fn set_masked(&mut self, field: Field, value: impl Into<Value>, mask: impl Into<Value>) {
        if field.tlv_index().is_none() {
            let n = field.n_bytes();
            self.set_bits(field, &value.into().resized(n), &mask.into().resized(n));
        }
    }

    pub fn set_in_port(&mut self, port: u16) {
        self.set(Field::InPort, port);
    }

    pub fn set_dl_type(&mut self, dl_type: u16) {
        self.set(Field::EthType, dl_type);
    }

    pub fn set_reg(&mut self, i: usize, value: u32) {
        if let Some(f) = Field::reg(i) {
            self.set(f, value);
        }
    }

    /// Makes the match one for Ethernet frames if it does not look at the packet type yet.
    pub fn set_default_packet_type(&mut self) {
        if self.mask.packet_type == 0 {
            self.mask.packet_type = u32::MAX;
            self.flow.packet_type = PT_ETH;
        }
    }

    pub fn has_default_packet_type(&self) -> bool {
        self.flow.packet_type == PT_ETH && self.mask.packet_type == u32::MAX
    }

    /// OpenFlow 1.5: a match on a field that only Ethernet frames have implies that packet type.
    pub fn add_ethernet_prereq(&mut self, field: Field) {
        if field.info().prereq != Prereq::None {
            self.set_default_packet_type();
        }
    }

    /// Matches `field` against `value`, in the bits of `mask` (all without one). `tun_metadata<i>` lies
    /// where `tlv` has it, and is passed over if it has not; without `tlv` the match finds room itself.
    ///
    /// Returns the protocols that can express it, or an error in words: the options do not fit, or one
    /// comes twice.
    pub fn set_field(
        &mut self,
        field: Field,
        value: &Value,
        mask: Option<&Value>,
        tlv: Option<&TlvTable>,
    ) -> Result<Protocols, String> {
        if let Some(i) = field.tlv_index() {
            return self.set_tlv(field, i, value, mask, tlv);
        }
        let n = field.n_bytes();
        let mask = mask.map_or(Value::ones(n), |m| m.resized(n));
        self.set_bits(field, &value.resized(n), &mask);
        Ok(if field.is_exact_mask(&mask) {
            field.protocols_exact()
        } else if mask.is_zero() {
            Protocols::ANY
        } else if field.protocols_bitwise() == field.protocols_cidr() || is_cidr(&mask) {
            field.protocols_cidr()
        } else {
            field.protocols_bitwise()
        })
    }

    fn set_bits(&mut self, field: Field, value: &Value, mask: &Value) {
        if field.is_exact_mask(mask) {
            self.set_exact(field, value);
        } else if mask.is_zero() {
            self.set_wild(field);
        } else if field.is_mask_valid(mask) {
            field.set(&mut self.flow, &value.and(mask));
            field.set_mask(&mut self.mask, mask);
            self.drop_tpid();
        }
    }

    fn set_exact(&mut self, field: Field, value: &Value) {
        field.set(&mut self.flow, value);
        if field == Field::DlVlan && value.to_u64() as u16 == crate::DL_VLAN_NONE {
            self.mask.vlans[0].tci = 0xffff;
        } else {
            field.unwildcard(&mut self.mask);
        }
        self.drop_tpid();
    }

    /// Setting a tag gives it a tag protocol identifier, which the match does not look at.
    fn drop_tpid(&mut self) {
        self.flow.vlans[0].tpid &= self.mask.vlans[0].tpid;
    }

    /// Does not look at the field any more. Without its VID (PCP) and PCP (VID), a tag need not be there.
    pub fn set_wild(&mut self, field: Field) {
        let other = match field {
            Field::DlVlan | Field::VlanVid => PCP,
            Field::DlVlanPcp | Field::VlanPcp => VID,
            _ => 0,
        };
        let tci = &mut self.mask.vlans[0].tci;
        if other != 0 {
            *tci = if *tci & other == 0 { 0 } else { *tci & (other | VLAN_CFI) };
            self.flow.vlans[0].tci &= *tci;
        } else {
            let zero = Value::zero(field.n_bytes());
            field.set(&mut self.flow, &zero);
            field.set_mask(&mut self.mask, &zero);
        }
    }

    fn set_tlv(
        &mut self,
        field: Field,
        i: usize,
        value: &Value,
        mask: Option<&Value>,
        tlv: Option<&TlvTable>,
    ) -> Result<Protocols, String> {
        let table = match tlv {
            Some(t) => t,
            None => self.allocate_tlv(field, i, value, mask)?,
        };
        if let Some(slot) = table.get(i) {
            let n = usize::from(slot.len);
            let mask = mask.map_or(Value::ones(n), |m| m.resized(n));
            let table = table.clone();
            table.write(&mut self.flow.tunnel, i, &value.resized(n).and(&mask));
            table.write(&mut self.mask.tunnel, i, &mask);
        }
        Ok(field.protocols_exact())
    }

    fn allocate_tlv(
        &mut self,
        field: Field,
        i: usize,
        value: &Value,
        mask: Option<&Value>,
    ) -> Result<&TlvTable, String> {
        let mask = mask.filter(|m| !(m.is_ones() && m.len() >= field.n_bytes()));
        let len = value.significant_len().max(mask.map_or(0, Value::significant_len));
        let present = self.mask.tunnel.metadata_present >> i & 1 != 0;
        let alloc = self.tlv.get_or_insert_default();
        let used = alloc.used + len;
        let name = field.name();
        let full = || {
            format!(
                "field {name} exceeds maximum size for tunnel metadata (used {used}, max {TUN_METADATA_LEN})"
            )
        };
        if used > TUN_METADATA_LEN {
            return Err(full());
        }
        if present {
            return Err(format!("field {name} set multiple times"));
        }
        alloc.table.remove(i);
        alloc.table.allocate(i, 0, 0, len as u8).map_err(|_| full())?;
        alloc.used = used;
        alloc.masked = alloc.masked & !(1 << i) | u64::from(mask.is_some()) << i;
        Ok(&alloc.table)
    }

    /// Whether the addresses of the original direction's tuple are of the Ethernet type that is matched. A
    /// flow-mod for which they are not is refused with `OFPBAC_MATCH_INCONSISTENT`.
    pub fn is_ct_tuple_consistent(&self) -> bool {
        let m = &self.mask;
        let v4 = m.ct_nw_src | m.ct_nw_dst != 0;
        let v6 = !m.ct_ipv6_src.is_zero() || !m.ct_ipv6_dst.is_zero();
        (!v4 || self.flow.dl_type == eth_type::IPV4) && (!v6 || self.flow.dl_type == eth_type::IPV6)
    }

    /// The value and mask of `field`.
    pub fn get(&self, field: Field) -> (Value, Value) {
        (field.get(&self.flow), field.get_mask(&self.mask))
    }

    /// Drops what the match asks of fields that packets of its kind do not have, so that matches that
    /// mean the same become the same. Returns the match as it was if that changed anything: OVS then logs
    /// "normalization changed ofp_match, details:" with " pre: " and "post: " lines.
    pub fn normalize(&mut self) -> Option<Box<Match>> {
        let mask = self.normalized_mask();
        if mask == self.mask {
            return None;
        }
        let before = Box::new(self.clone());
        self.mask = mask;
        self.zero_wildcarded();
        Some(before)
    }

    fn normalized_mask(&self) -> Mask {
        let f = &self.flow;
        let ethernet = self.mask.packet_type == 0 || self.has_default_packet_type();
        let dl_type = match self.mask.packet_type {
            _ if ethernet => f.dl_type,
            u32::MAX if f.packet_type >> 16 == 1 => f.packet_type as u16,
            _ => 0,
        };
        let v4 = dl_type == eth_type::IPV4;
        let v6 = dl_type == eth_type::IPV6;
        let arp = matches!(dl_type, eth_type::ARP | eth_type::RARP);
        let icmp6 = v6 && f.nw_proto == ip_proto::ICMPV6;
        let l4 = matches!(f.nw_proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
        let ports = (v4 || v6) && l4 || icmp6 || v4 && f.nw_proto == ip_proto::ICMP;
        let solicit = icmp6 && f.tp_src == ND_SOLICIT;
        let advert = icmp6 && f.tp_src == ND_ADVERT;

        let mut m = self.mask.clone();
        let mut keep = |yes: bool, fields: &[Field]| {
            for f in fields.iter().filter(|_| !yes) {
                f.set_mask(&mut m, &Value::zero(f.n_bytes()));
            }
        };
        keep(ethernet, &[Field::EthSrc, Field::EthDst]);
        keep(v4 || arp, &[Field::Ipv4Src, Field::Ipv4Dst]);
        keep(ports, &[Field::TcpSrc, Field::TcpDst]);
        keep(v4 || v6 || arp, &[Field::IpProto]);
        keep(v4 || v6, &[Field::IpDscp, Field::IpEcn, Field::IpTtl]);
        keep(arp || solicit, &[Field::ArpSha]);
        keep(arp || advert, &[Field::ArpTha]);
        keep(v6, &[Field::Ipv6Src, Field::Ipv6Dst, Field::Ipv6Label]);
        keep(solicit || advert, &[Field::NdTarget]);
        if !matches!(dl_type, eth_type::MPLS | eth_type::MPLS_MCAST) {
            m.mpls_lse = [0; MPLS_LABELS_MAX];
        }
        m
    }
}

/// Whether the first 32 bits are a prefix mask.
fn is_cidr(mask: &Value) -> bool {
    let b = mask.as_bytes();
    let word = (0..4).fold(0u32, |x, i| (x << 8) | u32::from(b.get(i).copied().unwrap_or(0)));
    (!word).wrapping_add(1) & !word == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vlan_forms() {
        let mut m = Match::catchall();
        m.set(Field::DlVlan, 5u16);
        assert_eq!((m.flow.vlans[0].tci, m.mask.vlans[0].tci), (0x1005, 0x1fff));
        m.set(Field::DlVlanPcp, 3u8);
        assert_eq!((m.flow.vlans[0].tci, m.mask.vlans[0].tci), (0x7005, 0xffff));
        m.set_wild(Field::VlanVid);
        assert_eq!((m.flow.vlans[0].tci, m.mask.vlans[0].tci), (0x7000, 0xf000));
        m.set_wild(Field::VlanPcp);
        assert!(m.is_catchall() && m == Match::catchall());
        m.set(Field::DlVlan, 0xffffu16);
        assert_eq!((m.flow.vlans[0].tci, m.mask.vlans[0].tci), (0, 0xffff));
        m.set_masked(Field::VlanVid, 0x1000u16, 0x1000u16);
        assert_eq!((m.flow.vlans[0].tci, m.mask.vlans[0].tci), (0x1000, 0xf000));
    }

    #[test]
    fn protocols_of_masks() {
        let p = |f: Field, v: u32, m: u32| {
            Match::catchall().set_field(f, &v.into(), Some(&Value::from(m)), None).unwrap()
        };
        assert_eq!(p(Field::Ipv4Src, 0, 0xffff_0000), Protocols::ANY);
        assert_eq!(p(Field::Ipv4Src, 0, 0xff00_ff00), Protocols::NXM_OF11_UP);
        assert_eq!(p(Field::Ipv4Src, 0, 0), Protocols::ANY);
        assert_eq!(p(Field::Reg0, 0, u32::MAX), Protocols::NXM_OXM_ANY);
    }

    #[test]
    fn tunnel_options_without_a_table() {
        let mut m = Match::catchall();
        let mut set = |i: usize, v: u64, mask: Option<u64>| {
            let mask = mask.map(Value::from);
            m.set_field(Field::tun_metadata(i).unwrap(), &v.into(), mask.as_ref(), None)
        };
        assert_eq!(set(0, 0x1234, None), Ok(Protocols::NXM_OXM_ANY));
        assert_eq!(set(3, 0x10, Some(0xf0)), Ok(Protocols::NXM_OXM_ANY));
        assert_eq!(set(0, 1, None), Err("field tun_metadata0 set multiple times".into()));
        let big = Value::ones(124);
        assert!(m.set_field(Field::TunMetadata5, &big, None, None).is_ok());
        assert!(m.set_field(Field::TunMetadata6, &big, None, None).is_ok());
        assert_eq!(
            m.set_field(Field::TunMetadata7, &big, None, None),
            Err("field tun_metadata7 exceeds maximum size for tunnel metadata (used 375, max 256)".into())
        );
        let alloc = m.tlv.as_ref().unwrap();
        assert_eq!(alloc.masked, 1 << 3);
        assert_eq!(alloc.table.read(&m.flow.tunnel, 0), Some(Value::from(0x1234u16)));
        assert_eq!(alloc.table.read(&m.mask.tunnel, 3), Some(Value::from(0xf0u8)));
        // A table that does not map the field: nothing to match.
        let mut n = Match::catchall();
        assert!(n.set_field(Field::TunMetadata0, &big, None, Some(&TlvTable::EMPTY)).is_ok());
        assert!(n.is_catchall());
    }

    #[test]
    fn normalization() {
        let mut m = Match::catchall().with(Field::Ipv4Src, 1u32).with(Field::TcpSrc, 80u16);
        let before = m.clone();
        assert_eq!(m.normalize(), Some(Box::new(before)));
        assert!(m.is_catchall());
        let mut m = Match::catchall().with(Field::EthType, eth_type::IPV4).with(Field::Ipv4Src, 1u32);
        assert_eq!(m.normalize(), None);
        let mut m = Match::catchall().with(Field::EthType, eth_type::IPV6).with(Field::Ipv4Src, 1u32);
        m.set(Field::Ipv6Src, 7u128);
        assert!(m.normalize().is_some());
        assert_eq!((m.flow.nw_src, m.mask.nw_src, m.flow.ipv6_src.lo), (0, 0, 7));
    }

    proptest! {
        /// Whatever is set, bits that do not matter stay zero, and normalizing twice changes nothing.
        #[test]
        fn wildcarded_bits_are_zero(sets in prop::collection::vec((0..Field::COUNT, any::<u128>(), any::<u128>(), 0..3), 0..12)) {
            let mut m = Match::catchall();
            for (i, v, mask, how) in sets {
                let f = Field::from_index(i).unwrap();
                let mask = Value::from_u128(f.n_bytes(), mask);
                let mask = match how { 0 => None, 1 => Some(Value::zero(f.n_bytes())), _ => Some(mask) };
                let _ = m.set_field(f, &Value::from_u128(f.n_bytes(), v), mask.as_ref(), None);
            }
            prop_assert_eq!(&m.mask.apply(&m.flow), &m.flow);
            m.normalize();
            prop_assert_eq!(m.normalize(), None);
        }
    }
}
