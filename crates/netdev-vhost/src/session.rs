//! The conversation with a front end: messages and descriptors in, replies and changes of rings out. No sockets,
//! threads or clocks; memory is mapped here.

use crate::inflight::{Inflight, Spec};
use crate::mem::{DirtyLog, GuestMemory, Region, RegionSpec};
use crate::protocol::*;
use crate::ring::Ring;
use crate::ring::packed::Packed;
use crate::ring::split::Split;
use crate::vring::Vring;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Most rings: 128 queue pairs.
pub const RINGS_MAX: usize = 256;
/// No descriptor comes with the message.
const NO_FD: u64 = 1 << 8;

/// The rings as the threads have them. Changes are in force when a call returns.
pub trait Rings {
    fn start(&mut self, index: usize, ring: Box<Vring>);
    /// Takes a ring away from the threads; its state, if it ran.
    fn stop(&mut self, index: usize) -> Option<u32>;
    fn enable(&mut self, index: usize, enabled: bool);
    /// A guest has moved here: its address is to be made known.
    fn announce(&mut self, mac: [u8; 6]);
}

/// What is known of one ring.
#[derive(Default)]
pub struct RingConfig {
    pub size: u16,
    pub addresses: Option<RingAddresses>,
    pub base: u32,
    /// The front end asked us to run it.
    pub kicked: bool,
    pub kick: Option<File>,
    pub call: Option<Arc<File>>,
    pub error: Option<File>,
    pub enabled: bool,
    pub running: bool,
}

/// One front end's state.
pub struct Session {
    name: String,
    pub features: u64,
    pub protocol_features: u64,
    pub memory: Arc<GuestMemory>,
    pub rings: Vec<RingConfig>,
    pub log: Option<Arc<DirtyLog>>,
    pub inflight: Option<Inflight>,
    pub mtu: Option<u16>,
    /// The device status that the driver wrote.
    pub status: u8,
    /// NUMA node of the first ring.
    pub numa: Option<u32>,
    /// A descriptor that goes with the reply.
    pub reply_fd: Option<OwnedFd>,
}

type Reply = Result<Option<Vec<u8>>, ProtocolError>;

impl Session {
    /// `name` is the port's, for the log.
    pub fn new(name: &str) -> Self {
        Session {
            name: name.to_owned(),
            features: 0,
            protocol_features: 0,
            memory: Arc::default(),
            rings: Vec::new(),
            log: None,
            inflight: None,
            mtu: None,
            status: 0,
            numa: None,
            reply_fd: None,
        }
    }

    /// Rings that the front end has named.
    pub fn ring_count(&self) -> usize {
        self.rings.len()
    }

    /// Answers one message. After an error the connection is of no more use.
    pub fn handle(
        &mut self,
        header: Header,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
        rings: &mut dyn Rings,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        let request = Request::from_number(header.request).ok_or(ProtocolError::Unknown(header.request))?;
        let result = self.dispatch(request, payload, &mut fds, rings);
        let has_ack = self.protocol_features & protocol_feature::REPLY_ACK != 0 && header.wants_reply();
        match result {
            Ok(Some(answer)) => Ok(Some(header.reply(&answer))),
            Ok(None) if has_ack => Ok(Some(header.reply(&0u64.to_ne_bytes()))),
            Ok(None) => Ok(None),
            Err(ProtocolError::Refused(_, why)) if has_ack => {
                tracing::warn!(target: "netdev_vhost", "{}: {request:?}: {why}", self.name);
                Ok(Some(header.reply(&1u64.to_ne_bytes())))
            }
            Err(e) => Err(e),
        }
    }

