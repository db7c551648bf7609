//! Hashing the fields that an action names: `multipath`, `bundle`, groups, bonds and `dp_hash`.

use crate::hash;
use crate::key::*;
use crate::prereq::{eth_type, ip_proto};

const VID: u16 = 0xfff;
const NW_FRAG_MASK: u8 = NW_FRAG_ANY | NW_FRAG_LATER;

/// What to hash (`NX_HASH_FIELDS_*`, with their numbers).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum HashFields {
    EthSrc = 0,
    SymmetricL4 = 1,
    SymmetricL3L4 = 2,
    SymmetricL3L4Udp = 3,
    NwSrc = 4,
    NwDst = 5,
    SymmetricL3 = 6,
}

const NAMES: [(HashFields, &str); 7] = [
    (HashFields::EthSrc, "eth_src"),
    (HashFields::SymmetricL4, "symmetric_l4"),
    (HashFields::SymmetricL3L4, "symmetric_l3l4"),
    (HashFields::SymmetricL3L4Udp, "symmetric_l3l4+udp"),
    (HashFields::NwSrc, "nw_src"),
    (HashFields::NwDst, "nw_dst"),
    (HashFields::SymmetricL3, "symmetric_l3"),
];

impl HashFields {
    pub fn from_number(n: u16) -> Option<HashFields> {
        NAMES.get(usize::from(n)).map(|(f, _)| *f)
    }

    pub fn from_name(s: &str) -> Option<HashFields> {
        NAMES.iter().find(|(_, name)| *name == s).map(|(f, _)| *f)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(f, _)| *f == self).map_or("", |(_, name)| name)
    }

    /// The hash of these fields of `flow`.
    pub fn hash(self, flow: &Flow, basis: u16) -> u32 {
        let basis = basis.into();
        let address = |v4: u32, v6: U128| match flow.dl_type {
            eth_type::IPV4 => hash::jenkins(&v4.to_be_bytes(), basis),
            eth_type::IPV6 => hash::jenkins(&u128::from(v6).to_be_bytes(), basis),
            _ => basis,
        };
        match self {
            HashFields::EthSrc => hash::jenkins(&flow.dl_src.0, basis),
            HashFields::SymmetricL4 => flow.hash_symmetric_l4(basis),
            HashFields::SymmetricL3L4 => flow.hash_symmetric_l3l4(basis, false),
            HashFields::SymmetricL3L4Udp => flow.hash_symmetric_l3l4(basis, true),
            HashFields::NwSrc => address(flow.nw_src, flow.ipv6_src),
            HashFields::NwDst => address(flow.nw_dst, flow.ipv6_dst),
            HashFields::SymmetricL3 => flow.hash_symmetric_l3(basis),
        }
    }

    /// Makes what [`HashFields::hash`] looks at matter.
    pub fn unwildcard(self, flow: &Flow, wc: &mut Mask) {
        let v4 = flow.dl_type == eth_type::IPV4;
        let v6 = flow.dl_type == eth_type::IPV6;
        let src = !matches!(self, HashFields::EthSrc | HashFields::NwDst);
        let dst = !matches!(self, HashFields::EthSrc | HashFields::NwSrc);
        if v4 {
            wc.nw_src |= if src { u32::MAX } else { 0 };
            wc.nw_dst |= if dst { u32::MAX } else { 0 };
        } else if v6 {
            wc.ipv6_src = if src { U128::MAX } else { wc.ipv6_src };
            wc.ipv6_dst = if dst { U128::MAX } else { wc.ipv6_dst };
        }
        match self {
            HashFields::EthSrc => wc.dl_src = EthAddr::BROADCAST,
            HashFields::SymmetricL4 => unwildcard_l4(flow, wc),
            HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp if v4 || v6 => {
                wc.nw_proto = 0xff;
                let udp = self == HashFields::SymmetricL3L4Udp && flow.nw_proto == ip_proto::UDP;
                let ports = udp || matches!(flow.nw_proto, ip_proto::TCP | ip_proto::SCTP);
                if ports && flow.nw_frag & NW_FRAG_MASK == 0 {
                    wc.tp_src = 0xffff;
                    wc.tp_dst = 0xffff;
                }
            }
            _ => {}
        }
    }
}

