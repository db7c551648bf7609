//! Capture files: any bytes are records or an error, and frames that are written again read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packet::pcap::{Reader, Record, file_header, record_header};

fuzz_target!(|data: &[u8]| {
    let Ok(reader) = Reader::new(data) else { return };
    let records: Vec<Record<'_>> = reader.flatten().collect();
    let mut file = file_header().to_vec();
    for r in &records {
        file.extend(record_header(r.time_us, r.frame.len()));
        file.extend(r.frame);
    }
    let again: Vec<_> = Reader::new(&file).into_iter().flatten().collect();
    let frames: Vec<_> = again.iter().map(|r| r.map(|r| r.frame)).collect();
    assert_eq!(frames, records.iter().map(|r| Ok(r.frame)).collect::<Vec<_>>());
});
