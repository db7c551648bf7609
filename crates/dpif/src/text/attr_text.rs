//! One attribute of a key.

use super::flags;
use super::scan::{chomp, put_hash_x, put_hex, put_ipv4, put_ipv6};
use super::{Style, tunnel};
use crate::PortNo;
use crate::attr::{Attr, Field, Form, Side, fields, single};
use flow::{EthAddr, Flow, MPLS_LABELS_MAX, Nsh, U128, VLAN_CFI};
use packet::proto::nsh;
use std::fmt::Write;

/// An attribute of `key`, with its mask if the key has one.
pub(crate) struct Value<'a> {
    pub key: &'a Flow,
    /// `None` for an exact match of everything.
    pub mask: Option<&'a Flow>,
    /// Which VLAN tag, if it is one.
    pub vlan: usize,
    /// How many labels, if it is MPLS.
    pub labels: usize,
}

impl<'a> Value<'a> {
    pub fn new(key: &'a Flow, mask: Option<&'a Flow>) -> Self {
        Value { key, mask, vlan: 0, labels: 1 }
    }

    fn both(&self, get: impl Fn(&Flow, Side) -> u128) -> (u128, Option<u128>) {
        (get(self.key, Side::Key), self.mask.map(|m| get(m, Side::Mask)))
    }
}

/// Appends `name(...)`.
pub(crate) fn put(out: &mut String, attr: Attr, v: &Value<'_>, style: &Style<'_>) {
    out.push_str(attr.name());
    out.push('(');
    match attr {
        Attr::CtState => put_ct_state(out, v, style.verbose),
        Attr::CtLabel => put_label(out, v, style.verbose),
        Attr::Tunnel => tunnel::put(out, &v.key.tunnel, v.mask.map(|m| &m.tunnel), style.verbose),
        Attr::InPort if v.mask.is_none_or(|m| m.in_port == u32::MAX) => {
            style.put_port(out, PortNo(v.key.in_port));
        }
        Attr::EtherType => put_ether_type(out, v),
        Attr::Vlan => put_vlan(out, v, style.verbose),
        Attr::Mpls => put_mpls(out, v),
        Attr::TcpFlags => put_tcp_flags(out, v),
        Attr::NdExt => put_nd_ext(out, v, style.verbose),
        Attr::Nsh => put_nsh(out, &v.key.nsh, v.mask.map(|m| &m.nsh)),
        _ => match single(attr) {
            Some(field) => put_single(out, attr, field, v, style.verbose),
            None => put_fields(out, fields(attr), v, style.verbose),
        },
    }
    out.push(')');
}

/// `name=value/mask,...` of the fields that have a mask; all of them if `verbose`.
pub(super) fn put_fields(out: &mut String, fields: &[Field], v: &Value<'_>, verbose: bool) {
    for field in fields {
        let (key, mask) = v.both(field.get);
        put_field(out, field.name, field.form, key, mask, verbose);
    }
    chomp(out);
}

/// `name=value/mask,`, or nothing if it is wildcarded.
pub(super) fn put_field(
    out: &mut String,
    name: &str,
    form: Form,
    key: u128,
    mask: Option<u128>,
    verbose: bool,
) {
    let wildcarded = mask == Some(0);
    if wildcarded && (!verbose || form == Form::Frag) {
        return;
    }
    out.push_str(name);
    put_value(out, form, key);
    if let Some(mask) = mask.filter(|m| m & form.exact() != form.exact()) {
        out.push('/');
        let form = if let Form::Dec(bits) = form { Form::Hex(bits) } else { form };
        put_value(out, form, mask);
    }
    out.push(',');
}

