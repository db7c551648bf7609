//! `bfd/*` commands.

use super::bridges::Bridges;
use ofproto::bfd::session::Override;
use ofproto::bfd::show;
use unixctl::Registry;

type Answer = Result<String, String>;

/// The commands, over [`Bridges`].
pub fn registry() -> Registry<Bridges> {
    let mut r = Registry::new();
    r.add_sync("bfd/show", "[interface]", 0, 1, |b: &mut Bridges, args| show(b, args));
    r.add_sync("bfd/set-forwarding", "[interface] normal|false|true", 1, 2, |b, args| {
        set_forwarding(b, args)
    });
    r
}

fn show(bridges: &Bridges, args: &[&str]) -> Answer {
    let now_ms = bridges.now_ms();
    let sessions = bridges.layers().bfd_sessions(args.first().copied());
    if let [_] = args {
        let (_, bfd) = sessions.first().ok_or("no such bfd object")?;
        return Ok(bfd.look(|s| show::details(s, now_ms)));
    }
    let text = |(name, bfd): &(String, _)| {
        let bfd: &std::sync::Arc<ofproto::bfd::Bfd> = bfd;
        bfd.look(|s| format!("---- {name} ----\n{}\n", show::details(s, now_ms)))
    };
    Ok(sessions.iter().map(text).collect())
}

fn set_forwarding(bridges: &Bridges, args: &[&str]) -> Answer {
    let (name, word) = match args {
        [name, word] => (Some(*name), *word),
        [word] => (None, *word),
        _ => return Err("unknown argument".to_owned()),
    };
    let order = match word.to_ascii_lowercase().as_str() {
        "normal" => Override::None,
        "true" => Override::Forwarding(true),
        "false" => Override::Forwarding(false),
        _ => return Err("unknown fault string".to_owned()),
    };
    let sessions = bridges.layers().bfd_sessions(name);
    if name.is_some() && sessions.is_empty() {
        return Err("no such BFD object".to_owned());
    }
    bridges.layers().override_bfd(&sessions, order);
    Ok("OK".to_owned())
}
