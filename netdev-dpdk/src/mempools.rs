//! Which pool a port's buffers come from: one for all ports of a buffer size and NUMA node, or one of its own.

use crate::ffi::mempool::{HEADROOM, Mempool, MempoolError};
use crate::ffi::text::strerror;
use netdev::StringMap;
use parking_lot::Mutex;
use std::sync::Arc;
use tracing::{debug, error, info, warn};

/// Buffers of a shared pool, halved while memory does not suffice, down to [`COUNT_MIN`].
const COUNT: u32 = 4096 * 64;
const COUNT_MIN: u32 = 4096 * 4;
/// Ethernet header, checksum, and two tags.
const OVERHEAD_MAX: u32 = 14 + 4 + 8;
const OVERHEAD: u32 = 14 + 4;
/// Drivers size their buffers in such steps.
const ALIGN: u32 = 1024;
pub const MTU: u32 = 1500;
/// The largest frame of a port, tags included.
pub const FRAME_MAX: u32 = 9728;

/// Whether a port can have this MTU.
pub fn is_mtu(mtu: u32) -> bool {
    (68..=FRAME_MAX - OVERHEAD_MAX).contains(&mtu)
}

/// The longest frame without tags at an MTU, checksum included.
pub fn frame_len(mtu: u32) -> u32 {
    mtu + OVERHEAD
}

/// Bytes of a buffer for frames of a port of this MTU, [`HEADROOM`] included.
fn room(mtu: u32) -> u32 {
    (mtu + OVERHEAD_MAX).next_multiple_of(ALIGN) + HEADROOM
}

/// The MTU that fills a buffer for `mtu`, by which pools are told apart.
fn adjusted(mtu: u32) -> u32 {
    room(mtu) - OVERHEAD
}

/// What a port needs buffers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub mtu: u32,
    pub socket: u32,
    pub n_rxq: u16,
    pub n_txq: u16,
    pub rxq_size: u16,
    pub txq_size: u16,
}

struct Shared {
    mtu: u32,
    socket: u32,
    pool: Arc<Mempool>,
}

impl Shared {
    /// A port has it, or some of its buffers are not back yet.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.pool) > 1 || !self.pool.is_full()
    }
}

/// A pool that could not be made.
struct Refused {
    pool: String,
    count: u32,
    why: MempoolError,
}

/// A size that the user wants shared pools to have (`shared-mempool-config`); no node stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UserSize {
    adjusted_mtu: u32,
    socket: Option<u32>,
}

/// All pools, with what the database says about them when DPDK starts.
pub struct Mempools {
    per_port: bool,
    sizes: Vec<UserSize>,
    pools: Mutex<Vec<Shared>>,
}

impl Mempools {
    pub fn new(other_config: &StringMap) -> Self {
        let per_port = other_config.get("per-port-memory").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if per_port {
            info!(target: "netdev_dpdk", "Per port memory for DPDK devices enabled.");
        }
        let sizes =
            other_config.get("shared-mempool-config").map(|text| user_sizes(text)).unwrap_or_default();
        Mempools { per_port, sizes, pools: Mutex::default() }
    }

    /// A pool for a port; made if there is none that fits.
    pub fn get(&self, name: &str, need: Need) -> Result<Arc<Mempool>, String> {
        self.find_or_make(name, need).map_err(|Refused { pool, count, why }| {
            error!(
                target: "netdev_dpdk",
                "Failed to create mempool \"{pool}\" with a request of {count} mbufs"
            );
            strerror(match why {
                MempoolError::NoMemory => 12,
                MempoolError::Other(errno) => errno,
            })
        })
    }

    /// Makes the pool that a port will share before it asks. What does not work is said when it asks.
    pub fn prepare(&self, name: &str, need: Need) {
        if !self.per_port {
            let _ = self.find_or_make(name, need);
        }
    }

    /// Lets go of pools that no port has.
    pub fn tidy(&self) {
        self.pools.lock().retain(Shared::is_used);
    }

    fn find_or_make(&self, name: &str, need: Need) -> Result<Arc<Mempool>, Refused> {
        let mtu = if self.per_port { adjusted(need.mtu) } else { self.shared_mtu(need) };
        let mut pools = self.pools.lock();
        let fits = |p: &&Shared| p.mtu == mtu && p.socket == need.socket;
        if let Some(shared) = pools.iter().find(fits).filter(|_| !self.per_port) {
            debug!(target: "netdev_dpdk", "Reusing mempool \"{}\"", shared.pool.name());
            return Ok(shared.pool.clone());
        }
        // Pools of ports that are gone, if their buffers are back.
        pools.retain(Shared::is_used);
        let pool = Arc::new(self.create(name, mtu, need)?);
        pools.push(Shared { mtu, socket: need.socket, pool: pool.clone() });
        Ok(pool)
    }

