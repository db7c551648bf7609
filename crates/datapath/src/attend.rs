//! Upcalls that polling threads answer themselves while they have nothing better to do.
//!
//! After a look at its receive queues that brought little, a polling thread takes packets that wait for handlers, one
//! by one and for [`TURN`] at most; then its queues come first again, so that packets of known flows wait no longer
//! than their device's ring has room for. While queues bring full batches, only handlers answer. Nothing here waits
//! for a lock that is held for long: what is taken just now is tried again, what only a handler can answer is given
//! back, and a megaflow that cannot be put in at once is not put in, but its packet goes out all the same.

use crate::flow_table::{FlowTable, NewMegaflow};
use crate::item::{Item, Items};
use crate::key::ufid_of;
use crate::shared::{Shared, exact_in_port};
use crate::upcall::{Pending, PendingKind};
use crate::watch::Watch;
use crate::worker::{View, Worker};
use dpif::{Actions, Declined, FlowStats, Upcall, UpcallHandler, UpcallKind};
use quiescent::Reader;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a thread answers at most, but for the last answer, before it looks at its receive queues again.
const TURN: Duration = Duration::from_micros(50);

/// What a polling thread answers with.
pub(crate) struct Desk<'a> {
    pub shared: &'a Shared,
    pub reader: &'a mut Reader,
    pub worker: &'a mut Worker,
    /// The thread's own.
    pub table: &'a FlowTable,
    /// A packet that is to be tried again.
    pub held: &'a mut Option<Box<Pending>>,
}

impl Desk<'_> {
    /// Answers packets that wait, as long as there are some and there is time. Returns when it was done.
    pub fn attend(&mut self, watch: &Watch, start: Instant) -> Instant {
        let handler = self.shared.handler.try_read().and_then(|h| h.clone());
        let Some(handler) = handler else { return start };
        let (mut now, mut answered) = (start, 0);
        while now.duration_since(start) < TURN
            && let Some(pending) = self.held.take().or_else(|| self.shared.queues.pop_one())
        {
            match self.answer(&*handler, pending) {
                Ok(()) => answered += 1,
                Err((pending, Declined::Heavy)) => self.shared.queues.give_back(pending),
                Err((pending, Declined::Busy)) => {
                    *self.held = Some(pending);
                    break;
                }
            }
            self.reader.quiesce();
            now = watch.now();
        }
        self.worker.flush();
        let end = watch.now();
        self.worker.stats.answered.add(answered);
        self.worker.stats.answered_ns.add(end.duration_since(start).as_nanos() as u64);
        end
    }

    fn answer(
        &mut self,
        handler: &dyn UpcallHandler,
        mut pending: Box<Pending>,
    ) -> Result<(), (Box<Pending>, Declined)> {
        if !matches!(pending.kind, PendingKind::Miss) {
            return Err((pending, Declined::Heavy));
        }
        let other;
        let table = if pending.pmd == self.table.pmd {
            self.table
        } else {
            let found = self.shared.tables.try_read();
            let found = found.and_then(|all| all.iter().find(|t| t.pmd == pending.pmd).cloned());
            other = match found {
                Some(other) => other,
                None => return Err((pending, Declined::Heavy)),
            };
            &*other
        };
        pending = match self.catch_up(table, pending) {
            Ok(()) => return Ok(()),
            Err(still_missing) => still_missing,
        };
        let ufid = ufid_of(&pending.key);
        let upcall = Upcall {
            kind: UpcallKind::Miss,
            packet: &mut pending.item.packet,
            key: &pending.key,
            ufid,
            pmd: pending.pmd,
        };
        let reply = match handler.try_upcall(upcall) {
            Ok(reply) => reply,
            Err(declined) => return Err((pending, declined)),
        };
        let Pending { item, key, depth, pmd, .. } = *pending;
        if let Some(new) = reply.flow {
            let (mask, stats) = (exact_in_port(new.mask), FlowStats::default());
            let new = NewMegaflow { ufid, key: &key, mask: &mask, actions: new.actions, stats };
            if let Err(error) = self.shared.install(table, &new, FlowTable::try_create) {
                handler.installed(ufid, pmd, Err(error));
            }
        }
        self.resume(item, &reply.actions, depth);
        Ok(())
    }

    /// Another packet may have brought the megaflow meanwhile. Gives the packet back if not.
    fn catch_up(&mut self, table: &FlowTable, pending: Box<Pending>) -> Result<(), Box<Pending>> {
        let guard = self.reader.pin();
        let Some(flow) = table.lookup(&guard, &pending.key).0 else { return Err(pending) };
        let Pending { item, key, depth, .. } = *pending;
        flow.stats.add(1, item.packet.len() as u64, key.tcp_flags, self.worker.now_ms);
        let view = View { guard: &guard, table: self.table };
        self.worker.resume(view, item, &flow.actions, depth);
        Ok(())
    }

    fn resume(&mut self, item: Item, actions: &Arc<Actions>, depth: usize) {
        let guard = self.reader.pin();
        let view = View { guard: &guard, table: self.table };
        self.worker.resume(view, item, actions, depth);
    }
}

impl Worker {
    /// Goes on with a packet that was with the switch.
    pub fn resume(&mut self, view: View<'_>, item: Item, actions: &Actions, depth: usize) {
        self.counters(item.meta.in_port).reinjected.add(1);
        self.execute(view, actions, &mut Items::from_iter([item]), depth);
    }
}
