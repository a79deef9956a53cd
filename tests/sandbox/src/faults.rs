//! Faults planned by the control API: what goes wrong, for which calls and webhooks, and how often.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::desk::{Desk, HookDraft};
use crate::http::Call;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// Answer `status`; nothing happened.
    Status,
    /// It happened; answer `status` all the same.
    StatusAfter,
    /// The connection is cut; nothing happened.
    Reset,
    /// It happened; the connection is cut without an answer.
    ResetAfter,
    /// No answer for `delay_ms`, then the connection is cut; nothing happened.
    TimeoutBefore,
    /// It happened; no answer for `delay_ms`, then the connection is cut.
    TimeoutAfter,
    /// It happens `delay_ms` later, and is answered rightly.
    Delay,
    /// Accepted with 200; the error in `body` is reported by webhook.
    AsyncError,
    /// The webhook is never sent.
    DropWebhook,
    /// The webhook is sent twice.
    DuplicateWebhook,
    /// The webhook waits for `POST /_control/webhooks/release`.
    HoldWebhooks,
}

impl FaultKind {
    /// Whether it is about webhooks and not about calls.
    pub(crate) fn is_about_webhooks(self) -> bool {
        matches!(
            self,
            Self::DropWebhook | Self::DuplicateWebhook | Self::HoldWebhooks
        )
    }
}

/// A planned fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// The vendor; every vendor if left out.
    #[serde(default)]
    pub(crate) vendor: Option<String>,
    /// An operation or webhook event, or the beginning of one up to a dot; every one if left out.
    #[serde(default)]
    pub(crate) operation: Option<String>,
    /// Only calls and webhooks about this order.
    #[serde(default)]
    pub(crate) reference_id: Option<String>,
    /// What goes wrong.
    pub(crate) kind: FaultKind,
    /// The HTTP status of `status` and `status_after`.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    /// The vendor's own error code, put into its error envelope when `body` is left out.
    #[serde(default)]
    pub(crate) code: Option<i64>,
    /// The body instead of the vendor's own error; text is sent as it stands.
    #[serde(default)]
    pub(crate) body: Option<Value>,
    /// Further headers, e.g. `Retry-After`.
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
    /// How long it takes.
    #[serde(default)]
    pub(crate) delay_ms: Option<u64>,
    /// How many calls go by first.
    #[serde(default)]
    pub(crate) skip: u32,
    /// How often it happens: once if left out, `null` or 0 for always.
    #[serde(default = "once")]
    pub(crate) times: Option<u32>,
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "serde takes the default as the field's type"
)]
fn once() -> Option<u32> {
    Some(1)
}

impl Fault {
    fn fits(&self, vendor: &str, operation: &str) -> bool {
        self.vendor.as_deref().is_none_or(|name| name == vendor)
            && self.operation.as_deref().is_none_or(|name| {
                operation == name
                    || operation
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with('.'))
            })
    }
}

impl Desk {
    /// Takes the first fault planned for a call.
    pub(crate) fn take_call_fault(
        &mut self,
        vendor: &str,
        operation: &str,
        call: &Call,
    ) -> Option<Fault> {
        self.take(|fault| {
            !fault.kind.is_about_webhooks()
                && fault.fits(vendor, operation)
                && fault.reference_id.as_deref().is_none_or(|wanted| {
                    call.segments.iter().any(|segment| segment == wanted)
                        || call.query.iter().any(|(_, value)| value == wanted)
                        || String::from_utf8_lossy(&call.body).contains(&format!("\"{wanted}\""))
                        || call.form().is_some_and(|form| {
                            form.iter().any(|(_, value)| {
                                value == wanted || value.contains(&format!("\"{wanted}\""))
                            })
                        })
                })
        })
    }

    /// Takes the first fault planned for a webhook.
    pub(crate) fn take_webhook_fault(&mut self, draft: &HookDraft) -> Option<FaultKind> {
        self.take(|fault| {
            fault.kind.is_about_webhooks()
                && fault.fits(draft.vendor, &draft.event)
                && fault
                    .reference_id
                    .as_deref()
                    .is_none_or(|wanted| draft.reference_id.as_deref() == Some(wanted))
        })
        .map(|fault| fault.kind)
    }

    fn take(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let index = self.faults.iter().position(fits)?;
        let fault = self.faults.get_mut(index)?;
        if fault.skip > 0 {
            fault.skip = fault.skip.saturating_sub(1);
            return None;
        }
        let taken = fault.clone();
        match fault.times {
            Some(1) => {
                self.faults.remove(index);
            }
            Some(times) if times > 1 => fault.times = Some(times.saturating_sub(1)),
            _ => {}
        }
        Some(taken)
    }
}
