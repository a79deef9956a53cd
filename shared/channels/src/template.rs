//! WhatsApp's own objects: the order inside an `order_details` message, and what fills a template.
//!
//! Documents: Meta, "Payments API – India", pages "Payment links" (Nov 2025), "Payment gateway integrations" (May 2026), "UPI intent"
//! (2026), "Order details template" and "Order status template"; facebook/openapi, business-messaging-api_v23.0.yaml.
//! The tables there call `parameters` a stringified object; every sample, and the OpenAPI file, has a plain one.

use chatbill_domain::bill::{Bill, Charge, Header, Item, Origin};
use chatbill_domain::fault::Fault;
use chatbill_domain::message::{Checkout, Content, Fulfilment, Outgoing, QrCode, Template};
use chatbill_domain::money::{Money, Paise};
use chatbill_domain::tenant::{ChannelKind, ChannelSettings};
use chatbill_domain::upi::UpiIntent;
use serde_json::{Map, Value, json};

/// "Payment links", expiration: at least 300 seconds ahead.
const SHORTEST_EXPIRY: i64 = 300;
/// What a message may take on its way to Meta.
const EXPIRY_MARGIN: i64 = 30;
/// "Payment links", expiration: description of at most 120 characters; order_status: the same.
pub(crate) const LONGEST_DESCRIPTION: usize = 120;
/// "Payment links", body: at most 1024 characters.
pub(crate) const LONGEST_BODY: usize = 1024;

/// "Payment gateway integrations", payment_gateway object: the fields a gateway's own object may have.
const EXTRAS: &[(&str, &[&str])] = &[
    ("payu", &["udf1", "udf2", "udf3", "udf4"]),
    ("zaakpay", &["extra1", "extra2"]),
    (
        "billdesk",
        &[
            "additional_info1",
            "additional_info2",
            "additional_info3",
            "additional_info4",
            "additional_info5",
            "additional_info6",
            "additional_info7",
        ],
    ),
];

/// "UPI intent": only these are supported in the link; the amount comes from the order.
const UPI_PARAMETERS: &[&str] = &["pa", "pn", "mc", "purpose", "tr"];

/// A bill in free form: the `interactive` object of an `order_details` message.
pub(crate) fn invoice(out: &Outgoing<'_>, checkout: &Checkout<'_>) -> Value {
    invoice_under(out, checkout, heading(out, None))
}

/// The same under a heading already made; see [`heading`].
pub(crate) fn invoice_under(
    out: &Outgoing<'_>,
    checkout: &Checkout<'_>,
    heading: Option<Value>,
) -> Value {
    let mut interactive = Map::new();
    interactive.insert("type".into(), "order_details".into());
    if let Some(heading) = heading {
        interactive.insert("header".into(), heading);
    }
    interactive.insert("body".into(), json!({"text": invoice_text(out)}));
    if let Some(footer) = &out.bill.footer {
        interactive.insert("footer".into(), json!({"text": footer}));
    }
    interactive.insert(
        "action".into(),
        json!({"name": "review_and_pay", "parameters": order_details(out, checkout)}),
    );
    Value::Object(interactive)
}

/// A change of the order in free form: the `interactive` object of an `order_status` message.
pub(crate) fn status(
    out: &Outgoing<'_>,
    status: Fulfilment,
    description: Option<&str>,
    text: &str,
) -> Value {
    json!({
        "type": "order_status",
        "body": {"text": cut(text, LONGEST_BODY)},
        "action": {"name": "review_order", "parameters": order_status(out, status.as_str(), description)},
    })
}

/// A text that certainly leads to the page.
pub(crate) fn with_link(text: &str, link: &str) -> String {
    if text.contains(link) {
        text.to_owned()
    } else {
        format!("{text}\n{link}")
    }
}

/// The `parameters` of an `order_details` action, the same in free form and in a template.
pub(crate) fn order_details(out: &Outgoing<'_>, checkout: &Checkout<'_>) -> Value {
    let bill = out.bill;
    let mut parameters = Map::new();
    parameters.insert("reference_id".into(), out.reference.as_str().into());
    parameters.insert("type".into(), bill.goods.as_str().into());
    if !bill.beneficiaries.is_empty() {
        parameters.insert("beneficiaries".into(), json!(bill.beneficiaries));
    }
    parameters.insert("currency".into(), "INR".into());
    parameters.insert("total_amount".into(), amount(bill.total));
    parameters.insert(
        "payment_settings".into(),
        json!([payment_setting(bill, checkout)]),
    );
    if matches!(checkout, Checkout::Link { .. }) {
        // "Payment links", parameters object: "Required. Must be upi". The other modes have dropped the field.
        parameters.insert("payment_type".into(), "upi".into());
    }
    parameters.insert("order".into(), order(out));
    Value::Object(parameters)
}

