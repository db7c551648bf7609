//! Commands of the control socket that concern the process: `vlog/*`, `coverage/*`, `memory/show`, `time/*`,
//! `version`, `exit`.

use crate::main_loop::{Ctx, Exit};
use crate::process::{signals, version_text};
use unixctl::{Registry, UNLIMITED};
use vlog::Vlog;

/// The daemon's registry; parts of the switch are added to it.
pub fn registry(ctx: &Ctx) -> Registry<Ctx> {
    let mut r = Registry::new();
    let version = version_text(&ctx.options.program);
    r.add_sync("version", "", 0, 0, move |_, _| Ok(version.clone()));
    r.add_sync("exit", "[--cleanup]", 0, 1, |ctx: &mut Ctx, args| {
        ctx.exit = Some(Exit { cleanup: args == ["--cleanup"] });
        Ok(String::new())
    });
    r.add_sync("memory/show", "", 0, 0, |ctx: &mut Ctx, _| Ok(ctx.memory_text()));
    r.add_sync("coverage/show", "", 0, 0, |ctx: &mut Ctx, _| Ok(ctx.averages.show()));
    r.add_sync("coverage/read-counter", "COUNTER", 1, 1, |_, args| {
        coverage::read_counter(args.first().unwrap_or(&"")).map_err(str::to_owned)
    });
    add_log_commands(&mut r);
    r.mount(crate::bridge::commands::registry(), |ctx: &mut Ctx| &mut ctx.bridges);
    r.mount(crate::bridge::bfd_commands::registry(), |ctx: &mut Ctx| &mut ctx.bridges);
    r.mount(crate::datapath_commands::registry(), |ctx: &mut Ctx| &mut ctx.bridges);
    r.mount(crate::tunnel_commands::registry(), |ctx: &mut Ctx| &mut ctx.bridges);
    r.mount(crate::dpdk::registry(), |ctx: &mut Ctx| &mut ctx.bridges);
    if ctx.options.dummy.is_some() {
        add_time_commands(&mut r);
        r.mount(crate::bridge::dummy_commands::registry(), |ctx: &mut Ctx| &mut ctx.bridges);
    }
    r
}

fn add_log_commands(r: &mut Registry<Ctx>) {
    fn text<E: ToString>(result: Result<(), E>) -> Result<String, String> {
        signals::log_file_changed();
        result.map(|()| String::new()).map_err(|e| e.to_string())
    }
    r.add_sync("vlog/set", "{spec | PATTERN:destination:pattern}", 0, UNLIMITED, |_, args| {
        if args.is_empty() {
            Vlog::global().set_verbose();
        }
        text(args.iter().try_for_each(|spec| Vlog::global().set(spec)))
    });
    r.add_sync("vlog/list", "", 0, 0, |_, _| Ok(Vlog::global().list()));
    r.add_sync("vlog/list-pattern", "", 0, 0, |_, _| Ok(Vlog::global().list_patterns()));
    r.add_sync("vlog/enable-rate-limit", "[module]...", 0, UNLIMITED, |_, args| {
        text(Vlog::global().set_rate_limits(args, true))
    });
    r.add_sync("vlog/disable-rate-limit", "[module]...", 0, UNLIMITED, |_, args| {
        text(Vlog::global().set_rate_limits(args, false))
    });
    r.add_sync("vlog/reopen", "", 0, 0, |_, _| text(Vlog::global().reopen_log_file()));
    r.add_sync("vlog/close", "", 0, 0, |_, _| {
        Vlog::global().close_log_file();
        text(Ok::<_, String>(()))
    });
}

/// Only for tests: `--enable-dummy`.
fn add_time_commands(r: &mut Registry<Ctx>) {
    r.add_sync("time/stop", "", 0, 0, |ctx: &mut Ctx, _| {
        ctx.clock.stop();
        Ok(String::new())
    });
    r.add("time/warp", "[large_msecs] msecs", 1, 2, |ctx: &mut Ctx, args, reply| {
        match clock::Warp::parse(args) {
            Err(e) => reply.error(e.to_string()),
            Ok(_) if ctx.warp.is_some() => reply.error("A previous warp in progress"),
            Ok(warp) => ctx.warp = Some((warp, reply)),
        }
    });
}
