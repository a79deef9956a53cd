use super::*;
use chatbill_domain::bill::Bill;
use chatbill_domain::event::Recorded;
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::order::{Contents, Terms};
use chatbill_domain::payment::{AttemptStatus, Closed, PaymentReport, Started};
use chatbill_domain::tenant::LatePayment;
use serde_json::{Value, json};

/// 26 Feb 2026, 23:36 in India.
const TAKEN: Millis = Millis::from_seconds(1_772_129_215);
const ID: &str = "pay_N1qCqzUwNGCJ7r";

fn money(paise: i64) -> Value {
    json!({"value": paise, "offset": 100})
}

fn origin(mut item: Value) -> Value {
    item["country_of_origin"] = json!("India");
    item["importer_name"] = json!("Acme Foods");
    item["importer_address"] = json!({"address_line1": "1 Mill Road", "city": "Delhi", "zone_code": "DL", "postal_code": "110093", "country_code": "IN"});
    item
}

fn bill_json() -> Value {
    json!({
        "reference_id": "BM345A-12",
        "customer": {"phone": "+919876543210", "name": "Pallavi Rao"},
        "goods": "physical-goods",
        "items": [
            origin(json!({"name": "India Gate Basmati Rice 5 kg", "quantity": 2, "amount": money(45_000), "sale_amount": money(42_000)})),
            origin(json!({"name": "Tata Salt 1 kg", "quantity": 1, "amount": money(2_800)})),
            origin(json!({"name": "ताज़ा पनीर 200 ग्राम", "quantity": 3, "amount": money(9_500)})),
        ],
        "tax": {"value": 5_765, "offset": 100, "description": "GST 5%"},
        "shipping": {"value": 4_000, "offset": 100, "description": "Home delivery"},
        "discount": {"value": 10_000, "offset": 100, "discount_program_name": "Holi offer"},
        "footer": "Thank you for shopping with us!"
    })
}

fn bill(document: &Value) -> Bill {
    Bill::read(document, chatbill_domain::phone::Country::INDIA, || {
        ReferenceId::parse("unnamed").unwrap()
    })
    .unwrap()
}

fn tenant_named(name: &str) -> Tenant {
    let document = json!({
        "tenant_id": "acme", "display_name": name,
        "api_keys": [],
        "receipt_secrets": ["0123456789abcdef"],
        "channel": {"kind": "whatsapp", "provider": "meta", "from": "+918045210677", "credentials": {}},
        "payment": {"mode": "payment_link", "gateway": "razorpay", "credentials": {}}
    });
    Tenant::read(&document.to_string(), true).unwrap()
}

fn tenant() -> Tenant {
    tenant_named("Acme Stores")
}

fn order_of(bill: Bill, mode: PaymentMode, events: Vec<Event>) -> Order {
    let key = OrderKey::new(TenantId::parse("acme").unwrap(), bill.reference.clone());
    let contents = Contents {
        hash: bill.hash(),
        expires_at: TAKEN.plus_seconds(bill.expires_in),
        bill,
        terms: Terms {
            mode,
            gateway: "razorpay".into(),
            account: None,
            channel: "whatsapp".into(),
            provider: "meta".into(),
            on_captured: Fulfilment::Processing,
            late_payment: LatePayment::Hold,
            receipt_message: false,
            failed_message: false,
            receipt_url: view().receipt_url,
        },
        created_at: TAKEN,
    };
    let events = events
        .into_iter()
        .zip((60..).step_by(60))
        .map(|(event, seconds)| Recorded::new(TAKEN.plus_seconds(seconds), "test", event))
        .collect();
    Order::new(key, contents, events, None, 0)
}

fn started() -> Event {
    Event::Started(Started {
        id: "plink_1".into(),
        link: "https://rzp.io/i/AiGGmnh".into(),
        expires_at: TAKEN.plus_seconds(1800),
        extra: None,
    })
}

