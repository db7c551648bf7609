//! Printing actions.

use super::attr_text::{self, Value, put_lse, put_tci, put_u128, put_whole_nsh};
use super::scan::{chomp, put_hash_x, put_hex, put_ipv4, put_ipv6};
use super::{PortNames, Style, flags, put_port, tnl_push};
use crate::{Action, Ct, HashAlg, Nat, NatAddr, NatDirection, SampleDirection, SetKey, Userdata, Userspace};
use flow::U128;
use packet::NshHeader;
use packet::proto::{ethertype, nsh};
use std::fmt::Write;

/// Actions as `dpctl/dump-flows` prints them behind `actions:`; `drop` if there are none.
pub fn actions_text(actions: &[Action], names: Option<PortNames<'_>>) -> String {
    let mut out = String::new();
    put_actions(&mut out, actions, names);
    out
}

fn put_actions(out: &mut String, actions: &[Action], names: Option<PortNames<'_>>) {
    if actions.is_empty() {
        out.push_str("drop");
    }
    for (i, a) in actions.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        put_action(out, a, names);
    }
}

fn put_action(out: &mut String, action: &Action, names: Option<PortNames<'_>>) {
    let _ = match action {
        Action::Output(port) => {
            put_port(out, *port, names);
            Ok(())
        }
        Action::LbOutput(bond) => write!(out, "lb_output({bond})"),
        Action::Meter(id) => write!(out, "meter({id})"),
        Action::Trunc(len) => write!(out, "trunc({len})"),
        Action::Recirc(id) => {
            out.push_str("recirc(");
            put_hash_x(out, (*id).into());
            write!(out, ")")
        }
        Action::Hash { alg, basis } => {
            let alg = if *alg == HashAlg::L4 { "l4" } else { "sym_l4" };
            write!(out, "hash({alg}({basis}))")
        }
        Action::PushEth { dst, src } => write!(out, "push_eth(src={src},dst={dst})"),
        Action::PopEth => write!(out, "pop_eth"),
        Action::PopVlan => write!(out, "pop_vlan"),
        Action::PopMpls { ethertype } => write!(out, "pop_mpls(eth_type=0x{ethertype:x})"),
        Action::PopNsh => write!(out, "pop_nsh()"),
        Action::CtClear => write!(out, "ct_clear"),
        Action::Drop(_) => write!(out, "drop"),
        Action::TunnelPop(port) => {
            out.push_str("tnl_pop(");
            put_port(out, *port, names);
            write!(out, ")")
        }
        _ => {
            put_long(out, action, names);
            Ok(())
        }
    };
}

/// The actions with more inside them.
fn put_long(out: &mut String, action: &Action, names: Option<PortNames<'_>>) {
    match action {
        Action::Userspace(u) => put_userspace(out, u, names),
        Action::Set(set) => put_set(out, set),
        Action::PushVlan { tpid, tci } => {
            out.push_str("push_vlan(");
            if *tpid != ethertype::VLAN {
                let _ = write!(out, "tpid=0x{tpid:04x},");
            }
            put_tci(out, *tci, u16::MAX, false);
            out.push(')');
        }
        Action::PushMpls { lse, ethertype } => put_push_mpls(out, "push_mpls", *lse, *ethertype),
        Action::AddMpls { lse, ethertype, .. } => put_push_mpls(out, "add_mpls", *lse, *ethertype),
        Action::PushNsh(header) => put_push_nsh(out, header),
        Action::Sample { probability, actions } => {
            let percentage = 100.0 * f64::from(*probability) / f64::from(u32::MAX);
            let _ = write!(out, "sample(sample={percentage:.1}%,actions(");
            put_actions(out, actions, names);
            out.push_str("))");
        }
        Action::Clone(actions) => {
            out.push_str("clone(");
            put_actions(out, actions, names);
            out.push(')');
        }
        Action::CheckPktLen { len, greater, less_equal } => {
            let _ = write!(out, "check_pkt_len(size={len},gt(");
            put_actions(out, greater, names);
            out.push_str("),le(");
            put_actions(out, less_equal, names);
            out.push_str("))");
        }
        Action::Ct(ct) => put_ct(out, ct),
        Action::TunnelPush(push) => tnl_push::put(out, push, names),
        // Printed by the caller.
        _ => {}
    }
}

fn put_push_mpls(out: &mut String, name: &str, lse: u32, ethertype: u16) {
    let _ = write!(out, "{name}(");
    put_lse(out, lse);
    let _ = write!(out, ",eth_type=0x{ethertype:x})");
}

fn put_set(out: &mut String, set: &SetKey) {
    let (key, mask) = set.to_flows();
    let exact = set.is_exact();
    let style = Style { verbose: exact, ..Style::default() };
    out.push_str("set(");
    attr_text::put(out, set.attr(), &Value::new(&key, (!exact).then_some(&mask)), &style);
    out.push(')');
}

fn put_push_nsh(out: &mut String, header: &NshHeader) {
    out.push_str("push_nsh(");
    put_whole_nsh(out, &header.key);
    match header.key.mdtype {
        nsh::MD1 => {
            for (i, c) in header.key.context.iter().enumerate() {
                let _ = write!(out, ",c{}=0x{c:x}", i + 1);
            }
        }
        nsh::MD2 => {
            out.push_str(",md2=");
            put_hex(out, &header.md2);
        }
        _ => out.push_str(",<error: unknown mdtype>"),
    }
    out.push(')');
}

