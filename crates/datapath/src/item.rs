//! A packet on its way, with what is known about it beyond its bytes.

use conntrack::PacketCt;
use flow::{Flow, Tunnel};
use packet::{BATCH_LEN, CtMeta, Meta, Packet};

/// Metadata of a packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct PacketMeta {
    pub in_port: u32,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    /// Bytes that the next output may send at most; 0 for no limit (`trunc`).
    pub max_len: u32,
    /// What connection tracking said, of a packet that has been through it.
    pub ct: Option<Box<PacketCt>>,
    /// What few packets have.
    pub rare: Option<Box<RareMeta>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RareMeta {
    pub tunnel: Option<Tunnel>,
}

impl PacketMeta {
    pub fn of_port(in_port: u32) -> Self {
        PacketMeta { in_port, ..PacketMeta::default() }
    }

    /// The metadata that `key` was made from.
    pub fn of_key(key: &Flow) -> Self {
        let tunnel = key.tunnel.is_set().then(|| key.tunnel.clone());
        let ct = || Box::new(PacketCt { meta: CtMeta::of_flow(key), ..PacketCt::default() });
        PacketMeta {
            in_port: key.in_port,
            recirc_id: key.recirc_id,
            dp_hash: key.dp_hash,
            skb_priority: key.skb_priority,
            pkt_mark: key.pkt_mark,
            max_len: 0,
            ct: (key.ct_state != 0).then(ct),
            rare: tunnel.map(|t| Box::new(RareMeta { tunnel: Some(t) })),
        }
    }

    #[inline]
    pub fn for_parser(&self, vlan_limit: u8) -> Meta<'_> {
        Meta {
            in_port: self.in_port,
            recirc_id: self.recirc_id,
            dp_hash: self.dp_hash,
            skb_priority: self.skb_priority,
            pkt_mark: self.pkt_mark,
            vlan_limit,
            ct: self.ct.as_ref().map(|ct| &ct.meta),
            tunnel: self.rare.as_ref().and_then(|r| r.tunnel.as_ref()),
        }
    }

    pub fn ct_mut(&mut self) -> &mut PacketCt {
        self.ct.get_or_insert_default()
    }

    pub fn rare_mut(&mut self) -> &mut RareMeta {
        self.rare.get_or_insert_default()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub packet: Packet,
    pub meta: PacketMeta,
}

/// Packets that are processed together.
pub(crate) type Items = arrayvec::ArrayVec<Item, BATCH_LEN>;
