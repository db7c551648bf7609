//! One OpenFlow connection: handshake, framing, probes, a bounded queue of output.

use super::{ConnEvent, Origin, UpEvent};
use crate::ids::{ConnId, SwitchId};
use bytes::{Buf, Bytes, BytesMut};
use clock::Clock;
use openflow::Version;
use openflow::msg::hello::{self, Hello, VersionSet};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use stream::{Reconnect, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes that may wait for a peer that does not read. Beyond it the connection is closed: a peer that
/// takes no replies is dead, and its replies must not fill our memory.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Bytes asked of the socket at once.
const READ_CHUNK: usize = 64 << 10;
const HEADER_LEN: usize = 8;
const OFPT_ERROR: u8 = 1;
const OFPT_ECHO_REQUEST: u8 = 2;
const OFPT_ECHO_REPLY: u8 = 3;

static NEXT_CONN: AtomicU64 = AtomicU64::new(1);

/// A number for a new connection.
pub fn new_conn_id() -> ConnId {
    ConnId(NEXT_CONN.fetch_add(1, Relaxed))
}

/// The sending end of a connection, held by the main task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    out: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
}

impl LinkHandle {
    /// A handle and the link task's ends of it.
    fn new() -> (Self, mpsc::UnboundedReceiver<Bytes>) {
        let (out, rx) = mpsc::unbounded_channel();
        (LinkHandle { out, queued: Arc::default() }, rx)
    }

    /// Queues whole messages. An empty `Bytes` asks the link to close.
    pub fn send(&self, bytes: Bytes) {
        let queued = self.queued.fetch_add(bytes.len(), Relaxed) + bytes.len();
        let bytes = if queued > OUTPUT_BYTES_MAX { Bytes::new() } else { bytes };
        // A closed channel means that the link is going down; its Down event is on the way.
        let _ = self.out.send(bytes);
    }

    /// Asks the link to close once what is queued has been written.
    pub fn close(&self) {
        let _ = self.out.send(Bytes::new());
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Relaxed)
    }
}

/// Copies of all messages of a switch's controller connections, for `<bridge>.snoop`.
#[derive(Clone, Debug, Default)]
pub struct SnoopTap(Arc<Mutex<Vec<(ConnId, LinkHandle)>>>);

impl SnoopTap {
    pub fn add(&self, id: ConnId, link: LinkHandle) {
        self.0.lock().push((id, link));
    }
    pub fn remove(&self, id: ConnId) {
        self.0.lock().retain(|(i, _)| *i != id);
    }
    fn copy(&self, bytes: &Bytes) {
        for (_, link) in self.0.lock().iter() {
            link.send(bytes.clone());
        }
    }
}

/// What a link needs to know of its surroundings.
#[derive(Clone)]
pub struct LinkEnv {
    pub switch: SwitchId,
    pub clock: Clock,
    pub events: mpsc::Sender<ConnEvent>,
    pub versions: VersionSet,
    /// `None` where messages are not to be snooped on (the snoops themselves).
    pub snoop: Option<SnoopTap>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("Protocol error")]
    Protocol,
    /// The switch, or the end of the process, asked for it.
    #[error("closed on request")]
    Closed,
    #[error("no reply to inactivity probe")]
    Inactive,
}

/// Runs one connection to its end. `reconnect` keeps the account of activity and says when to probe.
pub async fn run(
    mut stream: Stream,
    origin: Origin,
    env: &LinkEnv,
    reconnect: &Mutex<Reconnect>,
) -> LinkError {
    let peer = stream.name().to_owned();
    let mut input = BytesMut::with_capacity(READ_CHUNK);
    let version = match handshake(&mut stream, &mut input, env, reconnect, &peer).await {
        Ok(v) => v,
        Err(e) => return e,
    };
    let id = new_conn_id();
    let (handle, output) = LinkHandle::new();
    let queued = handle.queued.clone();
    let up = UpEvent { id, switch: env.switch, version, peer, origin, link: handle };
    if env.events.send(ConnEvent::Up(up)).await.is_err() {
        return LinkError::Closed;
    }
    let link = Link { id, version, env, reconnect, output, queued };
    let end = link.serve(stream, input).await;
    let _ = env.events.send(ConnEvent::Down { id }).await;
    end
}

/// Sends our hello, awaits theirs, and agrees on a version (OpenFlow 1.3, 6.3.1).
async fn handshake(
    stream: &mut Stream,
    input: &mut BytesMut,
    env: &LinkEnv,
    reconnect: &Mutex<Reconnect>,
    peer: &str,
) -> Result<Version, LinkError> {
    stream.write_all(&hello::encode(env.versions)).await?;
    let message = loop {
        if let Some(m) = next_message(input)? {
            break m;
        }
        tokio::select! {
            n = stream.read_buf(input) => if n? == 0 { return Err(eof()) },
            () = until_due(env, reconnect) => if let Some(stream::Action::Disconnect) = due(env, reconnect) {
                return Err(LinkError::Inactive);
            },
        }
    };
    let theirs = hello::decode(&message).map_err(|_| {
        tracing::warn!(target: "vconn", "{peer}: received message while expecting hello");
        LinkError::Protocol
    })?;
    if let Some(version) = env.versions.negotiate(theirs) {
        tracing::debug!(target: "vconn", "{peer}: negotiated OpenFlow version {:#04x}", version.wire());
        return Ok(version);
    }
    let text = format!("We support {}, you support {}, no common versions.", env.versions, theirs);
    tracing::warn!(target: "vconn", "{peer}: version negotiation failed ({text})");
    stream.write_all(&hello::encode_failed(env.versions, &text)).await?;
    let _ = stream.shutdown().await;
    Err(LinkError::Protocol)
}

