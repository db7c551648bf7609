//! Multipart messages about groups: counters, descriptions and features. Nicira's in OpenFlow 1.0.

use crate::context::{Context, Target};
use crate::elapsed::Elapsed;
use crate::form::{Form, Incoming};
use crate::msg::action_types::ActionTypes;
use crate::msg::group::{Bucket, GroupType, Selection, id, is_of15_style};
use crate::multipart::MultipartWriter;
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// Decodes a request for counters: the group asked for, [`id::ALL`] for all.
///
/// # Errors
/// None once [`crate::identify`] has taken the message.
pub fn decode_request(msg: &Incoming<'_>) -> Result<u32, OfError> {
    Ok(msg.body().u32()?)
}

/// Encodes a request for counters.
#[must_use]
pub fn encode_request(group_id: u32, version: Version, xid: u32) -> Vec<u8> {
    let form = if version == Version::Of10 { Form::NxstGroupRequest } else { Form::Ofpst11GroupRequest };
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| {
        out.put_u32(group_id);
        out.put_zeros(4);
    });
    out
}

/// Decodes a request for descriptions: the group asked for, [`id::ALL`] for all. OpenFlow 1.1 to 1.4
/// cannot ask for one.
///
/// # Errors
/// None once [`crate::identify`] has taken the message.
pub fn decode_desc_request(msg: &Incoming<'_>) -> Result<u32, OfError> {
    match msg.form {
        Form::Ofpst11GroupDescRequest => Ok(id::ALL),
        _ => Ok(msg.body().u32()?),
    }
}

/// Encodes a request for descriptions.
#[must_use]
pub fn encode_desc_request(group_id: u32, version: Version, xid: u32) -> Vec<u8> {
    let form = match version {
        Version::Of10 => Form::NxstGroupDescRequest,
        Version::Of15 => Form::Ofpst15GroupDescRequest,
        _ => Form::Ofpst11GroupDescRequest,
    };
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| {
        if form != Form::Ofpst11GroupDescRequest {
            out.put_u32(group_id);
            out.put_zeros(4);
        }
    });
    out
}

/// The counters of a bucket, `u64::MAX` where not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketStats {
    /// Packets.
    pub packet_count: u64,
    /// Bytes.
    pub byte_count: u64,
}

/// The counters of a group, `u64::MAX` where not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupStats {
    /// The group.
    pub group_id: u32,
    /// Flows and groups that output to it.
    pub ref_count: u32,
    /// Packets.
    pub packet_count: u64,
    /// Bytes.
    pub byte_count: u64,
    /// For how long it has been there; does not travel in OpenFlow 1.1 and 1.2.
    pub duration: Option<Elapsed>,
    /// Its buckets.
    pub buckets: Vec<BucketStats>,
}

/// Decodes the groups in one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`
pub fn decode_reply(msg: &Incoming<'_>) -> Result<Vec<GroupStats>, OfError> {
    let mut r = msg.body();
    let has_duration = msg.form != Form::Ofpst11GroupReply;
    let mut groups = Vec::new();
    while !r.is_empty() {
        groups.push(GroupStats::take(&mut r, has_duration)?);
    }
    Ok(groups)
}

/// Adds a group to a reply.
pub fn append(stats: &GroupStats, replies: &mut MultipartWriter) -> bool {
    let has_duration = replies.form() != Form::Ofpst11GroupReply;
    replies.append(|out| stats.put(out, has_duration))
}

impl GroupStats {
    fn take(r: &mut Reader<'_>, has_duration: bool) -> Result<Self, OfError> {
        let len = usize::from({ *r }.u16()?);
        let mut r = r.sub(len)?;
        r.skip(4)?;
        let group_id = r.u32()?;
        let ref_count = r.u32()?;
        r.skip(4)?;
        let packet_count = r.u64()?;
        let byte_count = r.u64()?;
        let duration = if has_duration { Elapsed::from_wire(r.u32()?, r.u32()?) } else { None };
        let mut buckets = Vec::with_capacity(r.len() / 16);
        while r.len() >= 16 {
            buckets.push(BucketStats { packet_count: r.u64()?, byte_count: r.u64()? });
        }
        Ok(Self { group_id, ref_count, packet_count, byte_count, duration, buckets })
    }

