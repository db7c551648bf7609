//! A guest's memory, mapped here: this file and those below it are the only ones of this crate with `unsafe`.
//!
//! The guest and its virtual machine monitor are adversaries. What this file promises about their memory:
//!
//! * Every access is checked against the mapping, and the mapping lives as long as anything that points into it: a
//!   region that the front end takes away stays mapped until the last ring or packet lets go of it.
//! * No Rust reference to guest memory exists, but to atomic numbers. Bytes are copied out once, through raw
//!   pointers, and judged in the copy; numbers that both sides write are read and written as atomics.
//! * A mapping is as long as its file was when it was made. A front end that truncates the file afterwards loses the
//!   region, not us ([`fault`]); files sealed against it (`F_SEAL_SHRINK`, as QEMU seals its memfds) cannot be.
#![allow(unsafe_code)] // mmap(2) and access to memory that somebody else writes at the same time

pub mod fault;
pub mod frames;
mod fronts;
pub mod plains;
pub mod source;
pub mod specials;
mod sums;

use smallvec::SmallVec;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

/// Regions of one guest, at most: what QEMU offers for hotplug with configurable memory slots.
pub const REGIONS_MAX: usize = 509;
/// Bytes that one bit of the dirty log stands for.
pub const LOG_PAGE: u64 = 4096;

/// The address or the length lies outside of what was mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("address outside of the guest's memory")]
pub struct OutOfRange;

/// A shared mapping of a file.
struct Mapping {
    base: *mut u8,
    len: usize,
    /// There until the mapping goes.
    watch: Option<fault::Watch>,
}

// SAFETY: the mapping is memory that may be accessed from any thread and is unmapped by any one, when nobody holds it;
// all accesses are raw or atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives nothing but the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset`, which is a multiple of the file's page size.
    fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| invalid())?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: this range was just mapped. It stays out of core dumps: it is the guest's, and may be huge.
        unsafe { libc::madvise(base, len, libc::MADV_DONTDUMP) };
        let mut mapping = Mapping { base: base.cast(), len, watch: None };
        mapping.watch = Some(fault::Watch::new(mapping.base, len)?);
        Ok(mapping)
    }

    fn is_lost(&self) -> bool {
        self.watch.as_ref().is_some_and(fault::Watch::is_lost)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.watch.take());
        // SAFETY: this range was mapped by `new`, or by the handler of `fault` in its place, whose watch is over; who
        // holds pointers into it (regions, areas, bursts of frames) holds the mapping too.
        unsafe { libc::munmap(self.base.cast::<c_void>(), self.len) };
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// Maps `size` bytes at `offset` of a file; returns also where they start in the mapping.
fn map_part(fd: OwnedFd, offset: u64, size: u64) -> io::Result<(Mapping, usize, File)> {
    let file = File::from(fd);
    let info = file.metadata()?;
    let end = offset.checked_add(size).ok_or_else(invalid)?;
    if size == 0 || !info.is_file() || end > info.len() {
        return Err(invalid());
    }
    // Huge pages are mapped whole.
    let page = info.blksize().max(4096);
    let page = if page.is_power_of_two() { page } else { 4096 };
    let start = offset & !(page - 1);
    let len = end.checked_next_multiple_of(page).ok_or_else(invalid)? - start;
    let len = usize::try_from(len).map_err(|_| invalid())?;
    let at = usize::try_from(offset - start).map_err(|_| invalid())?;
    Ok((Mapping::new(&file, start, len)?, at, file))
}

/// Whether nobody can make the file shorter.
fn is_sealed(file: &File) -> bool {
    let seals = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GET_SEALS);
    seals.is_ok_and(|seals| seals & libc::F_SEAL_SHRINK != 0)
}

/// Where a region lies: in the guest, in the front end, in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct RegionSpec {
    pub guest: u64,
    pub size: u64,
    pub user: u64,
    pub offset: u64,
}

/// One piece of guest memory.
pub struct Region {
    pub spec: RegionSpec,
    mapping: Mapping,
    at: usize,
    file: File,
}

impl Region {
    pub fn map(spec: RegionSpec, fd: OwnedFd) -> io::Result<Self> {
        let overflows = |start: u64| start.checked_add(spec.size).is_none();
        if overflows(spec.guest) || overflows(spec.user) {
            return Err(invalid());
        }
        let (mapping, at, file) = map_part(fd, spec.offset, spec.size)?;
        Ok(Region { spec, mapping, at, file })
    }

