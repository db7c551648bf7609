//! Messages in several parts: writing long replies, and putting requests together.

use std::collections::HashMap;

use crate::error::OfError;
use crate::form::{Form, Incoming, finish, identify_part};
use crate::msg::error_msg;
use crate::wire::PutBytes;
use crate::{Header, Version};

/// Longest message.
pub const MESSAGE_LEN_MAX: usize = 65_535;
/// Set in the flags of every part but the last.
const MORE: u16 = 1;
/// Where a multipart message has its flags.
const FLAGS_AT: usize = 10;

/// Writes the replies to a multipart request, entry by entry, beginning another message when one is full.
#[derive(Debug)]
pub struct MultipartWriter {
    form: Form,
    version: Version,
    xid: u32,
    full: Vec<Vec<u8>>,
    current: Vec<u8>,
    header_len: usize,
}

impl MultipartWriter {
    /// Replies to `request`; `None` if that is no multipart request.
    #[must_use]
    pub fn reply_to(request: &Incoming<'_>) -> Option<Self> {
        let form = request.form.reply(request.version)?;
        Some(Self::new(form, request.version, request.header.xid))
    }

    /// Replies of the form `form`, which the version must have.
    #[must_use]
    pub fn new(form: Form, version: Version, xid: u32) -> Self {
        let mut current = Vec::with_capacity(1024);
        form.put(version, xid, &mut current, |_| ());
        let header_len = current.len();
        Self { form, version, xid, full: Vec::new(), current, header_len }
    }

    /// The form of the replies.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The version of the replies.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Adds the entry that `entry` appends. Returns false, and adds nothing, if the entry would not fit
    /// in a message of its own: Open vSwitch leaves such entries out.
    pub fn append(&mut self, entry: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.current.len();
        entry(&mut self.current);
        let entry_len = self.current.len() - start;
        if entry_len > MESSAGE_LEN_MAX - self.header_len {
            self.current.truncate(start);
            return false;
        }
        if self.current.len() > MESSAGE_LEN_MAX {
            let entry = self.current.split_off(start);
            self.begin_next();
            self.current.put_bytes(&entry);
        }
        true
    }

    fn begin_next(&mut self) {
        let mut next = Vec::with_capacity(MESSAGE_LEN_MAX);
        self.form.put(self.version, self.xid, &mut next, |_| ());
        let mut full = std::mem::replace(&mut self.current, next);
        full.set_u16(FLAGS_AT, MORE);
        finish(&mut full, 0);
        self.full.push(full);
    }

    /// Hands out the messages that are full, so that they can be sent before the rest is written.
    pub fn take_full(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.full)
    }

    /// The remaining messages, at least one.
    #[must_use]
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        finish(&mut self.current, 0);
        self.full.push(self.current);
        self.full
    }
}

/// Bytes that the parts of one request may have together.
pub const REQUEST_LEN_MAX: usize = 4 * 1024 * 1024;
/// Bytes that all unfinished requests of a connection may have together.
pub const PENDING_LEN_MAX: usize = 4 * REQUEST_LEN_MAX;
/// How long the next part of a request may take.
pub const PART_TIMEOUT_MS: u64 = 1000;

/// Puts the requests of one connection together that come in several parts (OpenFlow 1.3 and later).
#[derive(Debug, Default)]
pub struct MultipartAssembler {
    /// By transaction id.
    requests: HashMap<u32, Request>,
    pending_len: usize,
}

#[derive(Debug)]
struct Request {
    form: Form,
    timeout_at_ms: u64,
    parts: Vec<Vec<u8>>,
    len: usize,
    has_body: bool,
}

impl MultipartAssembler {
    /// Whether `message` is a multipart request, which may come in parts; others pass through.
    #[must_use]
    pub fn is_for(message: &[u8]) -> bool {
        Header::parse(message).is_some_and(|h| match Version::from_wire(h.version) {
            Some(Version::Of10) => h.msg_type == 16,
            Some(_) => h.msg_type == 18,
            None => false,
        })
    }