    fn put(&self, out: &mut Vec<u8>, has_duration: bool) {
        let start = out.len();
        out.put_zeros(4);
        out.put_u32(self.group_id);
        out.put_u32(self.ref_count);
        out.put_zeros(4);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        if has_duration {
            let (sec, nsec) = Elapsed::to_wire(self.duration);
            out.put_u32(sec);
            out.put_u32(nsec);
        }
        for bucket in &self.buckets {
            out.put_u64(bucket.packet_count);
            out.put_u64(bucket.byte_count);
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }
}

/// A group as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDesc {
    /// The group.
    pub group_id: u32,
    /// What it does with a packet.
    pub group_type: GroupType,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses. Travels in OpenFlow 1.0 and 1.5.
    pub selection: Option<Selection>,
}

/// Decodes the groups in one message of a reply.
///
/// # Errors
/// `OFPBRC_BAD_LEN`, `OFPGMFC_*`, and those of properties and actions.
pub fn decode_desc_reply(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Vec<GroupDesc>, OfError> {
    let mut r = msg.body();
    let mut groups = Vec::new();
    while !r.is_empty() {
        let len = usize::from({ r }.u16()?);
        groups.push(GroupDesc::take(r.sub(len)?, msg.version, context)?);
    }
    Ok(groups)
}

/// Adds a group to a reply.
pub fn append_desc(group: &GroupDesc, target: &Target<'_>, replies: &mut MultipartWriter) -> bool {
    replies.append(|out| group.put(out, target))
}

impl GroupDesc {
    fn take(mut r: Reader<'_>, version: Version, context: &Context<'_>) -> Result<Self, OfError> {
        r.skip(2)?;
        let wire_type = r.u8()?;
        let group_type = GroupType::from_wire(wire_type)?;
        r.skip(1)?;
        let group_id = r.u32()?;
        if !is_of15_style(version) {
            let buckets = Bucket::take_all_of11(r, version, context)?;
            return Ok(Self { group_id, group_type, buckets, selection: None });
        }
        let buckets_len = usize::from(r.u16()?);
        r.skip(6)?;
        let buckets = Bucket::take_all_of15(r.sub(buckets_len)?, wire_type, version, context)?;
        let selection = Selection::take_properties(r, wire_type, Ok(()))?;
        Ok(Self { group_id, group_type, buckets, selection })
    }

    fn put(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let start = out.len();
        out.put_zeros(2);
        out.put_u8(self.group_type as u8);
        out.put_zeros(1);
        out.put_u32(self.group_id);
        if is_of15_style(target.version()) {
            self.put_of15(out, target);
        } else {
            self.buckets.iter().for_each(|b| b.put_of11(out, target));
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }

    fn put_of15(&self, out: &mut Vec<u8>, target: &Target<'_>) {
        let len_at = out.len();
        out.put_zeros(8);
        let start = out.len();
        self.buckets.iter().for_each(|b| b.put_of15(out, self.group_type, target));
        let len = len16(out.len() - start);
        out.set_u16(len_at, len);
        if let Some(selection) = &self.selection {
            selection.put(out, target.version());
        }
    }
}

/// What the switch's groups can do, for each [`GroupType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupFeatures {
    /// Bit `n` for the type with number `n`.
    pub types: u32,
    /// `OFPGFC_*`
    pub capabilities: u32,
    /// How many groups there can be.
    pub max_groups: [u32; 4],
    /// Which actions their buckets can have.
    pub actions: [ActionTypes; 4],
}

impl GroupFeatures {
    /// Decodes a reply.
    ///
    /// # Errors
    /// None once [`crate::identify`] has taken the message.
    pub fn decode_reply(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let mut features = Self { types: r.u32()?, capabilities: r.u32()?, ..Self::default() };
        for max in &mut features.max_groups {
            *max = r.u32()?;
        }
        for actions in &mut features.actions {
            *actions = ActionTypes::from_wire(r.u32()?, msg.version);
        }
        Ok(features)
    }

    /// Encodes a reply.
    #[must_use]
    pub fn encode_reply(&self, version: Version, xid: u32) -> Vec<u8> {
        let form = match version {
            Version::Of10 | Version::Of11 => Form::NxstGroupFeaturesReply,
            _ => Form::Ofpst12GroupFeaturesReply,
        };
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            out.put_u32(self.types);
            out.put_u32(self.capabilities);
            self.max_groups.iter().for_each(|max| out.put_u32(*max));
            self.actions.iter().for_each(|a| out.put_u32(a.to_wire(version)));
        });
        out
    }
}
