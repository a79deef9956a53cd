//! The time a request of the API may take in all, and what of it a call to a vendor may still use.
//!
//! API Gateway gives up after 29 seconds, however far the function has come; then nobody knows what happened. So a request has a budget
//! from its first line on: calls to vendors end early enough for what they did to be written down, a call that could not end in time
//! is not begun (which is an answer, where a lost one is not), and a request that would outlast everything ends itself and says what
//! to do.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// How long one kind of request may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// All of it.
    pub whole: Duration,
    /// At the end of it no vendor is being called any more: what the last call did has to be written down.
    pub reserve: Duration,
    /// A call with less time than this is not begun.
    pub shortest_call: Duration,
}

/// A request behind API Gateway. Two seconds of its 29 are left for the edge and for an environment that starts; the reserve covers
/// the longest write there is (`chatbill_store::LONGEST_OPERATION`).
pub const REQUEST: Budget = Budget {
    whole: Duration::from_secs(27),
    reserve: Duration::from_secs(8),
    shortest_call: Duration::from_secs(1),
};

/// The work outlasted its budget and was given up where it stood, as if the function had died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request took too long")]
pub struct TooLong;

#[derive(Debug, Clone, Copy)]
struct Running {
    ends: Instant,
    budget: Budget,
}

tokio::task_local! {
    /// Belongs to the request, not to the client or the function: an environment may work on several at once.
    static RUNNING: Running;
}

impl Budget {
    /// Runs `work` within this budget.
    pub async fn spend<F: Future>(self, work: F) -> Result<F::Output, TooLong> {
        let ends = Instant::now().checked_add(self.whole).ok_or(TooLong)?;
        let running = Running { ends, budget: self };
        RUNNING
            .scope(running, timeout_at(ends, work))
            .await
            .map_err(|_| TooLong)
    }
}

/// How long a call may take that would like to have `wanted`. `None`: it is too late to begin it. Where no budget runs, nothing waits
/// for an answer, and a call has what it wants.
#[must_use]
pub fn for_a_call(wanted: Duration) -> Option<Duration> {
    RUNNING
        .try_with(|running| {
            let left = running
                .ends
                .saturating_duration_since(Instant::now())
                .saturating_sub(running.budget.reserve);
            (left >= running.budget.shortest_call).then(|| left.min(wanted))
        })
        .unwrap_or(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget() -> Budget {
        Budget {
            whole: Duration::from_secs(10),
            reserve: Duration::from_secs(3),
            shortest_call: SECOND,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_has_what_is_left_before_the_reserve() {
        let seen = budget().spend(async {
            let mut seen = vec![for_a_call(SECOND * 5), for_a_call(SECOND * 20)];
            for _ in 0..3 {
                tokio::time::sleep(SECOND * 3).await;
                seen.push(for_a_call(SECOND * 5));
            }
            seen
        });
        let seen: Vec<Option<u64>> = seen
            .await
            .unwrap()
            .into_iter()
            .map(|limit| limit.map(|l| l.as_secs()))
            .collect();
        assert_eq!(seen, [Some(5), Some(7), Some(4), Some(1), None]);
        assert_eq!(for_a_call(SECOND * 20), Some(SECOND * 20), "no budget runs");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_outlasts_its_budget_ends() {
        let begun = Instant::now();
        let ended = budget().spend(tokio::time::sleep(SECOND * 60)).await;
        assert_eq!((ended, begun.elapsed()), (Err(TooLong), SECOND * 10));
    }

    /// The edge's 29 seconds begin before ours.
    #[test]
    fn a_request_ends_well_before_the_edge_gives_up() {
        assert!(REQUEST.whole + SECOND * 2 <= SECOND * 29);
        assert!(REQUEST.reserve + SECOND * 10 <= REQUEST.whole);
    }
}