    /// The file behind the region.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether both are the same part of the same file.
    pub fn is_same_memory(&self, other: &Region) -> bool {
        use std::os::unix::fs::MetadataExt;
        let file = |region: &Region| region.file.metadata().map(|m| (m.dev(), m.ino())).ok();
        self.spec == other.spec && file(self).is_some_and(|f| file(other) == Some(f))
    }

    /// Whether nobody can take the memory away from under us.
    pub fn is_sealed(&self) -> bool {
        is_sealed(&self.file)
    }

    fn base(&self) -> *mut u8 {
        self.mapping.base.wrapping_add(self.at)
    }
}

/// One guest's memory: what its regions are at a moment. Replaced as a whole when they change.
#[derive(Default)]
pub struct GuestMemory {
    regions: Vec<Arc<Region>>,
    /// Guest address, size and our address of each.
    table: SmallVec<[Entry; 4]>,
}

#[derive(Clone, Copy)]
struct Entry {
    guest: u64,
    size: u64,
    base: *mut u8,
}

// SAFETY: the pointers are into the mappings that `regions` holds, which are Send and Sync themselves; both are set once.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Regions that overlap in the guest or in the front end are refused.
    pub fn new(regions: Vec<Arc<Region>>) -> Result<Self, OutOfRange> {
        let meet = |a: u64, b: u64, a_size: u64, b_size: u64| a < b + b_size && b < a + a_size;
        for (i, a) in regions.iter().enumerate() {
            for b in regions.iter().skip(i + 1) {
                let (a, b) = (a.spec, b.spec);
                if meet(a.guest, b.guest, a.size, b.size) || meet(a.user, b.user, a.size, b.size) {
                    return Err(OutOfRange);
                }
            }
        }
        if regions.len() > REGIONS_MAX {
            return Err(OutOfRange);
        }
        let entry = |r: &Arc<Region>| Entry { guest: r.spec.guest, size: r.spec.size, base: r.base() };
        let table = regions.iter().map(entry).collect();
        Ok(GuestMemory { regions, table })
    }

    /// Whether some of it was taken away from under us.
    pub fn is_lost(&self) -> bool {
        self.regions.iter().any(|r| r.mapping.is_lost())
    }

    pub fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }

    /// The memory at guest address `addr`: up to `len` bytes of it that lie in one region, at least one.
    #[inline]
    pub fn piece(&self, addr: u64, len: usize) -> Result<Piece<'_>, OutOfRange> {
        for e in &self.table {
            let ofs = addr.wrapping_sub(e.guest);
            if ofs < e.size {
                let len = (e.size - ofs).min(len as u64) as usize;
                return Ok(Piece { base: e.base.wrapping_add(ofs as usize), len, memory: PhantomData });
            }
        }
        Err(OutOfRange)
    }

    /// As [`GuestMemory::piece`], all that the region has from `addr` on; `near` is the region to look at first.
    #[inline]
    pub fn rest(&self, near: &mut usize, addr: u64) -> Result<Piece<'_>, OutOfRange> {
        if let Some(e) = self.table.get(*near) {
            let ofs = addr.wrapping_sub(e.guest);
            if ofs < e.size {
                let (base, len) = (e.base.wrapping_add(ofs as usize), (e.size - ofs) as usize);
                return Ok(Piece { base, len, memory: PhantomData });
            }
        }
        *near = self.table.iter().position(|e| addr.wrapping_sub(e.guest) < e.size).ok_or(OutOfRange)?;
        self.piece(addr, usize::MAX)
    }

    /// Copies guest memory that may go over several regions.
    #[inline]
    pub fn read(&self, addr: u64, mut out: &mut [u8]) -> Result<(), OutOfRange> {
        let mut addr = addr;
        while !out.is_empty() {
            let piece = self.piece(addr, out.len())?;
            let (now, later) = out.split_at_mut(piece.len);
            piece.read(now);
            addr = addr.wrapping_add(piece.len as u64);
            out = later;
        }
        Ok(())
    }

    /// As [`GuestMemory::read`], to the guest.
    #[inline]
    pub fn write(&self, addr: u64, mut bytes: &[u8]) -> Result<(), OutOfRange> {
        let mut addr = addr;
        while !bytes.is_empty() {
            let piece = self.piece(addr, bytes.len())?;
            let (now, later) = bytes.split_at(piece.len);
            piece.write(now);
            addr = addr.wrapping_add(piece.len as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Whether all of a range is mapped.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        let (mut addr, mut left) = (addr, len);
        while left > 0 {
            let Ok(piece) = self.piece(addr, usize::try_from(left).unwrap_or(usize::MAX)) else {
                return false;
            };
            addr = addr.wrapping_add(piece.len as u64);
            left -= piece.len as u64;
        }
        true
    }

    /// Where an address of the front end is in the guest.
    pub fn guest_address(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|r| {
            let ofs = user.wrapping_sub(r.spec.user);
            (ofs < r.spec.size).then(|| r.spec.guest + ofs)
        })
    }

    /// `len` bytes at an address of the front end, all in one region, aligned to `align`: a part of a ring.
    pub fn area(self: &Arc<Self>, user: u64, len: usize, align: u64) -> Result<Area, OutOfRange> {
        for region in &self.regions {
            let spec = region.spec;
            let ofs = user.wrapping_sub(spec.user);
            if ofs < spec.size && len as u64 <= spec.size - ofs {
                let base = region.base().wrapping_add(ofs as usize);
                let is_aligned = (base as usize as u64).is_multiple_of(align);
                return if is_aligned {
                    Ok(Area { base, len, _memory: self.clone() })
                } else {
                    Err(OutOfRange)
                };
            }
        }
        Err(OutOfRange)
    }
}

