//! The rules by which actions and instructions go together. Open vSwitch holds them for every version.

use super::define::Instruction;
use super::{Action, Kind};
use crate::{OfError, Version};
use flow::Field;

/// What is wrong with a list: the error for a controller, the sentence for a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub error: OfError,
    pub reason: String,
}

fn violation<T>(error: OfError, reason: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { error, reason: reason.into() })
}

/// Which instructions a list may have.
#[derive(Clone, Copy)]
pub(crate) enum Allowed {
    All,
    /// Actions, and `meter`, which OpenFlow 1.5 has among them.
    ActionsAndMeter,
    Actions,
}

impl Allowed {
    fn has(self, i: Instruction) -> bool {
        match self {
            Allowed::All => true,
            Allowed::ActionsAndMeter => matches!(i, Instruction::ApplyActions | Instruction::Meter),
            Allowed::Actions => i == Instruction::ApplyActions,
        }
    }
}

impl Instruction {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Instruction::Meter => "meter",
            Instruction::ApplyActions => "apply_actions",
            Instruction::ClearActions => "clear_actions",
            Instruction::WriteActions => "write_actions",
            Instruction::WriteMetadata => "write_metadata",
            Instruction::GotoTable => "goto_table",
        }
    }
}

/// Whether `actions` may stand together, in this order, within `outer` if they are nested.
pub(crate) fn verify(
    actions: &[Action],
    version: Version,
    allowed: Allowed,
    outer: Option<Kind>,
) -> Result<(), Violation> {
    let mut current = Instruction::Meter;
    for (i, action) in actions.iter().enumerate() {
        if action.kind() == Kind::Conjunction {
            return only_conjunctions(actions);
        }
        verify_nested(action, outer)?;
        let next = action.kind().instruction(version);
        let repeatable = current == Instruction::ApplyActions;
        if i > 0 && (next < current || next == current && !repeatable) {
            return out_of_order(current, next);
        }
        if !allowed.has(next) {
            return violation(
                OfError::OfpbicUnsupInst,
                format!("{} instruction not allowed here", next.name()),
            );
        }
        current = next;
    }
    Ok(())
}

fn only_conjunctions(actions: &[Action]) -> Result<(), Violation> {
    match actions.iter().find(|a| !matches!(a.kind(), Kind::Conjunction | Kind::Note)) {
        None => Ok(()),
        Some(a) => violation(
            OfError::NxbacBadConjunction,
            format!(
                "\"conjunction\" actions may be used along with \"note\" but not any other kind of action \
                 (such as the \"{}\" action used here)",
                a.kind()
            ),
        ),
    }
}

fn out_of_order(current: Instruction, next: Instruction) -> Result<(), Violation> {
    let (name, next_name) = (current.name(), next.name());
    let reason = if next == current {
        format!("duplicate {name} instruction not allowed, for OpenFlow 1.1+ compatibility")
    } else {
        format!(
            "invalid instruction ordering: {next_name} must appear before {name}, \
             for OpenFlow 1.1+ compatibility"
        )
    };
    violation(OfError::OfpbacUnsupportedOrder, reason)
}

/// Whether `action` may stand within `outer`, or outside any other action.
fn verify_nested(action: &Action, outer: Option<Kind>) -> Result<(), Violation> {
    let field = action.written_field();
    let is_ct_field = matches!(field, Some(Field::CtMark | Field::CtLabel));
    let in_ct = outer == Some(Kind::Ct);
    if is_ct_field && !in_ct {
        return violation(OfError::OfpbacBadSetArgument, "cannot set CT fields outside of ct action");
    }
    if action.kind() == Kind::Nat {
        let reason = "Cannot have NAT action outside of \"ct\" action";
        return if in_ct { Ok(()) } else { violation(OfError::OfpbacBadSetArgument, reason) };
    }
    let Some(outer) = outer else { return Ok(()) };
    match field {
        Some(f) if in_ct && !is_ct_field => violation(
            OfError::OfpbacBadArgument,
            format!("{outer} action doesn't support nested modification of {}", f.name()),
        ),
        None if in_ct || action.kind() == Kind::Meter => violation(
            OfError::OfpbacBadArgument,
            format!("{outer} action doesn't support nested action {}", action.kind()),
        ),
        _ => Ok(()),
    }
}
