//! Which tenants there are, so that a name nobody has costs no call.
//!
//! A tenant that an environment has not met yet is asked for by its name, as long as nearly every name asked for was somebody's. After
//! three names in a minute that were nobody's, the list of all names decides. So a stranger who makes up names causes three questions
//! and one listing a minute and environment, however many names come, and a merchant's first request costs one question.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use chatbill_domain::ids::TenantId;
use chatbill_domain::time::Millis;

/// A listing is good for this long, seconds: a merchant who was just added waits this long at most. It is also how long a name that was
/// nobody's counts as a guess.
const FRESH: i64 = 60;
/// So many guesses are allowed within that time.
const GUESSES: usize = 3;
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
    /// Guesses, with the time until which they count. One about a name is taken back when it turns out to be somebody's.
    guesses: VecDeque<(Millis, Option<TenantId>)>,
}

impl Names {
    pub(crate) fn judge(&self, id: &TenantId, now: Millis) -> Verdict {
        self.with(|state| {
            if state.names.contains(id) {
                return Verdict::Ask;
            }
            if state.guess(Some(id), now) {
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

    /// Whether the names may be listed although they were a moment ago: something speaks of one that is not among them.
    pub(crate) fn may_list_again(&self, now: Millis) -> bool {
        self.with(|state| state.guess(None, now))
    }

    /// The name was somebody's.
    pub(crate) fn found(&self, id: &TenantId) {
        self.with(|state| {
            state
                .guesses
                .retain(|(_, about)| about.as_ref() != Some(id))
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
            for (until, about) in &mut state.guesses {
                if about.as_ref() == Some(id) {
                    *until = now.plus_seconds(PAUSE);
                }
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
                state.guesses.clear();
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

    /// Whether one more guess is allowed, which is counted then.
    fn guess(&mut self, about: Option<&TenantId>, now: Millis) -> bool {
        self.guesses.retain(|(until, _)| now < *until);
        let allowed = self.guesses.len() < GUESSES;
        if allowed {
            let counts = if self.is_fresh(now) && !self.complete {
                TURN
            } else {
                FRESH.saturating_mul(1000)
            };
            let until = Millis::new(now.get().saturating_add(counts));
            self.guesses.push_back((until, about.cloned()));
        }
        allowed
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

    /// Three names that were nobody's.
    fn guessed() -> Names {
        let names = Names::default();
        for n in 0..GUESSES {
            let guess = id(&format!("guess-{n}"));
            assert_eq!(names.judge(&guess, T), Verdict::Ask);
            names.missed(&guess);
        }
        names
    }

    #[test]
    fn guessed_names_cost_a_handful_of_questions_a_minute() {
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
        assert_eq!((questions, listings), (9, 3));
    }

    #[test]
    fn a_new_merchant_waits_a_minute_at_most() {
        let names = guessed();
        assert_eq!(names.judge(&id("new"), T), Verdict::List);
        names.listed(list(&["acme"]), true, T);
        let almost = T.plus_seconds(59);
        assert_eq!(names.judge(&id("new"), almost), Verdict::Unknown);
        assert!(!names.may_list_again(almost));
        // Then it is asked for again, or, when others keep guessing, listed.
        let then = T.plus_seconds(60);
        for guess in ["guess-3", "guess-4", "guess-5"] {
            assert_eq!(names.judge(&id(guess), then), Verdict::Ask);
            names.missed(&id(guess));
        }
        assert_eq!(names.judge(&id("new"), then), Verdict::List);
        names.listed(list(&["acme", "new"]), true, then);
        assert_eq!(names.judge(&id("new"), then), Verdict::Ask);
        // A merchant who has left is not asked for again.
        names.missed(&id("new"));
        assert_eq!(names.judge(&id("new"), then), Verdict::Unknown);
    }

    #[test]
    fn a_failing_parameter_store_is_left_in_peace() {
        let names = Names::default();
        for n in 0..GUESSES {
            let name = id(&format!("shop-{n}"));
            assert_eq!(names.judge(&name, T), Verdict::Ask);
            names.failed(&name, T);
        }
        assert_eq!(names.judge(&id("other"), T), Verdict::List);
        names.not_listed(T);
        assert_eq!(names.judge(&id("acme"), T.plus_seconds(1)), Verdict::Later);
        assert_eq!(names.list(T.plus_seconds(1)), Err(Verdict::Later));
        assert_eq!(names.judge(&id("acme"), T.plus_seconds(2)), Verdict::Ask);
    }

    #[test]
    fn names_beyond_the_list_take_turns() {
        let names = guessed();
        assert_eq!(names.judge(&id("b"), T), Verdict::List);
        names.listed(list(&["a"]), false, T);
        for guess in ["b", "c", "d"] {
            assert_eq!(names.judge(&id(guess), T), Verdict::Ask);
        }
        assert_eq!(names.judge(&id("e"), T), Verdict::Later);
        assert_eq!(names.judge(&id("e"), T.plus_seconds(1)), Verdict::Ask);
    }

    #[test]
    fn what_speaks_of_a_merchant_not_listed_may_list_again() {
        let names = Names::default();
        assert_eq!(names.list(T), Err(Verdict::List));
        names.listed(list(&["acme"]), true, T);
        for _ in 0..GUESSES {
            assert!(names.may_list_again(T));
        }
        assert!(!names.may_list_again(T));
        assert!(names.may_list_again(T.plus_seconds(60)));
    }
}