    /// The smallest of the user's sizes that holds what the port needs, or just that.
    fn shared_mtu(&self, need: Need) -> u32 {
        let own = adjusted(need.mtu);
        let usable = |s: &&UserSize| s.adjusted_mtu >= own && s.socket.is_none_or(|n| n == need.socket);
        self.sizes.iter().filter(usable).map(|s| s.adjusted_mtu).min().unwrap_or(own)
    }

    fn count(&self, need: Need) -> u32 {
        if self.per_port {
            let [rxq, txq, rx, tx] = [need.n_rxq, need.n_txq, need.rxq_size, need.txq_size].map(u32::from);
            // What devices hold, what threads hold, and something for the rest.
            rxq * rx + txq * tx + rxq.min(128) * packet::BATCH_LEN as u32 + COUNT_MIN
        } else if need.mtu >= MTU {
            COUNT
        } else {
            COUNT_MIN
        }
    }

    fn create(&self, name: &str, mtu: u32, need: Need) -> Result<Mempool, Refused> {
        let mut count = self.count(need);
        let room = u16::try_from(mtu + OVERHEAD).unwrap_or(u16::MAX);
        loop {
            let pool_name = format!("ovs{:08x}{:02}{mtu:05}{count:07}", hash(name), need.socket);
            match Mempool::create(&pool_name, count, room, need.socket as i32) {
                Ok(pool) => {
                    debug!(target: "netdev_dpdk", "Allocated \"{pool_name}\" mempool with {count} mbufs");
                    return Ok(pool);
                }
                Err(MempoolError::NoMemory) if count / 2 >= COUNT_MIN => count /= 2,
                Err(why) => return Err(Refused { pool: pool_name, count, why }),
            }
        }
    }
}

/// FNV-1a: tells the names of two ports' pools apart.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// `MTU[:node],...`; nothing if any part is wrong.
fn user_sizes(text: &str) -> Vec<UserSize> {
    let mut sizes = Vec::new();
    for part in text.split([',', ' ', '\t']).filter(|p| !p.is_empty()) {
        let (mtu, node) = part.split_once(':').map_or((part, None), |(mtu, node)| (mtu, Some(node)));
        let refused = |what: &str| {
            warn!(target: "netdev_dpdk", "Invalid user configured shared mempool {what}.");
            warn!(target: "netdev_dpdk", "User configured shared mempools will not be used.");
            Vec::new()
        };
        let Some(mtu) = mtu.parse::<u32>().ok().filter(|mtu| *mtu < u32::from(u16::MAX) / 2) else {
            return refused("MTU");
        };
        let node = node.and_then(|n| n.parse::<i64>().ok());
        if node.is_some_and(|n| n < 0) {
            return refused("NUMA");
        }
        let socket = node.and_then(|n| u32::try_from(n).ok());
        let shown = socket.map_or("ALL".to_owned(), |n| n.to_string());
        info!(
            target: "netdev_dpdk",
            "User configured shared mempool set for: MTU {mtu}, NUMA {shown}."
        );
        sizes.push(UserSize { adjusted_mtu: adjusted(mtu), socket });
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(mtu: u32, socket: u32) -> Need {
        Need { mtu, socket, n_rxq: 2, n_txq: 3, rxq_size: 2048, txq_size: 1024 }
    }

    #[test]
    fn buffers_hold_frames_with_two_tags_in_steps_of_1024() {
        assert_eq!([1500, 2022, 2023, 9000].map(room), [2176, 2176, 3200, 9344]);
        assert!(is_mtu(68) && is_mtu(9702) && !is_mtu(67) && !is_mtu(9703));
        assert_eq!(frame_len(1500), 1518);
    }

    #[test]
    fn the_users_sizes_win_where_they_suffice() {
        let sizes = user_sizes("9000,1500:1 4000");
        let pools = |per_port| Mempools { per_port, sizes: sizes.clone(), pools: Mutex::default() };
        let pools = [pools(false), pools(true)];
        let mtu = |mtu, socket| pools[0].shared_mtu(need(mtu, socket));
        assert_eq!(mtu(1500, 0), adjusted(4000));
        assert_eq!(mtu(1500, 1), adjusted(1500));
        assert_eq!(mtu(9100, 1), adjusted(9000), "the same buffer holds both");
        assert_eq!(mtu(9600, 0), adjusted(9600));
        assert_eq!(user_sizes("1500,x"), []);
        assert_eq!(user_sizes("1500:-1"), []);
        assert_eq!([1500, 1000].map(|m| pools[0].count(need(m, 0))), [COUNT, COUNT_MIN]);
        assert_eq!(pools[1].count(need(1500, 0)), 2 * 2048 + 3 * 1024 + 2 * 32 + COUNT_MIN);
    }
}
