//! How long a polling thread waits for connection tracking while millions of connections are dumped, flushed or expire.
//!
//! `conntrack-pauses [connections [rounds [load]]]`, 3,000,000 and 2 unless given. One thread sends packets of established
//! connections through a tracker in batches of 32 and notes the time between two batches; another dumps, flushes
//! and sweeps meanwhile, kept off the polling thread's core as in the daemon; with `load` it shares its core with two threads
//! that are busy.
//!
//! What the machine adds is in the lines *apart*, the floor: there both do the same work at the same time, but
//! in two trackers that share nothing. *Waits* are voluntary switches of the polling thread (proc(5)), which it has if it
//! waits for a lock and only then; *faults* are page faults that it had.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use conntrack::{Conntrack, Family, PacketCt, Request, SHARDS};
use nix::sys::resource::{UsageWho, getrusage};
use packet::Packet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: u32 = 3_000_000;
const BATCH: u32 = 32;
/// Connections whose packets the polling thread sends: those of a zone that is not flushed.
const BUSY: u32 = 10_000;
const BUSY_ZONE: u16 = 2;
const ZONE: u16 = 1;
/// Slots that the polling thread looks at for others after each batch, as in the daemon.
const SLOTS: u32 = 16;
/// Parts that the sweeper looks at in a go.
const SWEEP_PARTS: u32 = (SHARDS as u32).div_ceil(200);
const CONTROL: Duration = Duration::from_secs(1);

/// A UDP packet of connection `i`, or its answer, whose transport checksum the device has looked at.
fn packet(i: u32, is_reply: bool) -> Packet {
    let (client, server) = (0x0a00_0000 | (i & 0xf_ffff), 0x0ad0_0001_u32);
    let (sport, dport) = ((1024 + (i >> 20)) as u16, 53_u16);
    let (src, dst, sp, dp) =
        if is_reply { (server, client, dport, sport) } else { (client, server, sport, dport) };
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    f.extend([src.to_be_bytes(), dst.to_be_bytes()].concat());
    f.extend([sp.to_be_bytes(), dp.to_be_bytes(), [0, 26], [0, 0]].concat());
    f.resize(60, 0);
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    let mut p = Packet::from_slice(&f);
    p.offload.checksum = packet::Checksum::Good;
    (p.l3_ofs, p.l4_ofs) = (14, 34);
    p
}

fn track(ct: &Conntrack, p: &mut Packet, zone: u16, commit: bool, now: u64) {
    let request = Request { zone, commit, ..Request::default() };
    ct.process(p, Family::V4, &mut PacketCt::default(), &request, now);
}

/// Buckets of eighths of powers of two of nanoseconds.
const BUCKETS: usize = 40 * 8;

/// What both threads look at.
struct Scene {
    ct: Arc<Conntrack>,
    /// The one that is polled in lines *apart*.
    other: Conntrack,
    is_apart: AtomicBool,
    now: AtomicU64,
    /// What is being done.
    what: AtomicU32,
    /// Connections for the polling thread to make: from the first number to before the second.
    next: AtomicU32,
    end: AtomicU32,
    stop: AtomicBool,
}

/// Pauses during one kind of work.
struct Pauses {
    counts: Vec<u64>,
    longest: u64,
    /// Voluntary switches and page faults of the polling thread.
    waits: i64,
    faults: i64,
}

fn bucket(ns: u64) -> usize {
    let top = 63 - (ns | 8).leading_zeros();
    ((top * 8) as usize + ((ns | 8) >> (top - 3) & 7) as usize).min(BUCKETS - 1)
}

impl Pauses {
    fn new() -> Self {
        Pauses { counts: vec![0; BUCKETS], longest: 0, waits: 0, faults: 0 }
    }

    fn note(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.longest = self.longest.max(ns);
    }

    /// Microseconds.
    fn quantile(&self, q: f64) -> f64 {
        let all: u64 = self.counts.iter().sum();
        let mut left = (all as f64 * (1.0 - q)) as u64;
        for (at, n) in self.counts.iter().enumerate().rev() {
            if *n > left {
                return ((8 + at % 8) as f64) * 2f64.powi((at / 8) as i32 - 3) / 1e3;
            }
            left -= n;
        }
        0.0
    }

    /// How many were longer than so many nanoseconds, about.
    fn over(&self, ns: u64) -> u64 {
        self.counts[bucket(ns)..].iter().sum()
    }
}

/// Keeps the calling thread on a core, if the machine has it.
fn pin(core: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(core).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)).ok();
}

fn usage() -> (i64, i64) {
    let u = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (u.voluntary_context_switches(), u.minor_page_faults())
}

fn poll(scene: &Arc<Scene>) -> Vec<Pauses> {
    pin(1);
    let mut packets: Vec<Packet> = (0..BUSY).map(|i| packet(i, i % 2 == 1)).collect();
    let mut all: Vec<Pauses> = (0..2 * WORK.len() + 1).map(|_| Pauses::new()).collect();
    scene.ct.expect_many();
    let mut last = Instant::now();
    let mut before = usage();
    let mut at = 0;
    let mut serving = None;
    while !scene.stop.load(SeqCst) {
        for batch in packets.chunks_mut(BATCH as usize) {
            let (now, what) = (scene.now.load(Relaxed), scene.what.load(Relaxed));
            if scene.is_apart.load(Relaxed) {
                serving = None;
                batch.iter_mut().for_each(|p| track(&scene.other, p, BUSY_ZONE, true, now));
            } else {
                serving.get_or_insert_with(|| scene.ct.serving());
                batch.iter_mut().for_each(|p| track(&scene.ct, p, BUSY_ZONE, true, now));
                scene.ct.serve(SLOTS);
                let next = scene.next.load(Relaxed);
                let end = scene.end.load(Relaxed).min(next + BATCH);
                if next < end {
                    (next..end).for_each(|i| track(&scene.ct, &mut packet(i, false), ZONE, true, now));
                    scene.next.store(end, Relaxed);
                }
            }
            let end = Instant::now();
            if what != at {
                let now = usage();
                all[at as usize].waits += now.0 - before.0;
                all[at as usize].faults += now.1 - before.1;
                (at, before) = (what, now);
                last = Instant::now();
                continue;
            }
            all[at as usize].note((end - last).as_nanos() as u64);
            last = end;
        }
    }
    all
}

