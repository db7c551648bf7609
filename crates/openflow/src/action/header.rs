//! OpenFlow 1.0's setters of Ethernet, IP and transport headers, and what 1.1 added to them.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{parse_u8, parse_u16};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, Version};
use flow::{EthAddr, Field, NW_FRAG_LATER, eth_type, ip_proto};
use std::net::Ipv4Addr;

const DSCP_MASK: u8 = 0xfc;
const ECN_MASK: u8 = 0x03;

/// Packets must be IP for the action to make sense.
fn check_ip(cx: &mut Check<'_>) -> Result<(), OfError> {
    cx.require(cx.flow.is_ip_any());
    Ok(())
}

/// Six octets between colons. As in Open vSwitch, it does not matter what follows the sixth.
fn parse_address(s: &str) -> Option<EthAddr> {
    let start = s.rfind(':')? + 1;
    let digits = s.get(start..)?.bytes().take_while(u8::is_ascii_hexdigit).count();
    s.get(..start + digits)?.parse().ok()
}

/// Defines the setters of Ethernet addresses.
macro_rules! eth_setter {
    ($(#[$doc:meta])* $name:ident, $text:literal, $field:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            pub addr: EthAddr,
        }

        impl $name {
            pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
                let addr = EthAddr(b.from(4).first_chunk().copied().unwrap_or_default());
                Ok(Action::$name($name { addr }))
            }

            pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
                let addr = parse_address(s).ok_or_else(|| format!("invalid mac address {s}"))?;
                Ok(Action::$name($name { addr }))
            }
        }

        impl ActionCode for $name {
            fn encode(&self, out: &mut Encoder<'_>) {
                if out.version < Version::Of12 {
                    let open = out.begin(Form::$name);
                    out.bytes(&self.addr.0);
                    out.end(open);
                } else {
                    out.set_field_int(Field::$field, self.addr.to_u64());
                }
            }

            fn format(&self, out: &mut Text<'_>) {
                put!(out, "{}:{}", $text, self.addr);
            }
        }
    };
}

eth_setter! {
    /// `mod_dl_src`: set the source address.
    SetEthSrc, "mod_dl_src", EthSrc
}
eth_setter! {
    /// `mod_dl_dst`: set the destination address.
    SetEthDst, "mod_dl_dst", EthDst
}

/// Defines the setters of IPv4 addresses.
macro_rules! ipv4_setter {
    ($(#[$doc:meta])* $name:ident, $text:literal, $field:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            pub addr: Ipv4Addr,
        }

        impl $name {
            pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
                Ok(Action::$name($name { addr: Ipv4Addr::from_bits(b.arg as u32) }))
            }

            pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
                let addr = s.parse().map_err(|_| format!("{s}: could not convert to IP address"))?;
                Ok(Action::$name($name { addr }))
            }
        }

        impl ActionCode for $name {
            fn encode(&self, out: &mut Encoder<'_>) {
                let arg = self.addr.to_bits().into();
                if out.version < Version::Of12 {
                    out.arg(Form::$name, arg);
                } else {
                    out.set_field_int(Field::$field, arg);
                }
            }

            fn format(&self, out: &mut Text<'_>) {
                put!(out, "{}:{}", $text, self.addr);
            }

            fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
                cx.require(cx.flow.effective_dl_type() == eth_type::IPV4);
                Ok(())
            }
        }
    };
}

ipv4_setter! {
    /// `mod_nw_src`: set the source address.
    SetIpv4Src, "mod_nw_src", Ipv4Src
}
ipv4_setter! {
    /// `mod_nw_dst`: set the destination address.
    SetIpv4Dst, "mod_nw_dst", Ipv4Dst
}

/// `mod_nw_tos`: set the DSCP, which is the upper six bits of `dscp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetIpDscp {
    pub dscp: u8,
}

impl SetIpDscp {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg as u8).ok_or(OfError::OfpbacBadArgument)
    }

    fn checked(dscp: u8) -> Option<Action> {
        (dscp & !DSCP_MASK == 0).then_some(Action::SetIpDscp(SetIpDscp { dscp }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let tos = parse_u8(s, "TOS")?;
        Self::checked(tos).ok_or_else(|| format!("{s}: not a valid TOS"))
    }
}

impl ActionCode for SetIpDscp {
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version < Version::Of12 {
            out.arg(Form::SetIpDscp, self.dscp.into());
        } else {
            out.set_field_int(Field::IpDscpShifted, (self.dscp >> 2).into());
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "mod_nw_tos:{}", self.dscp);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_ip(cx)
    }
}