fn eof() -> LinkError {
    LinkError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "End of file"))
}

/// Cuts one whole message off the front of `input`.
fn next_message(input: &mut BytesMut) -> Result<Option<Bytes>, LinkError> {
    let Some(header) = input.get(..HEADER_LEN) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if len < HEADER_LEN {
        return Err(LinkError::Protocol);
    }
    if input.len() < len {
        input.reserve(len - input.len());
        return Ok(None);
    }
    Ok(Some(input.split_to(len).freeze()))
}

async fn until_due(env: &LinkEnv, reconnect: &Mutex<Reconnect>) {
    let deadline = reconnect.lock().deadline_ms();
    match deadline {
        Some(ms) => env.clock.sleep_until_ms(ms).await,
        None => std::future::pending().await,
    }
}

fn due(env: &LinkEnv, reconnect: &Mutex<Reconnect>) -> Option<stream::Action> {
    reconnect.lock().run(env.clock.now_ms())
}

struct Link<'a> {
    id: ConnId,
    version: Version,
    env: &'a LinkEnv,
    reconnect: &'a Mutex<Reconnect>,
    output: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
}

impl Link<'_> {
    /// Moves bytes until the connection ends.
    async fn serve(mut self, stream: Stream, mut input: BytesMut) -> LinkError {
        let (mut rd, mut wr) = tokio::io::split(stream);
        let mut pending = BytesMut::new();
        let mut closing = false;
        loop {
            if let Err(e) = self.deliver(&mut input).await {
                return e;
            }
            if closing && pending.is_empty() {
                let _ = wr.shutdown().await;
                return LinkError::Closed;
            }
            input.reserve(READ_CHUNK);
            tokio::select! {
                n = rd.read_buf(&mut input), if !closing => match n {
                    Ok(0) => return eof(),
                    Ok(_) => {}
                    Err(e) => return e.into(),
                },
                n = wr.write(&pending), if !pending.is_empty() => match n {
                    Ok(0) => return eof(),
                    Ok(n) => { pending.advance(n); self.queued.fetch_sub(n, Relaxed); }
                    Err(e) => return e.into(),
                },
                m = self.output.recv(), if pending.len() < READ_CHUNK && !closing => match m {
                    Some(b) if !b.is_empty() => self.collect(b, &mut pending),
                    _ => closing = true,
                },
                () = until_due(self.env, self.reconnect) => match due(self.env, self.reconnect) {
                    Some(stream::Action::Probe) => self.probe(&mut pending),
                    Some(stream::Action::Disconnect) => return LinkError::Inactive,
                    _ => {}
                },
            }
        }
    }

    /// Hands every whole message in `input` to the main task.
    async fn deliver(&mut self, input: &mut BytesMut) -> Result<(), LinkError> {
        while let Some(bytes) = next_message(input)? {
            self.reconnect.lock().activity(self.env.clock.now_ms());
            let (version, kind) = (bytes[0], bytes[1]);
            if version != self.version.wire() && kind > OFPT_ECHO_REPLY {
                tracing::error!(target: "vconn",
                    "received OpenFlow version {version:#04x} != expected {:#04x}", self.version.wire());
                return Err(LinkError::Protocol);
            }
            if let Some(snoop) = &self.env.snoop {
                snoop.copy(&bytes);
            }
            // The answer to our own probe concerns nobody else.
            if kind == OFPT_ECHO_REPLY && bytes.len() == HEADER_LEN && bytes[4..8] == [0; 4] {
                continue;
            }
            let event = ConnEvent::Message { id: self.id, bytes };
            self.env.events.send(event).await.map_err(|_| LinkError::Closed)?;
        }
        Ok(())
    }

    /// Takes all output that is queued, so that many small messages become one write.
    fn collect(&mut self, first: Bytes, pending: &mut BytesMut) {
        let mut next = Some(first);
        while let Some(b) = next {
            if let Some(snoop) = &self.env.snoop {
                snoop.copy(&b);
            }
            pending.extend_from_slice(&b);
            next = if pending.len() < READ_CHUNK { self.output.try_recv().ok() } else { None };
            if next.as_ref().is_some_and(Bytes::is_empty) {
                self.output.close();
                return;
            }
        }
    }

    fn probe(&mut self, pending: &mut BytesMut) {
        let message = [self.version.wire(), OFPT_ECHO_REQUEST, 0, HEADER_LEN as u8, 0, 0, 0, 0];
        self.queued.fetch_add(message.len(), Relaxed);
        pending.extend_from_slice(&message);
    }
}

/// Whether `bytes` is an error message, which is never answered.
pub fn is_error(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&OFPT_ERROR)
}
