//! Making [`Bridges`] out of the command line.

use super::bridges::Bridges;
use super::layers::{Layers, UnderlayKeeper};
use crate::config::Surroundings;
use crate::process::options::DummyLevel as Dummies;
use crate::process::{Fatal, Options, reason};
use clock::Clock;
use netdev::{DummyLevel, Env};
use ovsdb_shim::{Event, SessionConfig, SessionHandle, SessionOptions};
use std::sync::Arc;
use stream::{OVSDB_PORT, Target, Tls, TlsConfig, TlsLimits};
use tokio::sync::mpsc;

/// Turns of the runtime in which a session connects and asks its first question.
const TURNS_TO_ASK: usize = 3;

/// The session with the database, while it is being opened.
pub struct Opening {
    handle: SessionHandle,
    events: mpsc::Receiver<Event>,
    tls: Tls,
}

/// Opens the session with the database, which will find out what it has while the daemon makes the rest.
pub async fn open(options: &Options, clock: &Clock) -> Result<Opening, Fatal> {
    let remotes =
        Target::parse_list(&options.database, OVSDB_PORT).map_err(|e| Fatal::plain(e.to_string()))?;
    let remotes: Vec<Target> = remotes.into_iter().map(|t| t.in_rundir(&options.dirs.run)).collect();
    let tls = tls(options);
    let session =
        SessionOptions { remotes, tls: tls.clone(), clock: clock.clone(), config: SessionConfig::vswitchd() };
    let (handle, events, task) = ovsdb_shim::start(session);
    tokio::spawn(task);
    go_on().await;
    Ok(Opening { handle, events, tls })
}

/// Lets the session do what there is to do.
pub async fn go_on() {
    for _ in 0..TURNS_TO_ASK {
        tokio::task::yield_now().await;
    }
}

/// Makes all that bridges need. Must be called in a tokio runtime.
pub fn connect(options: &Options, clock: &Clock, session: Opening) -> Result<Bridges, Fatal> {
    let Opening { handle, events, tls } = session;
    let fatal = |text: String| Fatal::logged("bridge", text);
    let env = Env::new(dummies(options.dummy)).map_err(|e| fatal(format!("no ports: {}", reason(&e))))?;
    let around = Surroundings {
        rundir: options.dirs.run.clone(),
        pidfile: options.pidfile.clone(),
        datapath_types: datapath_types(options),
        self_confinement: options.self_confinement,
        flows_restored: false,
    };
    let keeper = UnderlayKeeper::new(!options.disable_system_route);
    let layers = Layers::new(env, clock.clone(), Arc::new(tls.clone()), keeper);
    Bridges::new(around, layers, handle, events, tls, clock.clone()).map_err(|e| fatal(reason(&e)))
}

fn dummies(level: Option<Dummies>) -> DummyLevel {
    match level {
        None => DummyLevel::Off,
        Some(Dummies::Beside) => DummyLevel::Types,
        Some(Dummies::System) => DummyLevel::System,
        Some(Dummies::Override) => DummyLevel::All,
    }
}

/// All are served by the datapath of this process. `--disable-system` leaves `system` to somebody else, unless
/// it is a dummy.
fn datapath_types(options: &Options) -> Vec<String> {
    let is_dummy = matches!(options.dummy, Some(Dummies::System | Dummies::Override));
    let types = [
        ("dummy", options.dummy.is_some()),
        ("netdev", true),
        ("system", !options.disable_system || is_dummy),
    ];
    types.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.to_owned()).collect()
}

fn tls(options: &Options) -> Tls {
    let ssl = &options.ssl;
    let files = TlsConfig {
        private_key: ssl.private_key.clone(),
        certificate: ssl.certificate.clone(),
        ca_cert: ssl.ca_cert.clone(),
        bootstrap_ca_cert: ssl.bootstrap_ca_cert,
        peer_ca_cert: ssl.peer_ca_cert.clone(),
    };
    Tls::new(files).limited(TlsLimits::new(ssl.protocols.as_deref(), ssl.ciphers.as_deref()))
}
