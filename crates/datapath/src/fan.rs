//! Megaflows that send packets as they came: to several ports, to some or none after a meter, or to nobody. Packets stay in
//! the buffers of their device, which share them where they can.

use crate::drops::DropCause;
use crate::express::{Parts, take};
use crate::item::Items;
use crate::megaflow::Megaflow;
use crate::worker::{View, Worker};
use dpif::{Action, PortNo};
use netdev::Burst;
use netdev::burst::places;
use packet::BATCH_LEN;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Meter(u32),
    Output(PortNo),
}

/// What becomes of packets after the last step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The last step has sent them.
    Sent,
    /// They were sent before, and end here.
    Finished,
    Lost(DropCause),
}

/// What such a megaflow does.
#[derive(Debug)]
pub(crate) struct Fan {
    steps: Vec<Step>,
    end: End,
    /// Some packets are sent more than once.
    copies: bool,
}

impl Fan {
    /// `None` if the actions are others, or a single output.
    pub fn of(actions: &[Action]) -> Option<Box<Self>> {
        if let [Action::Output(_)] = actions {
            return None;
        }
        let (reason, others) = match actions.split_last() {
            Some((Action::Drop(reason), others)) => (Some(*reason), others),
            _ => (None, actions),
        };
        let step = |action: &Action| match action {
            Action::Meter(id) => Some(Step::Meter(*id)),
            Action::Output(port) => Some(Step::Output(*port)),
            _ => None,
        };
        let steps: Vec<Step> = others.iter().map(step).collect::<Option<_>>()?;
        let outputs = steps.iter().filter(|step| matches!(step, Step::Output(_))).count();
        let end = match (reason, steps.last()) {
            (Some(reason), _) => End::Lost(reason.into()),
            (None, Some(Step::Output(_))) => End::Sent,
            (None, _) if outputs > 0 => End::Finished,
            (None, _) => End::Lost(DropCause::OfPipeline),
        };
        let copies = outputs > usize::from(end == End::Sent);
        Some(Box::new(Fan { steps, end, copies }))
    }
}

impl Worker {
    /// Runs the actions of megaflows that [`Fan`], which have counted the packets. `lens` are the lengths of packets by place.
    #[inline(never)]
    pub fn fan_burst(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        parts: &Parts,
        lens: &[u32; BATCH_LEN],
    ) {
        let mut merged = Parts::new();
        for (slot, bits) in parts {
            match merged.iter_mut().rev().find(|(known, _)| known == slot) {
                Some((_, all)) => *all |= bits,
                None => merged.push((*slot, *bits)),
            }
        }
        for (slot, bits) in &merged {
            let Some(flow) = self.lane.flow(*slot).cloned() else { continue };
            if !self.fan(view, in_port, burst, &flow, *bits, lens) {
                let mut items: Items =
                    places(*bits).filter_map(|place| take(burst, in_port, place)).collect();
                self.execute(view, &flow.actions, &mut items, 0);
            }
        }
    }

    /// As [`Worker::fan_burst`], for packets of one megaflow. `false` if the megaflow or the burst is not made for it, and
    /// nothing was done.
    pub fn fan(
        &mut self,
        view: View<'_>,
        in_port: u32,
        burst: &mut dyn Burst,
        flow: &Megaflow,
        mut bits: u32,
        lens: &[u32; BATCH_LEN],
    ) -> bool {
        let Some(fan) = flow.fan.as_deref().filter(|fan| !fan.copies || burst.can_copy()) else {
            return false;
        };
        for (n, step) in fan.steps.iter().enumerate() {
            if bits == 0 {
                return true;
            }
            match step {
                Step::Meter(id) => bits &= !self.exceeding(view, *id, in_port, bits, lens),
                Step::Output(port) => {
                    let bytes = places(bits).map(|place| u64::from(lens[place])).sum();
                    let is_last = n + 1 == fan.steps.len() && fan.end == End::Sent;
                    match is_last {
                        true => self.send_burst(in_port, *port, burst, bits, bytes),
                        false => self.send_copies(in_port, *port, burst, bits, bytes),
                    }
                }
            }
        }
        // What is left goes when the burst is cleared.
        match fan.end {
            End::Sent => {}
            End::Finished => self.counters(in_port).finished.add(bits.count_ones().into()),
            End::Lost(cause) => self.counters(in_port).lose(cause, bits.count_ones() as usize),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpif::DropReason;

    #[test]
    fn lists_of_outputs_meters_and_drops_fan() {
        let (out, meter) = (|port| Action::Output(PortNo(port)), Action::Meter(1));
        let congestion = End::Lost(DropCause::Congestion);
        let cases = [
            (vec![], End::Lost(DropCause::OfPipeline), false),
            (vec![Action::Drop(DropReason::Congestion)], congestion, false),
            (vec![out(1), out(1)], End::Sent, true),
            (vec![meter.clone(), out(1)], End::Sent, false),
            (vec![meter.clone()], End::Lost(DropCause::OfPipeline), false),
            (vec![out(1), meter.clone()], End::Finished, true),
            (vec![out(1), Action::Drop(DropReason::Congestion)], congestion, true),
        ];
        for (actions, end, copies) in cases {
            let fan = Fan::of(&actions).unwrap();
            assert_eq!((fan.end, fan.copies), (end, copies), "{actions:?}");
        }
        let drop = Action::Drop(DropReason::Congestion);
        for actions in [vec![out(1)], vec![out(1), Action::PopVlan, out(2)], vec![drop, out(1)]] {
            assert!(Fan::of(&actions).is_none(), "{actions:?}");
        }
    }
}
