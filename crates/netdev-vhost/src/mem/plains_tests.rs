use super::super::{Region, RegionSpec};
use super::*;

fn memory() -> Arc<GuestMemory> {
    let file = tempfile::tempfile().expect("file");
    file.set_len(0x4000).expect("length");
    let region = |guest, offset| {
        let spec = RegionSpec { guest, size: 0x2000, user: guest, offset };
        Arc::new(Region::map(spec, file.try_clone().expect("clone").into()).expect("region"))
    };
    // Neighbours in the guest, the other way round in the file.
    Arc::new(GuestMemory::new(vec![region(0x1000, 0x2000), region(0x3000, 0)]).expect("memory"))
}

#[test]
fn buffers_are_wholly_in_one_region_with_room_for_a_header_and_a_line() {
    let memory = memory();
    let mut plains = Plains::new(memory.clone());
    for are_written in [false, true] {
        plains.begin(LONG_HEADER, are_written);
        assert!(plains.is_empty() && plains.room() == BATCH_LEN && plains.are_written() == are_written);
        let outside =
            [(0, 1), (0xfff, 1), (0x2fff, 2), (0x2fff, 1), (0x3000 - 75, 1), (0x5000, 1), (0x4000, 0x1001)];
        for (addr, len) in outside.into_iter().chain([(u64::MAX, 2), (u64::MAX - 75, 76), (0x1000, u32::MAX)])
        {
            assert!(!plains.push(addr, len, 7), "{addr:#x} {len}");
        }
        assert!(plains.is_empty());
        for (addr, len) in
            [(0x1000, 0x2000), (0x3000 - 76, 1), (0x3000, 0x2000), (0x5000 - 76, 76), (0x1fff, 0)]
        {
            assert!(plains.push(addr, len, 7), "{addr:#x} {len}");
        }
        assert_eq!(plains.ready().len(), 5);
    }
    memory.write(0x3000, b"second").expect("write");
    memory.write(0x1000, b"first").expect("write");
    let bytes = |at: usize| {
        let mut bytes = [0; 5];
        plains.piece(at).expect("piece").read(&mut bytes);
        bytes
    };
    assert_eq!([bytes(0), bytes(2)], [*b"first", *b"secon"]);
    assert_eq!([0, 1, 4].map(|at| plains.piece(at).map(|p| p.len())), [Some(0x2000), Some(1), Some(0)]);
    assert!(plains.piece(5).is_none());
}

#[test]
fn there_is_room_for_a_batch_which_is_used_in_order() {
    let mut plains = Plains::new(memory());
    plains.begin(LONG_HEADER, true);
    for id in 0..BATCH_LEN as u16 {
        assert!(plains.push(0x1000 + 0x80 * u64::from(id), 0x80, id));
    }
    assert!(!plains.push(0x1000, 0x80, 99) && plains.room() == 0);
    plains.advance(30);
    assert_eq!(plains.ready().iter().map(|p| p.id).collect::<Vec<_>>(), [30, 31]);
    plains.advance(3);
    assert!(plains.is_empty());
}
