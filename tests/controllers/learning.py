"""A learning switch of OpenFlow 1.3, with os-ken: what is learned becomes flows, and flows that go are told."""
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3


class Learning(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    def add(self, switch, priority, match, actions, **more):
        parser, ofp = switch.ofproto_parser, switch.ofproto
        apply = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)
        switch.send_msg(parser.OFPFlowMod(switch, priority=priority, match=match, instructions=[apply], **more))

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, event):
        switch = event.msg.datapath
        parser, ofp = switch.ofproto_parser, switch.ofproto
        to_us = parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)
        self.add(switch, 0, parser.OFPMatch(), [to_us])
        print(f"connected {switch.id:016x}", flush=True)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event):
        message = event.msg
        switch, port = message.datapath, message.match["in_port"]
        parser, ofp = switch.ofproto_parser, switch.ofproto
        frame = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        if self.ports.get(frame.src) != port:
            self.ports[frame.src] = port
            print(f"learned {frame.src} {port}", flush=True)
        out = self.ports.get(frame.dst, ofp.OFPP_FLOOD)
        actions = [parser.OFPActionOutput(out)]
        if out != ofp.OFPP_FLOOD:
            match = parser.OFPMatch(in_port=port, eth_dst=frame.dst, eth_src=frame.src)
            self.add(switch, 1, match, actions, idle_timeout=2, flags=ofp.OFPFF_SEND_FLOW_REM)
        switch.send_msg(parser.OFPPacketOut(
            switch, buffer_id=ofp.OFP_NO_BUFFER, in_port=port, actions=actions, data=message.data))

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def flow_removed(self, event):
        message = event.msg
        print(f"removed {message.match['eth_dst']} {message.packet_count} reason {message.reason}", flush=True)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def port_status(self, event):
        port = event.msg.desc
        print(f"port {port.name.decode()} reason {event.msg.reason} state {port.state}", flush=True)
