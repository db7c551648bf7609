//! `OFPT_TABLE_MOD`: what a table does on a miss (OpenFlow 1.1 and 1.2), and whether it evicts flows and
//! tells how full it is (1.4 and later).

use bitflags::bitflags;

use crate::form::{Form, Incoming};
use crate::property::{Property, PropertyType, put_property, put_u32};
use crate::wire::{PutBytes, Reader, len16};
use crate::{OfError, Version};

/// `OFPTT_ALL`: all tables.
pub const TABLE_ALL: u8 = 0xff;

/// What happens to packets that match no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TableMiss {
    /// What the switch does for the controller's version.
    #[default]
    Default,
    /// They go to the controller.
    Controller,
    /// They go to the next table.
    Continue,
    /// They are dropped.
    Drop,
}

/// `OFPTC11_TABLE_MISS_MASK`
const MISS_MASK: u32 = 3;
/// `OFPTC14_EVICTION`
pub(crate) const EVICTION: u32 = 1 << 2;
/// `OFPTC14_VACANCY_EVENTS`
pub(crate) const VACANCY_EVENTS: u32 = 1 << 3;

impl TableMiss {
    /// The configuration of OpenFlow 1.1 and 1.2; later versions have no such bits.
    pub(crate) const fn from_wire(config: u32, version: Version) -> Self {
        match (version, config & MISS_MASK) {
            (Version::Of11 | Version::Of12, 1) => Self::Continue,
            (Version::Of11 | Version::Of12, 2) => Self::Drop,
            (Version::Of11 | Version::Of12, _) => Self::Controller,
            _ => Self::Default,
        }
    }

    pub(crate) const fn to_wire(self, version: Version) -> u32 {
        match (version, self) {
            (Version::Of11 | Version::Of12, Self::Continue) => 1,
            (Version::Of11 | Version::Of12, Self::Drop) => 2,
            _ => 0,
        }
    }
}

bitflags! {
    /// By what flows to evict are chosen. Bits that are not known are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct EvictionFlags: u32 {
        /// By something else.
        const OTHER = 1 << 0;
        /// By importance.
        const IMPORTANCE = 1 << 1;
        /// By the time that they have left.
        const LIFETIME = 1 << 2;
        const _ = !0;
    }
}

/// `OFPTMPT14_EVICTION`
const EVICTION_PROPERTY: u16 = 2;
/// `OFPTMPT14_VACANCY`
const VACANCY_PROPERTY: PropertyType = PropertyType::Standard(3);
const VACANCY_LEN: usize = 8;

/// Free space of a table, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Vacancy {
    /// Tell when it falls below.
    pub down: u8,
    /// Tell when it rises above.
    pub up: u8,
    /// What it is now; 0 in a table-mod.
    pub current: u8,
}

impl Vacancy {
    fn take(property: &Property<'_>) -> Result<Self, OfError> {
        let mut r = property.fixed(VACANCY_LEN)?;
        Ok(Self { down: r.u8()?, up: r.u8()?, current: r.u8()? })
    }

    fn put(self, out: &mut Vec<u8>) {
        put_property(out, VACANCY_PROPERTY, |out| out.put_bytes(&[self.down, self.up, self.current, 0]));
    }

    fn check(self) -> Result<(), OfError> {
        if self.down > self.up || self.up > 100 || self.current != 0 {
            return Err(OfError::OfpbpcBadValue);
        }
        Ok(())
    }
}

/// A table-mod. `None` where the version has no say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableMod {
    /// The table, [`TABLE_ALL`] for all.
    pub table_id: u8,
    /// What happens to packets that match no flow.
    pub miss: TableMiss,
    /// Whether flows may be evicted.
    pub eviction: Option<bool>,
    /// By what flows to evict are chosen; Open vSwitch has no use for it.
    pub eviction_flags: Option<EvictionFlags>,
    /// Whether the controller is told how full the table is.
    pub vacancy_events: Option<bool>,
    /// When it is told.
    pub vacancy: Option<Vacancy>,
}

fn config_bit(config: u32, bit: u32, version: Version) -> Option<bool> {
    if version < Version::Of14 { None } else { Some(config & bit != 0) }
}

