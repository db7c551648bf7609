//! One OpenFlow connection: handshake, framing, probes, bounded output.

use super::{ConnEvent, Origin, UpEvent};
use crate::ids::{ConnId, SwitchId};
use bytes::{Buf, Bytes, BytesMut};
use clock::Clock;
use openflow::msg::error_msg;
use openflow::msg::hello::{Hello, VersionSet, negotiate};
use openflow::{Form, Frame, OfError, Version, frame, identify};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use stream::{Action, Reconnect, Stream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::unconstrained;

/// Bytes of output beyond which no further requests of a connection are read or handled: a peer that takes
/// no replies gets no more of them.
pub const HOLD_BYTES: usize = 4 << 20;
/// Bytes of asynchronous messages, beyond what [`HOLD_BYTES`] keeps of replies, that may wait for a peer
/// that does not read. Beyond it the connection is closed: a peer that takes nothing is dead.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Bytes asked of the socket at once.
const READ_CHUNK: usize = 64 << 10;
/// How long a peer may take to read the last bytes of a connection that we close.
const CLOSE_TIMEOUT_MS: u64 = 5_000;
const HEADER_LEN: usize = 8;
/// How long a peer that was refused may take to hang up, in milliseconds.
const REFUSED_LINGER_MS: u64 = 1_000;
const OFPT_ECHO_REPLY: u8 = 3;

static NEXT_CONN: AtomicU64 = AtomicU64::new(1);

/// A number for a new connection.
pub fn new_conn_id() -> ConnId {
    ConnId(NEXT_CONN.fetch_add(1, Relaxed))
}

/// The sending end of a connection, held by the main task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    out: mpsc::UnboundedSender<Output>,
    counts: Arc<Counts>,
}

/// What a link and its handle tell each other.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes given to the handle and not yet written.
    queued: AtomicUsize,
    /// Packet-ins given to the handle and not yet taken by the link.
    packet_ins: AtomicUsize,
    /// Bytes of flow updates given to the handle and not yet taken by the link.
    updates: AtomicUsize,
    /// Somebody waits until there are none.
    updates_awaited: AtomicBool,
    /// The socket takes nothing now, because the peer does not read as fast as we write.
    stalled: AtomicBool,
    /// Requests wait for output to drain.
    held: AtomicBool,
}

/// Whole messages for the link to write.
#[derive(Debug)]
pub enum Output {
    Bytes(Bytes),
    PacketIn(Bytes),
    Update(Bytes),
    Close,
}

impl LinkHandle {
    /// A handle, and the channel from which its messages come.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Output>) {
        let (out, rx) = mpsc::unbounded_channel();
        (LinkHandle { out, counts: Arc::default() }, rx)
    }

    /// Queues whole messages that answer a request. How many is bounded by [`LinkHandle::hold`].
    pub fn send(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.counts.queued.fetch_add(bytes.len(), SeqCst);
        // A closed channel means that the link is going down; its Down event is on the way.
        let _ = self.out.send(Output::Bytes(bytes));
    }

    /// Queues a packet-in; the caller keeps [`LinkHandle::packet_ins_stalled`] below a limit.
    pub fn send_packet_in(&self, bytes: Bytes) {
        self.counts.queued.fetch_add(bytes.len(), SeqCst);
        self.counts.packet_ins.fetch_add(1, Relaxed);
        let _ = self.out.send(Output::PacketIn(bytes));
    }

    /// Packet-ins that wait because the peer does not read; 0 while the link only has not had its turn yet.
    pub fn packet_ins_stalled(&self) -> usize {
        if self.counts.stalled.load(Relaxed) { self.counts.packet_ins.load(Relaxed) } else { 0 }
    }

    /// Queues a flow update; the caller keeps [`LinkHandle::update_bytes`] near a limit.
    pub fn send_update(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.counts.queued.fetch_add(bytes.len(), SeqCst);
        self.counts.updates.fetch_add(bytes.len(), SeqCst);
        let _ = self.out.send(Output::Update(bytes));
    }

    /// Bytes of flow updates that the link has not taken yet.
    pub fn update_bytes(&self) -> usize {
        self.counts.updates.load(SeqCst)
    }

    /// Whether there are flow updates that the link has not taken. If so, a [`ConnEvent::Drained`] will come.
    pub fn await_updates(&self) -> bool {
        self.counts.updates_awaited.store(true, SeqCst);
        self.update_bytes() > 0
    }

    /// The link has taken this: it waits no longer.
    pub(crate) fn note_taken(&self, output: &Output) {
        match output {
            Output::PacketIn(_) => self.counts.packet_ins.fetch_sub(1, Relaxed),
            Output::Update(b) => self.counts.updates.fetch_sub(b.len(), SeqCst),
            Output::Bytes(_) | Output::Close => 0,
        };
    }

    /// The link has written `n` bytes. Returns whether the main task is to be told, as something waits for it.
    pub(crate) fn note_written(&self, n: usize) -> bool {
        let counts = &self.counts;
        let left = counts.queued.fetch_sub(n, SeqCst).saturating_sub(n);
        let may_go_on = left < HOLD_BYTES / 2 && counts.held.swap(false, SeqCst);
        let has_updated = self.update_bytes() == 0 && counts.updates_awaited.swap(false, SeqCst);
        may_go_on || has_updated
    }

    /// Queues messages that nobody asked for; closes the connection if it takes too few of them.
    pub fn send_async(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if self.queued_bytes() + bytes.len() > OUTPUT_BYTES_MAX {
            self.close();
        } else {
            self.send(bytes);
        }
    }

    /// Asks the link to close once what is queued has been written.
    pub fn close(&self) {
        let _ = self.out.send(Output::Close);
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.counts.queued.load(SeqCst)
    }

    /// Whether requests must wait until output has been written. If so, a [`ConnEvent::Drained`] will come.
    pub fn hold(&self) -> bool {
        self.hold_at(HOLD_BYTES)
    }

    /// As [`LinkHandle::hold`], if `limit` bytes, at most [`HOLD_BYTES`], or more wait to be written.
    pub fn hold_at(&self, limit: usize) -> bool {
        if self.queued_bytes() < limit {
            return false;
        }
        self.counts.held.store(true, SeqCst);
        let holds = self.queued_bytes() >= limit;
        if !holds {
            self.counts.held.store(false, SeqCst);
        }
        holds
    }

    /// Whether the peer has to read before more of its requests are.
    fn holds(&self) -> bool {
        self.counts.held.load(SeqCst) || self.queued_bytes() >= HOLD_BYTES
    }
}

