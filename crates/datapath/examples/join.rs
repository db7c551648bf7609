//! Joins two kernel devices through the datapath alone: one megaflow for each direction, no switch above.
//! Shows the crate's use, and is the upper bound for what the switch can forward between them.
//!
//! `join DEVICE DEVICE`; ends with standard input and prints what became of the packets.

use clock::Clock;
use datapath::Datapath;
use dpif::{Action, Dpif, PutMode};
use flow::{Flow, Mask};
use netdev::{DummyLevel, Env};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::new(DummyLevel::Off)?;
    let dp = Datapath::new("netdev@join", Clock::new());
    let mut ports = Vec::new();
    for name in std::env::args().skip(1) {
        ports.push(dp.port_add(env.open("system", &name)?, None)?);
    }
    let [a, b] = ports[..] else { return Err("usage: join DEVICE DEVICE".into()) };
    let mut mask = Mask::NONE;
    mask.in_port = u32::MAX;
    for (from, to) in [(a, b), (b, a)] {
        let key = Flow { in_port: from.0, ..Flow::ZERO };
        dp.flow_put(PutMode::Create, None, &key, &mask, &[Action::Output(to)], None)?;
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    for port in [a, b] {
        println!("{port}: {:?}", dp.port_totals(port));
    }
    println!("{:?}\n{:?}", dp.drops(), dp.stats());
    Ok(())
}
