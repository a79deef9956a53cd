//! WhatsApp's order for India: the parameters of `order_details`, which the interactive message, the template and every
//! reseller of the API carry alike, and the order's states.
//!
//! Meta, WhatsApp "Payments API - India": pages "Payment gateway", "UPI intent", "Payment links" and "Order details
//! template" (copies of October 2025 to May 2026). Where pages contradict each other, what their JSON samples show.

use serde_json::{Map, Value};

use crate::strict::{Fields, Problem};

/// "expiration ... at least 300 seconds from when the message is sent".
const LEAST_EXPIRATION: i64 = 300;
/// The UPI limit of 5,00,000 rupees, in paise ("Payment gateway", May 2026). Above it the payment fails, not the message.
pub(crate) const UPI_CAP: i64 = 50_000_000;

/// What the documents leave open, as the account wants it played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leniency {
    /// Whether items may come without importer fields and without a catalogue.
    pub(crate) importer_fields: bool,
    /// Whether the old pair `payment_type` and `payment_configuration` will do for `payment_settings`.
    pub(crate) legacy_payment: bool,
    /// Whether a UPI link may carry more than pa, pn, mc, purpose and tr.
    pub(crate) upi_link_params: bool,
    /// Whether subtotal and tax may be left out.
    pub(crate) totals: bool,
}

/// How the order is to be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payment {
    /// Inside WhatsApp, through a payment configuration.
    Gateway {
        /// `razorpay`, `payu`, `zaakpay` or `billdesk`.
        gateway: String,
        /// The configuration's name; it may not exist.
        configuration: String,
        /// Whether only `web` is allowed, which lifts the UPI cap.
        is_web_only: bool,
        /// `notes`, `receipt`, `udf1`, ...: echoed in webhooks and look-ups.
        extras: Map<String, Value>,
    },
    /// Through a UPI link.
    UpiIntent(String),
    /// Through a payment link.
    Link(String),
}

/// An order, valid in every respect that can be seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The merchant's reference.
    pub(crate) reference_id: String,
    /// Paise.
    pub(crate) total: i64,
    /// When it can no longer be paid, in Unix seconds.
    pub(crate) expires_at: Option<i64>,
    /// How it is paid.
    pub(crate) payment: Payment,
}

/// "1-35 characters of letters, digits, underscores, dashes and dots".
pub(crate) fn check_reference(path: String, reference: &str) -> Result<(), Problem> {
    let fits = (1..=35).contains(&reference.len())
        && reference
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if fits {
        Ok(())
    } else {
        Err(Problem::value(
            path,
            "must be 1 to 35 characters of A-Z a-z 0-9 _ - .",
        ))
    }
}

/// Reads the parameters of an `order_details`.
pub(crate) fn read(
    value: &Value,
    path: &str,
    now: i64,
    leniency: Leniency,
) -> Result<Order, Problem> {
    let fields = Fields::of(
        value,
        path,
        &[
            "reference_id",
            "type",
            "beneficiaries",
            "currency",
            "total_amount",
            "payment_settings",
            "payment_type",
            "payment_configuration",
            "order",
        ],
    )?;
    let reference_id = fields.need_text("reference_id", 1000)?;
    check_reference(fields.at("reference_id"), reference_id)?;
    fields.need_word("type", &["digital-goods", "physical-goods"])?;
    if let Some(beneficiaries) = fields.array("beneficiaries")? {
        for (index, beneficiary) in beneficiaries.iter().enumerate() {
            check_beneficiary(
                beneficiary,
                format!("{}[{index}]", fields.at("beneficiaries")),
            )?;
        }
    }
    fields.need_word("currency", &["INR"])?;
    let payment = read_payment(&fields, leniency)?;
    let order = fields.need_object(
        "order",
        &[
            "status",
            "type",
            "catalog_id",
            "items",
            "subtotal",
            "tax",
            "shipping",
            "discount",
            "expiration",
        ],
    )?;
    order.need_word("status", &["pending"])?;
    order.word("type", &["quick_pay"])?;
    let catalog = order.text("catalog_id", 256)?;
    let items = read_items(&order, catalog.is_some(), leniency)?;
    let (subtotal, tax) = if leniency.totals {
        let subtotal = amount(&order, "subtotal", &["description"])?.unwrap_or(items);
        (
            subtotal,
            amount(&order, "tax", &["description"])?.unwrap_or(0),
        )
    } else {
        (
            need_amount(&order, "subtotal", &["description"])?,
            need_amount(&order, "tax", &["description"])?,
        )
    };
    let shipping = amount(&order, "shipping", &["description"])?.unwrap_or(0);
    let discount = amount(
        &order,
        "discount",
        &["description", "discount_program_name"],
    )?
    .unwrap_or(0);
    if subtotal != items {
        return Err(Problem::value(
            order.at("subtotal"),
            format!(
                "is {subtotal}, but the items add up to {items} (sale_amount where present, times quantity)"
            ),
        ));
    }
    let sum = subtotal
        .checked_add(tax)
        .and_then(|sum| sum.checked_add(shipping))
        .and_then(|sum| sum.checked_sub(discount))
        .ok_or_else(|| Problem::value(order.at("subtotal"), "the amounts are too large"))?;
    let total = need_amount(&fields, "total_amount", &[])?;
    if total != sum {
        return Err(Problem::value(
            fields.at("total_amount"),
            format!("is {total}, but subtotal + tax + shipping - discount is {sum}"),
        ));
    }
    if total == 0 {
        return Err(Problem::value(
            fields.at("total_amount"),
            "must be a positive integer",
        ));
    }
    Ok(Order {
        reference_id: reference_id.to_owned(),
        total,
        expires_at: read_expiration(&order, now)?,
        payment,
    })
}

