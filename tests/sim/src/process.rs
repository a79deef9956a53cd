//! One running function: a use case that stops at every call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use chatbill_domain::connector::Gateway;
use chatbill_domain::contact::Msisdn;
use chatbill_domain::flows::apply_webhook::{self, Askable, apply_webhook};
use chatbill_domain::flows::change_order::{self, ResendRequest, resend, set_fulfilment};
use chatbill_domain::flows::create_invoice::{self, create_invoice};
use chatbill_domain::flows::deliver::{self, Verdict, deliver};
use chatbill_domain::flows::reconcile::{self, Connectors, reconcile};
use chatbill_domain::flows::refund::{self, RefundError};
use chatbill_domain::ids::{OrderKey, TenantId};
use chatbill_domain::message::Fulfilment;
use chatbill_domain::pace::Pace;
use chatbill_domain::ports::{Clock as _, DeliverTask, Visibility as _};
use chatbill_domain::refund::Ask;
use chatbill_domain::tenant::Tenant;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders;
use chatbill_testkit::memory::SeededRandom;

use crate::shop::Tenants;
use crate::vendors::ACME;
use crate::world::{Skewed, Stop, World};

/// What a process was started for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Job {
    Post(TenantId, Box<chatbill_domain::bill::Bill>),
    Hook(u32),
    Send {
        receipt: u64,
        task: DeliverTask,
        first: bool,
    },
    Cancel(OrderKey),
    Fulfil(OrderKey, Fulfilment),
    Resend(OrderKey, Option<Msisdn>),
    Refund(OrderKey, String, Ask),
    Settle(OrderKey, String, bool),
    Reconcile,
}

impl Job {
    /// How long it may run, milliseconds: the function's time-out in `template.yaml`.
    const fn patience(&self) -> i64 {
        match self {
            Self::Send { .. } => 60_000,
            Self::Reconcile => 300_000,
            _ => 29_000,
        }
    }

    /// Whose business it is; `reconcile` is everybody's.
    fn tenant(&self, hook: Option<&Arrived>) -> TenantId {
        match self {
            Self::Post(tenant, _) => tenant.clone(),
            Self::Hook(_) => builders::tenant_id(hook.map_or(ACME, |hook| hook.tenant)),
            Self::Send { task, .. } => task.tenant_id.clone(),
            Self::Cancel(key)
            | Self::Fulfil(key, _)
            | Self::Resend(key, _)
            | Self::Refund(key, ..)
            | Self::Settle(key, ..) => key.tenant.clone(),
            Self::Reconcile => builders::tenant_id(ACME),
        }
    }

    pub(crate) fn label(&self) -> String {
        match self {
            Self::Post(tenant, bill) => format!("post {} of {tenant}", bill.reference),
            Self::Hook(id) => format!("webhook {id}"),
            Self::Send { task, .. } => format!("send {} {}", task.reference_id, task.message),
            Self::Cancel(key) => format!("cancel {}", key.reference),
            Self::Fulfil(key, to) => format!("{} becomes {}", key.reference, to.as_str()),
            Self::Resend(key, _) => format!("resend {}", key.reference),
            Self::Refund(key, id, ask) => {
                format!("refund {id} of {}: {:?}", key.reference, ask.amount)
            }
            Self::Settle(key, payment, accept) => {
                format!("settle {payment} of {}: {accept}", key.reference)
            }
            Self::Reconcile => "reconcile".to_owned(),
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The caller was told that it is done.
    Done,
    /// The caller was told that it cannot be done, and asking again would not help.
    Refused(String),
    /// The caller was told to come again; the words are for the trace.
    Again(#[allow(dead_code, reason = "the trace prints it")] String),
}

pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) job: Job,
    pub(crate) stop: Option<Stop>,
    /// When it is ended from outside.
    pub(crate) ends: i64,
    future: Pin<Box<dyn Future<Output = End> + Send>>,
}

/// A webhook that has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) tenant: &'static str,
    pub(crate) source: &'static str,
    pub(crate) raw: RawWebhook,
}

/// What lives longer than a process.
#[derive(Debug, Clone)]
pub(crate) struct Around {
    pub(crate) world: World,
    pub(crate) tenants: Tenants,
    pub(crate) pace: Arc<Pace>,
    pub(crate) random: Arc<SeededRandom>,
}

impl Process {
    pub(crate) fn start(
        id: u32,
        around: &Around,
        job: Job,
        ahead: i64,
        hook: Option<Arrived>,
    ) -> Self {
        let now = around.world.with(|s| s.now);
        Self {
            id,
            stop: None,
            ends: now + job.patience(),
            future: Box::pin(run(around.clone(), job.clone(), ahead, hook)),
            job,
        }
    }

    /// Lets it go on to its next stop. What it meets there stands in the world.
    pub(crate) fn go_on(&mut self, world: &World) -> Option<End> {
        match self
            .future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(end) => Some(end),
            Poll::Pending => {
                self.stop = world.with(|s| s.stop.take());
                None
            }
        }
    }
}

