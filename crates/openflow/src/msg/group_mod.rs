//! `OFPT_GROUP_MOD`, and `NXT_GROUP_MOD` in OpenFlow 1.0.

use crate::context::{Context, Target};
use crate::form::{Form, Incoming};
use crate::msg::group::{Bucket, GroupType, Selection, bucket_id, is_of15_style};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// What to do with groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum GroupModCommand {
    /// Add a group.
    Add = 0,
    /// Change a group.
    Modify = 1,
    /// Delete a group, or all.
    Delete = 2,
    /// Put buckets into a group (OpenFlow 1.5).
    InsertBucket = 3,
    /// Take buckets out of a group (OpenFlow 1.5).
    RemoveBucket = 5,
    /// Add a group, or change it if it is there (Nicira's extension).
    AddOrModify = 0x8000,
}

/// A group-mod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// What the group does with a packet.
    pub group_type: GroupType,
    /// The group.
    pub group_id: u32,
    /// Behind which bucket to insert, or which one to remove; [`bucket_id::ALL`] for other commands.
    pub command_bucket_id: u32,
    /// The buckets.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses, if not by the switch's own way.
    pub selection: Option<Selection>,
}

impl GroupModCommand {
    const fn from_wire(wire: u16) -> Result<Self, OfError> {
        Ok(match wire {
            0 => Self::Add,
            1 => Self::Modify,
            2 => Self::Delete,
            3 => Self::InsertBucket,
            5 => Self::RemoveBucket,
            0x8000 => Self::AddOrModify,
            _ => return Err(OfError::OfpgmfcBadCommand),
        })
    }

    /// Whether a group-mod with the command `wire` may say how to select.
    fn may_select(wire: u16) -> Result<(), OfError> {
        match Self::from_wire(wire)? {
            Self::Add | Self::Modify | Self::AddOrModify => Ok(()),
            Self::Delete | Self::InsertBucket | Self::RemoveBucket => Err(OfError::OfpbpcBadValue),
        }
    }
}

/// A group-mod whose type and command have not been looked at.
struct Parts {
    command: u16,
    group_type: u8,
    group_id: u32,
    command_bucket_id: u32,
    buckets: Vec<Bucket>,
    selection: Option<Selection>,
}

impl GroupMod {
    /// Decodes a group-mod.
    ///
    /// # Errors
    /// `OFPGMFC_*`, and those of properties and actions.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        let parts = if is_of15_style(msg.version) {
            Parts::take_of15(msg.body(), msg.version, context)?
        } else {
            Parts::take_of11(msg.body(), msg.version, context)?
        };
        parts.check()
    }

    /// Encodes a group-mod. Commands that only OpenFlow 1.5 has cannot be encoded for 1.1 to 1.4; then the
    /// result is `None`.
    #[must_use]
    pub fn encode(&self, target: &Target<'_>, xid: u32) -> Option<Vec<u8>> {
        let version = target.version();
        let form = match version {
            Version::Of10 => Form::NxtGroupMod,
            Version::Of15 => Form::Ofpt15GroupMod,
            _ => Form::Ofpt11GroupMod,
        };
        let is_of15_only =
            matches!(self.command, GroupModCommand::InsertBucket | GroupModCommand::RemoveBucket);
        if is_of15_only && form == Form::Ofpt11GroupMod {
            return None;
        }
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            out.put_u16(self.command as u16);
            out.put_u8(self.group_type as u8);
            out.put_zeros(1);
            out.put_u32(self.group_id);
            if form == Form::Ofpt11GroupMod {
                self.buckets.iter().for_each(|b| b.put_of11(out, target));
            } else {
                self.put_of15(out, target);
            }
        });
        Some(out)
    }

    fn put_of15(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let len_at = out.len();
        out.put_zeros(4);
        out.put_u32(self.command_bucket_id);
        let start = out.len();
        self.buckets.iter().for_each(|b| b.put_of15(out, self.group_type, target));
        let len = len16(out.len() - start);
        out.set_u16(len_at, len);
        if let Some(selection) = &self.selection {
            selection.put(out, target.version());
        }
    }

    /// As an earlier version says it: inserting and removing buckets is modifying a group to have the
    /// buckets `new_buckets`, and adding or modifying is the one that `existed` tells.
    #[must_use]
    pub fn in_terms_of(&self, version: Version, new_buckets: &[Bucket], existed: bool) -> Self {
        let mut this = self.clone();
        let of15_only = matches!(self.command, GroupModCommand::InsertBucket | GroupModCommand::RemoveBucket);
        if of15_only && !is_of15_style(version) {
            this.command = GroupModCommand::Modify;
            this.buckets = new_buckets.to_vec();
        } else if self.command == GroupModCommand::AddOrModify {
            this.command = if existed { GroupModCommand::Modify } else { GroupModCommand::Add };
        }
        this
    }
}