fn payment_setting(bill: &Bill, checkout: &Checkout<'_>) -> Value {
    match checkout {
        Checkout::Link { url } => json!({"type": "payment_link", "payment_link": {"uri": url}}),
        Checkout::Intent { uri } => {
            json!({"type": "upi_intent_link", "upi_intent_link": {"link": supported_intent(uri)}})
        }
        Checkout::Configuration { gateway, name } => {
            let mut setting = Map::new();
            setting.insert("type".into(), (*gateway).into());
            setting.insert("configuration_name".into(), (*name).into());
            let extras = extras(bill, gateway);
            if !extras.is_empty() {
                setting.insert((*gateway).to_owned(), Value::Object(extras));
            }
            json!({"type": "payment_gateway", "payment_gateway": setting})
        }
    }
}

fn extras(bill: &Bill, gateway: &str) -> Map<String, Value> {
    let mut extras = Map::new();
    if gateway == "razorpay" {
        if !bill.notes.is_empty() {
            extras.insert("notes".into(), json!(bill.notes));
        }
        if let Some(receipt) = &bill.receipt {
            extras.insert("receipt".into(), receipt.as_str().into());
        }
    }
    let named = EXTRAS.iter().filter(|(name, _)| *name == gateway);
    for field in named.flat_map(|(_, fields)| fields.iter()) {
        if let Some(value) = bill.extras.get(*field) {
            extras.insert((*field).to_owned(), value.as_str().into());
        }
    }
    extras
}

/// The intent without what WhatsApp does not support (`am`, `cu`, `tn` …), otherwise in its gateway's own spelling.
fn supported_intent(uri: &str) -> String {
    UpiIntent::parse(uri).map_or_else(|| uri.to_owned(), |intent| intent.only(UPI_PARAMETERS))
}

/// Whether WhatsApp could open an intent for this amount; the error says what is wrong with it. The customer of a bill whose
/// intent has no payee cannot pay, and one whose intent asks for another sum than the bill shows must not.
pub(crate) fn check_intent(uri: &str, total: Paise) -> Result<(), &'static str> {
    let intent = UpiIntent::parse(uri).ok_or("is not a upi://pay address")?;
    if intent.get("pa").is_none_or(str::is_empty) {
        return Err("names no payee (pa)");
    }
    let amount = intent.get("am");
    if amount.is_some_and(|am| Paise::parse_decimal(am) != Some(total)) {
        return Err("asks for another amount (am) than the bill's");
    }
    if intent.get("cu").is_some_and(|cu| cu != "INR") {
        return Err("asks for another currency (cu) than INR");
    }
    Ok(())
}

fn order(out: &Outgoing<'_>) -> Value {
    let bill = out.bill;
    let mut order = Map::new();
    order.insert("status".into(), "pending".into());
    if bill.quick_pay {
        order.insert("type".into(), "quick_pay".into());
    }
    if let Some(catalog) = &bill.catalog_id {
        order.insert("catalog_id".into(), catalog.as_str().into());
    }
    // Meta refuses an end that is too close, and a bill without one is better than no bill: the order ends here all the same.
    if out.expires_at.seconds_since(out.now) >= SHORTEST_EXPIRY.saturating_add(EXPIRY_MARGIN) {
        order.insert(
            "expiration".into(),
            json!({
                "timestamp": out.expires_at.seconds().to_string(),
                "description": cut(&format!("Payable until {}", out.expires_at.india()), LONGEST_DESCRIPTION),
            }),
        );
    }
    let items = bill.items.iter().map(|line| item(line, out.bare));
    order.insert("items".into(), items.collect());
    order.insert("subtotal".into(), amount(bill.subtotal));
    order.insert("tax".into(), charge(&bill.tax));
    if let Some(shipping) = &bill.shipping {
        order.insert("shipping".into(), charge(shipping));
    }
    if let Some(discount) = &bill.discount {
        order.insert("discount".into(), charge(discount));
    }
    Value::Object(order)
}

