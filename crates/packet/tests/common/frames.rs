//! Frames made from a seed: mostly sound, some with options, tags, fragments, and some damaged.

/// xorshift64*, enough to make test frames from.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// An Ethernet frame.
pub fn frame(seed: u64) -> Vec<u8> {
    let r = &mut Rng::new(seed);
    let mut f = r.bytes(12);
    for _ in 0..r.pick(&[0, 0, 0, 0, 1, 1, 2, 3]) {
        f.extend(r.pick(&[[0x81, 0], [0x88, 0xa8]]));
        f.extend(r.bytes(2));
    }
    let l3 = layer3(r);
    if l3.0 < 0x600 && r.one_in(2) {
        f.extend((l3.1.len() as u16).to_be_bytes());
    } else {
        f.extend(l3.0.to_be_bytes());
    }
    f.extend(l3.1);
    if r.one_in(4) {
        let n = r.below(20) as usize;
        f.extend(r.bytes(n));
    }
    damage(r, &mut f);
    f
}

/// A packet without Ethernet header and its Ethernet type.
#[allow(dead_code)] // not every user of this file needs it
pub fn l3_packet(seed: u64) -> (u16, Vec<u8>) {
    let r = &mut Rng::new(seed);
    let (t, mut p) = layer3(r);
    damage(r, &mut p);
    (t, p)
}

fn damage(r: &mut Rng, f: &mut Vec<u8>) {
    if r.one_in(6) {
        let n = r.below(f.len() as u64 + 1) as usize;
        f.truncate(n);
    }
    if r.one_in(6) && f.len() > 12 {
        let at = 12 + r.below(f.len() as u64 - 12) as usize;
        f[at] ^= 1 << r.below(8);
    }
}

fn layer3(r: &mut Rng) -> (u16, Vec<u8>) {
    match r.below(16) {
        0 => (r.pick(&[0x0806, 0x8035]), arp(r)),
        1 => (r.pick(&[0x8847, 0x8848]), mpls(r)),
        2 => (0x894f, nsh(r)),
        3 => (0x0100, llc(r)),
        4 => (r.next() as u16, r.bytes(30)),
        5..=8 => (0x86dd, ipv6(r)),
        _ => (0x0800, ipv4(r)),
    }
}

fn arp(r: &mut Rng) -> Vec<u8> {
    let mut a = vec![0, 1, 8, 0, 6, 4, u8::from(r.one_in(9)), r.pick(&[1, 2, 3, 8])];
    a.extend(r.bytes(20));
    a
}

fn mpls(r: &mut Rng) -> Vec<u8> {
    let mut m = Vec::new();
    for _ in 0..r.below(5) {
        m.extend((r.next() as u32 & !0x100).to_be_bytes());
    }
    m.extend((r.next() as u32 | 0x100).to_be_bytes());
    m.extend(r.bytes(20));
    m
}

fn nsh(r: &mut Rng) -> Vec<u8> {
    let (len, md) = r.pick(&[(6u16, 1u8), (6, 1), (2, 2), (5, 2), (1, 2), (6, 3), (5, 1)]);
    let first = (r.next() as u16 & 0x3fc0) | len;
    let mut n = first.to_be_bytes().to_vec();
    n.extend([md, r.pick(&[1, 2, 3, 4, 9])]);
    n.extend(r.bytes(40));
    n
}

fn llc(r: &mut Rng) -> Vec<u8> {
    let mut l = vec![0xaa, 0xaa, r.pick(&[3, 3, 3, 4]), 0, 0, 0];
    l.extend(r.pick(&[[8, 0], [0x86, 0xdd], [1, 0]]));
    l.extend(ipv4(r));
    l
}

fn ipv4(r: &mut Rng) -> Vec<u8> {
    let options = if r.one_in(6) { r.below(11) as usize * 4 } else { 0 };
    let proto = r.pick(&[1, 2, 6, 6, 6, 17, 17, 132, 47, 58, 0]);
    let l4 = layer4(r, proto);
    let frag = r.pick(&[0u16, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x2010, 0x0010]);
    let mut h = vec![0x45 + (options / 4) as u8, r.next() as u8];
    h.extend(((20 + options + l4.len()) as u16).to_be_bytes());
    h.extend(r.bytes(2));
    h.extend(frag.to_be_bytes());
    h.extend([r.next() as u8, proto, 0, 0]);
    h.extend(r.bytes(8 + options));
    let sum = super_simple_checksum(&h);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    let (src, dst) = (h[12..16].to_vec(), h[16..20].to_vec());
    h.extend(with_checksum(l4, proto, &[src, dst].concat()));
    h
}

