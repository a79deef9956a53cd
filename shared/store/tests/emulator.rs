//! The store on a DynamoDB emulator: the same suite that the in-memory store passes, and what writes cost.
//!
//! Set `CHATBILL_TEST_DYNAMODB` to the emulator's endpoint. The test makes a table of its own, as `template.yaml` describes it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "the helpers of these tests are tests, too"
)]

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Credentials, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ReturnConsumedCapacity, ScalarAttributeType,
};
use chatbill_domain::event::{Event, Once, Recorded};
use chatbill_domain::message::{Form, MessageKey, Progress, Report};
use chatbill_domain::order::Draft;
use chatbill_domain::payment::Started;
use chatbill_domain::ports::{Append, Appended, Created, Due, OrderStore};
use chatbill_store::DynamoOrders;
use chatbill_testkit::builders::{self, NOW, bill, captured};
use chatbill_testkit::memory::MemoryOrders;
use chatbill_testkit::network::Network;

const ENDPOINT: &str = "CHATBILL_TEST_DYNAMODB";
const REQUIRED: &str = "CHATBILL_REQUIRE_EMULATOR";

fn variable(name: &str) -> Option<String> {
    let found = std::env::vars().find(|(n, v)| n == name && !v.is_empty());
    found.map(|(_, value)| value)
}

/// The emulator's endpoint, or `None` when this run goes without.
fn endpoint() -> Option<String> {
    let endpoint = variable(ENDPOINT);
    if endpoint.is_none() {
        assert!(
            variable(REQUIRED).is_none(),
            "{REQUIRED} is set and {ENDPOINT} is not"
        );
        eprintln!(
            "SKIPPED: set {ENDPOINT} to the endpoint of a DynamoDB emulator to run this test"
        );
    }
    endpoint
}

/// Counts requests and asks DynamoDB what each write costs. Production code does not ask: it would pay for the answer's bytes.
#[derive(Debug, Default, Clone)]
struct Meter(Arc<Mutex<Metered>>);

#[derive(Debug, Default, Clone)]
struct Metered {
    requests: usize,
    units: Vec<f64>,
}

impl Meter {
    fn read(&self) -> Metered {
        self.0.lock().unwrap().clone()
    }
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "Meter"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(input) = context.input_mut().downcast_mut::<UpdateItemInput>() {
            input.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.lock().unwrap().requests += 1;
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Ok(output)) = context.output_or_error()
            && let Some(output) = output.downcast_ref::<UpdateItemOutput>()
        {
            let capacity = output.consumed_capacity().and_then(|c| c.capacity_units());
            self.0.lock().unwrap().units.push(capacity.unwrap());
        }
        Ok(())
    }
}

/// A table of its own.
struct Table {
    store: DynamoOrders,
    client: Client,
    name: String,
}

impl Table {
    /// The emulator may be somebody's running stack.
    async fn delete(self) {
        let deleted = self.client.delete_table().table_name(self.name);
        deleted.send().await.unwrap();
    }
}

/// A store on a new table of the emulator.
async fn table(endpoint: &str, name: &str, meter: &Meter) -> Table {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = chatbill_store::configured(
        "ap-south-1".to_owned(),
        credentials,
        Some(endpoint.to_owned()),
    );
    let config = aws_sdk_dynamodb::config::Builder::from(&config)
        .interceptor(meter.clone())
        .build();
    let client = Client::from_conf(config);
    let unique = std::process::id();
    let table = format!("chatbill-test-{name}-{unique}");
    create_table(&client, &table).await;
    Table {
        store: DynamoOrders::with_client(client.clone(), table.as_str()),
        client,
        name: table,
    }
}

async fn create_table(client: &Client, table: &str) {
    let attribute = |name: &str, kind| {
        let definition = AttributeDefinition::builder();
        let definition = definition.attribute_name(name).attribute_type(kind);
        definition.build().unwrap()
    };
    let key = |name: &str, kind| {
        let element = KeySchemaElement::builder();
        element.attribute_name(name).key_type(kind).build().unwrap()
    };
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly);
    let keys_only = keys_only.build();
    let index = |name: &str, hash: &str, range: &str| {
        GlobalSecondaryIndex::builder()
            .index_name(name)
            .key_schema(key(hash, KeyType::Hash))
            .key_schema(key(range, KeyType::Range))
            .projection(keys_only.clone())
            .build()
            .unwrap()
    };
    let _ = client.delete_table().table_name(table).send().await;
    client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("reference_id", ScalarAttributeType::S))
        .attribute_definitions(attribute("record", ScalarAttributeType::S))
        .attribute_definitions(attribute("due_shard", ScalarAttributeType::S))
        .attribute_definitions(attribute("due_at", ScalarAttributeType::N))
        .attribute_definitions(attribute("day_shard", ScalarAttributeType::S))
        .key_schema(key("reference_id", KeyType::Hash))
        .key_schema(key("record", KeyType::Range))
        .global_secondary_indexes(index("due", "due_shard", "due_at"))
        .global_secondary_indexes(index("day", "day_shard", "reference_id"))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_store_passes_the_suite() {
    let Some(endpoint) = endpoint() else { return };
    let table = table(&endpoint, "suite", &Meter::default()).await;
    // Twice: it must also pass on a store with other data.
    for _ in 0..2 {
        // In a process of its own, so to say: the suite's clock begins anew, and a cache of the first run would seem fresh.
        let store = DynamoOrders::with_client(table.client.clone(), table.name.as_str());
        chatbill_testkit::conformance::order_store(&store).await;
        chatbill_testkit::conformance::contacts_and_links(&store).await;
        chatbill_testkit::conformance::day_index(&store).await;
        chatbill_testkit::conformance::leases(&store).await;
        chatbill_testkit::conformance::item_limit(&store).await;
    }
    table.delete().await;
}

