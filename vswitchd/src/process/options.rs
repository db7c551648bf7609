//! The command line of ovs-vswitchd(8).

use super::dirs::Dirs;
use super::getopt::{Getopt, Spec, Takes};
use std::path::PathBuf;

/// What `--enable-dummy` puts dummies in place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DummyLevel {
    /// Dummies exist beside everything else.
    Beside,
    /// `system` ports and datapaths are dummies.
    System,
    /// All ports and datapaths are dummies.
    Override,
}

/// How the database and controllers are spoken to over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SslOptions {
    pub private_key: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub ca_cert: Option<PathBuf>,
    /// The CA certificate is fetched from the first peer if the file is not there.
    pub bootstrap_ca_cert: bool,
    pub peer_ca_cert: Option<PathBuf>,
    pub protocols: Option<String>,
    pub ciphers: Option<String>,
}

/// What the log's options ask for, to be applied in the order of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOption {
    /// `-v[SPEC]`.
    Verbose(Option<String>),
    /// `--log-file[=FILE]`.
    File(Option<PathBuf>),
    SyslogMethod(String),
    SyslogTarget(String),
}

/// `--user`, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserOption {
    pub spec: String,
    /// How errors begin: the pidfile named before this option, or `(null)`, as in Open vSwitch.
    pub context: String,
}

/// The daemon's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub dirs: Dirs,
    /// The last part of the program's path: names the pidfile, control socket and log file.
    pub program: String,
    /// The database, as `unix:`, `tcp:` or `ssl:` target.
    pub database: String,
    /// The control socket, `None` for none, where given.
    pub unixctl: Option<Option<PathBuf>>,
    pub mlockall: bool,
    pub detach: bool,
    pub chdir: bool,
    pub monitor: bool,
    pub pidfile: Option<PathBuf>,
    pub overwrite_pidfile: bool,
    /// Accepted; this daemon leaves confinement to systemd, SELinux or AppArmor.
    pub self_confinement: bool,
    pub user: Option<UserOption>,
    pub dummy: Option<DummyLevel>,
    /// NUMA node of each CPU, as the operator wrote it: `0,0,1,1`.
    pub dummy_numa: Option<String>,
    pub disable_system: bool,
    pub disable_system_route: bool,
    pub ssl: SslOptions,
}

impl Options {
    /// The path of the control socket of the process `pid`, `None` if there is to be none.
    pub fn unixctl_path(&self, pid: u32) -> Option<PathBuf> {
        let default = || Some(self.dirs.in_run(&format!("{}.{pid}.ctl", self.program)));
        self.unixctl.clone().unwrap_or_else(default)
    }

    fn new(program: String, dirs: Dirs) -> Self {
        Options {
            database: format!("unix:{}/db.sock", dirs.run.display()),
            dirs,
            program,
            unixctl: None,
            mlockall: false,
            detach: false,
            chdir: true,
            monitor: false,
            pidfile: None,
            overwrite_pidfile: false,
            self_confinement: true,
            user: None,
            dummy: None,
            dummy_numa: None,
            disable_system: false,
            disable_system_route: false,
            ssl: SslOptions::default(),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Run,
    Help,
    Version,
}

/// An understood command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub action: Action,
    pub log: Vec<LogOption>,
    pub options: Options,
}

/// A refused command line: the line for stderr, and the log options that came before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    pub line: String,
    pub log: Vec<LogOption>,
}

#[derive(Clone, Copy, Debug)]
enum Opt {
    Help,
    Version,
    Mlockall,
    Unixctl,
    Detach,
    NoSelfConfinement,
    NoChdir,
    Pidfile,
    OverwritePidfile,
    Monitor,
    User,
    Verbose,
    LogFile,
    SyslogMethod,
    SyslogTarget,
    PrivateKey,
    Certificate,
    CaCert,
    SslProtocols,
    SslCiphers,
    PeerCaCert,
    BootstrapCaCert,
    EnableDummy,
    DisableSystem,
    DisableSystemRoute,
    Dpdk,
    DummyNuma,
}

const fn opt(long: &'static str, takes: Takes, id: Opt) -> Spec<Opt> {
    Spec { long, short: None, takes, id }
}

const fn short(letter: char, long: &'static str, takes: Takes, id: Opt) -> Spec<Opt> {
    Spec { long, short: Some(letter), takes, id }
}

