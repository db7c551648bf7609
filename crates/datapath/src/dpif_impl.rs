//! The datapath as the switch sees it.

use crate::datapath::Datapath;
use crate::flow_table::{FlowTable, NewMegaflow};
use crate::key::ufid_of;
use crate::meter::Meters;
use crate::shared::exact_in_port;
use dpif::{
    Action, DpFlow, DpStats, Dpif, DpifError, Features, FlowStats, MeterLimits, MeterSpec, MeterStats,
    PortDesc, PortNo, PortStats, PutMode, Ufid, UpcallHandler,
};
use flow::{Flow, Mask};
use packet::Packet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A counter that this datapath does not keep.
const UNKNOWN: u64 = u64::MAX;

impl Datapath {
    /// The tables that a call for `pmd` means. Without one: of the threads that receive from `in_port`.
    fn tables_for(&self, pmd: Option<u32>, in_port: u32) -> Vec<Arc<FlowTable>> {
        let is_polled = self.netdev(PortNo(in_port)).is_some_and(|n| n.is_polled());
        let tables = self.shared.tables.read();
        let wanted = |t: &&Arc<FlowTable>| match pmd {
            Some(_) => t.pmd == pmd,
            None => t.pmd.is_some() == is_polled,
        };
        let found: Vec<_> = tables.iter().filter(wanted).cloned().collect();
        if found.is_empty() && pmd.is_none() { tables.iter().take(1).cloned().collect() } else { found }
    }

    /// The first result that is not "not found": of the main table first, if no thread is named.
    fn first_of<T>(&self, pmd: Option<u32>, f: impl Fn(&FlowTable) -> Option<T>) -> Result<T, DpifError> {
        let tables = self.shared.tables.read().clone();
        let mut tables = tables.iter().filter(|t| pmd.is_none() || t.pmd == pmd);
        tables.find_map(|t| f(t)).ok_or(DpifError::NotFound)
    }
}

impl Dpif for Datapath {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn stats(&self) -> DpStats {
        let mut stats = DpStats {
            flows: self.flow_count() as u64,
            masks: UNKNOWN,
            mask_hit: UNKNOWN,
            cache_hit: UNKNOWN,
            ..DpStats::default()
        };
        for w in self.worker_stats() {
            stats.hit += w.cache_hits.get() + w.table_hits.get();
            stats.missed += w.missed.get();
            stats.lost += w.lost.get();
        }
        stats
    }

    fn port_stats(&self, port: PortNo) -> Result<PortStats, DpifError> {
        let netdev = self.netdev(port).ok_or(DpifError::NoDevice)?;
        let stats = netdev.stats().map_err(|_| DpifError::Unsupported)?;
        Ok(stats.with_unknown())
    }

    fn features(&self) -> Features {
        let tags = self.shared.vlan_limit.load(Ordering::Relaxed);
        Features { max_vlan_headers: tags.into(), ..Features::default() }
    }

    fn ports(&self) -> Vec<PortDesc> {
        let state = self.state.lock();
        let describe = |(no, port): (&PortNo, &crate::datapath::Port)| PortDesc {
            no: *no,
            name: port.netdev.name().to_owned(),
            kind: port.netdev.datapath_kind().to_owned(),
            options: match port.netdev.is_polled() || port.netdev.as_dummy().is_some() {
                true => port.netdev.options(),
                false => Default::default(),
            },
        };
        state.ports.iter().map(describe).collect()
    }

    fn flow_put(
        &self,
        mode: PutMode,
        ufid: Option<Ufid>,
        key: &Flow,
        mask: &Mask,
        actions: &[Action],
        pmd: Option<u32>,
    ) -> Result<Option<FlowStats>, DpifError> {
        coverage::counter::dpif_flow_put.inc();
        let mask = exact_in_port(mask.clone());
        let ufid = ufid.unwrap_or_else(|| ufid_of(key));
        let key = &Arc::new(key.clone());
        let actions = Arc::new(actions.to_vec());
        let mut before: Option<FlowStats> = None;
        let tables = self.tables_for(pmd, key.in_port);
        if tables.is_empty() {
            return Err(DpifError::Invalid);
        }
        for table in tables {
            let is_full = self.flow_count() >= self.flow_limit() && table.get(ufid).is_none();
            if is_full && mode != PutMode::Modify {
                return Err(DpifError::Full);
            }
            let new = NewMegaflow {
                ufid,
                key,
                mask: &mask,
                actions: Arc::clone(&actions),
                stats: FlowStats::default(),
            };
            if let Some(stats) = table.put(mode, &new)? {
                before = Some(add(before.unwrap_or_default(), stats));
            }
        }
        Ok(before)
    }