fn check_beneficiary(value: &Value, path: String) -> Result<(), Problem> {
    let fields = Fields::of(
        value,
        path,
        &[
            "name",
            "address_line1",
            "address_line2",
            "city",
            "state",
            "country",
            "postal_code",
        ],
    )?;
    fields.need_text("name", 200)?;
    fields.need_text("address_line1", 100)?;
    fields.text("address_line2", 100)?;
    fields.need_text("city", 256)?;
    fields.need_text("state", 256)?;
    fields.need_word("country", &["India"])?;
    let postal_code = fields.need_text("postal_code", 256)?;
    if postal_code.len() != 6 || !postal_code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::value(fields.at("postal_code"), "must be 6 digits"));
    }
    Ok(())
}

fn read_expiration(order: &Fields<'_>, now: i64) -> Result<Option<i64>, Problem> {
    let Some(expiration) = order.object("expiration", &["timestamp", "description"])? else {
        return Ok(None);
    };
    expiration.text("description", 120)?;
    let at = expiration
        .need_text("timestamp", 20)?
        .parse::<i64>()
        .map_err(|_| {
            Problem::value(
                expiration.at("timestamp"),
                "must be Unix seconds as a string",
            )
        })?;
    if at < now.saturating_add(LEAST_EXPIRATION) {
        return Err(Problem::value(
            expiration.at("timestamp"),
            "must be at least 300 seconds ahead",
        ));
    }
    Ok(Some(at))
}

/// The sum of the items: `sale_amount` where present, else `amount`, times `quantity`.
fn read_items(order: &Fields<'_>, has_catalog: bool, leniency: Leniency) -> Result<i64, Problem> {
    let items = order.need_array("items")?;
    if items.is_empty() {
        return Err(Problem::value(order.at("items"), "must not be empty"));
    }
    let mut sum = 0_i64;
    let mut has_images = false;
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}[{index}]", order.at("items"));
        let fields = Fields::of(
            item,
            path.clone(),
            &[
                "retailer_id",
                "image",
                "name",
                "amount",
                "quantity",
                "sale_amount",
                "country_of_origin",
                "importer_name",
                "importer_address",
            ],
        )?;
        fields.need_text("name", 60)?;
        let retailer = fields.text("retailer_id", 256)?;
        let price = need_amount(&fields, "amount", &[])?;
        let sale = amount(&fields, "sale_amount", &[])?;
        if sale.is_some_and(|sale| sale >= price) {
            return Err(Problem::value(
                fields.at("sale_amount"),
                "must be less than amount",
            ));
        }
        let quantity = fields.need_integer("quantity")?;
        if quantity < 1 {
            return Err(Problem::value(
                fields.at("quantity"),
                "must be a positive integer",
            ));
        }
        if let Some(image) = fields.object("image", &["link"])? {
            has_images = true;
            check_url(&image, "link")?;
            if retailer.is_some() || has_catalog {
                return Err(Problem::value(
                    fields.at("image"),
                    "cannot be combined with retailer_id or catalog_id",
                ));
            }
        }
        check_importer(&fields, retailer.is_some() || has_catalog, leniency)?;
        sum = sale
            .unwrap_or(price)
            .checked_mul(quantity)
            .and_then(|line| sum.checked_add(line))
            .ok_or_else(|| Problem::value(path, "the amounts are too large"))?;
    }
    if has_images && items.len() > 10 {
        return Err(Problem::value(
            order.at("items"),
            "at most 10 items are allowed when items have images",
        ));
    }
    Ok(sum)
}

