//! Identifiers. Three kinds of port number exist and never mix: a datapath port ([`dpif::PortNo`]), an
//! OpenFlow port ([`OfPort`], local to one switch), and a bundle ([`BundleId`], a row of the database's
//! Port table: one interface, or a bond of several).

/// One OpenFlow switch (a row of the Bridge table) within a fabric. Never used twice in a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SwitchId(pub u32);

/// An OpenFlow port in the 32-bit numbering of OpenFlow 1.1 and later, which is what a flow key's
/// `in_port` holds in a switch. Reserved ports are `0xffffff00` and above (OpenFlow 1.3, A.2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OfPort(pub u32);

impl OfPort {
    /// Highest number of a physical port that OpenFlow 1.0 can express, exclusive.
    pub const MAX: u32 = 0xff00;
    pub const IN_PORT: OfPort = OfPort(0xffff_fff8);
    pub const TABLE: OfPort = OfPort(0xffff_fff9);
    pub const NORMAL: OfPort = OfPort(0xffff_fffa);
    pub const FLOOD: OfPort = OfPort(0xffff_fffb);
    pub const ALL: OfPort = OfPort(0xffff_fffc);
    pub const CONTROLLER: OfPort = OfPort(0xffff_fffd);
    pub const LOCAL: OfPort = OfPort(0xffff_fffe);
    pub const NONE: OfPort = OfPort(0xffff_ffff);
    /// `OFPP_UNSET`: no port was given (in an action set).
    pub const UNSET: OfPort = OfPort(0xffff_fff7);

    /// Whether this is a number that a real port can have.
    pub fn is_physical(self) -> bool {
        self.0 < Self::MAX || self == Self::LOCAL
    }
}

/// One logical port for NORMAL processing. Unique within its switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId(pub u32);

/// One connection of a controller or management tool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);
