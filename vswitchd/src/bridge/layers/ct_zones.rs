//! Timeout policies of connection tracking zones (tables CT_Zone and CT_Timeout_Policy).

use crate::config::CtZones;
use conntrack::TimeoutPolicy;
use datapath::Datapath;
use ofproto::fabric::Fabric;
use std::collections::BTreeMap;

/// Which policies a datapath has: zones with the same timeouts share one.
#[derive(Debug, Default)]
pub struct CtPolicies(BTreeMap<BTreeMap<String, u32>, u32>);

impl CtPolicies {
    /// Takes over the zones of the database.
    pub fn apply(&mut self, zones: &CtZones, datapath: &Datapath, fabric: &Fabric) {
        self.0.retain(|timeouts, id| {
            let is_used = zones.values().any(|t| t == timeouts);
            if !is_used {
                datapath.conntrack().del_timeout_policy(*id);
            }
            is_used
        });
        let mut by_zone = BTreeMap::new();
        for (zone, timeouts) in zones {
            let id = self.0.get(timeouts).copied().unwrap_or_else(|| {
                let id = self.free_id();
                let named = timeouts.iter().map(|(name, seconds)| (name.as_str(), *seconds));
                datapath.conntrack().set_timeout_policy(id, TimeoutPolicy::with(named));
                self.0.insert(timeouts.clone(), id);
                id
            });
            by_zone.insert(*zone, id);
        }
        if fabric.read().ct_policies != by_zone {
            fabric.write().ct_policies = by_zone;
            fabric.changed();
        }
    }

    fn free_id(&self) -> u32 {
        (1..).find(|id| !self.0.values().any(|used| used == id)).unwrap_or(u32::MAX)
    }
}
