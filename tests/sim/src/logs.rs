//! What is logged on this thread: the alarms it would raise, and whether anything in it must not be there.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};

use chatbill_testkit::world::leaks;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

use crate::vendors::TOKEN;

/// An alarm: its event, its order, what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `message_given_up`, `refund_failed` …
    pub event: String,
    /// The order's reference.
    pub order: String,
    /// The message or the refund.
    pub about: String,
}

#[derive(Debug, Default)]
struct Heard {
    alarms: Vec<Alarm>,
    lines: Vec<String>,
    leak: Option<String>,
}

thread_local! {
    static HEARD: RefCell<Heard> = RefCell::default();
}

/// Hears everything this thread logs until the guard is dropped.
#[must_use]
pub fn listen() -> DefaultGuard {
    tracing::subscriber::set_default(Listener)
}

/// Forgets what was heard.
pub fn forget() {
    HEARD.with_borrow_mut(|heard| *heard = Heard::default());
}

/// Whether this alarm was raised.
#[must_use]
pub fn raised(event: &str, order: &str, about: &str) -> bool {
    HEARD.with_borrow(|heard| {
        heard
            .alarms
            .iter()
            .any(|a| a.event == event && a.order == order && a.about == about)
    })
}

/// The lines since the last call, and the first that shows what it must not.
pub fn take_lines() -> (Vec<String>, Option<String>) {
    HEARD.with_borrow_mut(|heard| (std::mem::take(&mut heard.lines), heard.leak.clone()))
}

struct Listener;

#[derive(Default)]
struct Line {
    text: String,
    event: String,
    order: String,
    about: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let start = self.text.len();
        let _ = write!(self.text, " {}=", field.name());
        let value_at = self.text.len();
        let _ = write!(self.text, "{value:?}");
        let value = self.text[value_at..].trim_matches('"');
        match field.name() {
            "event" => self.event = value.to_owned(),
            "order.reference_id" => self.order = value.to_owned(),
            "message.key" | "refund.id" => self.about = value.to_owned(),
            _ => {}
        }
        debug_assert!(start < self.text.len(), "a field has a name");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        HEARD.with_borrow_mut(|heard| {
            if heard.leak.is_none() && (!leaks(&line.text).is_empty() || line.text.contains(TOKEN))
            {
                heard.leak = Some(line.text.clone());
            }
            if !line.event.is_empty() {
                heard.alarms.push(Alarm {
                    event: line.event,
                    order: line.order,
                    about: line.about,
                });
            }
            heard.lines.push(line.text);
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
