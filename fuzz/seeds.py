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
