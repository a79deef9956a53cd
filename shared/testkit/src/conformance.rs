//! What every order store must do. Runs on an empty store and on one with other data in it: each run uses names of its own.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use chatbill_domain::connector::Wish;
use chatbill_domain::contact::Msisdn;
use chatbill_domain::event::{Event, Once, Recorded};
use chatbill_domain::ids::{OrderKey, UserId};
use chatbill_domain::message::{Fulfilment, MessageKey};
use chatbill_domain::order::{Draft, Order, PaymentStatus};
use chatbill_domain::payment::AttemptStatus;
use chatbill_domain::ports::{
    Append, Appended, Contact, Contacts, Created, DAY_SHARDS, DayIndex, Due, HiddenContact, Leases,
    Links, OrderStore, due_shard,
};
use chatbill_domain::time::{Day, Millis};
use chatbill_domain::token::ShortCode;
use secrecy::SecretString;
use serde_json::json;

use crate::builders::{NOW, bill_with, captured, draft, reference, report, tenant_id};

/// Runs the suite for what lies beside the orders: customers' windows and wishes, and short links.
pub async fn contacts_and_links<S: Contacts + Links>(store: &S) {
    let run = Run::new();
    a_window_only_grows(store, &run).await;
    the_latest_wish_counts(store, &run).await;
    a_hidden_customer_is_found_again(store, &run).await;
    a_short_link_leads_to_its_order(store, &run).await;
}

async fn a_window_only_grows<S: Contacts>(store: &S, run: &Run) {
    let (mine, other) = (run.contact("acme", 1), run.contact("bina", 1));
    assert_eq!(store.window(&mine).await.unwrap(), None);
    for (until, known) in [(10, 10), (30, 30), (20, 30), (30, 30)] {
        store
            .open_window(&mine, NOW.plus_seconds(until))
            .await
            .unwrap();
        let window = store.window(&mine).await.unwrap();
        assert_eq!(window, Some(NOW.plus_seconds(known)), "after {until}");
    }
    assert_eq!(store.window(&other).await.unwrap(), None, "another shop's");
}

async fn the_latest_wish_counts<S: Contacts>(store: &S, run: &Run) {
    let (mine, other) = (run.contact("acme", 2), run.contact("bina", 2));
    // Each look is an hour after the last, so that no cache answers.
    let mut later = NOW;
    for (wish, at, out) in [
        (None, 0, false),
        (Some(Wish::OptOut), 10, true),
        (Some(Wish::OptIn), 5, true),
        (Some(Wish::OptIn), 20, false),
        (Some(Wish::OptOut), 20, false),
        (Some(Wish::OptOut), 30, true),
    ] {
        if let Some(wish) = wish {
            store.wish(&mine, wish, NOW.plus_seconds(at)).await.unwrap();
        }
        later = later.plus_seconds(3600);
        let opted_out = store.opted_out(&mine, later).await.unwrap();
        assert_eq!(opted_out, out, "after {wish:?} at {at}");
        assert!(
            !store.opted_out(&other, later).await.unwrap(),
            "another shop's"
        );
        let neighbour = run.contact("acme", 3);
        assert!(!store.opted_out(&neighbour, later).await.unwrap());
    }
}

async fn a_hidden_customer_is_found_again<S: Contacts>(store: &S, run: &Run) {
    let hidden = |tenant: &str| HiddenContact {
        tenant: run.contact(tenant, 4).tenant,
        user: UserId::parse(format!(
            "IN.{}4",
            run.0.replace(|c: char| !c.is_ascii_alphanumeric(), "")
        ))
        .unwrap(),
    };
    let (mine, other) = (hidden("acme"), hidden("bina"));
    let phone = run.contact("acme", 4).phone;
    assert_eq!(store.whose(&mine).await.unwrap(), None);
    // A wish that nobody can place waits under the id, the latest one.
    for (wish, at) in [(Wish::OptOut, 10), (Wish::OptIn, 5)] {
        let known = store.hidden_wish(&mine, wish, NOW.plus_seconds(at)).await;
        assert_eq!(known.unwrap(), None);
    }
    for _ in 0..2 {
        assert_eq!(
            store.meet(&mine, &phone).await.unwrap(),
            Some((Wish::OptOut, NOW.plus_seconds(10)))
        );
        assert_eq!(store.whose(&mine).await.unwrap().as_ref(), Some(&phone));
    }
    let known = store
        .hidden_wish(&mine, Wish::OptIn, NOW.plus_seconds(20))
        .await;
    assert_eq!(known.unwrap().as_ref(), Some(&phone));
    let another = run.contact("acme", 5).phone;
    store.meet(&mine, &another).await.unwrap();
    assert_eq!(store.whose(&mine).await.unwrap().as_ref(), Some(&another));
    assert_eq!(store.whose(&other).await.unwrap(), None, "another shop's");
    assert_eq!(store.meet(&other, &phone).await.unwrap(), None);
}

