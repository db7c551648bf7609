//! Commands that choose between implementations of one thing. Here there is one of each, which may be chosen.

use crate::bridge::Bridges;
use unixctl::Registry;

/// A command that sets the implementation: its name and usage, most arguments, the implementation that there is,
/// what is said when it is chosen, and what is said (before and behind the name) when another is.
type Choice = (&'static str, &'static str, usize, &'static str, &'static str, [&'static str; 2]);

const CHOICES: [Choice; 4] = [
    (
        "dpif-netdev/dpif-impl-set",
        "dpif_implementation_name",
        1,
        "dpif_scalar",
        "DPIF implementation set to dpif_scalar.\n",
        ["DPIF implementation not available: Unknown DPIF implementation ", "."],
    ),
    (
        "dpif-netdev/miniflow-parser-set",
        "[-pmd core] miniflow_implementation_name [study_pkt_cnt]",
        5,
        "scalar",
        "Miniflow extract implementation set to scalar.\n",
        ["Error: unknown miniflow extract implementation ", "."],
    ),
    (
        "odp-execute/action-impl-set",
        "name",
        1,
        "scalar",
        "Action implementation set to scalar.\n",
        ["Error: unknown action implementation, ", ", specified!"],
    ),
    (
        "dpif-netdev/subtable-lookup-prio-set",
        "[lookup_func] [prio]",
        2,
        "generic",
        "Lookup priority change affected 0 dpcls ports and 0 subtables.\n",
        ["error, subtable lookup function not found", ""],
    ),
];

/// Adds them.
pub fn add(r: &mut Registry<Bridges>) {
    for (command, usage, max, known, chosen, [before, behind]) in CHOICES {
        // Only priorities come with a second argument that must be there.
        let min = if max == 2 { 2 } else { 1 };
        r.add_sync(command, usage, min, max, move |_: &mut Bridges, args| {
            let name = match args {
                ["-pmd", _, name, ..] | [name, ..] => name,
                [] => "",
            };
            // The text that stands alone names nothing.
            let named = if behind.is_empty() { "" } else { name };
            if name == known { Ok(chosen.to_owned()) } else { Err(format!("{before}{named}{behind}")) }
        });
    }
    r.add_sync("odp-execute/action-impl-show", "", 0, 0, |_, _| {
        Ok("Available Actions implementations:\n  scalar (available: Yes, active: Yes)\n".to_owned())
    });
}
