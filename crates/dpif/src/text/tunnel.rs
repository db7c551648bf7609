//! `tunnel(...)`: the outer header, options of the tunnel protocols included.

use super::attr_text::put_field;
use super::flags;
use super::scan::{Scan, chomp, put_hash_x, put_hex};
use crate::attr::Form;
use flow::{TUN_METADATA_LEN, Tunnel, tun_flags};
use std::fmt::Write;

/// Flags that have a name in the text.
const NAMED_FLAGS: u16 = 0xf;
/// Bytes of Geneve option headers (RFC 8926, 3.5).
const OPTION_HEADER: usize = 4;

/// Appends the inside of `tunnel(...)`. A field that is zero in the key is not there.
pub(super) fn put(out: &mut String, t: &Tunnel, mask: Option<&Tunnel>, verbose: bool) {
    let has_id = t.id != 0 || t.flags & tun_flags::KEY != 0;
    if has_id {
        put_id(out, t, mask, verbose);
    }
    let mut field = |name: &str, form: Form, is_there: bool, get: &dyn Fn(&Tunnel) -> u128| {
        if is_there {
            put_field(out, name, form, get(t), mask.map(get), verbose);
        }
    };
    field("src=", Form::Ipv4, t.src != 0, &|t| t.src.into());
    field("dst=", Form::Ipv4, t.dst != 0, &|t| t.dst.into());
    field("ipv6_src=", Form::Ipv6, !t.ipv6_src.is_zero(), &|t| t.ipv6_src.into());
    field("ipv6_dst=", Form::Ipv6, !t.ipv6_dst.is_zero(), &|t| t.ipv6_dst.into());
    field("tos=", Form::Hex(8), t.tos != 0, &|t| t.tos.into());
    field("ttl=", Form::Dec(8), true, &|t| t.ttl.into());
    field("tp_src=", Form::Dec(16), t.tp_src != 0, &|t| t.tp_src.into());
    field("tp_dst=", Form::Dec(16), t.tp_dst != 0, &|t| t.tp_dst.into());
    put_options(out, t, mask, verbose);
    put_flags(out, t, mask, has_id, verbose);
    chomp(out);
}

/// `tun_id` is written only if it is matched or all is asked for, mask or not.
fn put_id(out: &mut String, t: &Tunnel, mask: Option<&Tunnel>, verbose: bool) {
    let mask = mask.map(|m| m.id);
    if verbose || mask.is_some_and(|m| m != 0) {
        let _ = write!(out, "tun_id=0x{:x}", t.id);
        if let Some(m) = mask.filter(|m| *m != u64::MAX) {
            out.push('/');
            put_hash_x(out, m.into());
        }
        out.push(',');
    }
}

fn put_options(out: &mut String, t: &Tunnel, mask: Option<&Tunnel>, verbose: bool) {
    if t.gbp_id != 0 || t.gbp_flags != 0 {
        out.push_str("vxlan(gbp(");
        put_field(out, "id=", Form::Dec(16), t.gbp_id.into(), mask.map(|m| m.gbp_id.into()), verbose);
        put_field(out, "flags=", Form::Hex(8), t.gbp_flags.into(), mask.map(|m| m.gbp_flags.into()), verbose);
        chomp(out);
        out.push_str(")),");
    }
    if t.flags & tun_flags::UDPIF != 0 {
        let len = options_len(t);
        out.push_str("geneve(");
        put_geneve(out, &t.metadata[..len], mask.map(|m| &m.metadata[..len]), verbose);
        out.push_str("),");
    }
    if matches!(t.erspan_ver, 1 | 2) {
        out.push_str("erspan(");
        put_erspan(out, t, mask, verbose);
        chomp(out);
        out.push_str("),");
    }
    if t.gtpu_flags != 0 && t.gtpu_msgtype != 0 {
        out.push_str("gtpu(");
        put_gtpu(out, t, mask, verbose);
        chomp(out);
        out.push_str("),");
    }
}

/// Bytes of raw options in a datapath key.
fn options_len(t: &Tunnel) -> usize {
    usize::try_from(t.metadata_present).unwrap_or(0).min(TUN_METADATA_LEN)
}