impl Parts {
    fn take_of11(mut r: Reader<'_>, version: Version, context: &Context<'_>) -> Result<Self, OfError> {
        let command = r.u16()?;
        let group_type = r.u8()?;
        r.skip(1)?;
        let group_id = r.u32()?;
        let buckets = Bucket::take_all_of11(r, version, context)?;
        let is_delete = command == GroupModCommand::Delete as u16;
        if version >= Version::Of13 && is_delete && !buckets.is_empty() {
            return Err(OfError::OfpgmfcInvalidGroup);
        }
        Ok(Self {
            command,
            group_type,
            group_id,
            command_bucket_id: bucket_id::ALL,
            buckets,
            selection: None,
        })
    }

    fn take_of15(mut r: Reader<'_>, version: Version, context: &Context<'_>) -> Result<Self, OfError> {
        let command = r.u16()?;
        let group_type = r.u8()?;
        r.skip(1)?;
        let group_id = r.u32()?;
        let buckets_len = usize::from(r.u16()?);
        r.skip(2)?;
        let command_bucket_id = r.u32()?;
        check_command_bucket(command, command_bucket_id)?;
        let buckets = Bucket::take_all_of15(r.sub(buckets_len)?, group_type, version, context)?;
        let may_select = GroupModCommand::may_select(command);
        let selection = Selection::take_properties(r, group_type, may_select)?;
        Ok(Self { command, group_type, group_id, command_bucket_id, buckets, selection })
    }

    fn check(self) -> Result<GroupMod, OfError> {
        let group_type = GroupType::from_wire(self.group_type)?;
        let is_delete = self.command == GroupModCommand::Delete as u16;
        if group_type == GroupType::Indirect && !is_delete && self.buckets.len() != 1 {
            return Err(OfError::OfpgmfcInvalidGroup);
        }
        let command = GroupModCommand::from_wire(self.command)?;
        if command == GroupModCommand::RemoveBucket && !self.buckets.is_empty() {
            return Err(OfError::OfpgmfcBadBucket);
        }
        for bucket in &self.buckets {
            check_bucket(bucket, group_type, command)?;
        }
        Ok(GroupMod {
            command,
            group_type,
            group_id: self.group_id,
            command_bucket_id: self.command_bucket_id,
            buckets: self.buckets,
            selection: self.selection,
        })
    }
}

fn check_command_bucket(command: u16, id: u32) -> Result<(), OfError> {
    let is_place = id <= bucket_id::MAX || id == bucket_id::FIRST || id == bucket_id::LAST;
    let fits = match GroupModCommand::from_wire(command) {
        Ok(GroupModCommand::InsertBucket) => is_place,
        Ok(GroupModCommand::RemoveBucket) => is_place || id == bucket_id::ALL,
        _ => id == bucket_id::ALL,
    };
    if fits { Ok(()) } else { Err(OfError::OfpgmfcBadBucket) }
}

