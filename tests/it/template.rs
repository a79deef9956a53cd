//! `template.yaml` against the code: what the functions need is what they are given, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chatbill_domain::delivery::SCHEDULE;
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// YAML as JSON; a tagged node such as `!Ref Orders` is `{"!Ref": "Orders"}`.
fn json_of(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Representation(value, ..) => json!(value),
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Mapping(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.as_str().unwrap().to_owned(), json_of(value)))
                .collect(),
        ),
        Yaml::Tagged(tag, value) => json!({format!("!{}", tag.suffix): json_of(value)}),
        Yaml::Alias(_) | Yaml::BadValue => panic!("the template has an unreadable node"),
    }
}

struct Template(Value);

impl Template {
    fn read() -> Self {
        let text = source("template.yaml");
        let documents = Yaml::load_from_str(&text).unwrap();
        assert_eq!(documents.len(), 1);
        Self(json_of(&documents[0]))
    }

    fn resources(&self, kind: &str) -> BTreeMap<&str, &Map<String, Value>> {
        let resources = self.0["Resources"].as_object().unwrap();
        resources
            .iter()
            .filter(|(_, resource)| resource["Type"] == kind)
            .map(|(name, resource)| {
                (
                    name.as_str(),
                    resource["Properties"]
                        .as_object()
                        .unwrap_or_else(|| panic!("{name}")),
                )
            })
            .collect()
    }

    /// The functions, by the name of their folder, with the name of their resource.
    fn functions(&self) -> BTreeMap<String, (&str, &Map<String, Value>)> {
        self.resources("AWS::Serverless::Function")
            .into_iter()
            .map(|(resource, properties)| {
                let uri = properties["CodeUri"].as_str().unwrap();
                let name = uri
                    .strip_prefix("target/lambda/")
                    .and_then(|name| name.strip_suffix('/'))
                    .unwrap_or_else(|| panic!("{resource}: CodeUri {uri}"));
                (name.to_owned(), (resource, properties))
            })
            .collect()
    }

    fn variables(&self, function: &Map<String, Value>) -> BTreeSet<String> {
        let all = self.0.pointer("/Globals/Function/Environment/Variables");
        let own = function.get("Environment").map(|own| &own["Variables"]);
        all.into_iter()
            .chain(own)
            .flat_map(|variables| variables.as_object().unwrap().keys().cloned())
            .collect()
    }
}

/// The folders of `functions/`.
fn folders() -> BTreeSet<String> {
    fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// The texts between `open` and the next `close`.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .map(|rest| rest.split_once(close).map_or(rest, |(inside, _)| inside))
        .collect()
}

/// Every Rust file below a folder, except tests.
fn rust_files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_folder_of_functions_is_deployed_and_nothing_else() {
    let template = Template::read();
    let deployed: BTreeSet<String> = template.functions().into_keys().collect();
    assert_eq!(deployed, folders());
}

#[test]
fn a_function_is_given_exactly_the_variables_it_reads() {
    let template = Template::read();
    // Such as `queue_url: get("CHATBILL_QUEUE_URL", needs.contains(&Need::Queue))`, whatever its line breaks.
    let settings: String = source("shared/runtime/src/settings.rs")
        .split_whitespace()
        .collect();
    let variables: Vec<(&str, &str)> = between(&settings, ":get(\"", ")")
        .into_iter()
        .map(|call| call.split_once("\",").unwrap())
        .collect();
    assert_eq!(variables.len(), 7, "{variables:?}");
    for (name, (resource, function)) in template.functions() {
        let main = source(&format!("functions/{name}/src/main.rs"));
        let needs = between(&main, "Settings::read(&[", "])");
        assert_eq!(needs.len(), 1, "{name} reads its settings once");
        let needs: BTreeSet<&str> = needs[0].split(',').map(str::trim).collect();
        let read: BTreeSet<String> = variables
            .iter()
            .filter(|(_, when)| {
                *when == "true"
                    || needs
                        .iter()
                        .any(|need| !need.is_empty() && when.contains(need))
            })
            .map(|(variable, _)| (*variable).to_owned())
            .collect();
        assert_eq!(template.variables(function), read, "{resource}");
    }
}

