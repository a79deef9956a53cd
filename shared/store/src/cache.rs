//! What was read from the parameter store, kept for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chatbill_domain::time::Millis;

/// A value is served without asking for this long, seconds.
const FRESH: i64 = 300;
/// After this a value is not even served while the parameter store cannot be reached, seconds.
const STALE: i64 = 3600;
/// An absent or unusable parameter is not asked for again for this long, seconds; nor is the parameter store after a failure
/// that an older value could cover.
const PAUSE: i64 = 30;
/// Values kept. A document is a few kilobytes; this many fit a function's memory easily.
const MOST_VALUES: usize = 1000;
/// Absent and unusable names kept.
const MOST_ABSENT: usize = 256;

/// What the cache knows about a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known<V> {
    /// This value, read not long ago.
    Value(V),
    /// It does not exist.
    Absent,
    /// It exists and cannot be used, for this reason.
    Unusable(String),
    /// Nothing certain: ask.
    Ask(Older<V>),
}

/// What was read last time, if anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Older<V> {
    /// The last good value. It goes on serving when there is a newer one that cannot be used.
    pub(crate) value: Option<V>,
    /// The value is recent enough to serve while the parameter store cannot be reached.
    recent: bool,
}

impl<V> Older<V> {
    const NOTHING: Self = Self {
        value: None,
        recent: false,
    };

    /// The value to serve while the parameter store cannot be reached.
    pub(crate) fn for_an_outage(self) -> Option<V> {
        self.value.filter(|_| self.recent)
    }
}

/// Values and absences by name.
#[derive(Debug)]
pub(crate) struct Cache<V>(Mutex<State<V>>);

