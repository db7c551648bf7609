//! A receiver that may not open as many descriptors as it is sent. In a process of its own, since it lowers the limit.

#![allow(clippy::unwrap_used)] // a test that fails

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use saved_state::{Channel, ChannelError};
use std::os::fd::AsFd;

fn open_count() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_that_arrived_before_the_limit_are_closed() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let (a, b) = Channel::pair().unwrap();
    a.send(1, b"x", &[file.as_fd(); 60]).unwrap();
    let before = open_count();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, before as u64 + 20, hard).unwrap();
    assert!(matches!(b.recv(10), Err(ChannelError::Protocol("packet or descriptors cut off"))));
    assert_eq!(open_count(), before);
}
