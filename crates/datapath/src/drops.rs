//! Why packets end here: every cause once, with the name that monitoring knows it by.

use crate::counter::Counter;
use dpif::{DropReason, PortNo};

macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident, $name:literal, $coverage:expr;)*) => {
        /// A cause of loss.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum DropCause {
            $($(#[$doc])* $cause,)*
        }

        impl DropCause {
            /// All causes, in the order of their numbers.
            pub const ALL: &[DropCause] = &[$(DropCause::$cause,)*];

            /// Open vSwitch's counter name where it has one, else our own in its style.
            pub fn name(self) -> &'static str {
                match self { $(DropCause::$cause => $name,)* }
            }

            /// The counter in `coverage/show`.
            fn coverage(self) -> Option<&'static coverage::Counter> {
                match self { $(DropCause::$cause => $coverage,)* }
            }
        }
    };
}

causes! {
    /// Shorter than an Ethernet header.
    RxInvalidPacket, "datapath_drop_rx_invalid_packet", Some(&coverage::counter::datapath_drop_rx_invalid_packet);
    /// A miss while the upcall queue, or the port's share of it, is full, or nobody answers.
    UpcallError, "datapath_drop_upcall_error", Some(&coverage::counter::datapath_drop_upcall_error);
    /// The same for a `userspace` action.
    UserspaceActionError, "datapath_drop_userspace_action_error",
        Some(&coverage::counter::datapath_drop_userspace_action_error);
    /// Recirculated more often than [`crate::RECIRCULATIONS_MAX`], or beyond [`crate::NESTING_MAX`] lists of actions.
    RecircError, "datapath_drop_recirc_error", Some(&coverage::counter::datapath_drop_recirc_error);
    /// Output to a port that does not exist.
    InvalidPort, "datapath_drop_invalid_port", Some(&coverage::counter::datapath_drop_invalid_port);
    /// Output through a bond that the datapath does not know.
    InvalidBond, "datapath_drop_invalid_bond", Some(&coverage::counter::datapath_drop_invalid_bond);
    InvalidTunnelPort, "datapath_drop_invalid_tnl_port", Some(&coverage::counter::datapath_drop_invalid_tnl_port);
    TunnelPushError, "datapath_drop_tunnel_push_error", Some(&coverage::counter::datapath_drop_tunnel_push_error);
    TunnelPopError, "datapath_drop_tunnel_pop_error", Some(&coverage::counter::datapath_drop_tunnel_pop_error);
    /// Over the rate of a meter.
    Meter, "datapath_drop_meter", Some(&coverage::counter::datapath_drop_meter);
    /// Not chosen by a `sample` action that would have been the packet's last.
    SampleError, "datapath_drop_sample_error", Some(&coverage::counter::datapath_drop_sample_error);
    NshDecapError, "datapath_drop_nsh_decap_error", Some(&coverage::counter::datapath_drop_nsh_decap_error);
    /// An NSH header that the packet's type or length does not allow.
    NshEncapError, "datapath_drop_nsh_encap_error", None;
    /// A fragment whose packet did not become whole in time.
    FragmentExpired, "datapath_drop_ct_fragment_expired", None;
    /// Translation found no action: the ordinary drop.
    OfPipeline, "drop_action_of_pipeline", Some(&coverage::counter::drop_action_of_pipeline);
    BridgeNotFound, "drop_action_bridge_not_found", Some(&coverage::counter::drop_action_bridge_not_found);
    RecursionTooDeep, "drop_action_recursion_too_deep", Some(&coverage::counter::drop_action_recursion_too_deep);
    TooManyResubmits, "drop_action_too_many_resubmit", Some(&coverage::counter::drop_action_too_many_resubmit);
    StackTooDeep, "drop_action_stack_too_deep", Some(&coverage::counter::drop_action_stack_too_deep);
    NoRecirculationContext, "drop_action_no_recirculation_context",
        Some(&coverage::counter::drop_action_no_recirculation_context);
    RecirculationConflict, "drop_action_recirculation_conflict",
        Some(&coverage::counter::drop_action_recirculation_conflict);
    TooManyMplsLabels, "drop_action_too_many_mpls_labels", Some(&coverage::counter::drop_action_too_many_mpls_labels);
    InvalidTunnelMetadata, "drop_action_invalid_tunnel_metadata",
        Some(&coverage::counter::drop_action_invalid_tunnel_metadata);
    UnsupportedPacketType, "drop_action_unsupported_packet_type",
        Some(&coverage::counter::drop_action_unsupported_packet_type);
    Congestion, "drop_action_congestion", Some(&coverage::counter::drop_action_congestion);
    ForwardingDisabled, "drop_action_forwarding_disabled", Some(&coverage::counter::drop_action_forwarding_disabled);
    /// Larger than the port's MTU. Counted at the port that should have sent it, as all `tx` causes.
    TxTooBig, "port_tx_too_big", None;
    TxFull, "port_tx_queue_full", None;
    TxDown, "port_tx_down", None;
    TxError, "port_tx_error", None;
    /// A checksum or segmentation that was left to us and cannot be done.
    TxOffload, "port_tx_offload_error", None;
}

