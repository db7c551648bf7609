//! Traffic control of the kernel (tc(8), tc-htb(8)) through rtnetlink(7): hierarchical token buckets.

use crate::netlink::{attributes, route_socket, u16_at, u32_at, u64_at};
use nix::sys::socket::{MsgFlags, SockFlag, recv, send};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::LazyLock;

const HEADER: usize = 16;
/// `struct tcmsg`.
const TC_HEADER: usize = 20;
const ROOT: u32 = 0xffff_ffff;
/// The queueing discipline's own number, `1:`.
const MAJOR: u32 = 1 << 16;
/// The class above those of the queues, `1:fffe`.
const PARENT_MINOR: u16 = 0xfffe;
/// Queues that a device can have.
pub const QUEUES: u32 = 0xf000;

/// The priority by which a packet finds the class of `queue` (tc-htb(8)); 0 for the default queue and for one that
/// cannot be.
pub(crate) fn priority_of(queue: u32) -> u32 {
    if (1..QUEUES).contains(&queue) { MAJOR | (queue + 1) } else { 0 }
}

const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const STATS2: u16 = 7;
const STATS_BASIC: u16 = 1;
const STATS_QUEUE: u16 = 3;
const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;
const LINKLAYER_ETHERNET: u8 = 1;
/// Shortest Ethernet frame with its gap and preamble.
const MPU: u16 = 64;
const RATE_TO_QUANTUM: u32 = 10;
const HTB_VERSION: u32 = 3;
const BUFFER: usize = 64 << 10;

/// A class: bytes per second, bytes, and precedence (0 first).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HtbClass {
    pub min_rate: u64,
    pub max_rate: u64,
    pub burst: u64,
    pub priority: u32,
}

/// What went through a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClassStats {
    pub minor: u16,
    pub bytes: u64,
    pub packets: u64,
    pub drops: u64,
}

/// The kernel's unit of time for buckets, per second (`/proc/net/psched`).
static TICKS_PER_S: LazyLock<u64> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/net/psched").unwrap_or_default();
    ticks_per_second(&text)
});

/// From the three first numbers of `/proc/net/psched`: nanoseconds per microsecond, per tick, and ticks of the
/// clock per second.
fn ticks_per_second(psched: &str) -> u64 {
    let numbers: Vec<u64> =
        psched.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
    match numbers.as_slice() {
        [a, b, c, ..] if *b != 0 => (u128::from(*a) * u128::from(*c) / u128::from(*b)) as u64,
        _ => 15_625_000,
    }
}