#[test]
fn a_failed_message_of_a_batch_comes_again_alone_and_no_sooner_than_its_try_can_end() {
    let template = Template::read();
    let functions = template.functions();
    let (_, send_status) = &functions["send-status"];
    let trigger = &send_status["Events"]["Deliveries"]["Properties"];
    assert_eq!(
        trigger["FunctionResponseTypes"],
        json!(["ReportBatchItemFailures"])
    );
    assert_eq!(trigger["Queue"], json!({"!GetAtt": "Deliveries.Arn"}));
    let timeout = send_status["Timeout"].as_i64().unwrap();
    let queues = template.resources("AWS::SQS::Queue");
    let visibility = queues["Deliveries"]["VisibilityTimeout"].as_i64().unwrap();
    assert!(visibility >= 6 * timeout, "{visibility} s for {timeout} s");
}

#[test]
fn what_cannot_be_delivered_ends_in_a_dead_letter_queue_that_keeps_it_for_14_days() {
    let template = Template::read();
    let queues = template.resources("AWS::SQS::Queue");
    let redrive = &queues["Deliveries"]["RedrivePolicy"];
    assert_eq!(
        redrive["deadLetterTargetArn"],
        json!({"!GetAtt": "DeadDeliveries.Arn"})
    );
    assert!(redrive["maxReceiveCount"].as_i64().unwrap() > 1);
    for (name, queue) in queues {
        assert_eq!(queue["FifoQueue"], json!(true), "{name}");
        assert_eq!(
            queue["MessageRetentionPeriod"],
            json!(14 * 24 * 3600),
            "{name}"
        );
    }
}

#[test]
fn no_role_may_do_everything_or_act_on_everything() {
    fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
            _ => {}
        }
    }
    let template = Template::read();
    let mut statements = Vec::new();
    for (name, role) in template.resources("AWS::IAM::Role") {
        for policy in role["Policies"].as_array().unwrap() {
            statements.push((name, &policy["PolicyDocument"]["Statement"]));
        }
    }
    for (name, policy) in template.resources("AWS::IAM::ManagedPolicy") {
        statements.push((name, &policy["PolicyDocument"]["Statement"]));
    }
    assert_eq!(statements.len(), folders().len() + 1);
    for (name, list) in statements {
        for statement in list.as_array().unwrap() {
            // A statement with a condition on the account's features is the second branch of an `!If`.
            let statement = statement
                .get("!If")
                .map_or(statement, |branches| &branches[1]);
            let mut actions = Vec::new();
            texts(&statement["Action"], &mut actions);
            assert!(!actions.is_empty(), "{name}");
            for action in actions {
                assert!(!action.contains('*'), "{name} may {action}");
            }
            let mut resources = Vec::new();
            // What local AWS needs is nothing that is deployed.
            let deployed = statement["Resource"]
                .get("!If")
                .filter(|branches| branches[0] == "IsLocal")
                .map_or(&statement["Resource"], |branches| &branches[2]);
            texts(deployed, &mut resources);
            assert!(!resources.is_empty(), "{name}");
            for resource in resources {
                // The tenants of one stage are the only things that have no names yet.
                let stars = resource.replace("/tenants/*", "").matches('*').count();
                assert_eq!(stars, 0, "{name} may act on {resource}");
            }
        }
    }
}