async fn a_short_link_leads_to_its_order<S: Links>(store: &S, run: &Run) {
    let (key, secret) = (run.key("short"), SecretString::from(run.0.clone()));
    let code = ShortCode::issue(&key, &secret);
    assert_eq!(store.follow(&code).await.unwrap(), None);
    for _ in 0..2 {
        store.shorten(&code, &key).await.unwrap();
        assert_eq!(store.follow(&code).await.unwrap(), Some(key.clone()));
    }
    let other = ShortCode::issue(&run.key("other"), &secret);
    assert_eq!(store.follow(&other).await.unwrap(), None);
}

/// Runs the suite.
pub async fn order_store<S: OrderStore>(store: &S) {
    let run = Run::new();
    an_order_is_created_once(store, &run).await;
    tenants_do_not_see_each_other(store, &run).await;
    facts_are_added_once(store, &run).await;
    a_write_on_old_knowledge_is_refused(store, &run).await;
    nothing_is_added_to_nothing(store, &run).await;
    concurrent_facts_are_all_kept(store, &run).await;
    one_of_many_equal_facts_is_kept(store, &run).await;
    one_of_many_creations_is_the_first(store, &run).await;
    parked_hints_wait_for_their_order(store, &run).await;
    parking_beside_an_order_adds_to_it(store, &run).await;
    an_alias_is_nobody_else_s(store, &run).await;
    due_orders_are_found_in_their_shard(store, &run).await;
    any_text_and_a_large_bill_come_back(store, &run).await;
}

/// Runs the suite for leases.
pub async fn leases<S: Leases>(store: &S) {
    let run = Run::new();
    let name = format!("lease-{}", run.0);
    let (now, until) = (NOW, NOW.plus_seconds(275));
    assert!(store.take(&name, "a", now, until).await.unwrap());
    // Nobody else has it meanwhile; its holder may go on.
    assert!(!store.take(&name, "b", now, until).await.unwrap());
    let later = until.plus_seconds(-1);
    assert!(
        !store
            .take(&name, "b", later, later.plus_seconds(275))
            .await
            .unwrap()
    );
    assert!(store.take(&name, "a", now, until).await.unwrap());
    // Another one is another one.
    let other = format!("{name}-2");
    assert!(store.take(&other, "b", now, until).await.unwrap());
    // Given back by somebody who does not have it, it stays; by its holder, it is free at once.
    store.give_back(&name, "b").await.unwrap();
    assert!(!store.take(&name, "b", now, until).await.unwrap());
    store.give_back(&name, "a").await.unwrap();
    assert!(store.take(&name, "b", now, until).await.unwrap());
    // After a crash nobody gives it back: its time ends. The one that crashed after all, late, ends nothing.
    assert!(
        store
            .take(&name, "c", until, until.plus_seconds(275))
            .await
            .unwrap()
    );
    store.give_back(&name, "b").await.unwrap();
    assert!(
        !store
            .take(&name, "b", until, until.plus_seconds(275))
            .await
            .unwrap()
    );
    // One of many at once.
    let race = format!("{name}-3");
    let holders = ["a", "b", "c", "d"];
    let mut won = 0;
    for holder in holders {
        won += u32::from(store.take(&race, holder, now, until).await.unwrap());
    }
    assert_eq!(won, 1);
}

/// Runs the suite of an item's limit, for stores that have one.
pub async fn item_limit<S: OrderStore + DayIndex>(store: &S) {
    let run = Run::new();
    money_always_finds_room(store, &run).await;
}

/// A payment of its own, in words as long as a gateway's can be.
fn large(n: u32) -> Append {
    let mut payment = report(AttemptStatus::Captured, &format!("pay_{n}"), 100);
    payment.error = Some("x".repeat(9_000));
    Append {
        once: Some(Once::payment(&payment)),
        events: vec![Recorded::new(NOW, "razorpay", Event::Payment(payment))],
        expect: None,
        at_most: None,
        due: Due::At(NOW.plus_seconds(i64::from(n))),
    }
}

