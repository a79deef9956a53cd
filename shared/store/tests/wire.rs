//! The adapters as a service sees them: real requests through the SDK's own HTTP client to a server on loopback. This also fails
//! when a feature is missing that the client needs to work at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of these tests are tests, too"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::config::Credentials;
use aws_types::SdkConfig;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chatbill_domain::event::{Event, Once, Recorded};
use chatbill_domain::fault::Fault;
use chatbill_domain::message::{Fulfilment, MessageKey};
use chatbill_domain::ports::{
    Append, Appended, Created, DayIndex, DeadLetters, DeliverTask, Due, OrderStore, Queue,
    Settings, StoreError, TenantError, Tenants, Visibility, day_partition, due_shard,
};
use chatbill_domain::time::Day;
use chatbill_store::{
    DynamoOrders, SqsDeadLetters, SqsQueue, SqsVisibility, SsmSettings, SsmTenants,
};
use chatbill_testkit::builders::{NOW, bill, draft, key, reference, tenant_id, tenant_json};
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::FixedClock;
use serde_json::{Value, json};

/// An AWS service that answers what it is told to and keeps what it was asked.
#[derive(Debug, Clone, Default)]
struct Service(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<(u16, Value)>,
    requests: Vec<(String, Value)>,
}

impl Service {
    /// Starts it and gives the configuration that leads to it.
    async fn start() -> (Self, SdkConfig) {
        let service = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let credentials = Credentials::new("test", "test", None, None, "test");
        let config =
            chatbill_store::configured("ap-south-1".to_owned(), credentials, Some(endpoint));
        (service, config)
    }

    fn answer(&self, status: u16, body: Value) -> &Self {
        self.0.lock().unwrap().answers.push_back((status, body));
        self
    }

    fn fail(&self, status: u16, code: &str) -> &Self {
        self.answer(
            status,
            json!({"__type": format!("com.amazonaws#{code}"), "message": "+919876543210"}),
        )
    }

    /// The requests since the last time: operation and body.
    fn requests(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }
}

async fn answer(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    assert!(
        headers.contains_key("authorization"),
        "the request is signed"
    );
    let mut script = service.0.lock().unwrap();
    script
        .requests
        .push((target, serde_json::from_slice(&body).unwrap()));
    let (status, body) = script
        .answers
        .pop_front()
        .expect("an answer for every request");
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

fn created_item() -> Value {
    let draft = draft(bill());
    json!({
        "reference_id": {"S": "BM345A-12"}, "record": {"S": "acme#order"},
        "bill": {"S": serde_json::to_string(&draft.contents).unwrap()},
        "events": {"L": [{"S": serde_json::to_string(&draft.created).unwrap()}]},
        "due_shard": {"S": due_shard(&draft.key).to_string()}, "due_at": {"N": draft.due.get().to_string()},
        "something_newer": {"BOOL": true}
    })
}

fn append(once: Option<&str>, expect: Option<usize>, due: Due) -> Append {
    let event = Event::Fulfilment {
        to: Fulfilment::Shipped,
        description: None,
    };
    Append {
        once: once.map(Once::named),
        events: vec![Recorded::new(NOW, "pos:1", event)],
        expect,
        at_most: None,
        due,
    }
}

#[tokio::test]
async fn creating_an_order_is_one_conditional_update() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let draft = draft(bill());
    service.answer(200, json!({"Attributes": created_item()}));
    let Created::New(order) = store.create(&draft).await.unwrap() else {
        panic!("it is new")
    };
    assert_eq!(
        (order.contents, order.due),
        (draft.contents.clone(), Some(draft.due))
    );
    let requests = service.requests();
    let (target, body) = &requests[0];
    assert_eq!(target, "DynamoDB_20120810.UpdateItem");
    assert_eq!(
        *body,
        json!({
            "TableName": "orders",
            "Key": {"reference_id": {"S": "BM345A-12"}, "record": {"S": "acme#order"}},
            "ConditionExpression": "attribute_not_exists(bill) AND attribute_not_exists(alias_of)",
            "UpdateExpression": "SET bill = :bill, events = list_append(:created, if_not_exists(events, :none)), \
                more = :no, day_shard = :day, due_shard = :shard, due_at = :due REMOVE #ttl",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {
                ":bill": {"S": serde_json::to_string(&draft.contents).unwrap()},
                ":created": {"L": [{"S": serde_json::to_string(&draft.created).unwrap()}]},
                ":none": {"L": []}, ":no": {"BOOL": false}, ":shard": {"S": due_shard(&draft.key).to_string()},
                ":day": {"S": day_partition(&draft.key, NOW)},
                ":due": {"N": draft.due.get().to_string()}
            },
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD"
        })
    );

    let refused = json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "Item": created_item()});
    service.answer(400, refused);
    assert!(matches!(
        store.create(&draft).await.unwrap(),
        Created::Existing(_)
    ));
    assert_eq!(
        service.requests().len(),
        1,
        "a refused condition is an answer, not a failure"
    );
}