#[test]
fn the_routes_are_those_of_the_design_and_only_webhooks_and_receipts_need_no_key() {
    let template = Template::read();
    let mut routes = BTreeSet::new();
    for (name, (resource, function)) in template.functions() {
        for event in function["Events"]
            .as_object()
            .into_iter()
            .flat_map(Map::values)
        {
            let route = &event["Properties"];
            if event["Type"] != "Api" {
                continue;
            }
            assert_eq!(route["RestApiId"], json!({"!Ref": "Api"}), "{resource}");
            let open = route.pointer("/Auth/ApiKeyRequired") == Some(&json!(false));
            routes.insert(format!(
                "{} {} {name}{}",
                route["Method"].as_str().unwrap(),
                route["Path"].as_str().unwrap(),
                if open { " open" } else { "" }
            ));
        }
    }
    let api = template.resources("AWS::Serverless::Api");
    assert_eq!(api["Api"]["Auth"]["ApiKeyRequired"], json!(true));
    let wanted = [
        "GET /invoices/{reference_id} order",
        "GET /invoices/{reference_id}/refunds refund",
        // What a person decides about held money.
        "POST /invoices/{reference_id}/settle refund",
        // The books.
        "GET /reports/day/{date} report",
        "GET /r/{token} receipt open",
        "GET /r/{token}/pay receipt open",
        "GET /r/{token}/qr.png receipt open",
        // Some gateways send the customer's browser back with a form.
        "POST /r/{token} receipt open",
        "GET /webhooks/meta/{tenant_id} pg-webhook open",
        "POST /invoices create-invoice",
        "POST /invoices/{reference_id}/refunds refund",
        "POST /invoices/{reference_id}/resend change",
        "POST /invoices/{reference_id}/status change",
        // A fixed path hides the one with a placeholder for every method.
        "POST /webhooks/meta/{tenant_id} pg-webhook open",
        "POST /webhooks/{source}/{tenant_id} pg-webhook open",
    ];
    assert_eq!(routes, wanted.into_iter().map(str::to_owned).collect());
}

/// "Send it again" after a refund or a bill without a name would pay twice, so no answer of the edge says so, nor hints at it.
#[test]
fn no_answer_of_the_edge_invites_to_pay_twice() {
    let template = Template::read();
    let api = template.resources("AWS::Serverless::Api")["Api"];
    let responses = api["GatewayResponses"].as_object().unwrap();
    let mut unsure = BTreeSet::new();
    for (name, response) in responses {
        let status: u16 = response["StatusCode"].as_str().unwrap().parse().unwrap();
        let body = response["ResponseTemplates"]["application/json"]
            .as_str()
            .unwrap();
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], json!(status), "{name}");
        let headers = response["ResponseParameters"]["Headers"]
            .as_object()
            .unwrap();
        assert_eq!(
            headers["Content-Type"], "'application/problem+json'",
            "{name}"
        );
        let detail = problem["detail"].as_str().unwrap();
        let retries = headers.contains_key("Retry-After");
        if status >= 500 {
            unsure.insert(name.as_str());
            assert!(detail.contains(chatbill_runtime::api::REPEATING), "{name}");
            assert!(!retries, "{name}");
        } else if status == 429 {
            assert!(retries && detail.contains("not carried out"), "{name}");
        } else {
            assert!(!retries && !detail.contains("again"), "{name}");
        }
    }
    for name in ["INTEGRATION_TIMEOUT", "INTEGRATION_FAILURE", "DEFAULT_5XX"] {
        assert!(unsure.contains(name), "{name}");
    }
    assert!(responses.contains_key("THROTTLED"));
}

/// What a handler answers with a 5xx tells the same: every such text is made from the one that names the names.
#[test]
fn no_answer_of_ours_invites_to_pay_twice() {
    let api = source("shared/runtime/src/api.rs");
    let api = api.split("#[cfg(test)]").next().unwrap();
    let made = |constructor: &str| between(api, constructor, "\n    }\n")[0];
    for constructor in ["pub fn unavailable(", "pub fn outcome_unknown("] {
        assert!(made(constructor).contains("{REPEATING}"), "{constructor}");
    }
    assert!(!made("pub fn internal(").contains("again"));
}

