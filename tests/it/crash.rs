//! The chain survives a death at any point.
//!
//! A bill goes out, is paid and confirmed. First it is run undisturbed to learn how many round trips that takes. Then it is run once for
//! each of them and for both ways it can break (the request never arrives; it does, and the answer is lost): from there on nothing gets
//! through, the process is dead, and everything that lives on does its part: the shop posts again, the queue brings its
//! message back, the gateway repeats its webhook, `reconcile` runs on its schedule.

use chatbill_domain::connector::{Channel, Gateway};
use chatbill_domain::flows::apply_webhook::{self, Askable, apply_webhook};
use chatbill_domain::flows::create_invoice::{self, create_invoice};
use chatbill_domain::flows::deliver::{self, Verdict, deliver};
use chatbill_domain::flows::reconcile::{self, Connectors, reconcile};
use chatbill_domain::message::MessageKey;
use chatbill_domain::order::{MessageStatus, Order, PaymentStatus};
use chatbill_domain::ports::{Clock as _, Visibility as _};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemoryTenants, SeededRandom,
};
use chatbill_testkit::network::{Break, Network};

use crate::world::{World, read_gateway};

struct Chain {
    network: Network,
    clock: FixedClock,
    store: MemoryOrders,
    queue: MemoryQueue,
    tenants: MemoryTenants,
    world: World,
    random: SeededRandom,
    tenant: Tenant,
    gateway: Box<dyn Gateway>,
    channel: Box<dyn Channel>,
}

impl Chain {
    fn new() -> Self {
        let network = Network::new();
        let clock = FixedClock::at(builders::NOW);
        let tenant = builders::tenant();
        Self {
            store: MemoryOrders::on(&network),
            queue: MemoryQueue::on(&network, &clock),
            tenants: MemoryTenants::new([tenant.clone()]),
            world: World::on(&network, &clock),
            random: SeededRandom::new(1),
            gateway: chatbill_gateways::open(&tenant).unwrap(),
            channel: chatbill_channels::open(&tenant).unwrap(),
            tenant,
            clock,
            network,
        }
    }

    /// The shop posts its bill until it is taken.
    async fn post(&self) {
        for _ in 0..10 {
            let deps = create_invoice::Deps {
                store: &self.store,
                queue: &self.queue,
                http: &self.world,
                clock: &self.clock,
            };
            let posted = create_invoice(
                &deps,
                &self.tenant,
                self.gateway.as_ref(),
                builders::bill(),
                "pos:pos-1",
                "https://shop.example",
            )
            .await;
            if posted.is_ok() {
                return;
            }
            self.revive(5);
        }
        panic!("the bill was never taken");
    }

    /// The dead process is replaced, some seconds later.
    fn revive(&self, seconds: i64) {
        self.network.restore();
        self.clock.advance(seconds);
    }

    /// A vendor sends its webhook until it is acknowledged.
    async fn webhook(&self, source: &'static str, raw: RawWebhook) {
        for _ in 0..10 {
            let signals = match source {
                "razorpay" => read_gateway(self.gateway.as_ref(), raw.clone()),
                _ => self
                    .channel
                    .read(&self.channel.verify(raw.clone()).unwrap())
                    .unwrap(),
            };
            let deps = apply_webhook::Deps {
                store: &self.store,
                queue: &self.queue,
                http: &self.world,
                clock: &self.clock,
            };
            let ask = Askable {
                gateway: self.gateway.as_ref(),
                channel: self.channel.as_ref(),
            };
            if apply_webhook(&deps, &self.tenant.id, source, signals, ask)
                .await
                .is_ok()
            {
                return;
            }
            self.revive(10);
        }
        panic!("the webhook was never acknowledged");
    }

    /// The queue hands out what it has; Meta reports what it delivered.
    async fn work(&self) {
        while let Some(received) = self.queue.receive() {
            let deps = deliver::Deps {
                store: &self.store,
                http: &self.world,
                clock: &self.clock,
                random: &self.random,
            };
            let first = received.count == 1;
            let verdict = deliver(
                &deps,
                &self.tenant,
                self.channel.as_ref(),
                &received.task,
                first,
            )
            .await;
            match verdict {
                Ok(Verdict::Done) => self.queue.delete(&received.receipt),
                Ok(Verdict::Again(seconds)) => {
                    // A dead process does not get this far either; then the visibility time-out brings the message back.
                    let _ = self.queue.postpone(&received.receipt, seconds).await;
                    self.network.restore();
                }
                Err(_) => self.network.restore(),
            }
        }
        self.network.restore();
        for report in self.world.reports() {
            self.webhook("meta", report).await;
        }
    }

