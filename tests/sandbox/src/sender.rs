//! Delivers webhooks: in order per account, with retries as the vendors do, only faster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::desk::{Attempt, HookState, wall};
use crate::server::Shared;

/// The lanes: one account's webhooks start in the order they arose.
pub(crate) type Lanes = HashMap<(String, String), mpsc::UnboundedSender<u64>>;

/// The one HTTP client of the sandbox.
#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox may not share the product's client: it is the peer under test"
)]
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// Hands the webhooks that became ready to the senders.
pub(crate) fn dispatch(shared: &Arc<Shared>) {
    let mut world = shared.world();
    let ready = std::mem::take(&mut world.desk.ready);
    let concurrent = world.desk.settings.concurrent_webhooks;
    let epoch = world.epoch;
    world.under_way = world.under_way.saturating_add(ready.len());
    for id in ready {
        if concurrent {
            tokio::spawn(first(Arc::clone(shared), id, epoch));
            continue;
        }
        let Some(lane) = world
            .desk
            .hooks
            .get(&id)
            .map(|hook| (hook.draft.vendor.to_owned(), hook.draft.account.clone()))
        else {
            world.under_way = world.under_way.saturating_sub(1);
            continue;
        };
        let sender = world
            .lanes
            .entry(lane)
            .or_insert_with(|| open_lane(Arc::clone(shared), epoch));
        // A lane lives as long as its sender does, so this cannot fail.
        let _ = sender.send(id);
    }
}

fn open_lane(shared: Arc<Shared>, epoch: u64) -> mpsc::UnboundedSender<u64> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(id) = receiver.recv().await {
            first(Arc::clone(&shared), id, epoch).await;
        }
    });
    sender
}

/// The first attempt; further ones do not keep the next webhook waiting.
async fn first(shared: Arc<Shared>, id: u64, epoch: u64) {
    let delay = shared.world().desk.settings.webhook_delay_ms;
    tokio::time::sleep(Duration::from_millis(delay)).await;
    let made = attempt(&shared, id, epoch).await;
    {
        let mut world = shared.world();
        if world.epoch == epoch {
            world.under_way = world.under_way.saturating_sub(1);
        }
    }
    if made.is_some_and(|attempt| !attempt.is_success()) {
        tokio::spawn(retry(shared, id, epoch));
    }
}

async fn retry(shared: Arc<Shared>, id: u64, epoch: u64) {
    loop {
        let wait = {
            let mut world = shared.world();
            if world.epoch != epoch {
                return;
            }
            let settings = world.desk.settings.clone();
            let Some(hook) = world.desk.hooks.get_mut(&id) else {
                return;
            };
            let made = u32::try_from(hook.attempts.len()).unwrap_or(u32::MAX);
            if hook.state == HookState::Delivered {
                return;
            }
            if made >= settings.retry_attempts {
                hook.state = HookState::GivenUp;
                return;
            }
            settings.retry_base_ms.saturating_mul(
                1_u64
                    .checked_shl(made.saturating_sub(1))
                    .unwrap_or(u64::MAX),
            )
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        match attempt(&shared, id, epoch).await {
            Some(attempt) if !attempt.is_success() => {}
            _ => return,
        }
    }
}

/// One attempt, put on record. `None` if the sandbox was reset meanwhile.
pub(crate) async fn attempt(shared: &Arc<Shared>, id: u64, epoch: u64) -> Option<Attempt> {
    let (draft, timeout) = {
        let world = shared.world();
        if world.epoch != epoch {
            return None;
        }
        let hook = world.desk.hooks.get(&id)?;
        (hook.draft.clone(), world.desk.settings.webhook_timeout_ms)
    };
    let at_ms = u64::try_from(wall().as_millis()).unwrap_or(u64::MAX);
    let mut request = shared
        .client
        .post(&draft.url)
        .timeout(Duration::from_millis(timeout))
        .body(draft.body);
    for (name, value) in &draft.headers {
        request = request.header(name, value);
    }
    let attempt = match request.send().await {
        Ok(response) => Attempt {
            at_ms,
            status: Some(response.status().as_u16()),
            error: unthankful(draft.vendor, response).await,
        },
        Err(error) => Attempt {
            at_ms,
            status: None,
            error: Some(error_chain(&error)),
        },
    };
    let mut world = shared.world();
    if world.epoch != epoch {
        return None;
    }
    let hook = world.desk.hooks.get_mut(&id)?;
    hook.attempts.push(attempt.clone());
    if attempt.is_success() {
        hook.state = HookState::Delivered;
    }
    Some(attempt)
}

/// Zaakpay, "Webhooks", response: "HTTP status code 2xx and "SUCCESS"". The other vendors do not look at the body.
async fn unthankful(vendor: &str, response: reqwest::Response) -> Option<String> {
    if vendor != "zaakpay" || !response.status().is_success() {
        return None;
    }
    match response.text().await {
        Ok(text) if text == "SUCCESS" => None,
        Ok(_) => Some("the body is not SUCCESS".to_owned()),
        Err(error) => Some(error_chain(&error)),
    }
}

/// An error with what caused it.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