impl TableMod {
    /// Decodes a table-mod.
    ///
    /// # Errors
    /// `OFPBPC_BAD_VALUE` for vacancies that make no sense, `OFPBRC_BAD_TYPE` for unknown properties, and
    /// those of properties.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let table_id = r.u8()?;
        r.skip(3)?;
        let config = r.u32()?;
        let mut table_mod = Self {
            table_id,
            miss: TableMiss::from_wire(config, msg.version),
            eviction: config_bit(config, EVICTION, msg.version),
            vacancy_events: config_bit(config, VACANCY_EVENTS, msg.version),
            ..Self::default()
        };
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            match property.kind {
                PropertyType::Standard(EVICTION_PROPERTY) => {
                    table_mod.eviction_flags = Some(EvictionFlags::from_bits_retain(property.u32()?));
                }
                VACANCY_PROPERTY => {
                    let vacancy = Vacancy::take(&property)?;
                    vacancy.check()?;
                    table_mod.vacancy = Some(vacancy);
                }
                _ => return Err(OfError::OfpbrcBadType),
            }
        }
        Ok(table_mod)
    }

    /// Encodes a table-mod, which OpenFlow 1.0 does not have.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let form = match version {
            Version::Of10 => return None,
            Version::Of11 | Version::Of12 | Version::Of13 => Form::Ofpt11TableMod,
            Version::Of14 | Version::Of15 => Form::Ofpt14TableMod,
        };
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            out.put_u8(self.table_id);
            out.put_zeros(3);
            let settings = Settings { eviction: self.eviction, vacancy_events: self.vacancy_events };
            out.put_u32(self.miss.to_wire(version) | settings.to_wire(version));
            if form == Form::Ofpt14TableMod {
                if let Some(flags) = self.eviction_flags {
                    put_u32(out, EVICTION_PROPERTY, flags.bits());
                }
                if self.vacancy_events == Some(true) {
                    Vacancy { current: 0, ..self.vacancy.unwrap_or_default() }.put(out);
                }
            }
        });
        Some(out)
    }
}

/// The bits of a table's configuration in OpenFlow 1.4 and later.
struct Settings {
    eviction: Option<bool>,
    vacancy_events: Option<bool>,
}

impl Settings {
    fn to_wire(&self, version: Version) -> u32 {
        if version < Version::Of14 {
            return 0;
        }
        let bit = |setting, bit| if setting == Some(true) { bit } else { 0 };
        bit(self.eviction, EVICTION) | bit(self.vacancy_events, VACANCY_EVENTS)
    }
}

/// A table's configuration, as `OFPMP_TABLE_DESC` and table status have it (OpenFlow 1.4 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableDesc {
    /// The table.
    pub table_id: u8,
    /// Whether flows may be evicted.
    pub eviction: bool,
    /// By what flows to evict are chosen, if the switch says.
    pub eviction_flags: Option<EvictionFlags>,
    /// How full it is and when to tell, if the controller is told.
    pub vacancy: Option<Vacancy>,
}

const DESC_LEN: usize = 8;

impl TableDesc {
    /// Takes a description off `r`.
    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, OfError> {
        let len = usize::from({ *r }.u16()?);
        if len < DESC_LEN {
            return Err(OfError::OfpbrcBadLen);
        }
        let mut r = r.sub(len)?;
        r.skip(2)?;
        let table_id = r.u8()?;
        r.skip(1)?;
        let config = r.u32()?;
        let mut desc = Self { table_id, eviction: config & EVICTION != 0, ..Self::default() };
        let mut vacancy = Vacancy::default();
        while !r.is_empty() {
            let property = Property::take(&mut r)?;
            match property.kind {
                PropertyType::Standard(EVICTION_PROPERTY) => {
                    desc.eviction_flags = Some(EvictionFlags::from_bits_retain(property.u32()?));
                }
                VACANCY_PROPERTY => vacancy = Vacancy::take(&property)?,
                _ => (),
            }
        }
        desc.vacancy = (config & VACANCY_EVENTS != 0).then_some(vacancy);
        Ok(desc)
    }

    /// Appends the description.
    pub(crate) fn put(&self, out: &mut Vec<u8>, version: Version) {
        let start = out.len();
        let settings =
            Settings { eviction: Some(self.eviction), vacancy_events: Some(self.vacancy.is_some()) };
        out.put_u16(0);
        out.put_u8(self.table_id);
        out.put_zeros(1);
        out.put_u32(settings.to_wire(version));
        if let Some(flags) = self.eviction_flags {
            put_u32(out, EVICTION_PROPERTY, flags.bits());
        }
        if let Some(vacancy) = self.vacancy {
            vacancy.put(out);
        }
        let len = len16(out.len() - start);
        out.set_u16(start, len);
    }
}
