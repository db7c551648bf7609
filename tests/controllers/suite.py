"""Everything a controller of OpenFlow 1.3 asks of a switch, decoded by os-ken. The switch has the dummy ports 1 to 4."""
import os
import subprocess
import time

from os_ken.lib import hub
from os_ken.lib.packet import ethernet, ipv4, packet, udp
from peer import Peer

ALL = 0xFFFFFFFF
PORTS = [1, 2, 3, 4]


def frame(number=0, size=60):
    """UDP from a flow of its own for each number."""
    p = packet.Packet()
    p.add_protocol(ethernet.ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", 0x0800))
    source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    p.add_protocol(ipv4.ipv4(src=source, dst="192.168.0.1", proto=17))
    p.add_protocol(udp.udp(src_port=1024 + number % 50000, dst_port=53))
    p.add_protocol(bytes(size - 42))
    p.serialize()
    return bytes(p.data)


def inject(c, data, port=1):
    """A packet that goes through the tables as if it had come in by a port."""
    out = c.parser.OFPActionOutput(c.ofp.OFPP_TABLE)
    return c.parser.OFPPacketOut(
        c.switch, buffer_id=c.ofp.OFP_NO_BUFFER, in_port=port, actions=[out], data=data)


def flow(c, actions=(), command=None, instructions=None, match=None, **more):
    if instructions is None:
        instructions = [c.parser.OFPInstructionActions(c.ofp.OFPIT_APPLY_ACTIONS, list(actions))]
    command = c.ofp.OFPFC_ADD if command is None else command
    return c.parser.OFPFlowMod(
        c.switch, command=command, match=match or c.parser.OFPMatch(), instructions=instructions, **more)


def group(c, kind, number, buckets, command=None):
    command = c.ofp.OFPGC_ADD if command is None else command
    return c.parser.OFPGroupMod(c.switch, command, kind, number, buckets)


def bucket(c, port, **more):
    more = {"watch_port": c.ofp.OFPP_ANY, "watch_group": c.ofp.OFPG_ANY, "weight": 0, **more}
    return c.parser.OFPBucket(actions=[c.parser.OFPActionOutput(port)], **more)


def meter(c, command, number, flags=0, bands=()):
    return c.parser.OFPMeterMod(c.switch, command, flags, number, list(bands))


def clear(c):
    """No flows, groups and meters; nothing was seen."""
    c.do(
        flow(c, command=c.ofp.OFPFC_DELETE, out_port=c.ofp.OFPP_ANY, out_group=c.ofp.OFPG_ANY,
             table_id=c.ofp.OFPTT_ALL),
        group(c, 0, c.ofp.OFPG_ALL, [], c.ofp.OFPGC_DELETE),
        meter(c, c.ofp.OFPMC_DELETE, c.ofp.OFPM_ALL))
    for seen in c.seen.values():
        seen.clear()


def port_stats(c):
    body = c.ask(c.parser.OFPPortStatsRequest(c.switch, 0, c.ofp.OFPP_ANY))
    return {s.port_no: s for s in body}


def sent(c, messages):
    """Packets that left by each port because of these messages."""
    before = port_stats(c)
    c.do(*messages)
    after = port_stats(c)
    return {p: after[p].tx_packets - before[p].tx_packets for p in PORTS}


def vsctl(*args):
    subprocess.run(["ovs-vsctl", "-t", "20", f"--db={os.environ['DATABASE']}", *args], check=True)


def the_switch_describes_itself(c):
    assert c.features.n_tables == 254 and c.features.n_buffers == 0
    wanted = c.ofp.OFPC_FLOW_STATS | c.ofp.OFPC_TABLE_STATS | c.ofp.OFPC_PORT_STATS | c.ofp.OFPC_GROUP_STATS \
        | c.ofp.OFPC_QUEUE_STATS
    assert c.features.capabilities & wanted == wanted, c.features.capabilities
    description = c.ask(c.parser.OFPDescStatsRequest(c.switch, 0))
    assert description.mfr_desc == b"Nicira, Inc." and description.hw_desc == b"Open vSwitch"
    ports = {p.port_no: p for p in c.ask(c.parser.OFPPortDescStatsRequest(c.switch, 0))}
    assert set(ports) == {*PORTS, c.ofp.OFPP_LOCAL}, ports
    assert ports[1].name == b"p1" and ports[c.ofp.OFPP_LOCAL].name == b"br0"


def an_echo_comes_back(c):
    assert c.ask(c.parser.OFPEchoRequest(c.switch, b"some bytes")).data == b"some bytes"


def the_configuration_is_kept(c):
    c.do(c.parser.OFPSetConfig(c.switch, c.ofp.OFPC_FRAG_NORMAL, 77))
    answer = c.ask(c.parser.OFPGetConfigRequest(c.switch))
    assert (answer.flags, answer.miss_send_len) == (0, 77)
    c.do(c.parser.OFPSetConfig(c.switch, c.ofp.OFPC_FRAG_NORMAL, c.ofp.OFPCML_NO_BUFFER))


def flows_are_described_as_they_were_made(c):
    clear(c)
    match = c.parser.OFPMatch(in_port=1, eth_type=0x0800, ipv4_src=("10.0.0.0", "255.0.0.0"), ip_proto=17)
    actions = [c.parser.OFPActionSetField(eth_dst="02:00:00:00:00:09"), c.parser.OFPActionOutput(2)]
    instructions = [
        c.parser.OFPInstructionActions(c.ofp.OFPIT_APPLY_ACTIONS, actions),
        c.parser.OFPInstructionWriteMetadata(5, 7), c.parser.OFPInstructionGotoTable(3)]
    c.do(
        flow(c, match=match, instructions=instructions, priority=9, cookie=0xABC, idle_timeout=60),
        flow(c, table_id=3, actions=[c.parser.OFPActionOutput(4)], priority=1))
    assert sent(c, [inject(c, frame(i)) for i in range(30)]) == {1: 0, 2: 30, 3: 0, 4: 30}

    def stats():
        return c.ask(c.parser.OFPFlowStatsRequest(
            c.switch, table_id=0, out_port=c.ofp.OFPP_ANY, out_group=c.ofp.OFPG_ANY))[0]
    c.until("the packets are counted", lambda: stats().packet_count == 30)
    s = stats()
    assert (s.priority, s.cookie, s.idle_timeout, s.byte_count) == (9, 0xABC, 60, 30 * 60), s
    assert sorted(s.match.items()) == sorted(match.items()), f"{s.match} {match}"
    apply, metadata, goto = s.instructions
    assert (apply.actions[0].key, apply.actions[0].value) == ("eth_dst", "02:00:00:00:00:09")
    assert apply.actions[1].port == 2
    assert (metadata.metadata, metadata.metadata_mask, goto.table_id) == (5, 7, 3)
    total = c.ask(c.parser.OFPAggregateStatsRequest(
        c.switch, 0, c.ofp.OFPTT_ALL, c.ofp.OFPP_ANY, c.ofp.OFPG_ANY, 0, 0, c.parser.OFPMatch()))
    assert (total.flow_count, total.packet_count, total.byte_count) == (2, 60, 60 * 60), total
    by_port = c.ask(c.parser.OFPFlowStatsRequest(c.switch, out_port=4, out_group=c.ofp.OFPG_ANY))
    assert [s.table_id for s in by_port] == [3]
    tables = {t.table_id: t for t in c.ask(c.parser.OFPTableStatsRequest(c.switch, 0))}
    assert len(tables) == 254 and tables[0].active_count == 1 and tables[3].active_count == 1
    assert tables[0].lookup_count >= 30 and tables[3].matched_count >= 30, (tables[0], tables[3])


def many_flows_come_in_parts(c):
    clear(c)
    number = 5000
    make = [flow(c, match=c.parser.OFPMatch(eth_type=0x0800, ipv4_dst=i + 1), cookie=i) for i in range(number)]
    c.do(*make)
    body = c.ask(c.parser.OFPFlowStatsRequest(c.switch, out_port=c.ofp.OFPP_ANY, out_group=c.ofp.OFPG_ANY))
    assert sorted(s.cookie for s in body) == list(range(number))
    c.do(flow(c, command=c.ofp.OFPFC_DELETE, table_id=c.ofp.OFPTT_ALL, out_port=c.ofp.OFPP_ANY,
              out_group=c.ofp.OFPG_ANY, cookie=0, cookie_mask=1))
    total = c.ask(c.parser.OFPAggregateStatsRequest(
        c.switch, 0, c.ofp.OFPTT_ALL, c.ofp.OFPP_ANY, c.ofp.OFPG_ANY, 0, 0, c.parser.OFPMatch()))
    assert total.flow_count == number // 2, "those with even cookies are gone"


def tables_tell_their_features(c):
    tables = c.ask(c.parser.OFPTableFeaturesStatsRequest(c.switch, 0, []))
    assert [t.table_id for t in tables] == list(range(254))
    kinds = {p.type for p in tables[0].properties}
    for kind in ("INSTRUCTIONS", "NEXT_TABLES", "MATCH", "WRITE_ACTIONS", "APPLY_SETFIELD"):
        assert getattr(c.ofp, "OFPTFPT_" + kind) in kinds, kind
    match = next(p for p in tables[0].properties if p.type == c.ofp.OFPTFPT_MATCH)
    assert {"in_port", "eth_dst", "ipv6_nd_target", "tunnel_id"} <= {f.type for f in match.oxm_ids}


def ports_and_queues_are_counted(c):
    before = port_stats(c)[1]
    vsctl("set", "interface", "p1", "external_ids:touched=yes")
    # A dummy port takes what `netdev-dummy/receive` gives it.
    subprocess.run(["ovs-appctl", "netdev-dummy/receive", "p1", frame().hex()], check=True)
    c.until("the port has received", lambda: port_stats(c)[1].rx_packets == before.rx_packets + 1)
    after = port_stats(c)[1]
    assert after.rx_bytes == before.rx_bytes + 60 and after.duration_sec >= 0
    queues = c.ask(c.parser.OFPQueueStatsRequest(c.switch, 0, c.ofp.OFPP_ANY, c.ofp.OFPQ_ALL))
    unknown = 2 ** 64 - 1
    assert sorted((q.port_no, q.queue_id, q.tx_packets) for q in queues) == \
        [(port, 0, unknown) for port in [*PORTS, c.ofp.OFPP_LOCAL]], queues
    assert [q.queue_id for q in c.ask(c.parser.OFPQueueGetConfigRequest(c.switch, 1)).queues] == [0]


def a_port_that_goes_down_is_told(c):
    ports = {p.port_no: p for p in c.ask(c.parser.OFPPortDescStatsRequest(c.switch, 0))}
    clear(c)
    for config in (c.ofp.OFPPC_PORT_DOWN, 0):
        c.do(c.parser.OFPPortMod(c.switch, 2, ports[2].hw_addr, config, c.ofp.OFPPC_PORT_DOWN, 0))
        c.until("the port's state", lambda: any(
            s.desc.port_no == 2 and s.desc.config & c.ofp.OFPPC_PORT_DOWN == config for s in c.seen["PortStatus"]))
        assert all(s.reason == c.ofp.OFPPR_MODIFY for s in c.seen["PortStatus"])
        clear(c)


def ports_that_come_and_go_are_told(c):
    clear(c)
    vsctl("add-port", "br0", "p9", "--", "set", "interface", "p9", "ofport_request=9")
    def told(reason):
        return [s.desc.name for s in c.seen["PortStatus"] if s.reason == reason and s.desc.port_no == 9]
    c.until("the port is there", lambda: told(c.ofp.OFPPR_ADD) == [b"p9"])
    vsctl("del-port", "br0", "p9")
    c.until("the port is gone", lambda: told(c.ofp.OFPPR_DELETE) == [b"p9"])


def groups_send_as_their_type_says(c):
    clear(c)
    kinds = [
        (1, c.ofp.OFPGT_ALL, [bucket(c, 2), bucket(c, 3), bucket(c, 4)], {1: 0, 2: 40, 3: 40, 4: 40}),
        (2, c.ofp.OFPGT_INDIRECT, [bucket(c, 3)], {1: 0, 2: 0, 3: 40, 4: 0}),
        (3, c.ofp.OFPGT_FF, [bucket(c, 4, watch_port=4), bucket(c, 3, watch_port=3)], {1: 0, 2: 0, 3: 0, 4: 40})]
    for number, kind, buckets, expected in kinds:
        c.do(group(c, kind, number, buckets), flow(c, [c.parser.OFPActionGroup(number)]))
        assert sent(c, [inject(c, frame(i)) for i in range(40)]) == expected, kind
        described = [g for g in c.ask(c.parser.OFPGroupDescStatsRequest(c.switch, 0)) if g.group_id == number]
        assert described[0].type == kind
        assert [b.actions[0].port for b in described[0].buckets] == [b.actions[0].port for b in buckets]

        def stats():
            return c.ask(c.parser.OFPGroupStatsRequest(c.switch, 0, number))[0]
        c.until("the group's packets are counted", lambda: stats().packet_count == 40)
        assert stats().ref_count == 1 and stats().byte_count == 40 * 60
        used = len(buckets) if kind == c.ofp.OFPGT_ALL else 1
        assert [b.packet_count for b in stats().bucket_stats] == [40] * used + [0] * (len(buckets) - used)
    features = c.ask(c.parser.OFPGroupFeaturesStatsRequest(c.switch, 0))
    assert features.types == 0xF and all(features.actions)


def a_select_group_spreads_flows_by_weight(c):
    clear(c)
    c.do(group(c, c.ofp.OFPGT_SELECT, 1, [bucket(c, 2, weight=1), bucket(c, 3, weight=3)]),
         flow(c, [c.parser.OFPActionGroup(1)]))
    by_port = sent(c, [inject(c, frame(i)) for i in range(1000)])
    assert by_port[2] + by_port[3] == 1000 and by_port[1] == by_port[4] == 0
    assert 150 <= by_port[2] <= 350, f"a quarter of the flows: {by_port}"
    one = sent(c, [inject(c, frame(7)) for _ in range(20)])
    assert sorted(one.values()) == [0, 0, 0, 20], "one flow has one way"


def a_failover_group_follows_its_ports(c):
    clear(c)
    address = {p.port_no: p.hw_addr for p in c.ask(c.parser.OFPPortDescStatsRequest(c.switch, 0))}
    down = c.ofp.OFPPC_PORT_DOWN
    c.do(group(c, c.ofp.OFPGT_FF, 1, [bucket(c, 2, watch_port=2), bucket(c, 3, watch_port=3)]),
         flow(c, [c.parser.OFPActionGroup(1)]))
    for config, expected in ((0, 2), (down, 3), (0, 2)):
        c.do(c.parser.OFPPortMod(c.switch, 2, address[2], config, down, 0))
        c.until(f"packets go to port {expected}",
                lambda: sent(c, [inject(c, frame())])[expected] == 1)


def groups_refer_to_groups(c):
    clear(c)
    inner = c.parser.OFPBucket(actions=[c.parser.OFPActionGroup(2)], watch_port=ALL, watch_group=ALL)
    c.do(group(c, c.ofp.OFPGT_ALL, 2, [bucket(c, 3), bucket(c, 4)]), group(c, c.ofp.OFPGT_INDIRECT, 1, [inner]),
         flow(c, [c.parser.OFPActionGroup(1)]))
    assert sent(c, [inject(c, frame())]) == {1: 0, 2: 0, 3: 1, 4: 1}
    c.do(group(c, c.ofp.OFPGT_ALL, 2, [bucket(c, 2)], c.ofp.OFPGC_MODIFY))
    assert sent(c, [inject(c, frame())]) == {1: 0, 2: 1, 3: 0, 4: 0}
    c.do(group(c, 0, 1, [], c.ofp.OFPGC_DELETE))
    body = c.ask(c.parser.OFPFlowStatsRequest(c.switch, out_port=c.ofp.OFPP_ANY, out_group=c.ofp.OFPG_ANY))
    assert body == [], "flows go with their group"


def a_meter_holds_its_rate(c):
    clear(c)
    rate, packets = 100, 2000
    band = c.parser.OFPMeterBandDrop(rate=rate, burst_size=rate)
    flags = c.ofp.OFPMF_PKTPS | c.ofp.OFPMF_BURST | c.ofp.OFPMF_STATS
    instructions = [c.parser.OFPInstructionMeter(5), c.parser.OFPInstructionActions(
        c.ofp.OFPIT_APPLY_ACTIONS, [c.parser.OFPActionOutput(2)])]
    c.do(meter(c, c.ofp.OFPMC_ADD, 5, flags, [band]), flow(c, instructions=instructions))
    start = time.monotonic()
    passed = sum(sent(c, [inject(c, frame(i)) for i in range(packets)]).values())
    hub.sleep(1)
    passed += sum(sent(c, [inject(c, frame(i)) for i in range(packets)]).values())
    took = time.monotonic() - start
    assert rate <= passed <= rate + took * rate * 1.05 + 2, f"{passed} packets in {took} s"
    assert passed >= 2 * rate * 0.9, f"{passed}: the bucket is full again after a second"

    def stats():
        return c.ask(c.parser.OFPMeterStatsRequest(c.switch, 0, 5))[0]
    c.until("the meter has counted", lambda: stats().packet_in_count == 2 * packets)
    s = stats()
    assert (s.flow_count, s.byte_in_count) == (1, 2 * packets * 60)
    assert s.band_stats[0].packet_band_count == 2 * packets - passed
    assert s.band_stats[0].byte_band_count == (2 * packets - passed) * 60


def meters_are_described(c):
    clear(c)
    bands = [c.parser.OFPMeterBandDrop(rate=1000, burst_size=50)]
    c.do(meter(c, c.ofp.OFPMC_ADD, 1, c.ofp.OFPMF_KBPS | c.ofp.OFPMF_BURST, bands),
         meter(c, c.ofp.OFPMC_ADD, 2, c.ofp.OFPMF_PKTPS | c.ofp.OFPMF_STATS,
               [c.parser.OFPMeterBandDrop(rate=7, burst_size=0)]))
    c.do(meter(c, c.ofp.OFPMC_MODIFY, 2, c.ofp.OFPMF_PKTPS, [c.parser.OFPMeterBandDrop(rate=8, burst_size=0)]))
    known = {m.meter_id: m for m in c.ask(c.parser.OFPMeterConfigStatsRequest(c.switch, 0, c.ofp.OFPM_ALL))}
    assert set(known) == {1, 2} and known[1].bands[0].rate == 1000 and known[1].bands[0].burst_size == 50
    assert known[2].bands[0].rate == 8
    features = c.ask(c.parser.OFPMeterFeaturesStatsRequest(c.switch, 0))[0]
    assert features.max_meter >= 1000 and features.band_types & 1 << c.ofp.OFPMBT_DROP and features.max_bands >= 1


def packet_ins_at_rate_all_arrive(c):
    clear(c)
    number = 10_000
    to_us = c.parser.OFPActionOutput(c.ofp.OFPP_CONTROLLER, c.ofp.OFPCML_NO_BUFFER)
    c.do(flow(c, [to_us], priority=0, cookie=0x77, match=c.parser.OFPMatch(in_port=3)))
    start = time.monotonic()
    c.do(*[inject(c, frame(i, 60 + i % 100), 3) for i in range(number)])
    seen = c.seen["PacketIn"]
    c.until("all packets are told", lambda: len(seen) >= number)
    hub.sleep(0.2)
    assert len(seen) == number, len(seen)
    assert number / (time.monotonic() - start) > 500, "packets per second"
    for i, message in enumerate(seen):
        assert message.match["in_port"] == 3 and message.cookie == 0x77 and message.table_id == 0
        assert message.total_len == len(message.data) and message.data == frame(i, 60 + i % 100), i
        assert message.reason in (c.ofp.OFPR_ACTION, c.ofp.OFPR_NO_MATCH)


def packet_ins_are_whole_without_buffers(c):
    clear(c)
    c.do(flow(c, [c.parser.OFPActionOutput(c.ofp.OFPP_CONTROLLER, 64)], priority=5))
    c.do(inject(c, frame(1, 500)))
    c.until("a packet is told", lambda: c.seen["PacketIn"])
    message = c.seen["PacketIn"][0]
    assert (message.total_len, message.data) == (500, frame(1, 500)), (message.total_len, len(message.data))
    assert message.reason == c.ofp.OFPR_ACTION


def flows_that_go_are_told(c):
    clear(c)
    flags = c.ofp.OFPFF_SEND_FLOW_REM
    out = [c.parser.OFPActionOutput(2)]
    match = {i: c.parser.OFPMatch(in_port=i) for i in (1, 2, 3)}
    c.do(flow(c, out, match=match[1], cookie=1, idle_timeout=1, flags=flags),
         flow(c, out, match=match[2], cookie=2, hard_timeout=2, flags=flags),
         flow(c, out, match=match[3], cookie=3, flags=flags, priority=33))
    c.do(*[inject(c, frame(i), 1) for i in range(25)])
    c.do(flow(c, command=c.ofp.OFPFC_DELETE, match=match[3], out_port=c.ofp.OFPP_ANY, out_group=c.ofp.OFPG_ANY))
    c.until("all three are gone", lambda: len(c.seen["FlowRemoved"]) == 3)
    told = {m.cookie: m for m in c.seen["FlowRemoved"]}
    reasons = [told[i].reason for i in (1, 2, 3)]
    assert reasons == [c.ofp.OFPRR_IDLE_TIMEOUT, c.ofp.OFPRR_HARD_TIMEOUT, c.ofp.OFPRR_DELETE], reasons
    assert (told[1].packet_count, told[1].byte_count, told[1].match["in_port"]) == (25, 25 * 60, 1)
    assert told[2].duration_sec in (2, 3) and told[2].hard_timeout == 2 and told[3].priority == 33


def roles_are_kept_apart(c):
    clear(c)
    def role(which, generation=0):
        return c.parser.OFPRoleRequest(c.switch, which, generation)
    assert c.ask(role(c.ofp.OFPCR_ROLE_NOCHANGE)).role == c.ofp.OFPCR_ROLE_EQUAL
    answer = c.ask(role(c.ofp.OFPCR_ROLE_MASTER, 10))
    assert (answer.role, answer.generation_id) == (c.ofp.OFPCR_ROLE_MASTER, 10)
    c.refused(c.ofp.OFPET_ROLE_REQUEST_FAILED, c.ofp.OFPRRFC_STALE, role(c.ofp.OFPCR_ROLE_MASTER, 9))
    assert c.ask(role(c.ofp.OFPCR_ROLE_SLAVE, 11)).role == c.ofp.OFPCR_ROLE_SLAVE
    c.refused(c.ofp.OFPET_BAD_REQUEST, c.ofp.OFPBRC_IS_SLAVE, flow(c))
    assert c.ask(role(c.ofp.OFPCR_ROLE_EQUAL, 12)).role == c.ofp.OFPCR_ROLE_EQUAL
    c.do(flow(c))


def a_controller_chooses_what_it_is_told(c):
    clear(c)
    config = c.ask(c.parser.OFPGetAsyncRequest(c.switch))
    masks = [config.packet_in_mask, config.port_status_mask, config.flow_removed_mask]
    c.do(flow(c, [c.parser.OFPActionOutput(c.ofp.OFPP_CONTROLLER)], priority=5))
    c.do(c.parser.OFPSetAsync(c.switch, [0, 0], masks[1], masks[2]))
    c.do(inject(c, frame()))
    c.do(c.parser.OFPSetAsync(c.switch, *masks))
    c.do(inject(c, frame(1)))
    c.until("a packet is told", lambda: c.seen["PacketIn"])
    assert [m.data for m in c.seen["PacketIn"]] == [frame(1)], (masks, c.seen["PacketIn"])


def errors_say_what_was_wrong(c):
    clear(c)
    o, p = c.ofp, c.parser
    some = [bucket(c, 2)]
    c.do(group(c, o.OFPGT_ALL, 1, some), meter(c, o.OFPMC_ADD, 1, o.OFPMF_KBPS, [p.OFPMeterBandDrop(1000, 0)]))
    twice = [p.OFPInstructionGotoTable(0)]
    cases = [
        (o.OFPET_GROUP_MOD_FAILED, o.OFPGMFC_GROUP_EXISTS, group(c, o.OFPGT_ALL, 1, some)),
        (o.OFPET_GROUP_MOD_FAILED, o.OFPGMFC_UNKNOWN_GROUP, group(c, o.OFPGT_ALL, 9, some, o.OFPGC_MODIFY)),
        (o.OFPET_GROUP_MOD_FAILED, o.OFPGMFC_INVALID_GROUP, group(c, o.OFPGT_INDIRECT, 2, some + some)),
        (o.OFPET_METER_MOD_FAILED, o.OFPMMFC_METER_EXISTS, meter(
            c, o.OFPMC_ADD, 1, o.OFPMF_KBPS, [p.OFPMeterBandDrop(1000, 0)])),
        (o.OFPET_METER_MOD_FAILED, o.OFPMMFC_UNKNOWN_METER, meter(
            c, o.OFPMC_MODIFY, 9, o.OFPMF_KBPS, [p.OFPMeterBandDrop(1000, 0)])),
        (o.OFPET_BAD_ACTION, o.OFPBAC_BAD_OUT_GROUP, flow(c, [p.OFPActionGroup(77)])),
        (o.OFPET_BAD_ACTION, o.OFPBAC_BAD_OUT_PORT, flow(c, [p.OFPActionOutput(0xFFFFFFF0)])),
        (o.OFPET_BAD_INSTRUCTION, o.OFPBIC_BAD_TABLE_ID, flow(c, instructions=twice, table_id=3)),
        (o.OFPET_BAD_MATCH, o.OFPBMC_BAD_PREREQ, flow(c, match=p.OFPMatch(tcp_dst=80))),
        (o.OFPET_FLOW_MOD_FAILED, o.OFPFMFC_BAD_COMMAND, flow(c, command=77)),
        (o.OFPET_FLOW_MOD_FAILED, o.OFPFMFC_OVERLAP, flow(
            c, match=p.OFPMatch(in_port=1), flags=o.OFPFF_CHECK_OVERLAP)),
        (o.OFPET_BAD_REQUEST, o.OFPBRC_BAD_PORT, inject(c, frame(), 0xFFFFFFF7)),
        (o.OFPET_PORT_MOD_FAILED, o.OFPPMFC_BAD_PORT, p.OFPPortMod(c.switch, 99, "02:00:00:00:00:00", 0, 0, 0)),
        (o.OFPET_QUEUE_OP_FAILED, o.OFPQOFC_BAD_PORT, p.OFPQueueStatsRequest(c.switch, 0, 99, o.OFPQ_ALL))]
    c.do(flow(c, match=p.OFPMatch(eth_type=0x0806)))
    for i, (kind, code, message) in enumerate(cases):
        try:
            c.refused(kind, code, message)
        except AssertionError as why:
            raise AssertionError(f"case {i}: {why}")


class Suite(Peer):
    CHECKS = [
        the_switch_describes_itself, an_echo_comes_back, the_configuration_is_kept,
        flows_are_described_as_they_were_made, many_flows_come_in_parts, tables_tell_their_features,
        ports_and_queues_are_counted, a_port_that_goes_down_is_told, ports_that_come_and_go_are_told,
        groups_send_as_their_type_says, a_select_group_spreads_flows_by_weight, a_failover_group_follows_its_ports,
        groups_refer_to_groups, a_meter_holds_its_rate, meters_are_described, packet_ins_at_rate_all_arrive,
        packet_ins_are_whole_without_buffers, flows_that_go_are_told, roles_are_kept_apart, a_controller_chooses_what_it_is_told,
        errors_say_what_was_wrong]