    async fn reconcile(&self) {
        let deps = reconcile::Deps {
            store: &self.store,
            queue: &self.queue,
            http: &self.world,
            clock: &self.clock,
            tenants: &self.tenants,
        };
        let open = |tenant: &Tenant| {
            Ok(Connectors {
                gateway: chatbill_gateways::open(tenant)?,
                channel: chatbill_channels::open(tenant)?,
            })
        };
        let until = self.clock.now().plus_seconds(250);
        let _ = reconcile(&deps, open, until).await;
        self.network.restore();
    }

    /// Time goes by; whatever is scheduled happens.
    async fn live(&self, minutes: i64) {
        for _ in 0..minutes {
            self.clock.advance(60);
            self.work().await;
            if self.clock.now().seconds() % 300 < 60 {
                self.reconcile().await;
            }
        }
    }

    fn order(&self) -> Order {
        self.store
            .order(&builders::key("acme", "BM345A-12"))
            .unwrap()
    }

    /// From the bill to the confirmed payment, and everything after that.
    async fn run(&self) {
        self.post().await;
        self.work().await;
        let paid = self.world.pay().expect("the customer has a link");
        self.webhook("razorpay", paid).await;
        self.work().await;
        self.reconcile().await;
        self.live(30).await;
    }

    fn check(&self, what: &str) {
        let order = self.order();
        assert_eq!(order.payment_status(), PaymentStatus::Captured, "{what}");
        assert_eq!(self.world.links_made(), 1, "{what}: one link");
        assert!(order.holds.is_empty(), "{what}");
        for key in [MessageKey::Invoice(1), MessageKey::Paid] {
            let message = order.message(&key).unwrap();
            assert_eq!(message.status, MessageStatus::Delivered, "{what}: {key}");
        }
        let seen = self.world.accepted();
        for kind in ["order_details", "order_status"] {
            let count = seen.iter().filter(|m| m.kind == kind).count();
            assert_eq!(
                count, 1,
                "{what}: {kind} reached the customer {count} times"
            );
        }
        assert!(seen.iter().all(|m| m.reference == "BM345A-12"), "{what}");
        assert!(
            self.queue.waiting().is_empty(),
            "{what}: nothing is left on the queue"
        );
        assert_eq!(order.due, None, "{what}: nothing is outstanding");
    }
}

#[tokio::test]
async fn the_undisturbed_chain_makes_the_round_trips_it_promises() {
    let chain = Chain::new();
    chain.post().await;
    assert_eq!(
        chain.network.round_trips(),
        [
            "store.create",
            "razorpay.create_link",
            "store.append",
            "queue.send"
        ]
    );
    chain.network.reset();
    chain.work().await;
    // The last one is Meta's delivery report.
    assert_eq!(
        chain.network.round_trips(),
        [
            "store.append",
            "meta.send_message",
            "store.append",
            "store.append"
        ]
    );
    chain.network.reset();
    chain.webhook("razorpay", chain.world.pay().unwrap()).await;
    assert_eq!(chain.network.round_trips(), ["store.append", "queue.send"]);
}

#[tokio::test]
async fn a_death_at_any_point_loses_nothing_and_repeats_nothing() {
    let undisturbed = Chain::new();
    undisturbed.run().await;
    undisturbed.check("undisturbed");
    let trips = undisturbed.network.round_trips();
    assert!(trips.len() >= 12, "{trips:?}");
    for (trip, name) in trips.iter().enumerate() {
        for how in [Break::Request, Break::Answer] {
            let chain = Chain::new();
            chain.network.crash_at(trip, how);
            chain.run().await;
            chain.check(&format!(
                "dead at {trip} ({name}), {how:?} lost; {:?}",
                chain.network.round_trips()
            ));
        }
    }
}

#[tokio::test]
async fn a_webhook_that_never_comes_is_found_by_asking() {
    let chain = Chain::new();
    chain.post().await;
    chain.work().await;
    chain.world.pay().unwrap();
    chain.live(15).await;
    chain.check("lost webhook");
}

#[tokio::test]
async fn a_bill_nobody_pays_expires_and_nothing_stays_due_for_ever() {
    let chain = Chain::new();
    chain.post().await;
    chain.live(60).await;
    assert_eq!(chain.order().payment_status(), PaymentStatus::Expired);
    chain.live(6 * 24 * 60).await;
    assert_eq!(chain.order().due, None);
}
