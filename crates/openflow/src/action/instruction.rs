//! Instructions (OpenFlow 1.1 and later), and lists of actions and instructions as a whole.

use super::check::Check;
use super::define::{ActionCode, Instruction, Role};
use super::form::{ALIGN, Body, Decoder, Encoder, be16, be32};
use super::number::{parse_u32, parse_u64};
use super::parse;
use super::table::Form;
use super::text::{Parser, Text, put};
use super::unit::ClearActions;
use super::verify::{Allowed, Violation, verify};
use super::{Action, Kind};
use crate::{OfError, PortNo, Protocols, Version};

// `OFPIT_*`
pub(super) const GOTO_TABLE: u16 = 1;
pub(super) const WRITE_METADATA: u16 = 2;
pub(super) const WRITE_ACTIONS: u16 = 3;
pub(super) const APPLY_ACTIONS: u16 = 4;
pub(super) const CLEAR_ACTIONS: u16 = 5;
pub(super) const METER: u16 = 6;
const EXPERIMENTER: u16 = 0xffff;

/// Bytes before the actions of an instruction.
const ACTIONS_AT: usize = 8;

impl Instruction {
    /// By number, with the length that it must have, or (for those that contain actions) have at least.
    fn from_wire(number: u16) -> Option<(Self, usize)> {
        Some(match number {
            GOTO_TABLE => (Instruction::GotoTable, 8),
            WRITE_METADATA => (Instruction::WriteMetadata, 24),
            WRITE_ACTIONS => (Instruction::WriteActions, ACTIONS_AT),
            APPLY_ACTIONS => (Instruction::ApplyActions, ACTIONS_AT),
            CLEAR_ACTIONS => (Instruction::ClearActions, 8),
            METER => (Instruction::Meter, 8),
            _ => return None,
        })
    }

    fn has_actions(self) -> bool {
        matches!(self, Instruction::WriteActions | Instruction::ApplyActions)
    }
}

impl Decoder<'_> {
    /// Reads actions that stand alone: of a packet-out or a group bucket. All of `bytes` are actions.
    ///
    /// # Errors
    /// The error that Open vSwitch sends.
    pub fn actions(&mut self, bytes: &[u8]) -> Result<Vec<Action>, OfError> {
        self.verified_list(bytes, Allowed::ActionsAndMeter, None)
    }

    /// Reads what a flow does: instructions, in OpenFlow 1.0 actions. All of `bytes` belong to it.
    ///
    /// # Errors
    /// The error that Open vSwitch sends.
    pub fn instructions(&mut self, bytes: &[u8]) -> Result<Vec<Action>, OfError> {
        if self.version == Version::Of10 {
            return self.verified_list(bytes, Allowed::All, None);
        }
        let found = find_instructions(bytes, self.version)?;
        let mut out = Vec::new();
        // In the order of their execution, not in that of their arrival.
        for (kind, body) in (0u8..).zip(found).filter_map(|(i, body)| Some((i, body?))) {
            self.instruction(kind, body, &mut out)?;
        }
        verify(&out, self.version, Allowed::All, None).map_err(|Violation { error, .. }| error)?;
        Ok(out)
    }

    fn instruction(&mut self, kind: u8, body: &[u8], out: &mut Vec<Action>) -> Result<(), OfError> {
        let word = |at| u64::from(be32(body, at)) << 32 | u64::from(be32(body, at + 4));
        match kind {
            0 => out.push(Action::Meter(Meter { meter_id: be32(body, 4) })),
            1 => self.action_list(body.get(ACTIONS_AT..).unwrap_or_default(), out)?,
            2 => out.push(Action::ClearActions(ClearActions)),
            3 => {
                let mut actions = Vec::new();
                self.action_list(body.get(ACTIONS_AT..).unwrap_or_default(), &mut actions)?;
                if !actions.iter().all(Action::is_allowed_in_set) {
                    return Err(OfError::OfpbacBadType);
                }
                out.push(Action::WriteActions(Box::new(WriteActions { actions: actions.into() })));
            }
            4 => {
                let m = WriteMetadata { metadata: word(8), mask: word(16) };
                out.push(Action::WriteMetadata(Box::new(m)));
            }
            _ => out.push(Action::GotoTable(GotoTable { table_id: body.get(4).copied().unwrap_or(0) })),
        }
        Ok(())
    }

    pub(super) fn verified_list(
        &mut self,
        bytes: &[u8],
        allowed: Allowed,
        outer: Option<Kind>,
    ) -> Result<Vec<Action>, OfError> {
        if !bytes.len().is_multiple_of(ALIGN) {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut out = Vec::new();
        self.action_list(bytes, &mut out)?;
        verify(&out, self.version, allowed, outer).map_err(|Violation { error, .. }| error)?;
        Ok(out)
    }
}

