//! `controller`: send to the controller, with more to say than `output:CONTROLLER` can.

use super::Action;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{hex_bytes, parse_u16, parse_u32};
use super::output::Output;
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::property::{Property, PropertyType, put_property, put_u8, put_u16, put_u32};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, PortNo};
use flow::text::key_values;

/// Reasons of a packet-in (`OFPR_*`), and of this action.
pub mod reason {
    pub const NO_MATCH: u8 = 0;
    pub const ACTION: u8 = 1;
    pub const INVALID_TTL: u8 = 2;
    pub const ACTION_SET: u8 = 3;
    pub const GROUP: u8 = 4;
    pub const PACKET_OUT: u8 = 5;
    /// A table-miss flow sent the packet.
    pub const EXPLICIT_MISS: u8 = 6;
    /// No flow matched at all.
    pub const IMPLICIT_MISS: u8 = 7;
    const COUNT: u8 = 8;

    /// The reason as text; a number if it is unknown.
    #[must_use]
    pub fn name(reason: u8) -> std::borrow::Cow<'static, str> {
        match reason {
            NO_MATCH => "no_match".into(),
            ACTION => "action".into(),
            INVALID_TTL => "invalid_ttl".into(),
            ACTION_SET => "action_set".into(),
            GROUP => "group".into(),
            PACKET_OUT => "packet_out".into(),
            EXPLICIT_MISS | IMPLICIT_MISS => "".into(),
            n => n.to_string().into(),
        }
    }

    pub(super) fn parse(s: &str) -> Option<u8> {
        (0..COUNT).find(|r| name(*r).eq_ignore_ascii_case(s))
    }
}

/// A packet-in made to measure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Controller {
    /// Most bytes of the packet to send.
    pub max_len: u16,
    /// Only connections with this id get it (`NXT_SET_CONTROLLER_ID`).
    pub controller_id: u16,
    /// One of [`reason`], or a number that is not known.
    pub reason: u8,
    /// Stop here, to be resumed by the controller.
    pub pause: bool,
    /// The meter for the packet-in; 0 for none.
    pub meter_id: u32,
    pub userdata: Box<[u8]>,
    /// Came as `NXAST_CONTROLLER2`.
    pub second_form: bool,
}

impl Default for Controller {
    fn default() -> Self {
        Controller {
            max_len: u16::MAX,
            controller_id: 0,
            reason: reason::ACTION,
            pause: false,
            meter_id: 0,
            userdata: Box::default(),
            second_form: false,
        }
    }
}

/// Property types of `NXAST_CONTROLLER2`.
mod prop {
    pub const MAX_LEN: u16 = 0;
    pub const CONTROLLER_ID: u16 = 1;
    pub const REASON: u16 = 2;
    pub const USERDATA: u16 = 3;
    pub const PAUSE: u16 = 4;
    pub const METER_ID: u16 = 5;
}

impl Controller {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Ok(Action::Controller(Box::new(Controller {
            max_len: b.u16(10),
            controller_id: b.u16(12),
            reason: b.u8(14),
            ..Controller::default()
        })))
    }

    pub(super) fn decode2(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        if !b.is_zero(10..16) {
            return Err(OfError::NxbrcMustBeZero);
        }
        let mut a = Controller { second_form: true, ..Controller::default() };
        let mut rest = Reader::new(b.from(16));
        while !rest.is_empty() {
            a.set_property(&Property::take(&mut rest)?)?;
        }
        Ok(Action::Controller(Box::new(a)))
    }

    fn set_property(&mut self, p: &Property<'_>) -> Result<(), OfError> {
        let PropertyType::Standard(kind) = p.kind else { return Err(p.kind.unknown()) };
        match kind {
            prop::MAX_LEN => self.max_len = p.u16()?,
            prop::CONTROLLER_ID => self.controller_id = p.u16()?,
            prop::REASON => self.reason = p.u8()?,
            prop::USERDATA => self.userdata = p.value().into(),
            prop::PAUSE => self.pause = true,
            prop::METER_ID => self.meter_id = p.u32()?,
            _ => return Err(p.kind.unknown()),
        }
        Ok(())
    }

    /// What is not a special wish is an [`Output`].
    pub(super) fn parse(_: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut a = Controller::default();
        if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) {
            a.max_len = parse_u16(s, "max_len")?;
        } else {
            for (key, value) in key_values(s) {
                a.parse_key(key, value)?;
            }
        }
        // `userdata=` without data is a wish, too.
        let has_userdata = key_values(s).any(|(key, _)| key == "userdata");
        if a.is_plain() && !has_userdata {
            return Ok(Action::Output(Output { port: PortNo::CONTROLLER, max_len: a.max_len }));
        }
        Ok(Action::Controller(Box::new(a)))
    }

    fn parse_key(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "reason" => {
                self.reason = reason::parse(value).ok_or_else(|| format!("unknown reason \"{value}\""))?;
            }
            "max_len" => self.max_len = parse_u16(value, "max_len")?,
            "id" => self.controller_id = parse_u16(value, "id")?,
            "userdata" => match hex_bytes(value) {
                (data, "") => self.userdata = data.into(),
                _ => return Err("bad hex digit in `controller' action `userdata'".into()),
            },
            "pause" => self.pause = true,
            "meter_id" => self.meter_id = parse_u32(value)?,
            _ => return Err(format!("unknown key \"{key}\" parsing controller action")),
        }
        Ok(())
    }

    /// Whether an [`Output`] could say as much.
    fn is_plain(&self) -> bool {
        self.reason == reason::ACTION
            && self.controller_id == 0
            && self.userdata.is_empty()
            && !self.pause
            && self.meter_id == 0
    }
}

impl ActionCode for Controller {
    fn encode(&self, out: &mut Encoder<'_>) {
        let needs_second = !self.userdata.is_empty() || self.pause || self.meter_id != 0;
        if !needs_second && !self.second_form {
            let open = out.begin(Form::Controller);
            out.u16(self.max_len);
            out.u16(self.controller_id);
            out.u8(self.reason);
            out.end(open);
            return;
        }
        let open = out.begin(Form::Controller2);
        out.zeros(6);
        if self.max_len != u16::MAX {
            put_u16(out.buf, prop::MAX_LEN, self.max_len);
        }
        if self.controller_id != 0 {
            put_u16(out.buf, prop::CONTROLLER_ID, self.controller_id);
        }
        if self.reason != reason::ACTION {
            put_u8(out.buf, prop::REASON, self.reason);
        }
        if !self.userdata.is_empty() {
            put_property(out.buf, PropertyType::Standard(prop::USERDATA), |b| b.put_bytes(&self.userdata));
        }
        if self.pause {
            put_property(out.buf, PropertyType::Standard(prop::PAUSE), |_| ());
        }
        if self.meter_id != 0 {
            put_u32(out.buf, prop::METER_ID, self.meter_id);
        }
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        if self.is_plain() {
            put!(out, "CONTROLLER:{}", self.max_len);
            return;
        }
        out.put_str("controller(");
        if self.reason != reason::ACTION {
            put!(out, "reason={},", reason::name(self.reason));
        }
        if self.max_len != u16::MAX {
            put!(out, "max_len={},", self.max_len);
        }
        if self.controller_id != 0 {
            put!(out, "id={},", self.controller_id);
        }
        if !self.userdata.is_empty() {
            out.put_str("userdata=");
            out.dotted(&self.userdata);
            out.put_str(",");
        }
        if self.pause {
            out.put_str("pause,");
        }
        if self.meter_id != 0 {
            put!(out, "meter_id={},", self.meter_id);
        }
        out.chomp();
        out.put_str(")");
    }
}
