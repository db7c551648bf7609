//! What the datapath can do with a packet.

use crate::{PortNo, Ufid};
use flow::{EthAddr, Nsh, Tunnel, U128};
pub use packet::header::{
    ArpKey, EthKey, IcmpKey, Ipv4Key, Ipv6Key, Masked, NdExtKey, NdKey, NshHeader, PortsKey,
};
use smallvec::SmallVec;

/// A list of datapath actions; an empty one drops.
pub type Actions = Vec<Action>;

/// One datapath action (`OVS_ACTION_ATTR_*` of the kernel's openvswitch.h, plus those that only the
/// userspace datapath has).
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Output(PortNo),
    Userspace(Userspace),
    Set(SetKey),
    PushVlan {
        tpid: u16,
        tci: u16,
    },
    PopVlan,
    PushMpls {
        lse: u32,
        ethertype: u16,
    },
    /// The Ethernet type of what is left when the last label goes.
    PopMpls {
        ethertype: u16,
    },
    /// Pushes a label without a link-layer header in front (`add_mpls`).
    AddMpls {
        lse: u32,
        ethertype: u16,
        l3: bool,
    },
    PushEth {
        dst: EthAddr,
        src: EthAddr,
    },
    PopEth,
    PushNsh(Box<NshHeader>),
    PopNsh,
    Recirc(u32),
    Hash {
        alg: HashAlg,
        basis: u32,
    },
    /// Runs `actions` on a copy with probability `probability / u32::MAX`.
    Sample {
        probability: u32,
        actions: Actions,
    },
    /// Runs `actions` on a copy; what they change stays with the copy.
    Clone(Actions),
    Ct(Box<Ct>),
    CtClear,
    Meter(u32),
    /// The next output sends at most `max_len` bytes.
    Trunc(u32),
    CheckPktLen {
        len: u16,
        greater: Actions,
        less_equal: Actions,
    },
    TunnelPush(Box<TunnelPush>),
    TunnelPop(PortNo),
    /// Output through one of a bond's members, chosen by hash.
    LbOutput(u32),
    /// An explicit drop with its reason.
    Drop(DropReason),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashAlg {
    L4,
    SymL4,
}

/// Why translation said "drop" (`xlate_error`; the drop_action_* counters).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum DropReason {
    Ok = 0,
    BridgeNotFound,
    RecursionTooDeep,
    TooManyResubmits,
    StackTooDeep,
    NoRecirculationContext,
    RecirculationConflict,
    TooManyMplsLabels,
    InvalidTunnelMetadata,
    UnsupportedPacketType,
    Congestion,
    ForwardingDisabled,
}

impl DropReason {
    /// As `ofproto/trace` puts it.
    pub fn text(self) -> &'static str {
        match self {
            DropReason::Ok => "OK",
            DropReason::BridgeNotFound => "Bridge not found",
            DropReason::RecursionTooDeep => "Recursion too deep",
            DropReason::TooManyResubmits => "Too many resubmits",
            DropReason::StackTooDeep => "Stack too deep",
            DropReason::NoRecirculationContext => "No recirculation context",
            DropReason::RecirculationConflict => "Recirculation conflict",
            DropReason::TooManyMplsLabels => "Too many MPLS labels",
            DropReason::InvalidTunnelMetadata => "Invalid tunnel metadata",
            DropReason::UnsupportedPacketType => "Unsupported packet type",
            DropReason::Congestion => "Congestion Drop",
            DropReason::ForwardingDisabled => "Forwarding is disabled",
        }
    }
}

/// Sends the packet to the switch with a note why.
#[derive(Clone, PartialEq, Debug)]
pub struct Userspace {
    pub userdata: Userdata,
    /// Wants the tunnel header that output to this port would use.
    pub egress_tunnel_port: Option<PortNo>,
    /// Wants the remaining actions reported.
    pub wants_actions: bool,
}

/// What an upcall from a `userspace` action is for; the datapath hands it back as it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Userdata {
    /// Not understood by this version; kept as bytes.
    Opaque(Vec<u8>),
    SlowPath(SlowPath),
    Controller(Box<ControllerUserdata>),
    SFlow {
        vlan_tci: u16,
        output: u32,
    },
    FlowSample(Box<FlowSample>),
    Ipfix {
        output_port: PortNo,
    },
}

bitflags::bitflags! {
    /// Why a flow needs the switch for each packet.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SlowPath: u32 {
        const CFM = 1 << 0;
        const BFD = 1 << 1;
        const LACP = 1 << 2;
        const STP = 1 << 3;
        const LLDP = 1 << 4;
        const ACTION = 1 << 5;
        const MATCH = 1 << 6;
    }
}

/// A packet-in that the datapath carries to the switch.
#[derive(Clone, PartialEq, Debug)]
pub struct ControllerUserdata {
    /// OpenFlow `OFPR_*`.
    pub reason: u8,
    pub dont_send: bool,
    pub continuation: bool,
    /// Frozen state with the context of the packet-in.
    pub recirc_id: u32,
    pub rule_cookie: u64,
    pub controller_id: u16,
    pub max_len: u16,
    /// The bridge (identified as the switch likes) that the packet-in belongs to.
    pub bridge: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FlowSample {
    pub probability: u16,
    pub collector_set_id: u32,
    pub obs_domain_id: u32,
    pub obs_point_id: u32,
    pub output_port: PortNo,
    pub direction: SampleDirection,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleDirection {
    Default,
    Ingress,
    Egress,
}

/// The header that a `set` action rewrites, one attribute each, as the text syntax has them.
#[derive(Clone, PartialEq, Debug)]
pub enum SetKey {
    Priority(Masked<u32>),
    SkbMark(Masked<u32>),
    Tunnel(Box<Tunnel>),
    Ethernet(Masked<EthKey>),
    Ipv4(Masked<Ipv4Key>),
    Ipv6(Masked<Ipv6Key>),
    Tcp(Masked<PortsKey>),
    Udp(Masked<PortsKey>),
    Sctp(Masked<PortsKey>),
    /// ICMP type and code.
    Icmp(Masked<IcmpKey>),
    Icmpv6(Masked<IcmpKey>),
    Arp(Masked<ArpKey>),
    Nd(Masked<NdKey>),
    NdExt(Masked<NdExtKey>),
    Mpls(Masked<u32>),
    Nsh(Masked<Nsh>),
}

/// Connection tracking.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ct {
    pub zone: u16,
    pub commit: bool,
    pub force: bool,
    pub mark: Option<Masked<u32>>,
    pub label: Option<Masked<U128>>,
    pub helper: Option<String>,
    pub timeout: Option<String>,
    pub nat: Option<Nat>,
    pub eventmask: Option<u32>,
}

/// `nat` inside `ct`. Without a direction: apply what the connection already has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nat {
    pub direction: Option<NatDirection>,
    pub addr: Option<(NatAddr, NatAddr)>,
    pub ports: Option<(u16, u16)>,
    pub persistent: bool,
    pub hash: bool,
    pub random: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatDirection {
    Src,
    Dst,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatAddr {
    V4(u32),
    V6(U128),
}

/// Encapsulation: the header is ready, length and checksum fields apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelPush {
    /// The tunnel's port in the datapath.
    pub tunnel_port: PortNo,
    /// The port that the encapsulated packet leaves by.
    pub out_port: PortNo,
    /// `OVS_VPORT_TYPE_*`.
    pub vport_type: u32,
    /// Outer Ethernet through tunnel header.
    pub header: SmallVec<[u8; 128]>,
}

/// Identifies a megaflow: a hash of its key and mask, as `ufid:` shows it.
pub type FlowId = Ufid;