/// A mask says nothing about ERSPAN unless it has a version of its own, which an exact one has not.
fn put_erspan(out: &mut String, t: &Tunnel, mask: Option<&Tunnel>, verbose: bool) {
    let unmatched = Tunnel::default();
    let mask = mask.map(|m| if matches!(m.erspan_ver, 1 | 2) { m } else { &unmatched });
    let get = |f: &dyn Fn(&Tunnel) -> u128| (f(t), mask.map(f));
    let (k, m) = get(&|t| t.erspan_ver.into());
    put_field(out, "ver=", Form::Dec(8), k, m, verbose);
    if t.erspan_ver == 1 {
        out.push_str("idx=");
        put_hash_x(out, t.erspan_idx.into());
        if let Some(m) = mask {
            out.push('/');
            put_hash_x(out, m.erspan_idx.into());
        }
        return;
    }
    let (k, m) = get(&|t| t.erspan_dir.into());
    put_field(out, "dir=", Form::Dec(8), k, m, verbose);
    let (k, m) = get(&|t| t.erspan_hwid.into());
    put_field(out, "hwid=", Form::Hex(8), k, m, verbose);
}

fn put_gtpu(out: &mut String, t: &Tunnel, mask: Option<&Tunnel>, verbose: bool) {
    let unmatched = Tunnel::default();
    let mask = mask.map(|m| if m.gtpu_flags != 0 && m.gtpu_msgtype != 0 { m } else { &unmatched });
    put_field(out, "flags=", Form::Hex(8), t.gtpu_flags.into(), mask.map(|m| m.gtpu_flags.into()), verbose);
    let msgtype = mask.map(|m| m.gtpu_msgtype.into());
    put_field(out, "msgtype=", Form::Dec(8), t.gtpu_msgtype.into(), msgtype, verbose);
}

/// Appends options as `{class=..,type=..,len=..,0x..}` each.
pub(super) fn put_geneve(out: &mut String, mut options: &[u8], mask: Option<&[u8]>, verbose: bool) {
    let mut mask = mask;
    while !options.is_empty() {
        let Some(h) = options.first_chunk::<OPTION_HEADER>() else {
            let _ = write!(out, "opt len {} less than minimum {OPTION_HEADER}", options.len());
            return;
        };
        let data_len = usize::from(h[3] & 0x1f) * 4;
        let total = OPTION_HEADER + data_len;
        let Some((option, rest)) = options.split_at_checked(total) else {
            let _ = write!(out, "opt len {total} greater than remaining {}", options.len());
            return;
        };
        let option_mask = mask.and_then(|m| m.get(..total));
        put_geneve_option(out, option, option_mask, verbose);
        options = rest;
        mask = mask.and_then(|m| m.get(total..));
    }
}

fn put_geneve_option(out: &mut String, option: &[u8], mask: Option<&[u8]>, verbose: bool) {
    let class = |o: &[u8]| u128::from(o[0]) << 8 | u128::from(o[1]);
    let data = &option[OPTION_HEADER..];
    let len_mask = mask.map(|m| match m[3] & 0x1f {
        0x1f => 0xff,
        l => u128::from(l),
    });
    out.push('{');
    put_field(out, "class=", Form::Hex(16), class(option), mask.map(class), verbose);
    put_field(out, "type=", Form::Hex(8), option[2].into(), mask.map(|m| m[2].into()), verbose);
    put_field(out, "len=", Form::Dec(8), data.len() as u128, len_mask, verbose);
    let data_mask = mask.map(|m| &m[OPTION_HEADER..]);
    let is_matched = data_mask.is_none_or(|m| m.iter().any(|b| *b != 0));
    if !data.is_empty() && (verbose || is_matched) {
        put_hex(out, data);
        if let Some(m) = data_mask.filter(|m| m.iter().any(|b| *b != 0xff)) {
            out.push('/');
            put_hex(out, m);
        }
    } else {
        chomp(out);
    }
    out.push('}');
}

