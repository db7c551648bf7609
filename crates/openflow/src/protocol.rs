//! Protocols: a version together with the way in which flows travel in it.
//!
//! OpenFlow 1.0 has four: its own match or Nicira's (`NXT_SET_FLOW_FORMAT`), each with or without a table
//! id in the command of a flow-mod (`NXT_FLOW_MOD_TABLE_ID`). Later versions have one each.

pub use flow::Protocols;

use crate::Version;

/// How flows travel on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u16)]
pub enum Protocol {
    /// OpenFlow 1.0 with its own match.
    Of10Std = 1 << 0,
    /// The same with table ids in flow-mods.
    Of10StdTid = 1 << 1,
    /// OpenFlow 1.0 with Nicira's extensible match.
    Of10Nxm = 1 << 2,
    /// The same with table ids in flow-mods.
    Of10NxmTid = 1 << 3,
    /// OpenFlow 1.1
    Of11 = 1 << 4,
    /// OpenFlow 1.2
    Of12 = 1 << 5,
    /// OpenFlow 1.3
    Of13 = 1 << 6,
    /// OpenFlow 1.4
    Of14 = 1 << 7,
    /// OpenFlow 1.5
    Of15 = 1 << 8,
}

impl Protocol {
    /// Every protocol, oldest first.
    pub const ALL: [Self; 9] = [
        Self::Of10Std,
        Self::Of10StdTid,
        Self::Of10Nxm,
        Self::Of10NxmTid,
        Self::Of11,
        Self::Of12,
        Self::Of13,
        Self::Of14,
        Self::Of15,
    ];

    /// The protocol that a connection of `version` starts with.
    #[must_use]
    pub const fn initial(version: Version) -> Self {
        match version {
            Version::Of10 => Self::Of10Std,
            Version::Of11 => Self::Of11,
            Version::Of12 => Self::Of12,
            Version::Of13 => Self::Of13,
            Version::Of14 => Self::Of14,
            Version::Of15 => Self::Of15,
        }
    }

    /// The version of the protocol's messages.
    #[must_use]
    pub const fn version(self) -> Version {
        match self {
            Self::Of10Std | Self::Of10StdTid | Self::Of10Nxm | Self::Of10NxmTid => Version::Of10,
            Self::Of11 => Version::Of11,
            Self::Of12 => Version::Of12,
            Self::Of13 => Version::Of13,
            Self::Of14 => Version::Of14,
            Self::Of15 => Version::Of15,
        }
    }

    /// Whether flow-mods name their table.
    #[must_use]
    pub const fn has_table_id(self) -> bool {
        !matches!(self, Self::Of10Std | Self::Of10Nxm)
    }

    /// Whether flows travel with Nicira's match in OpenFlow 1.0.
    #[must_use]
    pub const fn is_nxm(self) -> bool {
        matches!(self, Self::Of10Nxm | Self::Of10NxmTid)
    }

    /// The same with (`NXT_FLOW_MOD_TABLE_ID`) or without table ids. Versions after 1.0 always have them.
    #[must_use]
    pub const fn with_table_id(self, enable: bool) -> Self {
        match (self, enable) {
            (Self::Of10Std | Self::Of10StdTid, true) => Self::Of10StdTid,
            (Self::Of10Std | Self::Of10StdTid, false) => Self::Of10Std,
            (Self::Of10Nxm | Self::Of10NxmTid, true) => Self::Of10NxmTid,
            (Self::Of10Nxm | Self::Of10NxmTid, false) => Self::Of10Nxm,
            (other, _) => other,
        }
    }

    /// The same with Nicira's match or the standard's (`NXT_SET_FLOW_FORMAT`). No effect after 1.0.
    #[must_use]
    pub const fn with_nxm(self, enable: bool) -> Self {
        match self.version() {
            Version::Of10 if enable => Self::Of10Nxm.with_table_id(self.has_table_id()),
            Version::Of10 => Self::Of10Std.with_table_id(self.has_table_id()),
            _ => self,
        }
    }

    /// The set of this protocol alone.
    #[must_use]
    pub const fn as_set(self) -> Protocols {
        Protocols::from_bits_truncate(self as u16)
    }

    /// The protocols of `version`.
    #[must_use]
    pub const fn all_of(version: Version) -> Protocols {
        match version {
            Version::Of10 => Protocols::OF10_ANY,
            later => Self::initial(later).as_set(),
        }
    }

    /// As in `ovs-ofctl --flow-format`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Of10Std => "OpenFlow10-table_id",
            Self::Of10StdTid => "OpenFlow10+table_id",
            Self::Of10Nxm => "NXM-table_id",
            Self::Of10NxmTid => "NXM+table_id",
            Self::Of11 => "OpenFlow11",
            Self::Of12 => "OXM-OpenFlow12",
            Self::Of13 => "OXM-OpenFlow13",
            Self::Of14 => "OXM-OpenFlow14",
            Self::Of15 => "OXM-OpenFlow15",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_agree_with_protocols() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocols::TID.contains(protocol.as_set()), protocol.has_table_id());
            assert!(Protocol::all_of(protocol.version()).contains(protocol.as_set()));
            assert_eq!(protocol.as_set().bits().count_ones(), 1);
        }
        assert_eq!(Protocols::ANY, Protocols::all());
    }

    #[test]
    fn extensions_of_openflow10_are_independent() {
        let p = Protocol::initial(Version::Of10);
        assert_eq!(p.with_table_id(true).with_nxm(true), Protocol::Of10NxmTid);
        assert_eq!(p.with_nxm(true).with_table_id(true).with_nxm(false), Protocol::Of10StdTid);
        assert_eq!(Protocol::Of13.with_nxm(true).with_table_id(false), Protocol::Of13);
    }
}
