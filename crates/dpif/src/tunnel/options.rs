//! Options of tunnel interfaces: from text and back.

use super::{DEFAULT_TTL, OuterAddr, PacketTypeMode, Setting, TunnelConfig};
use packet::tunnel::TunnelKind;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

type Options = BTreeMap<String, String>;

/// What is wrong with the options. Each line names the interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OptionsError {
    pub lines: Vec<String>,
}

impl std::fmt::Display for OptionsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

const ERSPAN_IDX_MAX: u32 = 0xf_ffff;
const ERSPAN_HWID_MAX: u32 = 0x3f;
const DSCP_MASK: i64 = 0xfc;

/// Options that `ovs-monitor-ipsec` reads.
const IPSEC: [&str; 3] = ["remote_cert", "remote_name", "psk"];

/// Reading stops here: the interface cannot be as it is told.
struct Fatal;

struct Reader<'a> {
    name: &'a str,
    config: TunnelConfig,
    lines: Vec<String>,
    /// 4 and 6: the families of the addresses given.
    families: [u8; 2],
}

impl TunnelConfig {
    /// Reads the options of the interface `name`. Lines that are no reason to refuse the interface come with it.
    pub fn parse(
        kind: TunnelKind,
        name: &str,
        options: &Options,
    ) -> Result<(Self, Vec<String>), OptionsError> {
        let config = TunnelConfig { ttl: 0, ..TunnelConfig::new(kind) };
        let mut r = Reader { name, config, lines: Vec::new(), families: [0; 2] };
        match r.read(options) {
            Ok(()) => Ok((r.config, r.lines)),
            Err(Fatal) => Err(OptionsError { lines: r.lines }),
        }
    }

    /// The options as `dpif/show` lists them: those that differ from the defaults.
    pub fn options(&self) -> Options {
        let mut out = Options::new();
        let mut put = |key: &str, value: String| {
            out.insert(key.to_owned(), value);
        };
        for (key, addr) in [("remote_ip", self.remote), ("local_ip", self.local)] {
            if !addr.ip.is_unspecified() {
                put(key, super::show_ip(addr.ip));
            } else if addr.is_flow {
                put(key, "flow".to_owned());
            }
        }
        if self.in_key == self.out_key {
            show_setting(&mut put, "key", self.in_key, |v| v.to_string());
        } else {
            show_setting(&mut put, "in_key", self.in_key, |v| v.to_string());
            show_setting(&mut put, "out_key", self.out_key, |v| v.to_string());
        }
        if self.ttl_inherit {
            put("ttl", "inherit".to_owned());
        } else if self.ttl != DEFAULT_TTL {
            put("ttl", self.ttl.to_string());
        }
        if self.tos_inherit {
            put("tos", "inherit".to_owned());
        } else if self.tos != 0 {
            put("tos", format!("{:#x}", self.tos));
        }
        if self.kind.is_udp() && self.dst_port != self.kind.default_port() {
            put("dst_port", self.dst_port.to_string());
        }
        for (key, is_set, value) in [
            ("csum", self.csum, "true"),
            ("seq", self.seq, "true"),
            ("df_default", !self.dont_fragment, "false"),
        ] {
            if is_set {
                put(key, value.to_owned());
            }
        }
        if self.packet_type != self.default_packet_type() {
            put("packet_type", self.packet_type.name().to_owned());
        }
        if let Some(mark) = self.egress_pkt_mark {
            put("egress_pkt_mark", mark.to_string());
        }
        self.erspan_options(&mut put);
        out
    }

    fn erspan_options(&self, put: &mut impl FnMut(&str, String)) {
        if !matches!(self.kind, TunnelKind::Erspan | TunnelKind::Ip6Erspan) {
            return;
        }
        if self.erspan_ver.is_flow() {
            for key in ["erspan_ver", "erspan_idx", "erspan_dir", "erspan_hwid"] {
                put(key, "flow".to_owned());
            }
            return;
        }
        let fixed = |s: Setting<u8>| if s.is_flow() { s } else { Setting::Fixed(s.value()) };
        put("erspan_ver", self.erspan_ver.value().to_string());
        match self.erspan_ver.value() {
            1 if self.erspan_idx.is_flow() => put("erspan_idx", "flow".to_owned()),
            1 => put("erspan_idx", format!("0x{:x}", self.erspan_idx.value())),
            2 => {
                show_setting(put, "erspan_dir", fixed(self.erspan_dir), |v| v.to_string());
                show_setting(put, "erspan_hwid", fixed(self.erspan_hwid), |v| format!("0x{v:x}"));
            }
            _ => {}
        }
    }
}

