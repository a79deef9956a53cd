//! What every vendor of the sandbox shares: the clock, ids, settings, planned faults and outgoing webhooks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::faults::{Fault, FaultKind};

/// What `POST /_control/settings` changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The wait before the second attempt of a webhook; it doubles with every further one. The vendors wait seconds to
    /// hours (Razorpay up to 24 h, Meta up to 7 days); nobody waits that long for a test.
    pub(crate) retry_base_ms: u64,
    /// Attempts before a webhook is given up.
    pub(crate) retry_attempts: u32,
    /// How long a receiver may take. Razorpay, "Best Practices": 5 seconds.
    pub(crate) webhook_timeout_ms: u64,
    /// The wait before the first attempt, so that a webhook usually comes after the answer to the call that caused it.
    pub(crate) webhook_delay_ms: u64,
    /// Whether messages are reported as sent and delivered by themselves.
    pub(crate) delivery_reports: bool,
    /// Whether webhooks of one account may overtake each other, as they do in production.
    pub(crate) concurrent_webhooks: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retry_base_ms: 200,
            retry_attempts: 8,
            webhook_timeout_ms: 5000,
            webhook_delay_ms: 50,
            delivery_reports: true,
            concurrent_webhooks: false,
        }
    }
}

/// Where a webhook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HookState {
    /// Waiting for its first or next attempt.
    Queued,
    /// Kept back by a `hold_webhooks` fault.
    Held,
    /// A receiver answered 2xx.
    Delivered,
    /// Never sent, by a `drop_webhook` fault.
    Dropped,
    /// Every attempt failed.
    GivenUp,
}

/// One attempt to deliver a webhook.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attempt {
    /// When, in Unix milliseconds of the real clock.
    pub(crate) at_ms: u64,
    /// What the receiver answered.
    pub(crate) status: Option<u16>,
    /// Why there was no answer.
    pub(crate) error: Option<String>,
}

impl Attempt {
    /// Whether the receiver took it.
    pub(crate) fn is_success(&self) -> bool {
        self.error.is_none()
            && self
                .status
                .is_some_and(|status| (200..300).contains(&status))
    }
}

/// A webhook to be sent: the vendor has signed it already.
#[derive(Debug, Clone)]
pub(crate) struct HookDraft {
    /// The vendor's name.
    pub(crate) vendor: &'static str,
    /// The vendor's account.
    pub(crate) account: String,
    /// The event's name, as faults name it.
    pub(crate) event: String,
    /// The order it is about.
    pub(crate) reference_id: Option<String>,
    /// Where it goes.
    pub(crate) url: String,
    /// Headers, with the signature.
    pub(crate) headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: Vec<u8>,
}

/// A webhook and its history.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    /// Its number in the control API.
    pub(crate) id: u64,
    /// The webhook.
    pub(crate) draft: HookDraft,
    /// Where it stands.
    pub(crate) state: HookState,
    /// Its attempts.
    pub(crate) attempts: Vec<Attempt>,
    /// The sandbox's time at its creation.
    pub(crate) created_at: i64,
}

impl Hook {
    /// For the control API.
    pub(crate) fn show(&self) -> Value {
        json!({
            "id": self.id,
            "vendor": self.draft.vendor,
            "account": self.draft.account,
            "event": self.draft.event,
            "reference_id": self.draft.reference_id,
            "url": self.draft.url,
            "headers": self.draft.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<serde_json::Map<_, _>>(),
            "body": serde_json::from_slice::<Value>(&self.draft.body).unwrap_or_else(|_| String::from_utf8_lossy(&self.draft.body).into_owned().into()),
            "raw_body": String::from_utf8_lossy(&self.draft.body),
            "state": self.state,
            "attempts": self.attempts,
            "created_at": self.created_at,
        })
    }
}

/// What one vendor's doing means for another: a payment inside WhatsApp is a payment in the merchant's gateway account.
#[derive(Debug, Clone)]
pub(crate) enum Mirror {
    /// An attempt to pay, successful or not.
    Payment {
        /// The gateway.
        gateway: String,
        /// The gateway's account.
        account: String,
        /// The gateway's order id.
        order_id: String,
        /// The gateway's payment id.
        payment_id: String,
        /// Paise.
        amount: i64,
        /// `upi`, `card`, ...
        method: String,
        /// Whether it succeeded.
        is_paid: bool,
        /// What the merchant passed through to the gateway.
        extras: Map<String, Value>,
    },
    /// A refund of such a payment, new or changed.
    Refund {
        /// Who made it: it is not told to itself again.
        from: &'static str,
        /// The gateway's payment id.
        payment_id: String,
        /// The refund's id at both.
        refund_id: String,
        /// Paise.
        amount: i64,
        /// `pending`, `processed` or `failed`.
        status: &'static str,
    },
}

