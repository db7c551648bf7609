//! One arm per OpenFlow action.

use super::ctx::{Ctx, STACK_BYTES_MAX};
use super::mpls;
use super::trace::NodeKind;
use super::vlan;
use crate::effects::Effect;
use crate::ids::{OfPort, in_port};
use crate::text;
use dpif::DropReason;
use flow::{Field, Subfield, VLAN_CFI, VLANS_MAX, Vlan};
use openflow::action::{self, Action, DecTtl, SetField};

/// IP protocols whose ports can be set.
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const PCP_MASK: u16 = 0xe000;

impl Ctx<'_> {
    /// Runs a list of actions until it ends or something stops it.
    pub fn list(&mut self, actions: &[Action]) {
        if actions.is_empty() {
            self.report(NodeKind::Action, || "drop".to_owned());
        }
        let outer_last = self.last;
        for (i, a) in actions.iter().enumerate() {
            if self.error != DropReason::Ok {
                break;
            }
            self.recirculate_behind_mpls(a);
            let rest = actions.get(i + 1..).unwrap_or_default();
            if self.exit {
                self.keep(&actions[i..]);
                break;
            }
            self.report(NodeKind::Action, || text::action(a));
            self.last = outer_last && rest.is_empty() && self.action_set.is_empty();
            self.action(a, rest);
            if std::mem::take(&mut self.end_list) {
                break;
            }
            // What a table's actions froze comes back behind this action.
            if matches!(a, Action::Resubmit(_) | Action::GotoTable(_)) {
                continue;
            }
            if self.error == DropReason::Ok
                && let Some(from) = self.frozen_from(i)
            {
                self.keep(actions.get(from..).unwrap_or_default());
                break;
            }
        }
        self.last = outer_last;
    }

    /// The action set, in the order that OpenFlow prescribes.
    pub fn run_action_set(&mut self) {
        if self.action_set.is_empty() {
            return;
        }
        let list = action::set::execution_order(&std::mem::take(&mut self.action_set));
        if list.is_empty() {
            return;
        }
        self.in_action_set = true;
        self.report(NodeKind::Table, || "--. Executing action set:".to_owned());
        let last = std::mem::replace(&mut self.last, true);
        self.below(|cx| cx.list(&list));
        self.last = last;
        self.in_action_set = false;
    }

    /// `rest` is what follows in the list: what a freezing action has to keep.
    #[allow(clippy::too_many_lines)] // one line per action: the dispatch itself
    fn action(&mut self, action: &Action, rest: &[Action]) {
        match action {
            Action::Output(a) => self.output(a.port, a.max_len),
            Action::OutputTrunc(a) => {
                self.trunc = Some(a.max_len);
                self.output(a.port, u16::try_from(a.max_len).unwrap_or(u16::MAX));
                self.trunc = None;
            }
            Action::OutputReg(a) => self.output_reg(&a.src, a.max_len),
            Action::Enqueue(a) => self.enqueue(a.port, a.queue),
            Action::Controller(a) => self.controller(a),
            Action::Bundle(a) => self.bundle(a),
            Action::Multipath(a) => self.multipath(a),
            Action::SetField(a) => self.set_field(a),
            Action::Move(a) => self.copy_field(&a.src, &a.dst),
            Action::StackPush(a) => self.push(&a.src),
            Action::StackPop(a) => self.pop(&a.dst),
            Action::SetVlanVid(a) => self.set_vlan(a.vid, 0x0fff, a.push_if_needed),
            Action::SetVlanPcp(a) => self.set_vlan(u16::from(a.pcp) << 13, PCP_MASK, a.push_if_needed),
            Action::StripVlan(_) => self.pop_vlan(),
            Action::PushVlan(a) => self.push_vlan(a.ethertype),
            Action::SetEthSrc(a) => self.set_u64(Field::EthSrc, a.addr.to_u64()),
            Action::SetEthDst(a) => self.set_u64(Field::EthDst, a.addr.to_u64()),
            Action::SetIpv4Src(a) => self.set_u64(Field::Ipv4Src, u32::from(a.addr).into()),
            Action::SetIpv4Dst(a) => self.set_u64(Field::Ipv4Dst, u32::from(a.addr).into()),
            Action::SetIpDscp(a) => self.set_tos(a.dscp, 0xfc),
            Action::SetIpEcn(a) => self.set_tos(a.ecn, 0x03),
            Action::SetIpTtl(a) => self.set_u64(Field::IpTtl, a.ttl.into()),
            Action::SetL4SrcPort(a) => self.set_l4_port(true, a.port),
            Action::SetL4DstPort(a) => self.set_l4_port(false, a.port),
            Action::DecTtl(a) => self.dec_ttl(a),
            Action::SetTunnel(a) => self.flow.tunnel.id = a.tun_id,
            Action::SetQueue(a) => self.set_queue(a.queue_id),
            Action::PopQueue(_) => self.flow.skb_priority = self.original.skb_priority,
            Action::Resubmit(a) => self.resubmit(a),
            Action::Learn(a) => self.learn(a),
            Action::FinTimeout(a) => self.fin_timeout(a.idle_timeout, a.hard_timeout),
            Action::Exit(_) => self.exit = true,
            Action::Clone(a) => self.list_on_copy(&a.actions),
            Action::DeleteField(a) => self.delete_field(a.field),
            Action::ClearActions(_) => self.clear_action_set(),
            Action::WriteActions(a) => self.write_actions(&a.actions),
            Action::WriteMetadata(a) => {
                self.wc.metadata |= a.mask;
                self.flow.metadata = (self.flow.metadata & !a.mask) | (a.metadata & a.mask);
            }
            Action::Ct(a) => self.ct(a),
            Action::CtClear(_) => self.ct_clear(),
            Action::Nat(a) => self.ct_nat = Some(**a),
            Action::GotoTable(a) => self.table_action(in_port(&self.flow), a.table_id, true),
            // They say something about the rule, not about the packet.
            Action::Note(_) | Action::Conjunction(_) => {}
            Action::Group(a) => self.group(a.group_id),
            Action::PushMpls(a) => self.push_mpls(a.ethertype),
            Action::PopMpls(a) => self.pop_mpls(a.ethertype),
            Action::SetMplsLabel(a) => self.set_mpls(mpls::LABEL, a.label),
            Action::SetMplsTc(a) => self.set_mpls(mpls::TC, a.tc.into()),
            Action::SetMplsTtl(a) => self.set_mpls(mpls::TTL, a.ttl.into()),
            Action::DecMplsTtl(_) => self.dec_mpls_ttl(),
            Action::DecNshTtl(_) => self.dec_nsh_ttl(),
            Action::Encap(a) => self.encap(a),
            Action::Decap(a) => self.decap(a),
            Action::Meter(a) => self.meter(a.meter_id),
            Action::Sample(a) => self.sample(a),
            Action::CheckPktLarger(a) => self.check_pkt_larger(a, rest),
            Action::UnrollXlate(a) => self.unroll(a),
            Action::DebugRecirc(_) => self.freeze_behind(),
            Action::DebugSlow(_) => self.slow |= dpif::SlowPath::ACTION,
        }
    }

    fn output_reg(&mut self, src: &Subfield, max_len: u16) {
        let port = src.read_u64(&self.flow, &self.switch.tlv);
        src.unwildcard(&mut self.wc, &self.switch.tlv);
        match u16::try_from(port) {
            Ok(no) => {
                self.detail(&format!("output port is {no}"));
                self.output(OfPort(no), max_len);
            }
            Err(_) => self.report(NodeKind::Warning, || format!("output port {port} is out of range")),
        }
    }

    fn enqueue(&mut self, port: OfPort, queue: u32) {
        let before = self.flow.skb_priority;
        self.flow.skb_priority = queue;
        let port = if port == OfPort::IN_PORT { in_port(&self.flow) } else { port };
        if port == in_port(&self.flow) {
            self.detail("skipping output to input port");
        } else {
            self.send_to_port(port);
        }
        self.flow.skb_priority = before;
    }

    fn set_queue(&mut self, queue: u32) {
        self.flow.skb_priority = queue;
    }

    fn set_field(&mut self, a: &SetField) {
        let field = a.field();
        // Setting VLAN bits of an untagged packet would invent a tag.
        if matches!(field, Field::VlanVid | Field::VlanPcp) && !self.flow.vlans[0].is_present() {
            self.wc.0.vlans[0].tci |= VLAN_CFI;
            return;
        }
        if !field.check_prereqs(&self.flow, &mut self.wc) {
            self.warn(&format!("unmet prerequisites for {}, set_field ignored", field.name()));
            return;
        }
        let (value, mask) = (a.to_value(), a.to_mask());
        field.unwildcard_bits_in(&mut self.wc, &mask, &self.switch.tlv);
        field.set_masked_in(&mut self.flow, &value, &mask, &self.switch.tlv);
    }

    fn set_u64(&mut self, field: Field, value: u64) {
        if field.check_prereqs(&self.flow, &mut self.wc) {
            field.unwildcard(&mut self.wc);
            field.set_u64(&mut self.flow, value);
        }
    }

    fn set_tos(&mut self, bits: u8, mask: u8) {
        if self.flow.is_ip_any() {
            self.wc.nw_tos |= mask;
            self.flow.nw_tos = (self.flow.nw_tos & !mask) | (bits & mask);
        }
    }

    fn set_l4_port(&mut self, is_src: bool, port: u16) {
        let f = &mut self.flow;
        if !f.is_ip_any() || f.nw_frag & flow::NW_FRAG_LATER != 0 {
            return;
        }
        self.wc.nw_proto = 0xff;
        if !matches!(f.nw_proto, TCP | UDP | SCTP) {
            return;
        }
        let (value, mask) = if is_src {
            (&mut f.tp_src, &mut self.wc.0.tp_src)
        } else {
            (&mut f.tp_dst, &mut self.wc.0.tp_dst)
        };
        *value = port;
        *mask = u16::MAX;
    }

    fn copy_field(&mut self, src: &Subfield, dst: &Subfield) {
        src.copy_to(dst, &mut self.flow, &mut self.wc, &self.switch.tlv);
        self.report_subfield(dst);
    }

    fn push(&mut self, src: &Subfield) {
        src.unwildcard(&mut self.wc, &self.switch.tlv);
        let value = src.read(&self.flow, &self.switch.tlv);
        self.stack_bytes += value.len();
        if self.stack_bytes > STACK_BYTES_MAX {
            self.fail(DropReason::StackTooDeep, "stack overflow");
            return;
        }
        self.stack.push(value);
    }

    fn pop(&mut self, dst: &Subfield) {
        let Some(value) = self.stack.pop() else {
            self.report(NodeKind::Warning, || "attempted to pop from an empty stack".to_owned());
            return;
        };
        self.stack_bytes -= value.len();
        if dst.field.check_prereqs(&self.flow, &mut self.wc) {
            dst.unwildcard(&mut self.wc, &self.switch.tlv);
            dst.write(&mut self.flow, &value, &self.switch.tlv);
            self.report_subfield(dst);
        }
    }

    /// Shows what a subfield has become.
    pub fn report_subfield(&mut self, sf: &Subfield) {
        let value = sf.read(&self.flow, &self.switch.tlv);
        self.report(NodeKind::Detail, || text::subfield_is(sf, &value));
    }

    /// Sets bits of the outer tag; adds a tag to an untagged packet if `push`.
    fn set_vlan(&mut self, bits: u16, mask: u16, push: bool) {
        let tag = &mut self.flow.vlans[0];
        self.wc.0.vlans[0].tci |= VLAN_CFI;
        if !tag.is_present() && !push {
            return;
        }
        self.wc.0.vlans[0].tci |= mask;
        if !tag.is_present() {
            tag.tpid = vlan::ETH_TYPE_VLAN;
        }
        tag.tci = (tag.tci & !mask) | bits | VLAN_CFI;
    }

    fn pop_vlan(&mut self) {
        self.wc.0.vlans[0].tci |= VLAN_CFI;
        if self.flow.vlans[0].is_present() {
            self.flow.vlans.rotate_left(1);
            self.flow.vlans[VLANS_MAX - 1] = Vlan::default();
        }
    }

    fn push_vlan(&mut self, ethertype: u16) {
        self.flow.vlans.rotate_right(1);
        self.flow.vlans[0] = Vlan { tpid: ethertype, tci: VLAN_CFI };
        self.wc.0.vlans = [Vlan { tpid: u16::MAX, tci: u16::MAX }; VLANS_MAX];
    }

    fn dec_ttl(&mut self, a: &DecTtl) {
        if !self.flow.is_ip_any() {
            return;
        }
        self.wc.nw_ttl = 0xff;
        if self.flow.nw_ttl > 1 {
            self.flow.nw_ttl -= 1;
        } else {
            self.ttl_expired(a.controller_ids());
        }
    }

    fn resubmit(&mut self, a: &action::Resubmit) {
        let port = if a.in_port == OfPort::IN_PORT { in_port(&self.flow) } else { a.in_port };
        let table = if a.table_id == action::Resubmit::SAME_TABLE { self.table } else { a.table_id };
        match a.with_ct_orig {
            true => self.resubmit_ct(port, table),
            false => self.table_action(port, table, false),
        }
    }

    fn learn(&mut self, a: &action::Learn) {
        let flow = crate::learn::instantiate(a, &self.flow, &mut self.wc, &self.switch.tlv);
        if self.trace.is_some() && !self.has_packet {
            self.warn("suppressing side effects, so learn action ignored");
            return;
        }
        self.report(NodeKind::Detail, || text::learned(&flow.change));
        let learned = flow.is_admitted(self.switch);
        // Whether there is room depends on more than the packet: only what is learned already may be cached.
        self.volatile |= flow.limit != 0 && !self.has_packet && !flow.exists(self.switch);
        if let Some(dst) = &a.result_dst {
            dst.unwildcard(&mut self.wc, &self.switch.tlv);
            dst.write_u64(&mut self.flow, learned.into(), &self.switch.tlv);
            self.report_subfield(dst);
        }
        if !learned {
            self.detail("Limit exceeded, learn failed");
            return;
        }
        if flow.changes(self.switch) {
            self.lessons.note(self.switch.id, a.table_id);
        }
        self.effects.push(Effect::Learn { switch: self.switch.id, flow: flow.into() });
    }

    fn fin_timeout(&mut self, idle_s: u16, hard_s: u16) {
        if self.flow.is_ip_any() && self.flow.nw_proto == TCP {
            self.wc.nw_proto = 0xff;
            if let Some(rule) = self.rule.clone() {
                let switch = self.switch.id;
                self.effects.push(Effect::FinTimeout { switch, rule, idle_s, hard_s });
            }
        }
    }

    fn delete_field(&mut self, field: Field) {
        if let Some(i) = field.tlv_index() {
            self.switch.tlv.delete(&mut self.flow.tunnel, i);
        }
        self.report(NodeKind::Detail, || format!("delete {}", field.name()));
    }

    /// Adds to the action set; the port that it would output to is a field.
    fn write_actions(&mut self, actions: &[Action]) {
        self.action_set.extend_from_slice(actions);
        self.set_actset_output();
        self.report_action_set("is");
    }

    /// Sets the field that says what port the action set would output to.
    pub fn set_actset_output(&mut self) {
        let has_group = self.action_set.iter().any(|a| matches!(a, Action::Group(_)));
        let output = |a: &Action| if let Action::Output(o) = a { Some(o.port) } else { None };
        let last = self.action_set.iter().rev().find_map(output);
        let port = last.filter(|_| !has_group).unwrap_or(OfPort::UNSET);
        self.flow.actset_output = port.0.into();
    }

    fn report_action_set(&mut self, verb: &str) {
        let list = action::set::execution_order(&self.action_set);
        self.report(NodeKind::Detail, || match list.is_empty() {
            true => format!("action set {verb} empty"),
            false => format!("action set {verb}: {}", text::actions(&list)),
        });
    }

    fn clear_action_set(&mut self) {
        self.report_action_set("was");
        self.action_set.clear();
        self.flow.actset_output = u32::from(OfPort::UNSET.0);
    }
}
