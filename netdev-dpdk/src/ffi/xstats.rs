//! Extended statistics of a port, by name.

use super::port::{Port, look};
use super::raw;
use super::text::copy;

/// Names and numbers of a port's extended statistics.
pub fn names(port: Port) -> Option<Vec<(u64, String)>> {
    let _memory = look();
    // SAFETY: with no room nothing is written and the count is returned; the device stays.
    let count = unsafe { raw::rte_eth_xstats_get_names(port.0, std::ptr::null_mut(), 0) };
    let count = u32::try_from(count).ok()?;
    let mut all = vec![raw::rte_eth_xstat_name { name: [0; 64] }; count as usize];
    // SAFETY: there is room for `count` names.
    let got = unsafe { raw::rte_eth_xstats_get_names(port.0, all.as_mut_ptr(), count) };
    (u32::try_from(got) == Ok(count)).then(|| {
        // SAFETY: DPDK ends each name with a null byte within its room.
        let texts = all.iter().map(|n| unsafe { copy(n.name.as_ptr()) });
        (0..).zip(texts).collect()
    })
}

/// Values of the statistics of these numbers, in their order.
pub fn values(port: Port, ids: &[u64]) -> Option<Vec<u64>> {
    if ids.is_empty() {
        return Some(Vec::new());
    }
    let _memory = look();
    let mut values = vec![0; ids.len()];
    let n = ids.len() as u32;
    // SAFETY: `ids` and `values` have `n` elements each, `n` of which are read and written; the device stays.
    let got = unsafe { raw::rte_eth_xstats_get_by_id(port.0, ids.as_ptr(), values.as_mut_ptr(), n) };
    (u32::try_from(got) == Ok(n)).then_some(values)
}