/// A request ends itself before its function is stopped and before API Gateway gives up.
#[test]
fn a_request_ends_itself_before_its_function_is_stopped() {
    let template = Template::read();
    let whole = template.0["Globals"]["Function"]["Timeout"]
        .as_u64()
        .unwrap();
    let mut behind = 0;
    for (resource, function) in template.functions().into_values() {
        let mut events = function["Events"]
            .as_object()
            .into_iter()
            .flat_map(Map::values);
        if !events.any(|event| event["Type"] == "Api") {
            continue;
        }
        behind += 1;
        let timeout = function
            .get("Timeout")
            .map_or(whole, |own| own.as_u64().unwrap());
        let budget = chatbill_runtime::budget::REQUEST.whole.as_secs();
        assert!(timeout > budget && timeout <= 29, "{resource}: {timeout}");
    }
    assert!(behind >= 6, "{behind}");
}

#[test]
fn no_group_of_functions_can_starve_another() {
    let template = Template::read();
    let groups = [
        ("Till", &["change", "create-invoice", "refund"][..]),
        ("Read", &["order", "report"][..]),
        ("Webhook", &["pg-webhook"][..]),
        ("Receipt", &["receipt"][..]),
    ];
    let mut reserved = BTreeSet::new();
    for (group, functions) in groups {
        let parameter = format!("{group}Concurrency");
        // AWS refuses any reservation in a small account.
        assert_eq!(
            template.0["Parameters"][&parameter]["Default"], 0,
            "{group}"
        );
        let wanted = json!({"!If": [format!("Has{parameter}"), {"!Ref": parameter}, {"!Ref": "AWS::NoValue"}]});
        for function in functions {
            let all = template.functions();
            let (_, properties) = &all[*function];
            assert_eq!(
                properties["ReservedConcurrentExecutions"], wanted,
                "{function}"
            );
            reserved.insert((*function).to_owned());
        }
    }
    // Everything that answers the API is in a group; the others have bounds of their own.
    let answering = template
        .functions()
        .into_iter()
        .filter(|(_, (_, function))| {
            let events = function["Events"].as_object().unwrap();
            events.values().any(|event| event["Type"] == "Api")
        });
    assert_eq!(reserved, answering.map(|(name, _)| name).collect());
    let send = template.0["Parameters"]["SendConcurrency"]["Default"].as_i64();
    assert!(send.unwrap() < 10, "a small account has 10 in all");
    let limit = |name: &str| template.0["Parameters"][name]["Default"].as_i64().unwrap();
    assert_eq!((limit("KeyRateLimit"), limit("KeyBurstLimit")), (5, 10));
    assert_eq!((limit("ApiRateLimit"), limit("ApiBurstLimit")), (200, 200));
    for resource in ["Waf", "WafAssociation"] {
        assert_eq!(template.0["Resources"][resource]["Condition"], "HasWaf");
    }
    assert_eq!(limit("WafRateLimit"), 0);
}

#[test]
fn a_run_of_reconcile_is_over_before_the_next_begins() {
    let template = Template::read();
    let all = template.functions();
    let (_, reconcile) = &all["reconcile"];
    let handler = source("functions/reconcile/src/handler.rs");
    let margin = between(&handler, "const MARGIN: i64 = ", ";")[0];
    let lease = reconcile["Timeout"].as_i64().unwrap() + margin.parse::<i64>().unwrap();
    assert!(lease < 300, "{lease}");
    let schedule = &reconcile["Events"]["Every5Minutes"]["Properties"];
    assert_eq!(schedule["Schedule"], "rate(5 minutes)");
    assert_eq!(schedule["RetryPolicy"]["MaximumRetryAttempts"], 0);
    assert_eq!(reconcile["EventInvokeConfig"]["MaximumRetryAttempts"], 0);
}