    /// Takes in a whole received message. What comes back is to be handled now: the message itself if it
    /// is no multipart request, nothing if parts of it are still to come, else all its parts that have a
    /// body, or one without if none has.
    ///
    /// # Errors
    /// The error to answer `message` with. `OFPBRC_BAD_STAT` if the parts differ in type,
    /// `OFPBRC_MULTIPART_BUFFER_OVERFLOW` above [`REQUEST_LEN_MAX`] or [`PENDING_LEN_MAX`], and those of
    /// [`crate::identify`]. The parts that came before are forgotten.
    pub fn submit(&mut self, message: &[u8], now_ms: u64) -> Result<Vec<Vec<u8>>, OfError> {
        if !Self::is_for(message) {
            return Ok(vec![message.to_vec()]);
        }
        let part = identify_part(message)?;
        let xid = part.header.xid;
        match self.add(&part, now_ms) {
            Ok(true) => Ok(Vec::new()),
            Ok(false) => Ok(without_empty_parts(self.remove(xid), part.header_len())),
            Err(error) => {
                self.remove(xid);
                Err(error)
            }
        }
    }

    /// Adds a part; true if more are to come.
    fn add(&mut self, part: &Incoming<'_>, now_ms: u64) -> Result<bool, OfError> {
        let request = self.requests.entry(part.header.xid).or_insert_with(|| Request {
            form: part.form,
            timeout_at_ms: 0,
            parts: Vec::new(),
            len: 0,
            has_body: false,
        });
        if request.form != part.form {
            return Err(OfError::OfpbrcBadStat);
        }
        request.timeout_at_ms = now_ms.saturating_add(PART_TIMEOUT_MS);
        request.len += part.bytes.len();
        self.pending_len += part.bytes.len();
        if request.len > REQUEST_LEN_MAX || self.pending_len > PENDING_LEN_MAX {
            return Err(OfError::OfpbrcMultipartBufferOverflow);
        }
        request.has_body |= !part.body().is_empty();
        let more = part.version >= Version::Of13 && part.multipart_flags() & MORE != 0;
        if !more && !request.has_body && part.form.body_min() > 0 {
            return Err(OfError::OfpbrcBadLen);
        }
        request.parts.push(part.bytes.to_vec());
        Ok(more)
    }

    fn remove(&mut self, xid: u32) -> Vec<Vec<u8>> {
        let Some(request) = self.requests.remove(&xid) else { return Vec::new() };
        self.pending_len = self.pending_len.saturating_sub(request.len);
        request.parts
    }

    /// Forgets a request whose next part is overdue at `now_ms` and returns the error message to send for
    /// it. To be called until it returns nothing.
    pub fn expire(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        let xid = *self.requests.iter().find(|(_, r)| now_ms >= r.timeout_at_ms)?.0;
        let parts = self.remove(xid);
        let last = parts.last()?;
        Some(error_msg::encode_reply(OfError::OfpbrcMultipartRequestTimeout, last))
    }

    /// When [`Self::expire`] will next have something to do.
    #[must_use]
    pub fn next_timeout_ms(&self) -> Option<u64> {
        self.requests.values().map(|r| r.timeout_at_ms).min()
    }
}