fn ipv6(r: &mut Rng) -> Vec<u8> {
    let proto = r.pick(&[6, 6, 17, 17, 58, 58, 58, 132, 1, 59]);
    let (mut chain, mut first) = (Vec::new(), proto);
    for _ in 0..r.pick(&[0, 0, 0, 0, 0, 1, 2, 3]) {
        let kind = r.pick(&[0u8, 43, 44, 51, 60]);
        let mut e = vec![first, 0];
        match kind {
            44 => e.extend([0, r.pick(&[0u8, 1, 8, 9]), 1, 2, 3, 4]),
            51 => e = [vec![first, 2], r.bytes(14)].concat(),
            43 => e.extend([0, r.pick(&[0, 0, 1]), 0, 0, 0, 0]),
            _ => e.extend(r.bytes(6)),
        }
        chain = [e, chain].concat();
        first = kind;
    }
    let l4 = layer4(r, proto);
    let mut h = (0x6000_0000 | r.next() as u32 & 0x0fff_ffff).to_be_bytes().to_vec();
    h.extend(((chain.len() + l4.len()) as u16).to_be_bytes());
    h.extend([first, r.next() as u8]);
    let addrs = r.bytes(32);
    h.extend(&addrs);
    h.extend(chain);
    h.extend(with_checksum(l4, proto, &addrs));
    h
}

fn layer4(r: &mut Rng, proto: u8) -> Vec<u8> {
    let n = r.below(30) as usize;
    let payload = r.bytes(n);
    let mut h = r.bytes(4);
    match proto {
        6 => {
            h.extend(r.bytes(8));
            let options = if r.one_in(4) { 12 } else { 0 };
            h.extend([(5 + options / 4) << 4 | (r.next() as u8 & 0xf), r.next() as u8]);
            h.extend(r.bytes(6 + usize::from(options)));
            h.extend(payload);
        }
        17 => {
            h.extend(((8 + n) as u16).to_be_bytes());
            h.extend([0, 0]);
            h.extend(payload);
        }
        58 => h = icmpv6(r, payload),
        132 => {
            h.extend(r.bytes(8));
            h.extend(payload);
        }
        _ => {
            h.extend(r.bytes(4));
            h.extend(payload);
        }
    }
    h
}

fn icmpv6(r: &mut Rng, payload: Vec<u8>) -> Vec<u8> {
    let kind = r.pick(&[128u8, 135, 135, 136, 136, 133]);
    let mut h = vec![kind, r.pick(&[0, 0, 0, 1]), 0, 0];
    h.extend(r.bytes(4));
    if kind < 135 {
        h.extend(payload);
        return h;
    }
    h.extend(r.bytes(16));
    for _ in 0..r.pick(&[0, 1, 1, 1, 2, 3]) {
        let len = r.pick(&[1u8, 1, 1, 2, 0]);
        h.extend([r.pick(&[1, 2, 1, 2, 14]), len]);
        h.extend(r.bytes(usize::from(len.max(1)) * 8 - 2));
    }
    h
}

/// Puts the right checksum into a transport header, now and then none into UDP's.
fn with_checksum(mut l4: Vec<u8>, proto: u8, addrs: &[u8]) -> Vec<u8> {
    let (at, pseudo) = match proto {
        6 => (16, true),
        17 => (6, true),
        58 => (2, true),
        1 | 2 => (2, false),
        _ => return l4,
    };
    if proto == 17 && l4[0] & 7 == 0 {
        return l4;
    }
    l4[at..at + 2].fill(0);
    let mut covered = l4.clone();
    if pseudo {
        if covered.len() % 2 == 1 {
            covered.push(0);
        }
        covered.extend(addrs);
        covered.extend([0, proto]);
        covered.extend((l4.len() as u16).to_be_bytes());
    }
    let sum = super_simple_checksum(&covered);
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    l4
}

/// RFC 1071 to the letter.
#[allow(dead_code)]
pub fn super_simple_checksum(bytes: &[u8]) -> u16 {
    let mut s: u32 =
        bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b))).sum();
    while s > 0xffff {
        s = (s & 0xffff) + (s >> 16);
    }
    !(s as u16)
}