/// Whether a key was read is a flag too, and shown with the others.
fn put_flags(out: &mut String, t: &Tunnel, mask: Option<&Tunnel>, has_id: bool, verbose: bool) {
    let key_flag = if has_id { tun_flags::KEY } else { 0 };
    let own = t.flags & NAMED_FLAGS & !tun_flags::KEY | key_flag;
    match mask {
        None => {
            out.push_str("flags(");
            flags::put(out, flags::TUNNEL, own.into(), '|');
            out.push_str("),");
        }
        Some(m) => {
            let masked = m.flags & NAMED_FLAGS & !tun_flags::KEY | key_flag;
            if masked == 0 && !verbose {
                return;
            }
            out.push_str("flags(");
            flags::put_masked(out, flags::TUNNEL, own.into(), masked.into(), NAMED_FLAGS.into());
            out.push_str("),");
        }
    }
}

/// A tunnel read from text: what it is, what of it is matched, and whether it said its TTL.
#[derive(Clone, Default)]
pub(crate) struct ScannedTunnel {
    pub key: Tunnel,
    pub mask: Tunnel,
    pub has_ttl: bool,
}

/// Reads from behind `tunnel(` through the closing parenthesis.
pub(crate) fn scan(s: &mut Scan<'_>) -> Option<ScannedTunnel> {
    let mut t = ScannedTunnel::default();
    loop {
        if !scan_field(s, &mut t)? && !scan_group(s, &mut t)? && !s.peek(")") {
            return None;
        }
        if s.eat(")") {
            return Some(t);
        }
        s.need(",")?;
    }
}

/// One `name=value/mask`; false if none comes next.
fn scan_field(s: &mut Scan<'_>, t: &mut ScannedTunnel) -> Option<bool> {
    type Set = fn(&mut Tunnel, u128);
    const FIELDS: [(&str, Form, Set); 9] = [
        ("tun_id=", Form::Hex(64), |t, v| {
            t.id = v as u64;
            t.flags |= tun_flags::KEY;
        }),
        ("src=", Form::Ipv4, |t, v| t.src = v as u32),
        ("dst=", Form::Ipv4, |t, v| t.dst = v as u32),
        ("ipv6_src=", Form::Ipv6, |t, v| t.ipv6_src = v.into()),
        ("ipv6_dst=", Form::Ipv6, |t, v| t.ipv6_dst = v.into()),
        ("tos=", Form::Hex(8), |t, v| t.tos = v as u8),
        ("ttl=", Form::Dec(8), |t, v| t.ttl = v as u8),
        ("tp_src=", Form::Dec(16), |t, v| t.tp_src = v as u16),
        ("tp_dst=", Form::Dec(16), |t, v| t.tp_dst = v as u16),
    ];
    for (name, form, set) in FIELDS {
        if s.eat(name) {
            let (key, mask) = scan_value(s, form)?;
            set(&mut t.key, key);
            set(&mut t.mask, mask);
            t.has_ttl |= name == "ttl=";
            return Some(true);
        }
    }
    Some(false)
}

/// One `name(...)`; false if none comes next.
fn scan_group(s: &mut Scan<'_>, t: &mut ScannedTunnel) -> Option<bool> {
    if s.eat("flags(") {
        let (key, mask) = flags::scan(s, flags::TUNNEL, NAMED_FLAGS.into())?;
        s.need(")")?;
        // Whether there is a key is said by `tun_id`.
        let settable = NAMED_FLAGS & !tun_flags::KEY;
        t.key.flags |= key as u16 & settable;
        t.mask.flags |= mask as u16 & settable;
    } else if s.eat("vxlan(gbp(") {
        let id = optional(s, "id=", 16)?;
        let flags = optional(s, "flags=", 8)?;
        s.need("))")?;
        (t.key.gbp_id, t.mask.gbp_id) = (id.0 as u16, id.1 as u16);
        (t.key.gbp_flags, t.mask.gbp_flags) = (flags.0 as u8, flags.1 as u8);
    } else if s.eat("geneve(") {
        scan_geneve_group(s, t)?;
    } else if s.eat("erspan(") {
        scan_erspan(s, t)?;
    } else if s.eat("gtpu(") {
        let flags = optional(s, "flags=", 8)?;
        let msgtype = optional(s, "msgtype=", 8)?;
        s.need(")")?;
        (t.key.gtpu_flags, t.mask.gtpu_flags) = (flags.0 as u8, flags.1 as u8);
        (t.key.gtpu_msgtype, t.mask.gtpu_msgtype) = (msgtype.0 as u8, msgtype.1 as u8);
    } else {
        return Some(false);
    }
    Some(true)
}

