//! Appending to capture files ([`packet::pcap`] has the format).

use packet::pcap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// A pcap file open for appending.
#[derive(Debug)]
pub struct PcapWriter {
    file: File,
}

impl PcapWriter {
    /// Opens `path` for appending; a new or empty file gets its header.
    pub fn append(path: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(&pcap::file_header())?;
        }
        Ok(PcapWriter { file })
    }

    /// Appends `frame` with the present time.
    pub fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // One system call per record keeps two writers to one file from mixing their records.
        let header = pcap::record_header(now.as_micros() as u64, frame.len());
        self.file.write_all(&[&header, frame].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_writes_one_header() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x.pcap");
        let path = path.to_str().expect("utf-8");
        for _ in 0..2 {
            PcapWriter::append(path).expect("open").write(&[7; 60]).expect("write");
        }
        let bytes = std::fs::read(path).expect("read");
        assert_eq!(bytes.len(), 24 + 2 * (16 + 60));
        assert_eq!(bytes[..24], pcap::file_header());
        assert_eq!(bytes[24 + 16..24 + 76], [7; 60]);
    }
}
