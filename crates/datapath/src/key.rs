//! Keys on the fast way: signatures, hashes of masked keys, identifiers.

use dpif::Ufid;
use flow::{FLOW_WORDS, Flow, Mask, word};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// Secret numbers, new in each process, so that no sender can aim at one bucket.
struct Secrets {
    seed: u64,
    factor: u64,
    ufid: [RandomState; 2],
}

fn secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let ufid = [RandomState::new(), RandomState::new()];
        let number = |n: u64| ufid[0].hash_one(n);
        Secrets { seed: number(1), factor: number(2) | 1, ufid }
    })
}

/// How this thread hashes; a copy of the process's secrets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    seed: u64,
    factor: u64,
}

impl Seed {
    pub fn get() -> Self {
        let s = secrets();
        Seed { seed: s.seed, factor: s.factor }
    }

    /// A secret for other hashes.
    pub fn basis(self) -> u64 {
        self.seed.rotate_left(32) ^ self.factor
    }

    #[inline(always)]
    fn mix(self, hash: u64, word: u64) -> u64 {
        let product = u128::from(hash ^ word).wrapping_mul(u128::from(self.factor));
        (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(32)
    }

    /// A hash of what usually tells flows apart. Equal keys have equal signatures, not the other way.
    #[inline]
    pub fn signature(self, key: &Flow) -> u64 {
        let w = key.words();
        let mut h = self.mix(self.seed, w[0]);
        h = self.mix(h, w[word::L2 + 2] ^ w[1]);
        match key.dl_type {
            0x0800 => h = self.mix(h, w[word::L3]),
            0x86dd => {
                h = w[word::L3 + 2..word::L3 + 6].iter().fold(h, |h, w| self.mix(h, *w));
            }
            _ => {
                for i in [word::L2, word::L2 + 1, word::L3] {
                    h = self.mix(h, w[i]);
                }
            }
        }
        h = self.mix(h, w[word::L3 + 1]);
        self.mix(h, w[word::L4])
    }
}

/// The words of a mask that are not zero.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lanes(Box<[(u8, u64)]>);

impl Lanes {
    pub fn new(mask: &Mask) -> Self {
        let nonzero = mask.words().iter().enumerate().filter(|(_, w)| **w != 0);
        Lanes(nonzero.map(|(i, w)| (i as u8, *w)).collect())
    }

    #[inline]
    pub fn hash(&self, seed: Seed, key: &Flow) -> u64 {
        let words = key.words();
        self.0.iter().fold(seed.seed, |h, (i, m)| seed.mix(h, words[usize::from(*i) % FLOW_WORDS] & m))
    }

    /// Whether `a` and `b` agree on all significant bits.
    #[inline]
    pub fn agree(&self, a: &Flow, b: &Flow) -> bool {
        let (a, b) = (a.words(), b.words());
        self.0.iter().all(|(i, m)| {
            let i = usize::from(*i) % FLOW_WORDS;
            (a[i] ^ b[i]) & m == 0
        })
    }
}

/// The identifier of a key: 128 bits of a keyed hash.
pub(crate) fn ufid_of(key: &Flow) -> Ufid {
    let half = |state: &RandomState| {
        let mut hasher = state.build_hasher();
        for (i, w) in key.words().iter().enumerate().filter(|(_, w)| **w != 0) {
            hasher.write_u64(i as u64);
            hasher.write_u64(*w);
        }
        u128::from(hasher.finish())
    };
    let [a, b] = &secrets().ufid;
    Ufid(half(a) << 64 | half(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_tell_keys_apart() {
        let a = Flow { in_port: 1, ..Flow::ZERO };
        let b = Flow { recirc_id: 1, ..Flow::ZERO };
        assert_ne!(ufid_of(&a), ufid_of(&b));
        assert_eq!(ufid_of(&a), ufid_of(&a.clone()));
    }

    #[test]
    fn lanes_agree_as_the_mask_says() {
        let mut mask = Mask::NONE;
        (mask.in_port, mask.nw_dst) = (u32::MAX, 0xffff_0000);
        let lanes = Lanes::new(&mask);
        let a = Flow { in_port: 1, nw_dst: 0x0a00_0001, tp_src: 1, ..Flow::ZERO };
        let b = Flow { in_port: 1, nw_dst: 0x0a00_0002, tp_src: 2, ..Flow::ZERO };
        assert!(lanes.agree(&a, &b));
        assert_eq!(lanes.hash(Seed::get(), &a), lanes.hash(Seed::get(), &b));
        assert!(!lanes.agree(&a, &Flow { nw_dst: 0x0b00_0000, ..a.clone() }));
    }
}