async fn run(around: Around, job: Job, ahead: i64, hook: Option<Arrived>) -> End {
    let Around {
        world,
        tenants,
        pace,
        random,
    } = around;
    let Some(shop) = tenants.read(&job.tenant(hook.as_ref())) else {
        return End::Refused("there is no such tenant".to_owned());
    };
    let clock = Skewed {
        world: world.clone(),
        ahead,
    };
    let (store, queue, http, clock) = (&world, &world, &world, &clock);
    let ask = Askable {
        gateways: &shop.gateways,
        channel: shop.channel.as_ref(),
    };
    let orders = change_order::Deps {
        store,
        queue,
        http,
        clock,
    };
    let refunds = refund::Deps {
        store,
        queue,
        http,
        clock,
    };
    match job {
        Job::Post(_, bill) => {
            let deps = create_invoice::Deps {
                store,
                queue,
                http,
                clock,
            };
            match create_invoice(
                &deps,
                &shop.tenant,
                &shop.gateways,
                *bill,
                "pos:pos-1",
                "https://shop.example",
                None,
            )
            .await
            {
                Ok(_) => End::Done,
                Err(
                    error @ (create_invoice::CreateError::Conflict
                    | create_invoice::CreateError::Invalid(_)
                    | create_invoice::CreateError::Refused { .. }),
                ) => End::Refused(error.to_string()),
                Err(error) => End::Again(error.to_string()),
            }
        }
        Job::Hook(_) => {
            let Some(Arrived { source, raw, .. }) = hook else {
                return End::Refused("nothing came".to_owned());
            };
            let read = match source {
                // As pg-webhook does: whichever account of this gateway signed it.
                "razorpay" => {
                    let signed = |gateway: &&dyn Gateway| gateway.verify(raw.clone()).is_ok();
                    let current = shop.gateways.current();
                    let gateway = shop.gateways.named(source).find(signed).unwrap_or(current);
                    gateway.verify(raw).map(|w| gateway.read(&w))
                }
                _ => shop.channel.verify(raw).map(|w| shop.channel.read(&w)),
            };
            let signals = match read {
                Ok(Ok(signals)) => signals,
                Ok(Err(error)) => return End::Refused(error.to_string()),
                Err(error) => return End::Refused(error.to_string()),
            };
            let deps = apply_webhook::Deps {
                store,
                queue,
                http,
                clock,
            };
            match apply_webhook(&deps, &shop.tenant.id, source, signals, ask).await {
                Ok(()) => End::Done,
                Err(error) => End::Again(error.to_string()),
            }
        }
        Job::Send {
            receipt,
            task,
            first,
        } => {
            let deps = deliver::Deps {
                store,
                http,
                clock,
                random: random.as_ref(),
                pace: pace.as_ref(),
                draw: |_| None,
            };
            // As the function does: what cannot be stored comes again in half a minute.
            let seconds =
                match deliver(&deps, &shop.tenant, shop.channel.as_ref(), &task, first).await {
                    Ok(Verdict::Done) => return End::Done,
                    Ok(Verdict::Again(seconds)) => seconds,
                    Err(_) => 30,
                };
            let held = queue.postpone(&receipt.to_string(), seconds).await;
            End::Again(format!("in {seconds} s: {held:?}"))
        }
        Job::Cancel(key) => changed(
            set_fulfilment(&orders, ask, &key, Fulfilment::Canceled, None, "pos:pos-1").await,
        ),
        Job::Fulfil(key, to) => {
            changed(set_fulfilment(&orders, ask, &key, to, None, "pos:pos-1").await)
        }
        Job::Resend(key, to) => {
            let request = ResendRequest {
                to,
                idempotency_key: None,
            };
            changed(resend(&orders, &key, &request, "pos:pos-1").await)
        }
        Job::Refund(key, id, wanted) => refunded(
            refund::refund(&refunds, ask, &key, Some(&id), wanted, "pos:pos-1")
                .await
                .map(|_| ()),
        ),
        Job::Settle(key, payment, accept) => refunded(
            refund::settle(&refunds, &key, &payment, accept, "pos:pos-1")
                .await
                .map(|_| ()),
        ),
        Job::Reconcile => {
            let tenants = &tenants.documents;
            let deps = reconcile::Deps {
                store,
                queue,
                http,
                clock,
                tenants,
            };
            let open = |tenant: &Tenant| {
                Ok(Connectors {
                    gateways: chatbill_gateways::open_all(tenant)?,
                    channel: chatbill_channels::open(tenant)?,
                })
            };
            match reconcile(&deps, open, clock.now().plus_seconds(250)).await {
                Ok(_) => End::Done,
                Err(error) => End::Again(error.to_string()),
            }
        }
    }
}

fn changed<T>(result: Result<T, change_order::ChangeError>) -> End {
    use change_order::ChangeError::{Illegal, NotFound, Refused};
    match result {
        Ok(_) => End::Done,
        Err(error @ (NotFound | Illegal(_) | Refused { .. })) => End::Refused(error.to_string()),
        Err(error) => End::Again(error.to_string()),
    }
}

fn refunded(result: Result<(), RefundError>) -> End {
    match result {
        Ok(()) => End::Done,
        Err(
            error @ (RefundError::Store(_) | RefundError::Queue(_) | RefundError::Unanswered(_)),
        ) => End::Again(error.to_string()),
        Err(error) => End::Refused(error.to_string()),
    }
}