/// Asks the processor to fetch what lies at `at`, to read it.
#[inline]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address does nothing but warm the cache.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// As [`prefetch`], to write it.
#[inline]
fn prefetch_to_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as for `prefetch`; processors without this instruction take it for one that does nothing.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Bytes of a frame that are copied when it is received, though the rest stays with the guest. Of some it is more
/// ([`netdev::burst::head_len`]).
pub const HEAD: usize = netdev::burst::HEAD;
pub const LINE: usize = 64;
/// Bytes of a virtio-net header with `num_buffers`.
pub const LONG_HEADER: usize = 12;

/// Bytes of guest memory in one piece.
#[derive(Clone, Copy)]
pub struct Piece<'m> {
    base: *mut u8,
    len: usize,
    memory: PhantomData<&'m GuestMemory>,
}

impl Piece<'_> {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the first `out.len()` bytes, or as many as there are.
    #[inline]
    pub fn read(&self, out: &mut [u8]) {
        let n = out.len().min(self.len);
        // SAFETY: `base..base + len` lies in a mapping that the borrowed GuestMemory holds, `out` is ours, and no longer
        // than `n`. The guest may write meanwhile: then the bytes, which are valid whatever they are, come as a mixture.
        unsafe { ptr::copy_nonoverlapping(self.base, out.as_mut_ptr(), n) };
        // What is judged is the copy: the compiler must not go back to the original for it.
        compiler_fence(Ordering::SeqCst);
    }

    /// Without the first `n` bytes.
    #[inline]
    pub fn behind(self, n: usize) -> Self {
        let n = n.min(self.len);
        Piece { base: self.base.wrapping_add(n), len: self.len - n, memory: PhantomData }
    }

    /// Of no more than `n` bytes.
    #[inline]
    pub fn first(self, n: usize) -> Self {
        Piece { len: self.len.min(n), ..self }
    }

    /// The first bytes, zeros where there are none.
    #[inline]
    pub fn header(&self) -> [u8; LONG_HEADER] {
        let mut header = [0; LONG_HEADER];
        if self.len < LONG_HEADER {
            self.read(&mut header);
            return header;
        }
        // SAFETY: as in `read`: `self.len` is no less. A copy of a fixed length is one or two loads.
        unsafe { ptr::copy_nonoverlapping(self.base, header.as_mut_ptr(), LONG_HEADER) };
        compiler_fence(Ordering::SeqCst);
        header
    }

    /// Copies the first `len` bytes, or as many as `out` takes: always the whole of it if the region has as much, for
    /// that takes no loop.
    #[inline]
    pub fn read_line(&self, len: usize, out: &mut [u8; LINE]) {
        if self.len >= LINE {
            // SAFETY: as in `read`: `self.len` bytes are mapped, and `out` is no longer.
            unsafe { ptr::copy_nonoverlapping(self.base, out.as_mut_ptr(), LINE) };
            compiler_fence(Ordering::SeqCst);
        } else {
            self.read(out.get_mut(..len.min(LINE)).unwrap_or_default());
        }
    }

    /// Prefetches the lines of the first byte and of that at `at`.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        prefetch(self.base);
        prefetch(self.base.wrapping_add(at));
    }

    /// As [`Piece::prefetch`], to write what is at `at`. What is in front of it, a header in a line of its own, is
    /// seldom written ([`Piece::write_header`]).
    #[inline]
    pub fn prefetch_to_write(&self, at: usize) {
        let body = self.base.wrapping_add(at);
        if self.base as usize / LINE != body as usize / LINE {
            prefetch(self.base);
        }
        prefetch_to_write(body);
    }

    /// Writes a header, unless it is there already: many drivers leave that of the buffer's last frame in place, and
    /// the line that it is in then stays in both processors' caches.
    #[inline]
    pub fn write_header(&self, header: &[u8]) {
        if header.len() == LONG_HEADER && self.header() == header {
            return;
        }
        self.write(header);
    }

    /// Writes a line, if there is room for it. (To write as much as there is room for would be a call.)
    #[inline]
    pub fn write_line(&self, line: &[u8; LINE]) {
        if self.len >= LINE {
            // SAFETY: as in `write`, and `self.len` is enough for all of it.
            unsafe { ptr::copy_nonoverlapping(line.as_ptr(), self.base, LINE) };
        }
    }

    /// Copies as many bytes as there is room for.
    #[inline]
    pub fn write(&self, bytes: &[u8]) {
        let n = bytes.len().min(self.len);
        // SAFETY: as in `read`, the other way; `bytes`, a reference, is no guest's memory, so they do not overlap. What the
        // guest sees meanwhile is its own affair.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base, n) };
    }
}

