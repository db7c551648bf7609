//! The calls and the upcall.

use crate::ct::CtMatch;
use crate::{Action, Actions, MeterLimits, MeterSpec, MeterStats, Userdata};
use flow::{Flow, Mask};
use packet::Packet;
use std::sync::Arc;

/// A port of the datapath. Port 0 is the datapath's own local port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortNo(pub u32);

impl PortNo {
    pub const LOCAL: PortNo = PortNo(0);
    pub const NONE: PortNo = PortNo(u32::MAX);
}

impl std::fmt::Display for PortNo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A megaflow's 128-bit identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ufid(pub u128);

impl std::fmt::Display for Ufid {
    /// As `dpctl/dump-flows -m` prints it behind `ufid:`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &s[..8], &s[8..12], &s[12..16], &s[16..20], &s[20..])
    }
}

/// Counters of one megaflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStats {
    pub packets: u64,
    pub bytes: u64,
    /// When the last packet was seen, in milliseconds of the switch's clock; `None` if never.
    pub used_ms: Option<u64>,
    /// All TCP flags seen.
    pub tcp_flags: u16,
}

/// A megaflow as the datapath holds it. Key and mask are in datapath terms (`in_port` a [`PortNo`]).
#[derive(Clone, Debug)]
pub struct DpFlow {
    pub ufid: Ufid,
    pub key: Arc<Flow>,
    pub mask: Arc<Mask>,
    pub actions: Arc<Actions>,
    pub stats: FlowStats,
    /// Which polling thread's table holds it; `None` for the thread of the ports that are not polled.
    pub pmd: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DpifError {
    #[error("No such file or directory")]
    NotFound,
    #[error("File exists")]
    Exists,
    #[error("No such device")]
    NoDevice,
    #[error("Invalid argument")]
    Invalid,
    #[error("No space left on device")]
    Full,
    #[error("Operation not supported")]
    Unsupported,
}

/// Counters of one datapath port (units: packets, bytes, events since the port was added); [`UNKNOWN`] where
/// the device keeps none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_length_errors: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_fifo_errors: u64,
    pub rx_missed_errors: u64,
    pub tx_aborted_errors: u64,
    pub tx_carrier_errors: u64,
    pub tx_fifo_errors: u64,
    pub tx_heartbeat_errors: u64,
    pub tx_window_errors: u64,
}

/// A counter of [`PortStats`] that the device does not keep.
pub const UNKNOWN: u64 = u64::MAX;

/// Counters of the whole datapath, as `dpif/show` and `dpctl/show` print them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DpStats {
    pub hit: u64,
    pub missed: u64,
    pub lost: u64,
    pub flows: u64,
    pub masks: u64,
    pub mask_hit: u64,
    pub cache_hit: u64,
}

/// Something that the switch has to decide.
pub struct Upcall<'a> {
    pub kind: UpcallKind,
    pub packet: &'a mut Packet,
    /// The packet's key in datapath terms.
    pub key: &'a Arc<Flow>,
    pub ufid: Ufid,
    /// Which polling thread saw it; `None` for the thread of ports that are not polled.
    pub pmd: Option<u32>,
}

/// Why a packet came up.
pub enum UpcallKind {
    /// No megaflow matched.
    Miss,
    /// A `userspace` action ran.
    Action(Userdata),
}

/// The switch's answer to an [`Upcall`].
#[derive(Clone, Debug, Default)]
pub struct UpcallReply {
    /// What to do with this packet.
    pub actions: Arc<Actions>,
    /// The megaflow to install for those that follow, if any.
    pub flow: Option<NewFlow>,
}

/// A megaflow to install.
#[derive(Clone, Debug)]
pub struct NewFlow {
    pub mask: Mask,
    /// Usually the same as the reply's actions; differs where this very packet needs more.
    pub actions: Arc<Actions>,
}

/// Why a question is not answered by [`UpcallHandler::try_upcall`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Declined {
    /// Somebody has what the answer needs; later it may do.
    Busy,
    /// The answer changes tables, or takes long: [`UpcallHandler::upcall`] gives it.
    Heavy,
}

