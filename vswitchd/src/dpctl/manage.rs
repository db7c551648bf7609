//! `dpctl/add-dp` and its like: datapaths and ports by hand, beside those of the database.

use super::{INVALID, Output, names};
use crate::bridge::Bridges;
use datapath::Datapath;
use dpif::{Dpif, PortNo};
use netdev::{Env, Netdev, NetdevError, StringMap};
use std::sync::Arc;

type Answer = Result<String, String>;

const EXISTS: &str = "File exists";
const BUSY: &str = "Device or resource busy";
const NO_DEVICE: &str = "No such device";
const NO_TYPE: &str = "Address family not supported by protocol";

/// `dpctl/add-dp DP [IFACE...]`.
pub fn add_dp(b: &mut Bridges, args: &[&str]) -> Answer {
    let mut out = Output::default();
    let given = args.first().copied().unwrap_or_default();
    let (kind, name) = given.split_once('@').unwrap_or(("system", given));
    let full = format!("{kind}@{name}");
    let cause = match kind {
        _ if b.layers().datapaths().iter().any(|d| d.name() == full) => Some(EXISTS.to_owned()),
        "netdev" | "dummy" | "system" if is_taken(b, &full) => Some(INVALID.to_owned()),
        "netdev" | "dummy" | "system" => b.layers_mut().add_datapath(&full).err(),
        _ => Some(NO_TYPE.to_owned()),
    };
    match cause {
        Some(cause) => out.error("add_dp", Some(&cause)),
        None if args.len() > 1 => return add_if(b, args),
        None => {}
    }
    out.finish()
}

/// `dpctl/del-dp DP`: one that bridges use stays while they do.
pub fn del_dp(b: &mut Bridges, args: &[&str]) -> Answer {
    let dp = open(b, args)?;
    b.layers_mut().del_datapath(&dp.name());
    Ok(String::new())
}

/// Whether a datapath of another type has the name.
fn is_taken(b: &Bridges, given: &str) -> bool {
    let Some((_, name)) = given.split_once('@') else { return false };
    b.layers().datapaths().iter().any(|d| names(name, &d.name()))
}

fn open(b: &Bridges, args: &[&str]) -> Result<Arc<Datapath>, String> {
    let given = args.first().copied().unwrap_or_default();
    let found = b.layers().datapaths().into_iter().find(|d| names(given, &d.name()));
    found.ok_or_else(|| {
        let mut out = Output::default();
        out.error("opening datapath", Some(if is_taken(b, given) { INVALID } else { NO_DEVICE }));
        out.finish().err().unwrap_or_default()
    })
}

/// An interface as the commands name it: `NAME[,KEY=VALUE]...`.
fn parse(text: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let mut parts = text.split(',').filter(|p| !p.is_empty());
    let name = parts.next()?;
    Some((name, parts.map(|p| p.split_once('=').unwrap_or((p, ""))).collect()))
}

/// Digits at the beginning, as C's `atoi` reads them.
fn number(text: &str) -> u32 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The system's word for what went wrong, which texts of devices have in parentheses at their end.
fn cause(error: &NetdevError) -> String {
    let text = error.to_string();
    let inner = text.strip_suffix(')').and_then(|t| Some(t.rsplit_once('(')?.1.to_owned()));
    inner.unwrap_or(text)
}

/// `dpctl/add-if DP IFACE...`.
pub fn add_if(b: &mut Bridges, args: &[&str]) -> Answer {
    let dp = open(b, args)?;
    let mut out = Output::default();
    for text in args.iter().skip(1) {
        add_one(&mut out, b.layers().env(), &dp, args.first().unwrap_or(&""), text);
    }
    out.finish()
}

fn add_one(out: &mut Output, env: &Env, dp: &Datapath, given: &str, text: &str) {
    let Some((name, keys)) = parse(text) else {
        out.error(&format!("{text} is not a valid network device name"), None);
        return;
    };
    let (mut kind, mut wanted, mut options) = ("system", None, StringMap::new());
    for (key, value) in keys {
        match key {
            "type" => kind = value,
            "port_no" => wanted = Some(PortNo(number(value))),
            _ if options.insert(key.to_owned(), value.to_owned()).is_some() => {
                out.error(&format!("duplicate \"{key}\" option"), None);
            }
            _ => {}
        }
    }
    let device = match env.open(kind, name) {
        Ok(device) => device,
        Err(e) => {
            out.error(&format!("{name}: failed to open network device"), Some(&cause(&e)));
            return;
        }
    };
    if let Err(e) = device.configure(&options) {
        out.error(&e.to_string(), None);
    } else if let Err(e) = dp.port_add(device.clone(), wanted) {
        let is_number = wanted.is_some_and(|no| dp.netdev(no).is_some_and(|d| d.name() != name));
        let why = if is_number { BUSY.to_owned() } else { e.to_string() };
        out.error(&format!("adding {name} to {given} failed"), Some(&why));
    } else if let Err(e) = device.set_admin_up(true) {
        out.error(&format!("{name}: failed bringing interface up"), Some(&cause(&e)));
    }
}

