//! Work on the table that threads want which polling threads are not to wait for.
//!
//! Whoever holds a part's lock may lose its core, to another thread or to another guest of the host, and then holds it for
//! milliseconds. So, where threads poll, no other thread takes a part's lock to look connections over or to take them
//! away: it posts an *errand*, and polling threads run it between two batches, a few slots at a time
//! ([`Conntrack::serve`]). They only ever try for the board's lock. Memory is asked for and let go of by the one
//! who posts. Where nobody polls, or nobody comes for long, that one runs the errand itself.

use crate::conn::Conn;
use crate::control::{nap, pause};
use crate::dump::Entry;
use crate::index::{Bucket, GROWTH, Index, Journal};
use crate::key::Key;
use crate::saved::SavedConn;
use crate::shard::Spare;
use crate::track::{Conntrack, SLICE};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Naps without a step after which one waits no longer for polling threads: 20 ms and more.
const PATIENCE: u32 = 400;
/// Slots that are looked at in the time that a removal by key, or that of an alias, takes.
const SLOTS_PER_KEY: u32 = 4;

/// What is to be done. Vectors have their capacity already and do not grow.
pub(crate) enum Task {
    /// Living connections from a slot of a part on.
    Copy { walk: Walk, zone: Option<u16>, now: u64, into: Copies },
    /// What is dead from a slot of a part on is taken out.
    Sweep { walk: Walk, now: u64, removed: Removed },
    /// The connections with these original keys are taken out; those of `missing` were not there.
    Remove { keys: Vec<Key>, at: usize, now: u64, missing: usize },
    /// Indices of parts are copied, or larger ones that were made of the copies take their places.
    Grow { growths: Vec<Growth>, at: usize },
}

/// How far a walk over the slots of some parts has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    shard: u32,
    slot: u32,
    /// The part where it ends.
    end: u32,
}

/// Parts that hold nothing and are passed over in one step, at most.
const PASSED_OVER: u32 = 64;

impl Walk {
    /// Over the parts from one to before the other.
    pub fn over(from: u32, end: u32) -> Self {
        Walk { shard: from, slot: 0, end }
    }

    pub fn is_over(&self) -> bool {
        self.shard >= self.end
    }

    /// The next part that may hold something, if there soon is one.
    fn part(&mut self, ct: &Conntrack) -> Option<u32> {
        for _ in 0..PASSED_OVER {
            if self.is_over() {
                return None;
            }
            if !ct.hint(self.shard).is_unused() {
                return Some(self.shard);
            }
            (self.shard, self.slot) = (self.shard + 1, 0);
        }
        None
    }

    /// Some slots, of so many that there are, have been looked at. Says whether these were the last ones.
    fn go_on(&mut self, slot: u32, slots: u32) -> bool {
        let is_last = slot >= slots;
        (self.shard, self.slot) = if is_last { (self.shard + 1, 0) } else { (self.shard, slot) };
        is_last
    }
}

/// Changes of an index that are noted while a larger one is made of its copy. If there are more, it grows by itself.
const JOURNAL: usize = 1024;

/// How a part gets a larger index. It is made of a copy by the one who posts, as it takes long: of what polling threads do
/// for a new connection, moving it from index to index would be a tenth.
pub(crate) struct Growth {
    shard: u32,
    copy: Vec<Bucket>,
    journal: Option<Box<Journal>>,
    /// The copy's.
    number: Option<u32>,
    larger: Option<Index>,
}

impl Growth {
    /// To so many buckets, [`GROWTH`] times as many as there are.
    fn to(shard: u32, buckets: usize) -> Self {
        let copy = Index::buckets(buckets / GROWTH);
        Growth { shard, copy, journal: Some(Journal::for_less_than(JOURNAL)), number: None, larger: None }
    }
}

pub(crate) enum Copies {
    Shown(Vec<Entry>),
    Saved(Vec<SavedConn>),
}

/// What a sweep has taken out.
#[derive(Default)]
pub(crate) struct Removed {
    pub count: u32,
    /// Those from which something is untied, with their parts and slots, and how many are untied.
    tied: Vec<(u32, u32, Conn)>,
    untied: usize,
    /// Memory of parts where nothing is left, and for a part's list of free slots, which has then left a smaller one.
    spare: Vec<Spare>,
    free: Vec<u32>,
    /// There is none for it yet: so much is needed.
    wanted: usize,
}

/// Parts of one sweep.
pub(crate) const PARTS_AT_ONCE: u32 = 16;

