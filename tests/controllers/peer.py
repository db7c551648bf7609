"""What the controllers of these tests share: requests that wait for their answers, and checks that report.

Written for os-ken's OpenFlow 1.3. A check is a function of a `Peer`; it fails by an exception. Each gives one line on
standard output, `ok NAME` or `FAILED NAME: why`, and the process ends with status 0 if all are `ok`.
"""
import os
import sys
import traceback

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3

PATIENCE = 20
REPLIES = [
    "BarrierReply", "EchoReply", "GetConfigReply", "QueueGetConfigReply", "RoleReply", "GetAsyncReply",
    "DescStatsReply", "FlowStatsReply", "AggregateStatsReply", "TableStatsReply", "PortStatsReply", "QueueStatsReply",
    "GroupStatsReply", "GroupDescStatsReply", "GroupFeaturesStatsReply", "MeterStatsReply", "MeterConfigStatsReply",
    "MeterFeaturesStatsReply", "TableFeaturesStatsReply", "PortDescStatsReply", "ErrorMsg"]
EVENTS = ["PacketIn", "FlowRemoved", "PortStatus"]


def say(line):
    print(line, flush=True)


def events(names):
    return [getattr(ofp_event, "EventOFP" + name) for name in names]


class Refused(Exception):
    """The switch answered with an error."""

    def __init__(self, message):
        super().__init__(f"type {message.type} code {message.code}")
        self.type, self.code, self.data = message.type, message.code, message.data


class Peer(app_manager.OSKenApp):
    """A controller that runs the checks of its subclass once, with the first switch that connects."""

    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]
    CHECKS = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.waiting, self.seen, self.switch = {}, {name: [] for name in EVENTS}, None

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, event):
        self.features = event.msg
        if self.switch is None:
            self.switch = event.msg.datapath
            self.ofp, self.parser = self.switch.ofproto, self.switch.ofproto_parser
            hub.spawn(self.work)

    @set_ev_cls(events(REPLIES), MAIN_DISPATCHER)
    def answered(self, event):
        queue = self.waiting.get(event.msg.xid)
        if queue is not None:
            queue.put(event.msg)

    @set_ev_cls(events(EVENTS), MAIN_DISPATCHER)
    def told(self, event):
        self.seen[type(event).__name__.removeprefix("EventOFP")].append(event.msg)

    def work(self):
        hub.sleep(0.5)
        failed = 0
        for check in self.CHECKS:
            try:
                check(self)
                say(f"ok {check.__name__}")
            except Exception as why:  # whatever it is, the others are to run
                failed += 1
                at = traceback.extract_tb(why.__traceback__)
                lines = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in at[:3]]
                say(f"FAILED {check.__name__}: {type(why).__name__} {why} ({', '.join(lines)})")
        sys.stdout.flush()
        os._exit(min(failed, 1))

    def send(self, message):
        """Sends a message; what answers it is kept until `take`."""
        self.switch.set_xid(message)
        self.waiting[message.xid] = hub.Queue()
        self.switch.send_msg(message)
        return message.xid

    def take(self, xid):
        """The next answer to a message. An error is raised."""
        try:
            answer = self.waiting[xid].get(timeout=PATIENCE)
        except Exception:
            raise AssertionError("no answer")
        if isinstance(answer, self.parser.OFPErrorMsg):
            raise Refused(answer)
        return answer

    def ask(self, message):
        """The answer to a request; of one in parts, the parts' contents."""
        xid = self.send(message)
        answer = self.take(xid)
        if not hasattr(answer, "body"):
            return answer
        body = answer.body
        while answer.flags & self.ofp.OFPMPF_REPLY_MORE:
            answer = self.take(xid)
            body = body + answer.body
        return body

    def do(self, *messages):
        """Sends commands and a barrier behind them; the first error is raised."""
        xids = [self.send(message) for message in messages]
        self.take(self.send(self.parser.OFPBarrierRequest(self.switch)))
        for xid in xids:
            queue = self.waiting.pop(xid)
            if not queue.empty():
                raise Refused(queue.get())

    def refused(self, kind, code, *messages):
        """That the switch refuses, so; the error carries the message's beginning."""
        try:
            self.do(*messages)
        except Refused as error:
            assert (error.type, error.code) == (kind, code), f"{error}, not type {kind} code {code}"
            sent = bytes(messages[-1].buf)
            assert sent.startswith(bytes(error.data)) and len(error.data) >= min(64, len(sent)), error.data
            return
        raise AssertionError("accepted")

    def until(self, what, done):
        for _ in range(PATIENCE * 50):
            if done():
                return
            hub.sleep(0.02)
        raise AssertionError(f"not within {PATIENCE} s: {what}")
