//! Commands and flags of flow-mods.

use bitflags::bitflags;

use crate::{OfError, Version};

/// What to do with flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowModCommand {
    /// Add one, in place of one with the same match and priority.
    Add = 0,
    /// Change those that the match covers.
    Modify = 1,
    /// Change the one with the same match and priority.
    ModifyStrict = 2,
    /// Delete those that the match covers.
    Delete = 3,
    /// Delete the one with the same match and priority.
    DeleteStrict = 4,
}

impl FlowModCommand {
    /// # Errors
    /// `OFPFMFC_BAD_COMMAND`
    pub(super) const fn from_wire(wire: u16) -> Result<Self, OfError> {
        Ok(match wire {
            0 => Self::Add,
            1 => Self::Modify,
            2 => Self::ModifyStrict,
            3 => Self::Delete,
            4 => Self::DeleteStrict,
            _ => return Err(OfError::OfpfmfcBadCommand),
        })
    }

    /// Whether it deletes.
    #[must_use]
    pub const fn is_delete(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteStrict)
    }

    /// Whether it modifies.
    #[must_use]
    pub const fn is_modify(self) -> bool {
        matches!(self, Self::Modify | Self::ModifyStrict)
    }

    /// Whether it is for the flow with exactly the given match and priority.
    #[must_use]
    pub const fn is_strict(self) -> bool {
        matches!(self, Self::ModifyStrict | Self::DeleteStrict)
    }
}

bitflags! {
    /// Flags of flow-mods and of flows.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FlowFlags: u16 {
        /// Tell when the flow goes.
        const SEND_FLOW_REM = 1 << 0;
        /// Do not count packets (OpenFlow 1.3+).
        const NO_PKT_COUNTS = 1 << 1;
        /// Do not count bytes (OpenFlow 1.3+).
        const NO_BYT_COUNTS = 1 << 2;
        /// Add nothing that overlaps a flow of the same priority.
        const CHECK_OVERLAP = 1 << 3;
        /// Set counters to zero (OpenFlow 1.2+; implied by an add before).
        const RESET_COUNTS = 1 << 4;
        /// For emergencies (OpenFlow 1.0): refused.
        const EMERG = 1 << 5;
        /// From the switch itself: fields that controllers may not match are allowed. Does not travel.
        const HIDDEN_FIELDS = 1 << 6;
        /// From the switch itself: tables that controllers may not change are allowed. Does not travel.
        const NO_READONLY = 1 << 7;
    }
}

/// Each flag's bit on the wire, and the versions that have it.
const WIRE_FLAGS: [(FlowFlags, u16, Version, Version); 6] = [
    (FlowFlags::SEND_FLOW_REM, 1 << 0, Version::Of10, Version::Of15),
    (FlowFlags::CHECK_OVERLAP, 1 << 1, Version::Of10, Version::Of15),
    (FlowFlags::EMERG, 1 << 2, Version::Of10, Version::Of10),
    (FlowFlags::RESET_COUNTS, 1 << 2, Version::Of12, Version::Of15),
    (FlowFlags::NO_PKT_COUNTS, 1 << 3, Version::Of13, Version::Of15),
    (FlowFlags::NO_BYT_COUNTS, 1 << 4, Version::Of13, Version::Of15),
];

impl FlowFlags {
    /// What a flow keeps of the flags that it was added with.
    pub const STATE: Self = Self::SEND_FLOW_REM
        .union(Self::NO_PKT_COUNTS)
        .union(Self::NO_BYT_COUNTS)
        .union(Self::CHECK_OVERLAP)
        .union(Self::RESET_COUNTS);

    /// # Errors
    /// `OFPFMFC_BAD_FLAGS` for bits that `version` does not have.
    pub(crate) fn from_wire(wire: u16, version: Version) -> Result<Self, OfError> {
        let mut flags = Self::empty();
        let mut known = 0;
        for (flag, bit, first, last) in WIRE_FLAGS {
            if first <= version && version <= last {
                known |= bit;
                flags.set(flag, wire & bit != 0);
            }
        }
        if wire & !known == 0 { Ok(flags) } else { Err(OfError::OfpfmfcBadFlags) }
    }

    pub(crate) fn to_wire(self, version: Version) -> u16 {
        WIRE_FLAGS
            .into_iter()
            .filter(|(flag, _, first, last)| self.contains(*flag) && *first <= version && version <= *last)
            .fold(0, |wire, (_, bit, ..)| wire | bit)
    }
}
