//! Whether actions make sense for the packets that a flow matches.

use super::Action;
use super::form::subfield_error;
use crate::{OfError, PortNo, Protocols};
use flow::{Flow, Mask, Subfield};

/// Where actions are going to be.
#[derive(Clone, Copy)]
pub struct CheckParams<'a> {
    /// What the flow matches. For a packet-out, what is known of the packet.
    pub flow: &'a Flow,
    pub mask: &'a Mask,
    /// The switch's own ports are below this.
    pub ports_max: PortNo,
    /// The flow's table; `None` outside tables.
    pub table_id: Option<u8>,
    /// Number of tables; 255 for "any".
    pub n_tables: u8,
}

/// The state of a check: what is known of the packet where the check has arrived.
pub(crate) struct Check<'a> {
    pub params: CheckParams<'a>,
    pub flow: Flow,
    /// The protocols that allow what was seen.
    pub protocols: Protocols,
}

/// Checks `actions` for their place, and notes in them what of the match a later conversion to another
/// version will need. Returns the protocols whose rules the actions keep: OpenFlow 1.0 does not mind
/// actions on headers that the match does not ask for.
///
/// # Errors
/// The error that Open vSwitch sends. Actions in front of the bad one may have been annotated.
pub fn check(actions: &mut [Action], params: &CheckParams<'_>) -> Result<Protocols, OfError> {
    let mut cx = Check { params: *params, flow: params.flow.clone(), protocols: Protocols::ANY };
    cx.list(actions)?;
    Ok(cx.protocols)
}

/// As [`check()`], with `OFPBAC_MATCH_INCONSISTENT` if not all of `needed` can carry the actions.
///
/// # Errors
/// As [`check()`].
pub fn check_consistency(
    actions: &mut [Action],
    needed: Protocols,
    params: &CheckParams<'_>,
) -> Result<Protocols, OfError> {
    let usable = check(actions, params)?;
    if usable.contains(needed) { Ok(usable) } else { Err(OfError::OfpbacMatchInconsistent) }
}

impl Check<'_> {
    fn list(&mut self, actions: &mut [Action]) -> Result<(), OfError> {
        actions.iter_mut().try_for_each(|a| a.code_mut().check(self))
    }

    /// Checks actions within an action; what they do to the packet stays with them.
    pub fn nested(&mut self, actions: &mut [Action]) -> Result<(), OfError> {
        let (packet_type, dl_type, nw_proto, vlans) =
            (self.flow.packet_type, self.flow.dl_type, self.flow.nw_proto, self.flow.vlans);
        let result = self.list(actions);
        self.flow.packet_type = packet_type;
        self.flow.dl_type = dl_type;
        self.flow.nw_proto = nw_proto;
        self.flow.vlans = vlans;
        result
    }

    /// Only OpenFlow 1.0 allows actions that do not go with the match.
    pub fn require(&mut self, consistent: bool) {
        if !consistent {
            self.protocols &= Protocols::OF10_ANY;
        }
    }

    pub fn src(&self, sf: &Subfield) -> Result<(), OfError> {
        sf.check_src(Some((&self.flow, self.params.mask))).map_err(subfield_error)
    }

    pub fn dst(&self, sf: &Subfield) -> Result<(), OfError> {
        sf.check_dst(Some((&self.flow, self.params.mask))).map_err(subfield_error)
    }
}
