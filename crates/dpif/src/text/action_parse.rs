//! Reading actions.

use super::key_scan::{scan_attr, scan_u128};
use super::scan::{DEPTH_MAX, Scan};
use super::{PortNumbers, flags, tnl_push};
use crate::attr::Attr;
use crate::{
    Action, Actions, ControllerUserdata, Ct, DropReason, FlowSample, HashAlg, Masked, Nat, NatAddr,
    NatDirection, PortNo, SampleDirection, SetKey, SlowPath, Userdata, Userspace,
};
use flow::{EthAddr, Nsh, VLAN_CFI};
use packet::proto::{ethertype, nsh};
use packet::{NSH_MD2_MAX, NshHeader};

/// Reads actions as `dpctl/add-flow` takes them; `None` if the text is none. Ports may be named.
pub fn parse_actions(text: &str, ports: Option<PortNumbers<'_>>) -> Option<Actions> {
    if text.eq_ignore_ascii_case("drop") {
        return Some(vec![Action::Drop(DropReason::Ok)]);
    }
    let mut s = Scan::new(text);
    let mut actions = Vec::new();
    loop {
        s.skip_delimiters();
        if s.is_empty() {
            return Some(actions);
        }
        actions.push(scan_action(&mut s, ports)?);
        if !s.at_delimiter() {
            return None;
        }
    }
}

