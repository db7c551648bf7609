use super::*;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

fn file(len: u64) -> File {
    let f = tempfile::tempfile().expect("file");
    f.set_len(len).expect("length");
    f
}

fn region(guest: u64, user: u64, size: u64, f: &File, offset: u64) -> io::Result<Region> {
    let fd: OwnedFd = f.try_clone().expect("clone").into();
    Region::map(RegionSpec { guest, size, user, offset }, fd)
}

#[test]
fn access_goes_over_neighbouring_regions_and_nowhere_else() {
    let (f, g) = (file(0x3000), file(0x2000));
    let a = Arc::new(region(0x1000, 0x7000_1000, 0x2000, &f, 0x1000).expect("a"));
    let b = Arc::new(region(0x3000, 0x5000_0000, 0x2000, &g, 0).expect("b"));
    let m = GuestMemory::new(vec![a, b]).expect("memory");
    let bytes: Vec<u8> = (0..200).collect();
    m.write(0x2f9c, &bytes).expect("across");
    let mut back = vec![0; 200];
    m.read(0x2f9c, &mut back).expect("across");
    assert_eq!(back, bytes);
    for (addr, len) in [(0xfff, 1), (0x4fff, 2), (0x5000, 1), (u64::MAX, 4), (0, 1), (0x1000, 0x4001)] {
        assert_eq!(m.read(addr, &mut vec![0; len]), Err(OutOfRange), "{addr:#x}");
        assert!(!m.contains(addr, len as u64));
    }
    assert!(m.contains(0x1000, 0x4000));
    // The second file begins where the first region ends.
    let mut second = [0; 3];
    m.read(0x3000, &mut second).expect("read");
    assert_eq!(second, [100, 101, 102]);
}

#[test]
fn overlapping_wrapping_or_overlong_regions_are_refused() {
    let f = file(0x4000);
    let make = |guest, user| Arc::new(region(guest, user, 0x2000, &f, 0).expect("region"));
    assert!(GuestMemory::new(vec![make(0, 0), make(0x1000, 0x10_0000)]).is_err());
    assert!(GuestMemory::new(vec![make(0, 0), make(0x10_0000, 0x1fff)]).is_err());
    assert!(GuestMemory::new(vec![make(0, 0), make(0x2000, 0x2000)]).is_ok());
    assert!(region(u64::MAX - 5, 0, 0x2000, &f, 0).is_err());
    assert!(region(0, u64::MAX - 5, 0x2000, &f, 0).is_err());
    assert!(region(0, 0, 0x2000, &f, 0x2001).is_err(), "beyond the end of the file");
    assert!(region(0, 0, 0, &f, 0).is_err());
    assert!(region(0, 0, 1, &f, u64::MAX).is_err());
}

#[test]
fn areas_lie_in_one_region_and_numbers_in_areas() {
    let f = file(0x2000);
    let m = Arc::new(
        GuestMemory::new(vec![Arc::new(region(0, 0x8000, 0x2000, &f, 0).expect("region"))]).expect("memory"),
    );
    assert!(m.area(0x8000, 0x2001, 2).is_err() && m.area(0x7fff, 2, 1).is_err());
    assert!(m.area(0x8001, 16, 2).is_err(), "not aligned");
    let area = m.area(0x8010, 16, 16).expect("area");
    area.store_u16(4, 0x1234, Ordering::Release);
    area.store_pair(8, 1, 2);
    assert_eq!(
        (area.load_u16(4, Ordering::Acquire), area.load_u64(8, Ordering::Relaxed)),
        (0x1234, 0x2_0000_0001)
    );
    area.store_u16(16, 9, Ordering::Relaxed);
    assert_eq!((area.load_u16(16, Ordering::Relaxed), area.load_u16(5, Ordering::Relaxed)), (0, 0));
    drop(m);
    assert_eq!(area.load_u16(4, Ordering::Relaxed), 0x1234, "the area keeps the mapping");
}

#[test]
fn dirty_pages_are_marked_and_none_beyond() {
    let mut f = file(4096);
    let log = DirtyLog::map(f.try_clone().expect("clone").into(), 0, 2).expect("log");
    log.mark(4095, 2);
    log.mark(15 * 4096, 1 << 40);
    log.mark(u64::MAX, 10);
    log.mark(3 * 4096, 0);
    f.rewind().expect("rewind");
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut f, &mut bytes).expect("read");
    assert_eq!(bytes, [0b1011, 0x80, 0, 0]);
    f.flush().expect("flush");
}

#[test]
fn memory_that_is_truncated_is_lost_and_nothing_else() {
    let (f, g) = (file(0x4000), file(0x4000));
    let a = Arc::new(region(0, 0x10_0000, 0x4000, &f, 0).expect("a"));
    let b = Arc::new(region(0x4000, 0x20_0000, 0x4000, &g, 0).expect("b"));
    let m = GuestMemory::new(vec![a, b.clone()]).expect("memory");
    let other = GuestMemory::new(vec![b]).expect("memory");
    m.write(0, &[7; 0x8000]).expect("write");
    let before = fault::lost_count();
    f.set_len(0x1000).expect("truncated");
    let mut bytes = vec![1; 0x8000];
    m.read(0, &mut bytes).expect("read");
    assert_eq!((bytes[0x2000], bytes[0x5000]), (0, 7));
    m.write(0x2000, &[5; 0x1000]).expect("write");
    assert!(m.is_lost() && !other.is_lost());
    assert!(fault::lost_count() > before);
}
