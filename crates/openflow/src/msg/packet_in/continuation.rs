//! What the switch has to remember to go on with a packet that a `controller(pause)` action sent away.
//!
//! It travels as a property of `NXT_PACKET_IN2`, and comes back in `NXT_RESUME`.

use crate::action::Action;
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

/// Actions that are still to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The table and the cookie of the flow that they belong to; `None` for the flow that sent the packet.
    pub rule: Option<(u8, u64)>,
    /// The actions.
    pub actions: Vec<Action>,
}

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
    /// The actions that are still to be done, in their order.
    pub segments: Vec<Segment>,
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
        let mut rule = (0, 0);
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
                prop::TABLE_ID => rule.0 = property.u8()?,
                prop::COOKIE => rule.1 = property.u64()?,
                prop::ACTIONS => {
                    let actions = decode_actions(&property, version, context)?;
                    this.segments.push(Segment { rule: Some(rule), actions });
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
        self.put_segments(&mut out, target);
        put_actions(&mut out, prop::ACTION_SET, &self.action_set, target);
        if self.odp_port != 0 {
            property::put_u32(&mut out, prop::ODP_PORT, self.odp_port);
        }
        out
    }

    fn put_segments(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let (mut table_id, mut cookie) = (0, 0);
        for segment in &self.segments {
            if let Some(rule) = segment.rule {
                if rule.0 != table_id {
                    property::put_u8(out, prop::TABLE_ID, rule.0);
                }
                if rule.1 != cookie {
                    property::put_u64(out, prop::COOKIE, rule.1);
                }
                (table_id, cookie) = rule;
            }
            put_actions(out, prop::ACTIONS, &segment.actions, target);
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
