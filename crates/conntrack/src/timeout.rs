//! How long a connection lives without a packet.

use serde::{Deserialize, Serialize};

/// The timeouts of a policy, in the order of the database's `CT_Timeout_Policy.timeouts` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(usize)]
pub enum Timeout {
    TcpSynSent,
    TcpSynRecv,
    TcpEstablished,
    TcpFinWait,
    TcpCloseWait,
    TcpLastAck,
    TcpTimeWait,
    TcpClose,
    TcpSynSent2,
    TcpRetransmit,
    TcpUnack,
    UdpFirst,
    UdpSingle,
    UdpMultiple,
    IcmpFirst,
    IcmpReply,
}

/// Number of [`Timeout`]s.
pub const TIMEOUTS: usize = 16;

/// Name in the database and default in seconds. A zero is a timeout that only a kernel has.
const TABLE: [(&str, u32); TIMEOUTS] = [
    ("tcp_syn_sent", 30),
    ("tcp_syn_recv", 30),
    ("tcp_established", 24 * 60 * 60),
    ("tcp_fin_wait", 15 * 60),
    ("tcp_close_wait", 0),
    ("tcp_last_ack", 0),
    ("tcp_time_wait", 45),
    ("tcp_close", 30),
    ("tcp_syn_sent2", 0),
    ("tcp_retransmit", 0),
    ("tcp_unack", 0),
    ("udp_first", 60),
    ("udp_single", 60),
    ("udp_multiple", 30),
    ("icmp_first", 60),
    ("icmp_reply", 30),
];

/// Seconds for every [`Timeout`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimeoutPolicy(pub [u32; TIMEOUTS]);

impl Default for TimeoutPolicy {
    fn default() -> Self {
        TimeoutPolicy::DEFAULT
    }
}

impl TimeoutPolicy {
    /// What holds where no policy says otherwise.
    pub const DEFAULT: TimeoutPolicy = {
        let mut seconds = [0; TIMEOUTS];
        let mut i = 0;
        while i < TIMEOUTS {
            seconds[i] = TABLE[i].1;
            i += 1;
        }
        TimeoutPolicy(seconds)
    };

    /// The defaults, but for what is named (`CT_Timeout_Policy.timeouts`). Unknown names are left out.
    pub fn with<'a>(named: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut policy = TimeoutPolicy::default();
        for (name, seconds) in named {
            if let Some(at) = TABLE.iter().position(|(n, _)| *n == name) {
                policy.0[at] = seconds;
            }
        }
        policy
    }

    /// In milliseconds.
    #[inline]
    pub fn ms(&self, timeout: Timeout) -> u64 {
        u64::from(self.0[timeout as usize]) * 1000
    }
}
