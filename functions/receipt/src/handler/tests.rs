use chatbill_domain::event::Event;
use chatbill_domain::message::Fulfilment;
use chatbill_domain::payment::Started;
use chatbill_domain::signature::hmac_sha256;
use chatbill_testkit::aws::FakeAws;
use chatbill_testkit::builders::{bill, captured, draft, key, tenant_json};
use chatbill_testkit::events;
use chatbill_testkit::logs::Logs;
use chatbill_testkit::memory::{FixedClock, MemoryOrders, MemoryTenants};
use chatbill_testkit::network::Break;
use chatbill_testkit::world::{World, started};
use lambda_http::RequestExt;
use secrecy::SecretString;
use serde_json::json;

use super::*;

const FUNCTION: &str = "receipt";
const LINK: &str = "https://rzp.io/rzp/QK00l1";

fn ports(world: &World) -> Ports<MemoryOrders, MemoryTenants, FixedClock> {
    Ports {
        store: world.store.clone(),
        tenants: world.tenants.clone(),
        clock: world.clock.clone(),
    }
}

async fn open_link(world: &World, request: Request) -> Response<Body> {
    let answer = handle(&ports(world), request).await;
    answer.unwrap_or_else(|error| error.into_response("request-1"))
}

async fn send(world: &World, event: &str) -> Response<Body> {
    open_link(world, events::request(FUNCTION, event)).await
}

async fn billed(more: Vec<Event>) -> World {
    let world = World::new();
    let mut events = vec![started()];
    events.extend(more);
    world.order(events).await;
    world
}

fn text(response: &Response<Body>) -> &str {
    match response.body() {
        Body::Text(text) => text,
        other => panic!("not a text: {other:?}"),
    }
}

#[tokio::test]
async fn every_event_is_answered_as_recorded() {
    let events = [
        "page",
        "page-function-url",
        "previous-secret",
        "qr",
        "pay",
        "forged-token",
        "qr-with-forged-token",
        "pay-with-forged-token",
        "token-of-another-tenant",
        "unknown-order",
    ];
    events::assert_all_used(FUNCTION, events);
    for event in events {
        let (logs, _guard) = Logs::capture();
        let world = billed(Vec::new()).await;
        let response = send(&world, event).await;
        logs.assert_discreet();
        let recorded = json!({"answer": events::answer(&response), "effects": world.effects()});
        insta::assert_json_snapshot!(event, recorded);
    }
}

/// Razorpay sends the browser back with a signed query. It is no proof of payment, so nothing of it is looked at, genuine or not.
#[tokio::test]
async fn what_a_redirect_claims_changes_nothing() {
    let page = |query: &'static str| async move {
        let world = billed(Vec::new()).await;
        let before = world.store.writes().len();
        let mut request = events::request(FUNCTION, "page");
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("https://api.example{path}?{query}")
            .parse()
            .unwrap();
        let response = open_link(&world, request).await;
        assert_eq!(world.store.writes().len(), before);
        assert_eq!(world.http.labels(), Vec::<&str>::new());
        (response.status(), text(&response).to_owned())
    };
    let plain = page("").await;
    assert_eq!(plain.0, 200);
    assert!(plain.1.contains("/pay"), "still to be paid");
    for query in [
        // rzp-s08 of the signature vectors, valid under its key.
        "razorpay_payment_id=pay_Tst00000000001&razorpay_payment_link_id=plink_Tst0000000001\
         &razorpay_payment_link_reference_id=INV-2025-0001-1&razorpay_payment_link_status=paid\
         &razorpay_signature=a4264246291254e7294d3280d8cc30240a9ae91c251ef1e36803680c531e18ab",
        "razorpay_payment_link_reference_id=BM345A-12&razorpay_payment_link_status=paid&razorpay_signature=00",
        "status=paid",
    ] {
        assert_eq!(page(query).await, plain, "{query}");
    }
}

#[tokio::test]
async fn a_page_is_one_round_trip_and_shows_the_number_masked() {
    let world = billed(Vec::new()).await;
    let response = send(&world, "page").await;
    assert_eq!(world.network.round_trips(), ["store.load"]);
    assert!(text(&response).contains("BM345A-12"));
    assert!(!text(&response).contains("9876543210"));
}

/// `page.json` with another token.
fn with_token(change: impl FnOnce(&str) -> String) -> Request {
    events::request_with(FUNCTION, "page", |payload| {
        let token = change(payload["pathParameters"]["token"].as_str().unwrap());
        payload["path"] = json!(format!("/r/{token}"));
    })
}