/// Country of origin and importer.
///
/// The tables require them without a catalogue, but no copy says what happens without them, and other samples of Meta's
/// own omit them and use `retailer_id`: so they are checked where present and required only if the account wants it.
/// `importer_address` is an object in every sample; the tables' `importer_adress` is a misprint and refused.
fn check_importer(
    item: &Fields<'_>,
    is_catalogued: bool,
    leniency: Leniency,
) -> Result<(), Problem> {
    item.text("country_of_origin", 100)?;
    item.text("importer_name", 200)?;
    if let Some(address) = item.object(
        "importer_address",
        &[
            "address_line1",
            "address_line2",
            "city",
            "zone_code",
            "postal_code",
            "country_code",
        ],
    )? {
        address.need_text("address_line1", 100)?;
        address.text("address_line2", 100)?;
        address.need_text("city", 100)?;
        address.text("zone_code", 100)?;
        address.need_text("postal_code", 20)?;
        address.need_text("country_code", 2)?;
    }
    if !leniency.importer_fields && !is_catalogued {
        for key in ["country_of_origin", "importer_name", "importer_address"] {
            item.need(key)?;
        }
    }
    Ok(())
}

/// `{value, offset: 100}` in whole paise, with the texts it may carry beside.
fn amount(fields: &Fields<'_>, key: &str, texts: &[&str]) -> Result<Option<i64>, Problem> {
    let mut allowed = vec!["value", "offset"];
    allowed.extend(texts);
    let Some(amount) = fields.object(key, &allowed)? else {
        return Ok(None);
    };
    let value = amount.need_integer("value")?;
    if value < 0 {
        return Err(Problem::value(amount.at("value"), "must not be negative"));
    }
    if amount.need_integer("offset")? != 100 {
        return Err(Problem::value(amount.at("offset"), "must be 100 for INR"));
    }
    for text in texts {
        amount.text(text, 60)?;
    }
    Ok(Some(value))
}

fn need_amount(fields: &Fields<'_>, key: &str, texts: &[&str]) -> Result<i64, Problem> {
    amount(fields, key, texts)?.ok_or_else(|| Problem::Missing {
        path: fields.at(key),
    })
}

/// A web address. Meta takes https only; loopback is let through, because that is where the sandbox itself lives.
fn check_url<'a>(fields: &Fields<'a>, key: &str) -> Result<&'a str, Problem> {
    let url = fields.need_text(key, 2048)?;
    let is_web = url.starts_with("https://") || url.starts_with("http://127.0.0.1:");
    if is_web && !url.contains(char::is_whitespace) {
        Ok(url)
    } else {
        Err(Problem::value(fields.at(key), "must be an https URL"))
    }
}

fn read_payment(fields: &Fields<'_>, leniency: Leniency) -> Result<Payment, Problem> {
    let legacy_type = fields.text("payment_type", 60)?;
    let legacy_configuration = fields.text("payment_configuration", 60)?;
    if let Some(kind) = legacy_type
        && kind != "upi"
        && !kind.starts_with("payment_gateway:")
    {
        return Err(Problem::value(
            fields.at("payment_type"),
            "must be \"upi\" or \"payment_gateway:<type>\"",
        ));
    }
    if leniency.legacy_payment
        && !fields.has("payment_settings")
        && let (Some(kind), Some(configuration)) = (legacy_type, legacy_configuration)
    {
        return Ok(Payment::Gateway {
            gateway: kind
                .strip_prefix("payment_gateway:")
                .unwrap_or("upi_vpa")
                .to_owned(),
            configuration: configuration.to_owned(),
            is_web_only: false,
            extras: Map::new(),
        });
    }
    let [entry] = fields.need_array("payment_settings")? else {
        return Err(Problem::value(
            fields.at("payment_settings"),
            "must have exactly one entry",
        ));
    };
    let path = format!("{}[0]", fields.at("payment_settings"));
    let entry = Fields::of(
        entry,
        path,
        &["type", "payment_gateway", "payment_link", "upi_intent_link"],
    )?;
    let kind = entry.need_word(
        "type",
        &["payment_gateway", "payment_link", "upi_intent_link"],
    )?;
    for other in ["payment_gateway", "payment_link", "upi_intent_link"] {
        if other != kind && entry.has(other) {
            return Err(Problem::Unknown {
                path: entry.at(other),
            });
        }
    }
    match kind {
        "payment_gateway" => read_gateway(&entry),
        "payment_link" => {
            let link = entry.need_object("payment_link", &["uri", "success_url", "cancel_url"])?;
            for url in ["success_url", "cancel_url"] {
                if link.has(url) {
                    check_url(&link, url)?;
                }
            }
            // "Payment links": payment_type "upi" is required here, though gone from the other pages.
            match legacy_type {
                Some("upi") => Ok(Payment::Link(check_url(&link, "uri")?.to_owned())),
                Some(_) => Err(Problem::value(
                    fields.at("payment_type"),
                    "must be \"upi\" with payment_link",
                )),
                None => Err(Problem::Missing {
                    path: fields.at("payment_type"),
                }),
            }
        }
        _ => {
            let intent = entry.need_object("upi_intent_link", &["link"])?;
            let link = intent.need_text("link", 2048)?;
            check_upi(link, leniency).map_err(|why| Problem::value(intent.at("link"), why))?;
            Ok(Payment::UpiIntent(link.to_owned()))
        }
    }
}

