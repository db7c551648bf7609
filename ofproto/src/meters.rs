//! Meters of a switch (OpenFlow 1.3, 5.7), each of which is one of the datapath.

use crate::fabric::Fabric;
use crate::flow_mod::{RemovedReason, RuleEvent};
use crate::ids::SwitchId;
use crate::refs::Referent;
use crate::switch::{State, Switch};
use dpif::{DpifError, DropBand, MeterSpec, RateUnit};
use openflow::OfError;
use openflow::msg::meter::{BandType, MeterCommand, MeterConfig, MeterFlags, MeterMod, id};
use std::collections::{BTreeMap, BTreeSet};

/// A meter.
#[derive(Debug)]
pub struct Meter {
    pub config: MeterConfig,
    /// The datapath's number for it.
    pub dp_id: u32,
    pub created_ms: u64,
}

/// The meters of a switch by id, the special ones included.
#[derive(Debug, Default)]
pub struct MeterTable(BTreeMap<u32, Meter>);

impl MeterTable {
    pub fn get(&self, id: u32) -> Option<&Meter> {
        self.0.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Meter> {
        self.0.values()
    }

    /// The datapath's number of a meter.
    pub fn dp_id(&self, id: u32) -> Option<u32> {
        self.0.get(&id).map(|m| m.dp_id)
    }

    /// That of the meter for packets that the slow path handles, if a controller made one.
    pub fn slow_path(&self) -> Option<u32> {
        self.dp_id(id::SLOWPATH)
    }

    /// That of the meter for packets to controllers.
    pub fn controller(&self) -> Option<u32> {
        self.dp_id(id::CONTROLLER)
    }
}

/// Numbers for the meters of a datapath: the lowest one that is free.
#[derive(Debug, Default)]
pub struct MeterNumbers {
    /// Below `next` and free.
    freed: BTreeSet<u32>,
    next: u32,
}

impl MeterNumbers {
    fn take(&mut self, max: u32) -> Option<u32> {
        if let Some(id) = self.freed.pop_first() {
            return Some(id);
        }
        let id = self.next;
        (id < max).then(|| {
            self.next += 1;
            id
        })
    }

    /// Takes this very number, if it is free.
    fn take_this(&mut self, id: u32) -> bool {
        if id < self.next {
            return self.freed.remove(&id);
        }
        self.freed.extend(self.next..id);
        self.next = id + 1;
        true
    }

    fn give_back(&mut self, id: u32) {
        self.freed.insert(id);
    }
}

/// No datapath has more meters than this.
const DP_IDS_MAX: u32 = 1 << 20;

/// What the datapath can make of a meter; fills in what is left open.
fn spec_of(config: &mut MeterConfig, bands_max: u8) -> Result<MeterSpec, OfError> {
    let known = MeterFlags::KBPS | MeterFlags::PKTPS | MeterFlags::BURST | MeterFlags::STATS;
    let unit = match (config.flags.contains(MeterFlags::KBPS), config.flags.contains(MeterFlags::PKTPS)) {
        (true, false) => RateUnit::Kilobits,
        (false, true) => RateUnit::Packets,
        _ => return Err(OfError::OfpmmfcBadFlags),
    };
    if config.bands.is_empty() {
        return Err(OfError::OfpmmfcOutOfBands);
    }
    if config.bands.iter().any(|b| b.rate == 0) {
        return Err(OfError::OfpmmfcBadRate);
    }
    if !(config.flags - known).is_empty() {
        return Err(OfError::OfpmmfcBadFlags);
    }
    if config.bands.len() > usize::from(bands_max) {
        return Err(OfError::OfpmmfcOutOfBands);
    }
    let mut bands = Vec::with_capacity(config.bands.len());
    for band in &mut config.bands {
        if band.band_type != BandType::Drop {
            return Err(OfError::OfpmmfcBadBand);
        }
        if band.burst_size == 0 {
            band.burst_size = band.rate;
        }
        bands.push(DropBand { rate: band.rate, burst: band.burst_size });
    }
    Ok(MeterSpec { unit, bands })
}

fn of_datapath(e: DpifError) -> OfError {
    match e {
        DpifError::Full => OfError::OfpmmfcOutOfMeters,
        DpifError::Invalid => OfError::OfpmmfcOutOfBands,
        _ => OfError::OfpmmfcUnknown,
    }
}

impl Fabric {
    /// Carries out a meter-mod; returns the rules that went with a deleted meter.
    pub fn meter_mod(&self, switch: SwitchId, mm: &MeterMod, now_ms: u64) -> Result<Vec<RuleEvent>, OfError> {
        let mut state = self.write();
        let result = match mm.command {
            MeterCommand::Delete => Ok(self.delete_meters(&mut state, switch, mm.meter.meter_id)),
            MeterCommand::Add | MeterCommand::Modify => {
                self.check_meter(&mm.meter).and_then(|()| self.set_meter(&mut state, switch, mm, now_ms))
            }
        };
        drop(state);
        self.changed();
        result
    }

