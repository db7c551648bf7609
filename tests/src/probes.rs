//! What a test sends between the machines of a [`Cloud`], and what it sees there.

use crate::PATIENCE;
use crate::cloud::Cloud;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A program that runs in a namespace and writes lines; see [`Cloud::watch`] and [`Cloud::sink`].
pub struct Lines {
    file: PathBuf,
}

impl Lines {
    /// What it has written so far, one element for a line that is complete.
    pub fn seen(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| l.trim_end().to_owned()).collect()
    }

    /// How many lines have this in them.
    pub fn count(&self, what: &str) -> usize {
        self.seen().iter().filter(|line| line.contains(what)).count()
    }
}

impl Cloud {
    /// Waits until something holds.
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts a Python program whose standard output is kept; it is killed at the end of the test. It works once it
    /// has printed `ready`.
    pub fn report(&mut self, namespace: &str, program: &str) -> Lines {
        let lines = self.lines(namespace);
        let output = fs::File::create(&lines.file).unwrap();
        let mut command = self.prepared(namespace, "python3 -u -c");
        let child = command.arg(program).stdout(output).stderr(Stdio::inherit()).spawn().unwrap();
        self.keep(child);
        self.until("a program is ready", || lines.count("ready") == 1);
        lines
    }

    /// The packets that a namespace's `eth0` receives or sends, as `tcpdump -e -v` describes them, one line each.
    pub fn watch(&mut self, namespace: &str, filter: &str) -> Lines {
        self.watch_on(namespace, "eth0", filter)
    }

    /// As [`Cloud::watch`] on another device.
    pub fn watch_on(&mut self, namespace: &str, device: &str, filter: &str) -> Lines {
        let lines = self.lines(namespace);
        let said = lines.file.with_extension("err");
        let mut command = self.prepared(namespace, "tcpdump -l -n -e -i");
        command.arg(device).args(filter.split_whitespace());
        command.stdout(fs::File::create(&lines.file).unwrap()).stderr(fs::File::create(&said).unwrap());
        let child = command.spawn().unwrap();
        self.keep(child);
        self.until("tcpdump listens", || {
            fs::read_to_string(&said).is_ok_and(|said| said.contains("listening on"))
        });
        lines
    }

    /// Receives UDP packets, and joins a multicast group for that if one is given: a line each, with the address of
    /// the sender and what it said.
    pub fn sink(&mut self, namespace: &str, port: u16, group: &str) -> Lines {
        let join = match group {
            "" => String::new(),
            v6 if v6.contains(':') => format!(
                "s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_JOIN_GROUP,socket.inet_pton(socket.AF_INET6,'{v6}')\
                 +struct.pack('@I',socket.if_nametoindex('eth0')))\n"
            ),
            v4 => format!(
                "s.setsockopt(socket.IPPROTO_IP,socket.IP_ADD_MEMBERSHIP,struct.pack('@4s4si',\
                 socket.inet_aton('{v4}'),bytes(4),socket.if_nametoindex('eth0')))\n"
            ),
        };
        let family = if group.contains(':') { "socket.AF_INET6" } else { "socket.AF_INET" };
        let program = format!(
            "import socket,struct\ns=socket.socket({family},socket.SOCK_DGRAM)\n\
             s.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,1<<22)\ns.bind(('',{port}))\n{join}print('ready')\n\
             while True:\n d,a=s.recvfrom(2000)\n print(a[0],d[:40].decode().strip('.'))"
        );
        self.report(namespace, &program)
    }

    /// Sends this many UDP packets of `length` bytes, with equal pauses in this many seconds: the texts are `0` to
    /// `count - 1`, filled up with dots.
    pub fn send(&self, from: &str, to: &str, port: u16, count: u32, length: u32, seconds: f64) {
        let family = if to.contains(':') { "socket.AF_INET6" } else { "socket.AF_INET" };
        let program = format!(
            "import socket,time\ns=socket.socket({family},socket.SOCK_DGRAM)\n\
             s.setsockopt(socket.IPPROTO_IP,socket.IP_MULTICAST_TTL,5)\n\
             if {family}==socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_MULTICAST_HOPS,5)\n\
             t=time.monotonic()\nfor n in range({count}):\n \
             w=t+n*{seconds}/{count}-time.monotonic()\n if w>0: time.sleep(w)\n \
             s.sendto(str(n).ljust({length},'.').encode(),('{to}',{port}))"
        );
        self.python(from, &program);
    }

    /// How a TCP connection to this address ends within three seconds: `connected`, `refused` or `timeout`.
    pub fn connects(&self, from: &str, to: &str, port: u16) -> String {
        self.python(
            from,
            &format!(
                "import socket\ntry:\n socket.create_connection(('{to}',{port}),3)\n print('connected')\n\
                 except ConnectionRefusedError: print('refused')\nexcept OSError: print('timeout')"
            ),
        )
    }

    /// What a TCP server says over this many connections, as far as they are made within three seconds each.
    pub fn hears_times(&self, from: &str, to: &str, port: u16, times: usize) -> Vec<String> {
        let program = format!(
            "import socket\nfor _ in range({times}):\n try:\n  s=socket.create_connection(('{to}',{port}),3)\n  \
             print(s.recv(99).decode())\n  s.close()\n except OSError: pass"
        );
        self.python(from, &program).lines().map(str::to_owned).collect()
    }

    fn lines(&mut self, namespace: &str) -> Lines {
        let no = self.children();
        Lines { file: self.path(&format!("{namespace}-{no}.lines")) }
    }
}