/// "UPI intent": of a UPI link only pa, pn, mc, purpose and tr are supported.
fn check_upi(link: &str, leniency: Leniency) -> Result<(), String> {
    let query = link
        .strip_prefix("upi://pay?")
        .ok_or("must begin with upi://pay?")?;
    if !query.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be percent-encoded".to_owned());
    }
    let mut has_payee = false;
    for pair in query.split('&') {
        let (name, value) = pair
            .split_once('=')
            .ok_or("has a parameter without value")?;
        if !["pa", "pn", "mc", "purpose", "tr"].contains(&name) && !leniency.upi_link_params {
            return Err(format!(
                "has the parameter {name:?}; only pa, pn, mc, purpose and tr are supported"
            ));
        }
        has_payee |= name == "pa" && !value.is_empty();
    }
    if has_payee {
        Ok(())
    } else {
        Err("has no payee address (pa)".to_owned())
    }
}

fn read_gateway(entry: &Fields<'_>) -> Result<Payment, Problem> {
    const GATEWAYS: &[&str] = &["razorpay", "payu", "zaakpay", "billdesk"];
    let gateway = entry.need_object(
        "payment_gateway",
        &[
            "type",
            "configuration_name",
            "razorpay",
            "payu",
            "zaakpay",
            "billdesk",
            "preferred_payment_methods",
            "enabled_payment_options",
        ],
    )?;
    let kind = gateway.need_word("type", GATEWAYS)?;
    let configuration = gateway.need_text("configuration_name", 60)?;
    if let Some(other) = GATEWAYS
        .iter()
        .find(|other| **other != kind && gateway.has(other))
    {
        return Err(Problem::Unknown {
            path: gateway.at(other),
        });
    }
    let extras = read_extras(&gateway, kind)?;
    if let Some(methods) = gateway.array("preferred_payment_methods")? {
        let path = gateway.at("preferred_payment_methods");
        if methods.len() > 1 {
            return Err(Problem::value(path, "at most one is allowed"));
        }
        for method in methods {
            Fields::of(method, format!("{path}[0]"), &["method"])?.need_word(
                "method",
                &[
                    "gpay",
                    "phonepe",
                    "paytm",
                    "bhim",
                    "amazonpay",
                    "cred",
                    "mobikwik",
                ],
            )?;
        }
    }
    let mut is_web_only = false;
    if let Some(options) = gateway.array("enabled_payment_options")? {
        match options {
            [Value::String(option)] if option == "web" => is_web_only = true,
            [Value::String(option)] if option == "upi" => {}
            _ => {
                return Err(Problem::value(
                    gateway.at("enabled_payment_options"),
                    "must be [\"upi\"] or [\"web\"]",
                ));
            }
        }
    }
    Ok(Payment::Gateway {
        gateway: kind.to_owned(),
        configuration: configuration.to_owned(),
        is_web_only,
        extras,
    })
}

/// What each gateway lets the merchant pass through.
fn read_extras(gateway: &Fields<'_>, kind: &str) -> Result<Map<String, Value>, Problem> {
    let (allowed, max): (&[&str], usize) = match kind {
        "razorpay" => (&["notes", "receipt"], 40),
        "payu" => (&["udf1", "udf2", "udf3", "udf4"], 255),
        "zaakpay" => (&["extra1", "extra2"], 180),
        _ => (
            &[
                "additional_info1",
                "additional_info2",
                "additional_info3",
                "additional_info4",
                "additional_info5",
                "additional_info6",
                "additional_info7",
            ],
            120,
        ),
    };
    let Some(extras) = gateway.object(kind, allowed)? else {
        return Ok(Map::new());
    };
    let mut read = Map::new();
    for key in allowed {
        if *key == "notes" {
            extras.pairs(key, 15, 256)?;
        } else {
            extras.text(key, max)?;
        }
        if let Some(value) = extras.get(key) {
            read.insert((*key).to_owned(), value.clone());
        }
    }
    Ok(read)
}

/// The words `order_status` can carry on the wire; `pending` cannot be sent.
pub(crate) const STATUSES: &[&str] = &[
    "processing",
    "partially_shipped",
    "shipped",
    "completed",
    "canceled",
];

/// Whether an order in `from` may become `to`.
///
/// "`canceled` and `completed` are terminal"; "`pending` can transition to any of the other statuses"; processing,
/// shipped and partially shipped "are equivalent statuses and can transition between one another".
pub(crate) fn may_become(from: &str, to: &str) -> bool {
    match from {
        "pending" => true,
        "completed" | "canceled" => false,
        _ => from != to,
    }
}