fn payment(id: &str, status: AttemptStatus, paise: i64) -> Event {
    Event::Payment(PaymentReport {
        paid_in_full: None,
        fee: None,
        offer: None,
        status,
        payment_id: id.into(),
        amount: Paise::new(paise).unwrap(),
        currency: "INR".into(),
        method: Some("upi".into()),
        error: None,
        at: None,
    })
}

/// The total of [`bill_json`].
const TOTAL: i64 = 115_065;

fn order(events: impl IntoIterator<Item = Event>) -> Order {
    let events = [Event::Created, started()]
        .into_iter()
        .chain(events)
        .collect();
    order_of(bill(&bill_json()), PaymentMode::PaymentLink, events)
}

fn view() -> View {
    View {
        pay_url: Some("/prod/r/token/pay".into()),
        qr_url: Some("/prod/r/token/qr.png".into()),
        receipt_url: "https://bills.example.in/r/token".into(),
        now: TAKEN.plus_seconds(600),
    }
}

fn page(order: &Order) -> String {
    let html = render(order, &tenant(), &view()).unwrap();
    harmless(&html);
    assert_eq!(can_be_paid(&html), payable(order, view().now));
    html
}

fn page_with(order: &Order, status: PaymentStatus, refunded: i64) -> String {
    let standing = Standing {
        status,
        paid: order.paid(),
        refunded: Paise::new(refunded).unwrap(),
    };
    let view = view();
    let html = Receipt::new(order, &tenant(), &view, &standing)
        .render()
        .unwrap();
    harmless(&html);
    html
}

/// What holds for every page, whatever was typed.
fn harmless(html: &str) {
    let lower = html.to_lowercase();
    for bad in [
        "<script",
        "javascript:",
        " style=",
        "<iframe",
        "<form",
        "<link",
        "@import",
        "url(",
    ] {
        assert!(!lower.contains(bad), "{bad}");
    }
    // No event handler: no attribute of any tag begins with "on".
    for tag in lower.split('<').skip(1).filter_map(|t| t.split_once('>')) {
        assert!(!tag.0.contains(" on"), "<{}>", tag.0);
    }
    for number in ["9876543210", "98765 43210", "+919876543210"] {
        assert!(!html.contains(number), "{number}");
    }
    assert!(!html.chars().any(reorders));
    assert!(html.contains("<html lang=\"en-IN\">"));
    assert!(html.contains("content=\"noindex, nofollow\""));
}

