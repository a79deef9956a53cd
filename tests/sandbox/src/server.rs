//! The HTTP server: records every call, lets planned faults happen, and hands the rest to the vendor.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{Request, Response};
use axum::serve::{IncomingStream, Listener};
use axum::{Router, extract::State};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::control;
use crate::desk::{Desk, Settings};
use crate::faults::{Fault, FaultKind};
use crate::http::{Answer, Call};
use crate::sender::{self, Lanes};
use crate::vendors::{self, Vendor};

/// How long a caller waits in vain where the fault does not say: longer than any Lambda function runs for an API call.
const SILENCE: Duration = Duration::from_secs(60);

/// How often what is due by the clock is done without being asked.
const TICK: Duration = Duration::from_millis(500);

/// One call, as the control API shows it.
#[derive(Debug)]
pub(crate) struct Received {
    /// The vendor.
    pub(crate) vendor: &'static str,
    /// The operation.
    pub(crate) operation: &'static str,
    /// The order it was about.
    pub(crate) reference_id: Option<String>,
    /// Everything, for showing.
    pub(crate) record: Value,
}

/// Everything that changes.
pub(crate) struct World {
    /// What the vendors share.
    pub(crate) desk: Desk,
    /// The vendors.
    pub(crate) vendors: Vec<Box<dyn Vendor>>,
    /// Every call.
    pub(crate) received: Vec<Received>,
    /// Where webhooks queue.
    pub(crate) lanes: Lanes,
    /// First attempts that are under way.
    pub(crate) under_way: usize,
    /// Counts resets, so that what was under way before one does not touch what came after.
    pub(crate) epoch: u64,
}

impl World {
    /// Does what is due, in every vendor.
    pub(crate) fn tick(&mut self) {
        for vendor in &mut self.vendors {
            vendor.tick(&mut self.desk);
        }
    }

    /// Tells the vendors what happened at the others.
    pub(crate) fn mirror(&mut self) {
        for mirror in std::mem::take(&mut self.desk.mirrors) {
            for vendor in &mut self.vendors {
                vendor.mirror(&mirror, &mut self.desk);
            }
        }
    }

    /// Forgets everything, accounts too; settings stay if asked.
    pub(crate) fn reset(&mut self, keep: Option<Settings>) {
        self.desk.reset();
        if let Some(settings) = keep {
            self.desk.settings = settings;
        }
        self.vendors = vendors::all();
        self.received.clear();
        self.lanes.clear();
        self.under_way = 0;
        self.epoch = self.epoch.saturating_add(1);
    }
}

/// The world and what sends webhooks out of it.
pub(crate) struct Shared {
    world: Mutex<World>,
    /// The HTTP client.
    pub(crate) client: reqwest::Client,
}

impl Shared {
    /// The world, locked; nothing awaits while it is.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sandbox in this process. It ends when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Sandbox {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener));
        Ok(Self { address, task })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves on a bound listener for ever.
///
/// # Errors
/// If the listener has no address or the HTTP client for webhooks cannot be made.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        world: Mutex::new(World {
            desk: Desk::new(format!("http://{address}")),
            vendors: vendors::all(),
            received: Vec::new(),
            lanes: Lanes::new(),
            under_way: 0,
            epoch: 0,
        }),
        client: sender::client().map_err(io::Error::other)?,
    });
    let ticking = Arc::clone(&shared);
    let ticker = async move {
        loop {
            tokio::time::sleep(TICK).await;
            ticking.world().tick();
            sender::dispatch(&ticking);
        }
    };
    let router = Router::new().fallback(entry).with_state(shared);
    let serving = axum::serve(
        CuttableListener(listener),
        router.into_make_service_with_connect_info::<Cut>(),
    )
    .into_future();
    // Together, so that both end when this is dropped.
    tokio::select! {
        served = serving => served,
        () = ticker => Ok(()),
    }
}

async fn entry(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request<Body>,
) -> Response<Body> {
    let Ok((first, call)) = Call::read(request).await else {
        return Answer::control_error(413, "too_large", "the body could not be read")
            .into_response();
    };
    let answer = if first == "_control" {
        Some(control::answer(&shared, &call).await)
    } else {
        vendor_call(&shared, &first, call).await
    };
    sender::dispatch(&shared);
    match answer {
        Some(answer) => answer.into_response(),
        None => {
            cut.0.store(true, Ordering::Release);
            Response::new(Body::empty())
        }
    }
}