#[tokio::test]
async fn adding_facts_is_one_conditional_update() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let key = key("acme", "BM345A-12");
    service.answer(200, json!({"Attributes": created_item()}));
    let full = append(Some("pay_1:c:1"), Some(4), Due::Never);
    assert!(matches!(
        store.append(&key, &full).await.unwrap(),
        Appended::Done(_)
    ));
    let (_, body) = service.requests().remove(0);
    assert_eq!(
        body["ConditionExpression"],
        "attribute_exists(bill) AND (attribute_not_exists(more) OR more = :no) AND \
         (attribute_not_exists(#keys) OR NOT contains(#keys, :once)) AND size(events) = :expect"
    );
    assert_eq!(
        body["UpdateExpression"],
        "SET events = list_append(events, :events) REMOVE checks, due_shard, due_at ADD #keys :keys"
    );
    assert_eq!(
        body["ExpressionAttributeValues"],
        json!({
            ":events": {"L": [{"S": serde_json::to_string(&full.events[0]).unwrap()}]},
            ":once": {"S": "pay_1:c:1"}, ":keys": {"SS": ["pay_1:c:1"]}, ":expect": {"N": "4"},
            ":no": {"BOOL": false}
        })
    );

    service.answer(200, json!({"Attributes": created_item()}));
    store
        .append(&key, &append(None, None, Due::Keep))
        .await
        .unwrap();
    let (_, body) = service.requests().remove(0);
    assert_eq!(
        body["ConditionExpression"],
        "attribute_exists(bill) AND (attribute_not_exists(more) OR more = :no)"
    );
    assert_eq!(
        body["UpdateExpression"],
        "SET events = list_append(events, :events) REMOVE checks"
    );
    assert!(body.get("ExpressionAttributeNames").is_none());
}

