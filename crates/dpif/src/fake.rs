//! A datapath that has nothing and forwards nothing, for tests of what sits on top of one.

use crate::{
    Action, DpFlow, DpStats, Dpif, DpifError, FlowStats, PortDesc, PortNo, PortStats, PutMode, Ufid,
    UpcallHandler,
};
use flow::{Flow, Mask};
use packet::Packet;
use std::sync::Arc;

/// Refuses whatever needs a datapath.
pub struct NoDpif;

impl Dpif for NoDpif {
    fn name(&self) -> String {
        "none@none".into()
    }
    fn stats(&self) -> DpStats {
        DpStats::default()
    }
    fn port_stats(&self, _: PortNo) -> Result<PortStats, DpifError> {
        Err(DpifError::NoDevice)
    }
    fn ports(&self) -> Vec<PortDesc> {
        Vec::new()
    }
    fn flow_put(
        &self,
        _: PutMode,
        _: Option<Ufid>,
        _: &Flow,
        _: &Mask,
        _: &[Action],
        _: Option<u32>,
    ) -> Result<Option<FlowStats>, DpifError> {
        Err(DpifError::Unsupported)
    }
    fn flow_del(&self, _: Ufid, _: Option<u32>) -> Result<FlowStats, DpifError> {
        Err(DpifError::NotFound)
    }
    fn flow_get(&self, _: Ufid, _: Option<u32>) -> Result<DpFlow, DpifError> {
        Err(DpifError::NotFound)
    }
    fn flow_dump(&self) -> Vec<DpFlow> {
        Vec::new()
    }
    fn flow_flush(&self) {}
    fn flow_count(&self) -> usize {
        0
    }
    fn ufid_of(&self, _: &Flow) -> Ufid {
        Ufid::default()
    }
    fn execute(&self, _: Packet, _: &Flow, _: &[Action]) {}
    fn set_upcall_handler(&self, _: Arc<dyn UpcallHandler>) {}
    fn set_flow_limit(&self, _: usize) {}
    fn flow_limit(&self) -> usize {
        0
    }
    fn set_handlers(&self, _: usize) {}
}
