//! A path-compressed binary trie of prefixes, counting the rules at each.

/// A prefix: the leading `len` bits of `bits`, the rest zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prefix {
    pub bits: u128,
    pub len: u8,
}

impl Prefix {
    /// The part behind the first `n` bits.
    fn skip(self, n: u8) -> Self {
        Prefix { bits: self.bits.checked_shl(u32::from(n)).unwrap_or(0), len: self.len - n }
    }

    fn head(self, n: u8) -> Self {
        Prefix { bits: self.bits & high_bits(n), len: n }
    }

    fn first_bit(self) -> usize {
        (self.bits >> 127) as usize
    }

    fn common(self, other: Self) -> u8 {
        let same = (self.bits ^ other.bits).leading_zeros() as u8;
        same.min(self.len).min(other.len)
    }
}

/// A value with the `n` highest bits set.
pub(crate) fn high_bits(n: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(n)).unwrap_or(0)
}

#[derive(Debug)]
struct Node {
    /// What this node adds to the path from the root.
    edge: Prefix,
    rules: u32,
    children: [Option<Box<Node>>; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Trie {
    root: Option<Box<Node>>,
}

/// What a value meets on its way down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Bit `127 - n` is set if some rule's prefix of length `n + 1` covers the value.
    pub lengths: u128,
    /// Leading bits that had to be looked at to know all of `lengths`.
    pub bits_seen: u8,
}

impl Walk {
    /// Whether a rule's prefix of exactly `len` bits covers the value.
    pub fn has(&self, len: u8) -> bool {
        len > 0 && self.lengths & (1 << (128 - u32::from(len))) != 0
    }
}

impl Trie {
    pub fn insert(&mut self, prefix: Prefix) {
        let mut at = &mut self.root;
        let mut rest = prefix;
        loop {
            let Some(node) = at else {
                *at = Some(Box::new(Node { edge: rest, rules: 1, children: [None, None] }));
                return;
            };
            let common = node.edge.common(rest);
            if common < node.edge.len {
                split(node, common);
            }
            rest = rest.skip(common);
            if rest.len == 0 {
                node.rules += 1;
                return;
            }
            at = &mut node.children[rest.first_bit()];
        }
    }

    /// Takes back one [`Trie::insert`] of the same prefix; without one, does nothing.
    pub fn remove(&mut self, prefix: Prefix) {
        remove_below(&mut self.root, prefix);
    }

    /// Follows the leading bits of `value`, which has `width` of them.
    pub fn walk(&self, value: u128, width: u8) -> Walk {
        let mut lengths = 0u128;
        let mut seen = 0u8;
        let mut rest = Prefix { bits: value & high_bits(width), len: width };
        let mut at = &self.root;
        let mut is_fork = false;
        loop {
            let Some(node) = at else {
                // Where the path ends at a fork, the bit that chose the missing branch was looked at.
                return Walk { lengths, bits_seen: seen + u8::from(is_fork) };
            };
            let common = node.edge.common(rest);
            seen += common;
            if common < node.edge.len {
                return Walk { lengths, bits_seen: seen + 1 };
            }
            if node.rules > 0 && seen > 0 {
                lengths |= 1 << (128 - u32::from(seen));
            }
            if seen >= width {
                return Walk { lengths, bits_seen: width };
            }
            rest = rest.skip(common);
            is_fork = node.children.iter().any(Option::is_some);
            at = &node.children[rest.first_bit()];
        }
    }
}

/// Puts a parent with the first `at` bits of `node`'s edge above `node`.
fn split(node: &mut Box<Node>, at: u8) {
    let parent = Box::new(Node { edge: node.edge.head(at), rules: 0, children: [None, None] });
    let mut child = std::mem::replace(node, parent);
    child.edge = child.edge.skip(at);
    let bit = child.edge.first_bit();
    node.children[bit] = Some(child);
}

fn remove_below(at: &mut Option<Box<Node>>, prefix: Prefix) {
    let Some(node) = at else { return };
    let common = node.edge.common(prefix);
    if common < node.edge.len {
        return;
    }
    let rest = prefix.skip(common);
    if rest.len == 0 {
        node.rules = node.rules.saturating_sub(1);
    } else {
        remove_below(&mut node.children[rest.first_bit()], rest);
    }
    if node.rules == 0 {
        collapse(at);
    }
}

/// A node without rules is needed only where two branches meet.
fn collapse(at: &mut Option<Box<Node>>) {
    let Some(node) = at else { return };
    let [zero, one] = &mut node.children;
    let only = match (zero.take(), one.take()) {
        (Some(z), Some(o)) => {
            node.children = [Some(z), Some(o)];
            return;
        }
        (z, o) => z.or(o),
    };
    let above = node.edge;
    *at = only.map(|mut child| {
        let below = child.edge.bits.checked_shr(u32::from(above.len)).unwrap_or(0);
        child.edge = Prefix { bits: above.bits | below, len: above.len + child.edge.len };
        child
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(bits: u8, len: u8) -> Prefix {
        Prefix { bits: (u128::from(bits) << 120) & high_bits(len), len }
    }

    /// The same by definition: bits are seen until no rule's prefix agrees any more.
    fn walk_slowly(rules: &[Prefix], value: u128, width: u8) -> Walk {
        let mut lengths = 0;
        for r in rules {
            if r.len > 0 && value & high_bits(r.len) == r.bits {
                lengths |= 1 << (128 - u32::from(r.len));
            }
        }
        let reaches = |n: u8| rules.iter().any(|r| r.len >= n && (value ^ r.bits) & high_bits(n) == 0);
        let goes_on = |n: u8| rules.iter().any(|r| r.len > n && (value ^ r.bits) & high_bits(n) == 0);
        let mut n = 0;
        while n < width && reaches(n + 1) {
            n += 1;
        }
        let more = n < width && goes_on(n);
        Walk { lengths, bits_seen: n + u8::from(more) }
    }

    proptest! {
        #[test]
        fn walk_finds_what_the_list_of_prefixes_says(
            rules in proptest::collection::vec((any::<u8>(), 0u8..=8), 0..20),
            gone in proptest::collection::vec(any::<bool>(), 20),
            value in any::<u8>(),
        ) {
            let mut trie = Trie::default();
            let all: Vec<_> = rules.iter().map(|(b, l)| prefix(*b, *l)).collect();
            all.iter().for_each(|p| trie.insert(*p));
            let mut left = Vec::new();
            for (p, gone) in all.iter().zip(&gone) {
                if *gone { trie.remove(*p) } else { left.push(*p) }
            }
            let value = u128::from(value) << 120;
            let (got, want) = (trie.walk(value, 8), walk_slowly(&left, value, 8));
            prop_assert_eq!((got.lengths, got.bits_seen), (want.lengths, want.bits_seen));
        }
    }

    #[test]
    fn a_whole_address_is_one_prefix() {
        let mut t = Trie::default();
        t.insert(Prefix { bits: u128::MAX, len: 128 });
        assert!(t.walk(u128::MAX, 128).has(128));
        assert_eq!(t.walk(u128::MAX - 1, 128).bits_seen, 128);
        t.remove(Prefix { bits: u128::MAX, len: 128 });
        assert_eq!(t.walk(u128::MAX, 128).bits_seen, 0);
    }
}