fn put_value(out: &mut String, form: Form, v: u128) {
    match form {
        Form::Mac => {
            let _ = write!(out, "{}", EthAddr::from_u64(v as u64));
        }
        Form::Ipv4 => put_ipv4(out, v as u32),
        Form::Ipv6 => put_ipv6(out, v.into()),
        Form::Dec(_) => {
            let _ = write!(out, "{v}");
        }
        Form::Hex(_) => put_hash_x(out, v),
        Form::Frag => out.push_str(match v {
            0 => "no",
            1 => "first",
            2 => "later",
            _ => "<error>",
        }),
    }
}

fn put_single(out: &mut String, attr: Attr, field: &Field, v: &Value<'_>, verbose: bool) {
    let (key, mask) = v.both(field.get);
    let may_be_empty = matches!(attr, Attr::CtZone | Attr::CtMark);
    if may_be_empty && !verbose && mask.unwrap_or(0) == 0 {
        return;
    }
    put_value(out, field.form, key);
    if let Some(mask) = mask.filter(|m| *m != field.form.exact()) {
        out.push('/');
        put_hash_x(out, mask);
    }
}

fn put_ether_type(out: &mut String, v: &Value<'_>) {
    let _ = write!(out, "0x{:04x}", v.key.dl_type);
    if let Some(m) = v.mask.filter(|m| m.dl_type != u16::MAX) {
        let _ = write!(out, "/0x{:04x}", m.dl_type);
    }
}

/// The datapath knows eight bits, and has none that would make the mask of 32 exact.
fn put_ct_state(out: &mut String, v: &Value<'_>, verbose: bool) {
    let (key, mask) = (v.key.ct_state & 0xff, v.mask.map(|m| m.ct_state & 0xff));
    match (verbose, mask) {
        (true, mask) => {
            put_hash_x(out, key.into());
            if let Some(m) = mask {
                out.push('/');
                put_hash_x(out, m.into());
            }
        }
        (false, Some(m)) => flags::put_masked(out, flags::CT_STATE, key, m, u32::MAX),
        (false, None) => flags::put(out, flags::CT_STATE, key, '|'),
    }
}

fn put_label(out: &mut String, v: &Value<'_>, verbose: bool) {
    put_u128(out, v.key.ct_label, v.mask.map(|m| m.ct_label), verbose);
}

pub(super) fn put_u128(out: &mut String, key: U128, mask: Option<U128>, verbose: bool) {
    if !verbose && mask.is_none_or(U128::is_zero) {
        return;
    }
    put_hex(out, &u128::from(key).to_be_bytes());
    if let Some(m) = mask.filter(|m| *m != U128::MAX) {
        out.push('/');
        put_hex(out, &u128::from(m).to_be_bytes());
    }
}

fn put_vlan(out: &mut String, v: &Value<'_>, verbose: bool) {
    let tci = |f: &Flow| f.vlans.get(v.vlan).map_or(0, |vlan| vlan.tci);
    put_tci(out, tci(v.key), v.mask.map_or(u16::MAX, tci), verbose);
}

/// `vid=1,pcp=0`, and `cfi=0` of a tag that is none.
pub(super) fn put_tci(out: &mut String, tci: u16, mask: u16, verbose: bool) {
    for (name, shift, full) in [("vid", 0, 0xfff), ("pcp", 13, 7)] {
        let (key, mask) = (tci >> shift & full, mask >> shift & full);
        if verbose || key != 0 || mask != 0 {
            let _ = write!(out, "{name}={key}");
            if mask != full {
                let _ = write!(out, "/0x{mask:x}");
            }
            out.push(',');
        }
    }
    if tci & VLAN_CFI == 0 {
        out.push_str("cfi=0,");
    }
    chomp(out);
}

/// Label, traffic class, time to live and bottom of stack.
pub(super) fn split_lse(lse: u32) -> [u32; 4] {
    [lse >> 12, lse >> 9 & 7, lse & 0xff, lse >> 8 & 1]
}

pub(super) fn put_lse(out: &mut String, lse: u32) {
    let [label, tc, ttl, bos] = split_lse(lse);
    let _ = write!(out, "label={label},tc={tc},ttl={ttl},bos={bos}");
}

