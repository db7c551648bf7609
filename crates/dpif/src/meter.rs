//! Meters of the datapath: how they are described, and what they have counted.

/// What a meter counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateUnit {
    /// Rates in packets per second, bursts in packets.
    Packets,
    /// Rates in kilobits per second, bursts in kilobits.
    Kilobits,
}

/// A band that drops what exceeds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropBand {
    /// Per second; not 0.
    pub rate: u32,
    /// How much may pass at once after silence; not 0.
    pub burst: u32,
}

/// A meter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterSpec {
    pub unit: RateUnit,
    pub bands: Vec<DropBand>,
}

/// Packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MeterCount {
    pub packets: u64,
    pub bytes: u64,
}

/// What a meter has seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterStats {
    /// All that came, dropped or not.
    pub seen: MeterCount,
    /// What each band dropped.
    pub bands: Vec<MeterCount>,
}

/// What the meters of a datapath can do. All bands drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MeterLimits {
    /// Ids go from 0 to one less.
    pub meters: u32,
    /// Of one meter.
    pub bands: u8,
}
