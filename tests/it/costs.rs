//! What one bill costs in round trips and write units, counted on the real use cases. The figures in docs/architecture.md come from here.

use chatbill_testkit::memory::Write;

use crate::chain::Chain;

#[derive(Debug, PartialEq, Eq)]
struct Cost {
    trips: usize,
    writes: usize,
    units: usize,
    largest: usize,
}

struct Meter<'a> {
    chain: &'a Chain,
    trips: usize,
    writes: usize,
}

impl<'a> Meter<'a> {
    fn on(chain: &'a Chain) -> Self {
        Self {
            chain,
            trips: 0,
            writes: 0,
        }
    }

    /// What happened since the last reading.
    fn read(&mut self, what: &str) -> Cost {
        let trips = self.chain.network.round_trips();
        let writes = self.chain.store.writes();
        let new: Vec<&Write> = writes.iter().skip(self.writes).collect();
        let cost = Cost {
            trips: trips.len() - self.trips,
            writes: new.len(),
            units: new.iter().map(|w| w.units).sum(),
            largest: new.iter().map(|w| w.bytes).max().unwrap_or(0),
        };
        println!(
            "{what:<34} {:>2} round trips, {} writes, {} write units, item up to {} bytes: {:?}",
            cost.trips,
            cost.writes,
            cost.units,
            cost.largest,
            &trips[self.trips..]
        );
        (self.trips, self.writes) = (trips.len(), writes.len());
        cost
    }
}

#[tokio::test]
async fn a_bill_costs_what_the_budget_allows() {
    let chain = Chain::new();
    let mut meter = Meter::on(&chain);

    chain.post().await;
    let create = meter.read("create-invoice (link)");
    assert_eq!(
        (create.trips, create.writes),
        (4, 2),
        "store, link, record, queue"
    );

    chain.send().await;
    let send = meter.read("send-status (invoice)");
    assert_eq!((send.trips, send.writes), (3, 2), "claim, send, record");

    chain.deliver_reports().await;
    let report = meter.read("pg-webhook (delivery report)");
    assert_eq!((report.trips, report.writes), (1, 1));

    let paid = chain.world.pay().unwrap();
    chain.webhook("razorpay", paid).await;
    let webhook = meter.read("pg-webhook (payment)");
    assert_eq!((webhook.trips, webhook.writes), (2, 1), "store and queue");

    chain.send().await;
    let send = meter.read("send-status (paid)");
    assert_eq!((send.trips, send.writes), (3, 2), "claim, send, record");

    chain.deliver_reports().await;
    let report = meter.read("pg-webhook (last delivery report)");
    assert_eq!(
        (report.trips, report.writes),
        (2, 2),
        "the order leaves the due index"
    );

    let all = chain.store.writes();
    let units: usize = all.iter().map(|w| w.units).sum();
    let bytes = all.last().unwrap().bytes;
    println!(
        "{:<34} {} writes, {units} write units, item of {bytes} bytes in the end",
        "one bill, paid and confirmed",
        all.len()
    );
    assert!(
        units <= 30,
        "a bill has become more expensive: {units} write units"
    );
    assert!(bytes <= 2048, "the item has grown: {bytes} bytes");
}
