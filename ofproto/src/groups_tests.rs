use super::*;
use crate::ids::SwitchId;
use openflow::PortNo;

fn bucket(bucket_id: u32, weight: u16) -> Bucket {
    Bucket { bucket_id, weight, watch_port: PortNo::NONE, watch_group: id::ANY, actions: Vec::new() }
}

fn group_mod(command: GroupModCommand, group_id: u32, ids: &[u32]) -> GroupMod {
    GroupMod {
        command,
        group_type: GroupType::All,
        group_id,
        command_bucket_id: bucket_id::ALL,
        buckets: ids.iter().map(|id| bucket(*id, 0)).collect(),
        selection: None,
    }
}

fn switch() -> Switch {
    Switch::new(SwitchId(1), "br0", 1)
}

fn ids(switch: &Switch, group: u32) -> Vec<u32> {
    switch.groups.get(group).unwrap().buckets.iter().map(|b| b.bucket_id).collect()
}

#[test]
fn commands_want_what_they_change_to_be_there() {
    use GroupModCommand::{Add, AddOrModify, Delete, Modify, RemoveBucket};
    let mut sw = switch();
    let run = |sw: &mut Switch, gm: &GroupMod| sw.apply_group(gm, 0).map(|_| ()).err();
    assert_eq!(run(&mut sw, &group_mod(Modify, 1, &[0])), Some(OfError::OfpgmfcUnknownGroup));
    assert_eq!(run(&mut sw, &group_mod(RemoveBucket, 1, &[])), Some(OfError::OfpgmfcUnknownGroup));
    assert_eq!(run(&mut sw, &group_mod(Delete, 1, &[])), None);
    assert_eq!(run(&mut sw, &group_mod(AddOrModify, 1, &[0])), None);
    assert_eq!(run(&mut sw, &group_mod(Add, 1, &[0])), Some(OfError::OfpgmfcGroupExists));
    assert_eq!(run(&mut sw, &group_mod(AddOrModify, 1, &[5, 6])), None);
    assert_eq!(ids(&sw, 1), [5, 6]);
    assert_eq!(run(&mut sw, &group_mod(Add, id::ALL, &[])), Some(OfError::OfpgmfcInvalidGroup));
}

#[test]
fn buckets_go_where_the_command_says() {
    let mut sw = switch();
    sw.apply_group(&group_mod(GroupModCommand::Add, 1, &[1, 2, 3]), 0).unwrap();
    let mut insert = |at: u32, new: &[u32]| {
        let gm = GroupMod { command_bucket_id: at, ..group_mod(GroupModCommand::InsertBucket, 1, new) };
        sw.apply_group(&gm, 0).map(|_| ids(&sw, 1))
    };
    assert_eq!(insert(bucket_id::FIRST, &[10, 11]), Ok(vec![10, 11, 1, 2, 3]));
    assert_eq!(insert(bucket_id::LAST, &[12]), Ok(vec![10, 11, 1, 2, 3, 12]));
    assert_eq!(insert(1, &[13, 14]), Ok(vec![10, 11, 1, 13, 14, 2, 3, 12]));
    assert_eq!(insert(99, &[15]), Err(OfError::OfpgmfcUnknownBucket));
    assert_eq!(insert(1, &[3]), Err(OfError::OfpgmfcBucketExists));
    let mut remove = |at: u32| {
        let gm = GroupMod { command_bucket_id: at, ..group_mod(GroupModCommand::RemoveBucket, 1, &[]) };
        sw.apply_group(&gm, 0).map(|_| ids(&sw, 1))
    };
    assert_eq!(remove(bucket_id::FIRST), Ok(vec![11, 1, 13, 14, 2, 3, 12]));
    assert_eq!(remove(bucket_id::LAST), Ok(vec![11, 1, 13, 14, 2, 3]));
    assert_eq!(remove(14), Ok(vec![11, 1, 13, 2, 3]));
    assert_eq!(remove(14), Err(OfError::OfpgmfcUnknownBucket));
    assert_eq!(remove(bucket_id::ALL), Ok(vec![]));
}

#[test]
fn changes_can_be_taken_back() {
    let mut sw = switch();
    sw.apply_group(&group_mod(GroupModCommand::Add, 1, &[1]), 0).unwrap();
    let mut done = Vec::new();
    for gm in [
        group_mod(GroupModCommand::Modify, 1, &[2]),
        group_mod(GroupModCommand::Add, 2, &[]),
        group_mod(GroupModCommand::Delete, id::ALL, &[]),
        group_mod(GroupModCommand::Add, 1, &[3]),
    ] {
        done.extend(sw.apply_group(&gm, 0).unwrap().0);
    }
    sw.undo_groups(done);
    assert_eq!(ids(&sw, 1), [1]);
    assert!(sw.groups.get(2).is_none());
}

#[test]
fn hash_values_are_shared_by_weight() {
    let shares = |weights: &[u16]| {
        let buckets: Vec<_> = weights.iter().enumerate().map(|(i, w)| bucket(i as u32, *w)).collect();
        hash_map(&buckets).map(|map| {
            (0..weights.len())
                .map(|i| map.iter().filter(|b| usize::from(**b) == i).count())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(shares(&[1, 1]), Some(vec![8, 8]));
    assert_eq!(shares(&[3, 1]), Some(vec![12, 4]));
    assert_eq!(shares(&[0, 1, 2]), Some(vec![0, 5, 11]));
    assert_eq!(shares(&[1, 255]), Some(vec![1, 255]));
    assert_eq!(shares(&[1, 256]), None);
    assert_eq!(shares(&[0, 0]), None);
    assert_eq!(shares(&[]), None);
}