    fn check_meter(&self, config: &MeterConfig) -> Result<(), OfError> {
        let limits = self.dpif.meter_limits();
        let may_be = (1..=id::MAX).contains(&config.meter_id)
            || matches!(config.meter_id, id::SLOWPATH | id::CONTROLLER);
        if limits.meters == 0 || !may_be {
            return Err(OfError::OfpmmfcInvalidMeter);
        }
        if config.bands.len() > usize::from(limits.bands) {
            return Err(OfError::OfpmmfcOutOfBands);
        }
        Ok(())
    }

    fn set_meter(
        &self,
        state: &mut State,
        switch: SwitchId,
        mm: &MeterMod,
        now_ms: u64,
    ) -> Result<Vec<RuleEvent>, OfError> {
        let limits = self.dpif.meter_limits();
        let State { switches, meter_numbers, .. } = state;
        let sw = switches.get_mut(&switch).ok_or(OfError::OfpmmfcUnknown)?;
        let meters = &mut sw.meters.0;
        let old = meters.get(&mm.meter.meter_id);
        let is_add = mm.command == MeterCommand::Add;
        match (is_add, old) {
            (true, Some(_)) => return Err(OfError::OfpmmfcMeterExists),
            (false, None) => return Err(OfError::OfpmmfcUnknownMeter),
            _ => {}
        }
        let mut config = mm.meter.clone();
        let spec = spec_of(&mut config, limits.bands)?;
        let dp_id = match old {
            Some(old) => old.dp_id,
            None => meter_numbers.take(limits.meters).ok_or(OfError::OfpmmfcOutOfMeters)?,
        };
        let created_ms = old.map_or(now_ms, |old| old.created_ms);
        if let Err(e) = self.dpif.meter_set(dp_id, &spec) {
            if is_add {
                meter_numbers.give_back(dp_id);
            }
            return Err(of_datapath(e));
        }
        meters.insert(config.meter_id, Meter { config, dp_id, created_ms });
        Ok(Vec::new())
    }

    /// Deletes a meter, or all of a switch, with the rules that use it.
    pub fn delete_meters(&self, state: &mut State, switch: SwitchId, meter_id: u32) -> Vec<RuleEvent> {
        let State { switches, meter_numbers, .. } = state;
        let Some(sw) = switches.get_mut(&switch) else { return Vec::new() };
        let gone = match meter_id {
            id::ALL => std::mem::take(&mut sw.meters.0),
            id => sw.meters.0.remove_entry(&id).into_iter().collect(),
        };
        let mut events = Vec::new();
        for (id, meter) in gone {
            events.extend(sw.remove_users(Referent::Meter(id), RemovedReason::MeterDelete));
            // One that the datapath has lost needs no removing.
            let _ = self.dpif.meter_del(meter.dp_id);
            meter_numbers.give_back(meter.dp_id);
        }
        events
    }
}

impl State {
    /// Puts in a meter that existed before this process; false if another has its number. Follow with
    /// [`Fabric::install_meters`].
    pub fn put_meter(&mut self, switch: SwitchId, meter: Meter) -> bool {
        let State { switches, meter_numbers, .. } = self;
        let Some(sw) = switches.get_mut(&switch) else { return false };
        let is_new = sw.meters.get(meter.config.meter_id).is_none() && meter.dp_id < DP_IDS_MAX;
        if !is_new || !meter_numbers.take_this(meter.dp_id) {
            return false;
        }
        sw.meters.0.insert(meter.config.meter_id, meter);
        true
    }
}

impl Fabric {
    /// Makes the datapath's meters for those that [`State::put_meter`] has put in; returns how many it has.
    pub fn install_meters(&self, switch: SwitchId) -> usize {
        let state = self.read();
        let Some(sw) = state.switch(switch) else { return 0 };
        let bands_max = self.dpif.meter_limits().bands;
        let install = |m: &&Meter| {
            let spec = spec_of(&mut m.config.clone(), bands_max);
            spec.is_ok_and(|spec| self.dpif.meter_set(m.dp_id, &spec).is_ok())
        };
        sw.meters.iter().filter(install).count()
    }
}

impl Switch {
    /// Rules that use a meter.
    pub fn meter_users(&self, id: u32) -> u32 {
        self.refs.count(Referent::Meter(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let mut n = MeterNumbers::default();
        assert_eq!([n.take(3), n.take(3), n.take(3), n.take(3)], [Some(0), Some(1), Some(2), None]);
        n.give_back(1);
        n.give_back(0);
        assert_eq!([n.take(3), n.take(3), n.take(3)], [Some(0), Some(1), None]);
        assert!(n.take_this(5) && !n.take_this(5) && !n.take_this(1) && n.take_this(3));
        assert_eq!([n.take(9), n.take(9)], [Some(4), Some(6)]);
    }
}
