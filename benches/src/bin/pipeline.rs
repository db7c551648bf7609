//! What one polling thread spends on a packet between receive and transmit: a device in memory that
//! receives what it sent, 64-byte UDP packets of 1 to 1,000,000 flows, against one megaflow and against megaflows
//! of 24 prefix lengths.
//!
//! `pipeline [seconds per cell]`

use clock::Clock;
use datapath::{Core, Datapath, PollConfig};
use dpif::{Action, Dpif, PortNo, PutMode};
use flow::{EthAddr, Flow, Mask};
use netdev::{DeviceStats, LinkState, Netdev, NetdevError, RxQueue, StringMap, TxOutcome, TxQueue};
use packet::{Batch, Packet};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    /// Packets on their way from the transmit queue to the receive queue of the same thread.
    static RING: RefCell<VecDeque<Packet>> = const { RefCell::new(VecDeque::new()) };
}

struct Loop {
    name: &'static str,
    flows: u32,
}
struct LoopRx {
    flows: u32,
    is_filled: bool,
}
struct LoopTx;

impl Netdev for Loop {
    fn name(&self) -> &str {
        self.name
    }
    fn kind(&self) -> &'static str {
        "loop"
    }
    fn configure(&self, _: &StringMap) -> Result<(), NetdevError> {
        Ok(())
    }
    fn options(&self) -> StringMap {
        StringMap::new()
    }
    fn link(&self) -> LinkState {
        LinkState::default()
    }
    fn set_mac(&self, _: EthAddr) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    fn set_mtu(&self, _: u32) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    fn set_admin_up(&self, _: bool) -> Result<(), NetdevError> {
        Ok(())
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        Ok(DeviceStats::default())
    }
    fn change_seq(&self) -> u64 {
        0
    }
    fn is_polled(&self) -> bool {
        true
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        Ok(vec![Box::new(LoopRx { flows: self.flows, is_filled: false })])
    }
    fn open_tx(&self, _: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Ok(Box::new(LoopTx))
    }
}

impl RxQueue for LoopRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        RING.with_borrow_mut(|ring| {
            if !self.is_filled && self.flows > 0 {
                ring.extend((0..self.flows.max(64)).map(|n| frame(n % self.flows)));
                self.is_filled = true;
            }
            if self.flows == 0 {
                return 0;
            }
            let n = ring.len().min(batch.remaining_capacity());
            batch.extend(ring.drain(..n));
            n
        })
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl TxQueue for LoopTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let sent = batch.len() as u32;
        RING.with_borrow_mut(|ring| ring.extend(batch.drain(..)));
        TxOutcome { sent, ..TxOutcome::default() }
    }
}

/// A 64-byte UDP packet of flow `n`: its destination address and source port differ from other flows'.
fn frame(n: u32) -> Packet {
    let mut p = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46];
    p.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 9, 9]);
    p.extend(n.wrapping_mul(0x9e37_79b1).to_be_bytes());
    p.extend((n as u16).to_be_bytes());
    p.extend([0x20, 0, 0, 26, 0, 0]);
    p.resize(60, 0);
    Packet::from_slice(&p)
}

/// Megaflows that together cover every address: one, or one for each of 24 prefix lengths and the rest.
fn install(dp: &Datapath, prefixes: u32) -> Result<(), dpif::DpifError> {
    let put = |dst: u32, len: u32| {
        let mut mask = Mask::NONE;
        mask.in_port = u32::MAX;
        (mask.recirc_id, mask.packet_type, mask.dl_type, mask.nw_frag) = (u32::MAX, u32::MAX, 0xffff, 0xff);
        mask.nw_dst = u32::MAX.checked_shl(32 - len).unwrap_or(0);
        let key = Flow { in_port: 1, dl_type: 0x0800, nw_dst: dst, ..Flow::ZERO };
        dp.flow_put(PutMode::Create, None, &key, &mask, &[Action::Output(PortNo(2))], None).map(|_| ())
    };
    // 0..., 10..., 110..., and so on: one prefix of each length, and a last one for what is left.
    for len in 1..=prefixes {
        put(u32::MAX.checked_shl(33 - len).unwrap_or(0), len)?;
    }
    put(u32::MAX.checked_shl(32 - prefixes).unwrap_or(0), prefixes)
}

fn measure(flows: u32, prefixes: u32, time: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    let dp = Datapath::new("netdev@bench", Clock::new());
    let machine = vec![Core { id: 1, numa: 0 }];
    dp.configure_polling(PollConfig { machine, ..dp.polling_config() });
    dp.port_add(Arc::new(Loop { name: "out", flows: 0 }), Some(PortNo(2)))?;
    dp.port_add(Arc::new(Loop { name: "in", flows }), Some(PortNo(1)))?;
    install(&dp, prefixes)?;
    let received = || dp.port_totals(PortNo(1)).map_or(0, |t| t.received);
    std::thread::sleep(time / 2);
    let (start, before) = (cpu_time(), received());
    std::thread::sleep(time);
    Ok((cpu_time() - start).as_nanos() as f64 / (received() - before) as f64)
}

/// Processor time of this process: the polling thread's, as nobody else has anything to do.
fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let micros = |t: nix::sys::time::TimeVal| (t.tv_sec() * 1_000_000 + t.tv_usec()) as u64;
    usage.map_or(Duration::ZERO, |u| Duration::from_micros(micros(u.user_time()) + micros(u.system_time())))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(1.0), |s| s.parse())?;
    println!("{:>10} {:>14} {:>14}", "flows", "1 megaflow", "24 prefixes");
    for flows in [1, 1_000, 10_000, 100_000, 1_000_000] {
        let cell = |prefixes| measure(flows, prefixes, Duration::from_secs_f64(seconds));
        println!("{flows:>10} {:>11.1} ns {:>11.1} ns", cell(0)?, cell(24)?);
    }
    Ok(())
}