/// A field that may be left out, with the comma behind it.
fn optional(s: &mut Scan<'_>, name: &str, bits: u32) -> Option<(u128, u128)> {
    if !s.eat(name) {
        return Some((0, 0));
    }
    let pair = scan_value(s, Form::Dec(bits))?;
    s.eat(",");
    Some(pair)
}

/// Fields of either version; a text in which the version is wildcarded does not say it.
fn scan_erspan(s: &mut Scan<'_>, t: &mut ScannedTunnel) -> Option<()> {
    let ver = optional(s, "ver=", 8)?;
    let idx = optional(s, "idx=", 32)?;
    let dir = optional(s, "dir=", 8)?;
    let hwid = optional(s, "hwid=", 8)?;
    (t.key.erspan_ver, t.mask.erspan_ver) = (ver.0 as u8, ver.1 as u8);
    (t.key.erspan_idx, t.mask.erspan_idx) = (idx.0 as u32, idx.1 as u32);
    (t.key.erspan_dir, t.mask.erspan_dir) = (dir.0 as u8, dir.1 as u8);
    (t.key.erspan_hwid, t.mask.erspan_hwid) = (hwid.0 as u8, hwid.1 as u8);
    s.need(")")
}

fn scan_geneve_group(s: &mut Scan<'_>, t: &mut ScannedTunnel) -> Option<()> {
    let (key, mask) = scan_geneve(s)?;
    t.key.metadata.get_mut(..key.len())?.copy_from_slice(&key);
    t.mask.metadata.get_mut(..mask.len())?.copy_from_slice(&mask);
    t.key.metadata_present = key.len() as u64;
    // The length is matched exactly, lest longer lists that begin the same match too.
    t.mask.metadata_present = 0xff;
    t.key.flags |= tun_flags::UDPIF;
    t.mask.flags |= tun_flags::UDPIF;
    Some(())
}

/// Reads options through the closing parenthesis; returns their bytes and those of their mask.
pub(super) fn scan_geneve(s: &mut Scan<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut key, mut mask) = (Vec::new(), Vec::new());
    while s.eat("{") {
        let class = optional(s, "class=", 16)?;
        let kind = optional(s, "type=", 8)?;
        let len = optional(s, "len=", 8)?;
        if len.0 > 124 || len.0 % 4 != 0 {
            return None;
        }
        let data_len = len.0 as usize;
        let (data, data_mask) = scan_option_data(s, data_len)?;
        s.need("}")?;
        for (out, (class, kind, len)) in
            [(&mut key, (class.0, kind.0, len.0 / 4)), (&mut mask, (class.1, kind.1, len.1 & 0x1f))]
        {
            out.extend_from_slice(&(class as u16).to_be_bytes());
            out.extend_from_slice(&[kind as u8, len as u8]);
        }
        key.extend_from_slice(&data);
        mask.extend_from_slice(&data_mask);
        if key.len() > TUN_METADATA_LEN {
            return None;
        }
    }
    s.need(")")?;
    Some((key, mask))
}

/// An option's value and mask, zero (and not matched) if the text has none.
fn scan_option_data(s: &mut Scan<'_>, len: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    if s.peek("}") {
        return Some((vec![0; len], vec![if len == 0 { 0 } else { 0xff }; len]));
    }
    let data = s.wide_hex(len)?;
    let mask = if s.eat("/") { s.wide_hex(len)? } else { vec![0xff; len] };
    Some((data, mask))
}

/// `value` or `value/mask`; without a mask it is an exact one.
pub(crate) fn scan_value(s: &mut Scan<'_>, form: Form) -> Option<(u128, u128)> {
    let key = scan_one(s, form)?;
    // Enumerated values have no mask.
    let mask = if form != Form::Frag && s.eat("/") { scan_one(s, form)? } else { form.exact() };
    Some((key, mask))
}

fn scan_one(s: &mut Scan<'_>, form: Form) -> Option<u128> {
    Some(match form {
        Form::Mac => s.mac()?.to_u64().into(),
        Form::Ipv4 => s.ipv4()?.into(),
        Form::Ipv6 => s.ipv6()?.into(),
        Form::Dec(bits) | Form::Hex(bits) => s.number(bits)?,
        Form::Frag => ["no", "first", "later"].iter().position(|n| s.eat(n))? as u128,
    })
}