/// A vendor's answer; `None` cuts the connection.
async fn vendor_call(shared: &Arc<Shared>, name: &str, call: Call) -> Option<Answer> {
    let (at, number, epoch, fault) = {
        let mut world = shared.world();
        world.tick();
        let world = &mut *world;
        let Some(at) = world
            .vendors
            .iter()
            .position(|vendor| vendor.name() == name)
        else {
            return Some(Answer::control_error(
                404,
                "unknown_vendor",
                format!("no vendor has the path prefix /{name}"),
            ));
        };
        let vendor = world.vendors.get(at)?;
        let operation = vendor.operation(&call);
        let fault = world.desk.take_call_fault(vendor.name(), operation, &call);
        let number = world.received.len();
        let record = json!({
            "n": number,
            "at": world.desk.now(),
            "vendor": vendor.name(),
            "operation": operation,
            "method": call.method,
            "path": call.path,
            "query": call.query.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<serde_json::Map<_, _>>(),
            "headers": call.headers_for_record(),
            "body": call.body_for_record(),
            "fault": fault.as_ref().map(|fault| fault.kind),
            "status": null,
        });
        world.received.push(Received {
            vendor: vendor.name(),
            operation,
            reference_id: find_reference(&call),
            record,
        });
        (at, number, world.epoch, fault)
    };
    let place = Place { at, number, epoch };
    let Some(fault) = fault else {
        let answer = process(shared, place, &call, None);
        return finish(shared, number, epoch, answer);
    };
    let delay = fault.delay_ms.map(Duration::from_millis);
    let answer = match fault.kind {
        FaultKind::Status => Some(planned_answer(shared, at, &fault)),
        FaultKind::StatusAfter => {
            process(shared, place, &call, None);
            Some(planned_answer(shared, at, &fault))
        }
        FaultKind::Delay => {
            // On its own: the vendor goes on working when its caller has given up.
            let shared = Arc::clone(shared);
            let later = tokio::spawn(async move {
                tokio::time::sleep(delay.unwrap_or(Duration::from_secs(1))).await;
                let answer = process(&shared, place, &call, None);
                sender::dispatch(&shared);
                answer
            });
            later.await.unwrap_or_default()
        }
        FaultKind::AsyncError => {
            let mut error = fault.body.clone().unwrap_or_else(|| json!({}));
            if let (Some(error), Some(code)) = (error.as_object_mut(), fault.code) {
                error.insert("code".to_owned(), code.into());
            }
            process(shared, place, &call, Some(error))
        }
        FaultKind::Reset => None,
        FaultKind::ResetAfter => {
            process(shared, place, &call, None);
            None
        }
        FaultKind::TimeoutBefore => {
            tokio::time::sleep(delay.unwrap_or(SILENCE)).await;
            None
        }
        FaultKind::TimeoutAfter => {
            process(shared, place, &call, None);
            sender::dispatch(shared);
            tokio::time::sleep(delay.unwrap_or(SILENCE)).await;
            None
        }
        // These are taken by webhooks only.
        FaultKind::DropWebhook | FaultKind::DuplicateWebhook | FaultKind::HoldWebhooks => {
            process(shared, place, &call, None)
        }
    };
    finish(shared, number, epoch, answer)
}

/// Where a call belongs: its vendor, its record, and the reset it came after.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    number: usize,
    epoch: u64,
}

/// Lets the vendor do what it was asked.
fn process(
    shared: &Arc<Shared>,
    place: Place,
    call: &Call,
    async_error: Option<Value>,
) -> Option<Answer> {
    let mut world = shared.world();
    if world.epoch != place.epoch {
        return None;
    }
    let world = &mut *world;
    world.desk.next_async_error = async_error;
    let vendor = world.vendors.get_mut(place.at)?;
    let answer = vendor.answer(call, &mut world.desk);
    world.desk.next_async_error = None;
    world.mirror();
    warn_about_links(world, place.number);
    Some(answer)
}

/// Notes the answer on the record of the call.
fn finish(
    shared: &Arc<Shared>,
    number: usize,
    epoch: u64,
    answer: Option<Answer>,
) -> Option<Answer> {
    let mut world = shared.world();
    if world.epoch == epoch
        && let (Some(received), Some(answer)) = (world.received.get_mut(number), &answer)
    {
        if answer.reference_id.is_some() {
            received.reference_id.clone_from(&answer.reference_id);
        }
        if let Some(record) = received.record.as_object_mut() {
            record.insert("status".to_owned(), answer.status.into());
            record.insert("answer".to_owned(), answer.body_for_record());
            record.insert("account".to_owned(), answer.account.clone().into());
            record.insert(
                "reference_id".to_owned(),
                received.reference_id.clone().into(),
            );
        }
    }
    answer
}