fn put_mpls(out: &mut String, v: &Value<'_>) {
    let n = v.labels.min(MPLS_LABELS_MAX);
    let mask = v.mask.filter(|m| m.mpls_lse[..n].iter().any(|l| *l != u32::MAX));
    for i in 0..n {
        match mask {
            None => put_lse(out, v.key.mpls_lse[i]),
            Some(m) => {
                let [label, tc, ttl, bos] = split_lse(v.key.mpls_lse[i]);
                let [label_m, tc_m, ttl_m, bos_m] = split_lse(m.mpls_lse[i]);
                let _ = write!(out, "label={label}/0x{label_m:x},tc={tc}/{tc_m:x},");
                let _ = write!(out, "ttl={ttl}/0x{ttl_m:x},bos={bos}/{bos_m:x}");
            }
        }
        out.push(',');
    }
    chomp(out);
}

fn put_tcp_flags(out: &mut String, v: &Value<'_>) {
    let key = u32::from(v.key.tcp_flags);
    match v.mask {
        Some(m) if m.tcp_flags & 0xfff != 0xfff => {
            flags::put_masked(out, flags::TCP, key, u32::from(m.tcp_flags & 0xfff), 0xfff);
        }
        _ => flags::put(out, flags::TCP, key, '|'),
    }
}

/// The reserved word is always printed, and without its mask.
fn put_nd_ext(out: &mut String, v: &Value<'_>, verbose: bool) {
    let _ = write!(out, "nd_reserved=0x{:x},", v.key.nd_reserved);
    let mask = v.mask.map(|m| u128::from(m.nd_options_type));
    put_field(out, "nd_options_type=", Form::Dec(8), v.key.nd_options_type.into(), mask, verbose);
    chomp(out);
}

/// All of `key` if there is no mask, else what the mask has.
pub(super) fn put_nsh(out: &mut String, key: &Nsh, mask: Option<&Nsh>) {
    let Some(mask) = mask else {
        put_whole_nsh(out, key);
        if key.mdtype == nsh::MD1 {
            for (i, c) in key.context.iter().enumerate() {
                let _ = write!(out, ",c{}=0x{c:x}", i + 1);
            }
        }
        return;
    };
    let byte = |out: &mut String, name: &str, k: u8, m: u8| {
        let _ = match m {
            0 => Ok(()),
            u8::MAX => write!(out, "{name}={k},"),
            _ => write!(out, "{name}=0x{k:02x}/0x{m:02x},"),
        };
    };
    let word = |out: &mut String, name: &str, k: u32, m: u32| {
        let _ = match m {
            0 => Ok(()),
            u32::MAX => write!(out, "{name}=0x{k:x},"),
            _ => write!(out, "{name}=0x{k:x}/0x{m:08x},"),
        };
    };
    byte(out, "flags", key.flags, mask.flags);
    byte(out, "ttl", key.ttl, mask.ttl);
    byte(out, "mdtype", key.mdtype, mask.mdtype);
    byte(out, "np", key.np, mask.np);
    let spi_mask = if mask.path_hdr >> 8 == 0xff_ffff { u32::MAX } else { mask.path_hdr >> 8 };
    word(out, "spi", key.path_hdr >> 8, spi_mask);
    byte(out, "si", key.path_hdr as u8, mask.path_hdr as u8);
    for (name, (k, m)) in ["c1", "c2", "c3", "c4"].into_iter().zip(key.context.iter().zip(mask.context)) {
        word(out, name, *k, m);
    }
    chomp(out);
}

/// The fixed part of a header.
pub(super) fn put_whole_nsh(out: &mut String, k: &Nsh) {
    let _ = write!(out, "flags={},ttl={},mdtype={},np={}", k.flags, k.ttl, k.mdtype, k.np);
    let _ = write!(out, ",spi=0x{:x},si={}", k.path_hdr >> 8, k.path_hdr & 0xff);
}
