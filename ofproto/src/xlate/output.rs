//! Getting rid of a packet: ports, patch cables, flooding, the controller.

use super::ctx::Ctx;
use super::trace::NodeKind;
use crate::effects::Effect;
use crate::ids::{OfPort, in_port};
use crate::port::{Attachment, Port, PortConfig};
use crate::switch::Switch;
use dpif::{Action, ControllerUserdata, DropReason, Userdata, Userspace};
use dpif::{CommitOptions, commit};
use flow::U128;
use openflow::action::{Controller, reason};
use packet::proto::ethertype;

/// The DSCP's bits of an IP header's type of service or traffic class (RFC 2474).
const DSCP_MASK: u8 = 0xfc;

impl<'a> Ctx<'a> {
    /// The `output` action.
    pub fn output(&mut self, port: OfPort, max_len: u16) {
        match port {
            OfPort::IN_PORT => self.send_to_port(in_port(&self.flow)),
            OfPort::TABLE => self.table_action(in_port(&self.flow), 0, true),
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(|p| !p.config.contains(PortConfig::NO_FLOOD)),
            OfPort::ALL => self.flood(|_| true),
            OfPort::CONTROLLER => {
                let why = if self.is_packet_out {
                    reason::PACKET_OUT
                } else if self.in_group {
                    reason::GROUP
                } else if self.in_action_set {
                    reason::ACTION_SET
                } else {
                    reason::ACTION
                };
                let to = Controller { max_len, reason: why, ..Controller::default() };
                self.controller(&to);
            }
            OfPort::NONE => {}
            _ if port == in_port(&self.flow) => self.warn("skipping output to input port"),
            _ => self.send_to_port(port),
        }
    }

    /// Every port but the input port for which `pick` holds.
    fn flood(&mut self, pick: impl Fn(&Port) -> bool) {
        let from = in_port(&self.flow);
        let switch = self.switch;
        for port in switch.ports.values().filter(|p| p.no != from && pick(p)) {
            self.send_to_port(port.no);
        }
    }

    /// Sends the packet out of `no` as it is now.
    pub fn send_to_port(&mut self, no: OfPort) {
        let Some(port) = self.switch.port(no) else {
            self.warn("Nonexistent output port");
            return;
        };
        if port.config.contains(PortConfig::NO_FWD) {
            self.detail("OFPPC_NO_FWD set, skipping output");
            return;
        }
        if !self.takes_packet(port) {
            return;
        }
        match &port.attachment {
            Attachment::Patch { .. } => self.cross_patch(port),
            Attachment::Datapath(dp_port) => {
                let tos = self.mark_queue(port);
                self.commit();
                self.flow.nw_tos = tos;
                if let Some(tunnel) = self.terminate(port) {
                    self.actions.push(Action::TunnelPop(tunnel));
                } else {
                    if let Some(max) = self.trunc {
                        self.actions.push(Action::Trunc(max));
                    }
                    self.actions.push(Action::Output(*dp_port));
                }
                self.mirror_egress(port.bundle);
            }
            Attachment::Tunnel { port: dp_port, config } => {
                let tos = self.mark_queue(port);
                self.send_to_tunnel(port, *dp_port, config);
                self.flow.nw_tos = tos;
                self.mirror_egress(port.bundle);
            }
            Attachment::None => self.detail("output port has no device"),
        }
    }

    /// Gives an IP packet the DSCP of its queue at `port`; returns the former one, which it has again behind the port.
    fn mark_queue(&mut self, port: &Port) -> u8 {
        let former = self.flow.nw_tos;
        if !port.queue_dscp.is_empty() {
            self.wc.skb_priority = u32::MAX;
            let dscp = port.queue_dscp.get(&self.flow.skb_priority);
            if let Some(dscp) =
                dscp.filter(|_| matches!(self.flow.dl_type, ethertype::IPV4 | ethertype::IPV6))
            {
                self.wc.nw_tos |= DSCP_MASK;
                self.flow.nw_tos = (former & !DSCP_MASK) | (dscp << 2 & DSCP_MASK);
            }
        }
        former
    }

    /// Puts the packet into the switch at the other end of a patch cable.
    fn cross_patch(&mut self, port: &Port) {
        let Some((switch, peer)) = self.state.patch_peer(port) else {
            return;
        };
        let patch = Effect::Patch { from: port.virtual_stats.clone(), to: peer.virtual_stats.clone() };
        self.effects.push(patch);
        self.cross_to(switch, peer.no);
    }

