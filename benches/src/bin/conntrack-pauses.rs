//! How long a polling thread waits for connection tracking while millions of connections are dumped, flushed or expire.
//!
//! `conntrack-pauses [connections]`, 3,000,000 unless given. One thread sends packets of established connections
//! through a tracker in batches of 32 and notes the longest time between two batches; another dumps, flushes
//! and sweeps meanwhile, kept off the polling thread's core as in the daemon. What the machine itself adds shows in the
//! first line, where nothing else goes on, and in the difference between the last two columns: of the time between two
//! batches, only that is the tracker's in which the thread worked, or all of it if it waited for a lock (proc(5): a
//! voluntary switch). The rest is that of others who were given the core, guests of the same host among them.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a bench ends by panicking

use conntrack::{Conntrack, Family, PacketCt, Request, SHARDS};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use packet::Packet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 3_000_000;
const BATCH: u32 = 32;
/// Connections whose packets the polling thread sends: those of a zone that is not flushed.
const BUSY: u32 = 10_000;
const BUSY_ZONE: u16 = 2;
const ZONE: u16 = 1;
const CONTROL: Duration = Duration::from_secs(2);

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

/// What both threads look at.
struct Scene {
    ct: Conntrack,
    now: AtomicU64,
    worst_ns: AtomicU64,
    worst_own_ns: AtomicU64,
    batches: AtomicU64,
    stop: AtomicBool,
}

/// Keeps the calling thread on a core, if the machine has it.
fn pin(core: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(core).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)).ok();
}

/// What a thread has used by now.
struct Used {
    wall: Instant,
    /// Nanoseconds of processor time.
    work: u64,
    /// How often it waited.
    waits: i64,
}

impl Used {
    fn now() -> Self {
        let work = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        let waits = getrusage(UsageWho::RUSAGE_THREAD).unwrap().voluntary_context_switches();
        Used { wall: Instant::now(), work: Duration::from(work).as_nanos() as u64, waits }
    }

    /// Nanoseconds since `before`, and how many of them were the thread's own doing.
    fn since(&self, before: &Used) -> (u64, u64) {
        let wall = (self.wall - before.wall).as_nanos() as u64;
        (wall, if self.waits > before.waits { wall } else { (self.work - before.work).min(wall) })
    }
}

fn poll(scene: &Scene) {
    pin(1);
    let mut packets: Vec<Packet> = (0..BUSY).map(|i| packet(i, i % 2 == 1)).collect();
    let mut last = Used::now();
    while !scene.stop.load(SeqCst) {
        for batch in packets.chunks_mut(BATCH as usize) {
            let now = scene.now.load(SeqCst);
            batch.iter_mut().for_each(|p| track(&scene.ct, p, BUSY_ZONE, true, now));
            let end = Used::now();
            let (wall, own) = end.since(&last);
            scene.worst_ns.fetch_max(wall, SeqCst);
            scene.worst_own_ns.fetch_max(own, SeqCst);
            scene.batches.fetch_add(1, SeqCst);
            last = end;
        }
    }
}

/// Runs `f` while the polling thread polls, and prints the longest time between two of its batches.
fn measure(scene: &Scene, what: &str, f: impl FnOnce()) {
    // Of a batch that begins now.
    std::thread::sleep(Duration::from_millis(20));
    scene.worst_ns.store(0, SeqCst);
    scene.worst_own_ns.store(0, SeqCst);
    let (start, batches) = (Instant::now(), scene.batches.load(SeqCst));
    f();
    let batches = scene.batches.load(SeqCst) - batches;
    let took = start.elapsed().as_secs_f64();
    let [worst, own] = [&scene.worst_ns, &scene.worst_own_ns].map(|ns| ns.load(SeqCst) as f64 / 1e6);
    println!("| {what} | {took:.2} | {batches} | {worst:.3} | {own:.3} |");
}

/// What the sweeper does until nothing dead is left.
fn sweep(scene: &Scene, living: usize) {
    while scene.ct.stored() > living {
        scene.ct.sweep((SHARDS as u32).div_ceil(200), scene.now.load(SeqCst));
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

fn main() {
    pin(0);
    let n = std::env::args().nth(1).map_or(CONNECTIONS, |n| n.parse().expect("a number"));
    let scene = Arc::new(Scene {
        ct: Conntrack::new(7),
        now: AtomicU64::new(1),
        worst_ns: AtomicU64::new(0),
        worst_own_ns: AtomicU64::new(0),
        batches: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    scene.ct.set_maxconns(n + BUSY);
    for i in 0..BUSY {
        track(&scene.ct, &mut packet(i, false), BUSY_ZONE, true, 1);
        track(&scene.ct, &mut packet(i, true), BUSY_ZONE, true, 1);
    }
    let before = resident();
    fill(&scene, n);
    println!("{} connections, {:.0} bytes each\n", scene.ct.len(), (resident() - before) / f64::from(n));
    println!(
        "| meanwhile | seconds | batches | longest pause, ms | of the tracker, ms |\n|---|---:|---:|---:|---:|"
    );
    let polling = Arc::clone(&scene);
    let thread = std::thread::spawn(move || poll(&polling));
    let now = || scene.now.load(SeqCst);
    measure(&scene, "nothing else", || std::thread::sleep(CONTROL));
    measure(&scene, "a dump of all", || scene.ct.for_each(None, now(), |_| {}));
    measure(&scene, "a flush of the zone of all", || {
        scene.ct.flush(Some(ZONE));
        std::thread::sleep(Duration::from_millis(100));
    });
    measure(&scene, "taking away what was flushed", || sweep(&scene, BUSY as usize));
    measure(&scene, "making them anew", || fill(&scene, n));
    measure(&scene, "taking away what expired", || {
        // Packets keep those of the polling thread alive.
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(100));
            scene.now.fetch_add(20_000, SeqCst);
        }
        sweep(&scene, BUSY as usize);
    });
    scene.stop.store(true, SeqCst);
    thread.join().unwrap();
}

fn resident() -> f64 {
    benches::resident(std::process::id())
}
