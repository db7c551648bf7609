//! `sample`: report some of the packets to IPFIX collectors.

use super::Action;
use super::define::ActionCode;
use super::form::{Body, Encoder};
use super::number::{parse_u16, parse_u32};
use super::table::Form;
use super::text::{Parser, Text, put};
use crate::{OfError, PortNo};
use flow::text::key_values;

/// In which of its forms the action came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SampleForm {
    First,
    /// With a sampling port.
    Second,
    /// With a direction, too.
    Third,
}

/// Which way a sampled packet is said to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SampleDirection {
    Default = 0,
    Ingress = 1,
    Egress = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Out of 65535 packets so many; not 0.
    pub probability: u16,
    pub collector_set_id: u32,
    pub obs_domain_id: u32,
    pub obs_point_id: u32,
    /// [`PortNo::NONE`] for none.
    pub sampling_port: PortNo,
    pub direction: SampleDirection,
    pub form: SampleForm,
}

impl Sample {
    pub(super) fn decode(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::common(b, PortNo::NONE, SampleDirection::Default, SampleForm::First)
    }

    pub(super) fn decode2(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        Self::common(b, PortNo(b.u16(24)), SampleDirection::Default, SampleForm::Second)
    }

    pub(super) fn decode3(b: &mut Body<'_, '_>) -> Result<Action, OfError> {
        if !b.is_zero(27..32) {
            return Err(OfError::NxbrcMustBeZero);
        }
        let direction = match b.u8(26) {
            0 => SampleDirection::Default,
            1 => SampleDirection::Ingress,
            2 => SampleDirection::Egress,
            _ => return Err(OfError::OfpbacBadArgument),
        };
        Self::common(b, PortNo(b.u16(24)), direction, SampleForm::Third)
    }

    fn common(
        b: &Body<'_, '_>,
        sampling_port: PortNo,
        direction: SampleDirection,
        form: SampleForm,
    ) -> Result<Action, OfError> {
        let a = Sample {
            probability: b.u16(10),
            collector_set_id: b.u32(12),
            obs_domain_id: b.u32(16),
            obs_point_id: b.u32(20),
            sampling_port,
            direction,
            form,
        };
        if a.probability == 0 { Err(OfError::OfpbacBadArgument) } else { Ok(Action::Sample(Box::new(a))) }
    }

    pub(super) fn parse(p: &mut Parser<'_>, s: &str) -> Result<Action, String> {
        let mut a = Sample {
            probability: 0,
            collector_set_id: 0,
            obs_domain_id: 0,
            obs_point_id: 0,
            sampling_port: PortNo::NONE,
            direction: SampleDirection::Default,
            form: SampleForm::First,
        };
        for (key, value) in key_values(s) {
            match key {
                "probability" => {
                    a.probability = parse_u16(value, "probability")?;
                    if a.probability == 0 {
                        return Err(format!("invalid probability value \"{value}\""));
                    }
                }
                "collector_set_id" => a.collector_set_id = parse_u32(value)?,
                "obs_domain_id" => a.obs_domain_id = parse_u32(value)?,
                "obs_point_id" => a.obs_point_id = parse_u32(value)?,
                "sampling_port" => {
                    a.sampling_port = p.port(value).ok_or_else(|| format!("{value}: unknown port"))?;
                }
                "ingress" => a.direction = SampleDirection::Ingress,
                "egress" => a.direction = SampleDirection::Egress,
                _ => return Err(format!("invalid key \"{key}\" in \"sample\" argument")),
            }
        }
        if a.probability == 0 {
            return Err("non-zero \"probability\" must be specified on sample".into());
        }
        Ok(Action::Sample(Box::new(a)))
    }

    /// The oldest form that can say it, but none older than the one it came in.
    fn wire_form(&self) -> SampleForm {
        let needed = if self.direction != SampleDirection::Default {
            SampleForm::Third
        } else if self.sampling_port != PortNo::NONE {
            SampleForm::Second
        } else {
            SampleForm::First
        };
        needed.max(self.form)
    }
}

impl ActionCode for Sample {
    fn encode(&self, out: &mut Encoder<'_>) {
        let form = self.wire_form();
        let open = out.begin(match form {
            SampleForm::First => Form::Sample,
            SampleForm::Second => Form::Sample2,
            SampleForm::Third => Form::Sample3,
        });
        out.u16(self.probability);
        out.u32(self.collector_set_id);
        out.u32(self.obs_domain_id);
        out.u32(self.obs_point_id);
        if form > SampleForm::First {
            out.u16(self.sampling_port.0);
            out.u8(self.direction as u8);
        }
        out.end(open);
    }

    fn format(&self, out: &mut Text<'_>) {
        put!(
            out,
            "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
            self.probability,
            self.collector_set_id,
            self.obs_domain_id,
            self.obs_point_id
        );
        if self.sampling_port != PortNo::NONE {
            out.put_str(",sampling_port=");
            out.port(self.sampling_port);
        }
        out.put_str(match self.direction {
            SampleDirection::Default => ")",
            SampleDirection::Ingress => ",ingress)",
            SampleDirection::Egress => ",egress)",
        });
    }
}