/// Copies of all messages of a controller's connection, for `<bridge>.snoop`.
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
            link.send_async(bytes.clone());
        }
    }
}

/// The account of a connection's activity, shared by the link task and whoever may end the connection.
#[derive(Debug)]
pub struct Keeper {
    reconnect: Mutex<Reconnect>,
    kick: Notify,
}

impl Keeper {
    pub fn new(reconnect: Reconnect) -> Self {
        Keeper { reconnect: Mutex::new(reconnect), kick: Notify::new() }
    }

    /// Reads or changes the account; who waits for something to fall due looks at it again.
    pub fn with<T>(&self, f: impl FnOnce(&mut Reconnect) -> T) -> T {
        let out = f(&mut self.reconnect.lock());
        self.kick.notify_one();
        out
    }

    /// As [`Keeper::with`], for what moves no deadline forward.
    pub fn note<T>(&self, f: impl FnOnce(&mut Reconnect) -> T) -> T {
        f(&mut self.reconnect.lock())
    }

    /// Waits until something may be due.
    pub async fn until_due(&self, clock: &Clock) {
        let deadline = self.reconnect.lock().deadline_ms();
        let sleep = async {
            match deadline {
                Some(ms) => clock.sleep_until_ms(ms).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { () = sleep => {}, () = self.kick.notified() => {} }
    }

    /// What is due, if anything.
    pub fn due(&self, clock: &Clock) -> Option<Action> {
        self.reconnect.lock().run(clock.now_ms())
    }
}

/// What a link needs to know of its surroundings.
#[derive(Clone)]
pub struct LinkEnv {
    pub switch: SwitchId,
    pub clock: Clock,
    pub events: mpsc::Sender<ConnEvent>,
    pub versions: VersionSet,
    /// `None` where messages are not to be snooped on.
    pub snoop: Option<SnoopTap>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("Protocol error")]
    Protocol,
    /// The switch asked for it.
    #[error("closed on request")]
    Closed,
    #[error("no reply to inactivity probe")]
    Inactive,
}

/// Runs one connection to its end. `name` is the connection as the log names it.
pub async fn run(
    mut stream: Stream,
    name: String,
    origin: Origin,
    env: &LinkEnv,
    keeper: &Keeper,
) -> LinkError {
    let mut input = BytesMut::with_capacity(READ_CHUNK);
    let version = match handshake(&mut stream, &mut input, env, keeper).await {
        Ok(v) => v,
        Err(e) => return e,
    };
    let id = new_conn_id();
    let (handle, output) = LinkHandle::new();
    let link = Link {
        id,
        version,
        peer: stream.name().to_owned(),
        env,
        keeper,
        output,
        handle: handle.clone(),
        pending: BytesMut::new(),
        close_by_ms: None,
    };
    let up = UpEvent { id, switch: env.switch, version, peer: name, origin, link: handle };
    if env.events.send(ConnEvent::Up(up)).await.is_err() {
        return LinkError::Closed;
    }
    let end = link.serve(stream, input).await;
    let _ = env.events.send(ConnEvent::Down { id }).await;
    end
}

/// A set of versions, as Open vSwitch puts it.
fn versions_text(versions: VersionSet) -> String {
    let bits = versions.bits();
    let highest = 31u32.saturating_sub(bits.leading_zeros());
    if bits == 0 {
        "no versions".to_owned()
    } else if bits.is_power_of_two() {
        format!("version {highest:#04x}")
    } else if ((bits >> 1) + 1).is_power_of_two() {
        format!("version {highest:#04x} and earlier")
    } else {
        let each: Vec<_> = (0..32).filter(|n| bits >> n & 1 != 0).map(|n| format!("{n:#04x}")).collect();
        format!("versions {}", each.join(", "))
    }
}

/// Sends our hello, awaits theirs, and agrees on a version (OpenFlow 1.3, 6.3.1).
async fn handshake(
    stream: &mut Stream,
    input: &mut BytesMut,
    env: &LinkEnv,
    keeper: &Keeper,
) -> Result<Version, LinkError> {
    stream.write_all(&Hello::encode(env.versions, 0)).await?;
    let message = loop {
        if let Some(m) = next_message(input)? {
            break m;
        }
        tokio::select! {
            n = stream.read_buf(input) => if n? == 0 { return Err(reset()) },
            () = keeper.until_due(&env.clock) => if let Some(Action::Disconnect) = keeper.due(&env.clock) {
                return Err(LinkError::Inactive);
            },
        }
    };
    let hello = identify(&message).ok().filter(|m| m.form == Form::OfptHello).map(|m| Hello::decode(&m));
    let peer = stream.name().to_owned();
    let Some(hello) = hello else {
        tracing::warn!(target: "vconn", "{peer}: received message while expecting hello");
        return Err(LinkError::Protocol);
    };
    if !hello.understood {
        tracing::warn!(target: "vconn", "{peer}: unknown data in hello");
    }
    let (ours, theirs) = (versions_text(env.versions), versions_text(hello.versions));
    match negotiate(env.versions, hello.versions) {
        Ok(version) => {
            tracing::debug!(target: "vconn",
                "{peer}: negotiated OpenFlow version {:#04x} (we support {ours}, peer supports {theirs})",
                version.wire());
            Ok(version)
        }
        Err(error) => {
            tracing::warn!(target: "vconn",
                "{peer}: version negotiation failed (we support {ours}, peer supports {theirs})");
            let text = format!("We support {ours}, you support {theirs}, no common versions.");
            let version = hello.versions.newest().unwrap_or(Version::Of10);
            stream.write_all(&error_msg::encode_hello_failed(error, version, &text)).await?;
            let _ = stream.shutdown().await;
            drain(stream, env).await;
            Err(LinkError::Protocol)
        }
    }
}

/// Reads what a refused peer still has to say, for a moment: closing before would take our refusal away from
/// it.
async fn drain(stream: &mut Stream, env: &LinkEnv) {
    let patience = env.clock.sleep_until_ms(env.clock.now_ms() + REFUSED_LINGER_MS);
    let mut scrap = [0; HEADER_LEN];
    let rest = async { while matches!(stream.read(&mut scrap).await, Ok(n) if n > 0) {} };
    tokio::select! { () = rest => {}, () = patience => {} }
}

fn eof() -> LinkError {
    LinkError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "End of file"))
}

