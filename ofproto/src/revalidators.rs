//! The revalidator threads: one that decides when a round is due, and others that take their share of it.

use crate::fabric::Fabric;
use dpif::DpFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Flows that a thread takes at a time.
const SHARE: usize = 64;

/// The revalidator threads of a fabric. They end when this is dropped.
pub struct Revalidators {
    fabric: Arc<Fabric>,
    first: Option<JoinHandle<()>>,
}

impl Revalidators {
    /// Starts `threads` threads, at least one. `name` is called in each with its name, for the log.
    pub fn start(fabric: &Arc<Fabric>, threads: usize, name: fn(&str)) -> std::io::Result<Self> {
        let crew = Crew::start(threads.max(1) - 1, name)?;
        let worker = Arc::clone(fabric);
        fabric.steer(|rounds| rounds.stop = false);
        let first = spawn(1, name, move || worker.revalidate_forever(&crew))?;
        Ok(Revalidators { fabric: Arc::clone(fabric), first: Some(first) })
    }
}

impl Drop for Revalidators {
    fn drop(&mut self) {
        self.fabric.steer(|rounds| rounds.stop = true);
        if let Some(thread) = self.first.take() {
            let _ = thread.join();
        }
    }
}

fn spawn(
    number: usize,
    tell_name: fn(&str),
    life: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let name = format!("revalidator{number}");
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        tell_name(&name);
        life();
    })
}

/// What is done with some of a round's flows.
type Work = dyn Fn(&[DpFlow]) + Send + Sync;

/// A round's flows, and how far they are taken.
struct Round {
    flows: Vec<DpFlow>,
    next: AtomicUsize,
    work: Box<Work>,
}

impl Round {
    /// Works until nothing is left to take.
    fn work(&self) {
        loop {
            let at = self.next.fetch_add(SHARE, Relaxed);
            let Some(rest) = self.flows.get(at..) else { return };
            if rest.is_empty() {
                return;
            }
            (self.work)(rest.get(..SHARE).unwrap_or(rest));
        }
    }
}

/// The threads beside the first.
#[derive(Default)]
pub(crate) struct Crew {
    members: Vec<Member>,
}

struct Member {
    /// A round, and where to say that it is done.
    rounds: Option<Sender<(Arc<Round>, Sender<()>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    fn start(members: usize, name: fn(&str)) -> std::io::Result<Self> {
        let member = |no| {
            let (rounds, taken) = channel();
            let thread = spawn(no + 2, name, move || serve(&taken))?;
            Ok(Member { rounds: Some(rounds), thread: Some(thread) })
        };
        Ok(Crew { members: (0..members).map(member).collect::<std::io::Result<_>>()? })
    }

    /// Does `work` on all flows, some at a time, on all threads, this one among them.
    pub fn share(&self, flows: Vec<DpFlow>, work: impl Fn(&[DpFlow]) + Send + Sync + 'static) {
        let wanted = flows.len().div_ceil(SHARE).saturating_sub(1);
        let round = Arc::new(Round { flows, next: AtomicUsize::new(0), work: Box::new(work) });
        let (done, confirmed) = channel();
        for member in self.members.iter().take(wanted) {
            if let Some(rounds) = &member.rounds {
                let _ = rounds.send((Arc::clone(&round), done.clone()));
            }
        }
        drop(done);
        round.work();
        while confirmed.recv().is_ok() {}
    }
}

fn serve(rounds: &Receiver<(Arc<Round>, Sender<()>)>) {
    while let Ok((round, done)) = rounds.recv() {
        round.work();
        drop(round);
        drop(done);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.rounds = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    #[test]
    fn a_long_rest_ends_with_the_first_megaflow_and_there_is_none_with_a_clock_moved_by_hand() {
        const LONG_MS: u64 = 600_000;
        let clock = clock::Clock::new();
        let fabric = Fabric::new(Arc::new(dpif::fake::NoDpif), clock.clone());
        for _ in 0..20 {
            let rests = Arc::clone(&fabric);
            let thread = std::thread::spawn(move || rests.next_order(1, LONG_MS).stop);
            while !thread.is_finished() {
                fabric.end_rest();
                std::thread::yield_now();
            }
            assert!(!thread.join().unwrap());
        }
        clock.stop();
        fabric.next_order(1, LONG_MS);
    }

    #[test]
    fn each_flow_is_taken_once_and_all_threads_have_a_share() {
        let flow = |n: u32| DpFlow {
            ufid: dpif::Ufid(u128::from(n)),
            key: Arc::default(),
            mask: Arc::default(),
            actions: Arc::default(),
            stats: dpif::FlowStats::default(),
            pmd: None,
        };
        let crew = Crew::start(2, |_| {}).unwrap();
        let seen: Arc<Mutex<Vec<u128>>> = Arc::default();
        let threads: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (s, t) = (seen.clone(), threads.clone());
        crew.share((0..1000).map(flow).collect(), move |flows| {
            s.lock().unwrap().extend(flows.iter().map(|f| f.ufid.0));
            t.lock().unwrap().insert(std::thread::current().name().unwrap_or("first").to_owned());
            std::thread::sleep(std::time::Duration::from_millis(5));
        });
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<u128>>());
        assert_eq!(threads.lock().unwrap().len(), 3);
        crew.share(Vec::new(), |_| unreachable!());
    }
}