#[test]
fn no_alarm_rings_for_what_is_planned() {
    let template = Template::read();
    let alarms = template.resources("AWS::CloudWatch::Alarm");
    // A message may be on its way for the whole schedule, each wait a fifth longer by chance.
    let planned = SCHEDULE.iter().map(|wait| i64::from(*wait)).sum::<i64>() * 6 / 5;
    assert!(planned > 20 * 3600, "{planned}");
    let oldest = template.0["Parameters"]["OldestMessageAlarmSeconds"]["Default"].as_i64();
    assert!(oldest.unwrap() > planned, "{planned}");
    // One message that is given up is news for nobody; a share is.
    let given_up = alarms["MessageGivenUpAlarm"];
    assert_eq!(given_up["Statistic"], "Average");
    assert!(given_up["DatapointsToAlarm"].as_i64().unwrap() > 1);
    // Silence is what this one is about.
    assert_eq!(
        alarms["ReconcileMissingAlarm"]["TreatMissingData"],
        "breaching"
    );
    for (name, alarm) in alarms {
        let silent = alarm["TreatMissingData"] == "notBreaching";
        assert_eq!(silent, name != "ReconcileMissingAlarm", "{name}");
    }
}

#[test]
fn table_and_index_have_the_keys_the_store_writes() {
    let template = Template::read();
    let table = template.resources("AWS::DynamoDB::Table")["Orders"];
    let keys = |schema: &Value| -> Vec<(String, String)> {
        let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        schema
            .as_array()
            .unwrap()
            .iter()
            .map(|key| (text(key, "AttributeName"), text(key, "KeyType")))
            .collect()
    };
    let pair = |hash: &str, range: &str| {
        vec![
            (hash.to_owned(), "HASH".to_owned()),
            (range.to_owned(), "RANGE".to_owned()),
        ]
    };
    assert_eq!(keys(&table["KeySchema"]), pair("reference_id", "record"));
    let indexes = table["GlobalSecondaryIndexes"].as_array().unwrap();
    assert_eq!(indexes.len(), 2);
    assert_eq!(keys(&indexes[0]["KeySchema"]), pair("due_shard", "due_at"));
    assert_eq!(
        keys(&indexes[1]["KeySchema"]),
        pair("day_shard", "reference_id")
    );

    // The store's own words for them.
    let item = source("shared/store/src/item.rs");
    let orders = source("shared/store/src/orders.rs");
    let index = indexes[0]["IndexName"].as_str().unwrap();
    assert!(orders.contains(&format!("const DUE_INDEX: &str = \"{index}\";")));
    let days = source("shared/store/src/days.rs");
    let index = indexes[1]["IndexName"].as_str().unwrap();
    assert!(days.contains(&format!("const DAY_INDEX: &str = \"{index}\";")));
    for name in ["reference_id", "record"] {
        assert!(item.contains(&format!("\"{name}\".to_owned()")), "{name}");
    }
    for name in ["due_shard", "due_at", "day_shard"] {
        assert!(orders.contains(name), "{name}");
    }
    let ttl = table["TimeToLiveSpecification"]["AttributeName"]
        .as_str()
        .unwrap();
    assert!(orders.contains(ttl), "{ttl}");
}

