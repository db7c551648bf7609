//! Work on a packet that a link promised to do, or leaves for the next one to do.

/// What the sender or receiver knows about the transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// Nothing known: it is in the packet, right or wrong.
    #[default]
    Unknown,
    /// Verified by the device.
    Good,
    /// Not filled in: the ones' complement sum from `start` to the end goes to `start + offset`
    /// (virtio `VIRTIO_NET_HDR_F_NEEDS_CSUM`; offsets from the start of the data).
    Partial { start: u16, offset: u16 },
}

/// Kinds of segmentation offload (virtio `gso_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    Tcp4,
    Tcp6,
    Udp,
}

/// A frame larger than the link's MTU that stands for many segments of `size` payload bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    pub kind: GsoKind,
    pub size: u16,
    pub ecn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    pub checksum: Checksum,
    pub gso: Option<Gso>,
}