fn check_bucket(bucket: &Bucket, group_type: GroupType, command: GroupModCommand) -> Result<(), OfError> {
    let may_have_weight = group_type == GroupType::Select || command == GroupModCommand::InsertBucket;
    if bucket.weight != 0 && !may_have_weight {
        return Err(OfError::OfpgmfcInvalidGroup);
    }
    match group_type {
        GroupType::All | GroupType::Indirect if bucket.has_liveness() => {
            Err(OfError::OfpgmfcWatchUnsupported)
        }
        GroupType::FastFailover if !bucket.has_liveness() => Err(OfError::OfpgmfcInvalidGroup),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::group;
    use crate::{PortNo, Protocol, identify};

    fn add(group_type: GroupType, buckets: Vec<Bucket>) -> GroupMod {
        GroupMod {
            command: GroupModCommand::Add,
            group_type,
            group_id: 1,
            command_bucket_id: bucket_id::ALL,
            buckets,
            selection: None,
        }
    }

    fn bucket(id: u32) -> Bucket {
        Bucket {
            bucket_id: id,
            weight: 0,
            watch_port: PortNo::NONE,
            watch_group: group::id::ANY,
            actions: Vec::new(),
        }
    }

    fn again(group_mod: &GroupMod, protocol: Protocol) -> Result<GroupMod, OfError> {
        let message = group_mod.encode(&Target::new(protocol), 1).unwrap();
        GroupMod::decode(&identify(&message).unwrap(), &Context::unbound(protocol))
    }

    #[test]
    fn buckets_fit_the_type() {
        let indirect = |n: u32| add(GroupType::Indirect, (0..n).map(bucket).collect());
        let mut failover = add(GroupType::FastFailover, vec![bucket(0)]);
        let mut all = add(GroupType::All, vec![bucket(0)]);
        all.buckets[0].watch_port = PortNo(1);
        for protocol in [Protocol::Of10Std, Protocol::Of11, Protocol::Of13, Protocol::Of15] {
            assert_eq!(again(&indirect(0), protocol), Err(OfError::OfpgmfcInvalidGroup));
            assert!(again(&indirect(1), protocol).is_ok());
            assert_eq!(again(&indirect(2), protocol), Err(OfError::OfpgmfcInvalidGroup));
            failover.buckets[0].watch_port = PortNo::NONE;
            assert_eq!(again(&failover, protocol), Err(OfError::OfpgmfcInvalidGroup));
            failover.buckets[0].watch_port = PortNo(1);
            assert!(again(&failover, protocol).is_ok());
            assert_eq!(again(&all, protocol), Err(OfError::OfpgmfcWatchUnsupported));
        }
    }

    #[test]
    fn buckets_are_inserted_since_openflow15() {
        let mut insert = add(GroupType::All, vec![bucket(3)]);
        insert.command = GroupModCommand::InsertBucket;
        insert.command_bucket_id = bucket_id::LAST;
        assert_eq!(again(&insert, Protocol::Of15), Ok(insert.clone()));
        assert_eq!(insert.encode(&Target::new(Protocol::Of13), 1), None);
        let whole = [bucket(1), bucket(3)];
        let modify = insert.in_terms_of(Version::Of13, &whole, true);
        assert_eq!((modify.command, modify.buckets.as_slice()), (GroupModCommand::Modify, whole.as_slice()));
        assert_eq!(insert.in_terms_of(Version::Of15, &whole, true), insert);
        insert.command = GroupModCommand::RemoveBucket;
        assert_eq!(again(&insert, Protocol::Of15), Err(OfError::OfpgmfcBadBucket));
    }

    #[test]
    fn adding_or_modifying_is_one_of_the_two() {
        let mut either = add(GroupType::All, Vec::new());
        either.command = GroupModCommand::AddOrModify;
        assert_eq!(either.in_terms_of(Version::Of13, &[], false).command, GroupModCommand::Add);
        assert_eq!(either.in_terms_of(Version::Of15, &[], true).command, GroupModCommand::Modify);
    }
}