impl Removed {
    /// Lets go of what was taken out, and has room for more.
    pub fn make_room(&mut self) {
        self.tied.clear();
        self.tied.reserve_exact(SLICE as usize);
        self.spare.clear();
        self.spare.reserve_exact(PARTS_AT_ONCE as usize);
        if self.wanted > 0 {
            // Touched here, not by the one who fills it.
            self.free = vec![1; self.wanted];
            self.free.clear();
        }
        (self.count, self.untied, self.wanted) = (0, 0, 0);
    }

    /// Whether the one who posted must come first.
    fn is_full(&self) -> bool {
        self.tied.len() == self.tied.capacity() || self.wanted > 0
    }
}

impl Copies {
    fn has_room(&self) -> bool {
        match self {
            Copies::Shown(all) => all.len() < all.capacity(),
            Copies::Saved(all) => all.len() < all.capacity(),
        }
    }

    fn add(&mut self, conn: &Conn, now: u64) {
        match self {
            Copies::Shown(all) => all.push(Entry::of(conn, now)),
            Copies::Saved(all) => all.push(SavedConn::of(conn, now)),
        }
    }
}

impl Task {
    /// Goes on by at most `slots`. Says whether it is done.
    fn step(&mut self, ct: &Conntrack, slots: u32) -> bool {
        let keys = slots.div_ceil(SLOTS_PER_KEY) as usize;
        match self {
            Task::Copy { walk, zone, now, into } => ct.copy_some(walk, slots, *zone, *now, into),
            Task::Sweep { walk, now, removed } => ct.sweep_some(walk, slots, *now, removed),
            Task::Remove { keys: all, at, now, missing } => {
                for key in all.iter().skip(*at).take(keys) {
                    *missing += usize::from(!ct.remove_key(key, *now));
                }
                *at += keys;
                *at >= all.len()
            }
            Task::Grow { growths, at } => {
                growths.get_mut(*at).into_iter().for_each(|growth| ct.grow(growth));
                *at += 1;
                *at >= growths.len()
            }
        }
    }
}

/// Where errands are posted, on cache lines of its own: polling threads look at it in each turn.
#[repr(align(128))]
pub(crate) struct Board {
    is_posted: AtomicBool,
    /// Threads that serve.
    serving: AtomicU32,
    /// Steps that were made, for the one who waits.
    steps: AtomicU32,
    patience: AtomicU32,
    task: Mutex<Option<Task>>,
    /// Held by the one who has posted.
    turn: Mutex<()>,
}

impl Board {
    pub fn new() -> Self {
        Board {
            is_posted: AtomicBool::new(false),
            serving: AtomicU32::new(0),
            steps: AtomicU32::new(0),
            patience: AtomicU32::new(PATIENCE),
            task: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    fn is_served(&self) -> bool {
        self.serving.load(Acquire) > 0
    }

    /// Waits until the errand is done, or nobody has come for it for long.
    fn wait(&self) {
        let (mut seen, mut naps) = (self.steps.load(Relaxed), 0);
        while self.is_posted.load(Acquire) && self.is_served() && naps < self.patience.load(Relaxed) {
            nap();
            let steps = self.steps.load(Relaxed);
            naps = if steps == seen { naps + 1 } else { 0 };
            seen = steps;
        }
    }
}

/// While it lives, somebody calls [`Conntrack::serve`] at least every few milliseconds.
pub struct Serving(Arc<Conntrack>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.board.serving.fetch_sub(1, Release);
    }
}

impl Conntrack {
    /// Announces a thread that polls.
    pub fn serving(self: &Arc<Self>) -> Serving {
        self.board.serving.fetch_add(1, Release);
        Serving(Arc::clone(self))
    }

    /// Whether there are threads that poll.
    pub fn is_served(&self) -> bool {
        self.board.is_served()
    }

    /// Steps of errands that polling threads have run; it wraps.
    pub fn steps_served(&self) -> u32 {
        self.board.steps.load(Relaxed)
    }

    /// Runs a step of an errand of about `slots` times 50 ns, if one is posted; to be called by a polling thread in each
    /// turn. Says whether there was one. Waits for nobody but other threads that track packets.
    #[inline]
    pub fn serve(&self, slots: u32) -> bool {
        self.board.is_posted.load(Relaxed) && self.serve_posted(slots)
    }

    fn serve_posted(&self, slots: u32) -> bool {
        let Some(mut board) = self.board.task.try_lock() else { return false };
        let Some(task) = board.as_mut() else { return false };
        if task.step(self, slots) {
            self.board.is_posted.store(false, Release);
        }
        self.board.steps.fetch_add(1, Relaxed);
        true
    }