fn item(item: &Item, bare: bool) -> Value {
    let mut out = Map::new();
    if let Some(id) = &item.retailer_id {
        out.insert("retailer_id".into(), id.as_str().into());
    }
    out.insert("name".into(), item.name.as_str().into());
    out.insert("amount".into(), amount(item.amount));
    out.insert("quantity".into(), item.quantity.into());
    if let Some(sale) = item.sale_amount {
        out.insert("sale_amount".into(), amount(sale));
    }
    if let Some(Origin {
        country,
        importer_name,
        importer_address,
    }) = &item.origin
    {
        out.insert("country_of_origin".into(), country.as_str().into());
        out.insert("importer_name".into(), importer_name.as_str().into());
        out.insert("importer_address".into(), json!(importer_address));
    }
    if let Some(link) = item.image.as_ref().filter(|_| !bare) {
        out.insert("image".into(), json!({"link": link}));
    }
    Value::Object(out)
}

fn charge(charge: &Charge) -> Value {
    let mut out = json!(Money::from(charge.amount));
    if let Value::Object(fields) = &mut out {
        if let Some(description) = &charge.description {
            fields.insert("description".into(), description.as_str().into());
        }
        if let Some(program) = &charge.program {
            fields.insert("discount_program_name".into(), program.as_str().into());
        }
    }
    out
}

fn amount(paise: Paise) -> Value {
    json!(Money::from(paise))
}

/// The message's text when the bill brings none.
pub(crate) fn invoice_text(out: &Outgoing<'_>) -> String {
    match &out.bill.body {
        Some(body) => body.clone(),
        None => cut(
            &format!(
                "Your bill {} from {}: {}. Review and pay here.",
                out.bill.reference,
                out.shop,
                out.bill.total.rupees()
            ),
            LONGEST_BODY,
        ),
    }
}

/// What stands above a bill: its own header, else the code to pay. `uploaded` is the provider's id of the code's picture, for
/// providers that take uploads; without one, a picture that is not a link is left out.
pub(crate) fn heading(out: &Outgoing<'_>, uploaded: Option<&str>) -> Option<Value> {
    if out.bare {
        // What stood there could not be fetched. A template insists on a picture, and the tenant may have one for that.
        let picture = out.template?.standard_picture.as_ref()?;
        return Some(media("image", json!({"link": picture})));
    }
    if let Some(own) = &out.bill.header {
        return Some(header(own, out.bill));
    }
    match (&out.qr, uploaded) {
        (Some(QrCode::Link(link)), _) => Some(media("image", json!({"link": link}))),
        (Some(QrCode::Png(_)), Some(id)) => Some(json!({"type": "image", "image": {"id": id}})),
        (Some(QrCode::Png(_)) | None, _) => None,
    }
}

/// A message's header, in free form or as the parameter of a template's header.
fn header(header: &Header, bill: &Bill) -> Value {
    match header {
        Header::Text(text) => json!({"type": "text", "text": text}),
        Header::Image(link) => media("image", json!({"link": link})),
        Header::Video(link) => media("video", json!({"link": link})),
        // Without a name WhatsApp shows "Untitled".
        Header::Document(document) => media(
            "document",
            json!({"link": document.link, "filename": document.shown_as(&bill.reference)}),
        ),
    }
}

fn media(kind: &str, file: Value) -> Value {
    let mut out = Map::new();
    out.insert("type".into(), kind.into());
    out.insert(kind.into(), file);
    Value::Object(out)
}

/// A template message: its name and language, and what fills header, body and the order's own component.
pub(crate) fn template(out: &Outgoing<'_>, template: &Template, heading: Option<Value>) -> Value {
    let mut components = Vec::new();
    // A text header belongs to the template; only media comes from the bill.
    if let (Content::Invoice { .. }, Some(media)) = (&out.content, heading)
        && template.media_header
        && (out.bare || !matches!(out.bill.header, Some(Header::Text(_))))
    {
        components.push(json!({"type": "header", "parameters": [media]}));
    }
    if !template.parameters.is_empty() {
        let parameters: Vec<Value> = template
            .parameters
            .iter()
            .map(|variable| json!({"type": "text", "text": one_line(&out.variable(*variable))}))
            .collect();
        components.push(json!({"type": "body", "parameters": parameters}));
    }
    match &out.content {
        Content::Invoice { payment } => components.push(json!({
            "type": "button", "sub_type": "order_details", "index": 0,
            "parameters": [{"type": "action", "action": {"order_details": order_details(out, payment)}}],
        })),
        Content::Status {
            status,
            description,
            ..
        } => components.push(json!({
            "type": "order_status",
            "parameters": [{"type": "order_status", "order_status": order_status(out, status.as_str(), *description)}],
        })),
        Content::Receipt { .. } | Content::Failed { .. } | Content::Refund { .. } => {}
    }
    json!({
        "name": template.name,
        "language": {"policy": "deterministic", "code": template.language},
        "components": components,
    })
}

