//! `ct`, `nat` and `ct_clear`: connection tracking (ovs-actions(7)).

use super::ctx::Ctx;
use super::trace::NodeKind;
use crate::ids::OfPort;
use dpif::{Action, Ct, Nat, NatAddr, NatDirection};
use flow::{Flow, Mask, U128};
use openflow::action::{self as of, AddrRange, CtFlags, CtZone, NatFlags, alg};
use packet::header::Masked;

/// A packet that comes back from connection tracking, for a trace that follows it.
#[derive(Clone, Debug)]
pub struct CtRecirc {
    pub id: u32,
    /// The packet as it went there, without what is found out there.
    pub flow: Flow,
    pub nat: Option<of::Nat>,
}

impl Ctx<'_> {
    /// `ct`: the tracker sees the packet; a clone of it comes back if a table is given.
    pub fn ct(&mut self, a: &of::Ct) {
        let zone = self.ct_zone(&a.zone);
        // What was done so far comes first.
        self.commit();
        self.ct_nat = None;
        let looked_at = (self.wc.ct_mark, self.wc.ct_label);
        (self.wc.ct_mark, self.wc.ct_label) = (0, U128::ZERO);
        self.list(&a.actions);
        let nat = self.ct_nat.take();
        let (mark, label) = (self.wc.ct_mark, self.wc.ct_label);
        (self.wc.ct_mark, self.wc.ct_label) = looked_at;
        let commit = a.flags.contains(CtFlags::COMMIT);
        let label = Masked { key: self.flow.ct_label, mask: label };
        let ct = Ct {
            zone,
            commit,
            force: a.flags.contains(CtFlags::FORCE),
            mark: (mark != 0).then_some(Masked { key: self.flow.ct_mark & mark, mask: mark }),
            label: (label.mask != U128::ZERO).then(|| within(label)),
            helper: self.helper(a.alg),
            timeout: self.ct_timeout(zone).filter(|_| commit),
            nat: nat.as_ref().map(datapath_nat),
            eventmask: None,
        };
        self.actions.push(Action::Ct(Box::new(ct)));
        if let Some(table) = a.recirc_table {
            self.conntracked = true;
            self.fork(table, zone, nat);
        }
        clear(&mut self.flow);
        self.detail("Sets the packet to an untracked state, and clears all the conntrack fields.");
        self.conntracked = false;
    }

    /// `ct_clear`: as if the packet had never been tracked.
    pub fn ct_clear(&mut self) {
        self.conntracked = false;
        clear(&mut self.flow);
        self.actions.push(Action::CtClear);
    }

    fn ct_zone(&mut self, zone: &CtZone) -> u16 {
        match zone {
            CtZone::Immediate(zone) => *zone,
            CtZone::Field(src) => {
                let value = src.read_u64(&self.flow, &self.switch.tlv);
                src.unwildcard(&mut self.wc, &self.switch.tlv);
                value as u16
            }
        }
    }

    fn helper(&mut self, port: u16) -> Option<String> {
        match port {
            alg::NONE => None,
            alg::FTP => Some("ftp".to_owned()),
            alg::TFTP => Some("tftp".to_owned()),
            other => {
                self.report(NodeKind::Error, || format!("cannot serialize ct_helper {other}"));
                None
            }
        }
    }

    /// The timeout policy of a zone (`CT_Zone.timeout_policy`).
    fn ct_timeout(&self, zone: u16) -> Option<String> {
        const WITH_POLICY: [u8; 4] = [1, 6, 17, 58];
        let policy = self.state.ct_policies.get(&zone)?;
        // As in the stock daemon, the megaflow may be for other protocols as well: each has its timeouts in
        // every policy.
        WITH_POLICY.contains(&self.flow.nw_proto).then(|| policy.to_string())
    }

    /// A clone of the packet goes round and on in `table`.
    fn fork(&mut self, table: u8, zone: u16, nat: Option<of::Nat>) {
        let frozen = self.freeze(table, Vec::new(), &[]);
        let Some(id) = self.intern(frozen) else { return };
        self.actions.push(Action::Recirc(id));
        if self.trace.is_some() {
            let flow = Flow { recirc_id: id, ct_zone: zone, ..self.flow.clone() };
            self.ct_recircs.push(CtRecirc { id, flow, nat });
            self.detail(&format!(
                "A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table \
                 {table}."
            ));
        }
    }

    /// `resubmit(,table,ct)`: looks up with the connection's original tuple in the place of the packet's.
    pub fn resubmit_ct(&mut self, port: OfPort, table: u8) {
        if self.flow.ct_nw_proto == 0 || !self.flow.is_ip_any() {
            self.report(NodeKind::Error, || "resubmit(ct) with non-tracked or non-IP packet!".to_owned());
            return;
        }
        self.table_action_as(port, table, false, swap_tuples);
    }
}

