//! What `vlog/*` and `-v` do, and what they print. The daemon registers the commands.

use crate::level::{Destination, Level};
use crate::log::Vlog;
use crate::spec::{Spec, SpecError};
use std::fmt::Write;
use thiserror::Error;

/// `vlog/enable-rate-limit` or `vlog/disable-rate-limit` names no module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown module")]
pub struct UnknownModule;

impl Vlog {
    /// `-vSPEC` and one argument of `vlog/set`.
    pub fn set(&self, spec: &str) -> Result<(), SpecError> {
        match Spec::parse(spec, |name| self.modules.named(name).map(|m| m.name))? {
            Spec::Pattern { destination, pattern } => self.set_pattern(destination, &pattern),
            Spec::Facility(code) => self.set_facility(code),
            Spec::Level { module, destination, level } => self.set_levels(module, destination, level),
        }
        Ok(())
    }

    /// `-v` without a specification: everything.
    pub fn set_verbose(&self) {
        self.set_levels(None, None, Level::Dbg);
    }

    /// `vlog/list`.
    pub fn list(&self) -> String {
        let mut out = String::from(
            "                 console    syslog    file\n                 -------    ------    ------\n",
        );
        for module in self.modules.iter() {
            let [console, syslog, file] = [Destination::Console, Destination::Syslog, Destination::File]
                .map(|destination| module.level(destination));
            // Writing to a string cannot fail.
            let _ = write!(out, "{:<16}  {console:>4}       {syslog:>4}       {file:>4}", module.name);
            out.push_str(if module.rate_limited() { "\n" } else { "    (rate limiting disabled)\n" });
        }
        out
    }

    /// `vlog/list-pattern`.
    pub fn list_patterns(&self) -> String {
        let mut out = String::from(
            "         prefix                            format\n         ------                            ------\n",
        );
        for destination in Destination::ALL {
            let prefix = match destination {
                Destination::Syslog => self.syslog_prefix(),
                _ => "none",
            };
            let _ = writeln!(out, "{:<7}  {prefix:<32}  {}", destination.name(), self.pattern(destination));
        }
        out
    }

    /// `vlog/enable-rate-limit` and `vlog/disable-rate-limit`: no names and `any` mean all modules.
    pub fn set_rate_limits(&self, names: &[&str], enable: bool) -> Result<(), UnknownModule> {
        let all = || self.modules.iter().for_each(|m| m.set_rate_limited(enable));
        if names.is_empty() {
            all();
        }
        for name in names {
            if name.eq_ignore_ascii_case("ANY") {
                all();
            } else {
                self.modules.named(name).ok_or(UnknownModule)?.set_rate_limited(enable);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings() {
        let vlog = Vlog::new();
        vlog.set("console:off").unwrap();
        vlog.set("dpif:file:dbg").unwrap();
        vlog.set_rate_limits(&["DPIF"], false).unwrap();
        let list = vlog.list();
        assert!(list.starts_with(
            "                 console    syslog    file\n                 -------    ------    ------\nbacktrace          OFF       INFO       INFO\n"
        ));
        assert!(
            list.contains("\ndpif               OFF       INFO        DBG    (rate limiting disabled)\n")
        );
        assert!(list.contains("\ndpif_lookup_autovalidator   OFF       INFO       INFO\n"));
        assert_eq!(vlog.set_rate_limits(&["foo"], true), Err(UnknownModule));
    }

    #[test]
    fn patterns() {
        let vlog = Vlog::new();
        vlog.set_syslog_method("libc").unwrap();
        vlog.set("pattern:file:%m").unwrap();
        assert_eq!(
            vlog.list_patterns(),
            "         prefix                            format\n\
             \u{20}        ------                            ------\n\
             SYSLOG   <%B> %D{%h %e %T} %E %A:          ovs|%05N|%c%T|%p|%m\n\
             CONSOLE  none                              %D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m\n\
             FILE     none                              %m\n"
        );
    }
}