    fn flow_del(&self, ufid: Ufid, pmd: Option<u32>) -> Result<FlowStats, DpifError> {
        coverage::counter::dpif_flow_del.inc();
        self.first_of(pmd, |t| t.remove(&[ufid]).pop().flatten())
    }

    fn flows_del(&self, ufids: &[Ufid], pmd: Option<u32>) -> Vec<Result<FlowStats, DpifError>> {
        coverage::counter::dpif_flow_del.add(ufids.len() as u64);
        match self.shared.table(pmd) {
            Some(table) => table.remove(ufids).into_iter().map(|s| s.ok_or(DpifError::NotFound)).collect(),
            None => vec![Err(DpifError::NotFound); ufids.len()],
        }
    }

    fn flow_get(&self, ufid: Ufid, pmd: Option<u32>) -> Result<DpFlow, DpifError> {
        coverage::counter::dpif_flow_get.inc();
        self.first_of(pmd, |t| t.get(ufid))
    }

    fn flow_dump(&self) -> Vec<DpFlow> {
        let tables = self.shared.tables.read().clone();
        tables.iter().flat_map(|t| t.dump()).collect()
    }

    fn flow_flush(&self) {
        coverage::counter::dpif_flow_flush.inc();
        self.shared.tables.read().iter().for_each(|t| t.flush());
    }

    fn flow_count(&self) -> usize {
        self.shared.flow_count.load(Ordering::Relaxed)
    }

    fn ufid_of(&self, key: &Flow) -> Ufid {
        ufid_of(key)
    }

    fn ct_flush(&self, zone: Option<u16>, which: &dpif::ct::CtMatch) -> Result<(), DpifError> {
        let now = self.shared.clock.now_ms();
        self.conntrack().flush_matching(zone, which, now).map_err(|_| {
            tracing::warn!(target: "conntrack", "Must flush tuple using the original pre-NATed tuple");
            DpifError::NotFound
        })
    }

    fn execute(&self, packet: Packet, key: &Flow, actions: &[Action]) {
        coverage::counter::dpif_execute.inc();
        self.shared.execute(packet, key, actions);
    }

    fn meter_limits(&self) -> MeterLimits {
        Meters::LIMITS
    }

    fn meter_set(&self, id: u32, spec: &MeterSpec) -> Result<(), DpifError> {
        coverage::counter::dpif_meter_set.inc();
        self.shared.meters.set(id, spec)
    }

    fn meter_del(&self, id: u32) -> Result<MeterStats, DpifError> {
        coverage::counter::dpif_meter_del.inc();
        self.shared.meters.remove(id)
    }

    fn meter_stats(&self, id: u32) -> Result<MeterStats, DpifError> {
        coverage::counter::dpif_meter_get.inc();
        self.shared.meters.stats(id)
    }

    fn set_upcall_handler(&self, handler: Arc<dyn UpcallHandler>) {
        *self.shared.handler.write() = Some(handler);
    }

    fn set_flow_limit(&self, flows: usize) {
        self.shared.flow_limit.store(flows, Ordering::Relaxed);
    }

    fn flow_limit(&self) -> usize {
        self.shared.flow_limit.load(Ordering::Relaxed)
    }

    fn set_handlers(&self, threads: usize) {
        self.start_handlers(threads.max(1));
    }
}

fn add(a: FlowStats, b: FlowStats) -> FlowStats {
    FlowStats {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        used_ms: a.used_ms.max(b.used_ms),
        tcp_flags: a.tcp_flags | b.tcp_flags,
    }
}
