//! The chain survives a death at any point.
//!
//! A bill goes out, is paid and confirmed. First it is run undisturbed to learn how many round trips that takes. Then it is run once for
//! each of them and for both ways it can break (the request never arrives; it does, and the answer is lost): from there on nothing gets
//! through, the process is dead, and everything that lives on does its part: the shop posts again, the queue brings its
//! message back, the gateway repeats its webhook, `reconcile` runs on its schedule.

use chatbill_domain::message::MessageKey;
use chatbill_domain::order::{MessageStatus, PaymentStatus};
use chatbill_testkit::network::Break;

use crate::chain::Chain;

fn check(chain: &Chain, what: &str) {
    let order = chain.order();
    assert_eq!(order.payment_status(), PaymentStatus::Captured, "{what}");
    assert_eq!(chain.world.links_made(), 1, "{what}: one link");
    assert!(order.holds.is_empty(), "{what}");
    let status = |key| order.message(&key).unwrap().status;
    assert_eq!(status(MessageKey::Paid), MessageStatus::Delivered, "{what}");
    // A bill that was still waiting when it was paid is not sent any more, and the confirmation stands alone.
    let bill = status(MessageKey::Invoice(1));
    let with_bill = match bill {
        MessageStatus::Delivered => 1,
        MessageStatus::Skipped => 0,
        other => panic!("{what}: the bill is {other:?}"),
    };
    let seen = chain.world.accepted();
    for (kind, times) in [
        ("order_details", with_bill),
        ("order_status", with_bill),
        ("text", 1 - with_bill),
    ] {
        let count = seen.iter().filter(|m| m.kind == kind).count();
        assert_eq!(
            count, times,
            "{what}: {kind} reached the customer {count} times"
        );
    }
    let mut orders = seen.iter().filter(|m| m.kind != "text");
    assert!(orders.all(|m| m.reference == "BM345A-12"), "{what}");
    assert!(
        chain.queue.waiting().is_empty(),
        "{what}: nothing is left on the queue"
    );
    assert_eq!(order.due, None, "{what}: nothing is outstanding");
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
    check(&undisturbed, "undisturbed");
    let trips = undisturbed.network.round_trips();
    assert!(trips.len() >= 12, "{trips:?}");
    for (trip, name) in trips.iter().enumerate() {
        for how in [Break::Request, Break::Answer] {
            let chain = Chain::new();
            chain.network.crash_at(trip, how);
            chain.run().await;
            check(
                &chain,
                &format!(
                    "dead at {trip} ({name}), {how:?} lost; {:?}",
                    chain.network.round_trips()
                ),
            );
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
    check(&chain, "lost webhook");
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
