//! The environment abstraction layer (EAL): start, log, dumps, threads.

use super::mempool::Mempool;
use super::raw;
use super::text::{c_string, copy, strerror};
use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

/// `DPDK 22.11.x`.
pub fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { copy(raw::rte_version()) }
}

/// Starts EAL with `args`, the program's name first. May be called once in a process; pins the calling thread
/// to the first of its cores.
pub fn init(args: &[String]) -> Result<(), String> {
    let strings: Vec<_> = args.iter().map(|a| c_string(a)).collect();
    let mut argv: Vec<*mut c_char> = strings.iter().map(|s| s.as_ptr().cast_mut()).collect();
    argv.push(null_mut());
    // EAL keeps pointers into its arguments.
    std::mem::forget(strings);
    let argc = args.len() as c_int;
    // SAFETY: `argv` holds `argc` strings that are never freed, and a null pointer behind them. EAL may change
    // the order of the pointers but does not write to the strings.
    let result = unsafe { raw::rte_eal_init(argc, argv.as_mut_ptr()) };
    if result < 0 {
        // SAFETY: reads a variable of this thread.
        return Err(strerror(unsafe { raw::shim_errno() }));
    }
    // SAFETY: EAL is up; no secondary process was served yet.
    if !unsafe { raw::rte_mp_disable() } {
        return Err("cannot disable multiprocess".to_owned());
    }
    // SAFETY: only changes a variable of this thread, which is no polling thread.
    unsafe { raw::shim_forget_lcore() };
    Ok(())
}

/// The machine's NUMA node, if it has but one.
pub fn only_node() -> Option<u32> {
    // SAFETY: both read what EAL found out when it started, and take any number.
    let (nodes, first) = unsafe { (raw::rte_socket_count(), raw::rte_socket_id_by_idx(0)) };
    u32::try_from(first).ok().filter(|_| nodes == 1)
}

extern "C" fn log(level: u32, text: *const c_char, len: usize) {
    if text.is_null() {
        return;
    }
    // SAFETY: the stream of the C library passes `len` initialised bytes that nobody changes meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    for line in String::from_utf8_lossy(bytes).lines().filter(|l| !l.is_empty()) {
        match level {
            raw::RTE_LOG_DEBUG.. => tracing::debug!(target: "dpdk", "{line}"),
            raw::RTE_LOG_NOTICE | raw::RTE_LOG_INFO => tracing::info!(target: "dpdk", "{line}"),
            raw::RTE_LOG_WARNING => tracing::warn!(target: "dpdk", "{line}"),
            _ => tracing::error!(target: "dpdk", "{line}"),
        }
    }
}

/// EAL's messages go to our log from now on.
pub fn log_here() -> Result<(), String> {
    // SAFETY: `log` has the type that the shim wants and lives for ever.
    match unsafe { raw::shim_log_to(Some(log)) } {
        0 => Ok(()),
        errno => Err(strerror(errno)),
    }
}

/// Sets the level (`RTE_LOG_*`, 1 to 8) of the log types that match a shell pattern.
pub fn set_log_level(pattern: &str, level: u32) -> bool {
    let pattern = c_string(pattern);
    // SAFETY: a string of ours, read during the call.
    unsafe { raw::rte_log_set_level_pattern(pattern.as_ptr(), level) >= 0 }
}

/// What [`dump`] can show.
#[derive(Clone, Copy, Debug)]
pub enum Dump<'a> {
    Lcores,
    LogLevels,
    Malloc,
    Mempool(&'a Mempool),
    Mempools,
}

/// One of EAL's dumps; `None` if there is no memory for it.
pub fn dump(what: Dump<'_>) -> Option<String> {
    let (what, pool) = match what {
        Dump::Lcores => (raw::SHIM_LCORES, null_mut()),
        Dump::LogLevels => (raw::SHIM_LOG_LEVELS, null_mut()),
        Dump::Malloc => (raw::SHIM_MALLOC, null_mut()),
        Dump::Mempool(pool) => (raw::SHIM_MEMPOOL, pool.as_ptr()),
        Dump::Mempools => (raw::SHIM_MEMPOOLS, null_mut()),
    };
    // SAFETY: `pool` is a live pool where the dump needs one; the text is ours to free.
    unsafe {
        let text = raw::shim_dump(what, pool);
        if text.is_null() {
            return None;
        }
        let copy = copy(text);
        raw::shim_text_free(text);
        Some(copy)
    }
}

/// The number that DPDK gives a thread, by which mempools keep a cache for it.
struct Lcore {
    is_registered: Cell<Option<bool>>,
}

impl Drop for Lcore {
    fn drop(&mut self) {
        if self.is_registered.get() == Some(true) {
            // SAFETY: this thread registered itself, and takes nothing from a mempool any more.
            unsafe { raw::rte_thread_unregister() };
        }
    }
}

thread_local! {
    static LCORE: Lcore = const { Lcore { is_registered: Cell::new(None) } };
}

/// Makes the calling thread one that mempools know, until it ends. Cheap when it is one already.
#[inline]
pub fn enrol() {
    let _ = LCORE.try_with(|lcore| {
        if lcore.is_registered.get().is_none() {
            // SAFETY: may be called by any thread that EAL did not start, once; EAL is up, as there is a queue.
            let registered = unsafe { raw::rte_thread_register() } >= 0;
            lcore.is_registered.set(Some(registered));
            if !registered {
                tracing::warn!(
                    target: "dpdk",
                    "DPDK max threads count has been reached. PMD thread performance may be impacted."
                );
            }
        }
    });
}
