//! Which tenants there are, so that a name nobody has costs no call.
//!
//! A tenant that an environment has not met yet is asked for by its name, as long as every name asked for was somebody's. After a name
//! that was nobody's, the list of all names decides for a while. So a stranger who makes up names causes one question and
//! one listing a minute and environment, however many names come, and a merchant's first request costs one question.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chatbill_domain::ids::TenantId;
use chatbill_domain::time::Millis;

/// A listing is good for this long, seconds: a merchant who was just added waits this long at most. It is also how long a name that was
/// nobody's keeps other names from being asked for directly.
const FRESH: i64 = 60;
/// After the parameter store failed, it is asked again by nobody new for this long, seconds.
const PAUSE: i64 = 2;
/// When there are more names than a listing reads, those it left out take turns to be asked for, milliseconds.
const TURN: i64 = 500;

/// What to do about a name that the cache does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ask for its document.
    Ask,
    /// Nobody has this name.
    Unknown,
    /// List the names, and ask here again.
    List,
    /// It cannot be said now.
    Later,
}

#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    names: Arc<HashSet<TenantId>>,
    /// Whether `names` was read to its end.
    complete: bool,
    listed: Option<Millis>,
    next_listing: Option<Millis>,
    /// When a name that is not listed may be asked for, and which one was the last.
    next_guess: Option<(Millis, TenantId)>,
}

impl Names {
    pub(crate) fn judge(&self, id: &TenantId, now: Millis) -> Verdict {
        self.with(|state| {
            if state.names.contains(id) {
                return Verdict::Ask;
            }
            if state.next_guess.as_ref().is_none_or(|(at, _)| now >= *at) {
                let wait = if state.is_fresh(now) && !state.complete {
                    TURN
                } else {
                    FRESH.saturating_mul(1000)
                };
                let at = Millis::new(now.get().saturating_add(wait));
                state.next_guess = Some((at, id.clone()));
                return Verdict::Ask;
            }
            match state.listing(now) {
                Verdict::Ask if state.complete => Verdict::Unknown,
                Verdict::Ask => Verdict::Later,
                other => other,
            }
        })
    }

    /// The names as listed not long ago; else whether they may be listed now.
    pub(crate) fn list(&self, now: Millis) -> Result<Arc<HashSet<TenantId>>, Verdict> {
        self.with(|state| match state.listing(now) {
            Verdict::Ask => Ok(Arc::clone(&state.names)),
            other => Err(other),
        })
    }

    /// The name was somebody's.
    pub(crate) fn found(&self, id: &TenantId) {
        self.with(|state| {
            if state
                .next_guess
                .as_ref()
                .is_some_and(|(_, last)| last == id)
            {
                state.next_guess = None;
            }
        });
    }

    /// The name was nobody's, whatever the list says.
    pub(crate) fn missed(&self, id: &TenantId) {
        self.with(|state| {
            if state.names.contains(id) {
                Arc::make_mut(&mut state.names).remove(id);
            }
        });
    }

    /// Asking failed, so nothing is known about the name.
    pub(crate) fn failed(&self, id: &TenantId, now: Millis) {
        self.with(|state| {
            if let Some((at, last)) = &mut state.next_guess
                && last == id
            {
                *at = now.plus_seconds(PAUSE);
            }
        });
    }

    pub(crate) fn listed(&self, names: HashSet<TenantId>, complete: bool, now: Millis) {
        self.with(|state| {
            state.names = Arc::new(names);
            state.complete = complete;
            state.listed = Some(now);
            if !complete {
                // Those it left out need not wait for the end of a minute that began before it was known to be incomplete.
                state.next_guess = None;
            }
        });
    }

    pub(crate) fn not_listed(&self, now: Millis) {
        self.with(|state| state.next_listing = Some(now.plus_seconds(PAUSE)));
    }

