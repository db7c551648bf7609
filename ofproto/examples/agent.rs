//! A switch without a datapath that `ovs-ofctl` can talk to:
//!
//! ```text
//! cargo run -p ofproto --example agent -- /tmp/br0.mgmt &
//! ovs-ofctl add-flow unix:/tmp/br0.mgmt actions=NORMAL
//! ```

use clock::Clock;
use ofproto::admin::NewPort;
use ofproto::conn::EVENT_QUEUE_LEN;
use ofproto::conn::agent::FailMode;
use ofproto::conn::manager::{Env, Ofproto, PortControl};
use ofproto::fabric::Fabric;
use ofproto::ids::{OfPort, SwitchId};
use ofproto::port::{Attachment, LinkFacts};
use std::sync::Arc;
use stream::{Target, Tls, TlsConfig};
use tokio::sync::mpsc;

const MAC: flow::EthAddr = flow::EthAddr([0xaa, 0x55, 0xaa, 0x55, 0, 0]);

struct NoDevices;

impl PortControl for NoDevices {
    fn set_admin(&self, _: SwitchId, _: OfPort, _: bool) -> bool {
        true
    }
}

fn new_port(name: &str, is_local: bool) -> NewPort {
    NewPort {
        name: name.to_owned(),
        kind: "dummy".to_owned(),
        attachment: Attachment::None,
        wanted: None,
        is_local,
        link: LinkFacts { mac: MAC, admin_up: true, carrier: true, ..LinkFacts::default() },
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mgmt = std::env::args().nth(1).ok_or("usage: agent PATH")?;
    let clock = Clock::new();
    let fabric = Fabric::new(Arc::new(dpif::fake::NoDpif), clock.clone());
    let id = {
        let mut state = fabric.write();
        let id = state.add_switch("br0", 0x0000_fe00_0001);
        state.add_port(id, new_port("br0", true), 0)?;
        state.add_port(id, new_port("p1", false), 0)?;
        state.add_port(id, new_port("p2", false), 0)?;
        id
    };
    let (events, mut arriving) = mpsc::channel(EVENT_QUEUE_LEN);
    let tls = Arc::new(Tls::new(TlsConfig::default()));
    let env = Env { fabric: fabric.clone(), events, tls, ports: Arc::new(NoDevices), debug_actions: true };
    let mut ofproto = Ofproto::new(env);
    ofproto.add_switch(id);
    ofproto.set_fail_mode(id, FailMode::Standalone);
    let listen = |path: &str| Target::parse(&format!("punix:{path}"), 0);
    ofproto.set_paths(id, listen(&mgmt)?, listen(&format!("{mgmt}.snoop"))?, 100);
    loop {
        let deadline = ofproto.run().unwrap_or(u64::MAX);
        tokio::select! {
            Some(event) = arriving.recv() => ofproto.handle_event(event),
            () = fabric.async_queue.wait() => {
                fabric.async_queue.take().into_iter().for_each(|e| ofproto.handle_async(e));
            }
            () = clock.sleep_until_ms(deadline) => {}
        }
    }
}
