//! The in-flight region (vhost-user, "Inflight I/O tracking"): memory of the front end's in which a back end notes
//! where its rings are, for the one that comes after it if it dies.
//!
//! Buffers go back in the order in which they came, so that the position up to which they did is all there is to
//! know: no descriptor is ever marked, and whoever goes on takes the buffers behind that position again.

use crate::mem::Area;
use crate::protocol::{ProtocolError, Request, u16_at, u64_at};
use crate::session::RINGS_MAX;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, Release};

const VERSION: u16 = 1;
/// Offsets in a queue's part that both layouts have.
const AT_VERSION: usize = 8;
const AT_SIZE: usize = 10;
/// The position: of split rings the used index; of packed ones the used slot, and its lap as a byte. Twice, as packed
/// rings have the position before an update too.
const AT_SPLIT_USED: usize = 14;
const AT_PACKED_USED: [usize; 2] = [16, 18];
const AT_PACKED_LAPS: usize = 20;
/// Bytes in front of a queue's descriptors, and of one descriptor.
const SPLIT: (usize, usize) = (16, 16);
const PACKED: (usize, usize) = (32, 32);
const LAP: u32 = 1 << 15;

/// Where a region is in its file, and what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    pub size: u64,
    pub offset: u64,
    pub queues: u16,
    pub queue_size: u16,
}

fn queue_len(is_packed: bool, queue_size: u16) -> usize {
    let (head, each) = if is_packed { PACKED } else { SPLIT };
    (head + each * usize::from(queue_size)).next_multiple_of(64)
}

impl Spec {
    /// From the payload of either request, whose numbers of queues and descriptors must be possible.
    pub fn parse(request: Request, p: &[u8]) -> Result<Self, ProtocolError> {
        let spec = || {
            let (size, offset) = (u64_at(p, 0)?, u64_at(p, 8)?);
            Some(Spec { size, offset, queues: u16_at(p, 16)?, queue_size: u16_at(p, 18)? })
        };
        let possible = |s: &Spec| usize::from(s.queues) <= RINGS_MAX;
        spec().filter(possible).ok_or(ProtocolError::Payload(request))
    }

    /// With the size that a new region needs.
    pub fn sized(self, is_packed: bool) -> Self {
        let size = usize::from(self.queues) * queue_len(is_packed, self.queue_size);
        Spec { size: (size as u64).max(4096).next_multiple_of(4096), offset: 0, ..self }
    }

    pub fn payload(&self) -> Vec<u8> {
        let mut bytes = [self.size.to_ne_bytes(), self.offset.to_ne_bytes()].concat();
        bytes.extend([self.queues.to_ne_bytes(), self.queue_size.to_ne_bytes()].concat());
        bytes.resize(24, 0);
        bytes
    }
}

/// A region that a front end gave us.
pub struct Inflight {
    area: Area,
    file: File,
    pub spec: Spec,
}

impl Inflight {
    pub fn map(fd: OwnedFd, spec: Spec) -> io::Result<Self> {
        let (area, file) = Area::of_file(fd, spec.offset, spec.size)?;
        Ok(Inflight { area, file, spec })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// The part of one ring; `None` if there is none of this size.
    pub fn record(&self, index: usize, is_packed: bool, size: u16) -> Option<Record> {
        let len = queue_len(is_packed, self.spec.queue_size);
        let fits = index < usize::from(self.spec.queues) && size <= self.spec.queue_size;
        let area = self.area.part(index * len, len).filter(|_| fits)?;
        Some(Record { area, is_packed, size })
    }
}

/// One ring's part.
pub struct Record {
    area: Area,
    is_packed: bool,
    size: u16,
}

impl Record {
    /// What the back end before us noted, as a packed ring's position; `None` if nothing that is of use.
    pub fn position(&self) -> Option<u32> {
        let get = |at| self.area.load_u16(at, Relaxed);
        let is_noted = self.is_packed && get(AT_VERSION) == VERSION && get(AT_SIZE) == self.size;
        let [_, before] = AT_PACKED_USED;
        let (slot, lap) = (u32::from(get(before)), u32::from(get(AT_PACKED_LAPS)) >> 8 & 1);
        let place = slot | if lap != 0 { LAP } else { 0 };
        (is_noted && slot < u32::from(self.size)).then_some(place | place << 16)
    }

    /// Makes the part ready for a ring that begins at `position`.
    pub fn begin(&self, position: u32) {
        if self.is_packed {
            let (head, each) = PACKED;
            for i in 0..self.size {
                // The list of descriptors that are free.
                self.area.store_u16(head + each * usize::from(i) + 2, i.wrapping_add(1), Relaxed);
            }
        }
        self.area.store_u16(AT_SIZE, self.size, Relaxed);
        self.note(position);
        self.area.store_u16(AT_VERSION, VERSION, Release);
    }

    /// Notes up to where buffers went back.
    #[inline]
    pub fn note(&self, position: u32) {
        if !self.is_packed {
            self.area.store_u16(AT_SPLIT_USED, position as u16, Release);
            return;
        }
        let (slot, lap) = ((position & (LAP - 1)) as u16, u16::from(position & LAP != 0));
        AT_PACKED_USED.into_iter().for_each(|at| self.area.store_u16(at, slot, Relaxed));
        self.area.store_u16(AT_PACKED_LAPS, lap | lap << 8, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(spec: Spec) -> Inflight {
        let file = tempfile::tempfile().expect("file");
        file.set_len(spec.size).expect("length");
        Inflight::map(file.into(), spec).expect("region")
    }

    #[test]
    fn positions_are_noted_and_found() {
        let wanted = Spec { size: 0, offset: 9, queues: 2, queue_size: 256 };
        let spec = wanted.sized(true);
        assert_eq!((spec.size, spec.offset), (5 * 4096, 0));
        assert_eq!(Spec::parse(Request::SetInflightFd, &spec.payload()), Ok(spec));
        let region = region(spec);
        assert!(region.record(2, true, 256).is_none() && region.record(0, true, 512).is_none());
        let record = region.record(1, true, 256).expect("record");
        assert_eq!(record.position(), None);
        record.begin(1 << 15);
        assert_eq!(record.position(), Some(1 << 15 | 1 << 31));
        record.note(77);
        assert_eq!(record.position(), Some(77 | 77 << 16));
        assert_eq!(region.record(0, true, 256).and_then(|r| r.position()), None);
        assert_eq!(region.record(1, true, 128).and_then(|r| r.position()), None, "another ring");
    }

    #[test]
    fn too_many_queues_are_refused() {
        let spec = Spec { size: 1, offset: 2, queues: 257, queue_size: 3 };
        assert!(Spec::parse(Request::GetInflightFd, &spec.payload()).is_err());
        assert!(Spec::parse(Request::GetInflightFd, &spec.payload()[..19]).is_err());
    }
}