    /// Goes on in another switch as if the packet had come in there by `port`; then all is as it was.
    pub fn cross_to(&mut self, switch: &'a Switch, port: OfPort) {
        if !self.may_descend() {
            return;
        }
        let here = self.switch;
        let flow = self.flow.clone();
        let stack = std::mem::take(&mut self.stack);
        let stack_bytes = std::mem::take(&mut self.stack_bytes);
        let action_set = std::mem::take(&mut self.action_set);
        let place = (self.table, self.rule.take(), self.rule_cookie);
        // What is mirrored there is mirrored apart from here.
        let mirrors = self.mirrors;
        if switch.id != here.id {
            self.mirrors = 0;
        }
        let tunnel_mask = std::mem::take(&mut self.wc.tunnel);
        let marks = (self.was_mpls, self.conntracked, self.in_action_set, self.in_group);

        self.switch = switch;
        self.enter_peer(port);
        self.report(NodeKind::Bridge, || format!("bridge(\"{}\")", switch.name));
        self.below(|cx| {
            cx.patches += 1;
            if !cx.special() {
                cx.enter_pipeline(|cx, actions| cx.list_on_copy(actions));
                cx.finish_pipeline();
            }
            cx.patches -= 1;
        });

        if self.switch.id != here.id {
            self.mirrors = mirrors;
        }
        self.switch = here;
        self.flow = flow;
        (self.stack, self.stack_bytes, self.action_set) = (stack, stack_bytes, action_set);
        (self.table, self.rule, self.rule_cookie) = place;
        (self.was_mpls, self.conntracked, self.in_action_set, self.in_group) = marks;
        self.wc.tunnel = tunnel_mask;
        // What stops there, by error or otherwise, does not stop here.
        (self.exit, self.freezing, self.error) = (false, None, DropReason::Ok);
    }

    /// The packet as it appears behind a patch cable: its fields stay, its context does not.
    fn enter_peer(&mut self, port: OfPort) {
        let f = &mut self.flow;
        f.in_port = u32::from(port.0);
        f.metadata = 0;
        f.regs = Default::default();
        f.tunnel = Default::default();
        f.actset_output = u32::from(OfPort::UNSET.0);
        f.conj_id = 0;
        (f.ct_state, f.ct_zone, f.ct_mark, f.ct_label) = (0, 0, 0, U128::ZERO);
        (f.ct_nw_proto, f.ct_nw_src, f.ct_nw_dst, f.ct_tp_src, f.ct_tp_dst) = (0, 0, 0, 0, 0);
        (f.ct_ipv6_src, f.ct_ipv6_dst) = (U128::ZERO, U128::ZERO);
        (self.exit, self.conntracked, self.in_action_set, self.in_group) = (false, false, false, false);
    }

    /// Makes the datapath's packet equal to ours.
    pub fn commit(&mut self) {
        let md2 = std::mem::take(&mut self.nsh_md2);
        let options = CommitOptions {
            encap: std::mem::take(&mut self.pending_encap),
            decap: std::mem::take(&mut self.pending_decap),
            nsh_md2: &md2,
            ..CommitOptions::default()
        };
        let slow = commit(&self.flow, &mut self.base, &mut self.wc, &mut self.actions, &options);
        self.slow |= slow;
    }

    /// The `controller` action: the datapath sends the packet up with a note.
    pub fn controller(&mut self, to: &Controller) {
        if to.pause {
            self.freeze_for_controller(to);
            return;
        }
        let mut why = to.reason;
        // OpenFlow 1.3 and later: a table-miss entry's packets have a reason of their own.
        if why == reason::ACTION && self.is_table_miss_rule() {
            why = reason::EXPLICIT_MISS;
        }
        self.commit();
        let mut frozen = self.freeze(self.table, Vec::new(), &to.userdata);
        frozen.action_set = Vec::new();
        let Some(recirc_id) = self.intern(frozen) else { return };
        let up = self.to_controller(to, why, recirc_id);
        self.metered(self.controller_meter(to), up);
    }

    /// `controller(pause)`: the packet stays with the controller until that resumes it.
    pub fn pause(&mut self, to: &Controller, actions: Vec<openflow::action::Action>) {
        let frozen = self.freeze(0, actions, &to.userdata);
        let Some(recirc_id) = self.intern(frozen) else { return };
        if self.trace.is_none() || self.has_packet {
            let up = self.to_controller(to, to.reason, recirc_id);
            self.actions.push(up);
        }
    }

    fn to_controller(&self, to: &Controller, reason: u8, recirc_id: u32) -> Action {
        let note = ControllerUserdata {
            reason,
            // A trace without a packet of its own has nothing to send.
            dont_send: self.trace.is_some() && !self.has_packet && !to.pause,
            continuation: to.pause,
            recirc_id,
            rule_cookie: self.rule_cookie,
            controller_id: to.controller_id,
            max_len: to.max_len,
            bridge: u64::from(self.switch.id.0),
        };
        let userdata = Userdata::Controller(Box::new(note));
        Action::Userspace(Userspace { userdata, egress_tunnel_port: None, wants_actions: false })
    }

    /// A table-miss entry matches everything with priority 0 (OpenFlow 1.3, 5.4).
    fn is_table_miss_rule(&self) -> bool {
        self.rule.as_ref().is_some_and(|r| r.priority == 0 && r.matching.is_catchall())
    }

    /// The TTL ran out: tells those who asked for it and ends the pipeline.
    pub fn ttl_expired(&mut self, controllers: &[u16]) {
        let version = if self.flow.dl_type == 0x0800 { 4 } else { 6 };
        self.report(NodeKind::Warning, || format!("IPv{version} decrement TTL exception"));
        for id in controllers {
            let to = Controller {
                max_len: u16::MAX,
                reason: reason::INVALID_TTL,
                controller_id: *id,
                ..Controller::default()
            };
            self.controller(&to);
        }
        self.end_list = true;
    }
}
