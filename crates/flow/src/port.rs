//! OpenFlow port numbers.
//!
//! A switch key holds ports as OpenFlow 1.0 numbers them, in 16 bits: 1 to 0xfeff, and reserved ports from
//! 0xfff7 up. OpenFlow 1.1 and later have 32 bits on the wire, with the reserved ports at the top.

pub const IN_PORT: u16 = 0xfff8;
pub const TABLE: u16 = 0xfff9;
pub const NORMAL: u16 = 0xfffa;
pub const FLOOD: u16 = 0xfffb;
pub const ALL: u16 = 0xfffc;
pub const CONTROLLER: u16 = 0xfffd;
pub const LOCAL: u16 = 0xfffe;
/// `OFPP_NONE`, in OpenFlow 1.1 and later `OFPP_ANY`.
pub const NONE: u16 = 0xffff;
/// `actset_output` of an action set without output (OpenFlow 1.5 `OFPP_UNSET`).
pub const UNSET: u16 = 0xfff7;
/// One past the last port that can be a switch's own.
pub const MAX: u16 = 0xff00;

const OFFSET: u32 = 0xffff_0000;

/// The 32-bit number on an OpenFlow 1.1+ wire.
pub fn to_11(port: u32) -> u32 {
    if port < MAX.into() { port } else { (port & 0xffff) | OFFSET }
}

/// The opposite of [`to_11`]; `None` for a number that OpenFlow 1.0 could not express.
pub fn from_11(port: u32) -> Option<u16> {
    match port {
        0..0xff00 => Some(port as u16),
        0xffff_ff00.. => Some((port - OFFSET) as u16),
        _ => None,
    }
}