fn unwildcard_l4(flow: &Flow, wc: &mut Mask) {
    wc.dl_src = EthAddr::BROADCAST;
    wc.dl_dst = EthAddr::BROADCAST;
    for v in &mut wc.vlans {
        v.tci |= VID | VLAN_CFI;
    }
    if flow.is_ip_any() {
        wc.nw_proto = 0xff;
        if flow.nw_proto != ip_proto::UDP {
            wc.unwildcard_ports(flow);
        }
    }
}

impl Mask {
    /// Makes the ports of `flow` matter, or the ICMP type and code, which are 8 bits only.
    pub fn unwildcard_ports(&mut self, flow: &Flow) {
        let bits = if flow.nw_proto == ip_proto::ICMP { 0xff } else { 0xffff };
        self.tp_src = bits;
        self.tp_dst = bits;
    }
}

impl Flow {
    fn xor_macs(&self) -> [u8; 6] {
        std::array::from_fn(|i| self.dl_src.0[i] ^ self.dl_dst.0[i])
    }

    fn xor_vids(&self) -> u16 {
        self.vlans.iter().fold(0, |x, v| x ^ v.tci & VID)
    }

    /// The addresses that are the same in both directions: IPv4 in the first 4 bytes of 16.
    fn xor_addresses(&self) -> [u8; 16] {
        match self.dl_type {
            eth_type::IPV4 => (u128::from(self.nw_src ^ self.nw_dst) << 96).to_be_bytes(),
            eth_type::IPV6 => (u128::from(self.ipv6_src) ^ u128::from(self.ipv6_dst)).to_be_bytes(),
            _ => [0; 16],
        }
    }

    /// Layers 2 to 4, the same in both directions. UDP ports do not count.
    pub fn hash_symmetric_l4(&self, basis: u32) -> u32 {
        let ip = self.is_ip();
        let ports = ip && matches!(self.nw_proto, ip_proto::TCP | ip_proto::SCTP);
        let mut b = [0; 32];
        b[..16].copy_from_slice(&self.xor_addresses());
        b[16..18].copy_from_slice(&self.dl_type.to_be_bytes());
        b[18..20].copy_from_slice(&self.xor_vids().to_be_bytes());
        if ports {
            b[20..22].copy_from_slice(&(self.tp_src ^ self.tp_dst).to_be_bytes());
        }
        b[22..28].copy_from_slice(&self.xor_macs());
        b[28] = if ip { self.nw_proto } else { 0 };
        hash::jenkins(&b, basis)
    }

    /// Layer 2 only, the same in both directions; 0 for packets that are not Ethernet frames.
    pub fn hash_symmetric_l2(&self, basis: u32) -> u32 {
        if !self.is_ethernet() {
            return 0;
        }
        let [m0, m1, m2, m3, m4, m5] = self.xor_macs();
        let ([t0, t1], [v0, v1]) = (self.dl_type.to_be_bytes(), self.xor_vids().to_be_bytes());
        let words = [[t0, t1, v0, v1], [m0, m1, m2, m3], [m4, m5, 0, 0]].map(u32::from_le_bytes);
        hash::finish(words.into_iter().fold(basis, hash::add), basis)
    }

    /// Layers 3 and 4, the same in both directions; layer 2 for packets that are not IP.
    pub fn hash_symmetric_l3l4(&self, basis: u32, udp_ports: bool) -> u32 {
        let mut h = match self.dl_type {
            eth_type::IPV4 => hash::add(basis, (self.nw_src ^ self.nw_dst).swap_bytes()),
            eth_type::IPV6 => {
                let (a, b) = (self.ipv6_src, self.ipv6_dst);
                let h = hash::add64(basis, (a.hi ^ b.hi).swap_bytes());
                hash::add64(h, (a.lo ^ b.lo).swap_bytes())
            }
            _ => return self.hash_symmetric_l2(basis),
        };
        h = hash::add(h, self.nw_proto.into());
        let ports = matches!(self.nw_proto, ip_proto::TCP | ip_proto::SCTP)
            || udp_ports && self.nw_proto == ip_proto::UDP;
        if ports && self.nw_frag & NW_FRAG_MASK == 0 {
            h = hash::add(h, (self.tp_src ^ self.tp_dst).swap_bytes().into());
        }
        hash::finish(h, basis)
    }