/// `dpctl/del-if DP IFACE...`: by name or by number.
pub fn del_if(b: &mut Bridges, args: &[&str]) -> Answer {
    let dp = open(b, args)?;
    let mut out = Output::default();
    let ports = dp.ports();
    for name in args.iter().skip(1) {
        let no = if name.chars().all(|c| c.is_ascii_digit()) {
            PortNo(number(name))
        } else if let Some(port) = ports.iter().find(|p| p.name == *name) {
            port.no
        } else {
            out.error(&format!("no port named {name}"), None);
            continue;
        };
        let why = match no {
            PortNo::LOCAL => Some(INVALID.to_owned()),
            no => dp.port_del(no).err().map(|e| e.to_string()),
        };
        if let Some(why) = why {
            let given = args.first().unwrap_or(&"");
            out.error(&format!("deleting port {name} from {given} failed"), Some(&why));
        }
    }
    out.finish()
}

/// `dpctl/set-if DP IFACE...`: options of ports; an empty value takes one away.
pub fn set_if(b: &mut Bridges, args: &[&str]) -> Answer {
    let dp = open(b, args)?;
    let mut out = Output::default();
    for text in args.iter().skip(1) {
        let Some((name, keys)) = parse(text) else {
            out.error(&format!("{text} is not a valid network device name"), None);
            continue;
        };
        let port = dp.ports().into_iter().find(|p| p.name == name);
        let Some((port, device)) = port.and_then(|p| Some((p.clone(), dp.netdev(p.no)?))) else {
            let given = args.first().unwrap_or(&"");
            out.error(&format!("{name}: failed to query port in {given}"), Some(NO_DEVICE));
            continue;
        };
        if let Err(why) = change(device.as_ref(), name, &port, &keys) {
            out.error(&why, None);
        }
    }
    out.finish()
}

fn change(
    device: &dyn Netdev,
    name: &str,
    port: &dpif::PortDesc,
    keys: &[(&str, &str)],
) -> Result<(), String> {
    let mut options = device.options();
    for (key, value) in keys {
        match *key {
            "type" if *value != port.kind => {
                return Err(format!("{name}: can't change type from {} to {value}", port.kind));
            }
            "port_no" if PortNo(number(value)) != port.no => {
                let (no, new) = (port.no, number(value));
                return Err(format!("{name}: can't change port number from {no} to {new}"));
            }
            "type" | "port_no" => {}
            key if value.is_empty() => {
                options.remove(key);
            }
            key => {
                options.insert(key.to_owned(), (*value).to_owned());
            }
        }
    }
    device.configure(&options).map_err(|e| e.to_string())
}

/// `dpctl/cache-set-size DP CACHE SIZE`: no cache here can be sized.
pub fn cache_set_size(b: &mut Bridges, args: &[&str]) -> Answer {
    let mut out = Output::default();
    let [given, _, size] = args else {
        out.error("Invalid number of arguments", Some(INVALID));
        return out.finish();
    };
    if !size.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
        out.error("size is malformed", Some(INVALID));
    } else if !b.layers().datapaths().iter().any(|d| names(given, &d.name())) {
        out.error(&format!("Opening datapath {given} failed"), Some(NO_DEVICE));
    } else {
        out.error("Setting caches not supported", Some("Operation not supported"));
    }
    out.finish()
}

/// `dpif-dummy/change-port-number DP PORT NUMBER`.
pub fn change_port_number(b: &mut Bridges, args: &[&str]) -> Answer {
    let [given, name, no] = args else { return Err(INVALID.to_owned()) };
    let all = b.layers().datapaths();
    let is_it = |d: &&Arc<Datapath>| d.name().split_once('@').is_some_and(|(_, short)| short == *given);
    let dp = all.iter().find(is_it).ok_or("unknown datapath or not a dummy")?;
    let ports = dp.ports();
    let port = ports.iter().find(|p| p.name == *name).ok_or("unknown port")?;
    let new = PortNo(number(no));
    if new == PortNo::LOCAL || new.0 as usize >= datapath::PORTS_MAX {
        return Err("bad port number".to_owned());
    }
    if ports.iter().any(|p| p.no == new) {
        return Err("port number already in use".to_owned());
    }
    let old = port.no;
    b.layers_mut().renumber(dp, name, old, new).map(|()| String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read() {
        assert_eq!(
            parse("p1,type=internal,port_no=7,x"),
            Some(("p1", vec![("type", "internal"), ("port_no", "7"), ("x", "")]))
        );
        assert_eq!(parse(","), None);
        assert_eq!(["7x", "x", "", "4294967296"].map(number), [7, 0, 0, 0]);
        let error = NetdevError::Config("could not open network device x (No such device)".to_owned());
        assert_eq!(cause(&error), NO_DEVICE);
    }
}
