//! What the terminal shows: steps with their time, and a sign of life from the long ones.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Result;

const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Runs one step, says when it starts and how long it took, and counts seconds while it is silent.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("  > {name}");
    let start = Instant::now();
    let result = thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            while waiting.recv_timeout(SIGN_OF_LIFE) == Err(mpsc::RecvTimeoutError::Timeout) {
                println!("    {name}: {} s so far", start.elapsed().as_secs());
            }
        });
        let result = work();
        drop(done);
        result
    });
    let mark = if result.is_ok() { "ok" } else { "FAILED" };
    println!("  {mark} {name} ({})", seconds(start.elapsed()));
    result
}

/// `3.2 s`, `2 min 5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match (whole.checked_div(60), whole.checked_rem(60)) {
        (Some(0) | None, _) => format!(
            "{whole}.{} s",
            time.subsec_millis().checked_div(100).unwrap_or(0)
        ),
        (Some(minutes), rest) => format!("{minutes} min {} s", rest.unwrap_or(0)),
    }
}

pub(crate) fn title(text: &str) {
    println!("\n{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(Duration::from_millis(3_250)), "3.2 s");
        assert_eq!(seconds(Duration::from_millis(59_999)), "59.9 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