/// The switch, seen from the datapath. `upcall` is called from handler threads and, for ports that are not polled by
/// a thread of their own, from the thread that injects the packet; never from a PMD, which may only try.
pub trait UpcallHandler: Send + Sync {
    fn upcall(&self, upcall: Upcall<'_>) -> UpcallReply;
    /// As `upcall`, for a thread that polls and has nothing better to do. If it declines, nothing has happened.
    fn try_upcall(&self, _upcall: Upcall<'_>) -> Result<UpcallReply, Declined> {
        Err(Declined::Heavy)
    }
    /// The datapath installed the flow that a reply asked for (so that the switch may start looking
    /// after it), or could not. Threads that only try report failures only.
    fn installed(&self, ufid: Ufid, pmd: Option<u32>, result: Result<(), DpifError>);
}

/// How to change a megaflow that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutMode {
    Create,
    Modify,
    CreateOrModify,
}

/// What a datapath can do: the probes of `dpif/show-dp-features` and of `Datapath.capabilities`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features {
    pub masked_set_action: bool,
    pub tunnel_push_pop: bool,
    pub ufid: bool,
    pub truncate: bool,
    pub clone: bool,
    pub sample_nesting: u32,
    pub ct_eventmask: bool,
    pub ct_clear: bool,
    /// Highest `HashAlg` that selection by `dp_hash` can use.
    pub max_hash_alg: u32,
    pub check_pkt_len: bool,
    pub ct_timeout: bool,
    pub explicit_drop_action: bool,
    pub lb_output_action: bool,
    pub ct_zero_snat: bool,
    pub add_mpls: bool,
    pub max_vlan_headers: usize,
    pub max_mpls_depth: usize,
    pub recirc: bool,
    /// Connection tracking: state, zone, mark, label, NAT, original tuples.
    pub ct: bool,
    pub nd_ext: bool,
    pub ct_flush: bool,
}

impl Features {
    /// Name and value as `dpif/show-dp-features` lists them.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let yes = |b: bool| if b { "Yes" } else { "No" }.to_owned();
        vec![
            ("Masked set action", yes(self.masked_set_action)),
            ("Tunnel push pop", yes(self.tunnel_push_pop)),
            ("Ufid", yes(self.ufid)),
            ("Truncate action", yes(self.truncate)),
            ("Clone action", yes(self.clone)),
            ("Sample nesting", self.sample_nesting.to_string()),
            ("Conntrack eventmask", yes(self.ct_eventmask)),
            ("Conntrack clear", yes(self.ct_clear)),
            ("Max dp_hash algorithm", self.max_hash_alg.to_string()),
            ("Check pkt length action", yes(self.check_pkt_len)),
            ("Conntrack timeout policy", yes(self.ct_timeout)),
            ("Explicit Drop action", yes(self.explicit_drop_action)),
            ("Optimized Balance TCP mode", yes(self.lb_output_action)),
            ("Conntrack all-zero IP SNAT", yes(self.ct_zero_snat)),
            ("MPLS Label add", yes(self.add_mpls)),
            ("Max VLAN headers", self.max_vlan_headers.to_string()),
            ("Max MPLS depth", self.max_mpls_depth.to_string()),
            ("Recirc", yes(self.recirc)),
            ("CT state", yes(self.ct)),
            ("CT zone", yes(self.ct)),
            ("CT mark", yes(self.ct)),
            ("CT label", yes(self.ct)),
            ("CT state NAT", yes(self.ct)),
            ("CT orig tuple", yes(self.ct)),
            ("CT orig tuple for IPv6", yes(self.ct)),
            ("IPv6 ND Extension", yes(self.nd_ext)),
        ]
    }
}

