//! Everything that is logged, so that a test can say what must not be.

use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

use crate::world::leaks;

/// The lines of one test, of every level, with all their fields.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<String>>>);

impl Logs {
    /// Collects what this thread logs until the guard is dropped.
    #[must_use]
    pub fn capture() -> (Self, DefaultGuard) {
        let logs = Self::default();
        let subscriber = Collector {
            logs: logs.clone(),
            spans: AtomicU64::new(1),
        };
        (logs, tracing::subscriber::set_default(subscriber))
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many lines name this event, as alarms count them.
    #[must_use]
    pub fn count(&self, event: &str) -> usize {
        let field = format!(" event=\"{event}\"");
        let lines = self.lines();
        lines.iter().filter(|line| line.contains(&field)).count()
    }

    /// Fails when a line shows a secret, a full phone number or a VPA.
    pub fn assert_discreet(&self) {
        for line in self.lines() {
            assert_eq!(leaks(&line), [""; 0], "{line}");
        }
    }

    fn push(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}

struct Collector {
    logs: Logs,
    spans: AtomicU64,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("span {}", span.metadata().name()));
        span.record(&mut line);
        self.logs.push(line.0);
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("record".to_owned());
        values.record(&mut line);
        self.logs.push(line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.logs.push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_with_their_fields() {
        let (logs, guard) = Logs::capture();
        tracing::warn!(event = "order_held", order.reference_id = %"A-1", "look");
        drop(guard);
        tracing::warn!("unheard");
        assert_eq!(logs.lines().len(), 1, "{:?}", logs.lines());
        assert_eq!(logs.count("order_held"), 1);
        assert!(logs.lines()[0].contains("order.reference_id=A-1"));
        logs.assert_discreet();
    }

    #[test]
    #[should_panic(expected = "9876543210")]
    fn a_phone_number_in_full_is_noticed() {
        let (logs, _guard) = Logs::capture();
        tracing::info!(to = "+919876543210", "sent");
        logs.assert_discreet();
    }
}
