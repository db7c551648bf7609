//! `dpctl/*` (ovs-dpctl(8), ovs-vswitchd(8)): looking at datapaths and changing their flows by hand.
//!
//! Pure text in and out over [`Dpif`]s; the registry adds the commands in `commands.rs`.

pub mod conntrack;
mod ct_match;
mod flows;
pub mod fragments;
pub mod manage;
mod normalize;
mod show;
#[cfg(test)]
mod tests;

pub use flows::{add_flow, add_flows, del_flow, del_flows, dump_flows, get_flow, parse_actions};
pub use normalize::normalize_actions;
pub use show::{cache_sizes, dump_dps, offload_stats, options, show};

use dpif::{Dpif, DpifError, PortNo};
use std::sync::Arc;

/// The datapaths of the daemon, by name order.
pub type Datapaths<'a> = &'a [Arc<dyn Dpif>];

/// What a command prints: lines so far, and whether it failed.
#[derive(Default)]
pub(crate) struct Output {
    text: String,
    failed: bool,
}

impl Output {
    pub fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Text that ends no line.
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// An error line in the form of the daemon, with the system's word for the cause.
    pub fn error(&mut self, what: &str, cause: Option<&str>) {
        let cause = cause.map(|c| format!(" ({c})")).unwrap_or_default();
        self.line(&format!("ovs-vswitchd: {what}{cause}"));
        self.failed = true;
    }

    pub fn finish(self) -> Result<String, String> {
        if self.failed { Err(self.text) } else { Ok(self.text) }
    }
}

const INVALID: &str = "Invalid argument";

/// Checks the options before a command's arguments, and parts those that stand together.
///
/// # Errors
/// Names the option that there is not.
pub fn check_options<'a>(args: &[&'a str]) -> Result<Vec<&'a str>, String> {
    const LONG: [&str; 6] = ["--statistics", "--clear", "--may-create", "--more", "--names", "--no-names"];
    let mut out = Vec::new();
    let mut rest = args.iter();
    for arg in rest.by_ref() {
        if arg.starts_with("--") {
            if !LONG.contains(arg) {
                return Err(format!("Unrecognized option {arg}"));
            }
            out.push(*arg);
        } else if let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) {
            for letter in letters.chars() {
                match letter {
                    'm' => out.push("-m"),
                    's' => out.push("-s"),
                    _ => return Err(format!("Unrecognized option -{letter}")),
                }
            }
        } else {
            out.push(*arg);
            break;
        }
    }
    out.extend(rest);
    Ok(out)
}

/// The datapath that a command means: named in `name`, or the only one.
pub(crate) fn choose<'a>(dps: Datapaths<'a>, name: Option<&str>) -> Result<&'a Arc<dyn Dpif>, String> {
    let mut out = Output::default();
    match name {
        Some(name) => match dps.iter().find(|d| names(name, &d.name())) {
            Some(dp) => return Ok(dp),
            None => out.error("datapath not found", Some(INVALID)),
        },
        None => match dps {
            [one] => return Ok(one),
            [] => out.error("no datapaths exist", None),
            _ => out.error("multiple datapaths, specify one", None),
        },
    }
    Err(out.text)
}

/// Whether `given` means the datapath called `full` (`netdev@ovs-netdev`, for short `ovs-netdev`).
pub fn names(given: &str, full: &str) -> bool {
    given == full || full.split_once('@').is_some_and(|(_, name)| name == given)
}

/// Whether `word` looks like a datapath's name rather than a flow or a filter.
pub(crate) fn is_datapath(dps: Datapaths<'_>, word: &str) -> bool {
    dps.iter().any(|d| names(word, &d.name()))
}

pub(crate) fn error_text(e: DpifError) -> String {
    e.to_string()
}

/// Names of a datapath's ports, both ways.
pub(crate) struct Ports(Vec<dpif::PortDesc>);

impl Ports {
    pub fn of(dp: &dyn Dpif) -> Self {
        Ports(dp.ports())
    }
    pub fn name(&self, no: PortNo) -> Option<String> {
        self.0.iter().find(|p| p.no == no).map(|p| p.name.clone())
    }
    pub fn number(&self, name: &str) -> Option<PortNo> {
        self.0.iter().find(|p| p.name == name).map(|p| p.no)
    }
}
