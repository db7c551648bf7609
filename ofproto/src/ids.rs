//! Identifiers. Three kinds of port number exist and never mix: a datapath port ([`dpif::PortNo`]), an
//! OpenFlow port ([`OfPort`], local to one switch), and a bundle ([`BundleId`], a row of the database's
//! Port table: one interface, or a bond of several).

/// An OpenFlow port, reserved ports in their 16-bit form; `Flow::in_port` of a switch key holds it.
pub use openflow::PortNo as OfPort;

/// One OpenFlow switch (a row of the Bridge table) within a fabric. Never used twice in a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SwitchId(pub u32);

/// One logical port for NORMAL processing. Unique within its switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId(pub u32);

impl BundleId {
    /// Where packets of controllers come from: no bundle of the switch.
    pub const OUTSIDE: BundleId = BundleId(0);
}

/// One connection of a controller or management tool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// The OpenFlow port of a switch key.
pub fn in_port(flow: &flow::Flow) -> OfPort {
    OfPort(flow.in_port as u16)
}
