//! Megaflows that change headers and send. Their actions are made into one [`Rewrite`], and packets are changed in the
//! buffers of their device.
//!
//! Only packets of the lanes' shapes come here. Those that cannot be changed in place are left to the actions themselves, which
//! say what is right.

use crate::express::{Parts, take};
use crate::item::Items;
use crate::lane::WideLane;
use crate::megaflow::Megaflow;
use crate::output::{Outs, join};
use crate::worker::{View, Worker};
use arrayvec::ArrayVec;
use dpif::{Action, PortNo, SetKey};
use netdev::burst::places;
use netdev::{Burst, Part, Rewrite};
use packet::BATCH_LEN;
use packet::proto::ip_proto;

/// What such a megaflow does.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub out: PortNo,
    pub rewrite: Rewrite,
}

impl Edit {
    /// `None` if the actions are others.
    pub fn of(actions: &[Action]) -> Option<Box<Self>> {
        let (Action::Output(out), edits) = actions.split_last()? else { return None };
        let mut rewrite = Rewrite::default();
        let are_all = !edits.is_empty() && edits.iter().all(|action| add(&mut rewrite, action));
        are_all.then(|| Box::new(Edit { out: *out, rewrite }))
    }
}

/// Takes in an action; false if it is none of these.
fn add(rewrite: &mut Rewrite, action: &Action) -> bool {
    match action {
        Action::Set(SetKey::Ethernet(m)) => rewrite.set_macs(m),
        Action::Set(SetKey::Ipv4(m)) => rewrite.set_ipv4(m),
        Action::Set(SetKey::Ipv6(m)) => rewrite.set_ipv6(m),
        Action::Set(SetKey::Tcp(m)) => return rewrite.set_ports(m, ip_proto::TCP),
        Action::Set(SetKey::Udp(m)) => return rewrite.set_ports(m, ip_proto::UDP),
        Action::PushVlan { tpid, tci } => return rewrite.push_tag(*tpid, *tci),
        Action::PopVlan => return rewrite.pop_tag(),
        _ => return false,
    }
    true
}

/// Changes packets of a burst; where they leave to now, and their places.
#[inline]
fn change<'e>(burst: &mut dyn Burst, edits: impl Iterator<Item = (&'e Edit, u32)> + Clone) -> (Outs, u32) {
    let parts = edits.clone().map(|(edit, bits)| Part::new(&edit.rewrite, bits));
    // There are no more megaflows than packets.
    let mut parts: ArrayVec<_, BATCH_LEN> = parts.take(BATCH_LEN).collect();
    burst.rewrite(&mut parts);
    let (mut outs, mut changed) = (Outs::new(), 0);
    for ((edit, _), part) in edits.zip(&parts) {
        join(&mut outs, edit.out, part.places, part.bytes);
        changed |= part.places;
    }
    (outs, changed)
}

impl Worker {
    /// Runs the actions of megaflows that change headers and send ([`crate::lane::Way::Edit`]). The megaflows have
    /// counted the packets.
    #[inline(never)]
    pub fn edit_burst(&mut self, view: View<'_>, in_port: u32, burst: &mut dyn Burst, parts: &Parts) {
        let edit = |(slot, bits): &(u32, u32)| Some((self.lane.flow(*slot)?.edit.as_deref()?, *bits));
        let (outs, changed) = change(burst, parts.iter().filter_map(edit));
        self.send_outs(in_port, burst, &outs);
        for (slot, bits) in parts.iter().filter(|(_, bits)| bits & !changed != 0) {
            let Some(flow) = self.lane.flow(*slot).cloned() else { continue };
            let mut items: Items =
                places(bits & !changed).filter_map(|place| take(burst, in_port, place)).collect();
            self.execute(view, &flow.actions, &mut items, 0);
        }
    }

    /// As [`Worker::edit_burst`], of one megaflow. Returns the places of packets that were changed and sent; others are left in
    /// the burst.
    pub fn edit_one(&mut self, in_port: u32, burst: &mut dyn Burst, flow: &Megaflow, bits: u32) -> u32 {
        let Some(edit) = flow.edit.as_deref() else { return 0 };
        let (outs, changed) = change(burst, std::iter::once((edit, bits)));
        self.send_outs(in_port, burst, &outs);
        changed
    }

    /// As [`Worker::edit_burst`], of the megaflows of a look at packets of the wide shape. Returns the places of those that were
    /// changed and sent; others are left in the burst.
    #[inline]
    pub fn edit_wide(&mut self, in_port: u32, burst: &mut dyn Burst, wide: &WideLane) -> u32 {
        let edits = wide.runs().iter().filter_map(|run| {
            let edit = wide.flow(run.slot)?.edit.as_deref()?;
            Some((edit, run.sum.places))
        });
        let (outs, changed) = change(burst, edits);
        self.send_outs(in_port, burst, &outs);
        changed
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