/// Exchanges the packet's addresses, protocol and ports for those of the connection's original direction.
fn swap_tuples(flow: &mut Flow, mask: &mut Mask) {
    let is_v4 = flow.is_ip();
    for f in [flow, &mut mask.0] {
        std::mem::swap(&mut f.nw_proto, &mut f.ct_nw_proto);
        std::mem::swap(&mut f.tp_src, &mut f.ct_tp_src);
        std::mem::swap(&mut f.tp_dst, &mut f.ct_tp_dst);
        if is_v4 {
            std::mem::swap(&mut f.nw_src, &mut f.ct_nw_src);
            std::mem::swap(&mut f.nw_dst, &mut f.ct_nw_dst);
        } else {
            std::mem::swap(&mut f.ipv6_src, &mut f.ct_ipv6_src);
            std::mem::swap(&mut f.ipv6_dst, &mut f.ct_ipv6_dst);
        }
    }
}

fn within(m: Masked<U128>) -> Masked<U128> {
    Masked { key: U128 { hi: m.key.hi & m.mask.hi, lo: m.key.lo & m.mask.lo }, ..m }
}

/// Forgets what connection tracking said.
pub fn clear(f: &mut Flow) {
    (f.ct_state, f.ct_zone, f.ct_mark, f.ct_label) = (0, 0, 0, U128::ZERO);
    (f.ct_nw_proto, f.ct_tp_src, f.ct_tp_dst) = (0, 0, 0);
    if f.is_ip() {
        (f.ct_nw_src, f.ct_nw_dst) = (0, 0);
    } else {
        (f.ct_ipv6_src, f.ct_ipv6_dst) = (U128::ZERO, U128::ZERO);
    }
}

/// A range without a last element, or with one that is not behind the first, is the first alone.
fn datapath_nat(nat: &of::Nat) -> Nat {
    let direction = match nat.flags {
        f if f.contains(NatFlags::SRC) => Some(NatDirection::Src),
        f if f.contains(NatFlags::DST) => Some(NatDirection::Dst),
        _ => return Nat::default(),
    };
    let addr = nat.addr.map(|range| match range {
        AddrRange::V4(min, max) => {
            let max = if max > min { max } else { min };
            (NatAddr::V4(min.into()), NatAddr::V4(max.into()))
        }
        AddrRange::V6(min, max) => {
            let max = if max > min { max } else { min };
            let v6 = |a: std::net::Ipv6Addr| NatAddr::V6(u128::from(a).into());
            (v6(min), v6(max))
        }
    });
    let ports =
        (addr.is_some() && nat.port_min != 0).then_some((nat.port_min, nat.port_max.max(nat.port_min)));
    let hash = nat.flags.contains(NatFlags::PROTO_HASH);
    Nat {
        direction,
        addr,
        ports,
        persistent: nat.flags.contains(NatFlags::PERSISTENT),
        hash,
        random: !hash && nat.flags.contains(NatFlags::PROTO_RANDOM),
    }
}