async fn money_always_finds_room<S: OrderStore + DayIndex>(store: &S, run: &Run) {
    let draft = run.draft("full");
    create(store, &draft).await;
    for n in 1..=50 {
        let order = done(store.append(&draft.key, &large(n)).await.unwrap());
        assert_eq!(order.events.len(), usize::try_from(n).unwrap() + 1);
    }
    let order = load(store, &draft.key).await;
    assert_eq!(order.due, Some(NOW.plus_seconds(50)));
    assert_eq!(order.strays.len(), 50, "each of them is held visibly");
    for n in [1, 50] {
        let again = store.append(&draft.key, &large(n)).await.unwrap();
        assert_eq!(name(&again), "Duplicate", "{n}");
    }
    assert_eq!(stored(&load(store, &draft.key).await), stored(&order));
    let all = store
        .load_all(std::slice::from_ref(&draft.key))
        .await
        .unwrap();
    assert_eq!(stored(&all[0]), stored(&order));
    match store.create(&draft).await.unwrap() {
        Created::Existing(found) => assert_eq!(stored(&found), stored(&order)),
        other => panic!("expected the existing order, got {other:?}"),
    }
    // What a write knew of the order holds across both.
    let mut claim = fulfilment(Fulfilment::Processing);
    claim.expect = Some(50);
    let old = store.append(&draft.key, &claim).await.unwrap();
    assert_eq!(name(&old), "Stale");
    claim.expect = Some(51);
    claim.at_most = Some(51);
    let many = store.append(&draft.key, &claim).await.unwrap();
    assert_eq!(name(&many), "Stale");
    claim.at_most = None;
    claim.due = Due::Never;
    let order = done(store.append(&draft.key, &claim).await.unwrap());
    assert_eq!((order.events.len(), order.due), (52, None));
    let at = Due::At(NOW.plus_seconds(7));
    assert!(!store.reschedule(&draft.key, Some(51), at, 0).await.unwrap());
    assert!(store.reschedule(&draft.key, Some(52), at, 0).await.unwrap());
    let order = load(store, &draft.key).await;
    assert_eq!(order.due, Some(NOW.plus_seconds(7)));
}

/// Runs the suite for the books.
pub async fn day_index<S: OrderStore + DayIndex>(store: &S) {
    let run = Run::new();
    a_day_s_bills_are_found_and_nobody_else_s(store, &run).await;
    orders_are_read_in_the_sequence_they_are_asked_for(store, &run).await;
}

/// Every key of a day, page by page; pages and shards overlap nowhere.
async fn whole_day<S: DayIndex>(store: &S, tenant: &str, day: Day, limit: u32) -> Vec<OrderKey> {
    let mut found = Vec::new();
    for shard in 0..DAY_SHARDS {
        let mut after = None;
        loop {
            let page = store
                .day(&tenant_id(tenant), day, shard, after.as_ref(), limit)
                .await
                .unwrap();
            assert!(page.keys.len() <= usize::try_from(limit).unwrap());
            assert!(page.keys.is_sorted_by(|a, b| a.reference < b.reference));
            assert!(page.keys.iter().all(|key| key.tenant == tenant_id(tenant)));
            after = page.keys.last().map(|key| key.reference.clone());
            found.extend(page.keys);
            if !page.more || after.is_none() {
                break;
            }
        }
    }
    found.sort();
    found
}