#[tokio::test]
async fn a_token_that_was_cut_extended_or_changed_opens_nothing() {
    let world = billed(Vec::new()).await;
    let length = "YWNtZS9CTTM0NUEtMTI.BuC279j92uHOk-FY6P1Eeg".len();
    for cut in 1..length {
        let response = open_link(&world, with_token(|token| token[..cut].to_owned())).await;
        assert_eq!(response.status(), 404, "cut at {cut}");
    }
    for (from, to) in [
        ("BuC2", "BuC3"),
        ("YWNtZS9CTTM0NUEtMTI", "YWNtZS9CTTM0NUEtMTM"),
        ("Eeg", "EegA"),
        ("Eeg", "Eeg."),
        ("Eeg", "Eegg"),
    ] {
        let response = open_link(&world, with_token(|token| token.replace(from, to))).await;
        assert_eq!(response.status(), 404, "{from} to {to}");
        assert!(
            text(&response).contains("<html"),
            "a page, not a problem document"
        );
    }
    let long = "A".repeat(10_000);
    assert_eq!(open_link(&world, with_token(|_| long)).await.status(), 404);
    assert!(
        world.network.round_trips().is_empty(),
        "nobody reads the store by guessing"
    );
}

async fn goes_to(world: &World) -> String {
    let response = send(world, "pay").await;
    assert_eq!(response.status(), 302);
    response.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn pay_leads_to_the_gateway_only_while_the_bill_can_be_paid() {
    let back = "../YWNtZS9CTTM0NUEtMTI.BuC279j92uHOk-FY6P1Eeg";
    let world = billed(Vec::new()).await;
    assert_eq!(goes_to(&world).await, LINK);
    assert_eq!(send(&world, "qr").await.status(), 200);
    world.clock.advance(1900);
    assert_eq!(goes_to(&world).await, back, "expired");
    assert_eq!(send(&world, "qr").await.status(), 404);

    let paid = Event::Payment(captured(&bill(), "pay_1"));
    let canceled = Event::Fulfilment {
        to: Fulfilment::Canceled,
        description: None,
    };
    for event in [paid, canceled, Event::Expired] {
        let world = billed(vec![event.clone()]).await;
        assert_eq!(goes_to(&world).await, back, "{event:?}");
        assert_eq!(send(&world, "qr").await.status(), 404);
        assert!(!text(&send(&world, "page").await).contains("/pay\""));
    }
    let world = World::new();
    world.order(Vec::new()).await;
    assert_eq!(goes_to(&world).await, back, "no link yet");
}

#[tokio::test]
async fn with_the_store_down_the_customer_sees_a_page_that_says_so() {
    let world = billed(Vec::new()).await;
    world.network.break_at(0, Break::Request);
    let response = send(&world, "page").await;
    assert_eq!(response.status(), 503);
    assert!(text(&response).contains("<html"));
    assert!(!text(&response).contains("line is broken"));
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let world = billed(Vec::new()).await;
    let request = events::request_with(FUNCTION, "page", |payload| {
        payload["httpMethod"] = json!("DELETE")
    });
    assert_eq!(open_link(&world, request).await.status(), 405);
}

#[tokio::test]
async fn a_short_link_opens_the_same_page_and_no_other() {
    let world = billed(Vec::new()).await;
    let secret = SecretString::from("0123456789abcdef");
    let code = ShortCode::issue(&key("acme", "BM345A-12"), &secret);
    let short = |code: &str| with_token(|_| code.to_owned());
    assert_eq!(
        open_link(&world, short(code.as_str())).await.status(),
        404,
        "never stored"
    );
    world
        .store
        .shorten(&code, &key("acme", "BM345A-12"))
        .await
        .unwrap();
    world.network.reset();
    let page = open_link(&world, short(code.as_str())).await;
    assert_eq!(world.network.round_trips(), ["store.follow", "store.load"]);
    assert!(text(&page).contains("BM345A-12"));
    // A stored code that was not made with the shop's secrets opens nothing, and nobody even looks for it.
    let forged = ShortCode::issue(&key("acme", "BM345A-12"), &SecretString::from("guessed"));
    world
        .store
        .shorten(&forged, &key("acme", "BM345A-12"))
        .await
        .unwrap();
    world.network.reset();
    assert_eq!(
        open_link(&world, short(forged.as_str())).await.status(),
        404
    );
    assert!(world.network.round_trips().is_empty());
    // The button on the page leads on under the same name.
    let pay = events::request_with(FUNCTION, "pay", |payload| {
        payload["path"] = json!(format!("/r/{}/pay", code.as_str()));
    });
    let response = open_link(&world, pay).await;
    assert_eq!(response.headers()["location"], LINK);
}

#[tokio::test]
async fn a_browser_that_is_posted_back_is_sent_to_the_page_and_nothing_is_read() {
    let world = billed(Vec::new()).await;
    let request = events::request_with(FUNCTION, "page", |payload| {
        payload["httpMethod"] = json!("POST");
        payload["body"] = json!("status=success&amount=850.00");
    });
    let response = open_link(&world, request).await;
    assert_eq!(response.status(), 303);
    assert_eq!(
        response.headers()["location"],
        "YWNtZS9CTTM0NUEtMTI.BuC279j92uHOk-FY6P1Eeg"
    );
    assert!(world.network.round_trips().is_empty());
}

/// A shop at Zaakpay, whose payment is a form.
async fn billed_by_form() -> World {
    let world = World::with(|document| {
        document["payment"] = json!({
            "mode": "payment_link", "gateway": "zaakpay",
            "credentials": {"merchant_identifier": "b19e8f103bce406cbd3476431b6b7973", "secret_keys": ["0678056d96914a8583fb518caf42828a"], "buyer_email": "bills@acme.example"},
        });
    });
    let mut draft = draft(bill());
    draft.contents.terms.gateway = "zaakpay".to_owned();
    draft.contents.terms.receipt_url =
        "https://shop.example/r/YWNtZS9CTTM0NUEtMTI.BuC279j92uHOk-FY6P1Eeg".to_owned();
    let link = format!("{}/pay", draft.contents.terms.receipt_url);
    let expires_at = draft.contents.expires_at;
    let started = Event::Started(Started {
        id: "BM345A12".to_owned(),
        link,
        expires_at,
        extra: None,
    });
    world.order_of(draft, vec![started]).await;
    world
}

#[tokio::test]
async fn a_gateway_whose_payment_is_a_form_gets_it_posted_by_a_page_with_its_own_policy() {
    let world = billed_by_form().await;
    let response = send(&world, "pay").await;
    assert_eq!(response.status(), 200);
    let page = text(&response);
    assert!(
        page.contains(
            r#"<form method="post" action="https://api.zaakpay.com/api/paymentTransact/V8""#
        ),
        "{page}"
    );
    assert!(page.contains(r#"name="checksum""#) && page.contains("85000"));
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.contains("form-action https: https://api.zaakpay.com;"),
        "{policy}"
    );
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"));
    insta::assert_snapshot!("pay_form", page);
}

#[tokio::test]
async fn a_page_that_has_no_form_to_post_does_not_lead_to_itself() {
    let world = billed_by_form().await;
    // The shop has changed to another gateway meanwhile.
    let now = World::new();
    let ports = Ports {
        tenants: now.tenants.clone(),
        ..ports(&world)
    };
    let response = handle(&ports, events::request(FUNCTION, "pay"))
        .await
        .unwrap();
    assert_eq!(response.status(), 302);
    assert!(
        !response.headers()["location"]
            .to_str()
            .unwrap()
            .ends_with("/pay")
    );
}

/// Links that nobody was given: long and short ones, of merchants that there are not and of one there is.
fn made_up(n: usize) -> String {
    let guessed = SecretString::from(format!("guessed-{n}"));
    let reference = format!("BM-{n}");
    match n % 4 {
        0 => ReceiptToken::issue(&key("acme", &reference), &guessed),
        1 => ReceiptToken::issue(&key(&format!("made-up-{n}"), &reference), &guessed),
        // With the mark of the merchant, as everybody has it who got one link.
        2 => ShortCode::issue(&key("acme", &reference), &guessed)
            .as_str()
            .to_owned(),
        _ => {
            let bytes = hmac_sha256(b"guessed", &n.to_be_bytes());
            bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()[..13].to_owned()
        }
    }
}

#[tokio::test]
async fn a_hundred_thousand_made_up_links_cost_a_handful_of_calls() {
    let (aws, endpoint) = FakeAws::start().await;
    aws.put("/chatbill/test/tenants/acme", &tenant_json());
    let credentials = chatbill_store::Credentials::new("test", "test", None, None, "test");
    let config = chatbill_store::configured("ap-south-1".to_owned(), credentials, Some(endpoint));
    let clock = FixedClock::default();
    let ports = Ports {
        store: chatbill_store::DynamoOrders::new(&config, "orders"),
        tenants: chatbill_store::SsmTenants::new(
            &config,
            "/chatbill/test/tenants",
            true,
            |_| Ok(()),
            clock.clone(),
        ),
        clock,
    };
    for n in 0..100_000 {
        let path = match n % 3 {
            0 => format!("/r/{}", made_up(n)),
            1 => format!("/r/{}/pay", made_up(n)),
            _ => format!("/r/{}/qr.png", made_up(n)),
        };
        let request = lambda_http::http::Request::builder()
            .uri(&path)
            .body(Body::Empty)
            .unwrap();
        let answer = handle(&ports, request.with_raw_http_path(&path)).await;
        assert_eq!(answer.unwrap().status(), 404, "{path}");
    }
    let calls = aws.calls();
    assert!(
        calls.keys().all(|call| call.starts_with("AmazonSSM.")),
        "{calls:?}"
    );
    assert!(calls.values().sum::<usize>() <= 6, "{calls:?}");
}
