//! The control API under `/_control`; the README documents it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::desk::{HookState, Settings};
use crate::faults::Fault;
use crate::http::{Answer, Call};
use crate::sender;
use crate::server::{Shared, World};
use crate::vendors::{Act, Outcome, Refused};

/// Answers one call of the control API.
pub(crate) async fn answer(shared: &Arc<Shared>, call: &Call) -> Answer {
    let request = if call.body.is_empty() {
        json!({})
    } else {
        match call.json() {
            Some(request) => request,
            None => return Answer::control_error(400, "invalid", "the body is not JSON"),
        }
    };
    let (method, segments) = call.route();
    let result = match (method, segments.as_slice()) {
        ("POST", ["webhooks", "send"]) => send(shared, &request).await,
        ("POST", ["webhooks", "verify"]) => verify(shared, &request).await,
        ("POST", ["webhooks", "wait"]) => Ok(wait(shared, &request).await),
        ("POST", ["webhooks", id, "redeliver"]) => match id.parse() {
            Ok(id) => redeliver(shared, id).await,
            Err(_) => Err(Refused::invalid("the webhook's number is not a number")),
        },
        _ => {
            let mut world = shared.world();
            world.tick();
            let world = &mut *world;
            let result = now(world, method, segments.as_slice(), call, &request);
            world.mirror();
            result
        }
    };
    match result {
        Ok(body) => Answer::json(200, &body),
        Err(refused) => Answer::control_error(refused.status, refused.code, refused.detail),
    }
}

/// Everything that needs no waiting.
fn now(
    world: &mut World,
    method: &str,
    segments: &[&str],
    call: &Call,
    request: &Value,
) -> Result<Value, Refused> {
    match (method, segments) {
        ("GET", []) => Ok(overview(world)),
        ("POST", ["accounts"]) => accounts(world, request),
        ("POST", ["faults"]) => add_fault(world, request),
        ("GET", ["faults"]) => Ok(json!({"faults": world.desk.faults})),
        ("DELETE", ["faults"]) => {
            world.desk.faults.clear();
            Ok(json!({"faults": []}))
        }
        ("GET", ["received"]) => Ok(received(world, call)),
        ("GET", ["webhooks"]) => Ok(webhooks(world, call)),
        ("POST", ["webhooks", "release"]) => {
            let order = match request.get("order") {
                None => None,
                Some(order) => Some(
                    serde_json::from_value::<Vec<u64>>(order.clone())
                        .map_err(|error| Refused::invalid(format!("order: {error}")))?,
                ),
            };
            Ok(json!({"released": world.desk.release(order)}))
        }
        ("POST", ["customer", "pay"]) => customer(world, Act::Pay, request),
        ("POST", ["customer", "fail"]) => customer(world, Act::Fail, request),
        ("POST", ["customer", "cancel"]) => customer(world, Act::Cancel, request),
        ("POST", ["customer", "message"]) => customer(world, Act::Message, request),
        ("POST", ["customer", "read"]) => customer(world, Act::Read, request),
        ("POST", ["customer", "phone"]) => {
            let phone = text(request, "phone")?;
            for vendor in &mut world.vendors {
                vendor.set_phone(phone, request);
            }
            Ok(json!({"phone": phone}))
        }
        ("GET", ["customer", "inbox"]) => {
            let phone = call
                .param("phone")
                .ok_or_else(|| Refused::invalid("phone is missing"))?;
            let messages: Vec<Value> = world
                .vendors
                .iter()
                .flat_map(|vendor| vendor.inbox(phone))
                .collect();
            Ok(json!({"phone": phone, "messages": messages}))
        }
        ("POST", ["refunds"]) => {
            let name = text(request, "vendor")?;
            let World { desk, vendors, .. } = world;
            let vendor = vendors
                .iter_mut()
                .find(|vendor| vendor.name() == name)
                .ok_or_else(|| Refused::invalid(format!("no vendor is called {name:?}")))?;
            vendor.refund_in_dashboard(request, desk)
        }
        ("POST", ["refunds", id]) => {
            let status = text(request, "status")?;
            let speed = request.get("speed").and_then(Value::as_str);
            let desk = &mut world.desk;
            let mut last = Refused::unknown(format!("no vendor has a refund {id:?}"));
            for vendor in &mut world.vendors {
                match vendor.settle_refund(id, status, speed, desk) {
                    Ok(refund) => return Ok(refund),
                    Err(refused) if refused.status == 404 => {}
                    Err(refused) => last = refused,
                }
            }
            Err(last)
        }
        ("GET", ["clock"]) => Ok(json!({"now": world.desk.now()})),
        ("POST", ["clock"]) => {
            let seconds = request
                .get("advance_seconds")
                .and_then(Value::as_i64)
                .ok_or_else(|| Refused::invalid("advance_seconds must be an integer"))?;
            world.desk.advance(seconds);
            world.tick();
            Ok(json!({"now": world.desk.now()}))
        }
        ("GET", ["settings"]) => settings(&world.desk.settings),
        ("POST", ["settings"]) => {
            let mut merged = settings(&world.desk.settings)?;
            if let (Some(merged), Some(changes)) = (merged.as_object_mut(), request.as_object()) {
                merged.extend(changes.clone());
            }
            world.desk.settings = serde_json::from_value(merged)
                .map_err(|error| Refused::invalid(error.to_string()))?;
            settings(&world.desk.settings)
        }
        ("POST", ["reset"]) => {
            let keep = request.get("keep_settings") == Some(&Value::Bool(true));
            let kept = keep.then(|| world.desk.settings.clone());
            world.reset(kept);
            Ok(json!({}))
        }
        _ => Err(Refused::unknown(format!(
            "no such control call: {method} {}",
            call.path
        ))),
    }
}