/// What every vendor shares.
#[derive(Debug)]
pub(crate) struct Desk {
    /// `http://127.0.0.1:PORT`.
    pub(crate) base_url: String,
    /// Settings.
    pub(crate) settings: Settings,
    /// Planned faults, oldest first.
    pub(crate) faults: Vec<Fault>,
    /// Every webhook, by number.
    pub(crate) hooks: BTreeMap<u64, Hook>,
    /// Webhooks to hand to the senders when the lock is released; the same number twice is a duplicate.
    pub(crate) ready: Vec<u64>,
    /// What the other vendors have yet to hear of.
    pub(crate) mirrors: Vec<Mirror>,
    /// An error the vendor must report about the message it accepts next, by webhook.
    pub(crate) next_async_error: Option<Value>,
    offset_seconds: i64,
    seed: [u8; 32],
    counter: u64,
    next_hook: u64,
}

impl Desk {
    /// A fresh desk.
    pub(crate) fn new(base_url: String) -> Self {
        // The seed keeps ids of two runs apart: a database that outlives the sandbox must not see an id again.
        let seed = Sha256::digest(wall().as_nanos().to_be_bytes()).into();
        Self {
            base_url,
            settings: Settings::default(),
            faults: Vec::new(),
            hooks: BTreeMap::new(),
            ready: Vec::new(),
            mirrors: Vec::new(),
            next_async_error: None,
            offset_seconds: 0,
            seed,
            counter: 0,
            next_hook: 1,
        }
    }

    /// Forgets everything but where it listens.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.base_url.clone());
    }

    /// The sandbox's time in Unix seconds.
    pub(crate) fn now(&self) -> i64 {
        i64::try_from(wall().as_secs())
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset_seconds)
    }

    /// Moves the sandbox's clock.
    pub(crate) fn advance(&mut self, seconds: i64) {
        self.offset_seconds = self.offset_seconds.saturating_add(seconds);
    }

    /// A new id of `length` letters and digits.
    pub(crate) fn id(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut id = String::with_capacity(length);
        while id.len() < length {
            self.counter = self.counter.saturating_add(1);
            let mut hasher = Sha256::new();
            hasher.update(self.seed);
            hasher.update(self.counter.to_be_bytes());
            id.extend(
                hasher
                    .finalize()
                    .iter()
                    .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)))
                    .take(length.saturating_sub(id.len()))
                    .map(|byte| char::from(*byte)),
            );
        }
        id
    }

    /// A new number of `length` digits, as banks number transactions.
    pub(crate) fn digits(&mut self, length: usize) -> String {
        self.id(length)
            .bytes()
            .map(|byte| char::from(b'0'.saturating_add(byte % 10)))
            .collect()
    }

    /// Queues a webhook, unless a fault says otherwise.
    pub(crate) fn send(&mut self, draft: HookDraft) -> u64 {
        let kind = self.take_webhook_fault(&draft);
        let id = self.next_hook;
        self.next_hook = id.saturating_add(1);
        let state = match kind {
            Some(FaultKind::DropWebhook) => HookState::Dropped,
            Some(FaultKind::HoldWebhooks) => HookState::Held,
            _ => HookState::Queued,
        };
        if state == HookState::Queued {
            self.ready.push(id);
            if kind == Some(FaultKind::DuplicateWebhook) {
                self.ready.push(id);
            }
        }
        let hook = Hook {
            id,
            draft,
            state,
            attempts: Vec::new(),
            created_at: self.now(),
        };
        self.hooks.insert(id, hook);
        id
    }

    /// Puts a webhook on record without queueing it: the control API sends it itself.
    pub(crate) fn record(&mut self, draft: HookDraft) -> u64 {
        let id = self.next_hook;
        self.next_hook = id.saturating_add(1);
        let hook = Hook {
            id,
            draft,
            state: HookState::Queued,
            attempts: Vec::new(),
            created_at: self.now(),
        };
        self.hooks.insert(id, hook);
        id
    }

    /// Lets held webhooks go. With an order, those and in that order; without, all, and holding ends.
    pub(crate) fn release(&mut self, order: Option<Vec<u64>>) -> Vec<u64> {
        let chosen = order.unwrap_or_else(|| {
            self.faults
                .retain(|fault| fault.kind != FaultKind::HoldWebhooks);
            self.hooks.keys().copied().collect()
        });
        let mut released = Vec::new();
        for id in chosen {
            if let Some(hook) = self.hooks.get_mut(&id)
                && hook.state == HookState::Held
            {
                hook.state = HookState::Queued;
                released.push(id);
            }
        }
        self.ready.extend(&released);
        released
    }
}

/// The real time since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own: its clock is moved by /_control/clock"
)]
pub(crate) fn wall() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
