//! Sessions that watch over ports: what they are told, and what they tell the database.

use super::{LayerPort, Layers};
use crate::config::InterfaceConfig;
use ofproto::bfd::session::Override;
use ofproto::bfd::settings::Settings;
use ofproto::bfd::{Bfd, show};
use std::sync::Arc;
use uuid::Uuid;

/// A port's sessions.
#[derive(Default)]
pub struct Health {
    bfd: Option<Arc<Bfd>>,
    /// [`Bfd::changes`] when the database was last told; `None` while it says something else.
    reported: Option<u64>,
    /// The database may show a session.
    had_session: bool,
}

/// What the database is to know of a port's sessions.
pub struct HealthReport {
    pub bridge: String,
    pub interface: String,
    /// `Interface.bfd_status`.
    pub bfd: Vec<(&'static str, String)>,
}

impl Layers {
    /// Gives a port the session that the database asks for.
    pub(super) fn watch(&self, bridge: &str, port: &mut LayerPort, config: &InterfaceConfig) {
        let Some((b, domain)) = self.home(bridge) else { return };
        let now_ms = self.clock.now_ms();
        let wanted = Settings::read(&config.name, &config.bfd);
        match (&port.health.bfd, wanted) {
            (None, None) => return,
            (Some(bfd), Some(settings)) => {
                if bfd.look(|s| s.settings != settings) {
                    bfd.with(now_ms, |session, rx_packets| session.configure(settings, now_ms, rx_packets));
                    domain.fabric.sessions.poke();
                    domain.fabric.changed();
                }
                return;
            }
            (Some(_), None) => port.health.bfd = None,
            (None, Some(settings)) => {
                let device = port.device.clone();
                let counter = move || device.stats().ok().and_then(|s| s.counter("rx_packets")).unwrap_or(0);
                let seed = Uuid::new_v4().as_u128() as u64;
                let bfd = Bfd::new(&config.name, settings, seed, Box::new(counter));
                port.health.bfd = Some(Arc::new(bfd));
            }
        }
        port.health.reported = None;
        domain.fabric.set_bfd(b.switch, port.ofport, port.health.bfd.clone());
    }

    /// As [`Layers::watch`], for a port that is there.
    pub(super) fn rewatch(&mut self, bridge: &str, config: &InterfaceConfig) {
        let taken = self.bridges.get_mut(bridge).and_then(|b| b.ports.remove(&config.name));
        let Some(mut port) = taken else { return };
        self.watch(bridge, &mut port, config);
        if let Some(b) = self.bridges.get_mut(bridge) {
            b.ports.insert(config.name.clone(), port);
        }
    }

    /// What is to be told of sessions that changed since this was last asked.
    pub fn health_reports(&mut self) -> Vec<HealthReport> {
        let now_ms = self.clock.now_ms();
        let mut reports = Vec::new();
        for (bridge, is) in &mut self.bridges {
            for (interface, port) in &mut is.ports {
                let changes = port.health.bfd.as_ref().map_or(0, |bfd| bfd.changes());
                let told = port.health.reported;
                // A port that never had a session has nothing to tell.
                if told == Some(changes) || told.is_none() && changes == 0 && !port.health.had_session {
                    continue;
                }
                port.health.reported = Some(changes);
                port.health.had_session = changes != 0;
                let status = |bfd: &Arc<Bfd>| bfd.look(|s| show::status(s, now_ms).to_vec());
                let bfd = port.health.bfd.as_ref().map(status).unwrap_or_default();
                let (bridge, interface) = (bridge.clone(), interface.clone());
                reports.push(HealthReport { bridge, interface, bfd });
            }
        }
        reports
    }

    /// The sessions of all ports, or of the one with this name, in order of name.
    pub fn bfd_sessions(&self, name: Option<&str>) -> Vec<(String, Arc<Bfd>)> {
        let ports = self.bridges.values().flat_map(|b| &b.ports);
        let named = ports.filter(|(port, _)| name.is_none_or(|name| name == port.as_str()));
        let mut all: Vec<_> = named.filter_map(|(n, p)| Some((n.clone(), p.health.bfd.clone()?))).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Lets an operator decide whether ports with these sessions forward.
    pub fn override_bfd(&self, sessions: &[(String, Arc<Bfd>)], order: Override) {
        let now_ms = self.clock.now_ms();
        for domain in self.domains.values() {
            for ((switch, port), bfd) in domain.fabric.sessions.bfd().iter() {
                if sessions.iter().any(|(_, s)| Arc::ptr_eq(s, bfd)) {
                    let (_, news) = bfd.with(now_ms, |session, _| session.set_override(order));
                    domain.fabric.session_changed(*switch, *port, news.flipped);
                }
            }
        }
    }
}