fn text<'a>(request: &'a Value, key: &str) -> Result<&'a str, Refused> {
    request
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Refused::invalid(format!("{key} must be a string")))
}

fn settings(settings: &Settings) -> Result<Value, Refused> {
    serde_json::to_value(settings).map_err(|error| Refused::invalid(error.to_string()))
}

fn overview(world: &World) -> Value {
    let vendors: serde_json::Map<String, Value> = world
        .vendors
        .iter()
        .map(|vendor| {
            let shown = json!({
                "base_url": format!("{}/{}", world.desk.base_url, vendor.name()),
                "operations": vendor.operations(),
                "events": vendor.events(),
            });
            (vendor.name().to_owned(), shown)
        })
        .collect();
    json!({"sandbox_url": world.desk.base_url, "now": world.desk.now(), "vendors": vendors})
}

fn accounts(world: &mut World, request: &Value) -> Result<Value, Refused> {
    let given = request
        .as_object()
        .ok_or_else(|| Refused::invalid("an object {\"<vendor>\": account or [accounts]}"))?;
    let mut registered = 0_usize;
    for (name, accounts) in given {
        let vendor = world
            .vendors
            .iter_mut()
            .find(|vendor| vendor.name() == name)
            .ok_or_else(|| Refused::invalid(format!("no vendor is called {name:?}")))?;
        let accounts = match accounts {
            Value::Array(accounts) => accounts.iter().collect(),
            one => vec![one],
        };
        for account in accounts {
            vendor.register(account)?;
            registered = registered.saturating_add(1);
        }
    }
    Ok(json!({"registered": registered}))
}

fn add_fault(world: &mut World, request: &Value) -> Result<Value, Refused> {
    let fault: Fault = serde_json::from_value(request.clone())
        .map_err(|error| Refused::invalid(error.to_string()))?;
    // A fault that can never happen would make a test pass for the wrong reason.
    let vendors = world.vendors.iter().filter(|vendor| {
        fault
            .vendor
            .as_deref()
            .is_none_or(|name| name == vendor.name())
    });
    let names: Vec<&str> = vendors
        .flat_map(|vendor| {
            if fault.kind.is_about_webhooks() {
                vendor.events()
            } else {
                vendor.operations()
            }
        })
        .copied()
        .collect();
    let fits = |name: &&str| {
        fault.operation.as_deref().is_none_or(|wanted| {
            *name == wanted
                || name
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with('.'))
        })
    };
    if !names.iter().any(fits) {
        return Err(Refused::invalid(format!(
            "no such vendor and operation; there are {names:?}"
        )));
    }
    world.desk.faults.push(fault);
    Ok(json!({"faults": world.desk.faults}))
}