/// The writes of an ordinary order, from the bill to the message that was read.
async fn life<S: OrderStore>(store: &S, draft: &Draft) {
    let Created::New(_) = store.create(draft).await.unwrap() else {
        panic!("the order exists already")
    };
    let paid = captured(&draft.contents.bill, "pay_Nq8bRPfnWvhVYT");
    let started = Started {
        id: "plink_Nq8bRPfnWvhVYT".to_owned(),
        link: "https://rzp.io/i/Nq8bRPfnW".to_owned(),
        expires_at: draft.contents.expires_at,
        extra: None,
    };
    let invoice = MessageKey::Invoice(1);
    let mut facts = vec![(
        Once::named("started"),
        Event::Started(started),
        Due::At(NOW.plus_seconds(120)),
    )];
    facts.extend(message(&invoice));
    facts.push((
        Once::payment(&paid),
        Event::Payment(paid.clone()),
        Due::At(NOW.plus_seconds(240)),
    ));
    facts.extend(message(&MessageKey::Paid));
    for ((once, event, due), second) in facts.into_iter().zip(1..) {
        let append = Append {
            once: Some(once),
            events: vec![Recorded::new(NOW.plus_seconds(second), "razorpay", event)],
            expect: None,
            at_most: None,
            due,
        };
        let done = store.append(&draft.key, &append).await.unwrap();
        assert!(matches!(done, Appended::Done(_)));
    }
    store.load(&draft.key).await.unwrap().unwrap();
}

/// A message is tried, sent, delivered and read.
fn message(key: &MessageKey) -> Vec<(Once, Event, Due)> {
    let attempt = Event::Try {
        message: key.clone(),
        attempt: 1,
        form: Form::Template,
        fallback: false,
        sms: false,
    };
    let sent = Event::Sent {
        message: key.clone(),
        attempt: 1,
        id: "wamid.HBgMOTE5ODc2NTQzMjEwFQIAERgSQkQzRDVDRjY5RjQ3RTI2RjUzAA==".to_owned(),
        segments: None,
    };
    let mut facts = vec![
        (Once::attempt(key, 1), attempt, Due::Keep),
        (Once::outcome(key, 1), sent, Due::Keep),
    ];
    for progress in [Progress::Delivered, Progress::Read] {
        let report = Report::Progress(progress);
        let once = Once::report(key, 1, &report);
        let event = Event::Report {
            message: key.clone(),
            attempt: 1,
            report,
        };
        facts.push((once, event, Due::Keep));
    }
    facts
}

/// Eleven writes and a read make an order's life; the write units are counted by DynamoDB's rules of item size, in memory.
#[tokio::test]
async fn an_order_s_writes_are_few_and_small() {
    let line = Network::new();
    let store = MemoryOrders::on(&line);
    life(&store, &builders::draft(bill())).await;
    let writes = store.writes();
    let sizes: Vec<usize> = writes.iter().map(|w| w.bytes).collect();
    let units: Vec<usize> = writes.iter().map(|w| w.units).collect();
    println!("bytes {sizes:?}, units {units:?}");
    assert_eq!(line.round_trips().len(), 12);
    assert!(
        sizes[0] <= 1024,
        "a new order fits one write unit: {sizes:?}"
    );
    assert!(sizes.iter().all(|s| *s <= 2 * 1024), "{sizes:?}");
    assert!(units.iter().sum::<usize>() <= 25, "{units:?}");
}

#[tokio::test]
async fn every_operation_is_one_request() {
    let Some(endpoint) = endpoint() else { return };
    let meter = Meter::default();
    let table = table(&endpoint, "meter", &meter).await;
    let before = meter.read().requests;
    life(&table.store, &builders::draft(bill())).await;
    let metered = meter.read();
    assert_eq!(metered.requests - before, 12);
    table.delete().await;
    let memory = MemoryOrders::new();
    life(&memory, &builders::draft(bill())).await;
    let expected: Vec<String> = memory
        .writes()
        .iter()
        .map(|w| w.units.to_string())
        .collect();
    let charged: Vec<String> = metered.units.iter().map(ToString::to_string).collect();
    assert_eq!(charged, expected, "both count by DynamoDB's rules");
}