fn put_userspace(out: &mut String, u: &Userspace, names: Option<PortNames<'_>>) {
    // The userspace datapath has no sockets to name.
    out.push_str("userspace(pid=0");
    put_userdata(out, &u.userdata, names);
    if u.wants_actions {
        out.push_str(",actions");
    }
    if let Some(port) = u.egress_tunnel_port {
        out.push_str(",tunnel_out_port=");
        put_port(out, port, names);
    }
    out.push(')');
}

fn put_userdata(out: &mut String, userdata: &Userdata, names: Option<PortNames<'_>>) {
    match userdata {
        Userdata::Opaque(bytes) if bytes.is_empty() => return,
        Userdata::Opaque(bytes) => {
            out.push_str(",userdata(");
            for b in bytes {
                let _ = write!(out, "{b:02x}");
            }
        }
        Userdata::SFlow { vlan_tci, output } => {
            let (vid, pcp) = (vlan_tci & 0xfff, vlan_tci >> 13);
            let _ = write!(out, ",sFlow(vid={vid},pcp={pcp},output={output}");
        }
        Userdata::SlowPath(reasons) => {
            out.push_str(",slow_path(");
            flags::put(out, flags::SLOW_PATH, reasons.bits(), ',');
        }
        Userdata::FlowSample(s) => {
            let _ = write!(
                out,
                ",flow_sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={},output_port=",
                s.probability, s.collector_set_id, s.obs_domain_id, s.obs_point_id
            );
            put_port(out, s.output_port, names);
            out.push_str(match s.direction {
                SampleDirection::Default => "",
                SampleDirection::Ingress => ",ingress",
                SampleDirection::Egress => ",egress",
            });
        }
        Userdata::Ipfix { output_port } => {
            out.push_str(",ipfix(output_port=");
            put_port(out, *output_port, names);
        }
        Userdata::Controller(c) => {
            let _ = write!(
                out,
                ",controller(reason={},dont_send={},continuation={},recirc_id={},rule_cookie=",
                c.reason,
                u8::from(c.dont_send),
                u8::from(c.continuation),
                c.recirc_id
            );
            put_hash_x(out, c.rule_cookie.into());
            let _ = write!(out, ",controller_id={},max_len={}", c.controller_id, c.max_len);
        }
    }
    out.push(')');
}

fn put_ct(out: &mut String, ct: &Ct) {
    out.push_str("ct");
    let mut arguments = String::new();
    put_ct_arguments(&mut arguments, ct);
    chomp(&mut arguments);
    if !arguments.is_empty() {
        let _ = write!(out, "({arguments})");
    }
}

fn put_ct_arguments(out: &mut String, ct: &Ct) {
    if ct.force {
        out.push_str("force_commit,");
    } else if ct.commit {
        out.push_str("commit,");
    }
    if ct.zone != 0 {
        let _ = write!(out, "zone={},", ct.zone);
    }
    if let Some(m) = ct.mark {
        out.push_str("mark=");
        put_hash_x(out, m.key.into());
        out.push('/');
        put_hash_x(out, m.mask.into());
        out.push(',');
    }
    if let Some(m) = ct.label {
        out.push_str("label=");
        put_u128(out, m.key, Some(m.mask), true);
        out.push(',');
    }
    if let Some(helper) = &ct.helper {
        let _ = write!(out, "helper={helper},");
    }
    if let Some(timeout) = &ct.timeout {
        let _ = write!(out, "timeout={timeout},");
    }
    if let Some(nat) = &ct.nat {
        put_nat(out, nat);
    }
}

fn put_nat(out: &mut String, nat: &Nat) {
    out.push_str("nat");
    let Some(direction) = nat.direction else { return };
    out.push_str(if direction == NatDirection::Src { "(src" } else { "(dst" });
    if let Some((min, max)) = nat.addr {
        let ports = nat.ports.filter(|p| p.0 != 0);
        out.push('=');
        put_nat_addr(out, min, ports.is_some());
        if max != min && !is_unset(max) {
            out.push('-');
            put_nat_addr(out, max, ports.is_some());
        }
        if let Some((min, max)) = ports {
            let _ = write!(out, ":{min}");
            if max != 0 && max != min {
                let _ = write!(out, "-{max}");
            }
        }
    }
    for (set, name) in [(nat.persistent, ",persistent"), (nat.hash, ",hash"), (nat.random, ",random")] {
        if set {
            out.push_str(name);
        }
    }
    out.push(')');
}

fn is_unset(a: NatAddr) -> bool {
    matches!(a, NatAddr::V4(0) | NatAddr::V6(U128::ZERO))
}

/// IPv6 stands in brackets where a port follows.
fn put_nat_addr(out: &mut String, a: NatAddr, has_port: bool) {
    match a {
        NatAddr::V4(a) => put_ipv4(out, a),
        NatAddr::V6(a) if has_port => {
            out.push('[');
            put_ipv6(out, a);
            out.push(']');
        }
        NatAddr::V6(a) => put_ipv6(out, a),
    }
}