async fn a_day_s_bills_are_found_and_nobody_else_s<S: OrderStore + DayIndex>(store: &S, run: &Run) {
    // The last millisecond of a day in India, and the first of the next.
    let midnight = Millis::from_rfc3339("2026-11-21T18:30:00Z").unwrap();
    let (before, after) = (Day::of(midnight.plus(-1)), Day::of(midnight));
    let mut expected: Vec<OrderKey> = Vec::new();
    for n in 0..9 {
        let mut draft = run.draft(&format!("day-{n}"));
        draft.contents.created_at = if n == 0 { midnight.plus(-1) } else { midnight };
        // Facts that wait for their bill are of no day.
        if n == 1 {
            let (once, event) = fact(1);
            let waiting = [event];
            store.park(&draft.key, &once, &waiting, NOW).await.unwrap();
        }
        create(store, &draft).await;
        if n == 2 {
            // What happens later, and the same bill again, moves nothing.
            store.append(&draft.key, &once(2)).await.unwrap();
            let mut again = draft.clone();
            again.contents.created_at = midnight.plus_seconds(7 * 24 * 3600);
            let known = store.create(&again).await.unwrap();
            assert!(matches!(known, Created::Existing(_)));
        }
        if n > 0 {
            expected.push(draft.key);
        }
    }
    let mut theirs = run.draft("day-theirs");
    theirs.key.tenant = tenant_id("acme-2");
    theirs.contents.created_at = midnight;
    create(store, &theirs).await;
    let parked = run.key("day-parked");
    let (once, event) = fact(3);
    store.park(&parked, &once, &[event], NOW).await.unwrap();
    expected.sort();
    let ours = |keys: Vec<OrderKey>| -> Vec<OrderKey> {
        let mine = |key: &OrderKey| key.reference.as_str().starts_with(&run.0);
        keys.into_iter().filter(mine).collect()
    };
    for limit in [1, 2, 100] {
        for patience in (0..40).rev() {
            let found = ours(whole_day(store, "acme", after, limit).await);
            if found == expected {
                break;
            }
            assert!(patience > 0, "expected {expected:?}, found {found:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(
        ours(whole_day(store, "acme", before, 100).await),
        [run.key("day-0")]
    );
    assert_eq!(
        ours(whole_day(store, "acme-2", after, 100).await),
        [theirs.key]
    );
    let later = Day::of(midnight.plus_seconds(7 * 24 * 3600));
    assert_eq!(ours(whole_day(store, "acme", later, 100).await), []);
}

async fn orders_are_read_in_the_sequence_they_are_asked_for<S: OrderStore + DayIndex>(
    store: &S,
    run: &Run,
) {
    let drafts: Vec<Draft> = (0..100).map(|n| run.draft(&format!("all-{n}"))).collect();
    for draft in &drafts {
        create(store, draft).await;
    }
    let mut keys: Vec<OrderKey> = drafts.iter().rev().map(|d| d.key.clone()).collect();
    let orders = store.load_all(&keys).await.unwrap();
    assert!(orders.iter().map(|o| &o.key).eq(keys.iter()));
    keys.truncate(3);
    keys.insert(1, run.key("all-never"));
    let (once, event) = fact(4);
    let parked = run.key("all-parked");
    store.park(&parked, &once, &[event], NOW).await.unwrap();
    keys.insert(2, parked);
    let orders = store.load_all(&keys).await.unwrap();
    let found: Vec<&OrderKey> = orders.iter().map(|o| &o.key).collect();
    assert_eq!(found, [&drafts[99].key, &drafts[98].key, &drafts[97].key]);
    assert!(store.load_all(&[]).await.unwrap().is_empty());
}

/// Names of one run: random, because the store may remember earlier ones.
struct Run(String);

impl Run {
    fn new() -> Self {
        Self(format!(
            "{:016x}",
            RandomState::new().build_hasher().finish()
        ))
    }

    fn draft(&self, name: &str) -> Draft {
        draft(bill_with(|b| b["reference_id"] = json!(self.name(name))))
    }

    fn key(&self, name: &str) -> OrderKey {
        OrderKey::new(tenant_id("acme"), reference(&self.name(name)))
    }

    /// A number that no other run uses.
    fn contact(&self, tenant: &str, n: u32) -> Contact {
        let digits: String = self.0.bytes().map(|b| char::from(b'0' + b % 10)).collect();
        let phone = format!("+919{n}{}", &digits[..8]);
        Contact {
            tenant: tenant_id(tenant),
            phone: Msisdn::parse(phone).unwrap(),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }
}

fn fact(n: u32) -> (Once, Recorded) {
    let report = report(AttemptStatus::Failed, &format!("pay_{n}"), 85_000);
    let at = NOW.plus_seconds(i64::from(n));
    (
        Once::payment(&report),
        Recorded::new(at, "razorpay", Event::Payment(report)),
    )
}

fn once(n: u32) -> Append {
    let (once, event) = fact(n);
    Append {
        once: Some(once),
        events: vec![event],
        expect: None,
        at_most: None,
        due: Due::Keep,
    }
}

fn fulfilment(to: Fulfilment) -> Append {
    let event = Event::Fulfilment {
        to,
        description: None,
    };
    Append {
        once: None,
        events: vec![Recorded::new(NOW.plus_seconds(5), "pos:pos-1", event)],
        expect: None,
        at_most: None,
        due: Due::Keep,
    }
}

#[track_caller]
fn done(appended: Appended) -> Order {
    match appended {
        Appended::Done(order) => order,
        other => panic!("expected Done, got {}", name(&other)),
    }
}

fn name(appended: &Appended) -> &'static str {
    match appended {
        Appended::Done(_) => "Done",
        Appended::Duplicate(_) => "Duplicate",
        Appended::Stale(_) => "Stale",
        Appended::Missing => "Missing",
        Appended::Alias(_) => "Alias",
    }
}

/// What is compared of an order: everything that is stored.
fn stored(order: &Order) -> (OrderKey, String, Vec<Recorded>, Option<Millis>, u32) {
    let contents = serde_json::to_string(&order.contents).unwrap();
    (
        order.key.clone(),
        contents,
        order.events.clone(),
        order.due,
        order.checks,
    )
}

async fn create<S: OrderStore>(store: &S, draft: &Draft) -> Order {
    match store.create(draft).await.unwrap() {
        Created::New(order) => order,
        other => panic!("expected a new order, got {other:?}"),
    }
}

async fn load<S: OrderStore>(store: &S, key: &OrderKey) -> Order {
    store.load(key).await.unwrap().expect("the order")
}

async fn an_order_is_created_once<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("once");
    assert!(store.load(&draft.key).await.unwrap().is_none());
    let order = create(store, &draft).await;
    assert_eq!(order.contents, draft.contents);
    assert_eq!(order.events, std::slice::from_ref(&draft.created));
    assert_eq!((order.due, order.checks), (Some(draft.due), 0));
    assert_eq!(stored(&load(store, &draft.key).await), stored(&order));

    let mut other = run.draft("once");
    other.contents.bill.body = Some("another bill".to_owned());
    other.due = draft.due.plus_seconds(99);
    match store.create(&other).await.unwrap() {
        Created::Existing(found) => assert_eq!(stored(&found), stored(&order)),
        unexpected => panic!("expected the existing order, got {unexpected:?}"),
    }
    assert_eq!(stored(&load(store, &draft.key).await), stored(&order));
}

async fn tenants_do_not_see_each_other<S: OrderStore>(store: &S, run: &Run) {
    let ours = run.draft("shared");
    let mut theirs = run.draft("shared");
    theirs.key.tenant = tenant_id("acme-2");
    create(store, &ours).await;
    assert!(store.load(&theirs.key).await.unwrap().is_none());
    assert!(matches!(
        store.append(&theirs.key, &once(1)).await.unwrap(),
        Appended::Missing
    ));
    create(store, &theirs).await;
    done(store.append(&theirs.key, &once(1)).await.unwrap());
    assert_eq!(load(store, &ours.key).await.events.len(), 1);
}

async fn facts_are_added_once<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("facts");
    create(store, &draft).await;
    let first = done(store.append(&draft.key, &once(1)).await.unwrap());
    assert_eq!(first.events[1..], once(1).events);
    assert_eq!(first.due, Some(draft.due), "Keep keeps the due time");
    match store.append(&draft.key, &once(1)).await.unwrap() {
        Appended::Duplicate(order) => assert_eq!(stored(&order), stored(&first)),
        other => panic!("expected Duplicate, got {}", name(&other)),
    }
    // A fact without a key may come again, and several come in one write in their sequence.
    done(
        store
            .append(&draft.key, &fulfilment(Fulfilment::Processing))
            .await
            .unwrap(),
    );
    let mut two = fulfilment(Fulfilment::Processing);
    two.events.extend(fulfilment(Fulfilment::Shipped).events);
    two.due = Due::At(NOW.plus_seconds(7));
    let order = done(store.append(&draft.key, &two).await.unwrap());
    assert_eq!(order.events.len(), 5);
    assert_eq!(order.fulfilment, Fulfilment::Shipped);
    assert_eq!(order.due, Some(NOW.plus_seconds(7)));
    let mut last = once(2);
    last.due = Due::Never;
    let order = done(store.append(&draft.key, &last).await.unwrap());
    assert_eq!(order.due, None);
    assert_eq!(stored(&load(store, &draft.key).await), stored(&order));
    // Keeping nothing is nothing.
    let order = done(store.append(&draft.key, &once(3)).await.unwrap());
    assert_eq!(order.due, None);
}

