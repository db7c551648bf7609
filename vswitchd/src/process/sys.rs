//! The system calls that Rust calls unsafe: fork, signal dispositions, and a handler that runs in a broken process.
#![allow(unsafe_code)] // fork and signal dispositions have no safe form

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction, signal};
use nix::unistd::{ForkResult, fork};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Where a crash is written to; -1 for nowhere.
static CRASH_FD: AtomicI32 = AtomicI32::new(-1);
/// [`load_unwinder`] was called. A crash before it, in the first milliseconds, is reported without a backtrace.
static HAS_UNWINDER: AtomicBool = AtomicBool::new(false);

/// Signals that mean that this process is broken.
const CRASHES: [Signal; 4] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE];

/// fork(2). To be called while the process has one thread; otherwise fails with `EDEADLK`.
pub(super) fn fork_single_threaded() -> Result<ForkResult, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1);
    if threads != 1 {
        return Err(Errno::EDEADLK);
    }
    // SAFETY: with one thread, no lock and no half-made state of another thread is left behind in the child.
    unsafe { fork() }
}

/// Ends this process by a signal, so that the parent sees which one.
pub(super) fn die_of(number: Signal) -> ! {
    // SAFETY: the default disposition runs no code of this process.
    let _ = unsafe { signal(number, SigHandler::SigDfl) };
    let mut only = SigSet::empty();
    only.add(number);
    let _ = only.thread_unblock();
    let _ = raise(number);
    std::process::abort()
}

/// On a crash, writes a backtrace to the descriptor last given to [`set_crash_fd`] and to stderr, then dies of it.
pub(super) fn install_crash_handlers() {
    let flags = SaFlags::SA_ONSTACK | SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::Handler(on_crash), flags, SigSet::empty());
    for number in CRASHES {
        // SAFETY: `on_crash` calls only write, glibc's loaded backtrace, signal and raise, and allocates nothing.
        let _ = unsafe { sigaction(number, &action) };
    }
}

/// The first backtrace loads what later ones need.
pub(super) fn load_unwinder() {
    let mut frames = [std::ptr::null_mut(); 1];
    // SAFETY: the pointer and the length describe `frames`.
    unsafe { libc::backtrace(frames.as_mut_ptr(), 1) };
    HAS_UNWINDER.store(true, Ordering::Relaxed);
}

pub(super) fn set_crash_fd(fd: i32) {
    CRASH_FD.store(fd, Ordering::Relaxed);
}

extern "C" fn on_crash(number: libc::c_int) {
    const DEPTH: usize = 64;
    let header: &[u8] = match number {
        libc::SIGSEGV => b"SIGSEGV detected, backtrace:\n",
        libc::SIGBUS => b"SIGBUS detected, backtrace:\n",
        libc::SIGILL => b"SIGILL detected, backtrace:\n",
        _ => b"SIGFPE detected, backtrace:\n",
    };
    let mut frames = [std::ptr::null_mut(); DEPTH];
    let mut n = 0;
    if HAS_UNWINDER.load(Ordering::Relaxed) {
        // SAFETY: the pointer and the length describe `frames`.
        n = unsafe { libc::backtrace(frames.as_mut_ptr(), DEPTH as libc::c_int) };
    }
    for fd in [CRASH_FD.load(Ordering::Relaxed), libc::STDERR_FILENO] {
        if fd >= 0 {
            // SAFETY: `header` and the first `n` of `frames` are initialised; both calls are signal-safe.
            unsafe {
                libc::write(fd, header.as_ptr().cast(), header.len());
                libc::backtrace_symbols_fd(frames.as_ptr(), n, fd);
            }
        }
    }
    // SAFETY: SA_RESETHAND has put the default disposition back, so this ends the process once it is unblocked.
    unsafe { libc::raise(number) };
}
