//! What `--help` and `--version` print.

use super::options::Options;

/// The release of Open vSwitch whose behaviour this daemon has.
pub const COMPATIBLE: &str = "3.1.0";

/// `--version` and the command `version`. Scripts take the last word of the line with "Open vSwitch", or of the
/// first line, as a version, so the second line must not say "Open vSwitch".
pub fn version_text(program: &str) -> String {
    let dpdk = match crate::dpdk::version() {
        version if version == crate::dpdk::NONE => String::new(),
        version => format!("{version}\n"),
    };
    format!("{program} (Open vSwitch) {COMPATIBLE}\novs-rs {}\n{dpdk}", env!("CARGO_PKG_VERSION"))
}

/// `--help`.
pub fn help_text(options: &Options) -> String {
    let (program, run, log) = (&options.program, options.dirs.run.display(), options.dirs.log.display());
    format!(
        "\
{program}: Open vSwitch daemon
usage: {program} [OPTIONS] [DATABASE]
where DATABASE is a socket on which ovsdb-server is listening
      (default: \"unix:{run}/db.sock\").

Active DATABASE connection methods:
  tcp:HOST:PORT           PORT at remote HOST
  ssl:HOST:PORT           SSL PORT at remote HOST
  unix:FILE               Unix domain socket named FILE
PKI configuration (required to use SSL):
  -p, --private-key=FILE  file with private key
  -c, --certificate=FILE  file with certificate for private key
  -C, --ca-cert=FILE      file with peer CA certificate
  --bootstrap-ca-cert=FILE  file with peer CA certificate to read or create
SSL options:
  --ssl-protocols=PROTOS  list of SSL protocols to enable
  --ssl-ciphers=CIPHERS   list of SSL ciphers to enable

Daemon options:
  --detach                run in background as daemon
  --monitor               creates a process to monitor this daemon
  --user=username[:group] changes the effective daemon user:group
  --no-chdir              do not chdir to '/'
  --pidfile[=FILE]        create pidfile (default: {run}/{program}.pid)
  --overwrite-pidfile     with --pidfile, start even if already running

Logging options:
  -vSPEC, --verbose=SPEC   set logging levels
  -v, --verbose            set maximum verbosity level
  --log-file[=FILE]        enable logging to specified FILE
                           (default: {log}/{program}.log)
  --syslog-method=(libc|unix:file|udp:ip:port)
                           specify how to send messages to syslog daemon
  --syslog-target=HOST:PORT  also send syslog msgs to HOST:PORT via UDP

DPDK options:
Configuration of DPDK via command-line is removed from this
version of Open vSwitch. DPDK is configured through ovsdb.

Other options:
  --unixctl=SOCKET          override default control socket name
  -h, --help                display this help message
  -V, --version             display version information
"
    )
}
