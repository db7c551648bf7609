//! `OFPT_FEATURES_REPLY`: what the switch is.

use bitflags::bitflags;

use crate::form::{Form, Incoming};
use crate::msg::action_types::ActionTypes;
use crate::msg::port::{self, PortDesc};
use crate::multipart::MESSAGE_LEN_MAX;
use crate::wire::PutBytes;
use crate::{OfError, Version};

bitflags! {
    /// What a switch can do. The low 16 bits stand on the wire as they are here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Capabilities: u32 {
        /// Counters of flows.
        const FLOW_STATS = 1 << 0;
        /// Counters of tables.
        const TABLE_STATS = 1 << 1;
        /// Counters of ports.
        const PORT_STATS = 1 << 2;
        /// Reassembly of IP fragments.
        const IP_REASM = 1 << 5;
        /// Counters of queues.
        const QUEUE_STATS = 1 << 6;
        /// Matching of IP addresses in ARP (until OpenFlow 1.1).
        const ARP_MATCH_IP = 1 << 7;
        /// Blocking of looping ports (OpenFlow 1.2+).
        const PORT_BLOCKED = 1 << 8;
        /// Bundles (OpenFlow 1.4+).
        const BUNDLES = 1 << 9;
        /// Flow monitors (OpenFlow 1.4+).
        const FLOW_MONITORING = 1 << 10;
        /// 802.1D spanning tree (OpenFlow 1.0).
        const STP = 1 << 16;
        /// Counters of groups (OpenFlow 1.1+).
        const GROUP_STATS = 1 << 17;
    }
}

/// `OFPC10_STP` and `OFPC11_GROUP_STATS` share a bit.
const STP_OR_GROUP_STATS: u32 = 1 << 3;

impl Capabilities {
    /// The capabilities whose bit has one meaning in all versions, as far as `version` has them.
    fn unambiguous_of(version: Version) -> Self {
        let always =
            Self::FLOW_STATS | Self::TABLE_STATS | Self::PORT_STATS | Self::IP_REASM | Self::QUEUE_STATS;
        match version {
            Version::Of10 | Version::Of11 => always | Self::ARP_MATCH_IP,
            Version::Of12 | Version::Of13 => always | Self::PORT_BLOCKED,
            Version::Of14 | Version::Of15 => {
                always | Self::PORT_BLOCKED | Self::BUNDLES | Self::FLOW_MONITORING
            }
        }
    }

    fn ambiguous_of(version: Version) -> Self {
        if version == Version::Of10 { Self::STP } else { Self::GROUP_STATS }
    }

    fn from_wire(bits: u32, version: Version) -> Self {
        let mut this = Self::from_bits_truncate(bits) & Self::unambiguous_of(version);
        this.set(Self::ambiguous_of(version), bits & STP_OR_GROUP_STATS != 0);
        this
    }

    fn to_wire(self, version: Version) -> u32 {
        let shared = if self.contains(Self::ambiguous_of(version)) { STP_OR_GROUP_STATS } else { 0 };
        (self & Self::unambiguous_of(version)).bits() | shared
    }
}

/// A features reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// The switch's datapath id.
    pub datapath_id: u64,
    /// How many packets it buffers; Open vSwitch none.
    pub n_buffers: u32,
    /// How many tables it has.
    pub n_tables: u8,
    /// The connection's number among those of one controller (OpenFlow 1.3+).
    pub auxiliary_id: u8,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The actions that it has (OpenFlow 1.0).
    pub actions: ActionTypes,
    /// Its ports (until OpenFlow 1.2).
    pub ports: Vec<PortDesc>,
}

impl Features {
    /// Whether a reply of `version` can hold `n_ports` ports. Where it cannot, Open vSwitch sends as many
    /// as fit, and controllers ask with `OFPST_PORT_DESC` instead.
    #[must_use]
    pub const fn fits(n_ports: usize, version: Version) -> bool {
        32 + n_ports * PortDesc::len_in_features(version) <= MESSAGE_LEN_MAX
    }

    /// Decodes a features reply.
    ///
    /// # Errors
    /// Those of port descriptions.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let version = msg.version;
        let mut features = Self {
            datapath_id: r.u64()?,
            n_buffers: r.u32()?,
            n_tables: r.u8()?,
            auxiliary_id: r.u8()?,
            ..Self::default()
        };
        r.skip(2)?;
        features.capabilities = Capabilities::from_wire(r.u32()?, version);
        let actions = r.u32()?;
        if version == Version::Of10 {
            features.actions = ActionTypes::from_wire(actions, version);
        }
        if msg.form == Form::Ofpt13FeaturesReply {
            return Ok(features);
        }
        features.auxiliary_id = 0;
        features.ports = port::take_all(r, version)?;
        Ok(features)
    }

    /// Encodes a features reply.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let form = match version {
            Version::Of10 => Form::Ofpt10FeaturesReply,
            Version::Of11 | Version::Of12 => Form::Ofpt11FeaturesReply,
            _ => Form::Ofpt13FeaturesReply,
        };
        let has_ports = form != Form::Ofpt13FeaturesReply;
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            out.put_u64(self.datapath_id);
            out.put_u32(self.n_buffers);
            out.put_u8(self.n_tables);
            out.put_u8(if has_ports { 0 } else { self.auxiliary_id });
            out.put_zeros(2);
            out.put_u32(self.capabilities.to_wire(version));
            out.put_u32(if version == Version::Of10 { self.actions.to_wire(version) } else { 0 });
            if has_ports {
                let fit = (MESSAGE_LEN_MAX - out.len()) / PortDesc::len_in_features(version);
                self.ports.iter().take(fit).for_each(|p| p.put(out, version));
            }
        });
        out
    }
}
