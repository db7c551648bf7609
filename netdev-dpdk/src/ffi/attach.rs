//! Attaching devices, some of them several at a time.
//!
//! EAL's lists of devices have no lock, so who attaches a device has ours. But the lists take a moment and drivers take
//! long: `net_af_packet` waits three times until all cores have left what they were reading (RCU). EAL has no call for
//! either half of the work. The bus of virtual devices says, though, when it goes from the one to the other, in a
//! message at level debug, in the thread that attaches (DPDK 22.11, `drivers/bus/vdev`); from there on a driver that
//! keeps to itself runs without the lock. Where the message is another one, or does not come, devices are attached one
//! after the other.

use super::port::{Errno, check};
use super::raw;
use super::text::c_string;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cell::RefCell;

/// Drivers that neither have state of their own that their devices share, nor look at other devices, when they are
/// given a device. What they ask of DPDK at that is locked there: numbers of ports, memory.
const KEEP_TO_THEMSELVES: [&str; 1] = ["net_af_packet"];
const BUS: &str = "bus.vdev";
/// Said between the lists and the driver.
const AT_DRIVER: &str = "Search driver to probe device";

/// Names of devices whose drivers are at work without the lock.
type Probed = Vec<String>;

/// Held where devices come and go, and where they are looked for.
static DEVICES: Mutex<Probed> = Mutex::new(Vec::new());
/// A driver has come to its end.
static DONE: Condvar = Condvar::new();

thread_local! {
    /// [`DEVICES`], while this thread is busy with lists for a driver that does not need it.
    static LISTS: RefCell<Option<MutexGuard<'static, Probed>>> = const { RefCell::new(None) };
}

/// Keeps devices from coming and going, as far as EAL's lists know.
pub(super) fn lists() -> MutexGuard<'static, Probed> {
    DEVICES.lock()
}

/// As [`lists`], with no driver at work on a new device.
pub(super) fn quiet() -> MutexGuard<'static, Probed> {
    wait_until(|probed| probed.is_empty())
}

fn wait_until(is_so: impl Fn(&Probed) -> bool) -> MutexGuard<'static, Probed> {
    let mut devices = DEVICES.lock();
    while !is_so(&devices) {
        DONE.wait(&mut devices);
    }
    devices
}

/// The device that `devargs` names, as far as its bus can be left out.
fn name(devargs: &str) -> &str {
    devargs.split(',').next().unwrap_or_default()
}

/// Whether several devices of this driver can be attached at a time, by as many threads.
pub fn keeps_to_itself(devargs: &str) -> bool {
    KEEP_TO_THEMSELVES.iter().any(|driver| devargs.starts_with(driver))
}

/// For EAL's log.
pub(super) fn hear(message: &str) {
    if message.contains(AT_DRIVER) {
        let guard = LISTS.try_with(|lists| lists.try_borrow_mut().ok()?.take());
        drop(guard);
    }
}

fn probe(devargs: &str) -> Result<(), Errno> {
    let devargs = c_string(devargs);
    // SAFETY: a string that DPDK copies. Both callers hold the lock of EAL's lists while they are used.
    check(unsafe { raw::rte_dev_probe(devargs.as_ptr()) })
}

/// Attaches the device that `devargs` names.
pub fn attach(devargs: &str) -> Result<(), Errno> {
    if !keeps_to_itself(devargs) {
        let _devices = quiet();
        return probe(devargs);
    }
    let name = name(devargs);
    // A device that comes a second time would be given other arguments while its driver reads those it has.
    let mut devices = wait_until(|probed| !probed.iter().any(|p| p == name));
    devices.push(name.to_owned());
    LISTS.set(Some(devices));
    let result = probe(devargs);
    drop(LISTS.take());
    DEVICES.lock().retain(|p| p != name);
    DONE.notify_all();
    result
}

/// While this lives, the bus says when it goes to a driver. To be made while nobody else starts DPDK's parts.
pub struct Announced {
    log: u32,
    level: u32,
}

impl Announced {
    pub fn begin() -> Option<Self> {
        let bus = c_string(BUS);
        // SAFETY: a string of ours that DPDK copies; the bus is there, and so is its log, whose number this gives.
        let log = u32::try_from(unsafe { raw::rte_log_register(bus.as_ptr()) }).ok()?;
        // SAFETY: both take any number.
        let level = unsafe {
            let level = raw::rte_log_get_level(log);
            raw::rte_log_set_level(log, raw::RTE_LOG_DEBUG);
            level
        };
        Some(Announced { log, level: u32::try_from(level).ok()? })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // SAFETY: takes any numbers.
        unsafe { raw::rte_log_set_level(self.log, self.level) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_free_from_the_moment_that_the_bus_goes_to_a_driver() {
        LISTS.set(Some(lists()));
        hear("vdev_probe_all_drivers(): something else");
        assert!(DEVICES.is_locked());
        hear("vdev_probe_all_drivers(): Search driver to probe device net_af_packet0");
        assert!(LISTS.take().is_none());
        // Who has no lists is not concerned.
        hear("vdev_probe_all_drivers(): Search driver to probe device net_null0");
    }

    #[test]
    fn drivers_are_told_by_the_names_of_devices() {
        assert!(keeps_to_itself("net_af_packet3,iface=eth0") && !keeps_to_itself("net_tap0,iface=tap0"));
        assert!(!keeps_to_itself("0000:00:01.0") && !keeps_to_itself("vdev:net_af_packet0,iface=eth0"));
        assert_eq!(name("net_af_packet3,iface=eth0"), "net_af_packet3");
    }
}