const WORK: [&str; 6] = [
    "nothing else",
    "a dump of all",
    "a flush of the zone of all",
    "taking away what was flushed",
    "making them anew",
    "taking away what expired",
];

/// Runs `f` while the polling thread polls, and adds the seconds it took.
fn measure(scene: &Scene, what: usize, took: &mut [f64], f: impl FnOnce()) {
    let index = what + if scene.is_apart.load(SeqCst) { WORK.len() } else { 0 };
    let start = Instant::now();
    scene.what.store(index as u32, SeqCst);
    f();
    scene.what.store(2 * WORK.len() as u32, SeqCst);
    took[index] += start.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_millis(1));
}

/// What the sweeper does until the dead are gone.
fn sweep(scene: &Scene, mut dead: u32) {
    while dead > 0 {
        dead = dead.saturating_sub(scene.ct.sweep(SWEEP_PARTS, scene.now.load(SeqCst)));
    }
}

fn fill(scene: &Scene, n: u32) {
    let now = scene.now.load(SeqCst);
    for i in 0..n {
        if i % 1024 == 0 {
            scene.ct.restock();
        }
        track(&scene.ct, &mut packet(i, false), ZONE, true, now);
    }
}

/// The polling thread makes connections, while this one sees to memory, as the daemon's sweeper does.
fn have_filled(scene: &Scene, n: u32) {
    scene.next.store(0, SeqCst);
    scene.end.store(n, SeqCst);
    while scene.next.load(SeqCst) < n {
        match scene.ct.wants_restock() {
            true => scene.ct.restock(),
            false => std::thread::sleep(Duration::from_micros(50)),
        }
    }
    scene.end.store(0, SeqCst);
}

fn round(scene: &Scene, n: u32, took: &mut [f64]) {
    let now = || scene.now.load(SeqCst);
    let mut go = |what, f: &dyn Fn()| measure(scene, what, took, f);
    go(0, &|| std::thread::sleep(CONTROL));
    go(1, &|| scene.ct.for_each(None, now(), |_| {}));
    go(2, &|| {
        scene.ct.flush(Some(ZONE));
        std::thread::sleep(Duration::from_millis(100));
    });
    go(3, &|| sweep(scene, n));
    go(4, &|| match scene.is_apart.load(SeqCst) {
        true => fill(scene, n),
        false => have_filled(scene, n),
    });
    // Packets keep those of the polling thread alive.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        scene.now.fetch_add(20_000, SeqCst);
    }
    go(5, &|| sweep(scene, n));
}

fn main() {
    pin(0);
    let number = |at: usize, or: u32| std::env::args().nth(at).map_or(or, |n| n.parse().expect("a number"));
    let (n, rounds) = (number(1, CONNECTIONS), number(2, 2));
    let scene = Arc::new(Scene {
        ct: Arc::new(Conntrack::new(7)),
        other: Conntrack::new(9),
        is_apart: AtomicBool::new(false),
        now: AtomicU64::new(1),
        what: AtomicU32::new(2 * WORK.len() as u32),
        next: AtomicU32::new(0),
        end: AtomicU32::new(0),
        stop: AtomicBool::new(false),
    });
    scene.ct.set_maxconns(n + BUSY);
    for i in 0..BUSY {
        for ct in [&*scene.ct, &scene.other] {
            track(ct, &mut packet(i, false), BUSY_ZONE, true, 1);
            track(ct, &mut packet(i, true), BUSY_ZONE, true, 1);
        }
    }
    let before = resident();
    fill(&scene, n);
    println!("{} connections, {:.0} bytes each\n", scene.ct.len(), (resident() - before) / f64::from(n));
    let load = if std::env::args().nth(3).is_some() { 2 } else { 0 };
    for _ in 0..load {
        let scene = Arc::clone(&scene);
        std::thread::spawn(move || {
            pin(0);
            while !scene.stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    let polling = Arc::clone(&scene);
    let thread = std::thread::spawn(move || poll(&polling));
    let mut took = vec![0.0; 2 * WORK.len()];
    for at in 0..rounds {
        scene.is_apart.store(false, SeqCst);
        if at > 0 {
            fill(&scene, n);
        }
        std::thread::sleep(Duration::from_millis(20));
        round(&scene, n, &mut took);
        scene.is_apart.store(true, SeqCst);
        fill(&scene, n);
        round(&scene, n, &mut took);
    }
    scene.stop.store(true, SeqCst);
    let all = thread.join().unwrap();
    println!(
        "| meanwhile | seconds | batches | half, us | 99.99 %, us | longest, ms | over 1 ms | waits | faults |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (at, p) in all.iter().enumerate().take(2 * WORK.len()) {
        println!(
            "| {}{} | {:.2} | {} | {:.1} | {:.1} | {:.3} | {} | {} | {} |",
            WORK[at % WORK.len()],
            if at < WORK.len() { "" } else { ", apart" },
            took[at],
            p.counts.iter().sum::<u64>(),
            p.quantile(0.5),
            p.quantile(0.9999),
            p.longest as f64 / 1e6,
            p.over(1_000_000),
            p.waits,
            p.faults,
        );
    }
}

fn resident() -> f64 {
    benches::resident(std::process::id())
}
