//! The session on tokio: one task that owns the socket.

use crate::session::{Action, Event, Remote, Session, SessionConfig, TxnId};
use crate::status::StatusBatch;
use crate::txn::Transaction;
use bytes::{Buf, BytesMut};
use clock::Clock;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stream::{Stream, Target, Tls, error_text};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// Events the daemon has not taken yet; further ones wait, and row changes become one.
const EVENTS_MAX: usize = 16;
const READ_BYTES: usize = 64 << 10;

/// What [`start`] needs.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Active targets, tried in turn.
    pub remotes: Vec<Target>,
    pub tls: Tls,
    pub clock: Clock,
    pub config: SessionConfig,
}

enum Command {
    Send(TxnId, Transaction),
    Status(StatusBatch),
    StealLock,
    Unlock,
    RequestLock,
    Reconnect,
    ProbeInterval(u32),
}

/// The daemon's side of a session. When the last clone is gone, or the event receiver, the session ends
/// and its connection closes.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    commands: mpsc::UnboundedSender<Command>,
    next_txn: Arc<AtomicU64>,
    next_batch: Arc<AtomicU64>,
}

impl SessionHandle {
    /// Starts a transaction; its result is an [`Event::TxnResult`] with the returned number.
    pub fn send(&self, transaction: Transaction) -> TxnId {
        let id = self.next_txn.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(Command::Send(id, transaction));
        id
    }

    /// Asks for status columns to have these values. Returns after how many batches
    /// [`Event::StatusWritten`] tells that they are written; exact while one thread calls this.
    pub fn status(&self, batch: StatusBatch) -> u64 {
        let number = self.next_batch.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(Command::Status(batch));
        number
    }

    /// Takes the lock away from its holder, for a hand-over.
    pub fn steal_lock(&self) {
        self.tell(Command::StealLock);
    }

    /// Gives the lock back and writes no more.
    pub fn unlock(&self) {
        self.tell(Command::Unlock);
    }

    /// Asks for the lock again after [`SessionHandle::unlock`].
    pub fn request_lock(&self) {
        self.tell(Command::RequestLock);
    }

    /// Drops the connection and connects again.
    pub fn reconnect(&self) {
        self.tell(Command::Reconnect);
    }

    /// Milliseconds of silence before a probe; 0 for none.
    pub fn set_probe_interval(&self, ms: u32) {
        self.tell(Command::ProbeInterval(ms));
    }