#[tokio::test]
async fn a_busy_store_is_asked_again_unless_that_could_store_twice() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let key = key("acme", "BM345A-12");
    service
        .fail(500, "InternalServerError")
        .fail(400, "ProvisionedThroughputExceededException");
    service.answer(200, json!({"Attributes": created_item()}));
    let guarded = append(Some("once"), None, Due::Keep);
    assert!(matches!(
        store.append(&key, &guarded).await.unwrap(),
        Appended::Done(_)
    ));
    assert_eq!(service.requests().len(), 3);

    service.fail(500, "InternalServerError");
    let unguarded = append(None, None, Due::Keep);
    match store.append(&key, &unguarded).await {
        Err(StoreError::Unavailable(why)) => assert_eq!(why, "InternalServerError"),
        other => panic!("{other:?}"),
    }
    assert_eq!(service.requests().len(), 1);

    service.fail(400, "ResourceNotFoundException");
    match store.load(&key).await {
        Err(StoreError::Unavailable(why)) => assert_eq!(why, "ResourceNotFoundException"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn waiting_has_an_end() {
    let (_, config) = Service::start().await;
    let times = config.timeout_config().unwrap();
    assert_eq!(
        times.operation_attempt_timeout(),
        Some(Duration::from_secs(2))
    );
    assert_eq!(times.operation_timeout(), Some(Duration::from_secs(5)));
    assert_eq!(config.retry_config().unwrap().max_attempts(), 3);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable() {
    let (_, config) = Service::start().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let nowhere = config
        .into_builder()
        .endpoint_url(format!("http://{free}"))
        .build();
    let store = DynamoOrders::new(&nowhere, "orders");
    match store.load(&key("acme", "BM345A-12")).await {
        Err(StoreError::Unavailable(why)) => assert_eq!(why, "not reachable"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_not_shown() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let spoilt = [
        ("bill", json!({"S": "{\"phone\": \"+919876543210\"}"})),
        ("bill", json!({"N": "1"})),
        ("events", json!({"L": [{"S": "+919876543210"}]})),
        ("events", json!({"S": "x"})),
        ("due_at", json!({"N": "1.5"})),
        ("checks", json!({"N": "-1"})),
        ("alias_of", json!({"S": "not a reference"})),
    ];
    for (name, value) in spoilt {
        let mut item = created_item();
        item[name] = value;
        service.answer(200, json!({"Item": item}));
        match store.load(&key("acme", "BM345A-12")).await {
            Err(StoreError::Corrupt(why)) => assert_eq!(why, format!("acme/BM345A-12: {name}")),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn reading_is_consistent_and_looking_for_work_is_not_a_scan() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    service.answer(200, json!({"Item": created_item()}));
    assert!(
        store
            .load(&key("acme", "BM345A-12"))
            .await
            .unwrap()
            .is_some()
    );
    let (target, body) = service.requests().remove(0);
    assert_eq!(target, "DynamoDB_20120810.GetItem");
    assert_eq!(body["ConsistentRead"], true);

    let due = |record: &str| json!({"reference_id": {"S": "A-1"}, "record": {"S": record}});
    service.answer(
        200,
        json!({"Items": [due("acme#order"), due("acme#other"), due("a_b#order")]}),
    );
    assert_eq!(store.due(3, NOW, 25).await.unwrap(), [key("acme", "A-1")]);
    let (target, body) = service.requests().remove(0);
    assert_eq!(target, "DynamoDB_20120810.Query");
    assert_eq!(
        (&body["IndexName"], &body["Limit"]),
        (&json!("due"), &json!(25))
    );
    assert_eq!(
        body["ExpressionAttributeValues"],
        json!({":shard": {"S": "3"}, ":now": {"N": NOW.get().to_string()}})
    );
}

#[tokio::test]
async fn a_task_goes_to_its_message_s_group() {
    let (service, config) = Service::start().await;
    let url = "https://sqs.ap-south-1.amazonaws.com/000000000000/deliveries.fifo";
    let key = key("acme", "BM345A-12");
    let task = DeliverTask {
        v: 1,
        tenant_id: key.tenant,
        reference_id: key.reference,
        message: MessageKey::Invoice(1),
        attempt: 0,
    };
    service.answer(200, json!({"MessageId": "1"}));
    SqsQueue::new(&config, url).send(&task).await.unwrap();
    let (target, body) = service.requests().remove(0);
    assert_eq!(target, "AmazonSQS.SendMessage");
    assert_eq!(
        body,
        json!({
            "QueueUrl": url, "MessageGroupId": "acme:BM345A-12:bill.1",
            "MessageDeduplicationId": "acme:BM345A-12:invoice.1:0",
            "MessageBody": serde_json::to_string(&task).unwrap()
        })
    );

    service.answer(200, json!({}));
    SqsVisibility::new(&config, url)
        .postpone("receipt", 99_999)
        .await
        .unwrap();
    let (target, body) = service.requests().remove(0);
    assert_eq!(target, "AmazonSQS.ChangeMessageVisibility");
    assert_eq!(
        body,
        json!({"QueueUrl": url, "ReceiptHandle": "receipt", "VisibilityTimeout": 42_600})
    );

    service.answer(200, json!({"MessageId": "1"}));
    let letters = SqsDeadLetters::new(&config, url);
    letters
        .bury("{not json", "not a task", "acme:BM345A-12", "m-1")
        .await
        .unwrap();
    let (_, body) = service.requests().remove(0);
    assert_eq!(
        body,
        json!({
            "QueueUrl": url, "MessageGroupId": "acme:BM345A-12", "MessageDeduplicationId": "m-1",
            "MessageBody": "{not json",
            "MessageAttributes": {"reason": {"DataType": "String", "StringValue": "not a task"}}
        })
    );

    service.fail(400, "QueueDoesNotExist");
    let error = SqsQueue::new(&config, url).send(&task).await.unwrap_err();
    assert_eq!(error.to_string(), "queue unavailable: QueueDoesNotExist");
}

fn parameter(value: &Value) -> Value {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    json!({"Parameter": {"Name": "n", "Type": "SecureString", "Value": text, "Version": 1}})
}

#[tokio::test]
async fn a_tenant_is_read_once_in_five_minutes() {
    let (service, config) = Service::start().await;
    let clock = FixedClock::default();
    let tenants = SsmTenants::new(
        &config,
        "/chatbill/test/tenants/",
        true,
        |_| Ok(()),
        clock.clone(),
    );
    let acme = tenant_id("acme");
    service.answer(200, parameter(&tenant_json()));
    for _ in 0..3 {
        assert_eq!(tenants.find(&acme).await.unwrap().unwrap().id, acme);
    }
    let requests = service.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].0, "AmazonSSM.GetParameter");
    assert_eq!(
        requests[0].1,
        json!({"Name": "/chatbill/test/tenants/acme", "WithDecryption": true})
    );

    // While the parameter store is out of order the old document serves, and is not asked for every time.
    clock.advance(301);
    for _ in 0..3 {
        service.fail(500, "InternalServerError");
    }
    for _ in 0..3 {
        assert!(tenants.find(&acme).await.unwrap().is_some());
    }
    assert_eq!(service.requests().len(), 3, "one question in three tries");
    clock.advance(31);
    let mut renamed = tenant_json();
    renamed["display_name"] = json!("Acme & Sons");
    service.answer(200, parameter(&renamed));
    assert_eq!(
        tenants.find(&acme).await.unwrap().unwrap().display_name,
        "Acme & Sons"
    );

    // An hour is too old.
    clock.advance(3601);
    service.fail(400, "AccessDeniedException");
    match tenants.find(&acme).await {
        Err(TenantError::Unavailable(why)) => assert_eq!(why, "AccessDeniedException"),
        other => panic!("{other:?}"),
    }
}

fn path(names: &[&str], next: Option<&str>) -> Value {
    let parameters: Vec<Value> = names
        .iter()
        .map(|name| json!({"Name": format!("/chatbill/test/tenants/{name}"), "Type": "SecureString", "Value": "AQICAH…"}))
        .collect();
    json!({"Parameters": parameters, "NextToken": next})
}

fn operations(service: &Service) -> Vec<String> {
    let requests = service.requests().into_iter();
    requests
        .map(|(target, _)| target.trim_start_matches("AmazonSSM.").to_owned())
        .collect()
}

#[tokio::test]
async fn names_of_nobody_are_answered_from_a_list() {
    let (service, config) = Service::start().await;
    let clock = FixedClock::default();
    let tenants = SsmTenants::new(
        &config,
        "/chatbill/test/tenants",
        true,
        |_| Ok(()),
        clock.clone(),
    );
    // The first names are asked for, as a merchant's would be. The list has two pages.
    for _ in 0..3 {
        service.fail(400, "ParameterNotFound");
    }
    service.answer(200, path(&["other", "stray/store"], Some("more")));
    service.answer(200, path(&["acme"], None));
    for n in 0..100_000 {
        let nobody = tenant_id(&format!("nobody-{n}"));
        assert!(tenants.find(&nobody).await.unwrap().is_none());
    }
    let requests = service.requests();
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert_eq!(
        requests[3],
        (
            "AmazonSSM.GetParametersByPath".to_owned(),
            json!({"Path": "/chatbill/test/tenants", "Recursive": false, "WithDecryption": false, "MaxResults": 10})
        )
    );
    assert_eq!(requests[4].1["NextToken"], "more");
    // A merchant that is on it is asked for in the midst of all that.
    service.answer(200, parameter(&tenant_json()));
    assert!(tenants.find(&tenant_id("acme")).await.unwrap().is_some());
    assert_eq!(operations(&service), ["GetParameter"]);
    assert_eq!(tenants.known(), [tenant_id("acme")]);
    assert_eq!(tenants.all(false).await.unwrap().len(), 2);

    // One who was added meanwhile is served a minute later, though the guessing goes on.
    assert!(tenants.find(&tenant_id("new")).await.unwrap().is_none());
    clock.advance(60);
    for n in 0..3 {
        service.fail(400, "ParameterNotFound");
        let nobody = tenant_id(&format!("nobody-again-{n}"));
        assert!(tenants.find(&nobody).await.unwrap().is_none());
    }
    let mut new = tenant_json();
    new["tenant_id"] = json!("new");
    service.answer(200, path(&["acme", "new", "other"], None));
    service.answer(200, parameter(&new));
    assert!(tenants.find(&tenant_id("new")).await.unwrap().is_some());
    let last = ["GetParametersByPath", "GetParameter"];
    assert_eq!(operations(&service)[3..], last);
    assert_eq!(tenants.all(true).await.unwrap().len(), 3);
    assert!(operations(&service).is_empty());

    // When it cannot be listed, nobody is told that a merchant does not exist.
    clock.advance(60);
    service.fail(400, "AccessDeniedException");
    let refused = tenants.all(false).await;
    assert!(matches!(refused, Err(TenantError::Unavailable(_))));
    let refused = tenants.all(false).await;
    assert!(matches!(refused, Err(TenantError::Unavailable(_))));
    assert_eq!(operations(&service), ["GetParametersByPath"]);
}

#[tokio::test]
async fn unusable_documents_are_remembered_for_a_while() {
    let (service, config) = Service::start().await;
    let clock = FixedClock::default();
    let tenants = SsmTenants::new(
        &config,
        "/chatbill/test/tenants",
        false,
        |_| Ok(()),
        clock.clone(),
    );
    let (logs, _guard) = Logs::capture();
    let other = tenant_id("other");
    service.answer(200, parameter(&tenant_json()));
    for _ in 0..2 {
        match tenants.find(&other).await {
            Err(TenantError::Invalid(why)) => {
                assert_eq!(why, "other: the document is of another tenant_id");
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }
    assert_eq!(service.requests().len(), 1);
    assert_eq!(logs.count("tenant_broken"), 1);

    clock.advance(30);
    let mut broken = tenant_json();
    broken["receipt_secrets"] = json!(["short-secret"]);
    service.answer(200, parameter(&broken));
    match tenants.find(&tenant_id("acme")).await {
        Err(TenantError::Invalid(why)) => {
            assert!(
                why.contains("/receipt_secrets") && !why.contains("short-secret"),
                "{why}"
            );
        }
        unexpected => panic!("{unexpected:?}"),
    }
}

#[tokio::test]
async fn a_spoilt_document_never_replaces_a_good_one() {
    let (service, config) = Service::start().await;
    let clock = FixedClock::default();
    let tenants = SsmTenants::new(
        &config,
        "/chatbill/test/tenants",
        true,
        |tenant| match tenant.display_name.as_str() {
            "Acme Stores" => Ok(()),
            _ => Err(vec![Fault::new("/payment/credentials", "missing", "x")]),
        },
        clock.clone(),
    );
    let (logs, _guard) = Logs::capture();
    let acme = tenant_id("acme");
    service.answer(200, parameter(&tenant_json()));
    assert!(tenants.find(&acme).await.unwrap().is_some());
    // Cut off by a hand, of another merchant, or with credentials that no connector can use.
    let mut renamed = tenant_json();
    renamed["display_name"] = json!("Acme");
    let mut foreign = tenant_json();
    foreign["tenant_id"] = json!("evil");
    for (count, document) in [json!("{\"tenant_id\": "), renamed, foreign]
        .iter()
        .enumerate()
    {
        clock.advance(3600 * 24);
        service.answer(200, parameter(document));
        for _ in 0..2 {
            let found = tenants.find(&acme).await.unwrap().unwrap();
            assert_eq!(found.display_name, "Acme Stores");
        }
        let alarms = logs.count("tenant_broken");
        assert_eq!(alarms, count + 1, "{:?}", logs.lines());
    }
    // Looked at again soon, so that the mended one counts soon.
    clock.advance(30);
    let mut mended = tenant_json();
    mended["on_captured"] = json!("processing");
    service.answer(200, parameter(&mended));
    let found = tenants.find(&acme).await.unwrap().unwrap();
    assert_eq!(found.on_captured, Fulfilment::Processing);
    // Taken away is not spoilt.
    clock.advance(300);
    service.fail(400, "ParameterNotFound");
    assert!(tenants.find(&acme).await.unwrap().is_none());
}

#[tokio::test]
async fn the_public_url_is_a_cached_parameter() {
    let (service, config) = Service::start().await;
    let clock = FixedClock::default();
    let settings = SsmSettings::new(&config, "/chatbill/test/public-url", clock.clone());
    service.answer(200, parameter(&json!("https://shop.example/")));
    for _ in 0..2 {
        assert_eq!(
            &*settings.public_url().await.unwrap(),
            "https://shop.example"
        );
    }
    assert_eq!(service.requests().len(), 1);
    clock.advance(3601);
    service.fail(400, "ParameterNotFound");
    let error = settings.public_url().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "setting unavailable: there is no parameter /chatbill/test/public-url"
    );
}

#[tokio::test]
async fn a_day_is_read_page_by_page_from_its_index() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let day = Day::parse("2026-11-22").unwrap();
    let entry = |name: &str, record: &str| json!({"reference_id": {"S": name}, "record": {"S": record}, "day_shard": {"S": "acme#2026-11-22#2"}});
    let (acme, last) = (tenant_id("acme"), reference("A-2"));
    let more = json!({"Items": [entry("A-1", "acme#order"), entry("A-2", "acme#order")], "LastEvaluatedKey": entry("A-2", "acme#order")});
    service.answer(200, more);
    let page = store.day(&acme, day, 2, None, 2).await.unwrap();
    assert_eq!(page.keys, [key("acme", "A-1"), key("acme", "A-2")]);
    assert!(page.more);
    service.answer(200, json!({"Items": []}));
    let page = store.day(&acme, day, 2, Some(&last), 2).await.unwrap();
    assert!(page.keys.is_empty() && !page.more);
    let requests = service.requests();
    let partition = json!({"S": "acme#2026-11-22#2"});
    for ((target, body), (condition, values)) in requests.iter().zip([
        ("day_shard = :day", json!({":day": partition})),
        (
            "day_shard = :day AND reference_id > :after",
            json!({":day": partition, ":after": {"S": "A-2"}}),
        ),
    ]) {
        assert_eq!(target, "DynamoDB_20120810.Query");
        assert_eq!(
            (&body["IndexName"], &body["Limit"]),
            (&json!("day"), &json!(2))
        );
        assert_eq!(body["KeyConditionExpression"], condition);
        assert_eq!(body["ExpressionAttributeValues"], values);
    }
    // A bill that cannot be named must not be missing in silence.
    service.answer(200, json!({"Items": [entry("A-1", "acme#other")]}));
    let refused = store.day(&acme, day, 2, None, 2).await;
    assert!(
        matches!(refused, Err(StoreError::Corrupt(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn many_orders_are_one_request_and_what_was_left_out_is_asked_for_again() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let keys = [
        key("acme", "BM345A-12"),
        key("acme", "A-2"),
        key("acme", "A-3"),
    ];
    let name =
        |reference: &str| json!({"reference_id": {"S": reference}, "record": {"S": "acme#order"}});
    let mut second = created_item();
    second["reference_id"] = json!({"S": "A-2"});
    service
        .answer(200, json!({"Responses": {"orders": [second]}, "UnprocessedKeys": {"orders": {"Keys": [name("BM345A-12")], "ConsistentRead": true}}}))
        .answer(200, json!({"Responses": {"orders": [created_item()]}, "UnprocessedKeys": {}}));
    let orders = store.load_all(&keys).await.unwrap();
    let found: Vec<&str> = orders.iter().map(|o| o.key.reference.as_str()).collect();
    assert_eq!(found, ["BM345A-12", "A-2"]);
    let requests = service.requests();
    let asked: Vec<&Value> = requests
        .iter()
        .map(|(target, body)| {
            assert_eq!(target, "DynamoDB_20120810.BatchGetItem");
            assert_eq!(body["RequestItems"]["orders"]["ConsistentRead"], true);
            &body["RequestItems"]["orders"]["Keys"]
        })
        .collect();
    assert_eq!(
        asked,
        [
            &json!([name("BM345A-12"), name("A-2"), name("A-3")]),
            &json!([name("BM345A-12")])
        ]
    );
    // Nothing at all came: DynamoDB throttles.
    service.answer(200, json!({"Responses": {"orders": []}, "UnprocessedKeys": {"orders": {"Keys": [name("A-2")]}}}));
    let refused = store.load_all(&keys[1..2]).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
}

/// DynamoDB's words for an item that has no room for more.
fn too_large(service: &Service) {
    let words = "Item size to update has exceeded the maximum allowed size";
    let body = json!({"__type": "com.amazon.coral.validate#ValidationException", "message": words});
    service.answer(400, body);
}

#[tokio::test]
async fn a_full_item_goes_on_in_another() {
    let (service, config) = Service::start().await;
    let store = DynamoOrders::new(&config, "orders");
    let draft = draft(bill());
    let captured = chatbill_testkit::builders::captured(&draft.contents.bill, "pay_1");
    let event = Recorded::new(NOW, "razorpay", Event::Payment(captured.clone()));
    let append = Append {
        once: Some(Once::payment(&captured)),
        events: vec![event.clone()],
        expect: None,
        at_most: None,
        due: Due::Keep,
    };
    let mut full = created_item();
    full["more"] = json!({"BOOL": true});
    let beside = json!({
        "reference_id": {"S": "BM345A-12"}, "record": {"S": "acme#more"},
        "events": {"L": [{"S": serde_json::to_string(&event).unwrap()}]},
        "keys": {"SS": [Once::payment(&captured).as_str()]}
    });
    too_large(&service);
    service.answer(200, json!({"Attributes": full}));
    service.answer(200, json!({"Attributes": beside}));
    let Appended::Done(order) = store.append(&draft.key, &append).await.unwrap() else {
        panic!("it is kept");
    };
    assert!(order.payment_status().is_paid());
    let requests = service.requests();
    let records: Vec<&Value> = requests
        .iter()
        .map(|(_, b)| &b["Key"]["record"]["S"])
        .collect();
    assert_eq!(records, ["acme#order", "acme#order", "acme#more"]);
    assert_eq!(requests[1].1["UpdateExpression"], "SET more = :yes");

    // It is read with both, and what comes again is known.
    service.answer(200, json!({"Item": full}));
    service.answer(200, json!({"Item": beside}));
    let order = store.load(&draft.key).await.unwrap().unwrap();
    assert!(order.payment_status().is_paid());
    let refused = |item: &Value| json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "Item": item});
    service.answer(400, refused(&full));
    service.answer(400, refused(&beside));
    let again = store.append(&draft.key, &append).await.unwrap();
    assert!(matches!(again, Appended::Duplicate(_)));

    // What is no money opens nothing.
    service.requests();
    too_large(&service);
    let to = Fulfilment::Processing;
    let status = Event::Fulfilment {
        to,
        description: None,
    };
    let append = Append {
        once: None,
        events: vec![Recorded::new(NOW, "pos:pos-1", status)],
        expect: Some(1),
        at_most: None,
        due: Due::Keep,
    };
    let refused = store.append(&draft.key, &append).await;
    assert!(matches!(refused, Err(StoreError::Full(_))));
    assert_eq!(service.requests().len(), 1);
}
