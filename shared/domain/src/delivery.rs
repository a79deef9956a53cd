//! When a failed message is tried again. The schedule is published: README and `docs/runbook.md` state it.

use crate::message::Remedy;

/// Seconds to wait after the first, second … failure: 5 s, 30 s, 2 min, 10 min, 1 h, 3 h, 6 h, 12 h.
pub const SCHEDULE: [u32; 8] = [5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200];

/// The longest wait SQS can hold a message back for (AWS, `ChangeMessageVisibility`): 12 hours.
pub const LONGEST: u32 = 43_200;

/// After a send whose answer was lost: how long the provider's own report may take before the message is tried again.
pub const UNKNOWN_WAIT: u32 = 120;

/// Seconds until try number `failed + 1`, or `None` when the message is given up.
///
/// `failed` counts the failures so far (at least 1). `jitter` is a random number; the wait is the schedule's, or the provider's own when
/// longer, changed by up to a fifth either way, but never shorter than the provider asked for and never longer than [`LONGEST`].
#[must_use]
pub fn wait(failed: u32, remedy: Remedy, jitter: u32) -> Option<u32> {
    let step = usize::try_from(failed.saturating_sub(1)).ok()?;
    let scheduled = SCHEDULE.get(step).copied();
    let (base, floor) = match remedy {
        Remedy::GiveUp | Remedy::Alert | Remedy::UseTemplate => return None,
        Remedy::RetryOnce if failed > 1 => return None,
        Remedy::Retry | Remedy::RetryOnce | Remedy::Media => (scheduled?, 0),
        Remedy::RetryAfter(seconds) | Remedy::Throttled(seconds) => {
            (scheduled?.max(seconds), seconds)
        }
        // Meta, error 131056: "wait 4^n seconds", n counting from 0.
        Remedy::RetryPair => {
            let pair = 4_u32.saturating_pow(failed.saturating_sub(1));
            (scheduled?.max(pair), pair)
        }
        Remedy::Unknown => (scheduled?.max(UNKNOWN_WAIT), UNKNOWN_WAIT),
    };
    let spread = base.checked_div(5).unwrap_or(0);
    let width = spread.saturating_mul(2).saturating_add(1);
    let moved = base
        .saturating_sub(spread)
        .saturating_add(jitter.checked_rem(width).unwrap_or(0));
    Some(moved.max(floor).clamp(1, LONGEST))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "small numbers of a test; an overflow panics here"
    )]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_schedule_is_the_published_one() {
        let middle = |failed| {
            // The middle of the jitter's range gives the schedule itself.
            wait(
                failed,
                Remedy::Retry,
                SCHEDULE[usize::try_from(failed - 1).unwrap()] / 5,
            )
        };
        assert_eq!(
            (1..=8).map(middle).collect::<Vec<_>>(),
            SCHEDULE.map(Some).to_vec()
        );
        assert_eq!(wait(9, Remedy::Retry, 0), None);
    }

    #[test]
    fn some_failures_are_final() {
        for remedy in [Remedy::GiveUp, Remedy::Alert, Remedy::UseTemplate] {
            assert_eq!(wait(1, remedy, 0), None);
        }
        assert!(wait(1, Remedy::RetryOnce, 0).is_some());
        assert_eq!(wait(2, Remedy::RetryOnce, 0), None);
    }

    proptest! {
        #[test]
        fn a_wait_stays_within_a_fifth_of_the_schedule(failed in 1u32..=8, jitter: u32) {
            let base = SCHEDULE[usize::try_from(failed - 1).unwrap()];
            let seconds = wait(failed, Remedy::Retry, jitter).unwrap();
            prop_assert!(seconds >= base - base / 5);
            prop_assert!(seconds <= (base + base / 5).min(LONGEST));
        }

        #[test]
        fn the_provider_s_wish_is_a_floor(failed in 1u32..=8, asked in 0u32..=LONGEST, jitter: u32) {
            let seconds = wait(failed, Remedy::RetryAfter(asked), jitter).unwrap();
            prop_assert!(seconds >= asked && seconds <= LONGEST);
            let pair = wait(failed, Remedy::RetryPair, jitter).unwrap();
            prop_assert!(pair >= 4u32.pow(failed - 1).min(LONGEST));
        }
    }
}