    /// Nothing in here can be left half done, so a panic elsewhere while the lock was held does not matter.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_fresh(&self, now: Millis) -> bool {
        self.listed.is_some_and(|at| now < at.plus_seconds(FRESH))
    }

    /// [`Verdict::Ask`] means that the listing at hand serves.
    fn listing(&mut self, now: Millis) -> Verdict {
        if self.is_fresh(now) {
            Verdict::Ask
        } else if self.next_listing.is_some_and(|at| now < at) {
            Verdict::Later
        } else {
            self.next_listing = Some(now.plus_seconds(FRESH));
            Verdict::List
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Millis = Millis::from_seconds(1_800_000_000);

    fn id(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn list(names: &[&str]) -> HashSet<TenantId> {
        names.iter().map(|name| id(name)).collect()
    }

    #[test]
    fn merchants_are_asked_for_directly_while_nobody_guesses() {
        let names = Names::default();
        for n in 0..100 {
            let merchant = id(&format!("shop-{n}"));
            assert_eq!(names.judge(&merchant, T), Verdict::Ask);
            names.found(&merchant);
        }
    }

    #[test]
    fn guessed_names_cost_one_question_and_one_listing_a_minute() {
        let names = Names::default();
        let (mut questions, mut listings) = (0, 0);
        for n in 0..180_000_i64 {
            let now = T.plus_seconds(n / 1000);
            let guess = id(&format!("guess-{n}"));
            match names.judge(&guess, now) {
                Verdict::Ask => {
                    questions += 1;
                    names.missed(&guess);
                }
                Verdict::List => {
                    listings += 1;
                    names.listed(list(&["acme"]), true, now);
                    assert_eq!(names.judge(&guess, now), Verdict::Unknown);
                }
                Verdict::Unknown => {}
                Verdict::Later => panic!("there is a list"),
            }
            if listings > 0 {
                assert_eq!(names.judge(&id("acme"), now), Verdict::Ask, "{n}");
            }
        }
        assert_eq!((questions, listings), (3, 3));
    }

    #[test]
    fn a_new_merchant_waits_a_minute_at_most() {
        let names = Names::default();
        assert_eq!(names.judge(&id("guess"), T), Verdict::Ask);
        names.missed(&id("guess"));
        assert_eq!(names.judge(&id("new"), T), Verdict::List);
        names.listed(list(&["acme"]), true, T);
        assert_eq!(
            names.judge(&id("new"), T.plus_seconds(59)),
            Verdict::Unknown
        );
        // Somebody guesses again before the merchant comes.
        assert_eq!(
            names.judge(&id("guess-2"), T.plus_seconds(60)),
            Verdict::Ask
        );
        names.missed(&id("guess-2"));
        assert_eq!(names.judge(&id("new"), T.plus_seconds(60)), Verdict::List);
        names.listed(list(&["acme", "new"]), true, T.plus_seconds(60));
        assert_eq!(names.judge(&id("new"), T.plus_seconds(60)), Verdict::Ask);
        // A merchant who has left is not asked for again.
        names.missed(&id("new"));
        assert_eq!(
            names.judge(&id("new"), T.plus_seconds(61)),
            Verdict::Unknown
        );
    }

    #[test]
    fn a_failing_parameter_store_is_left_in_peace() {
        let names = Names::default();
        assert_eq!(names.judge(&id("acme"), T), Verdict::Ask);
        names.failed(&id("acme"), T);
        assert_eq!(names.judge(&id("other"), T), Verdict::List);
        names.not_listed(T);
        assert_eq!(names.judge(&id("acme"), T.plus_seconds(1)), Verdict::Later);
        assert_eq!(names.list(T.plus_seconds(1)), Err(Verdict::Later));
        assert_eq!(names.judge(&id("acme"), T.plus_seconds(2)), Verdict::Ask);
    }

    #[test]
    fn names_beyond_the_list_take_turns() {
        let names = Names::default();
        assert_eq!(names.judge(&id("guess"), T), Verdict::Ask);
        assert_eq!(names.judge(&id("b"), T), Verdict::List);
        names.listed(list(&["a"]), false, T);
        assert_eq!(names.judge(&id("b"), T), Verdict::Ask);
        assert_eq!(names.judge(&id("c"), T), Verdict::Later);
        assert_eq!(names.judge(&id("c"), T.plus_seconds(1)), Verdict::Ask);
    }
}