fn received(world: &World, call: &Call) -> Value {
    let calls: Vec<&Value> = world
        .received
        .iter()
        .filter(|received| {
            call.param("vendor")
                .is_none_or(|vendor| vendor == received.vendor)
                && call.param("operation").is_none_or(|operation| {
                    received.operation == operation
                        || received
                            .operation
                            .strip_prefix(operation)
                            .is_some_and(|rest| rest.starts_with('.'))
                })
                && call
                    .param("reference_id")
                    .is_none_or(|reference| received.reference_id.as_deref() == Some(reference))
        })
        .map(|received| &received.record)
        .collect();
    json!({"count": calls.len(), "received": calls})
}

fn webhooks(world: &World, call: &Call) -> Value {
    let hooks: Vec<Value> = world
        .desk
        .hooks
        .values()
        .filter(|hook| {
            call.param("vendor")
                .is_none_or(|vendor| vendor == hook.draft.vendor)
                && call.param("event").is_none_or(|event| {
                    hook.draft.event == event
                        || hook
                            .draft
                            .event
                            .strip_prefix(event)
                            .is_some_and(|rest| rest.starts_with('.'))
                })
                && call
                    .param("reference_id")
                    .is_none_or(|reference| hook.draft.reference_id.as_deref() == Some(reference))
                && call
                    .param("state")
                    .is_none_or(|state| json!(hook.state) == state)
        })
        .map(crate::desk::Hook::show)
        .collect();
    json!({"count": hooks.len(), "webhooks": hooks})
}

/// Lets a customer act, following a message's link to the vendor it belongs to.
fn customer(world: &mut World, act: Act, request: &Value) -> Result<Value, Refused> {
    let mut request = request.clone();
    // Twice at most: a message leads to a link, a link leads nowhere else.
    for _ in 0..2 {
        let link = request.get("link").and_then(Value::as_str);
        let name = request.get("vendor").and_then(Value::as_str);
        let at = world
            .vendors
            .iter()
            .position(|vendor| match (link, name) {
                (Some(link), _) => vendor.owns(link),
                (None, Some(name)) => vendor.name() == name,
                // A customer's messages and ticks are Meta's as long as no other channel is named.
                (None, None) => vendor.name() == "meta",
            })
            .ok_or_else(|| {
                Refused::conflict(
                    "leads_outside",
                    format!("no vendor of the sandbox has this link: {link:?} {name:?}"),
                )
            })?;
        let World { desk, vendors, .. } = world;
        let vendor = vendors
            .get_mut(at)
            .ok_or_else(|| Refused::unknown("no such vendor"))?;
        match vendor.customer(act, &request, desk)? {
            Outcome::Done(done) => return Ok(done),
            Outcome::Follow(link) => {
                if let Some(request) = request.as_object_mut() {
                    request.insert("link".to_owned(), link.into());
                }
            }
        }
    }
    Err(Refused::conflict("leads_nowhere", "links lead in a circle"))
}

/// One attempt now, told to the caller; no retries.
async fn attempt(shared: &Arc<Shared>, id: u64, epoch: u64) -> Result<Value, Refused> {
    let attempt = sender::attempt(shared, id, epoch)
        .await
        .ok_or_else(|| Refused::unknown(format!("no webhook has the number {id}")))?;
    Ok(json!({"id": id, "status": attempt.status, "error": attempt.error}))
}

async fn redeliver(shared: &Arc<Shared>, id: u64) -> Result<Value, Refused> {
    let epoch = shared.world().epoch;
    attempt(shared, id, epoch).await
}