    fn dispatch(
        &mut self,
        request: Request,
        p: &[u8],
        fds: &mut Vec<OwnedFd>,
        rings: &mut dyn Rings,
    ) -> Reply {
        use Request as R;
        let number = || u64_at(p, 0).ok_or(ProtocolError::Payload(request));
        let answer = |n: u64| Ok(Some(n.to_ne_bytes().to_vec()));
        match request {
            R::GetFeatures => return answer(feature::OFFERED),
            R::SetFeatures => self.set_features(number()?, rings)?,
            R::GetProtocolFeatures => return answer(protocol_feature::OFFERED),
            R::SetProtocolFeatures => {
                let wanted = number()?;
                if wanted & !protocol_feature::OFFERED != 0 {
                    return Err(ProtocolError::Refused(request, format!("features {wanted:#x} not offered")));
                }
                self.protocol_features = wanted;
            }
            R::GetQueueNum => return answer(RINGS_MAX as u64 / 2),
            R::GetMaxMemSlots => return answer(crate::mem::REGIONS_MAX as u64),
            R::SetOwner | R::SetConfig | R::SetLogFd => {}
            R::ResetOwner | R::ResetDevice => self.reset(rings),
            R::SetMemTable => self.set_table(p, fds, rings)?,
            R::AddMemReg => self.add_region(p, fds, rings)?,
            R::RemMemReg => self.remove_region(p, rings)?,
            R::SetLogBase => return self.set_log(p, fds, rings),
            R::SetVringNum | R::SetVringAddr | R::SetVringBase | R::SetVringEnable => {
                self.set_ring(request, p, rings)?;
            }
            R::GetVringBase => return self.stop_ring(p, rings),
            R::SetVringKick | R::SetVringCall | R::SetVringErr => self.set_fd(request, p, fds, rings)?,
            R::SendRarp => {
                let mac = p.first_chunk::<6>().ok_or(ProtocolError::Payload(request))?;
                rings.announce(*mac);
            }
            R::NetSetMtu => self.mtu = u16::try_from(number()?).ok(),
            R::GetConfig => return self.config(p),
            R::SetInflightFd => {
                let spec = Spec::parse(request, p)?;
                let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
                    return Err(ProtocolError::Descriptors(request));
                };
                let mapped = Inflight::map(fd, spec);
                let refused = |e| ProtocolError::Refused(request, format!("cannot map the region: {e}"));
                self.inflight = Some(mapped.map_err(refused)?);
            }
            R::GetInflightFd => return self.make_inflight(p),
            R::SetStatus => {
                self.status = number()? as u8;
                // QEMU 7.2 says so of a machine that moves before it asks where the last queue pair's rings are.
                if self.status == 0 {
                    (0..self.rings.len()).for_each(|i| self.rest(i, rings));
                }
            }
            R::GetStatus => return answer(self.status.into()),
        }
        Ok(None)
    }

    fn set_features(&mut self, wanted: u64, rings: &mut dyn Rings) -> Result<(), ProtocolError> {
        if wanted & !feature::OFFERED != 0 {
            let why = format!("features {wanted:#x} were not offered");
            return Err(ProtocolError::Refused(Request::SetFeatures, why));
        }
        self.features = wanted;
        // A running ring goes on: at the beginning and at the end of a migration only `LOG_ALL` changes.
        self.restart(rings);
        Ok(())
    }

    /// Stops everything and forgets what was negotiated.
    pub fn reset(&mut self, rings: &mut dyn Rings) {
        for (i, ring) in self.rings.iter_mut().enumerate() {
            rings.stop(i);
            rings.enable(i, false);
            *ring = RingConfig::default();
        }
        self.features = 0;
        self.log = None;
        self.inflight = None;
        self.status = 0;
    }

    /// The ring that a message names; rings that were never named are as by default.
    fn ring(&mut self, request: Request, index: u32) -> Result<&mut RingConfig, ProtocolError> {
        let i = index as usize;
        if i >= RINGS_MAX {
            return Err(ProtocolError::Refused(request, format!("there is no ring {index}")));
        }
        if self.rings.len() <= i {
            self.rings.resize_with(i + 1, RingConfig::default);
        }
        self.rings.get_mut(i).ok_or(ProtocolError::Payload(request))
    }

    fn set_ring(&mut self, request: Request, p: &[u8], rings: &mut dyn Rings) -> Result<(), ProtocolError> {
        let bad = ProtocolError::Payload(request);
        let (Some(index), Some(value)) = (u32_at(p, 0), u32_at(p, 4)) else { return Err(bad) };
        let is_running = self.ring(request, index)?.running;
        let ring = self.ring(request, index)?;
        match request {
            Request::SetVringNum => {
                let fits = (1..=crate::ring::SIZE_MAX).contains(&value) && !is_running;
                ring.size = u16::try_from(value).ok().filter(|_| fits).ok_or(ProtocolError::Refused(
                    request,
                    format!("ring {index} cannot have {value} descriptors"),
                ))?;
            }
            Request::SetVringBase if !is_running => ring.base = value,
            Request::SetVringBase => {}
            Request::SetVringAddr => {
                let (_, addresses) = RingAddresses::parse(p).ok_or(bad)?;
                ring.addresses = Some(addresses);
                if is_running {
                    self.restart_ring(index as usize, rings);
                }
            }
            _ => {
                ring.enabled = value != 0;
                rings.enable(index as usize, value != 0);
                tracing::info!(target: "netdev_dpdk",
                    "State of queue {} ( {}_qid {} ) of vhost device '{}' changed to '{}'",
                    index, if index % 2 == 0 { "tx" } else { "rx" }, index / 2, self.name,
                    if value != 0 { "enabled" } else { "disabled" });
            }
        }
        self.start_if_complete(index as usize, rings);
        Ok(())
    }

    fn set_fd(
        &mut self,
        request: Request,
        p: &[u8],
        fds: &mut Vec<OwnedFd>,
        rings: &mut dyn Rings,
    ) -> Result<(), ProtocolError> {
        let value = u64_at(p, 0).ok_or(ProtocolError::Payload(request))?;
        let index = (value & 0xff) as usize;
        let fd = fds.pop();
        if (value & NO_FD != 0) != fd.is_none() || !fds.is_empty() {
            return Err(ProtocolError::Descriptors(request));
        }
        let has_enable = self.features & feature::PROTOCOL_FEATURES != 0;
        let file = fd.map(File::from);
        let ring = self.ring(request, index as u32)?;
        match request {
            Request::SetVringKick => {
                ring.kick = file;
                ring.kicked = true;
                // Without protocol features there is no message to enable a ring.
                if !has_enable {
                    ring.enabled = true;
                    rings.enable(index, true);
                }
            }
            Request::SetVringCall => {
                // A full eventfd must not stop us.
                ring.call = file.map(|f| {
                    let _ =
                        nix::fcntl::fcntl(&f, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
                    Arc::new(f)
                });
                if ring.running {
                    self.restart_ring(index, rings);
                }
            }
            _ => ring.error = file,
        }
        self.start_if_complete(index, rings);
        Ok(())
    }

    fn stop_ring(&mut self, p: &[u8], rings: &mut dyn Rings) -> Reply {
        let request = Request::GetVringBase;
        let index = u32_at(p, 0).ok_or(ProtocolError::Payload(request))?;
        self.rest(index as usize, rings);
        let words = [index, self.ring(request, index)?.base];
        Ok(Some(words.iter().flat_map(|w| w.to_ne_bytes()).collect()))
    }

    /// Stops a ring until it is kicked again; it knows where it was.
    fn rest(&mut self, index: usize, rings: &mut dyn Rings) {
        let stopped = rings.stop(index);
        if let Some(ring) = self.rings.get_mut(index) {
            ring.base = stopped.unwrap_or(ring.base);
            (ring.running, ring.kicked, ring.kick) = (false, false, None);
        }
    }

    /// Puts all that runs on the present features, memory and log.
    pub fn restart(&mut self, rings: &mut dyn Rings) {
        (0..self.rings.len()).for_each(|i| self.restart_ring(i, rings));
    }

    fn restart_ring(&mut self, index: usize, rings: &mut dyn Rings) {
        let base = rings.stop(index);
        if let Some(ring) = self.rings.get_mut(index).filter(|r| r.running) {
            ring.base = base.unwrap_or(ring.base);
            ring.running = false;
        }
        self.start_if_complete(index, rings);
    }

    /// Starts a ring about which all is known.
    fn start_if_complete(&mut self, index: usize, rings: &mut dyn Rings) {
        let Some(ring) = self.rings.get(index) else { return };
        let Some(at) = ring.addresses.filter(|_| ring.kicked && !ring.running && ring.size > 0) else {
            return;
        };
        let (size, base) = (ring.size, ring.base);
        let is_packed = self.features & feature::RING_PACKED != 0;
        let record = self.inflight.as_ref().and_then(|r| r.record(index, is_packed, size));
        let base = record.as_ref().and_then(|r| r.position()).unwrap_or(base);
        let is_logged = self.features & feature::LOG_ALL != 0;
        let log = self.log.clone().filter(|_| is_logged);
        // A packed ring's entries are its descriptors; what the front end names is another part of it.
        let logged = if is_packed { self.memory.guest_address(at.descriptors) } else { at.log };
        let ring_log = log.clone().zip(logged);
        let made = if is_packed {
            Packed::new(&self.memory, size, &at, base, self.features, ring_log).map(Ring::Packed)
        } else {
            Split::new(&self.memory, size, &at, base, self.features, ring_log).map(Ring::Split)
        };
        let Ok(made) = made else {
            // Not an error: the memory that it lies in may come later.
            tracing::debug!(target: "netdev_vhost", "{}: ring {index} is not in the guest's memory", self.name);
            return;
        };
        made.set_kicks(false);
        self.numa = made.numa_node().or(self.numa);
        let Some(ring) = self.rings.get_mut(index) else { return };
        ring.running = true;
        let mut vring = Vring::new(made, self.memory.clone(), log, ring.call.clone(), self.features);
        vring.note_in(record);
        rings.start(index, Box::new(vring));
        // The call for what was given back last may never have come: the process before us may have ended between
        // the two, or a machine before this one. A driver that waits for it would wait for ever.
        if let Some(call) = self.rings.get(index).and_then(|r| r.call.as_deref()) {
            let _ = (&*call).write(&1u64.to_ne_bytes());
        }
    }

    fn set_table(
        &mut self,
        p: &[u8],
        fds: &mut Vec<OwnedFd>,
        rings: &mut dyn Rings,
    ) -> Result<(), ProtocolError> {
        let request = Request::SetMemTable;
        let n = u32_at(p, 0).ok_or(ProtocolError::Payload(request))? as usize;
        if n != fds.len() || n > FDS_MAX {
            return Err(ProtocolError::Descriptors(request));
        }
        let mut regions = Vec::new();
        for (i, fd) in fds.drain(..).enumerate() {
            let spec = region_spec(p, 8 + 32 * i).ok_or(ProtocolError::Payload(request))?;
            regions.push(self.map(request, spec, fd)?);
        }
        self.replace_memory(request, regions, rings)
    }

    /// Maps a region, or finds it among those that are mapped from the same file.
    fn map(&self, request: Request, spec: RegionSpec, fd: OwnedFd) -> Result<Arc<Region>, ProtocolError> {
        let refused =
            |e: std::io::Error| ProtocolError::Refused(request, format!("cannot map a region: {e}"));
        let region = Region::map(spec, fd).map_err(refused)?;
        if !region.is_sealed() {
            tracing::debug!(target: "netdev_vhost",
                "{}: the file behind guest memory at {:#x} is not sealed against truncation", self.name, spec.guest);
        }
        Ok(Arc::new(region))
    }

    fn add_region(
        &mut self,
        p: &[u8],
        fds: &mut Vec<OwnedFd>,
        rings: &mut dyn Rings,
    ) -> Result<(), ProtocolError> {
        let request = Request::AddMemReg;
        let spec = region_spec(p, 8).ok_or(ProtocolError::Payload(request))?;
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
            return Err(ProtocolError::Descriptors(request));
        };
        let region = self.map(request, spec, fd)?;
        let mut regions = self.memory.regions().to_vec();
        // QEMU 7.2 names each region once for every queue pair, and takes it back as often.
        if let Some(known) = regions.iter_mut().find(|r| r.spec == spec) {
            if known.is_same_memory(&region) {
                return Ok(());
            }
            *known = region;
        } else {
            regions.push(region);
        }
        self.replace_memory(request, regions, rings)
    }

    fn remove_region(&mut self, p: &[u8], rings: &mut dyn Rings) -> Result<(), ProtocolError> {
        let request = Request::RemMemReg;
        let spec = region_spec(p, 8).ok_or(ProtocolError::Payload(request))?;
        let key = |s: &RegionSpec| (s.guest, s.user, s.size);
        let mut regions = self.memory.regions().to_vec();
        let before = regions.len();
        regions.retain(|r| key(&r.spec) != key(&spec));
        if regions.len() == before {
            // Taken back for the second queue pair.
            return Ok(());
        }
        self.replace_memory(request, regions, rings)
    }

    fn replace_memory(
        &mut self,
        request: Request,
        regions: Vec<Arc<Region>>,
        rings: &mut dyn Rings,
    ) -> Result<(), ProtocolError> {
        let memory = GuestMemory::new(regions)
            .map_err(|_| ProtocolError::Refused(request, "regions overlap, or are too many".to_owned()))?;
        self.memory = Arc::new(memory);
        self.restart(rings);
        Ok(())
    }

    fn set_log(&mut self, p: &[u8], fds: &mut Vec<OwnedFd>, rings: &mut dyn Rings) -> Reply {
        let request = Request::SetLogBase;
        let (Some(size), Some(offset)) = (u64_at(p, 0), u64_at(p, 8)) else {
            return Err(ProtocolError::Payload(request));
        };
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
            return Err(ProtocolError::Descriptors(request));
        };
        let log = DirtyLog::map(fd, offset, size)
            .map_err(|e| ProtocolError::Refused(request, format!("cannot map the log: {e}")))?;
        self.log = Some(Arc::new(log));
        self.restart(rings);
        Ok(Some(0u64.to_ne_bytes().to_vec()))
    }

    /// New memory for an in-flight region.
    fn make_inflight(&mut self, p: &[u8]) -> Reply {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let request = Request::GetInflightFd;
        let spec = Spec::parse(request, p)?.sized(self.features & feature::RING_PACKED != 0);
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let made = memfd_create(c"vhost-inflight", flags).map_err(std::io::Error::from).map(File::from);
        let made = made.and_then(|f| f.set_len(spec.size).map(|()| f));
        let made = made.and_then(|f| {
            self.inflight = Some(Inflight::map(f.try_clone()?.into(), spec)?);
            Ok(f)
        });
        let file = made.map_err(|e| ProtocolError::Refused(request, format!("no memory: {e}")))?;
        self.reply_fd = Some(file.into());
        Ok(Some(spec.payload()))
    }

    /// `struct virtio_net_config`: no address of ours, link up, queue pairs, MTU.
    fn config(&self, p: &[u8]) -> Reply {
        let bad = ProtocolError::Payload(Request::GetConfig);
        let (Some(offset), Some(size)) = (u32_at(p, 0), u32_at(p, 4)) else { return Err(bad) };
        let mut config = vec![0; 6];
        config.extend(1u16.to_le_bytes());
        config.extend((RINGS_MAX as u16 / 2).to_le_bytes());
        config.extend(self.mtu.unwrap_or(1500).to_le_bytes());
        config.resize(256, 0);
        let end = u64::from(offset) + u64::from(size);
        let part = usize::try_from(end).ok().and_then(|end| config.get(offset as usize..end)).ok_or(bad)?;
        let head = p.get(..12).ok_or(ProtocolError::Payload(Request::GetConfig))?;
        Ok(Some([head, part].concat()))
    }
}

fn region_spec(p: &[u8], at: usize) -> Option<RegionSpec> {
    Some(RegionSpec {
        guest: u64_at(p, at)?,
        size: u64_at(p, at + 8)?,
        user: u64_at(p, at + 16)?,
        offset: u64_at(p, at + 24)?,
    })
}
