//! What outlives a restart: the numbers of ports, and megaflows with their counters.
//!
//! Keys and actions travel as the text of `dpctl`, which is the same in every version. A megaflow whose text would
//! say something else is left out: its next packet brings it back.

use crate::datapath::Datapath;
use crate::flow_table::NewMegaflow;
use dpif::text::{Style, actions_text, flow_text, parse_actions, parse_key};
use dpif::{DpFlow, Dpif, FlowStats, PortNo, PutMode, Ufid};
use flow::{Flow, Mask};
use saved_state::Saved;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A datapath's state.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SavedDatapath {
    pub ports: Vec<SavedPort>,
    pub flows: Vec<SavedFlow>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedPort {
    pub no: u32,
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedFlow {
    pub ufid: u128,
    /// Core of the polling thread.
    pub pmd: Option<u32>,
    /// Key and mask.
    pub flow: String,
    pub actions: String,
    pub packets: u64,
    pub bytes: u64,
    /// Milliseconds since the last packet.
    pub idle_ms: Option<u64>,
    pub tcp_flags: u16,
}

impl Saved for SavedDatapath {
    const NAME: &'static str = "datapath";
    const VERSION: u32 = 1;
}

/// Shows every field.
const STYLE: Style<'static> = Style { verbose: true, names: None, vlan_limit: flow::VLANS_MAX, nd_ext: true };

impl SavedFlow {
    fn of(flow: &DpFlow, now_ms: u64) -> Option<Self> {
        let saved = SavedFlow {
            ufid: flow.ufid.0,
            pmd: flow.pmd,
            flow: flow_text(&flow.key, &flow.mask, &STYLE),
            actions: actions_text(&flow.actions, None),
            packets: flow.stats.packets,
            bytes: flow.stats.bytes,
            idle_ms: flow.stats.used_ms.map(|used| now_ms.saturating_sub(used)),
            tcp_flags: flow.stats.tcp_flags,
        };
        let (key, mask) = saved.key()?;
        // The text may match less (of frames without a tag only, say), never other packets.
        let is_within = flow.mask.is_subset_of(&mask) && flow.mask.matches(&key, &flow.key);
        (is_within && parse_actions(&saved.actions, None)? == *flow.actions).then_some(saved)
    }

    fn key(&self) -> Option<(Flow, Mask)> {
        let parsed = parse_key(&self.flow, None).ok()?;
        Some((parsed.key, crate::shared::exact_in_port(parsed.mask)))
    }
}

impl Datapath {
    /// The state of now; a consistent copy of each part, not of the whole.
    pub fn save(&self) -> SavedDatapath {
        let now_ms = self.shared.clock.now_ms();
        let ports = self.ports().into_iter().map(|p| SavedPort { no: p.no.0, name: p.name });
        let ports = ports.collect();
        SavedDatapath {
            ports,
            flows: self.flow_dump().iter().filter_map(|f| SavedFlow::of(f, now_ms)).collect(),
        }
    }

    /// Keeps the numbers of saved ports for them: a port of that name gets its number, another does not
    /// while any other number is free. To be called before ports are added.
    pub fn restore_ports(&self, saved: &SavedDatapath) {
        let ports = saved.ports.iter().map(|p| (p.name.clone(), PortNo(p.no)));
        self.state.lock().reserved = ports.collect();
    }

    /// Puts saved megaflows back, into the tables of the threads that there are, and returns how many. What
    /// their actions refer to must be there already. To be called when ports are there.
    pub fn restore_flows(&self, saved: &SavedDatapath) -> usize {
        let now_ms = self.shared.clock.now_ms();
        saved.flows.iter().filter(|f| self.restore_flow(f, now_ms).is_some()).count()
    }

    fn restore_flow(&self, f: &SavedFlow, now_ms: u64) -> Option<()> {
        let (key, mask) = f.key()?;
        let actions = Arc::new(parse_actions(&f.actions, None)?);
        let stats = FlowStats {
            packets: f.packets,
            bytes: f.bytes,
            used_ms: f.idle_ms.map(|idle| now_ms.saturating_sub(idle)),
            tcp_flags: f.tcp_flags,
        };
        if self.flow_count() >= self.flow_limit() {
            return None;
        }
        let table = self.shared.table(f.pmd)?;
        let new = NewMegaflow { ufid: Ufid(f.ufid), key: &Arc::new(key), mask: &mask, actions, stats };
        table.put(PutMode::Create, &new).ok().map(|_| ())
    }
}
