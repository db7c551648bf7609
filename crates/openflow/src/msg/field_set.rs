//! Sets of fields, as table features and statistics have them.

use flow::{Field, oxm_class};

use crate::Version;

const WORDS: usize = Field::COUNT.div_ceil(64);

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FieldSet([u64; WORDS]);

impl FieldSet {
    /// Puts `field` in.
    pub fn insert(&mut self, field: Field) {
        if let Some(word) = self.0.get_mut(field.index() / 64) {
            *word |= 1 << (field.index() % 64);
        }
    }

    /// Whether `field` is in the set.
    #[must_use]
    pub fn contains(&self, field: Field) -> bool {
        self.0.get(field.index() / 64).is_some_and(|word| word >> (field.index() % 64) & 1 != 0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The fields in the set, in the order of the field table.
    pub fn iter(&self) -> impl Iterator<Item = Field> + '_ {
        Field::all().filter(|field| self.contains(*field))
    }

    /// The fields in either set.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
        self
    }

    /// The fields in both sets.
    #[must_use]
    pub fn intersection(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
        self
    }

    /// The fields that are not in the set.
    #[must_use]
    pub fn complement(self) -> Self {
        Field::all().filter(|field| !self.contains(*field)).collect()
    }

    /// OpenFlow 1.2's table statistics: bit `n` for field `n` of the basic class, even if only a later
    /// version has it.
    pub(crate) fn to_oxm_bits(self, version: Version) -> u64 {
        self.iter().filter_map(|field| basic_number(field, version)).fold(0, |bits, n| bits | 1 << n)
    }

    pub(crate) fn from_oxm_bits(bits: u64, version: Version) -> Self {
        let is_set = |n: u8| bits >> n & 1 != 0;
        Field::all().filter(|field| basic_number(*field, version).is_some_and(is_set)).collect()
    }
}

/// The field's number in the basic class, if it is among the first 64.
fn basic_number(field: Field, version: Version) -> Option<u8> {
    let id = field.oxm_id(version.wire())?;
    (id.class == oxm_class::BASIC && id.num < 64).then_some(id.num)
}

impl FromIterator<Field> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let mut set = Self::default();
        fields.into_iter().for_each(|field| set.insert(field));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let some: FieldSet = [Field::InPort, Field::TcpSrc].into_iter().collect();
        assert_eq!(some.iter().collect::<Vec<_>>(), [Field::InPort, Field::TcpSrc]);
        assert_eq!(some.complement().iter().count(), Field::COUNT - 2);
        assert!(some.intersection(some.complement()).is_empty());
        assert_eq!(some.union(some.complement()), Field::all().collect());
    }

    #[test]
    fn oxm_bits() {
        let set: FieldSet = [Field::InPort, Field::VlanVid, Field::Reg0].into_iter().collect();
        let bits = set.to_oxm_bits(Version::Of12);
        assert_eq!(bits & 0x7f, 1 << 6, "OXM_OF_VLAN_VID is field 6");
        let back = FieldSet::from_oxm_bits(bits, Version::Of12);
        assert!(back.contains(Field::VlanVid) && !back.contains(Field::Reg0));
    }
}
