"""A controller that has every packet sent to it and counts them: `packet-ins N different M` whenever that changed."""
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3


class Counting(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count, self.sources = 0, set()
        hub.spawn(self.report)

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, event):
        switch = event.msg.datapath
        parser, ofp = switch.ofproto_parser, switch.ofproto
        to_us = [parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)]
        apply = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, to_us)
        switch.send_msg(parser.OFPFlowMod(switch, priority=0, instructions=[apply]))
        print("connected", flush=True)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event):
        self.count += 1
        self.sources.add(bytes(event.msg.data[6:12]))

    def report(self):
        said = 0
        while True:
            hub.sleep(0.1)
            if said != self.count:
                said = self.count
                print(f"packet-ins {said} different {len(self.sources)}", flush=True)
