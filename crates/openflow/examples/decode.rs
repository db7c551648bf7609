//! Decodes OpenFlow messages, one a line in hexadecimal digits, behind the name of the protocol (`Of10Std`
//! to `Of15`). Prints for each what it means, or the error that a switch would answer with and its bytes.

use std::io::BufRead;

use openflow::msg::error_msg::encode_reply;
use openflow::{Context, Protocol, decode};

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn answer(line: &str) -> Option<String> {
    let (name, digits) = line.trim().split_once(' ')?;
    let protocol = Protocol::ALL.into_iter().find(|p| format!("{p:?}") == name)?;
    let message = bytes(digits)?;
    Some(match decode(&message, &Context::unbound(protocol)) {
        Ok(message) => format!("{message:?}"),
        Err(error) => format!("{error} {}", hex(&encode_reply(error, &message))),
    })
}

fn main() -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&line?).unwrap_or_else(|| "?".into()));
    }
    Ok(())
}