    /// A session that has ended takes no wishes; its receiver shows that it has.
    fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Makes a session: its handle, its events, and the task to spawn (it is `Send`). Everything is idle
/// until the task runs.
pub fn start(
    options: SessionOptions,
) -> (SessionHandle, mpsc::Receiver<Event>, impl Future<Output = ()> + Send + 'static) {
    let (commands, command_rx) = mpsc::unbounded_channel();
    let (event_tx, events) = mpsc::channel(EVENTS_MAX);
    let handle = SessionHandle { commands, next_txn: Arc::default(), next_batch: Arc::default() };
    let remotes: Vec<Remote> = options.remotes.iter().map(Remote::from).collect();
    let session = Session::new(options.config, remotes, options.clock.now_ms());
    let driver = Driver {
        session,
        targets: options.remotes,
        tls: options.tls,
        clock: options.clock,
        link: Link::None,
        has_event: None,
    };
    (handle, events, driver.run(command_rx, event_tx))
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

enum Link {
    None,
    Connecting(Attempt),
    Up(Connection),
}

struct Connection {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    input: BytesMut,
    output: BytesMut,
    unflushed: bool,
}

/// What the link reports.
enum Report {
    Connected(io::Result<Stream>),
    Read(io::Result<usize>),
    WriteFailed(io::Error),
}

struct Driver {
    session: Session,
    targets: Vec<Target>,
    tls: Tls,
    clock: Clock,
    link: Link,
    /// The event that waits for room.
    has_event: Option<Event>,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, events: mpsc::Sender<Event>) {
        loop {
            self.act();
            if self.has_event.is_none() && events.capacity() > 0 {
                self.has_event = self.session.poll_event();
            }
            let deadline = self.session.deadline_ms();
            let clock = self.clock.clone();
            let waiting = events.capacity() == 0;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                permit = events.reserve(), if self.has_event.is_some() || waiting => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.has_event.take().or_else(|| self.session.poll_event()) {
                            permit.send(event);
                        }
                    }
                    Err(_) => return,
                },
                () = events.closed() => return,
                report = self.link.next() => self.report(report),
                () = sleep_until(&clock, deadline) => {}
            }
        }
    }

    /// Does what the session asks for.
    fn act(&mut self) {
        while let Some(action) = self.session.poll_action(self.clock.now_ms()) {
            match action {
                Action::Connect(index) => {
                    if let Some(target) = self.targets.get(index).cloned() {
                        let tls = self.tls.clone();
                        let attempt = async move { stream::connect(&target, &tls).await };
                        self.link = Link::Connecting(Box::pin(attempt));
                    }
                }
                Action::Disconnect => self.link = Link::None,
                Action::Send(text) => {
                    if let Link::Up(connection) = &mut self.link {
                        connection.output.extend_from_slice(text.as_bytes());
                    }
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        let session = &mut self.session;
        match command {
            Command::Send(id, transaction) => session.send_as(id, &transaction),
            Command::Status(batch) => {
                session.status(batch);
            }
            Command::StealLock => session.steal_lock(),
            Command::Unlock => session.unlock(),
            Command::RequestLock => session.request_lock(),
            Command::Reconnect => session.force_reconnect(self.clock.now_ms()),
            Command::ProbeInterval(ms) => session.set_probe_interval(ms),
        }
    }

    fn report(&mut self, report: Report) {
        let now_ms = self.clock.now_ms();
        let failed = match report {
            Report::Connected(Ok(stream)) => {
                self.link = Link::Up(Connection::new(stream));
                return self.session.connected(now_ms);
            }
            Report::Connected(Err(e)) => {
                self.link = Link::None;
                return self.session.connect_failed(now_ms, Some(&error_text(&e)));
            }
            Report::Read(Ok(0)) => None,
            Report::Read(Ok(_)) => {
                let Link::Up(connection) = &mut self.link else { return };
                let input = connection.input.split();
                return self.session.received(&input, now_ms);
            }
            Report::Read(Err(e)) | Report::WriteFailed(e) => Some(error_text(&e)),
        };
        self.link = Link::None;
        self.session.disconnected(now_ms, failed.as_deref());
    }
}

async fn sleep_until(clock: &Clock, deadline_ms: Option<u64>) {
    match deadline_ms {
        Some(deadline_ms) => clock.sleep_until_ms(deadline_ms).await,
        None => std::future::pending().await,
    }
}

impl Link {
    /// The next report; cancel safe.
    async fn next(&mut self) -> Report {
        match self {
            Link::None => std::future::pending().await,
            Link::Connecting(attempt) => Report::Connected(attempt.await),
            Link::Up(connection) => connection.next().await,
        }
    }
}

impl Connection {
    fn new(stream: Stream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Connection { reader, writer, input, output, unflushed: false }
    }

    async fn next(&mut self) -> Report {
        self.input.reserve(READ_BYTES);
        let writing = !self.output.is_empty() || self.unflushed;
        tokio::select! {
            read = self.reader.read_buf(&mut self.input) => Report::Read(read),
            Err(e) = write(&mut self.writer, &mut self.output, &mut self.unflushed), if writing => {
                Report::WriteFailed(e)
            }
        }
    }
}

/// Writes and flushes all output; what is written is remembered, so that this may be cancelled at any
/// point. Does not return but for an error: the next output comes with a new call.
async fn write(
    writer: &mut WriteHalf<Stream>,
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<std::convert::Infallible> {
    while !output.is_empty() {
        let written = writer.write(output).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        output.advance(written);
        *unflushed = true;
    }
    if *unflushed {
        writer.flush().await?;
        *unflushed = false;
    }
    std::future::pending().await
}
