//! Sets of action types, as features replies and table features have them.

use bitflags::bitflags;

use crate::Version;

macro_rules! action_types {
    ($($name:ident $bit:literal $numbers:tt;)+) => {
        bitflags! {
            /// Types of actions that a standard message can name.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
            #[allow(missing_docs)] // Named as the actions.
            pub struct ActionTypes: u32 {
                $(const $name = 1 << $bit;)+
            }
        }

        /// Each type with its `OFPAT_*` number in OpenFlow 1.0, in 1.1 and in later versions.
        const NUMBERS: &[(ActionTypes, [Option<u8>; 3])] = &[$((ActionTypes::$name, numbers!($numbers)),)+];
    };
}

macro_rules! numbers {
    (($a:tt $b:tt $c:tt)) => {
        [number!($a), number!($b), number!($c)]
    };
}

macro_rules! number {
    (-) => {
        None
    };
    ($n:literal) => {
        Some($n)
    };
}

action_types! {
    OUTPUT 0 (0 0 0);
    SET_VLAN_VID 1 (1 1 -);
    SET_VLAN_PCP 2 (2 2 -);
    STRIP_VLAN 3 (3 18 18);
    SET_ETH_SRC 4 (4 3 -);
    SET_ETH_DST 5 (5 4 -);
    SET_IPV4_SRC 6 (6 5 -);
    SET_IPV4_DST 7 (7 6 -);
    SET_IP_DSCP 8 (8 7 -);
    SET_IP_ECN 9 (- 8 -);
    SET_L4_SRC_PORT 10 (9 9 -);
    SET_L4_DST_PORT 11 (10 10 -);
    ENQUEUE 12 (11 - -);
    SET_MPLS_LABEL 13 (- 13 -);
    SET_MPLS_TC 14 (- 14 -);
    SET_MPLS_TTL 15 (- 15 15);
    DEC_MPLS_TTL 16 (- 16 16);
    PUSH_VLAN 17 (- 17 17);
    PUSH_MPLS 18 (- 19 19);
    POP_MPLS 19 (- 20 20);
    SET_QUEUE 20 (- 21 21);
    GROUP 21 (- 22 22);
    SET_IP_TTL 22 (- 23 23);
    DEC_TTL 23 (- 24 24);
    SET_FIELD 24 (- - 25);
}

impl ActionTypes {
    const fn column(version: Version) -> usize {
        match version {
            Version::Of10 => 0,
            Version::Of11 => 1,
            _ => 2,
        }
    }

    /// The types that `bits` stand for: bit `n` for `OFPAT_*` number `n` of `version`. Others are left out.
    #[must_use]
    pub fn from_wire(bits: u32, version: Version) -> Self {
        let column = Self::column(version);
        let is_set = |n: Option<u8>| n.is_some_and(|n| bits & 1 << n != 0);
        NUMBERS.iter().filter(|(_, numbers)| is_set(numbers[column])).map(|(t, _)| *t).collect()
    }

    /// The bits that stand for the types that `version` has.
    #[must_use]
    pub fn to_wire(self, version: Version) -> u32 {
        let column = Self::column(version);
        NUMBERS
            .iter()
            .filter(|(action_type, _)| self.contains(*action_type))
            .filter_map(|(_, numbers)| numbers[column])
            .fold(0, |bits, n| bits | 1 << n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_version_are_distinct() {
        for version in Version::ALL {
            let bits = ActionTypes::all().to_wire(version);
            let named = NUMBERS.iter().filter(|(_, n)| n[ActionTypes::column(version)].is_some()).count();
            assert_eq!(bits.count_ones() as usize, named, "{version}");
            assert_eq!(ActionTypes::from_wire(u32::MAX, version).to_wire(version), bits);
        }
    }
}