/// All options. The order is seen in the error for an ambiguous abbreviation.
const TABLE: &[Spec<Opt>] = {
    use Takes::{Argument, Nothing, OptionalArgument};
    &[
        short('h', "help", Nothing, Opt::Help),
        short('V', "version", Nothing, Opt::Version),
        opt("mlockall", Nothing, Opt::Mlockall),
        opt("unixctl", Argument, Opt::Unixctl),
        opt("detach", Nothing, Opt::Detach),
        opt("no-self-confinement", Nothing, Opt::NoSelfConfinement),
        opt("no-chdir", Nothing, Opt::NoChdir),
        opt("pidfile", OptionalArgument, Opt::Pidfile),
        opt("overwrite-pidfile", Nothing, Opt::OverwritePidfile),
        opt("monitor", Nothing, Opt::Monitor),
        opt("user", Argument, Opt::User),
        short('v', "verbose", OptionalArgument, Opt::Verbose),
        opt("log-file", OptionalArgument, Opt::LogFile),
        opt("syslog-method", Argument, Opt::SyslogMethod),
        opt("syslog-target", Argument, Opt::SyslogTarget),
        short('p', "private-key", Argument, Opt::PrivateKey),
        short('c', "certificate", Argument, Opt::Certificate),
        short('C', "ca-cert", Argument, Opt::CaCert),
        opt("ssl-protocols", Argument, Opt::SslProtocols),
        opt("ssl-ciphers", Argument, Opt::SslCiphers),
        opt("peer-ca-cert", Argument, Opt::PeerCaCert),
        opt("bootstrap-ca-cert", Argument, Opt::BootstrapCaCert),
        opt("enable-dummy", OptionalArgument, Opt::EnableDummy),
        opt("disable-system", Nothing, Opt::DisableSystem),
        opt("disable-system-route", Nothing, Opt::DisableSystemRoute),
        opt("dpdk", OptionalArgument, Opt::Dpdk),
        opt("dummy-numa", Argument, Opt::DummyNuma),
    ]
};

/// Reads a command line; `args` begins with the program's path. Touches nothing.
pub fn parse(args: impl IntoIterator<Item = String>, dirs: Dirs) -> Result<Parsed, UsageError> {
    let mut args = args.into_iter();
    let argv0 = args.next().unwrap_or_else(|| "ovs-vswitchd".to_owned());
    let program = argv0.rsplit('/').next().unwrap_or(&argv0).to_owned();
    let mut parsed = Parsed { action: Action::Run, log: Vec::new(), options: Options::new(program, dirs) };
    match parse_into(&mut parsed, &argv0, args) {
        Ok(()) => Ok(parsed),
        Err(line) => Err(UsageError { line, log: parsed.log }),
    }
}

fn parse_into(parsed: &mut Parsed, argv0: &str, args: impl Iterator<Item = String>) -> Result<(), String> {
    let mut getopt = Getopt::new(TABLE, args);
    while let Some((option, value)) = getopt.next_option().map_err(|e| format!("{argv0}: {e}"))? {
        apply(parsed, option, value).map_err(|text| format!("{}: {text}", parsed.options.program))?;
        // As soon as help or version is asked for, the rest does not count.
        if parsed.action != Action::Run {
            return Ok(());
        }
    }
    let mut operands = getopt.operands.into_iter();
    if let Some(database) = operands.next() {
        parsed.options.database = database;
    }
    if operands.next().is_some() {
        let text = "at most one non-option argument accepted; use --help for usage";
        return Err(format!("{}: {text}", parsed.options.program));
    }
    Ok(())
}

fn apply(parsed: &mut Parsed, option: Opt, value: Option<String>) -> Result<(), String> {
    let o = &mut parsed.options;
    let path = || value.clone().map(PathBuf::from);
    let text = || value.clone().unwrap_or_default();
    match option {
        Opt::Help => parsed.action = Action::Help,
        Opt::Version => parsed.action = Action::Version,
        Opt::Mlockall => o.mlockall = true,
        Opt::Unixctl => o.unixctl = Some((text() != "none").then(|| o.dirs.in_run(&text()))),
        Opt::Detach => o.detach = true,
        Opt::NoSelfConfinement => o.self_confinement = false,
        Opt::NoChdir => o.chdir = false,
        Opt::Pidfile => {
            let name = value.unwrap_or_else(|| format!("{}.pid", o.program));
            o.pidfile = Some(o.dirs.in_run(&name));
        }
        Opt::OverwritePidfile => o.overwrite_pidfile = true,
        Opt::Monitor => o.monitor = true,
        Opt::User => {
            let context = o.pidfile.as_ref().map_or_else(|| "(null)".into(), |p| p.display().to_string());
            o.user = Some(UserOption { spec: text(), context });
        }
        Opt::Verbose => parsed.log.push(LogOption::Verbose(value)),
        Opt::LogFile => parsed.log.push(LogOption::File(path())),
        Opt::SyslogMethod => parsed.log.push(LogOption::SyslogMethod(text())),
        Opt::SyslogTarget => parsed.log.push(LogOption::SyslogTarget(text())),
        Opt::PrivateKey => o.ssl.private_key = path(),
        Opt::Certificate => o.ssl.certificate = path(),
        Opt::CaCert | Opt::BootstrapCaCert => {
            o.ssl.ca_cert = path();
            o.ssl.bootstrap_ca_cert = matches!(option, Opt::BootstrapCaCert);
        }
        Opt::SslProtocols => o.ssl.protocols = value,
        Opt::SslCiphers => o.ssl.ciphers = value,
        Opt::PeerCaCert => o.ssl.peer_ca_cert = path(),
        Opt::EnableDummy => o.dummy = Some(dummy_level(&text())?),
        Opt::DisableSystem => o.disable_system = true,
        Opt::DisableSystemRoute => o.disable_system_route = true,
        Opt::Dpdk => return Err("Using --dpdk to configure DPDK is not supported.".to_owned()),
        Opt::DummyNuma => o.dummy_numa = value,
    }
    Ok(())
}

