//! Actions and instructions: bytes of every version, text, and the meaning between them.
//!
//! [`Action`] is that meaning, the same for every version; a flow's instructions are a list of them, as in
//! Open vSwitch. The table in `table.rs` has one entry per action: its name, its role in action sets, its
//! layouts with their numbers, and the functions that read it. What is special about an action stands
//! with its type, one family a file.
//!
//! - [`Decoder`] and [`Encoder`]: bytes. An action leaves as it came in, as far as the version can.
//! - [`Text`] and [`Parser`]: the text of ovs-actions(7).
//! - [`check()`]: whether actions make sense for the packets that a flow matches.
//! - [`set`]: action sets.
//! - [`SavedActions`]: actions in saved state.
//!
//! Limits: actions nested in actions [`NESTING_MAX`] deep; a list in text of 1 MiB.

mod bundle;
mod check;
mod controller;
mod copy;
mod ct;
mod define;
mod encap;
mod field;
mod form;
mod header;
mod instruction;
mod learn;
mod learn_text;
mod metadata;
mod mpls;
mod multipath;
mod nat;
mod nest;
mod number;
mod output;
mod oxm;
mod parse;
mod pkt_len;
mod query;
mod resubmit;
mod rule;
mod sample;
mod saved;
pub mod set;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod ttl;
mod unit;
mod verify;
mod vlan;

pub use bundle::{Bundle, BundleAlgorithm, MEMBERS_MAX};
pub use check::{CheckParams, check, check_consistency};
pub use controller::{Controller, reason};
pub use copy::{Move, StackPop, StackPush};
pub use ct::{Ct, CtFlags, CtZone, alg};
pub use define::{Instruction, KindInfo, Role};
pub use encap::{Decap, Encap, EncapProperty, PT_USE_NEXT_PROTO};
pub use field::{SetField, SetForm};
pub use form::{Decoder, Encoder, NESTING_MAX, check_output_port};
pub use header::{
    SetEthDst, SetEthSrc, SetIpDscp, SetIpEcn, SetIpTtl, SetIpv4Dst, SetIpv4Src, SetL4DstPort, SetL4SrcPort,
};
pub use instruction::{GotoTable, Meter, WriteActions, WriteMetadata};
pub use learn::{Immediate, Learn, LearnDst, LearnFlags, LearnSpec, LearnSrc};
pub use metadata::{DeleteField, SetQueue, SetTunnel};
pub use mpls::{PopMpls, PushMpls, SetMplsLabel, SetMplsTc, SetMplsTtl};
pub use multipath::{Multipath, MultipathAlgorithm};
pub use nat::{AddrRange, Nat, NatFlags};
pub use nest::CloneActions;
pub use output::{Enqueue, Group, Output, OutputReg, OutputTrunc};
pub use pkt_len::CheckPktLarger;
pub use query::{flattened, meter, output_to_group, output_to_port};
pub use resubmit::{Resubmit, ResubmitForm};
pub use rule::{Conjunction, FinTimeout, Note};
pub use sample::{Sample, SampleDirection, SampleForm};
pub use saved::{BadSavedActions, SavedActions};
pub use table::{Action, KINDS, Kind};
pub use text::{Parser, Text};
pub use ttl::DecTtl;
pub use unit::{
    ClearActions, CtClear, DebugRecirc, DebugSlow, DecMplsTtl, DecNshTtl, Exit, PopQueue, UnrollXlate,
};
pub use vlan::{PushVlan, SetVlanPcp, SetVlanVid, StripVlan};

// A rule holds several; Open vSwitch's smallest take 16 bytes, too.
const _: () = assert!(size_of::<Action>() == 16);