/// A part of a ring: memory in one piece that both sides read and write as numbers. Offsets beyond it read as 0
/// and write nothing; whoever makes a ring has checked that there are none.
pub struct Area {
    base: *mut u8,
    len: usize,
    /// What keeps it mapped.
    _memory: Arc<dyn Send + Sync>,
}

// SAFETY: the pointer is into a mapping that `_memory` holds, which may go with any thread; accesses are atomic.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    /// `size` bytes at `offset` of a file that is shared with a front end.
    pub fn of_file(fd: OwnedFd, offset: u64, size: u64) -> io::Result<(Self, File)> {
        let (mapping, at, file) = map_part(fd, offset, size)?;
        let len = usize::try_from(size).map_err(|_| invalid())?;
        Ok((Area { base: mapping.base.wrapping_add(at), len, _memory: Arc::new(mapping) }, file))
    }

    /// `len` bytes from `at` on; `None` if they are not all inside.
    pub fn part(&self, at: usize, len: usize) -> Option<Self> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then(|| Area { base: self.base.wrapping_add(at), len, _memory: self._memory.clone() })
    }

    /// The address of a number of `size` bytes at `at`, if it is wholly inside and aligned.
    #[inline]
    fn at(&self, at: usize, size: usize) -> Option<*mut u8> {
        let inside = at.checked_add(size).is_some_and(|end| end <= self.len);
        let p = self.base.wrapping_add(at);
        (inside && (p as usize).is_multiple_of(size)).then_some(p)
    }

    #[inline]
    pub fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        // SAFETY: `at` gave an aligned address inside of a living mapping; other processes write it as a number of
        // the same size, or as they please, which an atomic load copes with.
        self.at(at, 2).map_or(0, |p| unsafe { AtomicU16::from_ptr(p.cast()) }.load(order))
    }

    #[inline]
    pub fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        if let Some(p) = self.at(at, 2) {
            // SAFETY: as in `load_u16`.
            unsafe { AtomicU16::from_ptr(p.cast()) }.store(value, order);
        }
    }

    #[inline]
    pub fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        // SAFETY: as in `load_u16`.
        self.at(at, 8).map_or(0, |p| unsafe { AtomicU64::from_ptr(p.cast()) }.load(order))
    }

    /// `n` numbers from `at` on; none if they are not all inside, or not aligned.
    #[inline]
    pub fn u16s(&self, at: usize, n: usize) -> &[AtomicU16] {
        let Some(p) = self.many(at, n, 2, 2) else { return &[] };
        // SAFETY: as in `load_u16`, for all of them.
        unsafe { std::slice::from_raw_parts(p.cast(), n) }
    }

    /// As [`Area::u16s`], pairs of numbers: entries of a used ring.
    #[inline]
    pub fn u32_pairs(&self, at: usize, n: usize) -> &[[AtomicU32; 2]] {
        let Some(p) = self.many(at, n, 8, 4) else { return &[] };
        // SAFETY: as in `load_u16`, for all of them.
        unsafe { std::slice::from_raw_parts(p.cast(), n) }
    }

    /// As [`Area::u16s`], pairs of numbers: descriptors.
    #[inline]
    pub fn u64_pairs(&self, at: usize, n: usize) -> &[[AtomicU64; 2]] {
        let Some(p) = self.many(at, n, 16, 8) else { return &[] };
        // SAFETY: as in `load_u16`, for all of them.
        unsafe { std::slice::from_raw_parts(p.cast(), n) }
    }

    /// The address of `n` items of `size` bytes at `at`, if they are wholly inside and aligned.
    #[inline]
    fn many(&self, at: usize, n: usize, size: usize, align: usize) -> Option<*mut u8> {
        let end = n.checked_mul(size).and_then(|len| at.checked_add(len));
        let p = self.base.wrapping_add(at);
        (end.is_some_and(|end| end <= self.len) && (p as usize).is_multiple_of(align)).then_some(p)
    }

    #[inline]
    pub fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        if let Some(p) = self.at(at, 8) {
            // SAFETY: as in `load_u16`.
            unsafe { AtomicU64::from_ptr(p.cast()) }.store(value, order);
        }
    }

    /// Prefetches the line of what is at `at`, to write it.
    #[inline]
    pub fn prefetch_to_write(&self, at: usize) {
        prefetch_to_write(self.base.wrapping_add(at));
    }

    /// Two numbers side by side.
    #[inline]
    pub fn load_pair(&self, at: usize) -> (u64, u64) {
        (self.load_u64(at, Ordering::Relaxed), self.load_u64(at + 8, Ordering::Relaxed))
    }

    /// Writes eight bytes at an offset that is a multiple of four only, as two halves, of which those that are there
    /// already are left alone: the other side keeps its copy of the line.
    #[inline]
    pub fn store_pair(&self, at: usize, low: u32, high: u32) {
        let p = self.base.wrapping_add(at);
        if at.checked_add(8).is_some_and(|end| end <= self.len) && (p as usize).is_multiple_of(4) {
            // SAFETY: as in `load_u16`, for both halves, both of which are inside.
            let halves = unsafe { [AtomicU32::from_ptr(p.cast()), AtomicU32::from_ptr(p.add(4).cast())] };
            for (half, value) in halves.into_iter().zip([low, high]) {
                if half.load(Ordering::Relaxed) != value {
                    half.store(value, Ordering::Relaxed);
                }
            }
        }
    }

    /// The NUMA node of the first page; `None` if the kernel does not say.
    pub fn numa_node(&self) -> Option<u32> {
        let mut node: libc::c_int = -1;
        // The page has to be there for the question to have an answer.
        self.load_u16(0, Ordering::Relaxed);
        const MPOL_F_NODE_ADDR: libc::c_ulong = 3;
        // SAFETY: the kernel writes one int to `node`, no mask is asked for, and the address is only looked up.
        let done = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut node,
                ptr::null_mut::<c_void>(),
                0 as libc::c_ulong,
                self.base.cast::<c_void>(),
                MPOL_F_NODE_ADDR,
            )
        };
        (done == 0).then(|| u32::try_from(node).ok()).flatten()
    }
}