async fn a_write_on_old_knowledge_is_refused<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("stale");
    create(store, &draft).await;
    let mut append = once(1);
    append.expect = Some(1);
    done(store.append(&draft.key, &append).await.unwrap());
    // Known and old at once: that the fact is known says more.
    let again = store.append(&draft.key, &append).await.unwrap();
    assert_eq!(name(&again), "Duplicate");
    let mut append = fulfilment(Fulfilment::Processing);
    append.expect = Some(1);
    let old = store.append(&draft.key, &append).await.unwrap();
    assert_eq!(name(&old), "Stale");
    append.expect = Some(2);
    done(store.append(&draft.key, &append).await.unwrap());

    // The same rule for due times.
    let at = Due::At(NOW.plus_seconds(500));
    assert!(!store.reschedule(&draft.key, Some(2), at, 1).await.unwrap());
    assert!(store.reschedule(&draft.key, Some(3), at, 2).await.unwrap());
    let order = load(store, &draft.key).await;
    assert_eq!((order.due, order.checks), (Some(NOW.plus_seconds(500)), 2));
    assert!(
        store
            .reschedule(&draft.key, Some(3), Due::Keep, 3)
            .await
            .unwrap()
    );
    let order = load(store, &draft.key).await;
    assert_eq!((order.due, order.checks), (Some(NOW.plus_seconds(500)), 3));
    // A new event starts the counting anew.
    let order = done(store.append(&draft.key, &once(2)).await.unwrap());
    assert_eq!(order.checks, 0);
    assert!(store.reschedule(&draft.key, Some(4), at, 4).await.unwrap());
    assert!(
        store
            .reschedule(&draft.key, Some(4), Due::Never, 0)
            .await
            .unwrap()
    );
    let order = load(store, &draft.key).await;
    assert_eq!((order.due, order.checks), (None, 0));
    assert!(
        !store
            .reschedule(&run.key("nowhere"), Some(0), at, 1)
            .await
            .unwrap()
    );
    assert!(store.load(&run.key("nowhere")).await.unwrap().is_none());
}

