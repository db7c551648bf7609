//! Flows, matches, field values and subfields as text: any text parses or fails, and what parses prints.
#![no_main]

use flow::text::{NoNames, flow_to_string, format_match, parse_exact_flow, parse_match};
use flow::{Field, Subfield};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok((flow, _)) = parse_exact_flow(text, None, &NoNames) {
        let _ = flow_to_string(&flow, &NoNames, None);
    }
    if let Ok((m, _)) = parse_match(text, &NoNames, None) {
        let _ = format_match(&m, Some(1), &NoNames, None);
    }
    let _ = Subfield::parse(text);
    if let Some(f) = Field::from_index((*which).into())
        && let Ok((value, mask)) = f.parse_masked(text, &NoNames)
    {
        let _ = f.format_value(&value, Some(&mask), &NoNames);
    }
});
