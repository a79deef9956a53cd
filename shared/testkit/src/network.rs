//! The line between the code under test and everything it talks to: counts round trips and breaks where it is told to.

use std::sync::{Arc, Mutex, PoisonError};

/// How a round trip breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The request never arrives: nothing happened.
    Request,
    /// The answer never arrives: it happened and nobody knows.
    Answer,
}

#[derive(Debug, Default)]
struct State {
    trips: Vec<String>,
    breaks: Option<(usize, Break, bool)>,
}

/// Shared by the in-memory ports of one test; clones are the same line.
///
/// A test of "any crash at any point" first runs the flow to learn how many round trips it makes, and then once for each of them
/// with [`Network::crash_at`], followed by [`Network::restore`] and whatever is meant to repair the rest.
#[derive(Debug, Clone, Default)]
pub struct Network(Arc<Mutex<State>>);

impl Network {
    /// A line that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was asked so far, in sequence: `store.append`, `queue.send`, an HTTP call's label.
    #[must_use]
    pub fn round_trips(&self) -> Vec<String> {
        self.with(|state| state.trips.clone())
    }

    /// Forgets the round trips so far and works again.
    pub fn reset(&self) {
        self.with(|state| *state = State::default());
    }

    /// The round trip number `trip` (from 0, counted since the last reset) breaks; the ones after it work.
    pub fn break_at(&self, trip: usize, how: Break) {
        self.with(|state| state.breaks = Some((trip, how, false)));
    }

    /// The round trip number `trip` breaks, and nothing gets through any more: the process died there.
    pub fn crash_at(&self, trip: usize, how: Break) {
        self.with(|state| state.breaks = Some((trip, how, true)));
    }

    /// Works again; round trips go on being counted.
    pub fn restore(&self) {
        self.with(|state| state.breaks = None);
    }

    /// One round trip begins; says whether it is to break. For ports written elsewhere.
    #[must_use]
    pub fn begin(&self, what: &str) -> Option<Break> {
        self.with(|state| {
            let trip = state.trips.len();
            state.trips.push(what.to_owned());
            match state.breaks {
                Some((at, how, _)) if trip == at => Some(how),
                Some((at, _, true)) if trip > at => Some(Break::Request),
                _ => None,
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_breaks_once_or_for_good() {
        let line = Network::new();
        line.break_at(1, Break::Answer);
        let seen: Vec<_> = (0..3).map(|_| line.begin("x")).collect();
        assert_eq!(seen, [None, Some(Break::Answer), None]);
        line.reset();
        line.crash_at(1, Break::Answer);
        let seen: Vec<_> = (0..3).map(|_| line.begin("x")).collect();
        assert_eq!(seen, [None, Some(Break::Answer), Some(Break::Request)]);
        line.restore();
        assert_eq!(line.begin("y"), None);
        assert_eq!(line.round_trips(), ["x", "x", "x", "y"]);
    }
}
