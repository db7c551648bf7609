//! Joins two kernel devices: what comes in at one goes out at the other. Shows the crate's use, and is the
//! upper bound for what a switch can forward between packet sockets.
//!
//! `wire DEVICE DEVICE`; ends with standard input.

use netdev::{DummyLevel, Env, Netdev, RxQueue, TxQueue};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use packet::Batch;
use std::os::fd::AsFd;

struct Side {
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
}

fn side(device: &dyn Netdev) -> Option<Side> {
    Some(Side { rx: device.open_rx().ok()?.pop()?, tx: device.open_tx(0).ok()? })
}

/// Moves one batch.
fn forward(from: &mut Side, to: &mut Side, batch: &mut Batch) -> u32 {
    match from.rx.recv(batch) {
        0 => 0,
        n => {
            let outcome = to.tx.send(batch);
            if outcome.dropped() > 0 {
                eprintln!("{outcome:?}");
            }
            n as u32
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::new(DummyLevel::Off)?;
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [a, b] = names.as_slice() else { return Err("usage: wire DEVICE DEVICE".into()) };
    let (a, b) = (env.open("system", a)?, env.open("system", b)?);
    let (mut side_a, mut side_b) = (side(&*a).ok_or("no queue")?, side(&*b).ok_or("no queue")?);
    let stdin = std::io::stdin();
    let mut batch = Batch::new();
    loop {
        let mut fds: Vec<PollFd<'_>> = [side_a.rx.wait_fd(), side_b.rx.wait_fd()]
            .into_iter()
            .flatten()
            .chain([env.link_monitor().fd(), stdin.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::NONE)?;
        if fds.last().and_then(PollFd::any) == Some(true) {
            break;
        }
        env.link_monitor().drain();
        while forward(&mut side_a, &mut side_b, &mut batch) + forward(&mut side_b, &mut side_a, &mut batch)
            > 0
        {}
    }
    for device in [a, b] {
        println!("{}: {:?} {:?}", device.name(), device.rx_drops(), device.stats()?.statistics());
    }
    Ok(())
}
