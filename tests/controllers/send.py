"""Sends frames of as many sources from `eth0`. Usage: send.py NUMBER PER_SECOND"""
import socket
import struct
import sys
import time

number, rate = map(int, sys.argv[1:])
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
start = time.monotonic()
for i in range(number):
    while time.monotonic() < start + i / rate:
        time.sleep(0.001)
    # A type that no protocol has.
    link.send(b"\xff" * 6 + b"\x02\x01" + struct.pack(">I", i) + b"\x88\xb5" + bytes(46))
print(f"sent {number} in {time.monotonic() - start:.2f}")
