//! `Interface.options` of a `dpdk` port.

use crate::ffi::port::FlowControl;
use netdev::StringMap;

pub const QUEUE_SIZE: u16 = 2048;
const QUEUE_SIZE_MAX: i64 = 4096;
const RXQ_MAX: i64 = 1024;

/// What the user asks for; `mtu_request` comes by another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub devargs: Option<String>,
    pub n_rxq: u16,
    pub rxq_size: u16,
    pub txq_size: u16,
    pub lsc_interrupt: bool,
    pub flow_control: FlowControl,
    /// Any of the flow control keys is there.
    pub wants_flow_control: bool,
    pub vf_mac: Option<String>,
}

impl Options {
    pub fn read(options: &StringMap) -> Self {
        let int = |key: &str| options.get(key).and_then(|v| v.trim().parse::<i64>().ok());
        let bool = |key: &str| options.get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let size = |key: &str| {
            let wanted = int(key).filter(|n| (1..=QUEUE_SIZE_MAX).contains(n) && n.count_ones() == 1);
            wanted.map_or(QUEUE_SIZE, |n| n as u16)
        };
        Options {
            devargs: options.get("dpdk-devargs").filter(|d| !d.is_empty()).cloned(),
            n_rxq: int("n_rxq").unwrap_or(1).clamp(1, RXQ_MAX) as u16,
            rxq_size: size("n_rxq_desc"),
            txq_size: size("n_txq_desc"),
            lsc_interrupt: bool("dpdk-lsc-interrupt"),
            flow_control: FlowControl {
                rx: bool("rx-flow-ctrl"),
                tx: bool("tx-flow-ctrl"),
                autoneg: bool("flow-ctrl-autoneg"),
            },
            wants_flow_control: ["rx-flow-ctrl", "tx-flow-ctrl", "flow-ctrl-autoneg"]
                .iter()
                .any(|k| options.contains_key(*k)),
            vf_mac: options.get("dpdk-vf-mac").cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_or_the_default() {
        let read = |v: &str| Options::read(&[("n_rxq_desc".to_owned(), v.to_owned())].into()).rxq_size;
        assert_eq!(
            ["1024", "4096", "1000", "8192", "0", "-2", "x"].map(read),
            [1024, 4096, 2048, 2048, 2048, 2048, 2048]
        );
        let rxq = |v: &str| Options::read(&[("n_rxq".to_owned(), v.to_owned())].into()).n_rxq;
        assert_eq!(["4", "0", "-1", "70000", ""].map(rxq), [4, 1, 1, 1024, 1]);
    }
}