async fn nothing_is_added_to_nothing<S: OrderStore>(store: &S, run: &Run) {
    let key = run.key("missing");
    let appended = store.append(&key, &once(1)).await.unwrap();
    assert_eq!(name(&appended), "Missing");
    let appended = store
        .append(&key, &fulfilment(Fulfilment::Shipped))
        .await
        .unwrap();
    assert_eq!(name(&appended), "Missing");
    assert!(store.load(&key).await.unwrap().is_none());
    assert!(store.resolve(&key).await.unwrap().is_none());
    create(store, &run.draft("missing")).await;
    assert_eq!(load(store, &key).await.events.len(), 1);
}

async fn concurrent_facts_are_all_kept<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("many");
    create(store, &draft).await;
    let facts: Vec<Append> = (1..=16).map(once).collect();
    let results = join(facts.iter().map(|f| store.append(&draft.key, f))).await;
    let lengths: std::collections::BTreeSet<usize> = results
        .into_iter()
        .map(|r| done(r.unwrap()).events.len())
        .collect();
    // Each writer saw an order of its own length: the writes happened one after the other.
    assert_eq!(lengths, (2..=17).collect());
    let order = load(store, &draft.key).await;
    for fact in &facts {
        assert!(order.events.contains(&fact.events[0]));
    }
}

async fn one_of_many_equal_facts_is_kept<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("equal");
    create(store, &draft).await;
    let fact = once(1);
    let results = join((0..8).map(|_| store.append(&draft.key, &fact))).await;
    let names: Vec<_> = results.iter().map(|r| name(r.as_ref().unwrap())).collect();
    assert_eq!(
        names.iter().filter(|n| **n == "Done").count(),
        1,
        "{names:?}"
    );
    assert_eq!(
        names.iter().filter(|n| **n == "Duplicate").count(),
        7,
        "{names:?}"
    );

    let mut claim = fulfilment(Fulfilment::Processing);
    claim.expect = Some(2);
    let results = join((0..8).map(|_| store.append(&draft.key, &claim))).await;
    let names: Vec<_> = results.iter().map(|r| name(r.as_ref().unwrap())).collect();
    assert_eq!(
        names.iter().filter(|n| **n == "Done").count(),
        1,
        "{names:?}"
    );
    assert_eq!(
        names.iter().filter(|n| **n == "Stale").count(),
        7,
        "{names:?}"
    );
    assert_eq!(load(store, &draft.key).await.events.len(), 3);
}

async fn one_of_many_creations_is_the_first<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("race");
    let results = join((0..8).map(|_| store.create(&draft))).await;
    let new = results
        .iter()
        .filter(|r| matches!(r, Ok(Created::New(_))))
        .count();
    let existing = results
        .iter()
        .filter(|r| matches!(r, Ok(Created::Existing(_))))
        .count();
    assert_eq!((new, existing), (1, 7));
    assert_eq!(load(store, &draft.key).await.events.len(), 1);

    // Creating and parking at once, whoever comes first.
    for n in 0..4 {
        let draft = run.draft(&format!("race-{n}"));
        let (fact, event) = fact(1);
        let events = [event];
        let (created, parked) = tokio::join!(
            store.create(&draft),
            store.park(&draft.key, &fact, &events, NOW)
        );
        assert!(matches!(created.unwrap(), Created::New(_)));
        assert!(matches!(
            parked.unwrap(),
            Appended::Done(_) | Appended::Missing
        ));
        let order = load(store, &draft.key).await;
        assert_eq!(order.events, [draft.created.clone(), events[0].clone()]);
    }
}