fn dummy_level(text: &str) -> Result<DummyLevel, String> {
    match text {
        "" => Ok(DummyLevel::Beside),
        "system" => Ok(DummyLevel::System),
        "override" => Ok(DummyLevel::Override),
        other => Err(format!("{other}: unknown dummy level")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> Dirs {
        Dirs { run: "/r".into(), log: "/l".into(), db: "/d".into(), sysconf: "/s".into() }
    }

    fn run(line: &str) -> Result<Parsed, UsageError> {
        parse(line.split_whitespace().map(str::to_owned), dirs())
    }

    #[test]
    fn what_ovs_ctl_starts() {
        let line = "/usr/sbin/ovs-vswitchd unix:/r/db.sock -vconsole:emer -vsyslog:err -vfile:info --mlockall --no-chdir \
                    --log-file=/l/x.log --pidfile=/r/ovs-vswitchd.pid --detach --monitor";
        let parsed = run(line).unwrap();
        let o = parsed.options;
        assert_eq!((o.program.as_str(), o.database.as_str()), ("ovs-vswitchd", "unix:/r/db.sock"));
        assert!(o.mlockall && !o.chdir && o.detach && o.monitor && !o.overwrite_pidfile);
        assert_eq!(o.pidfile, Some("/r/ovs-vswitchd.pid".into()));
        assert_eq!(o.unixctl_path(12), Some("/r/ovs-vswitchd.12.ctl".into()));
        let verbose = |s: &str| LogOption::Verbose(Some(s.into()));
        let file = LogOption::File(Some("/l/x.log".into()));
        assert_eq!(parsed.log, [verbose("console:emer"), verbose("syslog:err"), verbose("file:info"), file]);
    }

    #[test]
    fn defaults_and_forms() {
        let parsed =
            run("x/y --pidfile --unixctl none --enable-dummy=override --user a:b -p k -c c -C d").unwrap();
        let o = parsed.options;
        assert_eq!((o.program.as_str(), o.database.as_str()), ("y", "unix:/r/db.sock"));
        assert_eq!(o.pidfile, Some("/r/y.pid".into()));
        assert_eq!(o.unixctl_path(1), None);
        assert_eq!(o.dummy, Some(DummyLevel::Override));
        assert_eq!(o.user, Some(UserOption { spec: "a:b".into(), context: "/r/y.pid".into() }));
        assert_eq!(o.ssl.ca_cert, Some("d".into()));
        assert_eq!(run("y --unixctl=z").unwrap().options.unixctl_path(1), Some("/r/z".into()));
        assert!(run("y --bootstrap-ca-cert=d").unwrap().options.ssl.bootstrap_ca_cert);
    }

    #[test]
    fn errors_are_worded_as_in_open_vswitch() {
        for (line, expected) in [
            ("/x/y --foo", "/x/y: unrecognized option '--foo'"),
            (
                "/x/y --p",
                "/x/y: option '--p' is ambiguous; possibilities: '--pidfile' '--private-key' '--peer-ca-cert'",
            ),
            (
                "/x/y --no",
                "/x/y: option '--no' is ambiguous; possibilities: '--no-self-confinement' '--no-chdir'",
            ),
            ("/x/y --dpdk", "y: Using --dpdk to configure DPDK is not supported."),
            ("/x/y --enable-dummy=zz", "y: zz: unknown dummy level"),
            ("/x/y a b", "y: at most one non-option argument accepted; use --help for usage"),
        ] {
            assert_eq!(run(line).unwrap_err().line, expected);
        }
        assert_eq!(run("y -hV --foo").unwrap().action, Action::Help);
        assert_eq!(run("y --detach -Vx a b").unwrap().action, Action::Version);
    }
}
