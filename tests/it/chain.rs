//! The chain from bill to receipt in one process: the real use cases and connectors between in-memory ports, and whatever lives on
//! when a process dies: the shop posts again, the queue brings its message back, vendors repeat webhooks, the schedule runs.

use chatbill_domain::connector::{Channel, Gateways};
use chatbill_domain::flows::apply_webhook::{self, Askable, apply_webhook};
use chatbill_domain::flows::create_invoice::{self, create_invoice};
use chatbill_domain::flows::deliver::{self, Verdict, deliver};
use chatbill_domain::flows::reconcile::{self, Connectors, reconcile};
use chatbill_domain::order::Order;
use chatbill_domain::pace::Pace;
use chatbill_domain::ports::{Clock as _, Visibility as _};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::webhook::RawWebhook;
use chatbill_testkit::builders;
use chatbill_testkit::memory::{
    FixedClock, MemoryOrders, MemoryQueue, MemoryTenants, SeededRandom,
};
use chatbill_testkit::network::Network;

use crate::world::{World, read_gateway};

/// The whole chain with vendors, queue, store and schedule, on one line.
pub(crate) struct Chain {
    pub(crate) network: Network,
    pub(crate) clock: FixedClock,
    pub(crate) store: MemoryOrders,
    pub(crate) queue: MemoryQueue,
    tenants: MemoryTenants,
    pub(crate) world: World,
    random: SeededRandom,
    pace: Pace,
    tenant: Tenant,
    gateways: Gateways,
    channel: Box<dyn Channel>,
}

impl Chain {
    pub(crate) fn new() -> Self {
        let network = Network::new();
        let clock = FixedClock::at(builders::NOW);
        let tenant = builders::tenant();
        Self {
            store: MemoryOrders::on(&network),
            queue: MemoryQueue::on(&network, &clock),
            tenants: MemoryTenants::new([tenant.clone()]),
            world: World::on(&network, &clock),
            random: SeededRandom::new(1),
            pace: Pace::new(1),
            gateways: chatbill_gateways::open_all(&tenant).unwrap(),
            channel: chatbill_channels::open(&tenant).unwrap(),
            tenant,
            clock,
            network,
        }
    }

    /// The shop posts its bill until it is taken.
    pub(crate) async fn post(&self) {
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
                &self.gateways,
                builders::bill(),
                "pos:pos-1",
                "https://shop.example",
                None,
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
    pub(crate) async fn webhook(&self, source: &'static str, raw: RawWebhook) {
        for _ in 0..10 {
            let signals = match source {
                "razorpay" => read_gateway(self.gateways.current(), raw.clone()),
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
                gateways: &self.gateways,
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

    /// The queue hands out what it has.
    pub(crate) async fn send(&self) {
        while let Some(received) = self.queue.receive() {
            let deps = deliver::Deps {
                store: &self.store,
                http: &self.world,
                clock: &self.clock,
                random: &self.random,
                pace: &self.pace,
                draw: |_| None,
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
    }

    /// Meta reports what it delivered.
    pub(crate) async fn deliver_reports(&self) {
        for report in self.world.reports() {
            self.webhook("meta", report).await;
        }
    }

    /// The queue hands out what it has; Meta reports what it delivered.
    pub(crate) async fn work(&self) {
        self.send().await;
        self.deliver_reports().await;
    }

    pub(crate) async fn reconcile(&self) {
        let deps = reconcile::Deps {
            store: &self.store,
            queue: &self.queue,
            http: &self.world,
            clock: &self.clock,
            tenants: &self.tenants,
        };
        let open = |tenant: &Tenant| {
            Ok(Connectors {
                gateways: chatbill_gateways::open_all(tenant)?,
                channel: chatbill_channels::open(tenant)?,
            })
        };
        let until = self.clock.now().plus_seconds(250);
        let _ = reconcile(&deps, open, until).await;
        self.network.restore();
    }

    /// Time goes by; whatever is scheduled happens.
    pub(crate) async fn live(&self, minutes: i64) {
        for _ in 0..minutes {
            self.clock.advance(60);
            self.work().await;
            if self.clock.now().seconds() % 300 < 60 {
                self.reconcile().await;
            }
        }
    }

    pub(crate) fn order(&self) -> Order {
        self.store
            .order(&builders::key("acme", "BM345A-12"))
            .unwrap()
    }

    /// From the bill to the confirmed payment, and everything after that.
    pub(crate) async fn run(&self) {
        self.post().await;
        self.work().await;
        let paid = self.world.pay().expect("the customer has a link");
        self.webhook("razorpay", paid).await;
        self.work().await;
        self.reconcile().await;
        self.live(30).await;
    }
}
