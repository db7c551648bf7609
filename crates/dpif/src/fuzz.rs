//! What the fuzz targets run, and the property tests with them.

use crate::text::{self, Style};

/// Reads `input` as a key and as actions; what is read is printed, and what is printed must read back.
pub fn text(input: &str) {
    if let Some(actions) = text::parse_actions(input, None) {
        let printed = text::actions_text(&actions, None);
        let again = text::parse_actions(&printed, None).map(|a| text::actions_text(&a, None));
        // NSH metadata is printed as a number, which loses zero bytes in front.
        if !printed.contains("md2=") {
            assert_eq!(again.as_deref(), Some(printed.as_str()), "from {input}");
        }
    }
    let _ = text::parse_exact_key(input, None);
    if let Ok(p) = text::parse_key(input, None) {
        for verbose in [false, true] {
            text::flow_text(&p.key, &p.mask, &Style { verbose, ..Style::default() });
        }
    }
}
