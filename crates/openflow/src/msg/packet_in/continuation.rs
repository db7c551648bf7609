//! What the switch has to remember to go on with a packet that a `controller(pause)` action sent away.
//!
//! It travels as a property of `NXT_PACKET_IN2`, and comes back in `NXT_RESUME`.

use crate::action::{Action, UnrollXlate};
use crate::context::{Context, Target};
use crate::property::{self, Property, PropertyType, put_aligned_property, put_property};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, Version};

/// Properties of a continuation.
mod prop {
    pub const BRIDGE: u16 = 0x8000;
    pub const STACK: u16 = 0x8001;
    pub const MIRRORS: u16 = 0x8002;
    pub const CONNTRACKED: u16 = 0x8003;
    pub const TABLE_ID: u16 = 0x8004;
    pub const COOKIE: u16 = 0x8005;
    pub const ACTIONS: u16 = 0x8006;
    pub const ACTION_SET: u16 = 0x8007;
    pub const ODP_PORT: u16 = 0x8008;
}

/// Longest value on the stack.
const STACK_VALUE_LEN_MAX: usize = 128;
/// The table of actions that are of no rule.
const NO_TABLE: u8 = 255;

/// How to go on with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Continuation {
    /// The bridge's UUID, all zeros if not known.
    pub bridge: [u8; 16],
    /// The values on the stack, topmost first, at most 128 bytes each.
    pub stack: Vec<Vec<u8>>,
    /// The mirrors that have had the packet.
    pub mirrors: u32,
    /// Whether the packet went through connection tracking.
    pub conntracked: bool,
    /// The actions that are still to be done. Those behind an [`UnrollXlate`] are of the rule that it names.
    pub actions: Vec<Action>,
    /// The action set.
    pub action_set: Vec<Action>,
    /// The datapath port where the packet came in, 0 if not known.
    pub odp_port: u32,
}

impl Continuation {
    /// Decodes the bytes that [`Self::encode`] made.
    ///
    /// # Errors
    /// Those of properties and actions: the bytes come from a controller and need not be what they were.
    pub fn decode(bytes: &[u8], version: Version, context: &Context<'_>) -> Result<Self, OfError> {
        let mut r = Reader::new(bytes);
        let mut this = Self::default();
        let mut rule = UnrollXlate { rule_table_id: Some(0), rule_cookie: 0 };
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            let PropertyType::Standard(number) = property.kind else {
                return Err(property.kind.unknown());
            };
            match number {
                prop::BRIDGE => this.bridge = property.array()?,
                prop::STACK if property.value().len() > STACK_VALUE_LEN_MAX => {
                    return Err(OfError::OfpbpcBadLen);
                }
                prop::STACK => this.stack.push(property.value().to_vec()),
                prop::MIRRORS => this.mirrors = property.u32()?,
                prop::CONNTRACKED => this.conntracked = true,
                prop::TABLE_ID => rule.rule_table_id = Some(property.u8()?).filter(|id| *id != NO_TABLE),
                prop::COOKIE => rule.rule_cookie = property.u64()?,
                prop::ACTIONS => {
                    this.actions.push(Action::UnrollXlate(rule.into()));
                    this.actions.extend(decode_actions(&property, version, context)?);
                }
                prop::ACTION_SET => this.action_set = decode_actions(&property, version, context)?,
                prop::ODP_PORT => this.odp_port = property.u32()?,
                _ => return Err(property.kind.unknown()),
            }
        }
        Ok(this)
    }

    /// Encodes the continuation as the bytes of [`super::PacketIn::continuation`].
    #[must_use]
    pub fn encode(&self, target: &Target<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        if self.bridge != [0; 16] {
            put_property(&mut out, PropertyType::Standard(prop::BRIDGE), |out| out.put_bytes(&self.bridge));
        }
        for value in &self.stack {
            put_property(&mut out, PropertyType::Standard(prop::STACK), |out| out.put_bytes(value));
        }
        if self.mirrors != 0 {
            property::put_u32(&mut out, prop::MIRRORS, self.mirrors);
        }
        if self.conntracked {
            put_property(&mut out, PropertyType::Standard(prop::CONNTRACKED), |_| ());
        }
        self.put_actions(&mut out, target);
        put_actions(&mut out, prop::ACTION_SET, &self.action_set, target);
        if self.odp_port != 0 {
            property::put_u32(&mut out, prop::ODP_PORT, self.odp_port);
        }
        out
    }

    /// Appends the actions rule by rule, with the table and the cookie wherever they change.
    fn put_actions(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let (mut table_id, mut cookie) = (0, 0);
        let mut rest = self.actions.as_slice();
        loop {
            let is_unroll = |a: &Action| matches!(a, Action::UnrollXlate(_));
            let end = rest.iter().position(is_unroll).unwrap_or(rest.len());
            let (of_rule, behind) = rest.split_at(end);
            put_actions(out, prop::ACTIONS, of_rule, target);
            let Some((Action::UnrollXlate(rule), behind)) = behind.split_first() else { return };
            let rule_table_id = rule.rule_table_id.unwrap_or(NO_TABLE);
            if rule_table_id != table_id {
                property::put_u8(out, prop::TABLE_ID, rule_table_id);
            }
            if rule.rule_cookie != cookie {
                property::put_u64(out, prop::COOKIE, rule.rule_cookie);
            }
            (table_id, cookie) = (rule_table_id, rule.rule_cookie);
            rest = behind;
        }
    }
}

fn decode_actions(
    property: &Property<'_>,
    version: Version,
    context: &Context<'_>,
) -> Result<Vec<Action>, OfError> {
    let bytes = property.aligned_value()?.rest();
    context.decoder(version).actions(bytes)
}

fn put_actions(out: &mut Vec<u8>, number: u16, actions: &[Action], target: &Target<'_>) {
    if !actions.is_empty() {
        put_aligned_property(out, PropertyType::Standard(number), |out| target.encoder(out).actions(actions));
    }
}
