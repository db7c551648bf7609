//! When memory is taken in huge pages.
//!
//! The allocator asks for transparent huge pages. The first touch of one clears 2 MiB: a tenth of a millisecond at best, and
//! milliseconds where the hypervisor has to find the memory first. A daemon that starts touches many places and fills few,
//! so until it is up, or has a polling thread, whose memory is to be huge from the beginning, it takes small pages. What
//! was taken by then becomes huge in time (khugepaged).

use nix::sys::prctl::{get_thp_disable, set_thp_disable};
use std::sync::atomic::{AtomicBool, Ordering};

/// They are put off, by us.
static PUT_OFF: AtomicBool = AtomicBool::new(false);

/// No huge pages until [`begin`], in this process and those that it forks. To be called while there is one thread.
pub fn put_off() {
    // Who has forbidden them from outside is not overruled later.
    if get_thp_disable() == Ok(false) && set_thp_disable(true).is_ok() {
        PUT_OFF.store(true, Ordering::Relaxed);
    }
}

/// Huge pages for memory that is touched from now on.
pub fn begin() {
    if PUT_OFF.swap(false, Ordering::Relaxed)
        && let Err(error) = set_thp_disable(false)
    {
        tracing::warn!("no huge pages: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the whole process; no other test asks.
    #[test]
    fn huge_pages_come_back_unless_somebody_else_forbade_them() {
        let before = get_thp_disable().unwrap();
        put_off();
        assert!(get_thp_disable().unwrap());
        begin();
        assert_eq!(get_thp_disable().unwrap(), before);
        set_thp_disable(true).unwrap();
        put_off();
        begin();
        assert!(get_thp_disable().unwrap());
        set_thp_disable(before).unwrap();
    }
}
