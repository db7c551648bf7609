//! `time/warp [LARGE_MSECS] MSECS`: moving a clock in steps, with a run of the main loop between two steps.

use crate::Clock;
use std::time::Duration;

/// The arguments of `time/warp` make no sense; the text of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidWarp;

impl std::fmt::Display for InvalidWarp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid MSECS")
    }
}

impl std::error::Error for InvalidWarp {}

/// A warp in progress. Timers that become due in the middle of a large warp see a time near their own.
#[derive(Debug)]
pub struct Warp {
    left_ms: u64,
    step_ms: u64,
}

impl Warp {
    /// From the command's arguments: `[MSECS]` is one step, `[LARGE_MSECS, MSECS]` as many as needed. Numbers are
    /// read as C's atoll does: leading digits count, anything else is zero.
    pub fn parse(args: &[&str]) -> Result<Warp, InvalidWarp> {
        let (total, step) = match args {
            [step] => (0, leading_number(step)),
            [total, step] => (leading_number(total), leading_number(step)),
            _ => return Err(InvalidWarp),
        };
        let total = if total == 0 { step } else { total };
        let (left_ms, step_ms) = (u64::try_from(total), u64::try_from(step));
        match (left_ms, step_ms) {
            (Ok(left_ms), Ok(step_ms)) if step_ms > 0 => Ok(Warp { left_ms, step_ms }),
            _ => Err(InvalidWarp),
        }
    }

    /// Makes the next step. True if it was the last.
    pub fn step(&mut self, clock: &Clock) -> bool {
        let by = self.step_ms.min(self.left_ms);
        clock.warp(Duration::from_millis(by));
        self.left_ms -= by;
        self.left_ms == 0
    }
}

fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)),
        Some(b'+') => (false, text.get(1..)),
        _ => (false, Some(text)),
    };
    let number = digits
        .unwrap_or_default()
        .bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0i64, |n, digit| n.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<(u32, u64), InvalidWarp> {
        let clock = Clock::new();
        clock.stop();
        let start = clock.now_ms();
        let mut warp = Warp::parse(args)?;
        let mut steps = 1;
        while !warp.step(&clock) {
            steps += 1;
        }
        Ok((steps, clock.now_ms() - start))
    }

    #[test]
    fn steps_add_up() {
        assert_eq!(run(&["10"]), Ok((1, 10)));
        assert_eq!(run(&["100", "10"]), Ok((10, 100)));
        assert_eq!(run(&["105", "10"]), Ok((11, 105)));
        assert_eq!(run(&["10", "100"]), Ok((1, 10)));
        assert_eq!(run(&["0", "7x"]), Ok((1, 7)));
        for bad in [&["x"][..], &["-5"], &["0"], &["-1", "5"], &["5", "0"], &[]] {
            assert_eq!(run(bad), Err(InvalidWarp));
        }
    }
}
