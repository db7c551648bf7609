//! The tree of what a translation did, for `ofproto/trace` and for the log when one fails.

use std::fmt::Write;

/// What a line of the tree is about; decides its layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// A bridge is entered.
    Bridge,
    /// A table was looked up.
    Table,
    /// A frozen state is resumed.
    Thaw,
    /// A bucket of a group.
    Bucket,
    Action,
    Detail,
    Warning,
    Error,
}

/// A line with what happened below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub kind: NodeKind,
    pub text: String,
    pub below: Vec<Node>,
}

/// A tree under construction: the path from the root to where lines are added now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    open: Vec<Vec<Node>>,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { open: vec![Vec::new()] }
    }
}

impl Trace {
    /// Adds a line.
    pub fn add(&mut self, kind: NodeKind, text: String) {
        if let Some(level) = self.open.last_mut() {
            level.push(Node { kind, text, below: Vec::new() });
        }
    }

    /// Lines that follow belong below the last one.
    pub fn enter(&mut self) {
        self.open.push(Vec::new());
    }

    /// The opposite of [`Trace::enter`].
    pub fn leave(&mut self) {
        if self.open.len() < 2 {
            return;
        }
        let below = self.open.pop().unwrap_or_default();
        if let Some(parent) = self.open.last_mut().and_then(|l| l.last_mut()) {
            parent.below = below;
        }
    }

    /// The finished tree.
    pub fn into_nodes(mut self) -> Vec<Node> {
        while self.open.len() > 1 {
            self.leave();
        }
        self.open.pop().unwrap_or_default()
    }
}

impl NodeKind {
    /// Whether such a line stands for itself; the others are headings of what comes below.
    fn is_terminal(self) -> bool {
        use NodeKind::{Action, Bucket, Detail, Error, Warning};
        matches!(self, Action | Bucket | Detail | Warning | Error)
    }
}

/// Prints a tree as `ofproto/trace` does. A heading that ends its list is not indented, so that a chain of
/// `goto_table` stays in one column.
pub fn print(out: &mut String, nodes: &[Node], level: usize) {
    for (i, node) in nodes.iter().enumerate() {
        let more = usize::from(i + 1 < nodes.len() || node.kind.is_terminal());
        let pad = " ".repeat((level + more) * 4);
        let text = &node.text;
        // Writing to a string cannot fail.
        let _ = match node.kind {
            NodeKind::Bridge => write!(out, "\n{pad}{text}\n{pad}{}\n", "-".repeat(text.len())),
            NodeKind::Detail => writeln!(out, "{pad} -> {text}"),
            NodeKind::Warning => writeln!(out, "{pad} >> {text}"),
            NodeKind::Error => writeln!(out, "{pad} >>>> {text} <<<<"),
            NodeKind::Table | NodeKind::Thaw | NodeKind::Bucket | NodeKind::Action => {
                writeln!(out, "{pad}{text}")
            }
        };
        print(out, &node.below, level + 2 * more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_is_indented_by_kind() {
        let mut t = Trace::default();
        t.add(NodeKind::Bridge, "bridge(\"br0\")".into());
        t.enter();
        t.add(NodeKind::Table, " 0. priority 0".into());
        t.enter();
        t.add(NodeKind::Action, "NORMAL".into());
        t.add(NodeKind::Detail, "no learned MAC".into());
        let mut out = String::new();
        print(&mut out, &t.into_nodes(), 0);
        let want = "\nbridge(\"br0\")\n-------------\n 0. priority 0\n    NORMAL\n     -> no learned MAC\n";
        assert_eq!(out, want);
    }
}