async fn parked_hints_wait_for_their_order<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("parked");
    let key = Once::hint("pay_9");
    let hint = Event::Hint {
        payment_id: "pay_9".into(),
    };
    let event = Recorded::new(NOW.plus_seconds(-9), "razorpay", hint);
    let events = [event.clone()];
    let other = Once::hint("pay_2");
    let other_event = Event::Hint {
        payment_id: "pay_2".into(),
    };
    let other_event = Recorded::new(NOW, "razorpay", other_event);
    for _ in 0..2 {
        // Twice: the gateway repeats what it was thanked for.
        let parked = store.park(&draft.key, &key, &events, NOW).await.unwrap();
        assert_eq!(name(&parked), "Missing");
    }
    let other_events = [other_event.clone()];
    let parked = store
        .park(&draft.key, &other, &other_events, NOW)
        .await
        .unwrap();
    assert_eq!(name(&parked), "Missing");
    assert!(store.load(&draft.key).await.unwrap().is_none());
    assert!(store.resolve(&draft.key).await.unwrap().is_none());
    assert!(
        !store
            .reschedule(&draft.key, Some(2), Due::At(NOW), 1)
            .await
            .unwrap()
    );
    let append = Append {
        once: Some(key.clone()),
        events: events.to_vec(),
        expect: None,
        at_most: None,
        due: Due::Keep,
    };
    assert_eq!(
        name(&store.append(&draft.key, &append).await.unwrap()),
        "Missing"
    );
    // The bill's own event comes first although it was written last.
    let order = create(store, &draft).await;
    assert_eq!(order.events, [draft.created.clone(), event, other_event]);
    assert_eq!(order.payment_status(), PaymentStatus::Pending);
    assert!(order.is_hinted() && order.message(&MessageKey::Paid).is_none());
    assert_eq!(stored(&load(store, &draft.key).await), stored(&order));

    // Hints do not keep a name from an order that needs it as its second one.
    let home = run.draft("parked-home");
    create(store, &home).await;
    let name_of_it = run.key("parked-alias");
    let hints = [Recorded::new(
        NOW,
        "razorpay",
        Event::Hint {
            payment_id: "pay_8".into(),
        },
    )];
    let hint = Once::hint("pay_8");
    store.park(&name_of_it, &hint, &hints, NOW).await.unwrap();
    assert!(store.alias(&name_of_it.reference, &home.key).await.unwrap());
    let leads = store.resolve(&name_of_it).await.unwrap();
    assert_eq!(leads.as_ref(), Some(&home.key.reference));
    assert_eq!(
        name(&store.append(&draft.key, &append).await.unwrap()),
        "Duplicate"
    );
}

async fn parking_beside_an_order_adds_to_it<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("beside");
    create(store, &draft).await;
    let now = NOW.plus_seconds(10);
    let paid = captured(&draft.contents.bill, "pay_9");
    let key = Once::payment(&paid);
    let events = [Recorded::new(now, "razorpay", Event::Payment(paid))];
    let order = done(store.park(&draft.key, &key, &events, now).await.unwrap());
    assert_eq!(order.payment_status(), PaymentStatus::Captured);
    let due = order.due.expect("a message is owed, so somebody must look");
    assert!(due <= draft.due && Some(due) <= order.next_check(now));
    let again = store.park(&draft.key, &key, &events, now).await.unwrap();
    assert_eq!(name(&again), "Duplicate");
    assert_eq!(load(store, &draft.key).await.events.len(), 2);
}