#[test]
fn every_alarm_waits_for_an_event_that_a_function_of_that_log_writes() {
    let template = Template::read();
    let functions = template.functions();
    let mut shared = Vec::new();
    for part in ["domain", "gateways", "channels", "store", "runtime"] {
        rust_files(&root().join("shared").join(part).join("src"), &mut shared);
    }
    let filters = template.resources("AWS::Logs::MetricFilter");
    let mut counted = BTreeSet::new();
    for (name, filter) in &filters {
        let pattern = filter["FilterPattern"].as_str().unwrap();
        let event = pattern
            .strip_prefix("{ $.fields.event = \"")
            .and_then(|rest| rest.strip_suffix("\" }"))
            .unwrap_or_else(|| panic!("{name}: {pattern}"));
        let group = filter["LogGroupName"]["!Ref"].as_str().unwrap();
        let resource = group.strip_suffix("Logs").unwrap();
        let function = functions
            .iter()
            .find(|(_, (found, _))| *found == resource)
            .map_or_else(
                || panic!("{name}: {group} is no function's log"),
                |(name, _)| name,
            );
        let metric = filter["MetricTransformations"][0]["MetricName"]
            .as_str()
            .unwrap();
        counted.insert(metric);
        let mut own = shared.clone();
        rust_files(
            &root().join("functions").join(function).join("src"),
            &mut own,
        );
        let logged = format!("event = \"{event}\"");
        assert!(
            own.iter().any(|text| text.contains(&logged)),
            "{name}: {function} never logs {event}"
        );
    }
    // A metric that nobody watches, or an alarm on a metric that nobody counts, would be silent.
    let alarms = template.resources("AWS::CloudWatch::Alarm");
    let watched: BTreeSet<&str> = alarms
        .values()
        .filter(|alarm| alarm["Namespace"] == json!({"!Sub": "chatbill/${Stage}"}))
        .map(|alarm| alarm["MetricName"].as_str().unwrap())
        .collect();
    assert_eq!(watched, counted);
    assert!(!filters.is_empty());
}

#[test]
fn what_an_alarm_should_know_of_is_counted_in_the_log_of_every_function_that_can_write_it() {
    let template = Template::read();
    let filters = template.resources("AWS::Logs::MetricFilter");
    let counted: BTreeSet<(String, String)> = filters
        .values()
        .map(|filter| {
            let pattern = filter["FilterPattern"].as_str().unwrap();
            let event = between(pattern, "\"", "\"")[0].to_owned();
            (
                filter["LogGroupName"]["!Ref"].as_str().unwrap().to_owned(),
                event,
            )
        })
        .collect();
    // Which use case each function runs is in its handler; what the use cases log is in theirs.
    let wanted = [
        ("PgWebhookLogs", "webhook_refused"),
        ("PgWebhookLogs", "webhook_unreadable"),
        ("CreateInvoiceLogs", "order_held"),
        ("ChangeLogs", "order_held"),
        ("PgWebhookLogs", "order_held"),
        ("ReconcileLogs", "order_held"),
        ("SendStatusLogs", "message_given_up"),
        ("SendStatusLogs", "message_sent"),
        ("ReconcileLogs", "message_overdue"),
        ("ReconcileLogs", "reconciled"),
        ("ReconcileLogs", "reconcile_unfinished"),
        ("PgWebhookLogs", "message_given_up"),
        ("PgWebhookLogs", "order_full"),
        ("ReconcileLogs", "order_full"),
        ("RefundLogs", "order_full"),
        ("ChangeLogs", "order_full"),
        ("RefundLogs", "refund_not_now"),
        ("ReconcileLogs", "refund_not_now"),
        ("ChangeLogs", "tenant_broken"),
        ("OrderLogs", "tenant_broken"),
        ("ReceiptLogs", "tenant_broken"),
        ("RefundLogs", "tenant_broken"),
        ("ReportLogs", "tenant_broken"),
        ("ReconcileLogs", "tenant_broken"),
        ("SendStatusLogs", "tenant_broken"),
        ("CreateInvoiceLogs", "tenant_broken"),
        ("PgWebhookLogs", "tenant_broken"),
        ("RefundLogs", "order_held"),
        ("RefundLogs", "refund_failed"),
        ("ReconcileLogs", "refund_failed"),
        ("PgWebhookLogs", "refund_failed"),
        ("RefundLogs", "refund_unknown"),
        ("ReconcileLogs", "refund_unknown"),
        ("PgWebhookLogs", "refund_unknown"),
    ];
    for (group, event) in wanted {
        assert!(
            counted.contains(&(group.to_owned(), event.to_owned())),
            "{event} in {group} raises no alarm"
        );
    }
}