#[derive(Debug)]
struct State<V> {
    values: HashMap<String, Entry<V>>,
    absent: HashMap<String, (Millis, Option<String>)>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    read: Millis,
    fresh_until: Millis,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            values: HashMap::new(),
            absent: HashMap::new(),
        }))
    }

    /// What is known about `name`.
    pub(crate) fn get(&self, name: &str, now: Millis) -> Known<V> {
        self.with(|state| {
            if let Some((until, why)) = state.absent.get(name)
                && now < *until
            {
                return why.clone().map_or(Known::Absent, Known::Unusable);
            }
            match state.values.get(name) {
                Some(entry) if now < entry.fresh_until => Known::Value(entry.value.clone()),
                Some(entry) => Known::Ask(Older {
                    value: Some(entry.value.clone()),
                    recent: now < entry.read.plus_seconds(STALE),
                }),
                None => Known::Ask(Older::NOTHING),
            }
        })
    }

    /// Keeps a value that was read.
    pub(crate) fn put(&self, name: &str, value: V, now: Millis) {
        self.with(|state| {
            state.absent.remove(name);
            if state.values.len() >= MOST_VALUES && !state.values.contains_key(name) {
                let oldest = state.values.iter().min_by_key(|(_, e)| e.read);
                if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                    state.values.remove(&name);
                }
            }
            let entry = Entry {
                value,
                read: now,
                fresh_until: now.plus_seconds(FRESH),
            };
            state.values.insert(name.to_owned(), entry);
        });
    }

    /// Keeps that there is no such parameter, or why it is unusable.
    pub(crate) fn put_absent(&self, name: &str, why: Option<String>, now: Millis) {
        self.with(|state| {
            state.values.remove(name);
            state.absent.retain(|_, (until, _)| now < *until);
            if state.absent.len() < MOST_ABSENT {
                let until = now.plus_seconds(PAUSE);
                state.absent.insert(name.to_owned(), (until, why));
            }
        });
    }

    /// What is there now cannot be used, so the last good value serves on: a little before the next question, and as long again
    /// through an outage, for the parameter store was reached.
    pub(crate) fn keep(&self, name: &str, now: Millis) {
        self.with(|state| {
            if let Some(entry) = state.values.get_mut(name) {
                entry.read = now;
                entry.fresh_until = now.plus_seconds(PAUSE);
            }
        });
    }

    /// The names that values are kept of.
    pub(crate) fn names(&self) -> Vec<String> {
        self.with(|state| state.values.keys().cloned().collect())
    }

    /// Asking failed and the older value was served: it goes on serving a little before the next question.
    pub(crate) fn pause(&self, name: &str, now: Millis) {
        self.with(|state| {
            if let Some(entry) = state.values.get_mut(name) {
                entry.fresh_until = now.plus_seconds(PAUSE).min(entry.read.plus_seconds(STALE));
            }
        });
    }

    /// Nothing in here can be left half done, so a panic elsewhere while the lock was held does not matter.
    fn with<T>(&self, act: impl FnOnce(&mut State<V>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Millis = Millis::from_seconds(1_800_000_000);

    fn ask<V>(value: Option<V>, recent: bool) -> Known<V> {
        Known::Ask(Older { value, recent })
    }

    #[test]
    fn a_value_is_fresh_five_minutes_and_serves_an_hour() {
        let cache = Cache::new();
        assert_eq!(cache.get("a", T), ask(None, false));
        cache.put("a", 1, T);
        assert_eq!(cache.get("a", T.plus_seconds(299)), Known::Value(1));
        assert_eq!(cache.get("a", T.plus_seconds(300)), ask(Some(1), true));
        assert_eq!(cache.get("a", T.plus_seconds(3599)), ask(Some(1), true));
        assert_eq!(cache.get("a", T.plus_seconds(3600)), ask(Some(1), false));
    }

    #[test]
    fn a_failure_is_not_repeated_at_once() {
        let cache = Cache::new();
        cache.put("a", 1, T);
        let later = T.plus_seconds(400);
        cache.pause("a", later);
        assert_eq!(cache.get("a", later.plus_seconds(29)), Known::Value(1));
        assert_eq!(cache.get("a", later.plus_seconds(30)), ask(Some(1), true));
        cache.pause("a", T.plus_seconds(3590));
        assert_eq!(cache.get("a", T.plus_seconds(3600)), ask(Some(1), false));
    }

    #[test]
    fn an_absence_is_remembered_half_a_minute_and_ends_with_a_value() {
        let cache = Cache::new();
        cache.put("a", 1, T);
        cache.put_absent("a", None, T);
        assert_eq!(cache.get("a", T.plus_seconds(29)), Known::Absent);
        assert_eq!(cache.get("a", T.plus_seconds(30)), ask(None, false));
        cache.put_absent("b", Some("bad".to_owned()), T);
        assert_eq!(cache.get("b", T), Known::Unusable("bad".to_owned()));
        cache.put("b", 2, T);
        assert_eq!(cache.get("b", T), Known::Value(2));
    }

    #[test]
    fn the_last_good_value_outlives_what_cannot_be_used() {
        let cache = Cache::new();
        cache.put("a", 1, T);
        let long_after = T.plus_seconds(7200);
        assert_eq!(cache.get("a", long_after), ask(Some(1), false));
        cache.keep("a", long_after);
        assert_eq!(cache.get("a", long_after.plus_seconds(29)), Known::Value(1));
        assert_eq!(
            cache.get("a", long_after.plus_seconds(30)),
            ask(Some(1), true)
        );
    }

    #[test]
    fn absent_names_do_not_fill_the_memory() {
        let cache: Cache<i32> = Cache::new();
        for n in 0..1000 {
            cache.put_absent(&format!("guess-{n}"), None, T);
        }
        cache.with(|state| assert_eq!(state.absent.len(), MOST_ABSENT));
    }

    #[test]
    fn the_oldest_value_makes_room() {
        let cache = Cache::new();
        for n in 0..=1000_i64 {
            cache.put(&n.to_string(), n, T.plus_seconds(n.min(200)));
        }
        cache.with(|state| assert_eq!(state.values.len(), MOST_VALUES));
        assert_eq!(cache.get("0", T), ask(None, false));
        assert_eq!(cache.get("1000", T), Known::Value(1000));
    }
}