/// The text a person reads, tags and style left out, blanks collapsed.
fn read(html: &str) -> String {
    let body = html.split_once("<body>").unwrap().1;
    let mut text = String::new();
    let mut tag = false;
    for c in body.chars() {
        match c {
            '<' => {
                tag = true;
                text.push(' ');
            }
            '>' => tag = false,
            _ if !tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has(html: &str, texts: &[&str]) {
    let text = read(html);
    for wanted in texts {
        assert!(text.contains(wanted), "{wanted:?} is not in {text}");
    }
}

fn lacks(html: &str, texts: &[&str]) {
    let text = read(html);
    for unwanted in texts {
        assert!(!text.contains(unwanted), "{unwanted:?} is in {text}");
    }
}

fn can_be_paid(html: &str) -> bool {
    let button = html.contains("class=\"pay\" href=\"/prod/r/token/pay\"");
    let code = html.contains("<img src=\"/prod/r/token/qr.png\"");
    assert_eq!(button, code);
    button
}

#[test]
fn an_unpaid_bill_shows_everything_and_how_to_pay() {
    let html = page(&order([]));
    assert_eq!(
        read(&html),
        "A Acme Stores Bill no. BM345A-12 26 Feb 2026, 23:36 IST \
         To pay ₹1,150.65 Pay before 27 Feb 2026, 00:06 IST Pay ₹1,150.65 Or scan with another phone to pay \
         Already paid? Check again \
         Items Item Amount \
         India Gate Basmati Rice 5 kg 2 × regular price ₹450.00 now ₹420.00 ₹840.00 \
         Tata Salt 1 kg 1 × ₹28.00 ₹28.00 \
         ताज़ा पनीर 200 ग्राम 3 × ₹95.00 ₹285.00 \
         Subtotal ₹1,153.00 Tax (GST 5%) ₹57.65 Shipping (Home delivery) ₹40.00 Discount (Holi offer) −₹100.00 \
         Total ₹1,150.65 You saved ₹160.00 on this bill \
         Details Customer Pallavi Rao Phone +91••••••3210 \
         Thank you for shopping with us! This page stays here. Keep its link, or print it."
    );
    assert!(can_be_paid(&html));
    assert!(html.contains("<s><span class=\"aside\">regular price </span>₹450.00</s>"));
    assert!(html.contains("alt=\"QR code to pay ₹1,150.65 to Acme Stores\""));
    assert!(html.contains("<title>Bill BM345A-12 · Acme Stores</title>"));
}

#[test]
fn a_failed_attempt_is_not_the_end() {
    let html = page(&order([payment("pay_0", AttemptStatus::Failed, TOTAL)]));
    has(
        &html,
        &[
            "To pay ₹1,150.65",
            "The last attempt failed. You can try again.",
        ],
    );
    assert!(can_be_paid(&html));
}

#[test]
fn a_payment_on_its_way_is_not_asked_for_twice() {
    let html = page(&order([payment(ID, AttemptStatus::Authorized, TOTAL)]));
    has(
        &html,
        &[
            "A payment is being confirmed. Please do not pay again.",
            "Check again",
        ],
    );
    lacks(&html, &["Paid", "Pay before"]);
    assert!(!can_be_paid(&html));
}

#[test]
fn an_authorisation_that_led_to_nothing_hides_no_way_to_pay() {
    // The third event of the order.
    let authorized = || order([payment(ID, AttemptStatus::Authorized, TOTAL)]);
    let mut late = view();
    late.now = TAKEN.plus_seconds(180 + 15 * 60);
    for (now, can_pay) in [(-1, false), (0, true)] {
        let mut view = view();
        view.now = late.now.plus_seconds(now);
        let html = render(&authorized(), &tenant(), &view).unwrap();
        assert_eq!(can_be_paid(&html), can_pay, "{now}");
        assert_eq!(payable(&authorized(), view.now), can_pay, "{now}");
    }
    let voided = page(&order([
        payment(ID, AttemptStatus::Authorized, TOTAL),
        payment(ID, AttemptStatus::Failed, TOTAL),
    ]));
    has(&voided, &["The last attempt failed. You can try again."]);
    assert!(can_be_paid(&voided));
}

/// Bill, fee or offer, and what was paid: each by its name.
#[test]
fn a_fee_or_an_offer_stands_beside_what_was_paid() {
    let paid = |amount: i64, fee: Option<i64>| {
        let Event::Payment(report) = payment(ID, AttemptStatus::Captured, amount) else {
            panic!("no payment")
        };
        let total = Paise::new(TOTAL).unwrap();
        let fee = fee.map(|fee| Paise::new(fee).unwrap());
        Event::Payment(PaymentReport {
            fee,
            ..report.paying(total)
        })
    };
    let with_fee = page(&order([paid(TOTAL + 1_003, Some(1_003))]));
    has(
        &with_fee,
        &[
            "Paid ₹1,160.68",
            "Total ₹1,150.65",
            "Payment fee ₹10.03",
            "Paid ₹1,160.68",
        ],
    );
    let with_offer = page(&order([paid(TOTAL - 5_000, None)]));
    has(
        &with_offer,
        &["Paid ₹1,100.65", "Total ₹1,150.65", "Payment offer −₹50.00"],
    );
    // What the shop accepted although it is another sum is what was paid.
    let accepted = page(&order([
        payment(ID, AttemptStatus::Captured, TOTAL + 100),
        Event::Settled {
            payment_id: ID.into(),
            accept: true,
        },
    ]));
    has(&accepted, &["Paid ₹1,151.65", "Total ₹1,150.65"]);
    lacks(&accepted, &["Payment fee"]);
    let plain = page(&order([payment(ID, AttemptStatus::Captured, TOTAL)]));
    lacks(&plain, &["Payment fee", "Payment offer"]);
    let back = page_with(
        &order([paid(TOTAL + 1_003, Some(1_003))]),
        PaymentStatus::Refunded,
        TOTAL,
    );
    has(
        &back,
        &["Refunded ₹1,150.65 Everything went back to you but the payment fee"],
    );
}

#[test]
fn a_paid_bill_is_a_receipt() {
    let html = page(&order([payment(ID, AttemptStatus::Captured, TOTAL)]));
    has(
        &html,
        &[
            "Receipt no. BM345A-12",
            "Paid ₹1,150.65 Thank you!",
            "Paid on 26 Feb 2026, 23:39 IST Paid by UPI Payment ID pay_N1qCqzUwNGCJ7r",
            "Order status Being prepared",
        ],
    );
    lacks(&html, &["Pay before", "Check again", "To pay"]);
    assert!(!can_be_paid(&html));
    assert!(html.contains("<title>Receipt BM345A-12 · Acme Stores</title>"));
}

#[test]
fn a_shipped_order_shows_what_the_shop_said() {
    let html = page(&order([
        payment(ID, AttemptStatus::Captured, TOTAL),
        Event::Fulfilment {
            to: Fulfilment::Shipped,
            description: Some("Blue Dart 123 <b>".into()),
        },
    ]));
    has(
        &html,
        &["Order status Shipped From the shop Blue Dart 123 &#60;b&#62;"],
    );
}

#[test]
fn refunds_show_what_went_back_and_what_stayed() {
    let paid = order([payment(ID, AttemptStatus::Captured, TOTAL)]);
    let part = page_with(&paid, PaymentStatus::PartiallyRefunded, 15_065);
    has(
        &part,
        &[
            "Paid, partly refunded ₹1,150.65 ₹150.65 went back to you.",
            "Total ₹1,150.65 Refunded −₹150.65 Paid after refund ₹1,000.00",
        ],
    );
    let all = page_with(&paid, PaymentStatus::Refunded, TOTAL);
    has(
        &all,
        &[
            "Refunded ₹1,150.65 The whole amount went back to you.",
            "Refunded −₹1,150.65 Paid after refund ₹0.00",
        ],
    );
    assert!(!can_be_paid(&part) && !can_be_paid(&all));
}

#[test]
fn a_closed_bill_cannot_be_paid() {
    let canceled = page(&order([Event::Closed {
        reason: Closed::Canceled,
    }]));
    has(
        &canceled,
        &["Canceled ₹1,150.65 This bill was canceled. There is nothing to pay."],
    );
    let expired = page(&order([Event::Expired]));
    has(
        &expired,
        &["Expired ₹1,150.65 The time to pay this bill is over."],
    );
    for html in [&canceled, &expired] {
        assert!(!can_be_paid(html));
        lacks(html, &["Pay before", "Check again", "You saved"]);
    }
}

#[test]
fn after_its_time_a_bill_cannot_be_paid_although_nobody_closed_it_yet() {
    let mut late = view();
    late.now = TAKEN.plus_seconds(1800);
    let html = render(&order([]), &tenant(), &late).unwrap();
    has(
        &html,
        &["The time to pay is over. If you have just paid, check again in a minute."],
    );
    assert!(!can_be_paid(&html));
}

#[test]
fn money_under_review_is_never_called_paid() {
    let mismatch = page(&order([payment(ID, AttemptStatus::Captured, TOTAL - 1)]));
    let late = page(&order([
        Event::Expired,
        payment(ID, AttemptStatus::Captured, TOTAL),
    ]));
    for html in [&mismatch, &late] {
        has(
            html,
            &[
                "Payment under review ₹1,150.65 The shop is checking this payment. Please do not pay again.",
            ],
        );
        lacks(html, &["Paid", "Pay before", ID, "Receipt no."]);
        assert!(!can_be_paid(html));
    }
}

#[test]
fn a_second_payment_does_not_unpay_the_first() {
    let html = page(&order([
        payment(ID, AttemptStatus::Captured, TOTAL),
        payment("pay_2", AttemptStatus::Captured, TOTAL),
    ]));
    has(
        &html,
        &[
            "Paid ₹1,150.65",
            "The shop is checking another payment for this bill.",
        ],
    );
}

#[test]
fn without_a_link_the_page_says_where_to_pay() {
    let mut nowhere = view();
    nowhere.pay_url = None;
    nowhere.qr_url = None;
    let say = |order: &Order| read(&render(order, &tenant(), &nowhere).unwrap());
    let inside = |events| order_of(bill(&bill_json()), PaymentMode::PaymentGateway, events);
    let text = say(&inside(vec![
        Event::Created,
        payment("p", AttemptStatus::Failed, TOTAL),
    ]));
    assert!(
        text.contains("You can try again. Please pay in the WhatsApp chat this bill came in."),
        "{text}"
    );
    let link = |events| order_of(bill(&bill_json()), PaymentMode::PaymentLink, events);
    assert!(say(&link(vec![Event::Created])).contains("The payment is being prepared."));
    let refused = Event::StartRefused {
        code: "BAD_REQUEST_ERROR".into(),
        detail: "key_id rzp_x is wrong".into(),
    };
    let text = say(&link(vec![Event::Created, refused]));
    assert!(
        text.contains("This bill cannot be paid online at the moment."),
        "{text}"
    );
    assert!(
        !text.contains("rzp_x") && !text.contains("BAD_REQUEST"),
        "{text}"
    );
}

#[test]
fn a_plain_bill_has_no_empty_lines() {
    let document = json!({
        "reference_id": "1", "customer": {"phone": "+14155550123"}, "goods": "digital-goods",
        "items": [origin(json!({"name": "Song", "quantity": 1, "amount": money(100)}))]
    });
    let order = order_of(
        bill(&document),
        PaymentMode::PaymentLink,
        vec![Event::Created, started()],
    );
    let html = page(&order);
    has(
        &html,
        &["Song 1 × ₹1.00 ₹1.00 Total ₹1.00 Details Phone +14•••••0123 This page"],
    );
    lacks(
        &html,
        &[
            "Subtotal", "Tax", "Shipping", "Discount", "Customer", "saved", "None",
        ],
    );
}

#[test]
fn hostile_names_stay_text() {
    let names = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</td></tr></table><h1>Free</h1>",
        "</title><style>*{display:none}</style>",
        "{{ shop }} {% if true %}",
        "&lt;b&gt; &amp; AT&T",
        "\u{202E}00.1₹ won\u{202C} \u{2066}x\u{2069}\u{2069}\u{202D}9",
        "שוקולד 00.5 ₹",
        "مرحبا 100",
        &"W".repeat(60),
        "🥭🥭 👨‍👩‍👧‍👦 क्षि",
        "two\nlines",
        "Recharge 98765 43210",
        "Recharge +91-98765-43210 (987) 654.3210",
    ];
    for name in names {
        let document = json!({
            "reference_id": "1", "customer": {"phone": "+919876543210", "name": name}, "goods": "digital-goods",
            "items": [origin(json!({"name": name, "quantity": 1, "amount": money(100)}))],
            "tax": {"value": 0, "offset": 100, "description": name},
            "discount": {"value": 1, "offset": 100, "description": name, "discount_program_name": name},
            "footer": name
        });
        let events = vec![
            Event::Created,
            started(),
            payment(name, AttemptStatus::Captured, 99),
            Event::Fulfilment {
                to: Fulfilment::Shipped,
                description: Some(name.into()),
            },
        ];
        let order = order_of(bill(&document), PaymentMode::PaymentLink, events);
        let shop: String = name.replace('\n', " ");
        let html = render(&order, &tenant_named(&shop), &view()).unwrap();
        harmless(&html);
        for (tag, count) in [
            ("<h1", 1),
            ("<img", 0),
            ("<style", 1),
            ("<table", 1),
            ("</title", 1),
        ] {
            assert_eq!(html.matches(tag).count(), count, "{tag} with {name}");
        }
        // Every one of these stands in an element of its own direction.
        assert!(html.matches("<bdi").count() >= 9, "{name}");
    }
}

#[test]
fn what_reorders_text_is_taken_out_and_what_shapes_letters_stays() {
    let words = Words::of(&order([]));
    assert_eq!(words.clean("a\u{202E}b\u{2066}c\u{2069}\u{202A}d"), "abcd");
    assert_eq!(
        words.clean("क्\u{200D}ष \u{200F}א 👨\u{200D}👩"),
        "क्\u{200D}ष \u{200F}א 👨\u{200D}👩"
    );
    assert_eq!(words.clean("a\nb"), "a b");
}

#[test]
fn the_customers_number_is_hidden_wherever_it_was_typed() {
    let words = Words::of(&order([]));
    for (typed, shown) in [
        ("9876543210", "••••••3210"),
        ("Recharge 98765 43210!", "Recharge ••••• •3210!"),
        ("+919876543210", "+••••••••3210"),
        ("(987) 654-3210", "(•••) •••-3210"),
        ("9876543211", "9876543211"),
        ("Item 987654321", "Item 987654321"),
        ("9 9876543210", "9 ••••••3210"),
        ("", ""),
    ] {
        assert_eq!(words.clean(typed), shown, "{typed}");
    }
}

#[test]
fn only_addresses_that_can_be_opened_become_links() {
    for good in [
        "https://a.example/x?y=1&z=2",
        "http://127.0.0.1:1/r",
        "upi://pay?pa=a@b&pn=Acme Stores",
        "UPI://pay",
        "/prod/r/t/pay",
        "YWNtZS9B.Zm9v/pay",
        "r/a:b",
    ] {
        assert_eq!(link(good), Some(good));
    }
    for bad in [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\tscript:alert(1)",
        "\u{1}javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "/\\evil.example",
        "",
        " https://x",
        " //evil.example",
        "vbscript:x",
    ] {
        assert_eq!(link(bad), None, "{bad}");
    }
    let mut odd = view();
    odd.pay_url = Some("https://pay.example/?a=\"><b>&c".into());
    let html = render(&order([]), &tenant(), &odd).unwrap();
    assert!(
        html.contains("href=\"https://pay.example/?a=&#34;&#62;&#60;b&#62;&#38;c\""),
        "{html}"
    );
}

#[test]
fn the_policy_allows_this_style_and_nothing_else() {
    let headers = headers();
    let policy = &headers
        .iter()
        .find(|(name, _)| *name == "Content-Security-Policy")
        .unwrap()
        .1;
    for html in [
        page(&order([])),
        not_found().unwrap(),
        unavailable().unwrap(),
    ] {
        let style = html
            .split_once("<style>")
            .unwrap()
            .1
            .split_once("</style>")
            .unwrap()
            .0;
        // The browser's own rule: the hash of the element's text, line ends as \n.
        assert!(!style.contains('\r'));
        let hash = STANDARD.encode(sha256(style.as_bytes()));
        assert_eq!(
            *policy,
            format!(
                "default-src 'none'; img-src 'self'; style-src 'sha256-{hash}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
            )
        );
    }
}

#[test]
fn every_page_is_private() {
    let headers = headers();
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Robots-Tag", "noindex, nofollow"),
        ("Cache-Control", "private, no-store"),
    ] {
        assert!(headers.contains(&(name, value.to_owned())), "{name}");
    }
}

#[test]
fn notices_are_plain() {
    for html in [not_found().unwrap(), unavailable().unwrap()] {
        harmless(&html);
        assert!(!html.contains("Acme"));
    }
}
