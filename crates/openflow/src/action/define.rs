//! What the table of actions is made of, and the macro that turns the table into types.

use super::check::Check;
use super::form::Encoder;
use super::text::{Parser, Text};
use super::{Action, KINDS, Kind};
use crate::{OfError, Version};
use std::fmt;

/// What an action can do. Every payload of [`Action`] implements it, beside the functions that make the
/// payload (from bytes and from text), which the table names.
pub(crate) trait ActionCode {
    /// Appends the action as the encoder's version has it.
    fn encode(&self, out: &mut Encoder<'_>);

    /// Appends the action as `ovs-ofctl` writes it.
    fn format(&self, out: &mut Text<'_>);

    /// Whether it makes sense in packets that match as `cx` says, and what it does to them that matters
    /// to the actions behind it.
    fn check(&mut self, _cx: &mut Check<'_>) -> Result<(), OfError> {
        Ok(())
    }

    /// The actions within, if it is an action that has any.
    fn nested(&self) -> Option<&[Action]> {
        None
    }
}

impl<T: ActionCode> ActionCode for Box<T> {
    fn encode(&self, out: &mut Encoder<'_>) {
        T::encode(self, out);
    }
    fn format(&self, out: &mut Text<'_>) {
        T::format(self, out);
    }
    fn check(&mut self, cx: &mut Check<'_>) -> Result<(), OfError> {
        T::check(self, cx)
    }
    fn nested(&self) -> Option<&[Action]> {
        T::nested(self)
    }
}

/// What an action does in an action set (OpenFlow 1.5 section 5.6), or which instruction it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The last one in the set is executed, those with lower numbers before those with higher ones.
    Once(u8),
    /// All are executed, in the order in which they came, after every [`Role::Once`].
    Set,
    /// Only the one with the highest number is executed, as the last action. Without any, the set does
    /// nothing.
    Final(u8),
    /// Not allowed in an action set.
    ListOnly,
    /// Not part of Apply-Actions at all.
    Instruction(Instruction),
}

/// The instructions of OpenFlow 1.1 and later, in the order in which they are executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Instruction {
    Meter,
    ApplyActions,
    ClearActions,
    WriteActions,
    WriteMetadata,
    GotoTable,
}

/// Reads an action's arguments from text; the error is a sentence for the user.
pub(crate) type ParseFn = fn(&mut Parser<'_>, &str) -> Result<Action, String>;

/// One line of the table of actions.
pub struct KindInfo {
    pub kind: Kind,
    /// As `ovs-ofctl` reads it, mostly also as it writes it.
    pub name: &'static str,
    pub role: Role,
    pub(crate) parse: ParseFn,
}

impl Kind {
    /// Number of kinds.
    pub const COUNT: usize = KINDS.len();

    #[must_use]
    pub fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The instruction that actions of this kind belong to.
    #[must_use]
    pub fn instruction(self, version: Version) -> Instruction {
        match self.info().role {
            // From OpenFlow 1.5 on, `meter` is an action.
            Role::Instruction(Instruction::Meter) if version >= Version::Of15 => Instruction::ApplyActions,
            Role::Instruction(i) => i,
            _ => Instruction::ApplyActions,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Makes [`Action`], [`Kind`] and the tables from the lines of `table.rs`. A line has the variant and its
/// payload, the name, the role, the function that reads the text, and the forms: a name, a shape, the
/// codes and the function that reads the bytes.
macro_rules! actions {
    ($(
        $(#[$doc:meta])*
        $kind:ident($payload:ty) $name:literal $role:expr, $parse:path
            { $($form:ident $shape:expr, [$($code:expr),+], $decode:path;)* }
    )+) => {
        /// An action or instruction, whatever version it came in.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Action {
            $($(#[$doc])* $kind($payload),)+
        }

        /// The kinds of [`Action`], in the order in which Open vSwitch lists them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Kind {
            $($kind,)+
        }

        /// The layouts of actions.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Form {
            $($($form,)*)+
        }

        /// Every kind, in the order of [`Kind`].
        pub static KINDS: &[KindInfo] = &[
            $(KindInfo { kind: Kind::$kind, name: $name, role: $role, parse: $parse },)+
        ];

        pub(super) static FORMS: &[FormInfo] = &[
            $($(FormInfo { codes: &[$($code),+], shape: $shape, decode: $decode },)*)+
        ];

        impl Action {
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Action::$kind(_) => Kind::$kind,)+
                }
            }

            pub(super) fn code(&self) -> &dyn ActionCode {
                match self {
                    $(Action::$kind(a) => a,)+
                }
            }

            pub(super) fn code_mut(&mut self) -> &mut dyn ActionCode {
                match self {
                    $(Action::$kind(a) => a,)+
                }
            }
        }
    };
}
pub(super) use actions;