fn without_empty_parts(mut parts: Vec<Vec<u8>>, header_len: usize) -> Vec<Vec<u8>> {
    let mut left = parts.len();
    parts.retain(|part| {
        let keep = part.len() > header_len || left == 1;
        left -= usize::from(!keep);
        keep
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify;

    fn request(xid: u32, form: Form, more: bool, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        form.put(Version::Of13, xid, &mut out, |out| out.put_bytes(body));
        out.set_u16(FLAGS_AT, u16::from(more));
        out
    }

    #[test]
    fn replies_split_between_entries() {
        let mut w = MultipartWriter::new(Form::Ofpst13FlowReply, Version::Of13, 7);
        for i in 0..3u8 {
            assert!(w.append(|out| out.resize(out.len() + 30_000, i)));
        }
        assert!(!w.append(|out| out.put_zeros(65_535 - 15)), "longer than a message can be");
        let messages = w.finish();
        let flags: Vec<_> = messages.iter().map(|m| identify(m).unwrap().multipart_flags()).collect();
        assert_eq!(flags, [1, 0]);
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [60_016, 30_016]);
        for message in &messages {
            let incoming = identify(message).unwrap();
            assert_eq!(usize::from(incoming.header.length), message.len());
            assert_eq!(incoming.header.xid, 7);
        }
    }

    #[test]
    fn an_entry_may_fill_a_message_to_the_last_byte() {
        let mut w = MultipartWriter::new(Form::Ofpst13FlowReply, Version::Of13, 7);
        assert!(w.append(|out| out.put_zeros(65_535 - 16)));
        assert_eq!(w.take_full().len(), 0);
        assert!(w.append(|out| out.put_u8(1)));
        assert_eq!(w.take_full().len(), 1);
        assert_eq!(w.finish().len(), 1);
    }

    #[test]
    fn parts_are_put_together_by_xid() {
        let mut a = MultipartAssembler::default();
        let form = Form::Ofpst13TableFeaturesRequest;
        let first = request(1, form, true, &[0; 64]);
        let empty = request(1, form, true, &[]);
        let last = request(1, form, false, &[0; 72]);
        assert_eq!(a.submit(&first, 0).unwrap().len(), 0);
        assert_eq!(a.submit(&request(2, form, false, &[]), 0).unwrap().len(), 1, "another request");
        assert_eq!(a.submit(&empty, 0).unwrap().len(), 0);
        assert_eq!(a.submit(&last, 0).unwrap(), [first, last]);
        assert_eq!(a.pending_len, 0);
        assert_eq!(a.next_timeout_ms(), None);
    }

    #[test]
    fn one_empty_part_stays_if_all_are() {
        let mut a = MultipartAssembler::default();
        let form = Form::OfpstDescRequest;
        assert!(a.submit(&request(1, form, true, &[]), 0).unwrap().is_empty());
        assert_eq!(a.submit(&request(1, form, false, &[]), 0).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_multipart_request_passes() {
        let mut a = MultipartAssembler::default();
        let hello = [4, 0, 0, 8, 0, 0, 0, 0];
        assert_eq!(a.submit(&hello, 0).unwrap(), [hello]);
    }

    #[test]
    fn errors_forget_the_request() {
        let mut a = MultipartAssembler::default();
        let form = Form::Ofpst13TableFeaturesRequest;
        a.submit(&request(1, form, true, &[0; 64]), 0).unwrap();
        let other = request(1, Form::OfpstDescRequest, false, &[]);
        assert_eq!(a.submit(&other, 0), Err(OfError::OfpbrcBadStat));
        assert_eq!((a.requests.len(), a.pending_len), (0, 0));
        // A body is missing.
        let port_stats = request(1, Form::Ofpst11PortRequest, false, &[]);
        assert_eq!(a.submit(&port_stats, 0), Err(OfError::OfpbrcBadLen));
        // Too long altogether.
        let long = request(1, form, true, &[0; 65_512]);
        let error = (0..100).find_map(|_| a.submit(&long, 0).err());
        assert_eq!(error, Some(OfError::OfpbrcMultipartBufferOverflow));
        assert_eq!((a.requests.len(), a.pending_len), (0, 0));
    }

    #[test]
    fn overdue_parts_time_out() {
        let mut a = MultipartAssembler::default();
        let first = request(9, Form::Ofpst13TableFeaturesRequest, true, &[0; 64]);
        a.submit(&first, 500).unwrap();
        assert_eq!(a.next_timeout_ms(), Some(1500));
        assert_eq!(a.expire(1499), None);
        let reply = a.expire(1500).unwrap();
        assert_eq!(identify(&reply).unwrap().header.xid, 9);
        assert_eq!(a.expire(1500), None);
    }
}
