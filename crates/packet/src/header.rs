//! The headers that an edit rewrites, decoded, and the value-with-mask they come as.

use flow::{EthAddr, Nsh, U128};

/// A value and the bits of it that are written. Bits of `key` outside `mask` do not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Masked<T> {
    pub key: T,
    pub mask: T,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EthKey {
    pub src: EthAddr,
    pub dst: EthAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ipv4Key {
    pub src: u32,
    pub dst: u32,
    pub proto: u8,
    pub tos: u8,
    pub ttl: u8,
    pub frag: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ipv6Key {
    pub src: U128,
    pub dst: U128,
    pub label: u32,
    pub proto: u8,
    pub tclass: u8,
    pub hlimit: u8,
    pub frag: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortsKey {
    pub src: u16,
    pub dst: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IcmpKey {
    pub icmp_type: u8,
    pub code: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArpKey {
    pub sip: u32,
    pub tip: u32,
    pub op: u16,
    pub sha: EthAddr,
    pub tha: EthAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NdKey {
    pub target: U128,
    pub sll: EthAddr,
    pub tll: EthAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NdExtKey {
    pub reserved: u32,
    pub options_type: u8,
}

/// A whole NSH header to push: the fixed part, and the variable context of metadata type 2.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NshHeader {
    pub key: Nsh,
    /// Context TLVs as they stand on the wire, a multiple of 4 bytes, at most [`NSH_MD2_MAX`]; only of
    /// metadata type 2.
    pub md2: Vec<u8>,
}

/// Longest variable context that an NSH header's length field can say.
pub const NSH_MD2_MAX: usize = 244;
