//! The text of `learn`, read.

use super::Action;
use super::copy::Move;
use super::learn::{Immediate, Learn, LearnDst, LearnFlags, LearnSpec, LearnSrc, PRIORITY_DEFAULT};
use super::number::{lenient_i32, number, wide};
use super::oxm::has_header32;
use super::text::Parser;
use flow::text::{NoNames, key_values};
use flow::{Subfield, VALUE_MAX, Value};

impl Learn {
    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut a = Learn {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: PRIORITY_DEFAULT,
            table_id: 1,
            flags: LearnFlags::empty(),
            cookie: 0,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            limit: 0,
            result_dst: None,
            specs: Box::default(),
            second_form: false,
        };
        let mut specs = Vec::new();
        for (key, value) in key_values(s) {
            if !a.parse_key(p, s, key, value)? {
                specs.push(parse_spec(p, s, key, value)?);
            }
        }
        a.specs = specs.into();
        Ok(Action::Learn(Box::new(a)))
    }

    /// Returns false for what is not about the flow as a whole.
    fn parse_key(&mut self, p: &Parser<'_>, s: &str, key: &str, value: &str) -> Result<bool, String> {
        let number16 = || lenient_i32(value) as u16;
        match key {
            "table" => {
                self.table_id = p.table(value).ok_or_else(|| format!("unknown table \"{value}\""))?;
                if self.table_id == 255 {
                    return Err(format!("{s}: table id 255 not valid for `learn' action"));
                }
            }
            "priority" => self.priority = number16(),
            "idle_timeout" => self.idle_timeout = number16(),
            "hard_timeout" => self.hard_timeout = number16(),
            "fin_idle_timeout" => self.fin_idle_timeout = number16(),
            "fin_hard_timeout" => self.fin_hard_timeout = number16(),
            "cookie" => {
                // As `strtoull`: a number that is too large becomes the largest.
                self.cookie = number(value, 0).map_or(0, |n| n.as_u64().unwrap_or(u64::MAX));
            }
            "send_flow_rem" => self.flags |= LearnFlags::SEND_FLOW_REM,
            "delete_learned" => self.flags |= LearnFlags::DELETE_LEARNED,
            "limit" => self.limit = lenient_i32(value) as u32,
            "result_dst" => {
                self.flags |= LearnFlags::WRITE_RESULT;
                self.result_dst = Some(parse_result_dst(value)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn parse_result_dst(value: &str) -> Result<Subfield, String> {
    let dst = Subfield::parse(value)?;
    if !dst.field.info().writable {
        Err(format!("{value} is read-only"))
    } else if dst.n_bits != 1 {
        Err("result_dst in 'learn' action must be a single bit".into())
    } else {
        Ok(dst)
    }
}

/// A field that the wire can name; `context` begins the error.
fn with_header32(dst: Subfield, context: &str, name: &str) -> Result<Subfield, String> {
    if has_header32(dst.field) {
        Ok(dst)
    } else {
        Err(format!("{context}: experimenter OXM field '{name}' not supported"))
    }
}

/// `s` are all of the action's arguments, for errors.
fn parse_spec(p: &Parser<'_>, s: &str, key: &str, value: &str) -> Result<LearnSpec, String> {
    match (Subfield::parse(key), key) {
        (Ok(dst), _) => parse_match(p, s, with_header32(dst, s, key)?, key, value),
        (Err(_), "load") => parse_load(value),
        (Err(_), "output") => {
            Ok(LearnSpec { src: LearnSrc::Field(Subfield::parse(value)?), dst: LearnDst::Output })
        }
        _ => Err(format!("{s}: unknown keyword {key}")),
    }
}

/// `DST` or `DST=SRC` or `DST=VALUE`
fn parse_match(p: &Parser<'_>, s: &str, dst: Subfield, key: &str, value: &str) -> Result<LearnSpec, String> {
    let spec = |src| LearnSpec { src, dst: LearnDst::Match(dst) };
    if value.is_empty() {
        return Ok(spec(LearnSrc::Field(dst)));
    }
    match Subfield::parse(value) {
        // The widths are shown the wrong way round, as Open vSwitch does.
        Ok(src) if src.n_bits != dst.n_bits => {
            Err(format!("{s}: bit widths of {key} ({}) and {value} ({}) differ", src.n_bits, dst.n_bits))
        }
        Ok(src) => Ok(spec(LearnSrc::Field(src))),
        Err(not_field) => match parse_immediate(p, s, dst, value) {
            Ok(imm) => Ok(spec(LearnSrc::Immediate(imm))),
            Err(not_value) => Err(format!(
                "{s}: {key} value {value} cannot be parsed as a subfield ({not_field}) or an immediate value \
                 ({not_value})"
            )),
        },
    }
}

/// The low `n_bits` bits.
fn low_bits(value: &Value, n_bits: u16) -> Immediate {
    value.bits(0, n_bits.into()).as_bytes().into()
}

fn has_high_bits(value: &Value, n_bits: u16) -> bool {
    let n_bits = usize::from(n_bits);
    !value.bits(n_bits, (8 * value.len()).saturating_sub(n_bits)).is_zero()
}

fn parse_immediate(p: &Parser<'_>, s: &str, dst: Subfield, text: &str) -> Result<Immediate, String> {
    if dst.is_whole() {
        let value = dst.field.parse_value(text, p.names)?;
        return Ok(low_bits(&value, dst.n_bits));
    }
    let value = match wide(text, dst.field.n_bytes()) {
        Some((value, "")) => value,
        _ => return Err(format!("{s}: cannot parse integer value")),
    };
    if has_high_bits(&value, dst.n_bits) {
        let shown = dst.field.format_value(&value, None, &NoNames);
        return Err(format!("{s}: value {shown} does not fit into {} bits", dst.n_bits));
    }
    Ok(low_bits(&value, dst.n_bits))
}

/// `load:VALUE->DST` or `load:SRC->DST`
fn parse_load(value: &str) -> Result<LearnSpec, String> {
    let Some((src, dst)) = value.split_once("->") else {
        return Err(format!("load: missing `->' in `{value}'"));
    };
    if src.is_empty() {
        return Err(format!("load: missing source before `->' in `{value}'"));
    }
    match wide(value, VALUE_MAX) {
        Some((imm, rest)) => {
            if !rest.starts_with("->") {
                return Err(format!("load: garbage before `->' in `{value}'"));
            }
            let dst = with_header32(Subfield::parse(dst)?, value, dst)?;
            if has_high_bits(&imm, dst.n_bits) {
                return Err(format!("{value}: value does not fit into {} bits", dst.n_bits));
            }
            let src = LearnSrc::Immediate(low_bits(&imm, dst.n_bits));
            Ok(LearnSpec { src, dst: LearnDst::Load(dst) })
        }
        None => {
            let (src, dst) = Move::parse_fields(value)?;
            Ok(LearnSpec { src: LearnSrc::Field(src), dst: LearnDst::Load(dst) })
        }
    }
}
