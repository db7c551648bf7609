//! Rules of many shapes, for flow tables.

/// Rule `i` of a shape, as `ovs-ofctl` reads it.
pub type Shape = fn(u32) -> String;

/// By name; the first one mixes the others.
pub const SHAPES: &[(&str, Shape)] = &[
    ("mix", mix),
    ("tcp", |i| {
        let [_, x, y, z] = i.to_be_bytes();
        format!("table=1,priority=100,tcp,nw_src=10.{x}.{y}.{z},tp_dst={},actions=output:1", i % 1000 + 1)
    }),
    ("mac", |i| {
        let [a, b, c, d] = i.to_be_bytes();
        format!(
            "priority=10,dl_vlan=7,dl_dst=02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x},actions=strip_vlan,output:2"
        )
    }),
    ("ipv6", |i| {
        format!(
            "priority=50,udp6,ipv6_src=fd00::{:x}:{:x},ipv6_dst=fd01::1,actions=output:3",
            i >> 16,
            i & 0xffff
        )
    }),
    ("masks", |i| {
        let [_, x, y, z] = i.to_be_bytes();
        let (len, mask) = (16 + i % 17, 0xffff_u32 << (i / 17 % 16) & 0xffff);
        format!(
            "priority={},ip,nw_dst=10.{x}.{y}.{z}/{len},reg0={i}/0x{mask:04x}ffff,actions=drop",
            i % 60000
        )
    }),
    ("cookie", |i| {
        format!("cookie={i:#x},idle_timeout=3600,metadata={i},actions=load:{i}->NXM_NX_REG1[],resubmit(,2)")
    }),
];

/// One of the other shapes after the other.
pub fn mix(i: u32) -> String {
    let (_, shape) = SHAPES[1 + i as usize % (SHAPES.len() - 1)];
    shape(i)
}
