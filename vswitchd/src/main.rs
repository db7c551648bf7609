//! The program `ovs-vswitchd`.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use tracing::{error, warn};
use vlog::Vlog;
use vswitchd::main_loop;
use vswitchd::process::options::{self, Action, LogOption, Options};
use vswitchd::process::{Daemon, Dirs, Fatal, help_text, signals, version_text};

/// Rules are small and stay, messages are large and go: libc's allocator lays both side by side and ends with a heap
/// three times as large as what lives in it. This one keeps sizes apart, and is faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let parsed = match options::parse(args, Dirs::from_env()) {
        Ok(parsed) => parsed,
        Err(refused) => {
            eprintln!("{}", refused.line);
            return ExitCode::FAILURE;
        }
    };
    let options = parsed.options;
    // pid_comm_check in ovs-lib compares this name.
    if let Ok(name) = std::ffi::CString::new(options.program.as_str()) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    if let Err(fatal) = start_logging(&parsed.log, &options) {
        return fatal.report();
    }
    match parsed.action {
        Action::Help => print!("{}", help_text(&options)),
        Action::Version => print!("{}", version_text(&options.program)),
        Action::Run => return run(&options).unwrap_or_else(|fatal| fatal.report()),
    }
    ExitCode::SUCCESS
}

/// Applies the log's options, in their order.
fn start_logging(log: &[LogOption], options: &Options) -> Result<(), Fatal> {
    let vlog = Vlog::global();
    vlog.set_program(&options.program);
    if let Some(method) = std::env::var("OVS_SYSLOG_METHOD").ok().filter(|m| !m.is_empty())
        && !log.iter().any(|o| matches!(o, LogOption::SyslogMethod(_)))
    {
        vlog.set_syslog_method(&method).map_err(|e| Fatal::plain(e.to_string()))?;
    }
    for option in log {
        match option {
            LogOption::Verbose(None) => vlog.set_verbose(),
            LogOption::Verbose(Some(spec)) => {
                vlog.set(spec).map_err(|e| Fatal::plain(format!("processing \"{spec}\": {e}")))?;
            }
            LogOption::SyslogMethod(text) => {
                vlog.set_syslog_method(text).map_err(|e| Fatal::plain(e.to_string()))?;
            }
            LogOption::SyslogTarget(address) => vlog.set_syslog_target(address),
            LogOption::File(None) => {
                // As in Open vSwitch, a default log file that cannot be opened is only a warning, which is logged.
                let _ = vlog.set_log_file(&options.dirs.log.join(format!("{}.log", options.program)));
            }
            // A file that was asked for by name must open; why it does not was logged.
            LogOption::File(Some(path)) => {
                if vlog.set_log_file(path).is_err() {
                    std::process::exit(1);
                }
            }
        }
    }
    vlog::init();
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one: every kernel port takes a few.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(e) = raised {
        warn!(target: "vswitchd", "cannot raise the limit of descriptors: {}", e.desc());
    }
}

fn run(options: &Options) -> Result<ExitCode, Fatal> {
    raise_descriptor_limit();
    datapath::huge_pages::put_off();
    let daemon = Daemon::start(options)?;
    signals::install_crash_handlers();
    Vlog::global().warn_of_deprecated_options();
    if options.mlockall {
        use nix::sys::mman::{MlockAllFlags, mlockall};
        if let Err(e) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
            error!(target: "vswitchd", "mlockall failed: {}", e.desc());
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fatal::logged("vswitchd", format!("no runtime: {e}")))?;
    runtime.block_on(main_loop::run(options, daemon))
}
