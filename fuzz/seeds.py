#!/usr/bin/env python3
"""First inputs of the fuzz targets. Usage: seeds.py (writes into corpus/)"""
import os, struct
here = os.path.dirname(os.path.abspath(__file__)) + "/corpus"

def put(target, inputs):
    os.makedirs(f"{here}/{target}", exist_ok=True)
    for name, data in inputs.items():
        with open(f"{here}/{target}/{name}", "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())

def text(target, lines, prefix=b""):
    put(target, {f"t{i:02}": prefix + l.encode() for i, l in enumerate(lines)})

MESSAGES = {}
for version in range(1, 7):
    for kind in range(36):
        MESSAGES[f"v{version}t{kind:02}"] = struct.pack(">BBHI", version, kind, 0, 1) + bytes(48)
for vendor, subtypes in ((0x2320, range(0, 34)), (0x4F4E4600, (1870, 2300, 2301))):
    for subtype in subtypes:
        body = struct.pack(">BBHIII", 1, 4, 0, 1, vendor, subtype) + bytes(48)
        MESSAGES[f"x{vendor:x}-{subtype}"] = body
put("openflow_messages", MESSAGES)
text("openflow_action_text", [
    "output:1,NORMAL,controller(max_len=128,reason=no_match,id=3,userdata=01.02,pause)", "resubmit(1,2,ct)",
    "learn(table=1,idle_timeout=10,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[],load:5->NXM_NX_REG0[0..3])",
    "ct(commit,zone=reg0[0..15],nat(src=10.0.0.1-10.0.0.9:1-5,persistent),exec(set_field:1->ct_mark),alg=ftp)",
    "bundle(eth_src,0,hrw,ofport,members:1,2)", "multipath(symmetric_l4,50,modulo_n,1,0,NXM_NX_REG0[])",
    "set_field:00:11:22:33:44:55->eth_src,mod_nw_tos:4,push_vlan:0x8100,clone(dec_ttl,exit),note:00.11",
    "write_actions(group:3),meter:2,write_metadata:1/3,goto_table:5", "conjunction(1,2/3),sample(probability=3)",
    "encap(nsh(md_type=1,tlv(0x1000,10,0x12))),decap(packet_type(ns=0,type=0)),check_pkt_larger(100)->reg0[0]"])
text("flow_text", ["ip,nw_src=10.0.0.0/8,tp_dst=80", "ct_state=+trk-new,tcp6,ipv6_src=::1/64,tcp_flags=+syn-ack",
    "vlan_tci=0x1000/0x1000,reg0=1/3,metadata=5,tun_metadata0=1,in_port=LOCAL,arp,arp_op=1"], b"\x05")
text("dpif_text", [
    "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02/ff:00:00:00:00:00),eth_type(0x0800),"
    "ipv4(src=1.2.3.4/255.0.0.0,dst=1.2.3.4,proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2),tcp_flags(syn|ack)",
    "recirc_id(0),tunnel(tun_id=0x1,src=1.1.1.1,dst=2.2.2.2,geneve({class=0x1,type=1,len=4,0x1}),flags(df|key))",
    "1,push_vlan(vid=5,pcp=1),set(ipv4(ttl=3)),userspace(pid=0,controller(reason=1)),clone(2,drop),recirc(0x1)",
    "ct(commit,zone=1,nat(src=1.1.1.1)),hash(l4(0)),sample(sample=50.0%,actions(1)),check_pkt_len(size=100,gt(1),le(2))"])
put("pcap", {"one": struct.pack("<IHHIIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 1, 2, 3, 3) + b"abc"})
ETH = b"\x02" * 6 + b"\x04" * 6
IP4 = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
IP6 = struct.pack(">IHBB16s16s", 6 << 28, 32, 58, 255, b"\xfe" + bytes(15), b"\xff" + bytes(15))
put("packet_edit", {
    "tcp": bytes(4) + ETH + b"\x08\0" + IP4 + struct.pack(">HHIIHHHH", 1, 2, 3, 4, 0x5002, 5, 0, 0),
    "vlan-udp": bytes(4) + ETH + b"\x81\0\0\5\x08\0" + IP4.replace(b"\x40\x06", b"\x40\x11") + bytes(20),
    "nd": bytes(4) + ETH + b"\x86\xdd" + IP6 + b"\x87\0\0\0" + bytes(20) + b"\1\1" + ETH[:6],
    "arp": bytes(4) + ETH + b"\x08\6\0\1\x08\0\6\4\0\1" + bytes(20),
    "mpls": bytes(4) + ETH + b"\x88\x47\0\0\x11\x40" + IP4 + bytes(20),
    "nsh": bytes(4) + ETH + b"\x89\x4f\x0f\xc6\1\1\0\0\1\xff" + bytes(40)})
text("ovsdb_messages", [
    '{"id":"echo","method":"echo","params":[]}', '{"id":null,"method":"update3","params":[["m"],"00000000-0000-0000-'
    '0000-000000000000",{"Bridge":{"00000000-0000-0000-0000-000000000001":{"insert":{"name":"br0"}}}}]}',
    '{"id":3,"result":[{"uuid":["uuid","00000000-0000-0000-0000-000000000001"]}],"error":null}',
    '{"id":null,"method":"stolen","params":["ovs_vswitchd"]}'])
text("unixctl_wire", ['{"id":0,"method":"version","params":["a","b"]}', '{"id":"x","method":1,"params":{}}'], b"\x03")

def outer(proto, payload, six=False):
    if six:
        return ETH + b"\x86\xdd" + struct.pack(">IHBB16s16s", 6 << 28, len(payload), proto, 64, b"\xfd" + bytes(15),
            b"\xfd" + bytes(14) + b"\1") + payload
    return ETH + b"\x08\0" + struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0,
        b"\x0a\0\0\1", b"\x0a\0\0\2") + payload

def datagram(port, payload):
    return struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload

INNER = ETH + b"\x08\0" + IP4 + struct.pack(">HHIIHHHH", 1, 2, 3, 4, 0x5002, 5, 0, 0)
TUNNELS = {  # the number of the protocol, the outer one, what is behind it
    "erspan1": (0, 47, struct.pack(">HHIHHI", 0x1000, 0x88BE, 5, 0x1000, 7, 3) + INNER),
    "erspan2": (0, 47, struct.pack(">HHIHHII", 0x1000, 0x22EB, 5, 0x2000, 7, 3, 0x11) + INNER),
    "geneve": (1, 17, datagram(6081, b"\0\0\x65\x58\0\0\7\0" + INNER)),
    "geneve-options": (1, 17, datagram(6081, b"\3\x40\x65\x58\0\0\7\0\1\2\x80\2\0\0\0\1\0\0\0\2" + INNER)),
    "gre": (2, 47, b"\0\0\x65\x58" + INNER), "gre-key-seq": (2, 47, b"\x30\0\x08\0\0\0\0\7\0\0\0\1" + INNER[14:]),
    "gtpu": (3, 17, datagram(2152, b"\x30\xff" + struct.pack(">HI", len(INNER) - 14, 7) + INNER[14:])),
    "gtpu-seq": (3, 17, datagram(2152, b"\x32\xff" + struct.pack(">HII", len(INNER) - 10, 7, 9) + INNER[14:])),
    "vxlan": (6, 17, datagram(4789, b"\x08\0\0\0\0\0\7\0" + INNER)),
    "vxlan-gbp": (6, 17, datagram(4789, b"\x88\x48\1\2\0\0\7\0" + INNER)),
    "vxlan-gpe": (6, 17, datagram(4790, b"\x0c\0\0\1\0\0\7\0" + INNER[14:]))}
for name, (kind, proto, payload) in TUNNELS.items():
    six = {0: 4, 2: 5}.get(kind, kind)
    put("tunnel_headers", {name: bytes([kind]) + outer(proto, payload),
        name + "-odd": bytes([kind]) + outer(proto, payload + b"\0"), name + "-v6": bytes([six]) + outer(proto, payload, True)})

def v4(proto, payload, src=1, dst=2, frag=0, number=1):
    return b"\x08\0" + struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number, frag, 64, proto, 0,
        bytes([10, 0, 0, src]), bytes([10, 0, 0, dst])) + payload

def v6(proto, payload, src=1, dst=2):
    return b"\x86\xdd" + struct.pack(">IHBB16s16s", 6 << 28, len(payload), proto, 64, b"\xfd" + bytes(14) + bytes([src]),
        b"\xfd" + bytes(14) + bytes([dst])) + payload

def tcp(src, dst, seq, ack, flags, payload=b""):
    return struct.pack(">HHIIHHHH", src, dst, seq, ack, 0x5000 | flags, 8192, 0, 0) + payload

def frames(*all_of):
    return b"".join(bytes([len(f)]) + f for f in all_of)

SYN, ACK, FIN, RST = 2, 16, 1, 4
for name, ip in (("v4", v4), ("v6", v6)):
    port = b"PORT 10,0,0,1,4,1\r\n" if ip is v4 else b"EPRT |2|fd00::1|1025|\r\n"
    put("conntrack_packets", {
        f"tcp-{name}": frames(ip(6, tcp(1000, 21, 1, 0, SYN)), ip(6, tcp(21, 1000, 9, 2, SYN | ACK), 2, 1),
            ip(6, tcp(1000, 21, 2, 10, ACK)), ip(6, tcp(1000, 21, 2, 10, ACK, port)),
            ip(6, tcp(20, 1025, 1, 0, SYN), 2, 1), ip(6, tcp(1000, 21, 2 + len(port), 10, FIN | ACK)),
            ip(6, tcp(21, 1000, 10, 3, RST), 2, 1)),
        f"udp-{name}": frames(ip(17, datagram(53, b"?")), ip(17, struct.pack(">HHHH", 53, 40000, 9, 0) + b"!", 2, 1)),
        f"sctp-{name}": frames(ip(132, bytes(24)))})
put("conntrack_packets", {
    "icmp": frames(v4(1, b"\x08\0\0\0\0\1\0\1"), v4(1, b"\0\0\0\0\0\1\0\1", 2, 1)),
    "error": frames(v4(17, datagram(53, b"?")), v4(1, b"\3\3\0\0\0\0\0\0" + v4(17, datagram(53, b"?"))[2:], 2, 1)),
    "fragments": frames(v4(17, datagram(53, bytes(24)), frag=0x2000), v4(17, bytes(16), frag=4)),
    "fragments-late": frames(v4(17, bytes(16), frag=4), v4(17, datagram(53, bytes(24)), frag=0x2000)),
    "fragments-overlap": frames(v4(17, datagram(53, bytes(24)), frag=0x2000), v4(17, bytes(24), frag=3)),
    "fragments-v6": frames(v6(44, b"\x11\0\0\1\0\0\0\7" + datagram(53, bytes(24))), v6(44, b"\x11\0\0\x20\0\0\0\7" + bytes(16))),
    "icmp6": frames(v6(58, b"\x80\0\0\0\0\1\0\1"), v6(58, b"\x81\0\0\0\0\1\0\1", 2, 1))})
text("conntrack_alg", ["PORT 10,0,0,1,4,1\r\n", "EPRT |1|10.0.0.1|1025|\r\n", "EPRT |2|fd00::1|1025|\r\n",
    "227 Entering Passive Mode (10,0,0,1,4,1)\r\n", "229 Entering Extended Passive Mode (|||1025|)\r\n", "USER me\r\nPORT 1,2"])

def control(state, flags, mine, yours):
    return struct.pack(">BBBBIIIII", 0x20, state << 6 | flags, 3, 24, mine, yours, 100_000, 100_000, 0)

def spoken(*messages):
    return b"".join(b"\x0a" + bytes([len(m)]) + m for m in messages)

put("bfd", {"up": spoken(control(1, 0, 9, 0), control(2, 0, 9, 7), control(3, 0, 9, 7), control(3, 0x20, 9, 7),
    control(3, 0x10, 9, 7), control(1, 0, 9, 0)), "down": spoken(control(0, 0, 9, 7), control(1, 4, 9, 0) + b"\1\2\3\4")})

def container(*sections):
    parts = [struct.pack("<I", len(n)) + n + struct.pack("<IIQ", 2, 1, len(p)) + p for n, p in sections]
    return b"OVSRSTAT" + struct.pack("<II", 1, len(parts)) + b"".join(parts)

put("saved_state", {"empty": container(), "two": container((b"conntrack", bytes(40)), (b"flows", b"\1\2\3")),
    "same": container((b"a", b""), (b"a", b""))})

# Two rings (split, then packed), frames that ask for checksums and segmentation offered, buffers offered, a burst lent and sent.
def rings(first, second):
    def buffers(kind, shapes):
        pieces = b"".join(bytes([len(p) - 1]) + b"".join(struct.pack("<HB", a, n) + (bytes([h]) if i == 0 and kind == 0 else b"")
            for i, (a, n, h) in enumerate(p)) for p in shapes)
        return bytes([kind, len(shapes) - 1]) + pieces
    out = b"\0" + first + second
    for header in (0x01, 0x09, 0x11, 0x02, 0x00):
        out += buffers(0, [[(0x100, 5, header)], [(0x1000, 2, header), (0x1200, 4, 0), (0x1f80, 6, 0)]])
        out += buffers(1, [[(0x4000, 6, 0)], [(0x5000, 7, 0)], [(0x100, 3, 0), (0x6000, 7, 0)]])
        out += b"\2" + b"\3\0\0" + b"\0" + bytes(2) + b"\2"
    return out

SPLIT, PACKED = b"\x0c" + bytes(8), b"\x01" + bytes(8) + b"\x40\0\x80"
put("vhost_ring", {a + b: rings(x, y) for a, x in (("s", SPLIT), ("p", PACKED)) for b, y in (("s", SPLIT), ("p", PACKED))})