/// `mod_nw_ecn`: set the ECN bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetIpEcn {
    pub ecn: u8,
}

impl SetIpEcn {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(b.arg as u8).ok_or(OfError::OfpbacBadArgument)
    }

    fn checked(ecn: u8) -> Option<Action> {
        (ecn & !ECN_MASK == 0).then_some(Action::SetIpEcn(SetIpEcn { ecn }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let ecn = parse_u8(s, "ECN")?;
        Self::checked(ecn).ok_or_else(|| format!("{s}: not a valid ECN"))
    }
}

impl ActionCode for SetIpEcn {
    fn encode(&self, out: &mut Encoder<'_>) {
        match out.version {
            Version::Of10 => out.load_int(Field::IpEcn, 2, self.ecn.into()),
            Version::Of11 => out.arg(Form::SetIpEcn, self.ecn.into()),
            _ => out.set_field_int(Field::IpEcn, self.ecn.into()),
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "mod_nw_ecn:{}", self.ecn);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_ip(cx)
    }
}

/// `mod_nw_ttl`: set the TTL or hop limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetIpTtl {
    pub ttl: u8,
}

impl SetIpTtl {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::SetIpTtl(SetIpTtl { ttl: b.arg as u8 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::SetIpTtl(SetIpTtl { ttl: parse_u8(s, "TTL")? }))
    }
}

impl ActionCode for SetIpTtl {
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version == Version::Of10 {
            out.load_int(Field::IpTtl, 8, self.ttl.into());
        } else {
            out.arg(Form::SetIpTtl, self.ttl.into());
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "mod_nw_ttl:{}", self.ttl);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_ip(cx)
    }
}

/// The field that `proto` has for its source or destination port.
fn port_field(proto: u8, is_src: bool) -> Option<Field> {
    match (proto, is_src) {
        (ip_proto::TCP, true) => Some(Field::TcpSrc),
        (ip_proto::TCP, false) => Some(Field::TcpDst),
        (ip_proto::UDP, true) => Some(Field::UdpSrc),
        (ip_proto::UDP, false) => Some(Field::UdpDst),
        (ip_proto::SCTP, true) => Some(Field::SctpSrc),
        (ip_proto::SCTP, false) => Some(Field::SctpDst),
        _ => None,
    }
}

/// Defines the setters of transport ports.
macro_rules! port_setter {
    ($(#[$doc:meta])* $name:ident, $text:literal, $what:literal, $is_src:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            pub port: u16,
            /// Set by [`super::check()`]: the transport protocol that the flow matches, or 0.
            pub flow_ip_proto: u8,
        }

        impl $name {
            pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
                Ok(Action::$name($name { port: b.arg as u16, flow_ip_proto: 0 }))
            }

            pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
                Ok(Action::$name($name { port: parse_u16(s, $what)?, flow_ip_proto: 0 }))
            }
        }

        impl ActionCode for $name {
            fn encode(&self, out: &mut Encoder<'_>) {
                match port_field(self.flow_ip_proto, $is_src) {
                    Some(field) if out.version >= Version::Of12 => out.set_field_int(field, self.port.into()),
                    _ => out.arg(Form::$name, self.port.into()),
                }
            }

            fn format(&self, out: &mut Text<'_>) {
                put!(out, "{}:{}", $text, self.port);
            }

            fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
                let proto = cx.flow.nw_proto;
                let has_ports = port_field(proto, $is_src).is_some();
                cx.require(cx.flow.is_ip_any() && cx.flow.nw_frag & NW_FRAG_LATER == 0 && has_ports);
                self.flow_ip_proto = proto;
                Ok(())
            }
        }
    };
}

port_setter! {
    /// `mod_tp_src`: set the source port.
    SetL4SrcPort, "mod_tp_src", "source port", true
}
port_setter! {
    /// `mod_tp_dst`: set the destination port.
    SetL4DstPort, "mod_tp_dst", "destination port", false
}
