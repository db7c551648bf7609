//! Actions that send packets to ports and groups.

use super::Action;
use super::check::Check;
use super::define::ActionCode;
use super::form::{Body, Encoder, check_output_port};
use super::number::parse_u32;
use super::oxm::has_header32;
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, PortNo, Version};
use flow::text::key_values;
use flow::{Subfield, ofp};

/// `output`: send to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output {
    pub port: PortNo,
    /// Bytes for the controller, if it is the port.
    pub max_len: u16,
}

impl Output {
    pub(super) fn decode10(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(PortNo(b.u16(4)), b.u16(6))
    }

    pub(super) fn decode11(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::checked(PortNo::from_of11(b.u32(4))?, b.u16(8))
    }

    fn checked(port: PortNo, max_len: u16) -> Result<Action, OfError> {
        check_output_port(port, PortNo::MAX)?;
        Ok(Action::Output(Output { port, max_len }))
    }

    /// Also reads `output(port=...,max_len=...)` and `output:FIELD[...]`.
    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        if s.contains("port") && s.contains("max_len") {
            return OutputTrunc::parse_arguments(p, s).map(Action::OutputTrunc);
        }
        if let Some(port) = p.port(s) {
            let max_len = if port == PortNo::CONTROLLER { u16::MAX } else { 0 };
            return Ok(Action::Output(Output { port, max_len }));
        }
        match Subfield::parse(s) {
            Ok(src) => Ok(Action::OutputReg(OutputReg { src, max_len: u16::MAX, second_form: false })),
            Err(_) => Err(format!("{s}: output to unknown port")),
        }
    }
}

impl ActionCode for Output {
    fn encode(&self, out: &mut Encoder<'_>) {
        put_output(out, self.port, self.max_len);
    }

    fn format(&self, out: &mut Text<'_>) {
        if self.port < PortNo::MAX {
            out.put_str("output:");
        }
        out.port(self.port);
        if self.port == PortNo::CONTROLLER {
            put!(out, ":{}", self.max_len);
        }
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_output_port(self.port, cx.params.ports_max)
    }
}

fn put_output(out: &mut Encoder<'_>, port: PortNo, max_len: u16) {
    let is_old = out.version == Version::Of10;
    let open = out.begin(if is_old { Form::Output10 } else { Form::Output11 });
    if is_old {
        out.u16(port.0);
    } else {
        out.u32(port.to_of11());
    }
    out.u16(max_len);
    out.end(open);
}

/// `output(port=...,max_len=...)`: send the beginning of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputTrunc {
    pub port: PortNo,
    pub max_len: u32,
}

/// Bytes of an Ethernet header: less cannot be sent.
const TRUNC_MIN: u32 = 14;

impl OutputTrunc {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let a = OutputTrunc { port: PortNo(b.u16(10)), max_len: b.u32(12) };
        if a.max_len < TRUNC_MIN { Err(OfError::OfpbacBadArgument) } else { Ok(Action::OutputTrunc(a)) }
    }

    fn parse_arguments(p: &mut Parser<'_>, s: &str) -> Result<Self, String> {
        let mut a = OutputTrunc { port: PortNo(0), max_len: 0 };
        for (key, value) in key_values(s) {
            match key {
                "port" => {
                    a.port =
                        p.port(value).ok_or_else(|| format!("output to unknown truncate port: {value}"))?;
                    if a.port > PortNo::MAX && !matches!(a.port, PortNo::LOCAL | PortNo::IN_PORT) {
                        return Err(format!("output to unsupported truncate port: {value}"));
                    }
                }
                "max_len" => {
                    a.max_len = parse_u32(value)?;
                    if a.max_len < TRUNC_MIN {
                        return Err(format!(
                            "max_len {} is less than the minimum value {TRUNC_MIN}",
                            a.max_len
                        ));
                    }
                }
                _ => return Err(format!("invalid key '{key}' in output_trunc argument")),
            }
        }
        Ok(a)
    }

    /// It is written as an `output`, its own name is not known to users.
    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Err(format!("unknown action {s}"))
    }
}