fn reset() -> LinkError {
    LinkError::Io(io::Error::new(io::ErrorKind::ConnectionReset, "Connection reset by peer"))
}

/// Cuts one whole message off the front of `input`.
fn next_message(input: &mut BytesMut) -> Result<Option<Bytes>, LinkError> {
    match frame(input) {
        Frame::Whole(len) => Ok(Some(input.split_to(len).freeze())),
        Frame::Partial => Ok(None),
        Frame::TooShort(len) => {
            tracing::error!(target: "stream_vconn", "received too-short ofp_header ({len} bytes)");
            Err(LinkError::Protocol)
        }
    }
}

struct Link<'a> {
    id: ConnId,
    version: Version,
    peer: String,
    env: &'a LinkEnv,
    keeper: &'a Keeper,
    output: mpsc::UnboundedReceiver<Output>,
    handle: LinkHandle,
    /// Taken from `output`, not yet written.
    pending: BytesMut,
    /// Set once we are closing.
    close_by_ms: Option<u64>,
}

impl Link<'_> {
    /// Moves bytes until the connection ends.
    async fn serve(mut self, stream: Stream, mut input: BytesMut) -> LinkError {
        let (mut rd, mut wr) = tokio::io::split(stream);
        if let Err(e) = self.deliver(&mut input).await {
            return e;
        }
        loop {
            if self.close_by_ms.is_some() && self.pending.is_empty() {
                let _ = wr.shutdown().await;
                return LinkError::Closed;
            }
            let closing = self.close_by_ms.is_some();
            let reading = !closing && !self.handle.holds();
            let room = self.pending.len() < READ_CHUNK && !closing;
            let close_by = self.close_by_ms.unwrap_or(u64::MAX);
            if reading {
                input.reserve(READ_CHUNK);
            }
            tokio::select! {
                n = rd.read_buf(&mut input), if reading => match n {
                    Ok(0) => return eof(),
                    Ok(_) => if let Err(e) = self.deliver(&mut input).await { return e; },
                    Err(e) => return e.into(),
                },
                n = write(&mut wr, &self.pending, &self.handle.counts), if !self.pending.is_empty() => match n {
                    Ok(0) => return eof(),
                    Ok(n) => if let Err(e) = self.written(n, reading).await { return e; },
                    Err(e) => return e.into(),
                },
                m = self.output.recv(), if room => self.collect(m),
                () = self.keeper.until_due(&self.env.clock) => match self.keeper.due(&self.env.clock) {
                    Some(Action::Probe) => self.probe(),
                    Some(Action::Disconnect) => return LinkError::Inactive,
                    Some(Action::Connect) | None => {}
                },
                () = self.env.clock.sleep_until_ms(close_by), if closing => return LinkError::Closed,
            }
        }
    }

    async fn written(&mut self, n: usize, reading: bool) -> Result<(), LinkError> {
        self.pending.advance(n);
        let is_awaited = self.handle.note_written(n);
        if !reading {
            // We do not read, so nothing else tells that the peer is alive.
            self.keeper.note(|r| r.activity(self.env.clock.now_ms()));
        }
        if is_awaited {
            self.tell(ConnEvent::Drained { id: self.id }).await?;
        }
        Ok(())
    }

    async fn tell(&self, event: ConnEvent) -> Result<(), LinkError> {
        self.env.events.send(event).await.map_err(|_| LinkError::Closed)
    }

    /// Hands every whole message in `input` to the main task.
    async fn deliver(&mut self, input: &mut BytesMut) -> Result<(), LinkError> {
        let mut batch = Vec::new();
        let end = loop {
            match next_message(input) {
                Ok(Some(bytes)) => {
                    if self.admits(&bytes) {
                        batch.push(bytes);
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.keeper.note(|r| r.activity(self.env.clock.now_ms()));
        if !batch.is_empty() {
            self.tell(ConnEvent::Messages { id: self.id, batch }).await?;
        }
        end
    }

    /// Whether a message concerns the main task.
    fn admits(&self, bytes: &Bytes) -> bool {
        let (version, kind) = (bytes[0], bytes[1]);
        if let Some(snoop) = &self.env.snoop {
            snoop.copy(bytes);
        }
        // Hello, error and echo may have any version.
        if version != self.version.wire() && kind > OFPT_ECHO_REPLY {
            tracing::error!(target: "vconn", "{}: received OpenFlow version {version:#04x} != expected {:02x}",
                self.peer, self.version.wire());
            self.handle.send(error_msg::encode_reply(OfError::OfpbrcBadVersion, bytes));
            return false;
        }
        // The answer to our own probe concerns nobody else.
        kind != OFPT_ECHO_REPLY
    }

    /// Takes all output that is queued, so that many small messages become one write.
    fn collect(&mut self, first: Option<Output>) {
        let mut next = first.or(Some(Output::Close));
        while let Some(output) = next {
            self.handle.note_taken(&output);
            let bytes = match output {
                Output::Bytes(b) | Output::PacketIn(b) | Output::Update(b) => b,
                Output::Close => {
                    self.close_by_ms = Some(self.env.clock.now_ms() + CLOSE_TIMEOUT_MS);
                    return;
                }
            };
            if let Some(snoop) = &self.env.snoop {
                snoop.copy(&bytes);
            }
            self.pending.extend_from_slice(&bytes);
            next = if self.pending.len() < READ_CHUNK { self.output.try_recv().ok() } else { None };
        }
    }

    fn probe(&mut self) {
        let mut message = Vec::with_capacity(HEADER_LEN);
        Form::OfptEchoRequest.put(self.version, 0, &mut message, |_| ());
        self.handle.send(message);
    }
}

/// Writes some of what is pending, and notes whether the socket takes it.
async fn write(wr: &mut WriteHalf<Stream>, pending: &[u8], counts: &Counts) -> io::Result<usize> {
    // Unconstrained, because a task that has used up its turn would look like a socket that is full.
    let write = poll_fn(|cx| {
        let written = Pin::new(&mut *wr).poll_write(cx, pending);
        counts.stalled.store(written.is_pending(), Relaxed);
        written
    });
    unconstrained(write).await
}

#[cfg(test)]
mod tests;
