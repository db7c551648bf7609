//! The `group` action: which buckets of a group get the packet.

use super::ctx::Ctx;
use super::trace::NodeKind;
use crate::effects::Effect;
use crate::groups::{Chooser, Group};
use crate::ids::OfPort;
use crate::port::PortState;
use dpif::DropReason;
use flow::{HashFields, hash};
use openflow::action;
use openflow::msg::group::{Bucket, GroupType, id};
use std::sync::Arc;

/// Groups that watch groups that watch groups: longer chains count as dead.
const WATCH_DEPTH_MAX: u32 = 128;

impl Ctx<'_> {
    pub fn group(&mut self, group_id: u32) {
        if !self.may_descend() {
            return;
        }
        let Some(group) = self.switch.groups.get(group_id).cloned() else {
            self.warn(&format!("output to nonexistent group {group_id}"));
            self.end_list = true;
            return;
        };
        match group.kind {
            GroupType::All | GroupType::Indirect => self.all_buckets(&group),
            GroupType::Select => {
                let chosen = self.select(&group);
                self.one_bucket(&group, chosen);
            }
            GroupType::FastFailover => {
                let chosen = self.first_live(&group, 0);
                self.one_bucket(&group, chosen);
            }
        }
    }

    fn all_buckets(&mut self, group: &Arc<Group>) {
        let last = self.last;
        for (i, bucket) in group.buckets.iter().enumerate() {
            self.last = last && i + 1 == group.buckets.len();
            self.bucket(bucket);
        }
        self.last = last;
        self.effects.push(Effect::Group { group: group.clone(), bucket: None });
    }

    fn one_bucket(&mut self, group: &Arc<Group>, chosen: Option<usize>) {
        let Some((at, bucket)) = chosen.and_then(|at| Some((at, group.buckets.get(at)?))) else {
            self.detail("no live bucket");
            return;
        };
        self.detail(&format!("using bucket {}", bucket.bucket_id));
        self.bucket(bucket);
        self.effects.push(Effect::Group { group: group.clone(), bucket: Some(at) });
    }

    /// Runs a bucket on a copy of the packet: nothing of it shows in what follows.
    fn bucket(&mut self, bucket: &Bucket) {
        self.report(NodeKind::Bucket, || format!("bucket {}", bucket.bucket_id));
        let list = action::set::execution_order(&bucket.actions);
        let (flow, was_mpls) = (self.flow.clone(), self.was_mpls);
        let in_group = std::mem::replace(&mut self.in_group, true);
        self.below(|cx| {
            cx.deeper(|cx| cx.list(&list));
            cx.finish_freezing();
        });
        (self.flow, self.was_mpls, self.in_group) = (flow, was_mpls, in_group);
        self.exit = false;
        // What one bucket cannot do to the packet is no reason not to try the others.
        if matches!(self.error, DropReason::TooManyMplsLabels | DropReason::UnsupportedPacketType) {
            self.error = DropReason::Ok;
        }
    }

    fn select(&mut self, group: &Group) -> Option<usize> {
        // Choosing looks behind the labels.
        if self.was_mpls {
            self.trigger_freeze();
            return None;
        }
        match &group.chooser {
            Chooser::Default => {
                HashFields::SymmetricL4.unwildcard(&self.flow, &mut self.wc);
                let basis = self.flow.hash_symmetric_l4(0);
                self.best_live(group, basis)
            }
            Chooser::Fields => {
                let basis = self.hash_of_fields(group);
                self.best_live(group, basis)
            }
            Chooser::DpHash { alg, basis, buckets } => {
                // The datapath's hash is never 0: 0 says that there is none yet.
                if self.flow.dp_hash == 0 {
                    self.freeze_for_hash(*alg, *basis);
                    return None;
                }
                let values = buckets.len() as u32;
                self.wc.dp_hash |= values - 1;
                // Where a bucket is dead, the values behind it decide: they are spread by weight, too.
                let from = self.flow.dp_hash;
                let at =
                    |i: u32| Some(usize::from(*buckets.get((from.wrapping_add(i) & (values - 1)) as usize)?));
                (0..values).filter_map(at).find(|at| self.is_live(group, *at, 0))
            }
        }
    }

    fn hash_of_fields(&mut self, group: &Group) -> u32 {
        let Some(selection) = &group.selection else { return 0 };
        let tlv = &self.switch.tlv;
        let mut basis = hash::uint64(selection.param, 0);
        for (field, mask) in &selection.fields {
            if !field.check_prereqs(&self.flow, &mut self.wc) {
                continue;
            }
            let value = field.get_in(&self.flow, tlv).and(mask);
            basis = hash::bytes(value.as_bytes(), basis);
            if let Some(i) = field.tlv_index() {
                let is_set = self.flow.tunnel.metadata_present & (1 << i) != 0;
                basis = hash::boolean(is_set, basis);
            }
            field.unwildcard_bits_in(&mut self.wc, mask, tlv);
        }
        basis
    }

    /// The live bucket whose score under `basis` is best.
    fn best_live(&mut self, group: &Group, basis: u32) -> Option<usize> {
        let mut best = None;
        let mut best_score = 0;
        for (at, bucket) in group.buckets.iter().enumerate() {
            if !self.is_live(group, at, 0) {
                self.report_dead(bucket);
                continue;
            }
            let score = (hash::int(bucket.bucket_id, basis) & 0xffff) * u32::from(bucket.weight);
            if score >= best_score {
                (best, best_score) = (Some(at), score);
            }
            self.report(NodeKind::Detail, || format!("bucket {}: score {score}", bucket.bucket_id));
        }
        best
    }

    fn first_live(&mut self, group: &Group, depth: u32) -> Option<usize> {
        for (at, bucket) in group.buckets.iter().enumerate() {
            if self.is_live(group, at, depth) {
                return Some(at);
            }
            self.report_dead(bucket);
        }
        None
    }

    fn report_dead(&mut self, bucket: &Bucket) {
        self.report(NodeKind::Detail, || {
            let port = (bucket.watch_port != OfPort::NONE).then(|| format!("port {}", bucket.watch_port));
            let group = (bucket.watch_group != id::ANY).then(|| format!("port {}", bucket.watch_group));
            let watched: Vec<_> = port.into_iter().chain(group).collect();
            format!("bucket {}: not live due to {}", bucket.bucket_id, watched.join(" and "))
        });
    }

    fn is_live(&mut self, group: &Group, at: usize, depth: u32) -> bool {
        let Some(bucket) = group.buckets.get(at) else { return false };
        if depth >= WATCH_DEPTH_MAX {
            let text = format!("bucket chaining exceeded {WATCH_DEPTH_MAX} links");
            self.report(NodeKind::Error, || text);
            return false;
        }
        if group.kind == GroupType::Select && bucket.weight == 0 {
            return false;
        }
        if !bucket.has_liveness() {
            return true;
        }
        let switch = self.switch;
        let port_is_live = match bucket.watch_port {
            OfPort::NONE => false,
            OfPort::CONTROLLER => switch.has_controllers,
            no => switch.port(no).is_some_and(|p| p.state().contains(PortState::LIVE)),
        };
        port_is_live || (bucket.watch_group != id::ANY && self.group_is_live(bucket.watch_group, depth + 1))
    }

    fn group_is_live(&mut self, group_id: u32, depth: u32) -> bool {
        let group = self.switch.groups.get(group_id).cloned();
        group.is_some_and(|g| self.first_live(&g, depth).is_some())
    }
}