/// The bytes of each instruction, by its place in [`Instruction`].
fn find_instructions(bytes: &[u8], version: Version) -> Result<[Option<&[u8]>; 6], OfError> {
    if !bytes.len().is_multiple_of(ALIGN) {
        return Err(OfError::OfpbicBadLen);
    }
    let mut found = [None; 6];
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = usize::from(be16(rest, 2));
        let (body, tail) = rest.split_at_checked(len).ok_or(OfError::OfpbicBadLen)?;
        if len < ALIGN || len % ALIGN != 0 {
            return Err(OfError::OfpbicBadLen);
        }
        rest = tail;
        let kind = instruction_kind(body, version)?;
        let place = found.get_mut(kind as usize).ok_or(OfError::OfpbicUnknownInst)?;
        if place.replace(body).is_some() {
            return Err(OfError::OfpbicDupInst);
        }
    }
    Ok(found)
}

fn instruction_kind(body: &[u8], version: Version) -> Result<Instruction, OfError> {
    let number = be16(body, 0);
    if number == EXPERIMENTER {
        return Err(OfError::OfpbicBadExperimenter);
    }
    let (kind, len) = Instruction::from_wire(number).ok_or(OfError::OfpbicUnknownInst)?;
    if body.len() < len || body.len() > len && !kind.has_actions() {
        return Err(OfError::OfpbicBadLen);
    }
    // OpenFlow 1.5 has made it an action.
    if kind == Instruction::Meter && version >= Version::Of15 {
        return Err(OfError::OfpbicUnknownInst);
    }
    Ok(kind)
}

impl Encoder<'_> {
    /// Appends `actions` without instructions around them.
    pub fn actions(&mut self, actions: &[Action]) {
        for a in actions {
            a.code().encode(self);
        }
    }

    /// Appends what a flow does: instructions, in OpenFlow 1.0 actions.
    pub fn instructions(&mut self, actions: &[Action]) {
        if self.version == Version::Of10 {
            return self.actions(actions);
        }
        let version = self.version;
        let is_apply = move |a: &Action| a.kind().instruction(version) == Instruction::ApplyActions;
        for run in actions.chunk_by(|a, b| is_apply(a) && is_apply(b)) {
            if run.first().is_some_and(is_apply) {
                self.instruction_with_actions(APPLY_ACTIONS, run);
            } else {
                self.actions(run);
            }
        }
    }

    pub(super) fn instruction(&mut self, number: u16, body: &[u8]) {
        self.u16(number);
        self.u16(4 + body.len() as u16);
        self.bytes(body);
    }

    /// An instruction that consists of actions; nothing if they turn into nothing.
    fn instruction_with_actions(&mut self, number: u16, actions: &[Action]) {
        let start = self.buf.len();
        self.instruction(number, &[0; 4]);
        self.actions(actions);
        let len = self.buf.len() - start;
        if len > ACTIONS_AT { self.set_len(start, len) } else { self.buf.truncate(start) }
    }
}

/// `meter`: hand the packet to a meter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meter {
    pub meter_id: u32,
}

/// `OFPM_MAX`: higher numbers are not meters of users.
const METER_MAX: u32 = 0xffff_0000;

impl Meter {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::Meter(Meter { meter_id: b.arg as u32 }))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        p.protocols &= Protocols::OF13_UP;
        Ok(Action::Meter(Meter { meter_id: parse_u32(s)? }))
    }
}

impl ActionCode for Meter {
    fn encode(&self, out: &mut Encoder<'_>) {
        match out.version {
            Version::Of13 | Version::Of14 => out.instruction(METER, &self.meter_id.to_be_bytes()),
            Version::Of15 => out.arg(Form::Meter15, self.meter_id.into()),
            _ => {}
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "meter:{}", self.meter_id);
    }