impl Default for Features {
    /// What the userspace datapath of this version does.
    fn default() -> Self {
        Features {
            masked_set_action: true,
            tunnel_push_pop: true,
            ufid: true,
            truncate: true,
            clone: true,
            sample_nesting: 10,
            ct_eventmask: true,
            ct_clear: true,
            max_hash_alg: 1,
            check_pkt_len: true,
            ct_timeout: true,
            explicit_drop_action: true,
            lb_output_action: false,
            ct_zero_snat: true,
            add_mpls: true,
            max_vlan_headers: flow::VLANS_MAX,
            max_mpls_depth: flow::MPLS_LABELS_MAX,
            recirc: true,
            ct: true,
            nd_ext: true,
            ct_flush: true,
        }
    }
}

/// One datapath, as the switch uses it. All calls may be made from any control-plane thread.
pub trait Dpif: Send + Sync {
    /// For example `netdev@ovs-netdev`.
    fn name(&self) -> String;
    /// What translation may use.
    fn features(&self) -> Features {
        Features::default()
    }
    fn stats(&self) -> DpStats;
    fn port_stats(&self, port: PortNo) -> Result<PortStats, DpifError>;
    /// Number, name and type of every port, in order of number.
    fn ports(&self) -> Vec<PortDesc>;

    /// Installs or changes a megaflow in the table of `pmd` (all tables if `None` and mode is not
    /// restricted to one). `stats` are the flow's counters before a change.
    fn flow_put(
        &self,
        mode: PutMode,
        ufid: Option<Ufid>,
        key: &Flow,
        mask: &Mask,
        actions: &[Action],
        pmd: Option<u32>,
    ) -> Result<Option<FlowStats>, DpifError>;
    /// Removes a megaflow and returns its last counters.
    fn flow_del(&self, ufid: Ufid, pmd: Option<u32>) -> Result<FlowStats, DpifError>;
    /// As [`Dpif::flow_del`] for each of many of one table; what has to be waited for is waited for once.
    fn flows_del(&self, ufids: &[Ufid], pmd: Option<u32>) -> Vec<Result<FlowStats, DpifError>> {
        ufids.iter().map(|ufid| self.flow_del(*ufid, pmd)).collect()
    }
    fn flow_get(&self, ufid: Ufid, pmd: Option<u32>) -> Result<DpFlow, DpifError>;
    /// Every megaflow, a consistent copy of each, not of the set.
    fn flow_dump(&self) -> Vec<DpFlow>;
    fn flow_flush(&self);
    fn flow_count(&self) -> usize;
    /// The identifier that the datapath gives to a key.
    fn ufid_of(&self, key: &Flow) -> Ufid;

    /// Forgets the tracked connections of `zone`, or of all, that `which` names.
    fn ct_flush(&self, _zone: Option<u16>, _which: &CtMatch) -> Result<(), DpifError> {
        Err(DpifError::Unsupported)
    }

    /// Runs `actions` on `packet` as if it had come in with `key`. Userspace actions and recirculation
    /// misses go to the upcall handler on this thread.
    fn execute(&self, packet: Packet, key: &Flow, actions: &[Action]);

    fn meter_limits(&self) -> MeterLimits {
        MeterLimits::default()
    }
    /// Makes a meter, or a new one in the place of the old.
    fn meter_set(&self, _id: u32, _spec: &MeterSpec) -> Result<(), DpifError> {
        Err(DpifError::Unsupported)
    }
    /// Removes a meter and returns what it has counted; its packets pass unmetered.
    fn meter_del(&self, _id: u32) -> Result<MeterStats, DpifError> {
        Err(DpifError::NotFound)
    }
    fn meter_stats(&self, _id: u32) -> Result<MeterStats, DpifError> {
        Err(DpifError::NotFound)
    }

    fn set_upcall_handler(&self, handler: Arc<dyn UpcallHandler>);
    /// Upper bound for megaflows; misses beyond it are forwarded without installing.
    fn set_flow_limit(&self, flows: usize);
    fn flow_limit(&self) -> usize;
    /// Number of handler threads that serve upcalls of polling threads.
    fn set_handlers(&self, threads: usize);
}

/// A datapath port, as listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortDesc {
    pub no: PortNo,
    pub name: String,
    pub kind: String,
    /// What the device's configuration came to, for listings; few kinds of devices tell.
    pub options: std::collections::BTreeMap<String, String>,
}