    /// Layer 3 only, the same in both directions.
    pub fn hash_symmetric_l3(&self, basis: u32) -> u32 {
        let mut b = [0; 20];
        b[..16].copy_from_slice(&self.xor_addresses());
        b[16..18].copy_from_slice(&self.dl_type.to_be_bytes());
        hash::jenkins(&b, basis)
    }

    /// Addresses, protocol and ports: what takes the place of a network card's RSS hash.
    pub fn hash_5tuple(&self, basis: u32) -> u32 {
        let mut h = match self.dl_type {
            eth_type::IPV6 => [self.ipv6_src, self.ipv6_dst]
                .iter()
                .fold(basis, |h, a| hash::add64(hash::add64(h, a.hi.swap_bytes()), a.lo.swap_bytes())),
            eth_type::IPV4 | eth_type::ARP => {
                hash::add(hash::add(basis, self.nw_src.swap_bytes()), self.nw_dst.swap_bytes())
            }
            _ => return hash::finish(basis, hash::FIVE_TUPLE),
        };
        h = hash::add(h, self.nw_proto.into());
        if matches!(
            self.nw_proto,
            ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP | ip_proto::ICMP | ip_proto::ICMPV6
        ) {
            let ports = u32::from(self.tp_src) << 16 | u32::from(self.tp_dst);
            h = hash::add(h, ports.swap_bytes());
        }
        hash::finish(h, hash::FIVE_TUPLE)
    }
}

/// The link that `multipath` picks out of `n_links` (not 0) for `hash`; `algorithm` is `NX_MP_ALG_*`:
/// 0 modulo_n, 1 hash_threshold, 2 hrw, 3 iter_hash. `None` for others.
pub fn multipath_link(hash: u32, algorithm: u16, n_links: u32, arg: u32) -> Option<u32> {
    let n = n_links.max(1);
    Some(match algorithm {
        0 => hash % n,
        1 if n == 1 => 0,
        1 => hash / (u32::MAX / n + 1),
        2 if n <= 64 => highest_random_weight(hash, n),
        2 => iterate_hash(hash, n, 0),
        3 => iterate_hash(hash, n, arg),
        _ => return None,
    })
}

fn highest_random_weight(hash: u32, n: u32) -> u32 {
    // The first of equals wins.
    (0..n).rev().max_by_key(|link| hash::two_words(hash, *link)).unwrap_or(0)
}

