//! Values in maps of strings, with the leniency that operators' scripts rely on: what does not parse is the
//! default.

use ovsdb_shim::Row;

/// An integer in decimal, with optional white space in front and sign.
pub fn parse_int(text: &str) -> Option<i64> {
    text.trim_start().parse().ok()
}

/// An integer of 32 bits.
pub fn int(row: &Row, column: &str, key: &str, default: i32) -> i32 {
    let parsed = row.map_get(column, key).and_then(parse_int);
    parsed.and_then(|v| i32::try_from(v).ok()).unwrap_or(default)
}

/// An unsigned integer of 32 bits.
pub fn uint(row: &Row, column: &str, key: &str, default: u32) -> u32 {
    let parsed = row.map_get(column, key).and_then(parse_int);
    parsed.and_then(|v| u32::try_from(v).ok()).unwrap_or(default)
}

/// A boolean: anything but the other one's name is the default.
pub fn bool(row: &Row, column: &str, key: &str, default: bool) -> bool {
    let value = row.map_get(column, key).unwrap_or_default();
    if default { !value.eq_ignore_ascii_case("false") } else { value.eq_ignore_ascii_case("true") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb_shim::Datum;
    use uuid::Uuid;

    #[test]
    fn what_does_not_parse_is_the_default() {
        let pairs =
            [("a", " +7"), ("b", "7x"), ("c", "99999999999"), ("d", "-1"), ("t", "TRUE"), ("u", "yes")];
        let row = Row::new(Uuid::nil(), [("o", Datum::map(pairs))]);
        let ints = ["a", "b", "c", "d", "none"].map(|k| int(&row, "o", k, 5));
        assert_eq!(ints, [7, 5, 5, -1, 5]);
        assert_eq!(["a", "d"].map(|k| uint(&row, "o", k, 5)), [7, 5]);
        assert_eq!(["t", "u", "none"].map(|k| bool(&row, "o", k, false)), [true, false, false]);
        assert_eq!(["t", "u", "none"].map(|k| bool(&row, "o", k, true)), [true, true, true]);
        assert_eq!(["+-3", "- 3", "3 "].map(parse_int), [None; 3]);
    }
}
