"""A controller whose switch forwards as usual, but packets from port 1 only as fast as a meter of 2 Mbit/s lets them."""
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3


class Metered(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, event):
        switch = event.msg.datapath
        parser, ofp = switch.ofproto_parser, switch.ofproto
        band = parser.OFPMeterBandDrop(rate=2000, burst_size=200)
        flags = ofp.OFPMF_KBPS | ofp.OFPMF_BURST | ofp.OFPMF_STATS
        switch.send_msg(parser.OFPMeterMod(switch, ofp.OFPMC_ADD, flags, 1, [band]))
        forward = parser.OFPInstructionActions(
            ofp.OFPIT_APPLY_ACTIONS, [parser.OFPActionOutput(ofp.OFPP_NORMAL)])
        switch.send_msg(parser.OFPFlowMod(switch, priority=0, instructions=[forward]))
        match = parser.OFPMatch(in_port=1)
        metered = [parser.OFPInstructionMeter(1), forward]
        switch.send_msg(parser.OFPFlowMod(switch, priority=1, match=match, instructions=metered))
        hub.spawn(self.watch, switch)

    def watch(self, switch):
        parser = switch.ofproto_parser
        while True:
            hub.sleep(0.5)
            switch.send_msg(parser.OFPMeterStatsRequest(switch, 0, 1))

    @set_ev_cls(ofp_event.EventOFPMeterStatsReply, MAIN_DISPATCHER)
    def counted(self, event):
        stats = event.msg.body[0]
        dropped = stats.band_stats[0].packet_band_count
        print(f"meter in {stats.packet_in_count} dropped {dropped}", flush=True)
