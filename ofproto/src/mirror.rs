//! Mirrors: which packets are copied to where (ovs-vswitchd.conf.db(5), Mirror table).

use crate::ids::BundleId;
use crate::port::{Bundle, VlanSet};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Mirrors of one switch.
pub const MIRRORS_MAX: usize = 32;

/// A set of mirrors of one switch, one bit each.
pub type MirrorSet = u32;

/// Bundles by name, of which packets are copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    All,
    Bundles { sources: BTreeSet<String>, destinations: BTreeSet<String> },
}

/// Where copies go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorOutput {
    /// A bundle by name; it serves nothing else.
    Bundle(String),
    /// Every bundle that carries this VLAN (RSPAN).
    Vlan(u16),
}

/// What the database says of a mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorSettings {
    /// What the configuration knows it by: counters go on as long as it stays the same.
    pub key: u128,
    pub name: String,
    pub selection: Selection,
    /// Only packets of these VLANs, if any are named.
    pub vlans: Option<VlanSet>,
    pub output: MirrorOutput,
    /// Bytes of a copy; `None` for all.
    pub snaplen: Option<u32>,
}

/// What a mirror has copied.
#[derive(Debug, Default)]
pub struct MirrorStats {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
}

impl MirrorStats {
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

/// A mirror of a switch.
#[derive(Debug)]
pub struct Mirror {
    pub settings: MirrorSettings,
    pub stats: Arc<MirrorStats>,
    /// The mirrors with the same output, itself among them: a packet goes there once.
    pub same_output: MirrorSet,
    /// The bundle of [`MirrorOutput::Bundle`], if it is there.
    pub output: Option<BundleId>,
}

/// What mirrors have to do with a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Involvement {
    pub source_of: MirrorSet,
    pub destination_of: MirrorSet,
    pub output_of: MirrorSet,
}

/// The mirrors of one switch.
#[derive(Debug, Default)]
pub struct Mirrors {
    mirrors: Vec<Mirror>,
    involved: HashMap<BundleId, Involvement>,
}

impl Mirrors {
    /// Makes these the mirrors; those beyond [`MIRRORS_MAX`] are not taken. Returns whether anything changed.
    /// [`Mirrors::resolve`] has to follow.
    pub fn configure(&mut self, settings: &[MirrorSettings]) -> bool {
        let settings = settings.get(..MIRRORS_MAX).unwrap_or(settings);
        if settings.iter().eq(self.mirrors.iter().map(|m| &m.settings)) {
            return false;
        }
        let mut stats: BTreeMap<u128, Arc<MirrorStats>> =
            self.mirrors.drain(..).map(|m| (m.settings.key, m.stats)).collect();
        for new in settings {
            self.mirrors.push(Mirror {
                settings: new.clone(),
                stats: stats.remove(&new.key).unwrap_or_default(),
                same_output: same_output(settings, &new.output),
                output: None,
            });
        }
        true
    }

    /// Finds the bundles that mirrors name among those that are there.
    pub fn resolve<'a>(&mut self, bundles: impl Iterator<Item = &'a Bundle>) {
        self.involved.clear();
        if self.mirrors.is_empty() {
            return;
        }
        self.mirrors.iter_mut().for_each(|m| m.output = None);
        for bundle in bundles {
            let name = &bundle.settings.name;
            let mut involved = Involvement::default();
            for (i, mirror) in self.mirrors.iter_mut().enumerate() {
                let bit = 1 << i;
                let (source, destination) = match &mirror.settings.selection {
                    Selection::All => (true, true),
                    Selection::Bundles { sources, destinations } => {
                        (sources.contains(name), destinations.contains(name))
                    }
                };
                involved.source_of |= if source { bit } else { 0 };
                involved.destination_of |= if destination { bit } else { 0 };
                if matches!(&mirror.settings.output, MirrorOutput::Bundle(out) if out == name) {
                    involved.output_of |= bit;
                    mirror.output = Some(bundle.id);
                }
            }
            if involved != Involvement::default() {
                self.involved.insert(bundle.id, involved);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.mirrors.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&Mirror> {
        self.mirrors.get(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mirror> {
        self.mirrors.iter()
    }

    pub fn of(&self, bundle: BundleId) -> Involvement {
        self.involved.get(&bundle).copied().unwrap_or_default()
    }

    /// Whether a bundle serves nothing but mirrors.
    pub fn is_output(&self, bundle: BundleId) -> bool {
        self.of(bundle).output_of != 0
    }
}

fn same_output(settings: &[MirrorSettings], output: &MirrorOutput) -> MirrorSet {
    settings.iter().enumerate().filter(|(_, s)| s.output == *output).map(|(i, _)| 1 << i).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::OfPort;
    use crate::port::BundleSettings;

    fn to(key: u128, output: MirrorOutput) -> MirrorSettings {
        MirrorSettings {
            key,
            name: format!("m{key}"),
            selection: Selection::All,
            vlans: None,
            output,
            snaplen: None,
        }
    }

    fn bundle(no: u32, name: &str) -> Bundle {
        Bundle { id: BundleId(no), settings: BundleSettings::trunk(name, OfPort(no as u16)) }
    }

    #[test]
    fn mirrors_of_one_output_know_each_other() {
        let mut mirrors = Mirrors::default();
        let out = MirrorOutput::Bundle("out".into());
        let settings = [to(1, out.clone()), to(2, MirrorOutput::Vlan(7)), to(3, out)];
        assert!(mirrors.configure(&settings) && !mirrors.configure(&settings));
        assert_eq!(mirrors.iter().map(|m| m.same_output).collect::<Vec<_>>(), [0b101, 0b010, 0b101]);
    }

    #[test]
    fn bundles_are_found_by_name_and_counters_stay() {
        let mut mirrors = Mirrors::default();
        let mut settings = to(1, MirrorOutput::Bundle("out".into()));
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        settings.selection = Selection::Bundles { sources: names(&["a"]), destinations: names(&["a", "b"]) };
        mirrors.configure(std::slice::from_ref(&settings));
        mirrors.resolve([bundle(1, "a"), bundle(2, "b"), bundle(3, "out")].iter());
        let of = |m: &Mirrors, no| {
            let i = m.of(BundleId(no));
            (i.source_of, i.destination_of, i.output_of)
        };
        assert_eq!([1, 2, 3, 4].map(|no| of(&mirrors, no)), [(1, 1, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]);
        assert!(mirrors.is_output(BundleId(3)));
        mirrors.get(0).unwrap().stats.add(2, 120);
        settings.snaplen = Some(64);
        assert!(mirrors.configure(&[settings]));
        mirrors.resolve([bundle(1, "a")].iter());
        assert_eq!(mirrors.get(0).unwrap().stats.packets.load(Relaxed), 2);
        assert_eq!(mirrors.get(0).unwrap().output, None);
    }

    #[test]
    fn no_more_than_a_set_can_hold() {
        let mut mirrors = Mirrors::default();
        let many: Vec<_> = (0..40).map(|key| to(key, MirrorOutput::Vlan(key as u16))).collect();
        mirrors.configure(&many);
        assert_eq!(mirrors.iter().count(), MIRRORS_MAX);
    }
}