impl ActionCode for OutputTrunc {
    fn encode(&self, out: &mut Encoder<'_>) {
        let open = out.begin(Form::OutputTrunc);
        out.u16(self.port.0);
        out.u32(self.max_len);
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("output(port=");
        out.port(self.port);
        put!(out, ",max_len={})", self.max_len);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        check_output_port(self.port, cx.params.ports_max)
    }
}

/// `output:FIELD[...]`: send to the port whose number stands in a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputReg {
    pub src: Subfield,
    pub max_len: u16,
    /// Came as `NXAST_OUTPUT_REG2`.
    pub second_form: bool,
}

impl OutputReg {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        if !b.is_zero(18..24) {
            return Err(OfError::OfpbacBadArgument);
        }
        let src = b.cx.subfield32(b.u32(12), b.u16(10))?;
        let src = b.cx.check_src(src)?;
        Ok(Action::OutputReg(OutputReg { src, max_len: b.u16(16), second_form: false }))
    }

    pub(super) fn decode2(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let (ofs_nbits, max_len) = (b.u16(10), b.u16(12));
        let mut rest = b.from(14);
        let field = b.cx.pull_field(&mut rest)?;
        if rest.iter().any(|x| *x != 0) {
            return Err(OfError::NxbrcMustBeZero);
        }
        let src = Subfield { field, ofs: ofs_nbits >> 6, n_bits: (ofs_nbits & 0x3f) + 1 };
        let src = b.cx.check_src(src)?;
        Ok(Action::OutputReg(OutputReg { src, max_len, second_form: true }))
    }
}

impl ActionCode for OutputReg {
    fn encode(&self, out: &mut Encoder<'_>) {
        if self.second_form || !has_header32(self.src.field) {
            let open = out.begin(Form::OutputReg2);
            out.ofs_nbits(self.src);
            out.u16(self.max_len);
            out.field(self.src.field, ofp::NXM);
            out.end(open);
        } else {
            let open = out.begin(Form::OutputReg);
            out.ofs_nbits(self.src);
            out.field32(self.src.field);
            out.u16(self.max_len);
            out.end(open);
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("output:");
        out.subfield(&self.src);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        cx.src(&self.src)
    }
}

/// `group`: hand over to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    pub group_id: u32,
}

impl Group {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::Group(Group { group_id: b.arg as u32 }))
    }

    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        Ok(Action::Group(Group { group_id: parse_u32(s)? }))
    }
}

impl ActionCode for Group {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.arg(Form::Group, self.group_id.into());
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "group:{}", self.group_id);
    }
}

/// `enqueue`: send to a port by one of its queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enqueue {
    pub port: PortNo,
    pub queue: u32,
}

impl Enqueue {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        let a = Enqueue { port: PortNo(b.u16(4)), queue: b.u32(12) };
        a.check_port(PortNo::MAX)?;
        Ok(Action::Enqueue(a))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let split = s.trim_start_matches([':', 'q', ',']).split_once([':', 'q', ',']);
        let Some((port_s, queue)) = split.filter(|(_, q)| !q.is_empty()) else {
            return Err("\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"".into());
        };
        let port = p.port(port_s).ok_or_else(|| format!("{port_s}: enqueue to unknown port"))?;
        Ok(Action::Enqueue(Enqueue { port, queue: parse_u32(queue)? }))
    }

    fn check_port(self, ports_max: PortNo) -> Result<(), OfError> {
        let ok = self.port < ports_max || matches!(self.port, PortNo::IN_PORT | PortNo::LOCAL);
        if ok { Ok(()) } else { Err(OfError::OfpbacBadOutPort) }
    }
}

impl ActionCode for Enqueue {
    /// OpenFlow 1.1 and later have no such action, but `set_queue` before the output and `pop_queue` after it.
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version == Version::Of10 {
            let open = out.begin(Form::Enqueue);
            out.u16(self.port.0);
            out.zeros(6);
            out.u32(self.queue);
            out.end(open);
        } else {
            out.arg(Form::SetQueue, self.queue.into());
            put_output(out, self.port, u16::MAX);
            out.void(Form::PopQueue);
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("enqueue:");
        out.port(self.port);
        put!(out, ":{}", self.queue);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        self.check_port(cx.params.ports_max)
    }
}
