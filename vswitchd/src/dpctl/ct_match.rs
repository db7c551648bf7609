//! Text that names tracked connections and limits.

use dpif::ct::{CtFamily, CtMatch, CtTupleMatch};
use flow::text::key_values;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads one direction (`ct_nw_src=1.2.3.4,ct_nw_proto=6,...`); family and protocol are common to both.
pub fn parse_tuple(text: &str, tuple: &mut CtTupleMatch, common: &mut CtMatch) -> Result<(), String> {
    for (key, value) in key_values(text) {
        if value.is_empty() {
            return Err(format!("field {key} missing value"));
        }
        let bad = || format!("failed to parse field {key}");
        match key {
            "ct_nw_src" | "ct_nw_dst" => {
                let parse = || value.parse::<Ipv4Addr>().map(|a| a.to_ipv6_mapped()).map_err(|_| bad());
                put_address(key, value, CtFamily::V4, tuple, common, parse)?;
            }
            "ct_ipv6_src" | "ct_ipv6_dst" => {
                let parse = || value.parse::<Ipv6Addr>().map_err(|_| bad());
                put_address(key, value, CtFamily::V6, tuple, common, parse)?;
            }
            "ct_nw_proto" => common.proto = number(value).ok_or_else(bad)?,
            "ct_tp_src" => tuple.src_port = number(value).ok_or_else(bad)?,
            "ct_tp_dst" => tuple.dst_port = number(value).ok_or_else(bad)?,
            "icmp_type" | "icmp_code" | "icmp_id" if !common.is_icmp() => {
                return Err("invalid L4 fields".to_owned());
            }
            "icmp_type" => tuple.icmp_type = number(value).ok_or_else(bad)?,
            "icmp_code" => tuple.icmp_code = number(value).ok_or_else(bad)?,
            "icmp_id" => tuple.src_port = number(value).ok_or_else(bad)?,
            _ => return Err(format!("invalid conntrack tuple field: {key}")),
        }
    }
    if common.proto == 0 && (tuple.src_port != 0 || tuple.dst_port != 0) {
        return Err("port is set without protocol".to_owned());
    }
    Ok(())
}

fn put_address(
    key: &str,
    value: &str,
    family: CtFamily,
    tuple: &mut CtTupleMatch,
    common: &mut CtMatch,
    parse: impl FnOnce() -> Result<Ipv6Addr, String>,
) -> Result<(), String> {
    let place = if key.ends_with("src") { &mut tuple.src } else { &mut tuple.dst };
    if common.family.is_some_and(|f| f != family) {
        return Err(format!("the L3 protocol does not match {value}"));
    }
    if !place.is_unspecified() {
        return Err(format!("{key} is set multiple times"));
    }
    *place = parse()?;
    common.family = Some(family);
    Ok(())
}

/// A number as the tools write it: decimal, or hexadecimal behind `0x`.
fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    T::try_from(value.ok()?).ok()
}

/// Reads `zone=N,limit=L`.
pub fn parse_limit(text: &str) -> Result<(u16, u32), String> {
    let (mut zone, mut limit) = (None, None);
    for (key, value) in key_values(text) {
        if value.is_empty() {
            return Err(format!("field {key} missing value"));
        }
        let bad = || format!("failed to parse field {key}");
        match key {
            "zone" => zone = Some(number(value).ok_or_else(bad)?),
            "limit" => limit = Some(number(value).ok_or_else(bad)?),
            _ => return Err(format!("invalid zone limit field: {key}")),
        }
    }
    zone.zip(limit).ok_or_else(|| "failed to parse zone limit".to_owned())
}