fn iterate_hash(hash: u32, n: u32, modulo: u32) -> u32 {
    let modulo = if modulo < n || modulo / 2 > n { n.next_power_of_two() } else { modulo };
    (0..=u32::MAX).map(|i| hash::two_words(hash, i) % modulo).find(|link| *link < n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [HashFields; 7] = [
        HashFields::EthSrc,
        HashFields::SymmetricL4,
        HashFields::SymmetricL3L4,
        HashFields::SymmetricL3L4Udp,
        HashFields::NwSrc,
        HashFields::NwDst,
        HashFields::SymmetricL3,
    ];

    #[test]
    fn names_and_numbers() {
        for (i, f) in ALL.into_iter().enumerate() {
            assert_eq!(HashFields::from_number(i as u16), Some(f));
            assert_eq!(f as usize, i);
            assert_eq!(HashFields::from_name(f.name()), Some(f));
        }
        assert_eq!(HashFields::from_number(7), None);
    }

    fn flow(seed: [u64; 8], kind: u8) -> Flow {
        let mut f = Flow::ZERO;
        f.dl_src = EthAddr::from_u64(seed[0]);
        f.dl_dst = EthAddr::from_u64(seed[1]);
        f.dl_type = [eth_type::IPV4, eth_type::IPV6, eth_type::ARP][usize::from(kind % 3)];
        f.nw_proto = [6, 17, 132, 1][usize::from(kind / 3 % 4)];
        (f.nw_src, f.nw_dst) = (seed[2] as u32, seed[3] as u32);
        (f.ipv6_src.lo, f.ipv6_dst.lo) = (seed[4], seed[5]);
        (f.tp_src, f.tp_dst) = (seed[6] as u16, seed[7] as u16);
        f.vlans[0].tci = seed[6] as u16 | VLAN_CFI;
        f
    }

    fn reversed(f: &Flow) -> Flow {
        let mut r = f.clone();
        (r.dl_src, r.dl_dst) = (f.dl_dst, f.dl_src);
        (r.nw_src, r.nw_dst) = (f.nw_dst, f.nw_src);
        (r.ipv6_src, r.ipv6_dst) = (f.ipv6_dst, f.ipv6_src);
        (r.tp_src, r.tp_dst) = (f.tp_dst, f.tp_src);
        r
    }

    /// The packets of [`what_ovs_picks`].
    fn packets() -> [Flow; 8] {
        let mut base = Flow::ZERO;
        base.dl_src = EthAddr([2, 0, 0, 0, 0, 1]);
        base.dl_dst = EthAddr([2, 0, 0, 0, 0, 2]);
        let with = |dl_type: u16, nw_proto: u8, ports: (u16, u16)| {
            let mut f = base.clone();
            (f.dl_type, f.nw_proto) = (dl_type, nw_proto);
            (f.tp_src, f.tp_dst) = ports;
            if dl_type == eth_type::IPV4 {
                (f.nw_src, f.nw_dst) = (0x0a00_0001, 0x0a01_0203);
            }
            f
        };
        let v6 = |mut f: Flow, src: u128, dst: u128| {
            (f.ipv6_src, f.ipv6_dst) = (src.into(), dst.into());
            f
        };
        let mut vlan = with(eth_type::IPV4, 6, (1234, 80));
        vlan.vlans[0] = Vlan { tpid: 0x8100, tci: 100 | VLAN_CFI };
        let mut arp = with(eth_type::ARP, 0, (0, 0));
        (arp.nw_src, arp.nw_dst) = (0x0a00_0001, 0x0a00_0002);
        [
            with(eth_type::IPV4, 6, (1234, 80)),
            with(eth_type::IPV4, 17, (1234, 80)),
            vlan,
            v6(
                with(eth_type::IPV6, 6, (1234, 80)),
                0x2001_0db8 << 96 | 1,
                0x2001_0db8_0001_0002 << 64 | 0x3_0004,
            ),
            arp,
            with(eth_type::IPV4, 132, (1, 2)),
            v6(with(eth_type::IPV6, 58, (128, 0)), 0xfe80 << 112 | 1, 0xfe80 << 112 | 2),
            with(0x1234, 0, (0, 0)),
        ]
    }

    /// What `multipath(FIELDS,50,ALGORITHM,60000,0,...)` stored in Debian's ovs-vswitchd 3.1 for each of
    /// [`packets`]; `hrw` and `iter_hash` agree with so many links.
    #[test]
    fn what_ovs_picks() {
        type Row = (HashFields, u16, [u32; 8]);
        #[rustfmt::skip]
        const PICKED: &[Row] = &[
            (HashFields::EthSrc, 0, [44319; 8]),
            (HashFields::SymmetricL4, 0, [57102, 46254, 31020, 27803, 57285, 34944, 9049, 58058]),
            (HashFields::SymmetricL3L4, 0, [12903, 22262, 12903, 58485, 27127, 14531, 50426, 7702]),
            (HashFields::SymmetricL3L4Udp, 0, [12903, 48402, 12903, 58485, 27127, 14531, 50426, 7702]),
            (HashFields::NwSrc, 0, [51520, 51520, 51520, 58808, 50, 51520, 5556, 50]),
            (HashFields::NwDst, 0, [7826, 7826, 7826, 17507, 50, 7826, 18471, 50]),
            (HashFields::SymmetricL3, 0, [9584, 9584, 9584, 49767, 44065, 9584, 49144, 58660]),
            (HashFields::EthSrc, 1, [24449; 8]),
            (HashFields::SymmetricL4, 1, [37516, 19088, 47278, 35284, 55267, 52922, 42128, 44988]),
            (HashFields::SymmetricL3L4, 1, [27502, 56241, 27502, 40885, 28803, 15165, 19300, 53079]),
            (HashFields::SymmetricL3L4Udp, 1, [27502, 3862, 27502, 40885, 28803, 15165, 19300, 53079]),
            (HashFields::NwSrc, 1, [46176, 46176, 46176, 28759, 0, 46176, 54353, 0]),
            (HashFields::NwDst, 1, [24770, 24770, 24770, 58150, 0, 24770, 17202, 0]),
            (HashFields::SymmetricL3, 1, [39456, 39456, 39456, 1399, 50339, 39456, 49558, 52727]),
            (HashFields::EthSrc, 2, [40016; 8]),
            (HashFields::SymmetricL4, 2, [14327, 4509, 46914, 4991, 32527, 54695, 29208, 43461]),
            (HashFields::SymmetricL3L4, 3, [46419, 43127, 46419, 33611, 19435, 22007, 44993, 8638]),
            (HashFields::NwSrc, 3, [32961, 32961, 32961, 52840, 32070, 32961, 2484, 32070]),
        ];
        for (fields, algorithm, picked) in PICKED {
            let got = packets().map(|f| multipath_link(fields.hash(&f, 50), *algorithm, 60000, 0).unwrap());
            assert_eq!(got, *picked, "{fields:?} {algorithm}");
        }
        let of_ten = |alg| packets().map(|f| multipath_link(f.hash_symmetric_l4(50), alg, 10, 0).unwrap());
        assert_eq!(of_ten(2), [3, 4, 0, 9, 8, 7, 0, 1]);
        assert_eq!(of_ten(3), [7, 5, 2, 9, 7, 7, 8, 5]);
    }

    proptest! {
        #[test]
        fn symmetric_hashes_are(seed: [u64; 8], kind: u8, basis: u16) {
            let f = flow(seed, kind);
            let r = reversed(&f);
            for h in [HashFields::SymmetricL4, HashFields::SymmetricL3L4, HashFields::SymmetricL3L4Udp, HashFields::SymmetricL3] {
                prop_assert_eq!(h.hash(&f, basis), h.hash(&r, basis));
            }
            prop_assert_eq!(HashFields::NwSrc.hash(&f, basis), HashFields::NwDst.hash(&r, basis));
        }

        /// What a hash does not unwildcard cannot change it.
        #[test]
        fn masks_cover_what_is_hashed(seed: [u64; 8], noise: [u64; 8], kind: u8, basis: u16) {
            let f = flow(seed, kind);
            for h in ALL {
                let mut wc = Mask::NONE;
                h.unwildcard(&f, &mut wc);
                let mut g = flow(noise, kind);
                for i in 0..FLOW_WORDS {
                    let m = wc.words()[i];
                    g.words_mut()[i] = f.words()[i] & m | g.words()[i] & !m;
                }
                // These three are always matched by whoever translates.
                (g.dl_type, g.nw_proto, g.packet_type) = (f.dl_type, f.nw_proto, f.packet_type);
                if matches!(h, HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp) && !f.is_ip() {
                    continue; // As in OVS: falls back to layer 2 without matching it.
                }
                prop_assert_eq!(h.hash(&f, basis), h.hash(&g, basis), "{:?}", h);
            }
        }

        #[test]
        fn links_are_in_range(hash: u32, alg in 0u16..4, n in 1u32..300, arg in 0u32..1000) {
            prop_assert!(multipath_link(hash, alg, n, arg).unwrap() < n);
        }
    }
}
