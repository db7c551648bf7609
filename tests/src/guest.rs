//! Virtual machines as guests of vhost-user ports, or behind tap devices: QEMU without KVM, Debian's cloud kernel and
//! a few megabytes of root file system that is made here. A guest is driven over a serial line.
//!
//! In each guest, `eth0` has the address and MTU that its kernel's command line says, port 7 answers with the MD5
//! sum of what it is sent, and port 8 sends [`BUSYBOX`].

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// The guest's programs; also a file of 2 MB that both sides have.
pub const BUSYBOX: &str = "/bin/busybox";
const ETHTOOL: &str = "/usr/sbin/ethtool";
const MEMORY: &str = "160M";
/// How long a guest may take for anything. An emulated one boots in 3 seconds, if it has a core for itself.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What a guest does when it boots: modules, address, services, commands from the second serial line.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
ip link set lo up
[ -n "$MTU" ] && ip link set eth0 mtu $MTU
ip addr add $ADDRESS/24 dev eth0
ip link set eth0 up
nc -ll -p 7 -e md5sum &
nc -ll -p 8 -e cat /bin/busybox &
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo "<<ready>>"
while read -r id line; do
    eval "$line"
    echo "<<$id $?>>"
done
"#;

/// A kernel and its root file system.
pub struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Image {
    /// Makes the root file system in `directory`, with these modules besides virtio's; the error says what is missing.
    pub fn build(directory: &Path, modules: &[&str]) -> Result<Self, String> {
        for program in [QEMU, BUSYBOX, ETHTOOL] {
            if !Path::new(program).exists() {
                return Err(format!("needs {program}"));
            }
        }
        let (kernel, found) = kernel().ok_or("needs a kernel of linux-image-cloud-amd64")?;
        let mut archive = Archive::default();
        for directory in ["bin", "modules", "lib", "lib64", "lib/x86_64-linux-gnu", "usr", "usr/sbin"] {
            archive.add(directory, 0o40755, b"");
        }
        archive.add("init", 0o100_755, INIT.as_bytes());
        let programs = [BUSYBOX.to_owned(), ETHTOOL.to_owned()];
        for file in programs.into_iter().chain(libraries(ETHTOOL)?) {
            archive.add(file.trim_start_matches('/'), 0o100_755, &read(Path::new(&file))?);
        }
        let mut order = String::new();
        for module in module_order(&found, &[&["virtio_pci", "virtio_net"], modules].concat())? {
            let name = module.rsplit('/').next().unwrap_or(&module);
            archive.add(&format!("modules/{name}"), 0o100_644, &read(&found.join(&module))?);
            order += &format!("{name}\n");
        }
        archive.add("modules/order", 0o100_644, order.as_bytes());
        let initramfs = directory.join("initramfs");
        fs::write(&initramfs, archive.finish()).map_err(|e| e.to_string())?;
        Ok(Image { kernel, initramfs })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The newest cloud kernel, and the directory of its modules.
fn kernel() -> Option<(PathBuf, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir("/lib/modules").ok()?.flatten().map(|e| e.path()).collect();
    found.sort();
    found.into_iter().rev().find_map(|modules| {
        let version = modules.file_name()?.to_str()?.to_owned();
        let kernel = Path::new("/boot").join(format!("vmlinuz-{version}"));
        (version.ends_with("-cloud-amd64") && kernel.exists()).then_some((kernel, modules))
    })
}

/// Modules in the order in which they can be loaded, from `modules.dep`, where each one's needs stand last first.
fn module_order(directory: &Path, wanted: &[&str]) -> Result<Vec<String>, String> {
    let dependencies = String::from_utf8_lossy(&read(&directory.join("modules.dep"))?).into_owned();
    let mut order: Vec<String> = Vec::new();
    for module in wanted {
        let file = format!("/{module}.ko:");
        let line = dependencies.lines().find(|l| l.contains(&file)).ok_or(format!("no module {module}"))?;
        let (own, needs) = line.split_once(':').unwrap_or_default();
        for module in needs.split_whitespace().rev().chain([own]) {
            if !order.iter().any(|m| m == module) {
                order.push(module.to_owned());
            }
        }
    }
    Ok(order)
}

/// The shared libraries of a program, as `ldd` finds them.
fn libraries(program: &str) -> Result<BTreeSet<String>, String> {
    let output = Command::new("ldd").arg(program).output().map_err(|e| format!("ldd: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|w| w.starts_with('/')).map(str::to_owned).collect())
}

/// A `cpio` archive in the format that the kernel unpacks ("newc", `initramfs/buffer-format` of its documentation).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: usize,
}

impl Archive {
    fn add(&mut self, name: &str, mode: usize, data: &[u8]) {
        self.files += 1;
        let fields = [self.files, mode, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(data);
        self.align();
    }
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

/// What a machine's network devices are connected to.
#[derive(Clone)]
pub enum Network {
    /// One device; the back end connects to the socket.
    VhostUser { socket: PathBuf, queues: usize },
    /// A device on each of these tap devices of a network namespace.
    Taps { namespace: String, names: Vec<String> },
}

impl Network {
    /// QEMU, in the right namespace.
    fn qemu(&self) -> Command {
        match self {
            Network::VhostUser { .. } => Command::new(QEMU),
            Network::Taps { namespace, .. } => {
                // Becomes QEMU: the process is the same.
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", namespace, QEMU]);
                ip
            }
        }
    }

    /// QEMU's arguments for devices with MAC addresses that end in `last` and these further properties.
    fn args(&self, last: u8, properties: &str) -> Vec<String> {
        match self {
            Network::VhostUser { socket, queues } => vec![
                "-chardev".to_owned(),
                format!("socket,id=net,path={},server=on", socket.display()),
                "-netdev".to_owned(),
                format!("vhost-user,id=net,chardev=net,queues={queues}"),
                "-device".to_owned(),
                // No MSI-X: QEMU 7.2 without KVM has no routes for it, and dies when a driver unmasks a vhost-user
                // device's vector.
                format!(
                    "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:00:{last:02x},mq=on,vectors=0,{properties}"
                ),
            ],
            Network::Taps { names, .. } => (0..)
                .zip(names)
                .flat_map(|(no, name): (u8, _)| {
                    let mac = format!("52:54:00:00:{no:02x}:{last:02x}");
                    [
                        "-netdev".to_owned(),
                        format!("tap,id=net{no},ifname={name},script=no,downscript=no,vhost=off"),
                        "-device".to_owned(),
                        format!("virtio-net-pci,id=eth{no},netdev=net{no},romfile=,mac={mac},{properties}"),
                    ]
                })
                .collect(),
        }
    }
}

/// How a guest is made.
#[derive(Clone)]
pub struct Machine {
    pub name: String,
    /// Of `eth0`, in a network of 256.
    pub address: String,
    pub network: Network,
    /// Further properties of the `virtio-net-pci` devices.
    pub device: String,
    /// What the guest sets by itself.
    pub mtu: Option<u32>,
    /// Waits for another guest's state on this socket.
    pub incoming: Option<PathBuf>,
}

/// A guest that runs. Ends with this object.
pub struct Guest {
    pub machine: Machine,
    child: Child,
    files: PathBuf,
    serial: Option<BufReader<UnixStream>>,
    commands: u32,
}

impl Guest {
    /// Starts a machine; its files come to `directory`. QEMU waits for the back end of a vhost-user device first.
    pub fn start(image: &Image, directory: &Path, machine: &Machine) -> Self {
        let files = directory.join(&machine.name);
        let file = |name: &str| files.with_extension(name).display().to_string();
        for stale in ["serial", "qmp"] {
            let _ = fs::remove_file(file(stale));
        }
        if let Network::VhostUser { socket, .. } = &machine.network {
            let _ = fs::remove_file(socket);
        }
        let last = machine.address.rsplit('.').next().and_then(|n| n.parse::<u8>().ok()).unwrap_or(1);
        let mtu = machine.mtu.map(|mtu| format!("MTU={mtu}")).unwrap_or_default();
        let mut qemu = machine.network.qemu();
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        qemu.args(["-object", &format!("memory-backend-memfd,id=mem,size={MEMORY},share=on")]);
        qemu.args(["-machine", "pc,memory-backend=mem"]);
        qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initramfs);
        qemu.args([
            "-append",
            &format!("console=ttyS0 quiet no_timer_check panic=-1 ADDRESS={} {mtu}", machine.address),
        ]);
        qemu.args(["-serial", &format!("file:{}", file("console"))]);
        qemu.args(["-serial", &format!("unix:{},server=on,wait=off", file("serial"))]);
        qemu.args(["-qmp", &format!("unix:{},server=on,wait=off", file("qmp"))]);
        qemu.args(machine.network.args(last, &machine.device));
        if let Some(path) = &machine.incoming {
            let _ = fs::remove_file(path);
            qemu.args(["-incoming", &format!("unix:{}", path.display())]);
        }
        let log = fs::File::create(file("log")).unwrap();
        let child = qemu.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut guest = Guest { machine: machine.clone(), child, files, serial: None, commands: 0 };
        // What is said while nobody listens is lost.
        guest.serial();
        guest
    }

    pub fn address(&self) -> &str {
        &self.machine.address
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.with_extension(name)
    }

    /// What QEMU and the guest's kernel said.
    fn log(&mut self) -> String {
        let status = self.child.try_wait().ok().flatten().map(|s| format!("QEMU: {s}"));
        let said = ["log", "console"].map(|f| fs::read_to_string(self.file(f)).unwrap_or_default());
        format!("{}: {}\n{}", self.machine.name, said.join("\n"), status.unwrap_or_default())
    }

    fn connect(&mut self, name: &str) -> UnixStream {
        let (path, end) = (self.file(name), Instant::now() + PATIENCE);
        loop {
            match UnixStream::connect(&path) {
                Ok(socket) => return socket,
                Err(e) => assert!(Instant::now() < end, "{}: {e}\n{}", path.display(), self.log()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The serial line.
    fn serial(&mut self) -> &mut BufReader<UnixStream> {
        if self.serial.is_none() {
            let socket = self.connect("serial");
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            self.serial = Some(BufReader::new(socket));
        }
        self.serial.as_mut().expect("made before")
    }

    /// What the guest says up to a line that begins with `mark`, and that line.
    fn read_to(&mut self, mark: &str) -> (String, String) {
        let mut said = Vec::new();
        loop {
            let mut line = Vec::new();
            let result = self.serial().read_until(b'\n', &mut line);
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(
                result.is_ok() && !line.is_empty(),
                "no {mark}: {result:?}\n{}\n{}",
                said.concat(),
                self.log()
            );
            // Output that does not end its line stands before the mark.
            match line.split_once(mark) {
                Some((before, rest)) => {
                    said.push(before.to_owned());
                    return (said.concat(), rest.trim().to_owned());
                }
                None => said.push(line),
            }
        }
    }

    /// Waits until the guest has booted, also if it does so once more.
    pub fn booted(&mut self) {
        self.read_to("<<ready>>");
    }

    /// Runs a line of shell in the guest; its output and exit status.
    pub fn output(&mut self, line: &str) -> (String, i32) {
        self.commands += 1;
        let id = self.commands;
        let command = format!("{id} {line}\n");
        self.serial().get_mut().write_all(command.as_bytes()).unwrap();
        let (said, status) = self.read_to(&format!("<<{id} "));
        (said, status.trim_end_matches('>').parse().unwrap_or(-1))
    }

    /// As [`Guest::output`]; the test fails unless the status is 0.
    pub fn run(&mut self, line: &str) -> String {
        let (said, status) = self.output(line);
        assert_eq!(status, 0, "{line}: {said}\n{}", self.log());
        said
    }

    /// Whether a ping of so many bytes is answered, within a while.
    pub fn reaches(&mut self, to: &str, size: usize) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.output(&format!("ping -q -c 1 -W 2 -s {size} {to} >/dev/null")).1 == 0 {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
        }
    }

    /// Boots again, at once and without a word to the device's driver.
    pub fn reboot(&mut self) {
        self.commands += 1;
        let command = format!("{} reboot -f\n", self.commands);
        self.serial().get_mut().write_all(command.as_bytes()).unwrap();
        self.booted();
    }

    /// The machine dies.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.serial = None;
    }

    /// Asks QEMU for something by the QEMU Machine Protocol.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Value {
        let mut socket = BufReader::new(self.connect("qmp"));
        socket.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Value::Null;
        for (command, arguments) in [("qmp_capabilities", json!({})), (command, arguments)] {
            let request = json!({ "execute": command, "arguments": arguments });
            socket.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
            answer = loop {
                let mut line = String::new();
                let n = socket.read_line(&mut line).unwrap();
                assert!(n > 0, "QEMU is gone: {}", self.log());
                let message: Value = serde_json::from_str(&line).unwrap();
                assert!(message.get("error").is_none(), "{request}: {message}");
                if let Some(answer) = message.get("return") {
                    break answer.clone();
                }
            };
        }
        answer
    }

    /// Moves the guest's state to another machine, while it runs; returns what QEMU says of it.
    pub fn migrate(&mut self, to: &mut Guest) -> Value {
        let path = to.machine.incoming.clone().expect("a machine that waits");
        let end = Instant::now() + PATIENCE;
        while !path.exists() {
            assert!(Instant::now() < end, "nobody waits for the guest: {}", to.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.qmp("migrate", json!({ "uri": format!("unix:{}", path.display()) }));
        loop {
            let state = self.qmp("query-migrate", json!({}));
            match state["status"].as_str() {
                Some("completed") => {
                    to.commands = self.commands;
                    return state;
                }
                Some("failed" | "cancelled") => panic!("{state}\n{}\n{}", self.log(), to.log()),
                _ => assert!(Instant::now() < end, "{state}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}
