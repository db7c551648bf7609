//! Strings to and from C.

use super::raw;
use std::ffi::{CStr, CString, c_char, c_int};

/// A copy of a C string; empty for a null pointer.
///
/// # Safety
/// `text` is null or points to a string that ends in a null byte and does not change during the call.
pub(super) unsafe fn copy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A string for C; cut at the first null byte, which no name or option has.
pub(super) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// What DPDK calls an errno; the sign does not matter.
pub fn strerror(error: c_int) -> String {
    // SAFETY: takes any number; returns a static string or one of this thread, which is copied at once.
    unsafe { copy(raw::rte_strerror(error.saturating_abs())) }
}