fn planned_answer(shared: &Arc<Shared>, at: usize, fault: &Fault) -> Answer {
    let mut world = shared.world();
    let world = &mut *world;
    let status = fault.status.unwrap_or(500);
    let body = match &fault.body {
        Some(body) => body.clone(),
        None => world.vendors.get(at).map_or(Value::Null, |vendor| {
            vendor.error(status, fault.code, &mut world.desk)
        }),
    };
    let mut answer = Answer::json(status, &body);
    if let Value::String(text) = body {
        answer.body = text.into_bytes();
    }
    answer.headers = fault
        .headers
        .iter()
        .map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), value)
        })
        .collect();
    answer
}

/// The order a call is about, where it says so itself.
fn find_reference(call: &Call) -> Option<String> {
    fn inside(value: &Value) -> Option<&str> {
        match value {
            Value::Object(map) => map
                .get("reference_id")
                .and_then(Value::as_str)
                .or_else(|| map.values().find_map(inside)),
            Value::Array(items) => items.iter().find_map(inside),
            _ => None,
        }
    }
    call.param("reference_id")
        .map(str::to_owned)
        .or_else(|| call.json().as_ref().and_then(inside).map(str::to_owned))
        .or_else(|| {
            // A form may carry JSON as text.
            call.form()?.iter().find_map(|(_, value)| {
                let value: Value = serde_json::from_str(value).ok()?;
                inside(&value).map(str::to_owned)
            })
        })
}

/// Compares a payment link inside a message with the gateway that issued it.
///
/// Meta, "Payment links": reference, amount and expiry must match the gateway's. Meta cannot check that, so it is not
/// refused; it stands on the record for tests to look at.
fn warn_about_links(world: &mut World, number: usize) {
    fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
        match value {
            Value::Object(map) => map
                .get(key)
                .or_else(|| map.values().find_map(|inner| find(inner, key))),
            Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
            _ => None,
        }
    }
    let Some(received) = world.received.get_mut(number) else {
        return;
    };
    let Some(body) = received.record.get("body") else {
        return;
    };
    let Some(uri) = find(body, "payment_link")
        .and_then(|link| link.get("uri"))
        .and_then(Value::as_str)
    else {
        return;
    };
    let Some((reference_id, amount, expire_by)) = world
        .vendors
        .iter()
        .find_map(|vendor| vendor.link_facts(uri))
    else {
        return;
    };
    let mut warnings = Vec::new();
    if received.reference_id.as_deref() != Some(&reference_id) {
        warnings.push(format!("the link's reference is {reference_id:?}"));
    }
    let total = find(body, "total_amount").and_then(|total| total.get("value"));
    if total.and_then(Value::as_i64) != Some(amount) {
        warnings.push(format!("the link's amount is {amount}"));
    }
    let expiration = find(body, "expiration")
        .and_then(|expiration| expiration.get("timestamp"))
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<i64>().ok());
    if expiration.unwrap_or(0) != expire_by {
        warnings.push(format!("the link's expiry is {expire_by}"));
    }
    if !warnings.is_empty()
        && let Some(record) = received.record.as_object_mut()
    {
        record.insert("warnings".to_owned(), warnings.into());
    }
}

/// Set when the connection is to be cut before anything is written.
#[derive(Debug, Clone)]
struct Cut(Arc<AtomicBool>);

#[derive(Debug)]
struct CuttableListener(TcpListener);

#[derive(Debug)]
struct CuttableStream {
    stream: TcpStream,
    cut: Cut,
}

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Small answers wait for the peer's acknowledgement otherwise.
        let _ = stream.set_nodelay(true);
        let cut = Cut(Arc::new(AtomicBool::new(false)));
        (CuttableStream { stream, cut }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        stream.io().cut.clone()
    }
}

impl CuttableStream {
    fn check(&self) -> io::Result<()> {
        if self.cut.0.load(Ordering::Acquire) {
            // With this the peer sees a reset and not an orderly end.
            let _ = self.stream.set_zero_linger();
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
