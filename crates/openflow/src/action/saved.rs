//! Actions in saved state.
//!
//! The schema is OpenFlow's own: bytes of a version in which the actions come back as they were, be it in
//! their text or when a controller of another version asks for them. That is the version in which they
//! came, so that one can always be found.

use super::{Action, Decoder, Encoder};
use crate::Version;
use flow::TlvTable;

/// Actions and instructions of a flow, or actions of a group's bucket.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SavedActions {
    /// Joined, they are the list.
    runs: Vec<Run>,
}

/// A part of the list. Mostly, there is one.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
struct Run {
    /// `ofp_header.version`
    version: u8,
    /// Instructions; in OpenFlow 1.0, actions.
    bytes: Vec<u8>,
}

/// The bytes cannot be read: they are of a later program, or damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown action in saved state")]
pub struct BadSavedActions;

/// In the order in which they are tried: those that flows mostly come in first.
const TRIED: [Version; 6] =
    [Version::Of13, Version::Of15, Version::Of10, Version::Of14, Version::Of12, Version::Of11];

impl SavedActions {
    /// `tlv` are the tunnel options of the actions' bridge.
    #[must_use]
    pub fn new(actions: &[Action], tlv: &TlvTable) -> Self {
        if let Some(run) = Run::exact(actions, tlv) {
            return SavedActions { runs: vec![run] };
        }
        let one = |a: &Action| {
            let a = std::slice::from_ref(a);
            Run::exact(a, tlv).unwrap_or_else(|| Run::new(a, TRIED[0], tlv))
        };
        SavedActions { runs: actions.iter().map(one).collect() }
    }

    /// The actions. What [`super::check()`] notes in them is to be noted again.
    ///
    /// # Errors
    /// [`BadSavedActions`]
    pub fn restore(&self, tlv: &TlvTable) -> Result<Vec<Action>, BadSavedActions> {
        let mut out = Vec::new();
        for run in &self.runs {
            out.extend(run.decode(tlv).ok_or(BadSavedActions)?);
        }
        Ok(out)
    }
}

impl Run {
    fn new(actions: &[Action], version: Version, tlv: &TlvTable) -> Self {
        let mut bytes = Vec::new();
        Encoder::new(version, &mut bytes).with_tlv(tlv).instructions(actions);
        Run { version: version.wire(), bytes }
    }

    /// In a version from which `actions` come back.
    fn exact(actions: &[Action], tlv: &TlvTable) -> Option<Self> {
        let mut wanted = actions.to_vec();
        forget_checks(&mut wanted);
        TRIED
            .into_iter()
            .map(|version| Run::new(actions, version, tlv))
            .find(|run| run.decode(tlv).as_ref() == Some(&wanted))
    }

    fn decode(&self, tlv: &TlvTable) -> Option<Vec<Action>> {
        let mut decoder = Decoder::new(Version::from_wire(self.version)?).with_tlv(tlv);
        decoder.debug = true;
        decoder.instructions(&self.bytes).ok()
    }
}

/// Takes back what checks have noted.
fn forget_checks(actions: &mut [Action]) {
    for action in actions {
        match action {
            Action::SetVlanVid(a) => a.flow_has_vlan = false,
            Action::SetVlanPcp(a) => a.flow_has_vlan = false,
            Action::SetL4SrcPort(a) => a.flow_ip_proto = 0,
            Action::SetL4DstPort(a) => a.flow_ip_proto = 0,
            Action::SetField(a) => a.forget_check(),
            Action::Clone(a) => forget_checks(&mut a.actions),
            Action::WriteActions(a) => forget_checks(&mut a.actions),
            Action::Ct(a) => forget_checks(&mut a.actions),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortNo;
    use crate::action::{CheckParams, Parser, Text, check};
    use flow::Match;

    fn text(actions: &[Action]) -> String {
        let mut out = String::new();
        Text::new(&mut out).actions(actions);
        out
    }

    /// Whatever a controller of whatever version has sent, its text and its bytes are the same after a
    /// restart.
    #[test]
    fn actions_survive() {
        let mut tlv = TlvTable::default();
        for i in [0, 1, 2, 3, 63] {
            tlv.add(i, 0xffff, i as u8, 8).unwrap();
        }
        let corpus = include_str!("../../tests/actions/corpus.txt");
        for line in corpus.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let parsed = Parser::default().instructions(line).unwrap();
            for sent in Version::ALL {
                let mut bytes = Vec::new();
                Encoder::new(sent, &mut bytes).instructions(&parsed);
                let decoded = Decoder::new(sent).with_tlv(&tlv).instructions(&bytes);
                let Ok(mut actions) = decoded else { continue };
                let m = Match::catchall();
                let params = CheckParams {
                    flow: &m.flow,
                    mask: &m.mask,
                    ports_max: PortNo::MAX,
                    table_id: None,
                    n_tables: 255,
                };
                let _ = check(&mut actions, &params);
                let saved = SavedActions::new(&actions, &tlv);
                let mut restored = saved.restore(&tlv).unwrap();
                assert_eq!(text(&restored), text(&actions), "{line} in {sent}");
                let _ = check(&mut restored, &params);
                assert_eq!(restored, actions, "{line} in {sent}");
            }
        }
    }

    /// Text can mix what no version can; still, its meaning is kept.
    #[test]
    fn mixtures_survive() {
        let tlv = TlvTable::default();
        let actions =
            Parser::default().instructions("set_vlan_vid:5,mod_nw_tos:8,load:1->reg0[],enqueue:1:2,pop_vlan");
        let actions = actions.unwrap();
        let saved = SavedActions::new(&actions, &tlv);
        assert_eq!(text(&saved.restore(&tlv).unwrap()), text(&actions));
    }

    #[test]
    fn damage_is_an_error() {
        let tlv = TlvTable::default();
        let mut saved = SavedActions::new(&Parser::default().actions("output:1").unwrap(), &tlv);
        saved.runs[0].version = 9;
        assert_eq!(saved.restore(&tlv), Err(BadSavedActions));
        saved.runs[0].version = 4;
        saved.runs[0].bytes.pop();
        assert_eq!(saved.restore(&tlv), Err(BadSavedActions));
    }
}