/// The bitmap that tells a migrating front end which pages we wrote.
pub struct DirtyLog {
    mapping: Mapping,
    at: usize,
    len: usize,
    pub spec: (u64, u64),
    file: File,
}

impl DirtyLog {
    /// Maps `size` bytes at `offset` of the front end's file.
    pub fn map(fd: OwnedFd, offset: u64, size: u64) -> io::Result<Self> {
        let (mapping, at, file) = map_part(fd, offset, size)?;
        let len = usize::try_from(size).map_err(|_| invalid())?;
        Ok(DirtyLog { mapping, at, len, spec: (offset, size), file })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Says that `len` bytes at guest address `addr` were written. Pages beyond the bitmap are not told.
    pub fn mark(&self, addr: u64, len: u64) {
        let Some(last) = addr.checked_add(len.max(1) - 1) else { return };
        let mut page = addr / LOG_PAGE;
        while page <= last / LOG_PAGE && page / 8 < self.len as u64 {
            let byte = self.mapping.base.wrapping_add(self.at + (page / 8) as usize);
            // SAFETY: `page / 8` is below `len`, so the byte lies in the mapping, whatever address the front end named;
            // it clears bits as atomically as we set them.
            unsafe { AtomicU8::from_ptr(byte) }.fetch_or(1 << (page % 8), Ordering::Relaxed);
            page += 1;
        }
    }
}

#[cfg(test)]
#[path = "mem_tests.rs"]
mod tests;