fn show_setting<T>(put: &mut impl FnMut(&str, String), key: &str, s: Setting<T>, show: impl Fn(T) -> String) {
    match s {
        Setting::Absent => {}
        Setting::Flow => put(key, "flow".to_owned()),
        Setting::Fixed(v) => put(key, show(v)),
    }
}

impl Reader<'_> {
    fn warn(&mut self, text: String) {
        self.lines.push(format!("{}: {text}", self.name));
    }

    fn refuse(&mut self, text: String) -> Fatal {
        self.warn(text);
        Fatal
    }

    fn read(&mut self, options: &Options) -> Result<(), Fatal> {
        for (key, value) in options {
            self.option(key, value)?;
        }
        self.packet_type(options.get("packet_type"))?;
        self.check_addresses()?;
        let c = &mut self.config;
        if c.ttl == 0 {
            c.ttl = DEFAULT_TTL;
        }
        let key = |name: &str| match options.get(name).or_else(|| options.get("key")).map(String::as_str) {
            None => Setting::Absent,
            Some("flow") => Setting::Flow,
            Some(text) => Setting::Fixed(c_number(text, 0)),
        };
        (c.in_key, c.out_key) = (key("in_key"), key("out_key"));
        Ok(())
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), Fatal> {
        let kind = self.config.kind;
        let has_csum =
            matches!(kind, TunnelKind::Gre | TunnelKind::Ip6Gre | TunnelKind::Geneve | TunnelKind::Vxlan);
        let has_seq = matches!(kind, TunnelKind::Gre | TunnelKind::Ip6Gre);
        let is_true = value == "true";
        let c = &mut self.config;
        match key {
            "remote_ip" => self.address(key, value)?,
            "local_ip" => self.address(key, value)?,
            "tos" => self.tos(value),
            "ttl" if value == "inherit" => c.ttl_inherit = true,
            "ttl" => c.ttl = c_number(value, 10) as u8,
            "dst_port" if kind.is_udp() => c.dst_port = c_number(value, 10) as u16,
            "csum" if has_csum => c.csum |= is_true,
            "seq" if has_seq => c.seq |= is_true,
            "df_default" => c.dont_fragment = value != "false",
            "key" | "in_key" | "out_key" | "packet_type" => {}
            "exts" if kind == TunnelKind::Vxlan => self.extensions(value),
            "egress_pkt_mark" => c.egress_pkt_mark = Some(c_number(value, 10) as u32),
            "erspan_ver" | "erspan_idx" | "erspan_dir" | "erspan_hwid" => self.erspan(key, value)?,
            // For bareudp, which is the kernel's alone.
            "payload_type" => {}
            _ if IPSEC.contains(&key) => {}
            _ => self.warn(format!("unknown {} argument '{key}'", kind.name())),
        }
        Ok(())
    }

    fn address(&mut self, key: &str, value: &str) -> Result<(), Fatal> {
        let is_remote = key == "remote_ip";
        let mut new = OuterAddr { ip: Ipv6Addr::UNSPECIFIED, is_flow: value == "flow" };
        let mut family = 0;
        if !new.is_flow {
            let v4 = value.parse::<std::net::Ipv4Addr>().map(|a| a.to_ipv6_mapped());
            family = if value.contains(':') { 6 } else { 4 };
            let parsed = if family == 6 { value.parse::<Ipv6Addr>().ok() } else { v4.ok() };
            let Some(ip) = parsed else {
                let kind = self.config.kind.name();
                self.warn(format!("bad {kind} '{key}'"));
                return Ok(());
            };
            let is_multicast = ip.to_ipv4_mapped().map_or(ip.is_multicast(), |v4| v4.is_multicast());
            if is_remote && is_multicast {
                return Err(self.refuse(format!("multicast remote_ip={value} not allowed")));
            }
            new.ip = ip;
        }
        let c = &mut self.config;
        *(if is_remote { &mut c.remote } else { &mut c.local }) = new;
        self.families[usize::from(is_remote)] = family;
        Ok(())
    }

    fn tos(&mut self, value: &str) {
        if value == "inherit" {
            self.config.tos_inherit = true;
            return;
        }
        match whole_number(value).filter(|tos| tos & !DSCP_MASK == 0) {
            Some(tos) => self.config.tos = tos as u8,
            None => self.warn(format!("invalid TOS {value}")),
        }
    }

    fn extensions(&mut self, value: &str) {
        for extension in value.split(',').filter(|e| !e.is_empty()) {
            match extension {
                "gbp" => self.config.gbp = true,
                "gpe" => self.config.gpe = true,
                _ => self.warn(format!("unknown extension '{extension}'")),
            }
        }
    }

    fn erspan(&mut self, key: &str, value: &str) -> Result<(), Fatal> {
        let c = &mut self.config;
        let is_flow = value == "flow";
        let (base, max, what) = match key {
            "erspan_ver" => (10, 2, "version"),
            "erspan_idx" => (16, ERSPAN_IDX_MAX, "index"),
            "erspan_dir" => (10, 1, "direction"),
            _ => (16, ERSPAN_HWID_MAX, "hardware ID"),
        };
        let number = c_number(value, base) as u32;
        if !is_flow && (number > max || key == "erspan_ver" && number == 0) {
            return Err(self.refuse(format!("invalid erspan {what}: {value}")));
        }
        let small = if is_flow { Setting::Flow } else { Setting::Fixed(number as u8) };
        match key {
            "erspan_ver" => {
                c.erspan_ver = small;
                if is_flow {
                    c.erspan_idx = Setting::Flow;
                    (c.erspan_dir, c.erspan_hwid) = (Setting::Flow, Setting::Flow);
                }
            }
            "erspan_idx" => c.erspan_idx = if is_flow { Setting::Flow } else { Setting::Fixed(number) },
            "erspan_dir" => c.erspan_dir = small,
            _ => c.erspan_hwid = small,
        }
        Ok(())
    }

    fn packet_type(&mut self, value: Option<&String>) -> Result<(), Fatal> {
        let (l2, l3) = self.config.layers();
        let name = match self.config.kind {
            TunnelKind::Vxlan if self.config.gpe => "VXLAN-GPE",
            TunnelKind::Vxlan => "VXLAN (without GPE)",
            kind => kind.name(),
        };
        let refused = |mode: &str, layer: &str| {
            format!("{mode} configured on {name} tunnel that cannot carry {layer} traffic")
        };
        self.config.packet_type = match value.map(String::as_str) {
            None => self.config.default_packet_type(),
            Some("legacy_l2") if !l2 => return Err(self.refuse(refused("legacy_l2", "L2"))),
            Some("legacy_l2") => PacketTypeMode::LegacyL2,
            Some("legacy_l3") if !l3 => return Err(self.refuse(refused("legacy_l3", "L3"))),
            Some("legacy_l3") => PacketTypeMode::LegacyL3,
            Some("ptap") => PacketTypeMode::Ptap,
            Some(other) => return Err(self.refuse(format!("unknown packet_type '{other}'"))),
        };
        Ok(())
    }

    fn check_addresses(&mut self) -> Result<(), Fatal> {
        let c = &self.config;
        let kind = c.kind.name();
        if c.remote.ip.is_unspecified() && !c.remote.is_flow {
            return Err(self.refuse(format!("{kind} type requires valid 'remote_ip' argument")));
        }
        if c.local.is_flow && !c.remote.is_flow {
            return Err(self.refuse(format!("{kind} type requires 'remote_ip=flow' with 'local_ip=flow'")));
        }
        if matches!(self.families, [a, b] if a != 0 && b != 0 && a != b) {
            let text = "'remote_ip' and 'local_ip' has to be of the same address family";
            return Err(self.refuse(text.to_owned()));
        }
        Ok(())
    }
}

/// C's `strtoull`: the leading digits, 0 without any; with base 0, `0x` and `0` tell the base.
fn c_number(text: &str, base: u32) -> u64 {
    let text = text.trim_start();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (base, digits) = match (base, hex) {
        (0 | 16, Some(hex)) => (16, hex),
        (0, None) if text.starts_with('0') => (8, text),
        (0, None) => (10, text),
        (base, _) => (base, text),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    let digits = digits.get(..end).unwrap_or("");
    let value = if digits.is_empty() { 0 } else { u64::from_str_radix(digits, base).unwrap_or(u64::MAX) };
    if negative { value.wrapping_neg() } else { value }
}

/// A number in C's notation with nothing behind it.
fn whole_number(text: &str) -> Option<i64> {
    let digits = text.trim_start().trim_start_matches(['-', '+']);
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let all = match hex {
        Some(hex) => hex.chars().all(|c| c.is_ascii_hexdigit()),
        None if digits.starts_with('0') => digits.chars().all(|c| c.is_digit(8)),
        None => digits.chars().all(|c| c.is_ascii_digit()),
    };
    all.then(|| c_number(text, 0) as i64)
}