async fn send(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refused> {
    let (id, epoch) = {
        let mut world = shared.world();
        let World { desk, vendors, .. } = &mut *world;
        let name = text(request, "vendor")?;
        let vendor = vendors
            .iter()
            .find(|vendor| vendor.name() == name)
            .ok_or_else(|| Refused::invalid(format!("no vendor is called {name:?}")))?;
        // Text goes out byte for byte, so that a body can be signed and then not be JSON at all.
        let body = match (request.get("raw_body"), request.get("body")) {
            (Some(Value::String(raw)), _) => raw.clone().into_bytes(),
            (None, Some(body)) => body.to_string().into_bytes(),
            _ => {
                return Err(Refused::invalid(
                    "body (JSON) or raw_body (text) is missing",
                ));
            }
        };
        let mut draft = vendor.forge(
            request.get("account").and_then(Value::as_str),
            body,
            request.get("signature").and_then(Value::as_str),
            desk,
        )?;
        if request.get("unsigned") == Some(&Value::Bool(true)) {
            draft
                .headers
                .retain(|(name, _)| !name.to_ascii_lowercase().contains("signature"));
        }
        if let Some(headers) = request.get("headers").and_then(Value::as_object) {
            for (name, value) in headers {
                draft
                    .headers
                    .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
                if let Some(value) = value.as_str() {
                    draft.headers.push((name.clone(), value.to_owned()));
                }
            }
        }
        if let Some(url) = request.get("url").and_then(Value::as_str) {
            url.clone_into(&mut draft.url);
        }
        let id = desk.record(draft);
        (id, world.epoch)
    };
    let made = attempt(shared, id, epoch).await;
    // It is sent once: nobody retries what the vendor never meant to send.
    if let Some(hook) = shared.world().desk.hooks.get_mut(&id)
        && hook.state == HookState::Queued
    {
        hook.state = HookState::GivenUp;
    }
    made
}

/// Meta, "Webhooks": the GET by which a webhook URL is verified.
async fn verify(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refused> {
    let (url, challenge) = {
        let mut world = shared.world();
        let challenge = match request.get("challenge").and_then(Value::as_str) {
            Some(challenge) => challenge.to_owned(),
            None => world.desk.digits(10),
        };
        let name = request
            .get("vendor")
            .and_then(Value::as_str)
            .unwrap_or("meta");
        let url = world
            .vendors
            .iter()
            .find(|vendor| vendor.name() == name)
            .and_then(|vendor| {
                vendor.verification_url(
                    request.get("account").and_then(Value::as_str),
                    request.get("verify_token").and_then(Value::as_str),
                    &challenge,
                )
            })
            .ok_or_else(|| Refused::unknown("no such account with a webhook URL"))?;
        (url, challenge)
    };
    let response = shared
        .client
        .get(url)
        .timeout(Duration::from_secs(10))
        .send()
        .await
        .map_err(|error| Refused::conflict("no_answer", sender::error_chain(&error)))?;
    let status = response.status().as_u16();
    let body = response
        .text()
        .await
        .map_err(|error| Refused::conflict("no_answer", sender::error_chain(&error)))?;
    let verified = status == 200 && body == challenge;
    Ok(json!({"status": status, "body": body, "verified": verified}))
}

/// Waits until no webhook is on its way any more.
async fn wait(shared: &Arc<Shared>, request: &Value) -> Value {
    const STEP: u64 = 10;
    let patience = request
        .get("timeout_ms")
        .and_then(Value::as_u64)
        .unwrap_or(10_000);
    let mut waited = 0_u64;
    loop {
        sender::dispatch(shared);
        let (queued, under_way) = {
            let world = shared.world();
            let hooks = world.desk.hooks.values();
            (
                hooks.filter(|hook| hook.state == HookState::Queued).count(),
                world.under_way,
            )
        };
        // A duplicate is under way even when its webhook is delivered already.
        let idle = queued == 0 && under_way == 0;
        if idle || waited >= patience {
            return json!({"idle": idle, "queued": queued});
        }
        tokio::time::sleep(Duration::from_millis(STEP)).await;
        waited = waited.saturating_add(STEP);
    }
}