/// Time that `bytes` take at `rate`, in ticks.
fn ticks(rate: u64, bytes: u64) -> u32 {
    let ticks = u128::from(*TICKS_PER_S) * u128::from(bytes) / u128::from(rate.max(1));
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// A request under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: i32, ifindex: u32, handle: u32, parent: u32) -> Self {
        let mut m = vec![0; 4];
        m.extend(kind.to_ne_bytes());
        m.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        m.extend([0; 8]); // sequence and sender are filled in later
        m.extend([0; 4]); // family
        m.extend(ifindex.to_ne_bytes());
        m.extend(handle.to_ne_bytes());
        m.extend(parent.to_ne_bytes());
        m.extend([0; 4]);
        Request(m)
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let m = &mut self.0;
        m.extend((value.len() as u16 + 4).to_ne_bytes());
        m.extend(kind.to_ne_bytes());
        m.extend(value);
        m.resize(m.len().next_multiple_of(4), 0);
    }

    /// An attribute that holds those that `f` puts.
    fn nest(&mut self, kind: u16, f: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.put(kind, &[]);
        f(self);
        let len = (self.0.len() - at) as u16;
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn add_qdisc(ifindex: u32) -> Request {
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut r = Request::new(libc::RTM_NEWQDISC, flags, ifindex, MAJOR, ROOT);
    r.put(KIND, b"htb\0");
    // Version, rate to quantum, default class, debug, direct packets.
    let words = [HTB_VERSION, RATE_TO_QUANTUM, 1, 0, 0];
    let glob: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    r.nest(OPTIONS, |r| r.put(HTB_INIT, &glob));
    r
}

fn delete_qdisc(ifindex: u32) -> Request {
    Request::new(libc::RTM_DELQDISC, libc::NLM_F_ACK, ifindex, 0, ROOT)
}

/// `struct tc_ratespec`.
fn rate_spec(rate: u64) -> Vec<u8> {
    let mut m = vec![0, LINKLAYER_ETHERNET];
    m.extend([0; 4]); // overhead, cell alignment
    m.extend(MPU.to_ne_bytes());
    m.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    m
}

fn set_class(ifindex: u32, minor: u16, class: &HtbClass, mtu: u32) -> Request {
    let parent = if minor == PARENT_MINOR { MAJOR } else { MAJOR | u32::from(PARENT_MINOR) };
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE;
    let mut r = Request::new(libc::RTM_NEWTCLASS, flags, ifindex, MAJOR | u32::from(minor), parent);
    r.put(KIND, b"htb\0");
    let burst = class.burst.max(u64::from(mtu));
    let quantum = if class.min_rate / u64::from(RATE_TO_QUANTUM) < u64::from(mtu) { mtu } else { 0 };
    let mut parms = rate_spec(class.min_rate);
    parms.extend(rate_spec(class.max_rate));
    let words = [ticks(class.min_rate, burst), ticks(class.max_rate, burst), quantum, 0, class.priority];
    parms.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
    r.nest(OPTIONS, |r| {
        if class.max_rate > u64::from(u32::MAX) {
            r.put(HTB_RATE64, &class.min_rate.to_ne_bytes());
            r.put(HTB_CEIL64, &class.max_rate.to_ne_bytes());
        }
        r.put(HTB_PARMS, &parms);
    });
    r
}

fn delete_class(ifindex: u32, minor: u16) -> Request {
    Request::new(libc::RTM_DELTCLASS, libc::NLM_F_ACK, ifindex, MAJOR | u32::from(minor), 0)
}

fn dump_classes(ifindex: u32) -> Request {
    Request::new(libc::RTM_GETTCLASS, libc::NLM_F_DUMP, ifindex, 0, 0)
}

/// A class of ours, from the body of a message about it.
fn class_stats(body: &[u8]) -> Option<ClassStats> {
    let handle = u32_at(body, 8)?;
    let mut stats = ClassStats { minor: handle as u16, ..ClassStats::default() };
    if handle & 0xffff_0000 != MAJOR {
        return None;
    }
    let attributes_of = |kind| attributes(body.get(TC_HEADER..)?).find(|(k, _)| *k == kind).map(|(_, v)| v);
    for (kind, value) in attributes(attributes_of(STATS2)?) {
        match kind {
            STATS_BASIC => {
                (stats.bytes, stats.packets) = (u64_at(value, 0)?, u64::from(u32_at(value, 8)?));
            }
            // Length, backlog, drops.
            STATS_QUEUE => stats.drops = u64::from(u32_at(value, 8)?),
            _ => {}
        }
    }
    Some(stats)
}

/// What one datagram of a dump says.
#[derive(Debug, PartialEq, Eq)]
enum Dump {
    Classes(Vec<ClassStats>),
    Done(Vec<ClassStats>),
    Failed(i32),
}

fn dumped(datagram: &[u8]) -> Dump {
    let (mut rest, mut classes) = (datagram, Vec::new());
    while let (Some(len), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
        let Some(body) = rest.get(HEADER..len as usize) else { break };
        match i32::from(kind) {
            libc::NLMSG_DONE => return Dump::Done(classes),
            libc::NLMSG_ERROR => return Dump::Failed(-(u32_at(body, 0).unwrap_or(0) as i32)),
            _ => classes.extend(class_stats(body)),
        }
        rest = rest.get((len as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Dump::Classes(classes)
}

/// A socket for traffic control in the network namespace of the thread that made it.
pub struct Tc {
    inner: Mutex<(OwnedFd, u32)>,
}

impl Tc {
    pub fn new() -> io::Result<Self> {
        Ok(Tc { inner: Mutex::new((route_socket(SockFlag::SOCK_CLOEXEC, 0)?, 0)) })
    }

    fn exchange<T>(
        &self,
        request: Request,
        mut take: impl FnMut(&[u8]) -> Option<io::Result<T>>,
    ) -> io::Result<T> {
        let mut inner = self.inner.lock();
        let (fd, sequence) = (inner.0.as_raw_fd(), inner.1.wrapping_add(1));
        inner.1 = sequence;
        send(fd, &request.finish(sequence), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = recv(fd, &mut buffer, MsgFlags::empty())?;
            let datagram = buffer.get(..n).unwrap_or_default();
            if u32_at(datagram, 8) == Some(sequence)
                && let Some(result) = take(datagram)
            {
                return result;
            }
        }
    }

    fn transact(&self, request: Request) -> io::Result<()> {
        self.exchange(request, |datagram| {
            let error = u32_at(datagram, HEADER).map_or(libc::EPROTO, |e| -(e as i32));
            Some(if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) })
        })
    }

    /// Makes a token-bucket discipline with default class `1:1` the device's root.
    pub fn install(&self, ifindex: u32, all: &HtbClass, mtu: u32) -> io::Result<()> {
        let _ = self.remove(ifindex);
        self.transact(add_qdisc(ifindex))?;
        self.set_all(ifindex, all, mtu)
    }

    /// Changes the class above those of the queues.
    pub fn set_all(&self, ifindex: u32, all: &HtbClass, mtu: u32) -> io::Result<()> {
        self.transact(set_class(ifindex, PARENT_MINOR, all, mtu))
    }

    /// Gives the device back the kernel's default discipline.
    pub fn remove(&self, ifindex: u32) -> io::Result<()> {
        self.transact(delete_qdisc(ifindex))
    }

    pub fn set_queue(&self, ifindex: u32, queue: u32, class: &HtbClass, mtu: u32) -> io::Result<()> {
        self.transact(set_class(ifindex, queue as u16 + 1, class, mtu))
    }

    pub fn remove_queue(&self, ifindex: u32, queue: u32) -> io::Result<()> {
        self.transact(delete_class(ifindex, queue as u16 + 1))
    }

    /// Number and counters of each queue that has a class.
    pub fn queues(&self, ifindex: u32) -> io::Result<Vec<(u32, ClassStats)>> {
        let mut all = Vec::new();
        self.exchange(dump_classes(ifindex), |datagram| match dumped(datagram) {
            Dump::Classes(some) => {
                all.extend(some);
                None
            }
            Dump::Done(some) => {
                all.extend(some);
                Some(Ok(()))
            }
            Dump::Failed(error) => Some(Err(io::Error::from_raw_os_error(error))),
        })?;
        let queues = all.into_iter().filter(|c| (1..=QUEUES as u16).contains(&c.minor));
        Ok(queues.map(|c| (u32::from(c.minor) - 1, c)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_found_by_priority() {
        assert_eq!(priority_of(0), 0, "the default");
        assert_eq!(priority_of(1), 0x0001_0002);
        assert_eq!(priority_of(QUEUES - 1), 0x0001_f000);
        assert_eq!((priority_of(QUEUES), priority_of(u32::MAX)), (0, 0));
    }

    #[test]
    fn ticks_are_the_kernels() {
        assert_eq!(ticks_per_second("000003e8 00000040 000f4240 3b9aca00"), 15_625_000);
        assert_eq!(ticks_per_second(""), 15_625_000);
        assert_eq!(ticks_per_second("1 0 1"), 15_625_000);
    }

    #[test]
    fn classes_of_a_dump_are_found_and_what_is_cut_off_is_not() {
        let mut stats = Request::new(libc::RTM_NEWTCLASS, 0, 3, MAJOR | 5, 0);
        stats.put(KIND, b"htb\0");
        stats.nest(STATS2, |r| {
            r.put(STATS_BASIC, &[&1000u64.to_ne_bytes()[..], &7u32.to_ne_bytes(), &[0; 4]].concat());
            r.put(STATS_QUEUE, &[0u32, 0, 2, 0, 0].map(u32::to_ne_bytes).concat());
        });
        let message = stats.finish(1);
        let class = ClassStats { minor: 5, bytes: 1000, packets: 7, drops: 2 };
        assert_eq!(dumped(&message), Dump::Classes(vec![class]));
        let mut done = Request::new(libc::NLMSG_DONE as u16, 0, 0, 0, 0).finish(1);
        done.splice(..0, message.iter().copied());
        assert_eq!(dumped(&done), Dump::Done(vec![class]));
        for cut in 0..message.len() {
            assert!(matches!(dumped(&message[..cut]), Dump::Classes(_)));
        }
    }
}