    fn check(&mut self, _: &mut Check<'_>) -> Result<(), OfError> {
        let ok = (1..=METER_MAX).contains(&self.meter_id);
        if ok { Ok(()) } else { Err(OfError::OfpmmfcInvalidMeter) }
    }
}

/// `write_actions`: add to the action set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteActions {
    pub actions: Box<[Action]>,
}

impl WriteActions {
    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let actions = parse::list(p, s, false, Some(Kind::WriteActions))?.into();
        Ok(Action::WriteActions(Box::new(WriteActions { actions })))
    }
}

impl ActionCode for WriteActions {
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version > Version::Of10 {
            out.instruction_with_actions(WRITE_ACTIONS, &self.actions);
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("write_actions(");
        out.actions(&self.actions);
        out.put_str(")");
    }

    /// What an action set does to a packet depends on what else is in it, so that only errors count.
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let protocols = cx.protocols;
        let result = cx.nested(&mut self.actions);
        cx.protocols = protocols;
        result
    }

    fn nested(&self) -> Option<&[Action]> {
        Some(&self.actions)
    }
}

/// `write_metadata`: set bits of the metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteMetadata {
    pub metadata: u64,
    pub mask: u64,
}

impl WriteMetadata {
    /// OpenFlow 1.0's, which is Nicira's.
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        if !b.is_zero(10..16) {
            return Err(OfError::NxbrcMustBeZero);
        }
        Ok(Action::WriteMetadata(Box::new(WriteMetadata { metadata: b.u64(16), mask: b.u64(24) })))
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        p.protocols &= Protocols::NXM_OF11_UP;
        let (value, mask) = match s.split_once('/') {
            Some((value, mask)) => (value, parse_u64(mask)?),
            None => (s, u64::MAX),
        };
        Ok(Action::WriteMetadata(Box::new(WriteMetadata { metadata: parse_u64(value)?, mask })))
    }
}

impl ActionCode for WriteMetadata {
    fn encode(&self, out: &mut Encoder<'_>) {
        let (metadata, mask) = (self.metadata.to_be_bytes(), self.mask.to_be_bytes());
        if out.version == Version::Of10 {
            let open = out.begin(Form::WriteMetadata);
            out.zeros(6);
            out.bytes(&metadata);
            out.bytes(&mask);
            out.end(open);
        } else {
            out.instruction(WRITE_METADATA, &[&[0; 4][..], &metadata, &mask].concat());
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(out, "write_metadata:{}", super::field::HexOrZero(self.metadata));
        if self.mask != u64::MAX {
            put!(out, "/{}", super::field::HexOrZero(self.mask));
        }
    }
}

/// `goto_table`: go on in another table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GotoTable {
    pub table_id: u8,
}

impl GotoTable {
    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let table_id = p.table(s).ok_or_else(|| format!("unknown table \"{s}\""))?;
        Ok(Action::GotoTable(GotoTable { table_id }))
    }
}

impl ActionCode for GotoTable {
    /// In OpenFlow 1.0, a `resubmit` comes nearest.
    fn encode(&self, out: &mut Encoder<'_>) {
        if out.version == Version::Of10 {
            let open = out.begin(Form::ResubmitTable);
            out.u16(PortNo::IN_PORT.0);
            out.u8(self.table_id);
            out.end(open);
        } else {
            out.instruction(GOTO_TABLE, &[self.table_id, 0, 0, 0]);
        }
    }

    fn format(&self, out: &mut Text<'_>) {
        out.put_str("goto_table:");
        out.table(self.table_id);
    }

    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        let backward = cx.params.table_id.is_some_and(|t| self.table_id <= t);
        let beyond = cx.params.n_tables != u8::MAX && self.table_id >= cx.params.n_tables;
        if backward || beyond { Err(OfError::OfpbicBadTableId) } else { Ok(()) }
    }
}

impl Action {
    /// Whether an action set may contain it.
    #[must_use]
    pub fn is_allowed_in_set(&self) -> bool {
        !matches!(self.kind().info().role, Role::ListOnly | Role::Instruction(_))
    }
}