impl From<DropReason> for DropCause {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::Ok => DropCause::OfPipeline,
            DropReason::BridgeNotFound => DropCause::BridgeNotFound,
            DropReason::RecursionTooDeep => DropCause::RecursionTooDeep,
            DropReason::TooManyResubmits => DropCause::TooManyResubmits,
            DropReason::StackTooDeep => DropCause::StackTooDeep,
            DropReason::NoRecirculationContext => DropCause::NoRecirculationContext,
            DropReason::RecirculationConflict => DropCause::RecirculationConflict,
            DropReason::TooManyMplsLabels => DropCause::TooManyMplsLabels,
            DropReason::InvalidTunnelMetadata => DropCause::InvalidTunnelMetadata,
            DropReason::UnsupportedPacketType => DropCause::UnsupportedPacketType,
            DropReason::Congestion => DropCause::Congestion,
            DropReason::ForwardingDisabled => DropCause::ForwardingDisabled,
        }
    }
}

/// What one thread did with the packets of one port. Each packet, received or made as a copy, ends in
/// exactly one of `sent`, `finished`, `upcalled` and `dropped`, at the port that it came in by; what a port
/// could not send ends at that port.
#[derive(Debug, Default)]
pub(crate) struct PortCounters {
    pub received: Counter,
    pub received_bytes: Counter,
    /// Copies that actions made.
    pub copied: Counter,
    /// Packets that came back from an upcall.
    pub reinjected: Counter,
    /// Handed to the transmit queue of some port.
    pub output: Counter,
    /// Segments that this port's packets were cut into, beyond one for each.
    pub segments: Counter,
    /// Taken by this port's transmit queue, and refused by it; counted at the port that sends.
    pub sent: Counter,
    pub sent_bytes: Counter,
    pub upcalled: Counter,
    /// Rest of a packet whose copies went their ways.
    pub finished: Counter,
    dropped: [Counter; DropCause::ALL.len()],
}

impl PortCounters {
    pub fn lose(&self, cause: DropCause, packets: usize) {
        let packets = packets as u64;
        if packets == 0 {
            return;
        }
        if let Some(counter) = self.dropped.get(cause as usize) {
            counter.add(packets);
        }
        if let Some(counter) = cause.coverage() {
            counter.add(packets);
        }
    }

    pub fn dropped(&self, cause: DropCause) -> u64 {
        self.dropped.get(cause as usize).map_or(0, Counter::get)
    }
}

/// One line of the per-port view of losses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortDrops {
    pub port: PortNo,
    pub cause: DropCause,
    /// The rule that caused it, once actions carry their rule.
    pub cookie: Option<u64>,
    pub packets: u64,
}

/// Everything that came to, or was made at, one port, and where it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortTotals {
    pub received: u64,
    pub received_bytes: u64,
    pub copied: u64,
    pub reinjected: u64,
    pub output: u64,
    pub upcalled: u64,
    pub finished: u64,
    /// All causes but those of transmission.
    pub dropped: u64,
    /// Sent segments beyond one for each packet that was cut.
    pub segments: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    /// The causes of transmission: [`DropCause::TxTooBig`] and what follows it.
    pub refused: u64,
}

impl PortTotals {
    pub(crate) fn add(&mut self, c: &PortCounters) {
        self.received += c.received.get();
        self.received_bytes += c.received_bytes.get();
        self.copied += c.copied.get();
        self.reinjected += c.reinjected.get();
        self.output += c.output.get();
        self.upcalled += c.upcalled.get();
        self.finished += c.finished.get();
        self.segments += c.segments.get();
        self.sent += c.sent.get();
        self.sent_bytes += c.sent_bytes.get();
        for cause in DropCause::ALL {
            let total = if *cause >= DropCause::TxTooBig { &mut self.refused } else { &mut self.dropped };
            *total += c.dropped(*cause);
        }
    }
}
