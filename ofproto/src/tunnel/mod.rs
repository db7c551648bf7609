//! Tunnels over switches of this process: which port a packet from outside belongs to ([`TunnelPorts`]), where
//! outer packets end ([`Endpoints`]), and the network under the tunnels ([`Underlay`]): routes, neighbours,
//! addresses. Translation is in `xlate::tunnel`.

mod endpoints;
mod neighbours;
mod ports;
mod router;
mod saved;
mod underlay;

pub use endpoints::{Endpoints, Listener};
pub use neighbours::{AGING_MAX_S, Neighbours};
pub use ports::{TunnelPorts, describe};
pub use router::{Device, Devices, Route, RouteEntry, RouteSource, Router};
pub use saved::SavedUnderlay;
pub use underlay::Underlay;

use crate::port::Attachment;
use crate::switch::State;

impl State {
    /// Makes every address of the underlay an endpoint of every tunnel, after a change of either; true if that
    /// changed anything. `names` tells the name of a datapath port.
    pub fn listen(&mut self, names: impl Fn(dpif::PortNo) -> Option<String>) -> bool {
        let mut listeners: Vec<Listener> = Vec::new();
        for port in self.switches.values().flat_map(|s| s.ports.values()) {
            let Attachment::Tunnel { port: no, config } = &port.attachment else { continue };
            if let Some(known) = listeners.iter_mut().find(|l| l.port == *no) {
                known.users += 1;
                continue;
            }
            let udp_port = if config.kind.is_udp() { config.dst_port } else { 0 };
            let name = names(*no).unwrap_or_default();
            listeners.push(Listener { name, port: *no, kind: config.kind, udp_port, users: 1 });
        }
        let new = Endpoints::new(listeners, &self.underlay.listening_devices());
        let changed = !self.endpoints.is_same(&new);
        if changed {
            self.endpoints = new;
        }
        changed
    }
}