/// Actions up to a closing parenthesis, which is taken; `drop` for none.
fn scan_nested(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Actions> {
    s.depth += 1;
    if s.depth >= DEPTH_MAX {
        return None;
    }
    let mut actions = Vec::new();
    if !s.eat("drop)") {
        loop {
            s.skip_delimiters();
            if s.eat(")") {
                break;
            }
            actions.push(scan_action(s, ports)?);
        }
    }
    s.depth -= 1;
    Some(actions)
}

fn scan_action(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Action> {
    if let Some(port) = scan_port(s, ports) {
        return Some(Action::Output(port));
    }
    let name = s.run(|c| c.is_ascii_alphanumeric() || c == '_');
    match name {
        "pop_vlan" => return Some(Action::PopVlan),
        "pop_eth" => return Some(Action::PopEth),
        "ct_clear" => return Some(Action::CtClear),
        "ct" if !s.peek("(") => return Some(Action::Ct(Box::default())),
        _ => s.need("(")?,
    }
    scan_arguments(s, name, ports)
}

/// From behind the opening parenthesis through the closing one.
fn scan_arguments(s: &mut Scan<'_>, name: &str, ports: Option<PortNumbers<'_>>) -> Option<Action> {
    let action = match name {
        "lb_output" => Action::LbOutput(s.u32()?),
        "trunc" => Action::Trunc(s.u32()?),
        "recirc" => Action::Recirc(s.u32()?),
        "meter" => Action::Meter(s.u32()?),
        "tnl_pop" => Action::TunnelPop(scan_port(s, ports)?),
        "pop_nsh" => Action::PopNsh,
        "pop_mpls" => {
            s.need("eth_type=")?;
            Action::PopMpls { ethertype: s.u16()? }
        }
        "hash" => scan_hash(s)?,
        "push_eth" => scan_push_eth(s)?,
        "push_vlan" => scan_push_vlan(s)?,
        "push_mpls" => {
            let (lse, ethertype) = scan_mpls(s)?;
            Action::PushMpls { lse, ethertype }
        }
        "add_mpls" => {
            let (lse, ethertype) = scan_mpls(s)?;
            Action::AddMpls { lse, ethertype, l3: false }
        }
        "set" => Action::Set(scan_set(s)?),
        // These take their own closing parenthesis.
        "sample" => return scan_sample(s, ports),
        "clone" => return Some(Action::Clone(scan_nested(s, ports)?)),
        "check_pkt_len" => return scan_check_pkt_len(s, ports),
        "push_nsh" => return scan_push_nsh(s),
        "userspace" => return scan_userspace(s, ports),
        "ct" => return Some(Action::Ct(Box::new(scan_ct(s)?))),
        "tnl_push" => return Some(Action::TunnelPush(Box::new(tnl_push::scan(s)?))),
        _ => return None,
    };
    s.need(")")?;
    Some(action)
}

/// A number, or the name of a port that ends where an action must.
fn scan_port(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<PortNo> {
    let mut t = s.clone();
    if let Some(port) = t.u32().filter(|_| t.at_delimiter() || t.peek(")")) {
        *s = t;
        return Some(PortNo(port));
    }
    let mut t = s.clone();
    let name = t.run(|c| !c.is_ascii_whitespace() && c != ',' && c != ')');
    let port = ports?(name)?;
    *s = t;
    Some(port)
}

fn scan_hash(s: &mut Scan<'_>) -> Option<Action> {
    let alg = if s.eat("l4(") {
        HashAlg::L4
    } else {
        s.need("sym_l4(")?;
        HashAlg::SymL4
    };
    let basis = s.u32()?;
    s.need(")")?;
    Some(Action::Hash { alg, basis })
}

fn scan_push_eth(s: &mut Scan<'_>) -> Option<Action> {
    s.need("src=")?;
    let src: EthAddr = s.mac()?;
    s.need(",dst=")?;
    let dst = s.mac()?;
    if s.eat(",type=") {
        // The type comes with the packet.
        s.u16()?;
    }
    Some(Action::PushEth { dst, src })
}

/// `tpid=` and `cfi=` may be left out.
fn scan_push_vlan(s: &mut Scan<'_>) -> Option<Action> {
    let tpid = if s.eat("tpid=") {
        let t = s.u16()?;
        s.need(",")?;
        t
    } else {
        ethertype::VLAN
    };
    s.need("vid=")?;
    let vid = s.number(12)? as u16;
    s.need(",pcp=")?;
    let pcp = s.number(3)? as u16;
    let cfi = if s.eat(",cfi=") { s.u32()? != 0 } else { true };
    let tci = vid | pcp << 13 | if cfi { VLAN_CFI } else { 0 };
    Some(Action::PushVlan { tpid, tci })
}

fn scan_mpls(s: &mut Scan<'_>) -> Option<(u32, u16)> {
    let mut lse = 0;
    for (name, bits, shift) in [("label=", 20, 12), (",tc=", 3, 9), (",ttl=", 8, 0), (",bos=", 1, 8)] {
        s.need(name)?;
        lse |= (s.number(bits)? as u32) << shift;
    }
    s.need(",eth_type=")?;
    Some((lse, s.hex(16)? as u16))
}

fn scan_set(s: &mut Scan<'_>) -> Option<SetKey> {
    let scanned = scan_attr(s, None)?;
    if scanned.attr == Attr::Tunnel && !scanned.has_ttl {
        return None;
    }
    SetKey::of_flows(scanned.attr, &scanned.key, &scanned.mask)
}

fn scan_sample(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Action> {
    s.need("sample=")?;
    let percentage: f64 = s.run(|c| c.is_ascii_digit() || c == '.').parse().ok()?;
    s.need("%,actions(")?;
    if !(0.0..=100.0).contains(&percentage) {
        return None;
    }
    let probability = (f64::from(u32::MAX) * (percentage / 100.0) + 0.5).floor() as u32;
    let actions = scan_nested(s, ports)?;
    s.need(")")?;
    Some(Action::Sample { probability, actions })
}

fn scan_check_pkt_len(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Action> {
    s.need("size=")?;
    let len = s.u16()?;
    s.need(",gt(")?;
    let greater = scan_nested(s, ports)?;
    s.need(",le(")?;
    let less_equal = scan_nested(s, ports)?;
    s.need(")")?;
    Some(Action::CheckPktLen { len, greater, less_equal })
}

/// Fields in any order; what is not said has the default of a first hop.
fn scan_push_nsh(s: &mut Scan<'_>) -> Option<Action> {
    let np = nsh::NP_ETHERNET;
    let key = Nsh { flags: 0, ttl: 63, mdtype: nsh::MD1, np, path_hdr: 255, context: [0; 4] };
    let mut header = NshHeader { key, md2: Vec::new() };
    loop {
        s.skip_delimiters();
        if s.eat(")") {
            return Some(Action::PushNsh(Box::new(header)));
        }
        scan_nsh_field(s, &mut header)?;
    }
}

fn scan_nsh_field(s: &mut Scan<'_>, header: &mut NshHeader) -> Option<()> {
    let key = &mut header.key;
    if s.eat("flags=") {
        key.flags = s.u8()?;
    } else if s.eat("ttl=") {
        key.ttl = s.u8()?;
    } else if s.eat("mdtype=") {
        key.mdtype = s.u8().filter(|t| matches!(*t, nsh::MD1 | nsh::MD2))?;
    } else if s.eat("np=") {
        key.np = s.u8()?;
    } else if s.eat("spi=") {
        key.path_hdr = (s.hex(24)? as u32) << 8 | key.path_hdr & 0xff;
    } else if s.eat("si=") {
        key.path_hdr = key.path_hdr & !0xff | u32::from(s.u8()?);
    } else if key.mdtype == nsh::MD2 {
        s.need("md2=0x")?;
        let digits = s.run(|c| c.is_ascii_hexdigit());
        // Printing takes a zero off the front.
        let even = if digits.len().is_multiple_of(2) { digits.into() } else { format!("0{digits}") };
        let mut md2 = Scan::new(&even).hex_bytes()?;
        md2.resize(md2.len().next_multiple_of(4), 0);
        if md2.len() > NSH_MD2_MAX {
            return None;
        }
        header.md2 = md2;
    } else {
        let at = ["c1=", "c2=", "c3=", "c4="].iter().position(|n| s.eat(n))?;
        key.context[at] = s.hex(32)? as u32;
    }
    Some(())
}

fn scan_userspace(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Action> {
    s.need("pid=")?;
    s.u32()?;
    let userdata = scan_userdata(s, ports)?;
    let wants_actions = s.eat(",actions");
    let egress_tunnel_port = if s.eat(",tunnel_out_port=") { Some(scan_port(s, ports)?) } else { None };
    s.need(")")?;
    Some(Action::Userspace(Userspace { userdata, egress_tunnel_port, wants_actions }))
}

/// Named values in their fixed order, through the closing parenthesis.
macro_rules! scan_named {
    ($s:ident, $($prefix:literal $scan:expr),+) => {
        ($({ $s.need($prefix)?; $scan }),+)
    };
}

fn scan_userdata(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<Userdata> {
    let userdata = if s.eat(",sFlow(") {
        let (vid, pcp, output) =
            scan_named!(s, "vid=" s.number(12)? as u16, ",pcp=" s.number(3)? as u16, ",output=" s.u32()?);
        let tci = vid | pcp << 13;
        Userdata::SFlow { vlan_tci: if tci == 0 { 0 } else { tci | VLAN_CFI }, output }
    } else if s.eat(",slow_path(") {
        let (reasons, _) = flags::scan(s, flags::SLOW_PATH, SlowPath::all().bits())?;
        Userdata::SlowPath(SlowPath::from_bits_truncate(reasons))
    } else if s.eat(",flow_sample(") {
        Userdata::FlowSample(Box::new(scan_flow_sample(s, ports)?))
    } else if s.eat(",ipfix(output_port=") {
        Userdata::Ipfix { output_port: scan_port(s, ports)? }
    } else if s.eat(",controller(") {
        Userdata::Controller(Box::new(scan_controller(s)?))
    } else if s.eat(",userdata(") {
        Userdata::Opaque(s.hex_bytes()?)
    } else {
        return Some(Userdata::Opaque(Vec::new()));
    };
    s.need(")")?;
    Some(userdata)
}

fn scan_flow_sample(s: &mut Scan<'_>, ports: Option<PortNumbers<'_>>) -> Option<FlowSample> {
    let (probability, collector_set_id, obs_domain_id, obs_point_id, output_port) = scan_named!(
        s, "probability=" s.u16()?, ",collector_set_id=" s.u32()?, ",obs_domain_id=" s.u32()?,
        ",obs_point_id=" s.u32()?, ",output_port=" scan_port(s, ports)?
    );
    let direction = if s.eat(",ingress") {
        SampleDirection::Ingress
    } else if s.eat(",egress") {
        SampleDirection::Egress
    } else {
        SampleDirection::Default
    };
    Some(FlowSample { probability, collector_set_id, obs_domain_id, obs_point_id, output_port, direction })
}

fn scan_controller(s: &mut Scan<'_>) -> Option<ControllerUserdata> {
    let (reason, dont_send, continuation, recirc_id, rule_cookie, controller_id, max_len) = scan_named!(
        s, "reason=" s.u8()?, ",dont_send=" s.u8()? != 0, ",continuation=" s.u8()? != 0,
        ",recirc_id=" s.u32()?, ",rule_cookie=" s.hex(64)? as u64, ",controller_id=" s.u16()?,
        ",max_len=" s.u16()?
    );
    let bridge = 0;
    Some(ControllerUserdata {
        reason,
        dont_send,
        continuation,
        recirc_id,
        rule_cookie,
        controller_id,
        max_len,
        bridge,
    })
}

/// Longest names of a helper and of a timeout policy.
const HELPER_MAX: usize = 15;
const TIMEOUT_MAX: usize = 31;

fn scan_ct(s: &mut Scan<'_>) -> Option<Ct> {
    let mut ct = Ct::default();
    loop {
        s.skip_delimiters();
        if s.eat(")") {
            // One commits, or makes sure to, but not both.
            return if ct.commit && ct.force { None } else { Some(ct) };
        }
        scan_ct_argument(s, &mut ct)?;
    }
}

fn scan_ct_argument(s: &mut Scan<'_>, ct: &mut Ct) -> Option<()> {
    if s.eat("commit") {
        ct.commit = true;
    } else if s.eat("force_commit") {
        ct.force = true;
    } else if s.eat("zone=") {
        ct.zone = s.number_in(10, 16)? as u16;
    } else if s.eat("mark=") {
        let key = s.hex(32)? as u32;
        let mask = if s.eat("/") { s.hex(32)? as u32 } else { u32::MAX };
        ct.mark = (mask != 0).then_some(Masked { key, mask });
    } else if s.eat("label=") {
        let (key, mask) = scan_u128(s)?;
        ct.label = (!mask.is_zero()).then_some(Masked { key, mask });
    } else if s.eat("helper=") {
        ct.helper = Some(scan_word(s, HELPER_MAX)?);
    } else if s.eat("timeout=") {
        ct.timeout = Some(scan_word(s, TIMEOUT_MAX)?);
    } else {
        s.need("nat")?;
        ct.nat = Some(scan_nat(s)?);
    }
    Some(())
}

fn scan_word(s: &mut Scan<'_>, max: usize) -> Option<String> {
    let word = s.run(|c| !c.is_ascii_whitespace() && c != ',' && c != ')');
    (1..=max).contains(&word.len()).then(|| word.to_owned())
}

fn scan_nat(s: &mut Scan<'_>) -> Option<Nat> {
    let mut nat = Nat::default();
    if !s.eat("(") {
        return Some(nat);
    }
    loop {
        s.skip_delimiters();
        if s.eat(")") {
            break;
        }
        let direction = match s.run(|c| c.is_ascii_lowercase()) {
            "src" => NatDirection::Src,
            "dst" => NatDirection::Dst,
            flag => {
                set_nat_flag(&mut nat, flag)?;
                continue;
            }
        };
        if nat.direction.replace(direction).is_some_and(|old| old != direction) {
            return None;
        }
        if s.eat("=") {
            scan_nat_range(s, &mut nat)?;
        }
    }
    if nat.hash && nat.random {
        return None;
    }
    // Without a direction nothing else counts.
    Some(if nat.direction.is_none() { Nat::default() } else { nat })
}

fn set_nat_flag(nat: &mut Nat, flag: &str) -> Option<()> {
    match flag {
        "persistent" => nat.persistent = true,
        "hash" => nat.hash = true,
        "random" => nat.random = true,
        _ => return None,
    }
    Some(())
}

fn scan_nat_range(s: &mut Scan<'_>, nat: &mut Nat) -> Option<()> {
    let min = scan_nat_addr(s)?;
    let max = if s.eat("-") { scan_nat_addr(s)? } else { min };
    if !is_range(min, max) {
        return None;
    }
    nat.addr = Some((min, max));
    if s.eat(":") {
        let min = s.number_in(10, 16)? as u16;
        let max = if s.eat("-") { s.number_in(10, 16)? as u16 } else { min };
        if max < min {
            return None;
        }
        nat.ports = (min != 0).then_some((min, max));
    }
    Some(())
}

fn is_range(min: NatAddr, max: NatAddr) -> bool {
    match (min, max) {
        (NatAddr::V4(a), NatAddr::V4(b)) => a <= b,
        (NatAddr::V6(a), NatAddr::V6(b)) => u128::from(a) <= u128::from(b),
        _ => false,
    }
}

fn scan_nat_addr(s: &mut Scan<'_>) -> Option<NatAddr> {
    if let Some(a) = s.ipv4() {
        return Some(NatAddr::V4(a));
    }
    if s.eat("[") {
        let a = s.ipv6()?;
        s.need("]")?;
        return Some(NatAddr::V6(a));
    }
    s.ipv6().map(NatAddr::V6)
}
