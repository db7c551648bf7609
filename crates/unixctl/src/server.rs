//! The listening socket and its connections.
//!
//! One task accepts; one task per connection reads a request, sends it to the owner of [`Requests`], waits for the
//! answer and writes it. All end when the [`Server`] is dropped.

use crate::registry::{Reply, Request};
use crate::wire::{Call, Decoder, encode_reply};
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::{Mode, fchmod};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// Connections at a time; further ones are closed at once.
pub const MAX_CONNECTIONS: usize = 1024;
/// Requests waiting for the main loop; connections beyond wait with reading.
const MAX_WAITING: usize = 64;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 64;
/// A longer path does not fit into a socket address (sun_path of unix(7), with its final zero).
const MAX_SOCKET_PATH: usize = 107;

/// Where requests arrive.
pub type Requests = mpsc::Receiver<Request>;

/// A control socket. Dropping it closes all connections and removes the socket's file.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
    keep_file: bool,
    /// Requests that were read and not yet answered.
    open: watch::Receiver<usize>,
}

/// What a connection needs of the server.
#[derive(Clone)]
struct Link {
    requests: mpsc::Sender<Request>,
    open: Arc<watch::Sender<usize>>,
}

impl Server {
    /// Listens on `path`, in place of what is there. To be called inside a tokio runtime.
    pub fn bind(path: &Path) -> io::Result<(Server, Requests)> {
        Self::serve(listen(path)?, path)
    }

    /// Serves a socket that already listens, as after a hand-over.
    pub fn serve(listener: StdListener, path: &Path) -> io::Result<(Server, Requests)> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let (count, open) = watch::channel(0);
        let link = Link { requests: sender, open: Arc::new(count) };
        let task = tokio::spawn(accept_loop(listener, link));
        Ok((Server { path: path.to_owned(), task, keep_file: false, open }, requests))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until all requests so far are answered and the answers sent, no longer than `limit`.
    pub async fn drain(&self, limit: Duration) {
        let mut open = self.open.clone();
        let _ = tokio::time::timeout(limit, open.wait_for(|n| *n == 0)).await;
    }

    /// The socket's file now belongs to another process: dropping this server leaves it there.
    pub fn give_up_file(&mut self) {
        self.keep_file = true;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if !self.keep_file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the listening socket, for its owner and group as far as the umask lets them. A path too long for an
/// address goes through a descriptor of its directory.
fn listen(path: &Path) -> io::Result<StdListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            warn!(target: "socket_util", "unlinking \"{}\": {e}", path.display());
        }
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // On Linux the file takes over the socket's mode when it is made.
    fchmod(&socket, Mode::S_IRWXU | Mode::S_IRWXG)?;
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    } else {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        let dir = open(parent, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let short = Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        bind(socket.as_raw_fd(), &UnixAddr::new(&short)?)?;
    }
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

async fn accept_loop(listener: UnixListener, link: Link) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Finished connections leave the set; the set ends them all when this task is ended.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let link = link.clone();
                    connections.spawn(async move {
                        serve_connection(stream, link).await;
                        drop(slot);
                    });
                }
                Err(_) => warn!(target: "unixctl", "more than {MAX_CONNECTIONS} connections, closing one"),
            },
            Err(e) => {
                warn!(target: "unixctl", "accept failed: {e}");
                // Out of descriptors, most likely; trying again at once would only spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: UnixStream, link: Link) {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; 4096];
    loop {
        match decoder.next_call() {
            Ok(Some(call)) => {
                let _open = Open::new(&link.open);
                let Some(bytes) = answer(call, &link.requests).await else { return };
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Ok(None) => match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => decoder.push(chunk.get(..n).unwrap_or_default()),
            },
            Err(e) => return warn!(target: "unixctl", "{e}"),
        }
    }
}

/// Counts a request as open while it lives.
struct Open<'a>(&'a watch::Sender<usize>);

impl<'a> Open<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|n| *n += 1);
        Open(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// The bytes that answer a request, `None` if nobody takes requests any more.
async fn answer(call: Call, sender: &mpsc::Sender<Request>) -> Option<Vec<u8>> {
    coverage::counter::unixctl_received.inc();
    let args = call.args();
    let Call { method: command, id, params } = call;
    debug!(target: "unixctl", "received request {command}{}, id={id}", serde_json::Value::Array(params));
    let answer = match args {
        None => Err(format!("\"{command}\" command has non-string argument")),
        Some(args) => {
            let (reply, answer) = Reply::new();
            sender.send(Request { command, args, reply }).await.ok()?;
            answer.await.unwrap_or_else(|_| Err("command was not answered".to_owned()))
        }
    };
    coverage::counter::unixctl_replied.inc();
    let (outcome, body) = match &answer {
        Ok(text) => ("success", text),
        Err(text) => ("error", text),
    };
    debug!(target: "unixctl", "replying with {outcome}, id={id}: \"{body}\"");
    Some(encode_reply(id, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;
    use std::process::Stdio;

    /// A server whose commands run in a task, over a counter.
    fn start(path: &Path) -> Server {
        let (server, mut requests) = Server::bind(path).unwrap();
        let mut registry = Registry::<u32>::new();
        registry.add_sync("count", "[n]...", 0, crate::UNLIMITED, |n, args| {
            *n += args.len() as u32;
            Ok(n.to_string())
        });
        registry.add("later", "", 0, 0, |_, _, reply| {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                reply.ok("at last");
            });
        });
        registry.add("never", "", 0, 0, |_, _, reply| drop(reply));
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = requests.recv().await {
                registry.dispatch(&mut count, request);
            }
        });
        server
    }

    async fn appctl(path: &Path, args: &[&str]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new("ovs-appctl");
        command.arg("-t").arg(path).args(args).stdin(Stdio::null());
        let out = command.output().await.unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
    }

    #[tokio::test]
    async fn debians_appctl_understands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ctl");
        let server = start(&path);
        assert_eq!(appctl(&path, &["count", "a", "b"]).await, (0, "2\n".into(), String::new()));
        assert_eq!(appctl(&path, &["later"]).await.1, "at last\n");
        let (code, out, err) = appctl(&path, &["never"]).await;
        assert_eq!((code, out), (2, String::new()));
        let expected =
            format!("command was not answered\novs-appctl: {}: server returned an error\n", path.display());
        assert_eq!(err, expected);
        drop(server);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_owner_and_group_may_connect() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ctl");
        let _server = start(&path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode & 0o700, mode & 0o007), (0o700, 0));
    }

    #[tokio::test]
    async fn long_paths_work() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("x.ctl");
        let _server = start(&path);
        assert_eq!(appctl(&path, &["count"]).await.1, "0\n");
    }

    #[tokio::test]
    async fn bad_clients_disturb_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ctl");
        let _server = start(&path);
        let mut idle = Vec::new();
        for i in 0..200 {
            let mut s = UnixStream::connect(&path).await.unwrap();
            match i % 3 {
                0 => s.write_all(b"{\"id\":").await.unwrap(),
                1 => {
                    s.write_all(b"rubbish").await.unwrap();
                    assert_eq!(s.read(&mut [0; 9]).await.unwrap_or(0), 0, "closed");
                }
                _ => {}
            }
            idle.push(s);
        }
        assert_eq!(appctl(&path, &["count", "1"]).await.1, "1\n");
    }
}
