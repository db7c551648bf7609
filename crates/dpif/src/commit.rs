//! From what a packet is to what it shall be: the datapath actions that make the difference.
//!
//! Translation changes its own copy of the key as it goes and only before an output, or anything else
//! that lets the packet go, turns all changes into actions at once. [`commit`] does that.
//!
//! A field that is the same on both sides is not written, and a field that is written must be one that
//! the caller's mask has (translation unwildcards what it sets): the mask is what the action writes.

use crate::attr::{Attr, Field, Side, fields, single};
use crate::key_attrs::count_labels;
use crate::{Action, Actions, NshHeader, SetKey, SlowPath};
use flow::{Flow, MPLS_LABELS_MAX, Mask, Nsh, PT_ETH, Tunnel, VLANS_MAX, Vlan, word};
use packet::Masked;
use packet::proto::{ethertype, ip_proto, nsh, packet_type};

/// What else there is to know about a commit.
#[derive(Clone, Copy, Default)]
pub struct CommitOptions<'a> {
    /// The datapath cannot write part of a header (`masked_set_action` is not supported).
    pub whole_headers: bool,
    /// An `encap` is to be carried out: the wanted packet type is pushed.
    pub encap: bool,
    /// A `decap` is to be carried out.
    pub decap: bool,
    /// Variable context of the NSH header that is pushed.
    pub nsh_md2: &'a [u8],
}

/// Appends to `actions` what turns `base` into `wanted`, makes `base` equal to `wanted` in all that, and adds
/// to `wc` the bits that this depends on. Tunnels are left out: see [`commit_tunnel`].
///
/// Returns why the packet has to take the slow path: [`SlowPath::ACTION`] if a field changes that the
/// datapaths of the kernel cannot write; empty otherwise.
pub fn commit(
    wanted: &Flow,
    base: &mut Flow,
    wc: &mut Mask,
    actions: &mut Actions,
    options: &CommitOptions<'_>,
) -> SlowPath {
    let mut c = Commit { wanted, base, wc, actions, whole_headers: options.whole_headers };
    c.packet_type(options);
    if wanted.packet_type == PT_ETH && c.base.packet_type == PT_ETH {
        c.header(Attr::Ethernet);
    }
    // Headers of the network layer can be written only once the labels in front of them are gone.
    let pops_all = ethertype::is_mpls(c.base.dl_type) && !ethertype::is_mpls(wanted.dl_type);
    if pops_all {
        c.mpls(false);
    }
    c.nsh();
    let slow = c.network_layer();
    c.ports();
    let slow = slow | c.icmp();
    if !pops_all {
        c.mpls(false);
    }
    c.vlans();
    c.header_as(Attr::Priority, true);
    c.header(Attr::SkbMark);
    slow
}

/// Appends a `set(tunnel(...))` if the tunnel that output shall use is not the one it has. `wanted.tunnel`
/// has its Geneve options in the datapath's form. Of options, only those of the tunnel that `kind` (the
/// type of the output port) names go along; all of them if it is `None`.
pub fn commit_tunnel(wanted: &Flow, base: &mut Flow, actions: &mut Actions, kind: Option<&str>) {
    if wanted.tunnel.is_set() && base.tunnel != wanted.tunnel {
        base.tunnel = wanted.tunnel.clone();
        actions.push(Action::Set(SetKey::Tunnel(Box::new(tunnel_of_kind(&wanted.tunnel, kind)))));
    }
}

/// `t` without the options of other kinds of tunnel.
fn tunnel_of_kind(t: &Tunnel, kind: Option<&str>) -> Tunnel {
    let mut out = t.clone();
    let is = |kinds: &[&str]| kind.is_none_or(|k| kinds.contains(&k));
    if !is(&["vxlan"]) {
        (out.gbp_id, out.gbp_flags) = (0, 0);
    }
    if !is(&["geneve"]) {
        (out.metadata_present, out.metadata) = (0, [0; flow::TUN_METADATA_LEN]);
        out.flags &= !flow::tun_flags::UDPIF;
    }
    if !is(&["erspan", "ip6erspan"]) {
        (out.erspan_ver, out.erspan_idx, out.erspan_dir, out.erspan_hwid) = (0, 0, 0, 0);
    }
    if !is(&["gtpu"]) {
        (out.gtpu_flags, out.gtpu_msgtype) = (0, 0);
    }
    out
}

/// Bits of the traffic class that a tunnel may change on its own account.
const ECN: u128 = 3;

struct Commit<'a> {
    wanted: &'a Flow,
    base: &'a mut Flow,
    wc: &'a mut Mask,
    actions: &'a mut Actions,
    whole_headers: bool,
}

