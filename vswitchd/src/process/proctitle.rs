//! What ps(1) shows as this process's command line.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

/// The memory of the arguments, which the kernel shows as `/proc/PID/cmdline`, and what was there. Changing it is
/// a nicety: where the kernel forbids it (after `--user`), nothing happens.
#[derive(Debug)]
pub(super) struct ProcTitle {
    start: u64,
    original: Vec<u8>,
}

impl ProcTitle {
    pub fn new() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is in parentheses and may contain anything; arg_start and arg_end are fields 48 and 49.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let (start, end) = (field(48)?, field(49)?);
        let original = fs::read("/proc/self/cmdline").ok()?;
        (start != 0 && end.checked_sub(start)? == original.len() as u64)
            .then_some(ProcTitle { start, original })
    }

    /// Shows `title`, cut to the room that the arguments had.
    pub fn set(&self, title: &str) {
        let room = self.original.len().saturating_sub(1);
        let mut bytes = title.as_bytes().get(..title.len().min(room)).unwrap_or_default().to_vec();
        bytes.resize(self.original.len(), 0);
        self.write(&bytes);
    }

    /// Shows the arguments again.
    pub fn restore(&self) {
        self.write(&self.original);
    }

    /// Through the kernel, so that no pointer is made here. The last byte is always zero, as it was.
    fn write(&self, bytes: &[u8]) {
        if let Ok(memory) = OpenOptions::new().write(true).open("/proc/self/mem") {
            let _ = memory.write_all_at(bytes, self.start);
        }
    }
}
