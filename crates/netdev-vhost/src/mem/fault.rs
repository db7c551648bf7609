//! Memory that goes away under us: a front end may truncate the file behind a region while we use it, and whoever
//! touches what is beyond its end then gets SIGBUS. The handler puts empty memory of ours in the region's place and
//! notes that the region is lost; its port stops using it at the next look. Other faults go to the former handler.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Mappings that can be watched at a time; more are refused.
pub const WATCHED_MAX: usize = 4096;

/// One mapping, as the handler finds it: no locks, no memory of its own.
struct Watched {
    /// 0 in a free entry.
    start: AtomicUsize,
    len: AtomicUsize,
    is_lost: AtomicBool,
}

static WATCHED: [Watched; WATCHED_MAX] = [const {
    Watched { start: AtomicUsize::new(0), len: AtomicUsize::new(0), is_lost: AtomicBool::new(false) }
}; WATCHED_MAX];
/// Entries beyond this were never used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Regions that were ever lost.
static LOST: AtomicU64 = AtomicU64::new(0);
static INSTALLED: Once = Once::new();
static FORMER: OnceLock<libc::sigaction> = OnceLock::new();
/// Held while entries are taken or made free.
static CHANGE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// How many regions were ever lost: whoever sees it move looks after its own.
#[inline]
pub fn lost_count() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// A mapping that is watched; ends with this object, before the mapping does.
pub struct Watch(&'static Watched);

impl Watch {
    /// Watches `len` bytes at `start`, which are mapped by the caller alone.
    pub fn new(start: *mut u8, len: usize) -> io::Result<Self> {
        INSTALLED.call_once(install);
        let _change = CHANGE.lock();
        let free = WATCHED.iter().enumerate().find(|(_, w)| w.start.load(Ordering::Relaxed) == 0);
        let Some((at, entry)) = free else { return Err(io::Error::from_raw_os_error(libc::ENOMEM)) };
        entry.is_lost.store(false, Ordering::Relaxed);
        // Whoever reads this length and then the start, which was 0 before, does not read the former start any more.
        entry.len.store(len, Ordering::Release);
        entry.start.store(start.expose_provenance(), Ordering::Release);
        USED.fetch_max(at + 1, Ordering::Release);
        Ok(Watch(entry))
    }

    /// Whether the memory was replaced by empty memory of ours.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.0.is_lost.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _change = CHANGE.lock();
        self.0.start.store(0, Ordering::Release);
    }
}

fn install() {
    // SAFETY: the structure is plain data for which zeros are valid, and is filled in before use; the handler does
    // only what a signal handler may (see there).
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&raw mut action.sa_mask);
        let mut former: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut former) == 0 {
            let _ = FORMER.set(former);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }
}

/// Replaces the mapping that holds `address`; false if none of ours does. Loads, one system call, stores.
fn replace(address: usize) -> bool {
    let used = USED.load(Ordering::Acquire);
    for w in WATCHED.iter().take(used) {
        let start = w.start.load(Ordering::Acquire);
        let len = w.len.load(Ordering::Acquire);
        // An entry may be given to another mapping right now; that with the address stays, for it is in use.
        let is_whole = start != 0 && w.start.load(Ordering::Acquire) == start;
        if !is_whole || address.wrapping_sub(start) >= len {
            continue;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is a mapping of ours: start and length belong together, and it lives while its entry does,
        // which is now, for somebody uses the address that faulted. It is accessed by raw pointers and atomics alone, to
        // which it does not matter whose zeros they find. mmap(2) is a plain system call, which a signal handler may
        // make.
        let done = unsafe {
            libc::mmap(ptr::with_exposed_provenance_mut::<c_void>(start), len, access, flags, -1, 0)
        };
        if done == libc::MAP_FAILED {
            return false;
        }
        w.is_lost.store(true, Ordering::Relaxed);
        LOST.fetch_add(1, Ordering::Relaxed);
        return true;
    }
    false
}

extern "C" fn handler(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: errno is this thread's own; the interrupted code may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel gives a valid structure, which for SIGBUS holds an address.
    let address = if info.is_null() { 0 } else { unsafe { (*info).si_addr() }.addr() };
    let is_done = address != 0 && replace(address);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if is_done {
        return;
    }
    // SAFETY: what `sigaction` gave is a handler of the type that its flags tell (0 and 1 are no addresses); it is called
    // as the kernel would; else the default action is restored, and the fault
    // that comes again when we return ends the process.
    unsafe {
        match FORMER.get() {
            Some(former) if former.sa_flags & libc::SA_SIGINFO != 0 && former.sa_sigaction > 1 => {
                type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                let former: Handler =
                    std::mem::transmute(ptr::with_exposed_provenance::<()>(former.sa_sigaction));
                former(signal, info, context);
            }
            Some(former) if former.sa_sigaction > 1 => {
                let former: extern "C" fn(c_int) =
                    std::mem::transmute(ptr::with_exposed_provenance::<()>(former.sa_sigaction));
                former(signal);
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}
