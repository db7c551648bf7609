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

/// Nodes name each other by index, so that one takes 32 bytes and none an allocation of its own.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// What this node adds to the path from the root, in the high bits.
    bits: u128,
    /// Length of `bits`.
    len: u8,
    rules: u32,
    /// [`NONE`] or where the path goes on with a 0, and with a 1.
    children: [u32; 2],
}

const _: () = assert!(size_of::<Node>() == 32);

const ROOT: u32 = 0;
/// The root is nobody's child.
const NONE: u32 = ROOT;

impl Node {
    fn new(edge: Prefix, rules: u32) -> Self {
        Node { bits: edge.bits, len: edge.len, rules, children: [NONE; 2] }
    }

    fn edge(&self) -> Prefix {
        Prefix { bits: self.bits, len: self.len }
    }

    fn has_children(&self) -> bool {
        self.children != [NONE; 2]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Trie {
    /// Empty, or the root (whose edge is empty), the others, and those that are free.
    nodes: Vec<Node>,
    /// [`NONE`] or a node that is free; its first child is the next one.
    free: u32,
}

/// A node's place: its parent, and which child it is.
type Link = (u32, usize);

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
    fn node(&self, i: u32) -> &Node {
        &self.nodes[i as usize]
    }

    fn node_mut(&mut self, i: u32) -> &mut Node {
        &mut self.nodes[i as usize]
    }

    fn allocate(&mut self, node: Node) -> u32 {
        let i = self.free;
        if i == NONE {
            self.nodes.push(node);
            return (self.nodes.len() - 1) as u32;
        }
        self.free = self.node(i).children[0];
        *self.node_mut(i) = node;
        i
    }

    fn release(&mut self, i: u32) {
        self.node_mut(i).children = [self.free, NONE];
        self.free = i;
    }

    pub fn insert(&mut self, prefix: Prefix) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::new(Prefix { bits: 0, len: 0 }, 0));
        }
        let mut at = ROOT;
        let mut rest = prefix;
        while rest.len > 0 {
            let bit = rest.first_bit();
            let mut child = self.node(at).children[bit];
            if child == NONE {
                let leaf = self.allocate(Node::new(rest, 1));
                self.node_mut(at).children[bit] = leaf;
                return;
            }
            let edge = self.node(child).edge();
            let common = edge.common(rest);
            if common < edge.len {
                child = self.split((at, bit), common);
            }
            rest = rest.skip(common);
            at = child;
        }
        self.node_mut(at).rules += 1;
    }

    /// Puts a parent with the first `len` bits of a node's edge above it, and returns the parent.
    fn split(&mut self, (above, bit): Link, len: u8) -> u32 {
        let child = self.node(above).children[bit];
        let edge = self.node(child).edge();
        let rest = edge.skip(len);
        let mut parent = Node::new(edge.head(len), 0);
        parent.children[rest.first_bit()] = child;
        let node = self.node_mut(child);
        (node.bits, node.len) = (rest.bits, rest.len);
        let parent = self.allocate(parent);
        self.node_mut(above).children[bit] = parent;
        parent
    }

    /// Takes back one [`Trie::insert`] of the same prefix; without one, does nothing.
    pub fn remove(&mut self, prefix: Prefix) {
        if self.nodes.is_empty() {
            return;
        }
        let mut at = ROOT;
        let mut rest = prefix;
        let mut links: [Option<Link>; 2] = [None; 2];
        while rest.len > 0 {
            let bit = rest.first_bit();
            let child = self.node(at).children[bit];
            let edge = self.node(child).edge();
            let common = edge.common(rest);
            if child == NONE || common < edge.len {
                return;
            }
            links = [links[1], Some((at, bit))];
            rest = rest.skip(common);
            at = child;
        }
        let node = self.node_mut(at);
        node.rules = node.rules.saturating_sub(1);
        // The node may have gone, and with it what its parent was needed for.
        links.into_iter().rev().flatten().for_each(|l| self.collapse(l));
        let root = self.node(ROOT);
        if root.rules == 0 && !root.has_children() {
            *self = Trie::default();
        }
    }

    /// Removes a node that is not needed: one without rules where no two branches meet.
    fn collapse(&mut self, (above, bit): Link) {
        let i = self.node(above).children[bit];
        let node = *self.node(i);
        if node.rules > 0 || !node.children.contains(&NONE) {
            return;
        }
        let only = node.children[0].max(node.children[1]);
        if only != NONE {
            let child = self.node_mut(only);
            child.bits = node.bits | child.bits.checked_shr(u32::from(node.len)).unwrap_or(0);
            child.len += node.len;
        }
        self.node_mut(above).children[bit] = only;
        self.release(i);
    }

    /// Follows the leading bits of `value`, which has `width` of them.
    pub fn walk(&self, value: u128, width: u8) -> Walk {
        let mut lengths = 0u128;
        let mut seen = 0u8;
        let mut rest = Prefix { bits: value & high_bits(width), len: width };
        let mut next = self.nodes.first();
        let mut is_fork = false;
        loop {
            let Some(node) = next else {
                // Where the path ends at a fork, the bit that chose the missing branch was looked at.
                return Walk { lengths, bits_seen: seen + u8::from(is_fork) };
            };
            let common = node.edge().common(rest);
            seen += common;
            if common < node.len {
                return Walk { lengths, bits_seen: seen + 1 };
            }
            if node.rules > 0 && seen > 0 {
                lengths |= 1 << (128 - u32::from(seen));
            }
            if seen >= width {
                return Walk { lengths, bits_seen: width };
            }
            rest = rest.skip(common);
            is_fork = node.has_children();
            let child = node.children[rest.first_bit()];
            next = (child != NONE).then(|| self.node(child));
        }
    }
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
