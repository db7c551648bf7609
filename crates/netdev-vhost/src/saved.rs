//! A session on its way to another process: its descriptors by label, and what is known of them.

use crate::inflight::{self, Inflight};
use crate::mem::{GuestMemory, Region, RegionSpec};
use crate::protocol::RingAddresses;
use crate::session::{RingConfig, Rings, Session};
use nix::sys::memfd::{MFdFlags, memfd_create};
use saved_state::postcard;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Of [`SavedSession`]; raised with every change of it.
const VERSION: u32 = 2;
/// Label of the memory file with the [`SavedSession`].
const STATE: &str = "state";
const SOCKET: &str = "socket";
/// A state is a few kilobytes.
const STATE_MAX: u64 = 1 << 20;

/// One ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedRing {
    pub size: u16,
    pub addresses: Option<RingAddresses>,
    pub base: u32,
    pub kicked: bool,
    pub enabled: bool,
}

/// What the other process has to know beside the descriptors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedSession {
    pub version: u32,
    pub features: u64,
    pub protocol_features: u64,
    pub mtu: Option<u16>,
    pub status: u8,
    pub regions: Vec<RegionSpec>,
    /// Offset and size.
    pub log: Option<(u64, u64)>,
    pub inflight: Option<inflight::Spec>,
    pub rings: Vec<SavedRing>,
}

/// A session that came from another process.
pub struct Adopted {
    pub socket: UnixStream,
    state: SavedSession,
    fds: BTreeMap<String, OwnedFd>,
}

/// Saves a session that goes on: `bases` are the positions of the rings that run, read at a moment when no
/// thread uses them.
pub fn save(
    session: &Session,
    socket: &UnixStream,
    base: impl Fn(usize) -> Option<u32>,
) -> io::Result<Vec<(String, OwnedFd)>> {
    let ring = |(i, r): (usize, &RingConfig)| SavedRing {
        size: r.size,
        addresses: r.addresses,
        base: base(i).unwrap_or(r.base),
        kicked: r.kicked,
        enabled: r.enabled,
    };
    let state = SavedSession {
        version: VERSION,
        features: session.features,
        protocol_features: session.protocol_features,
        mtu: session.mtu,
        status: session.status,
        regions: session.memory.regions().iter().map(|r| r.spec).collect(),
        log: session.log.as_ref().map(|l| l.spec),
        inflight: session.inflight.as_ref().map(|r| r.spec),
        rings: session.rings.iter().enumerate().map(ring).collect(),
    };
    let bytes = postcard::to_allocvec(&state).map_err(io::Error::other)?;
    let mut file = File::from(memfd_create(c"vhost-state", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&bytes)?;
    let mut fds = vec![(STATE.to_owned(), file.into()), (SOCKET.to_owned(), socket.try_clone()?.into())];
    for (i, region) in session.memory.regions().iter().enumerate() {
        fds.push((format!("region{i}"), region.file().try_clone()?.into()));
    }
    for (i, ring) in session.rings.iter().enumerate() {
        let files =
            [("kick", ring.kick.as_ref()), ("call", ring.call.as_deref()), ("error", ring.error.as_ref())];
        for (what, file) in files {
            if let Some(file) = file {
                fds.push((format!("{what}{i}"), file.try_clone()?.into()));
            }
        }
    }
    if let Some(inflight) = &session.inflight {
        fds.push(("inflight".to_owned(), inflight.file().try_clone()?.into()));
    }
    if let Some(log) = &session.log {
        fds.push(("log".to_owned(), log.file().try_clone()?.into()));
    }
    Ok(fds)
}

impl Adopted {
    /// From what [`save`] gave; `None` if there is nothing.
    pub fn from_fds(fds: Vec<(String, OwnedFd)>) -> io::Result<Option<Self>> {
        let mut fds: BTreeMap<String, OwnedFd> = fds.into_iter().collect();
        let (Some(state), Some(socket)) = (fds.remove(STATE), fds.remove(SOCKET)) else { return Ok(None) };
        let mut file = File::from(state);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(STATE_MAX).read_to_end(&mut bytes)?;
        let state: SavedSession = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        if state.version != VERSION {
            return Err(io::Error::other(format!("a vhost session of version {}", state.version)));
        }
        Ok(Some(Adopted { socket: socket.into(), state, fds }))
    }

    /// Goes on where the other process stopped.
    pub fn restore(mut self, name: &str, rings: &mut dyn Rings) -> io::Result<(UnixStream, Session)> {
        let mut session = Session::new(name);
        let mut fd = |label: String| self.fds.remove(&label);
        let lost = || io::Error::other("a descriptor of the session is missing");
        let mut regions = Vec::new();
        for (i, spec) in self.state.regions.iter().enumerate() {
            let fd = fd(format!("region{i}")).ok_or_else(lost)?;
            regions.push(Arc::new(Region::map(*spec, fd)?));
        }
        session.memory = Arc::new(GuestMemory::new(regions).map_err(io::Error::other)?);
        session.features = self.state.features;
        session.protocol_features = self.state.protocol_features;
        session.mtu = self.state.mtu;
        session.status = self.state.status;
        if let Some((offset, size)) = self.state.log {
            let fd = fd("log".to_owned()).ok_or_else(lost)?;
            session.log = Some(Arc::new(crate::mem::DirtyLog::map(fd, offset, size)?));
        }
        if let Some(spec) = self.state.inflight {
            let fd = fd("inflight".to_owned()).ok_or_else(lost)?;
            session.inflight = Some(Inflight::map(fd, spec)?);
        }
        for (i, saved) in self.state.rings.into_iter().enumerate() {
            session.rings.push(RingConfig {
                size: saved.size,
                addresses: saved.addresses,
                base: saved.base,
                kicked: saved.kicked,
                kick: fd(format!("kick{i}")).map(File::from),
                call: fd(format!("call{i}")).map(|fd| Arc::new(File::from(fd))),
                error: fd(format!("error{i}")).map(File::from),
                enabled: saved.enabled,
                running: false,
            });
            rings.enable(i, saved.enabled);
        }
        session.restart(rings);
        Ok((self.socket, session))
    }
}