    /// Has a task done. Returns it then.
    pub(crate) fn run(&self, mut task: Task) -> Task {
        if !self.is_served() {
            self.finish_task(&mut task);
            return task;
        }
        let turn = self.board.turn.lock();
        {
            let mut board = self.board.task.lock();
            *board = Some(task);
            self.board.is_posted.store(true, Release);
        }
        self.board.wait();
        let mut board = self.board.task.lock();
        let is_done = !self.board.is_posted.swap(false, Acquire);
        let taken = board.take();
        drop(board);
        drop(turn);
        // It was posted above, and nobody else takes any off the board.
        let mut task = taken.unwrap_or(Task::Grow { growths: Vec::new(), at: 0 });
        if !is_done {
            self.finish_task(&mut task);
        }
        task
    }

    /// Does a task by the calling thread alone.
    fn finish_task(&self, task: &mut Task) {
        while !task.step(self, SLICE) {
            pause();
        }
    }

    fn copy_some(&self, walk: &mut Walk, slots: u32, zone: Option<u16>, now: u64, into: &mut Copies) -> bool {
        if let Some(shard) = walk.part(self) {
            let part = self.part(shard).lock();
            let (mut slot, last) = (walk.slot, part.slots());
            let end = last.min(slot.saturating_add(slots));
            while slot < end && into.has_room() {
                let wanted = |c: &&Conn| zone.is_none_or(|z| z == c.key.zone) && self.is_alive(c, now);
                part.get(slot).filter(wanted).into_iter().for_each(|c| into.add(c, now));
                slot += 1;
            }
            walk.go_on(slot, last);
        }
        walk.is_over() || !into.has_room()
    }

    fn sweep_some(&self, walk: &mut Walk, slots: u32, now: u64, removed: &mut Removed) -> bool {
        if !walk.is_over() && !removed.is_full() {
            if let Some(shard) = walk.part(self) {
                self.sweep_part(shard, walk, slots, now, removed);
            }
            return (walk.is_over() || removed.is_full()) && removed.tied.is_empty();
        }
        let Removed { tied, untied, .. } = removed;
        let some = slots.div_ceil(SLOTS_PER_KEY) as usize;
        tied.iter().skip(*untied).take(some).for_each(|(shard, slot, conn)| self.untie(*shard, *slot, conn));
        *untied = (*untied + some).min(tied.len());
        *untied == tied.len()
    }

    fn sweep_part(&self, shard: u32, walk: &mut Walk, slots: u32, now: u64, removed: &mut Removed) {
        let mut part = self.part(shard).lock();
        let (first, last) = (walk.slot, part.slots());
        let end = last.min(first.saturating_add(slots.min(SLICE)));
        let mut dead = [(0, 0); SLICE as usize];
        let mut n = 0;
        for slot in first..end {
            if let Some(conn) = part.get(slot).filter(|c| !self.is_alive(c, now))
                && let Some(place) = dead.get_mut(n)
            {
                *place = (slot, conn.hash);
                n += 1;
            }
        }
        let dead = dead.get(..n).unwrap_or_default();
        part.look_ahead(dead);
        let mut next = end;
        for (slot, _) in dead {
            removed.wanted = part.room_for_free(&mut removed.free);
            if removed.is_full() {
                next = *slot;
                break;
            }
            if let Some(conn) = part.remove(*slot) {
                removed.count += 1;
                self.leave(&conn);
                if conn.has_ties() {
                    removed.tied.push((shard, *slot, conn));
                }
            }
        }
        if walk.go_on(next, last) {
            removed.spare.extend(part.let_go());
            self.hint(shard).set_slots(part.slots());
        }
    }

    /// Copies a part's index, or puts the larger one in its place that was made of the copy.
    fn grow(&self, growth: &mut Growth) {
        let mut part = self.part(growth.shard).lock();
        match &mut growth.larger {
            None => {
                let journal = growth.journal.take();
                growth.number = journal.and_then(|journal| part.index.copy(&mut growth.copy, journal));
            }
            Some(larger) => {
                growth.number.into_iter().for_each(|number| part.index.replace_by(larger, number));
                self.hint(growth.shard).set_index(part.index.place());
            }
        }
    }

    /// Gives parts indices of so many buckets, which are made here.
    pub(crate) fn grow_all(&self, wanted: &[(u32, usize)]) {
        let growths: Vec<_> = wanted.iter().map(|(shard, n)| Growth::to(*shard, *n)).collect();
        if growths.is_empty() {
            return;
        }
        let Task::Grow { mut growths, .. } = self.run(Task::Grow { growths, at: 0 }) else { return };
        growths.retain(|growth| growth.number.is_some());
        for growth in &mut growths {
            growth.larger = Some(Index::of_copy(&growth.copy, GROWTH * growth.copy.len()));
        }
        self.run(Task::Grow { growths, at: 0 });
    }
}

#[cfg(test)]
#[path = "errand_tests.rs"]
mod tests;