impl Commit<'_> {
    /// Writes the fields of one header that differ; true if there are any.
    fn header(&mut self, attr: Attr) -> bool {
        self.header_as(attr, self.whole_headers)
    }

    fn header_as(&mut self, attr: Attr, whole: bool) -> bool {
        let all: Vec<&Field> = fields(attr).iter().chain(single(attr)).collect();
        let (mut key, mut mask) = (Flow::ZERO, Flow::ZERO);
        let mut differs = false;
        for f in &all {
            let (new, old) = ((f.get)(self.wanted, Side::Key), (f.get)(self.base, Side::Key));
            if new == old || is_read_only(attr, f) {
                continue;
            }
            differs = true;
            let mut bits = (f.get)(self.wc, Side::Mask) & f.form.exact();
            if is_traffic_class(f) && self.base.tunnel.is_set() && (new ^ old) & ECN == 0 {
                bits &= !ECN;
            }
            // What changes is written, whatever the caller's mask says.
            bits |= new ^ old;
            (f.set)(&mut mask, bits, Side::Mask);
            (f.set)(&mut key, new & bits, Side::Key);
        }
        if !differs {
            return false;
        }
        let is_exact = SetKey::of_flows(attr, &key, &mask).is_some_and(|s| s.is_exact());
        if whole || is_exact {
            for f in &all {
                (f.set)(&mut mask, f.form.exact(), Side::Mask);
                (f.set)(&mut key, (f.get)(self.wanted, Side::Key), Side::Key);
            }
        }
        self.actions.extend(SetKey::of_flows(attr, &key, &mask).map(Action::Set));
        for f in &all {
            (f.set)(self.base, (f.get)(self.wanted, Side::Key), Side::Key);
            let bits = (f.get)(self.wc, Side::Mask) | (f.get)(&mask, Side::Mask);
            (f.set)(self.wc, bits & f.form.exact(), Side::Mask);
        }
        true
    }

    fn network_layer(&mut self) -> SlowPath {
        if self.wanted.nw_proto == 0 {
            return SlowPath::empty();
        }
        let slow = match self.base.dl_type {
            ethertype::IPV4 => {
                self.header(Attr::Ipv4);
                false
            }
            ethertype::IPV6 => {
                self.header(Attr::Ipv6);
                // The options' type says which options the addresses go to, so it comes first.
                let is_icmp = self.base.nw_proto == ip_proto::ICMPV6;
                is_icmp && (self.header(Attr::NdExt) | self.header(Attr::Nd))
            }
            ethertype::ARP => self.header_as(Attr::Arp, false),
            _ => false,
        };
        slow_if(slow)
    }

    fn ports(&mut self) {
        let attr = match self.wanted.nw_proto {
            ip_proto::TCP => Attr::Tcp,
            ip_proto::UDP => Attr::Udp,
            ip_proto::SCTP => Attr::Sctp,
            _ => return,
        };
        if self.base.is_ip() {
            self.header(attr);
        }
    }

    /// Always whole: type and code are one to those who read them.
    fn icmp(&mut self) -> SlowPath {
        let attr = match (self.wanted.dl_type, self.wanted.nw_proto) {
            (ethertype::IPV4, ip_proto::ICMP) => Attr::Icmp,
            (ethertype::IPV6, ip_proto::ICMPV6) => Attr::Icmpv6,
            _ => return SlowPath::empty(),
        };
        slow_if(self.header_as(attr, true))
    }

    /// Tags from the inside out as long as they are the same; then the rest comes off and goes on.
    fn vlans(&mut self) {
        let count = |f: &Flow| f.vlans.iter().take_while(|v| v.is_present()).count();
        let (mut old, mut new) = (count(self.base), count(self.wanted));
        while old > 0 && new > 0 && self.base.vlans[old - 1] == self.wanted.vlans[new - 1] {
            (old, new) = (old - 1, new - 1);
        }
        for at in (0..old).rev() {
            self.actions.push(Action::PopVlan);
            self.wc.vlans[at] = Vlan { tpid: u16::MAX, tci: u16::MAX };
        }
        for at in (0..new).rev() {
            let Vlan { tpid, tci } = self.wanted.vlans[at];
            self.actions.push(Action::PushVlan { tpid, tci });
        }
        self.base.vlans = self.wanted.vlans;
        const _: () = assert!(VLANS_MAX == 2);
    }

    /// Labels from the inside out as long as they are the same. One label in place of another is written
    /// over it; translation has unwildcarded what it looked at.
    fn mpls(&mut self, encap: bool) {
        let (mut old, new) = (count_labels(self.base), count_labels(self.wanted));
        let mut common = self.common_labels(old, new);
        while old > common {
            if old - 1 == common && new > common {
                let lse = self.wanted.mpls_lse[new - old];
                self.actions.push(Action::Set(SetKey::Mpls(Masked { key: lse, mask: u32::MAX })));
                self.base.mpls_lse[0] = lse;
                common += 1;
            } else {
                // What is behind the last label has the wanted type; before that there are labels.
                let wanted = self.wanted.dl_type;
                let inner = if !ethertype::is_mpls(wanted) && old > 1 { ethertype::MPLS } else { wanted };
                self.actions.push(Action::PopMpls { ethertype: inner });
                self.pop_label(old);
                old -= 1;
            }
        }
        while old < new {
            let (lse, ethertype) = (self.wanted.mpls_lse[new - old - 1], self.wanted.dl_type);
            self.actions.push(match encap {
                true => Action::AddMpls { lse, ethertype, l3: false },
                false => Action::PushMpls { lse, ethertype },
            });
            self.base.mpls_lse.copy_within(..MPLS_LABELS_MAX - 1, 1);
            self.base.mpls_lse[0] = lse;
            self.base.dl_type = ethertype;
            old += 1;
        }
    }

    fn common_labels(&self, old: usize, new: usize) -> usize {
        let innermost_first = |f: &Flow, n: usize| {
            let mut l = f.mpls_lse;
            l[..n].reverse();
            l
        };
        let (a, b) = (innermost_first(self.base, old), innermost_first(self.wanted, new));
        (0..old.min(new)).take_while(|i| a[*i] == b[*i]).count()
    }

    fn pop_label(&mut self, count: usize) {
        self.base.mpls_lse.copy_within(1..count, 0);
        self.base.mpls_lse[count - 1] = 0;
        self.base.dl_type = self.wanted.dl_type;
    }

    fn nsh(&mut self) {
        let (wanted, base) = (&self.wanted.nsh, &self.base.nsh);
        if self.wanted.dl_type != ethertype::NSH || wanted == base {
            return;
        }
        let known = |n: &Nsh| if n.mdtype == nsh::MD1 { *n } else { Nsh { context: [0; 4], ..*n } };
        let (key, old) = (known(wanted), known(base));
        if key == old {
            return;
        }
        // Format and next protocol cannot be written.
        let mask = Nsh { mdtype: 0, np: 0, ..self.wc.nsh };
        let mask = if key.mdtype == nsh::MD1 { mask } else { Nsh { context: [0; 4], ..mask } };
        let masked = masked_nsh(&key, &mask);
        self.actions.push(Action::Set(SetKey::Nsh(Masked { key: masked, mask })));
        self.base.nsh = key;
    }

    /// What packet it is at all: Ethernet, NSH, MPLS, IP.
    fn packet_type(&mut self, o: &CommitOptions<'_>) {
        if o.encap {
            self.encap(o.nsh_md2);
        } else if o.decap || self.wanted.packet_type != self.base.packet_type {
            self.decap();
        } else {
            self.wc.packet_type = u32::MAX;
            return;
        }
        self.wc.packet_type = u32::MAX;
    }

    fn encap(&mut self, nsh_md2: &[u8]) {
        let wanted = self.wanted;
        match wanted.packet_type {
            PT_ETH => {
                self.actions.push(Action::PushEth { dst: wanted.dl_dst, src: wanted.dl_src });
                self.base.packet_type = wanted.packet_type;
                (self.base.dl_dst, self.base.dl_src) = (wanted.dl_dst, wanted.dl_src);
            }
            packet_type::NSH => {
                let md2 = if wanted.nsh.mdtype == nsh::MD2 { nsh_md2.to_vec() } else { Vec::new() };
                self.actions.push(Action::PushNsh(Box::new(NshHeader { key: wanted.nsh, md2 })));
                self.base.packet_type = wanted.packet_type;
                let headers = word::L2..word::TUNNEL;
                self.base.words_mut()[headers.clone()].copy_from_slice(&wanted.words()[headers]);
            }
            t if is_mpls_packet(t) => self.mpls(true),
            // Translation lets no other through.
            _ => {}
        }
    }

    fn decap(&mut self) {
        let becomes_l3 = self.wanted.packet_type >> 16 == 1;
        match self.base.packet_type {
            PT_ETH if becomes_l3 => {
                self.actions.push(Action::PopEth);
                self.base.packet_type = self.wanted.packet_type;
                (self.base.dl_dst, self.base.dl_src) = Default::default();
            }
            // After these the packet is parsed again, so the base need not follow.
            packet_type::NSH => self.actions.push(Action::PopNsh),
            t if is_mpls_packet(t) => self.mpls(false),
            _ => {}
        }
    }
}

fn slow_if(slow: bool) -> SlowPath {
    if slow { SlowPath::ACTION } else { SlowPath::empty() }
}

fn is_mpls_packet(packet_type: u32) -> bool {
    packet_type >> 16 == 1 && ethertype::is_mpls(packet_type as u16)
}

/// Protocol and fragment bits are part of the header, but no action can write them.
fn is_read_only(attr: Attr, f: &Field) -> bool {
    matches!(attr, Attr::Ipv4 | Attr::Ipv6) && matches!(f.name, "proto=" | "frag=")
}

fn is_traffic_class(f: &Field) -> bool {
    matches!(f.name, "tos=" | "tclass=")
}

fn masked_nsh(k: &Nsh, m: &Nsh) -> Nsh {
    let mut context = k.context;
    context.iter_mut().zip(m.context).for_each(|(c, m)| *c &= m);
    Nsh {
        flags: k.flags & m.flags,
        ttl: k.ttl & m.ttl,
        mdtype: k.mdtype & m.mdtype,
        np: k.np & m.np,
        path_hdr: k.path_hdr & m.path_hdr,
        context,
    }
}

#[cfg(test)]
#[path = "commit_stock_tests.rs"]
mod stock_tests;
#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