/// The `parameters` of an `order_status` action, the same in free form and in a template.
pub(crate) fn order_status(out: &Outgoing<'_>, status: &str, description: Option<&str>) -> Value {
    let mut order = Map::new();
    order.insert("status".into(), status.into());
    if let Some(description) = description.filter(|d| !d.is_empty()) {
        order.insert(
            "description".into(),
            cut(description, LONGEST_DESCRIPTION).into(),
        );
    }
    json!({"reference_id": out.reference.as_str(), "order": order})
}

/// Meta refuses template parameters with line breaks, tabs or runs of blanks (132018), and empty ones (131008).
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "-".to_owned()
    } else {
        line
    }
}

/// The first `longest` characters.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

/// Refuses every template of a tenant whose provider does not document how orders and links are sent in one.
pub(crate) fn undocumented(channel: &ChannelSettings, provider: &str) -> Vec<Fault> {
    let why = match channel.kind {
        ChannelKind::Sms => {
            "WhatsApp templates are of no use to an SMS channel; see dlt_template_ids".to_owned()
        }
        ChannelKind::WhatsApp => format!(
            "{provider} does not document how WhatsApp templates with orders or links are sent; ask it, or choose another provider"
        ),
    };
    [
        (&channel.invoice, "invoice"),
        (&channel.status, "status"),
        (&channel.receipt, "receipt"),
    ]
    .into_iter()
    .filter(|(template, _)| template.is_some())
    .map(|(_, name)| {
        Fault::new(
            format!("/channel/templates/{name}"),
            "impossible",
            why.clone(),
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_keeps_what_whatsapp_supports() {
        for (uri, kept) in [
            (
                "upi://pay?pa=shop@bank&pn=My%20Shop&am=10.00&cu=INR&mc=5411&tn=x&tr=T1&mode=04&purpose=00",
                "upi://pay?pa=shop@bank&pn=My%20Shop&mc=5411&tr=T1&purpose=00",
            ),
            ("upi://pay", "upi://pay"),
            ("upi://pay?pa=a@b&&sign=x", "upi://pay?pa=a@b"),
            // Field report B20.
            (
                "UPI://pay?pa=shop%40hdfcbank&pn=Ram Stores&mc=5411&tr=T1&am=850.00&cu=INR",
                "upi://pay?pa=shop@hdfcbank&pn=Ram%20Stores&mc=5411&tr=T1",
            ),
        ] {
            assert_eq!(supported_intent(uri), kept);
        }
    }

    #[test]
    fn an_intent_that_cannot_collect_this_bill_is_noticed() {
        let total = Paise::new(1000).unwrap();
        for good in [
            "upi://pay?pa=shop@bank",
            "upi://pay?pa=shop@bank&am=10.00&cu=INR&tn=x",
            "upi://pay?pn=A&pa=shop@bank&am=10",
            "upi://pay?pa=shop%40bank&pn=Ram Stores&am=10.00&am=10.00&cu=INR\n",
            "UPI://PAY?pa=shop@bank&am=10.00&sign=MEQ=",
        ] {
            assert_eq!(check_intent(good, total), Ok(()), "{good}");
        }
        for bad in [
            "",
            "upi://pay",
            "upi://mandate?pa=shop@bank",
            "https://pay.example/?pa=shop@bank",
            "upi://pay?pn=A",
            "upi://pay?pa=",
            "upi://pay?pa",
            "upi://pay?pa=shop@bank&pa=thief@bank",
            "upi://pay?pa=shop@bank&am=10.01",
            "upi://pay?pa=shop@bank&am=",
            "upi://pay?pa=shop@bank&am",
            "upi://pay?pa=shop@bank&am=10.00;",
            "upi://pay?pa=shop@bank&am=10.00#&am=1.00",
            "upi://pay?pa=shop@bank&am=10.00&am=1.00",
            "upi://pay?pa=shop@bank&cu=USD",
        ] {
            assert!(check_intent(bad, total).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_template_parameter_is_one_line() {
        assert_eq!(one_line(" a\n b\t\u{a0} c "), "a b c");
        assert_eq!(one_line("\n"), "-");
    }
}