async fn an_alias_is_nobody_else_s<S: OrderStore>(store: &S, run: &Run) {
    let draft = run.draft("aliased");
    create(store, &draft).await;
    let alias = run.key("aliased-2");
    assert!(store.alias(&alias.reference, &draft.key).await.unwrap());
    assert!(
        store.alias(&alias.reference, &draft.key).await.unwrap(),
        "after a lost answer it is reserved again"
    );
    assert!(
        !store
            .alias(&alias.reference, &run.key("another"))
            .await
            .unwrap()
    );
    assert!(
        !store
            .alias(&draft.key.reference, &run.key("another"))
            .await
            .unwrap()
    );
    assert_eq!(
        store.resolve(&alias).await.unwrap(),
        Some(draft.key.reference.clone())
    );
    assert_eq!(store.resolve(&draft.key).await.unwrap(), None);
    assert!(store.load(&alias).await.unwrap().is_none());

    let leads_home = |appended| match appended {
        Appended::Alias(reference) => assert_eq!(reference, draft.key.reference),
        other => panic!("expected Alias, got {}", name(&other)),
    };
    leads_home(store.append(&alias, &once(1)).await.unwrap());
    leads_home(
        store
            .append(&alias, &fulfilment(Fulfilment::Shipped))
            .await
            .unwrap(),
    );
    let (fact, event) = fact(1);
    leads_home(store.park(&alias, &fact, &[event], NOW).await.unwrap());
    assert!(
        !store
            .reschedule(&alias, Some(0), Due::At(NOW), 1)
            .await
            .unwrap()
    );
    let taken = store.create(&run.draft("aliased-2")).await.unwrap();
    assert!(matches!(taken, Created::Taken));
    // A name is only taken within its tenant.
    let mut theirs = run.draft("aliased-2");
    theirs.key.tenant = tenant_id("acme-2");
    create(store, &theirs).await;
    assert_eq!(load(store, &draft.key).await.events.len(), 1);
}

async fn due_orders_are_found_in_their_shard<S: OrderStore>(store: &S, run: &Run) {
    // Long past, so that they come before anything else that is due in a store with other data.
    let base = Millis::from_seconds(1000);
    let mut drafts: Vec<Draft> = (0..6).map(|n| run.draft(&format!("due-{n}"))).collect();
    for (draft, seconds) in drafts.iter_mut().zip(1..) {
        draft.due = base.plus_seconds(seconds);
        create(store, draft).await;
    }
    let (last, earlier) = drafts.split_last().unwrap();
    let ours = |keys: Vec<OrderKey>| -> Vec<OrderKey> {
        let mine = |key: &OrderKey| key.reference.as_str().starts_with(&run.0);
        keys.into_iter().filter(mine).collect()
    };
    for draft in earlier {
        let expected: Vec<OrderKey> = earlier
            .iter()
            .filter(|other| due_shard(&other.key) == due_shard(&draft.key))
            .map(|other| other.key.clone())
            .collect();
        let shard = due_shard(&draft.key);
        // An index follows its table after a moment.
        for patience in (0..40).rev() {
            let found = ours(store.due(shard, earlier[4].due, 1000).await.unwrap());
            if found == expected {
                break;
            }
            assert!(patience > 0, "expected {expected:?}, found {found:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let shard = due_shard(&last.key);
    let before = ours(store.due(shard, base.plus_seconds(5), 1000).await.unwrap());
    assert!(!before.contains(&last.key), "it is not due yet");
    assert!(store.due(shard, last.due, 1).await.unwrap().len() <= 1);
    for draft in &drafts {
        assert!(
            store
                .reschedule(&draft.key, Some(1), Due::Never, 0)
                .await
                .unwrap()
        );
    }
    for patience in (0..40).rev() {
        let found = ours(store.due(shard, last.due, 1000).await.unwrap());
        if found.is_empty() {
            break;
        }
        assert!(patience > 0, "nothing is due any more, found {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn any_text_and_a_large_bill_come_back<S: OrderStore>(store: &S, run: &Run) {
    let name = |n: usize| format!("बासमती चावल \"№{n}\" \\ ☕️ é\u{301}");
    let items: Vec<_> = (0..250)
        .map(|n| {
            json!({"retailer_id": format!("SKU-{n}"), "name": name(n), "quantity": 1,
                "amount": {"value": 100, "offset": 100}})
        })
        .collect();
    let bill = bill_with(|b| {
        b["reference_id"] = json!(run.name("large"));
        b["customer"]["name"] = json!("ಪಲ್ಲವಿ ' OR 1=1 \u{1F600}");
        b["items"] = json!(items);
        b["total_amount"]["value"] = json!(26_000);
        b["notes"] = json!({"k": "a\nb\t{}"});
    });
    let draft = draft(bill);
    create(store, &draft).await;
    let mut append = fulfilment(Fulfilment::Processing);
    append.events[0].event = Event::Fulfilment {
        to: Fulfilment::Processing,
        description: Some("तैयार है ✓".to_owned()),
    };
    done(store.append(&draft.key, &append).await.unwrap());
    let order = load(store, &draft.key).await;
    assert_eq!(order.contents, draft.contents);
    assert_eq!(order.events[1..], append.events);
}

/// Runs futures at once and gives their results in sequence.
async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(move |context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *result = Some(output);
            }
        }
        if results.iter().all(Option::is_some) {
            Poll::Ready(results.drain(..).flatten().collect())
        } else {
            Poll::Pending
        }
    })
    .await
}
