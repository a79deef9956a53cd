//! The bill: what a shop's till posts, checked against every rule a messaging provider would apply later.
//!
//! The limits are Meta's for `order_details` in India (developers.facebook.com, "Payments API – India", pages
//! "Payment links", "Payment gateway integrations", copies of 2025-11 and 2026-05), which Exotel and Kaleyra pass on.
//! All faults of a request are found in one go, each with its JSON pointer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contact::Msisdn;
use crate::fault::Fault;
use crate::ids::ReferenceId;
use crate::json::{self, Fields};
use crate::money::{Paise, UPI_CAP};
use crate::phone::Country;

/// Meta: an order expires at the earliest 300 s ahead.
pub const SHORTEST_EXPIRY: i64 = 300;
/// Razorpay, the strictest gateway here, closes links after six months at the latest.
pub const LONGEST_EXPIRY: i64 = 180 * 24 * 3600;
/// When the bill does not say: half an hour.
pub const DEFAULT_EXPIRY: i64 = 1800;
/// No provider states a cap for items without images. This one is ours: it keeps an order well inside one DynamoDB item.
pub const MOST_ITEMS: usize = 250;
/// Meta: item images limit the list to 10.
pub const MOST_ITEMS_WITH_IMAGES: usize = 10;

/// Digital or physical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goods {
    /// `digital-goods`
    #[serde(rename = "digital-goods")]
    Digital,
    /// `physical-goods`
    #[serde(rename = "physical-goods")]
    Physical,
}

impl Goods {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digital => "digital-goods",
            Self::Physical => "physical-goods",
        }
    }
}

/// Who pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// Where to reach them.
    #[serde(rename = "p")]
    pub phone: Msisdn,
    /// What to call them.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A postal address of an importer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// First line.
    pub address_line1: String,
    /// Second line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_line2: Option<String>,
    /// City.
    pub city: String,
    /// State or zone code, e.g. `DL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_code: Option<String>,
    /// Postal code.
    pub postal_code: String,
    /// ISO 3166-1 alpha-2.
    pub country_code: String,
}

/// Where an item comes from; Meta wants it for items that are not in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Country of origin.
    #[serde(rename = "c")]
    pub country: String,
    /// Importer's name.
    #[serde(rename = "n")]
    pub importer_name: String,
    /// Importer's address.
    #[serde(rename = "a")]
    pub importer_address: Address,
}

/// One line of the bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Content id in the catalog.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub retailer_id: Option<String>,
    /// Name, at most 60 characters.
    #[serde(rename = "n")]
    pub name: String,
    /// How many; a weighed good is one line of quantity 1.
    #[serde(rename = "q")]
    pub quantity: u32,
    /// Price of one.
    #[serde(rename = "a")]
    pub amount: Paise,
    /// Reduced price of one; counts instead of `amount`.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sale_amount: Option<Paise>,
    /// Origin and importer.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Link of a picture.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Item {
    /// What one costs: the sale price where there is one.
    #[must_use]
    pub fn price(&self) -> Paise {
        self.sale_amount.unwrap_or(self.amount)
    }

    /// What the line costs, unless it does not fit.
    #[must_use]
    pub fn total(&self) -> Option<Paise> {
        self.price().checked_mul(self.quantity)
    }
}

/// Tax, shipping or discount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Charge {
    /// How much.
    #[serde(rename = "a")]
    pub amount: Paise,
    /// At most 60 characters.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Only for discounts; at most 60 characters.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// To whom physical goods are shipped. Not shown to the customer; Meta needs it for compliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beneficiary {
    /// At most 200 characters.
    pub name: String,
    /// At most 100 characters.
    pub address_line1: String,
    /// At most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_line2: Option<String>,
    /// City.
    pub city: String,
    /// State.
    pub state: String,
    /// Always `India`.
    pub country: String,
    /// Six digits.
    pub postal_code: String,
}

/// What stands above the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    /// A line of at most 60 characters.
    Text(String),
    /// A picture's https link.
    Image(String),
    /// A video's https link.
    Video(String),
    /// A document.
    Document(Document),
}

/// A document above the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredDocument", into = "StoredDocument")]
pub struct Document {
    /// Its https link.
    pub link: String,
    /// The name the customer sees, if the shop gave one.
    pub filename: Option<String>,
}

/// A document without a name of its own is stored as its link, as all were before there were names.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredDocument {
    Link(String),
    Named { link: String, filename: String },
}

impl From<StoredDocument> for Document {
    fn from(stored: StoredDocument) -> Self {
        match stored {
            StoredDocument::Link(link) => Self {
                link,
                filename: None,
            },
            StoredDocument::Named { link, filename } => Self {
                link,
                filename: Some(filename),
            },
        }
    }
}

impl From<Document> for StoredDocument {
    fn from(Document { link, filename }: Document) -> Self {
        match filename {
            Some(filename) => Self::Named { link, filename },
            None => Self::Link(link),
        }
    }
}

/// Meta, "Messages API", document object: `filename` of at most 240 characters.
const LONGEST_FILENAME: usize = 240;

/// Endings of pages that make a document, not of documents.
const SCRIPTS: [&str; 7] = ["php", "asp", "aspx", "jsp", "cgi", "do", "html"];

impl Document {
    /// The name the customer sees: the shop's, else the last part of the link when it is a file's name, else the bill's number.
    #[must_use]
    pub fn shown_as(&self, reference: &ReferenceId) -> String {
        self.filename
            .clone()
            .or_else(|| file_of(&self.link))
            .unwrap_or_else(|| format!("{reference}.pdf"))
    }
}

/// The file a link leads to, if its path ends with one.
fn file_of(link: &str) -> Option<String> {
    let path = link.split(['?', '#']).next()?;
    let (_, path) = path.strip_prefix("https://")?.split_once('/')?;
    let name = crate::upi::decoded(path.rsplit('/').next()?)?;
    let (stem, ending) = name.rsplit_once('.')?;
    let good = !stem.is_empty()
        && (2..=5).contains(&ending.len())
        && ending.bytes().all(|b| b.is_ascii_alphanumeric())
        && !SCRIPTS.contains(&ending.to_ascii_lowercase().as_str())
        && name.chars().count() <= LONGEST_FILENAME
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'));
    good.then_some(name)
}

/// A checked bill. Totals add up and every limit is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The shop's number of it.
    #[serde(rename = "r")]
    pub reference: ReferenceId,
    /// Who pays.
    #[serde(rename = "c")]
    pub customer: Customer,
    /// Kind of goods.
    #[serde(rename = "g")]
    pub goods: Goods,
    /// Lines.
    #[serde(rename = "i")]
    pub items: Vec<Item>,
    /// Tax; zero when the bill has none, because Meta requires the field.
    #[serde(rename = "t", default)]
    pub tax: Charge,
    /// Shipping.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<Charge>,
    /// Discount.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<Charge>,
    /// Sum of the lines.
    #[serde(rename = "u")]
    pub subtotal: Paise,
    /// subtotal + tax + shipping − discount.
    #[serde(rename = "a")]
    pub total: Paise,
    /// Message text, at most 1024 characters.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Message footer, at most 60 characters.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// Message header.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// Recipients of shipped goods.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub beneficiaries: Vec<Beneficiary>,
    /// Facebook catalog the items are in.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub catalog_id: Option<String>,
    /// Hides "Review and Pay" and shows "Pay Now".
    #[serde(rename = "y", default, skip_serializing_if = "std::ops::Not::not")]
    pub quick_pay: bool,
    /// The merchant's notes for the gateway.
    #[serde(rename = "n", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// The merchant's receipt number for the gateway.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// `udf1`–`udf4` (PayU), `extra1`–`extra2` (Zaakpay), `additional_info1`–`additional_info7` (BillDesk).
    #[serde(rename = "x", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extras: BTreeMap<String, String>,
    /// Seconds until the bill ends.
    #[serde(rename = "l")]
    pub expires_in: i64,
}

/// Gateway extras and their longest values: Meta, "Payment gateway integrations", payment_gateway object.
const EXTRAS: [(&str, usize); 13] = [
    ("udf1", 255),
    ("udf2", 255),
    ("udf3", 255),
    ("udf4", 255),
    ("extra1", 180),
    ("extra2", 180),
    ("additional_info1", 120),
    ("additional_info2", 120),
    ("additional_info3", 120),
    ("additional_info4", 120),
    ("additional_info5", 120),
    ("additional_info6", 120),
    ("additional_info7", 120),
];

impl Bill {
    /// Reads a posted bill. `country` is the shop's: there a phone number may be written without its code. `name` gives the
    /// reference when the bill has none.
    pub fn read(
        document: &Value,
        country: Country,
        name: impl FnOnce() -> ReferenceId,
    ) -> Result<Self, Vec<Fault>> {
        json::read(document, "", |f| read_bill(f, country, name))
    }

    /// Identifies the content: the same bill posted twice has the same hash, however its JSON was laid out.
    #[must_use]
    pub fn hash(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        hex::encode(
            crate::signature::sha256(text.as_bytes())
                .get(..16)
                .unwrap_or_default(),
        )
    }
}

fn read_bill(
    f: &mut Fields<'_>,
    country: Country,
    name: impl FnOnce() -> ReferenceId,
) -> Option<Bill> {
    let given = f.value("reference_id").is_some();
    let reference = f
        .parsed("reference_id", |text| {
            ReferenceId::parse(text.as_str()).map_err(|_| reference_rule(&text))
        })
        .or_else(|| (!given).then(name));
    let customer = match f.required("customer") {
        Some(_) => f.object("customer", |c| {
            let phone = c
                .required("phone")
                .and_then(|_| c.parsed("phone", |text| Msisdn::from_people(&text, country)));
            let name = c.text("name", 200);
            Some(Customer {
                phone: phone?,
                name,
            })
        }),
        None => None,
    };
    let goods = f.required("goods").and_then(|_| {
        f.parsed("goods", |text| match text.as_str() {
            "digital-goods" => Ok(Goods::Digital),
            "physical-goods" => Ok(Goods::Physical),
            _ => Err("digital-goods or physical-goods"),
        })
    });
    let catalog_id = f.text("catalog_id", 100);
    let items = read_items(f, catalog_id.is_some());
    let tax = read_charge(f, "tax", false);
    let shipping = read_charge(f, "shipping", false);
    let discount = read_charge(f, "discount", true);
    let stated = f.object("total_amount", json::amount);
    if f.value("currency").is_some() {
        f.parsed("currency", |text| {
            if text == "INR" {
                Ok(())
            } else {
                Err("INR, the only currency WhatsApp payments take")
            }
        });
    }
    let expires_in = read_expiry(f);
    let body = f.lines("body", 1024);
    let footer = f.text("footer", 60);
    let header = f.object("header", read_header);
    let beneficiaries = read_beneficiaries(f, goods);
    let quick_pay = f.boolean("quick_pay").unwrap_or(false);
    let notes = read_notes(f);
    let receipt = f.text("receipt", 40);
    let extras = EXTRAS
        .iter()
        .filter_map(|(name, max)| f.text(name, *max).map(|value| ((*name).to_owned(), value)))
        .collect();

    let items = items?;
    let (tax, shipping, discount) = (tax.ok()?, shipping.ok()?, discount.ok()?);
    let subtotal = items
        .iter()
        .try_fold(Paise::ZERO, |sum, item| sum.checked_add(item.total()?));
    let Some(subtotal) = subtotal else {
        f.fault("items", "too_large", "the sum of the items does not fit");
        return None;
    };
    let total = total(subtotal, tax.as_ref(), shipping.as_ref(), discount.as_ref());
    let total = match total {
        Ok(total) => total,
        Err((field, detail)) => {
            f.fault(field, "inconsistent", detail);
            return None;
        }
    };
    if let Some(stated) = stated
        && stated != total
    {
        f.fault(
            "total_amount",
            "total_mismatch",
            format!(
                "is {} paise, but subtotal {} + tax + shipping - discount makes {} paise",
                stated.get(),
                subtotal.get(),
                total.get()
            ),
        );
    }
    if total == Paise::ZERO {
        f.fault("total_amount", "zero", "there is nothing to pay");
    }
    if total > UPI_CAP {
        f.fault(
            "total_amount",
            "upi_cap",
            "is above 5,00,000 INR, the most a UPI payment can carry",
        );
    }
    Some(Bill {
        reference: reference?,
        customer: customer?,
        goods: goods?,
        items,
        tax: tax.unwrap_or_default(),
        shipping,
        discount,
        subtotal,
        total,
        body,
        footer,
        header,
        beneficiaries: beneficiaries?,
        catalog_id,
        quick_pay,
        notes: notes?,
        receipt,
        extras,
        expires_in: expires_in?,
    })
}

/// The rule a reference breaks, and for a GST invoice number the spelling that keeps it. Such numbers have slashes and dashes but never
/// dots (CGST Rules, 46(b)), so a dot for each slash is a name no other number has.
fn reference_rule(text: &str) -> String {
    match ReferenceId::parse(text.replace('/', ".")) {
        Ok(dotted) => format!(
            "{}; write the slashes of an invoice number as dots: {dotted}",
            ReferenceId::RULE
        ),
        Err(_) => ReferenceId::RULE.to_owned(),
    }
}

/// Meta: `total = subtotal + tax + shipping - discount`, exactly.
fn total(
    subtotal: Paise,
    tax: Option<&Charge>,
    shipping: Option<&Charge>,
    discount: Option<&Charge>,
) -> Result<Paise, (&'static str, &'static str)> {
    let amount = |charge: Option<&Charge>| charge.map_or(Paise::ZERO, |c| c.amount);
    let taxed = subtotal
        .checked_add(amount(tax))
        .ok_or(("tax", "the sum does not fit"))?;
    let shipped = taxed
        .checked_add(amount(shipping))
        .ok_or(("shipping", "the sum does not fit"))?;
    shipped
        .checked_sub(amount(discount))
        .ok_or(("discount", "is larger than what it is taken from"))
}

fn read_expiry(f: &mut Fields<'_>) -> Option<i64> {
    if f.value("expires_in").is_none() {
        return Some(DEFAULT_EXPIRY);
    }
    let seconds = f.integer("expires_in")?;
    if seconds < SHORTEST_EXPIRY {
        f.fault(
            "expires_in",
            "too_short",
            format!("must be at least {SHORTEST_EXPIRY} seconds, WhatsApp's minimum"),
        );
        return None;
    }
    if seconds > LONGEST_EXPIRY {
        f.fault(
            "expires_in",
            "too_long",
            format!("must be at most {LONGEST_EXPIRY} seconds (180 days)"),
        );
        return None;
    }
    Some(seconds)
}

fn read_items(f: &mut Fields<'_>, catalog: bool) -> Option<Vec<Item>> {
    f.required("items")?;
    let list = f.list("items")?;
    if list.is_empty() {
        f.fault("items", "empty", "must have at least one item");
        return None;
    }
    if list.len() > MOST_ITEMS {
        f.fault(
            "items",
            "too_many",
            format!("has {} items; at most {MOST_ITEMS} are allowed", list.len()),
        );
        return None;
    }
    let mut faults = Vec::new();
    let items: Vec<Option<Item>> = list
        .iter()
        .enumerate()
        .map(|(index, value)| {
            json::object(
                value,
                format!("{}/{index}", f.at("items")),
                &mut faults,
                |i| read_item(i, catalog),
            )
        })
        .collect();
    let with_image = items.iter().flatten().any(|i| i.image.is_some());
    if with_image && list.len() > MOST_ITEMS_WITH_IMAGES {
        faults.push(Fault::new(
            f.at("items"),
            "too_many",
            format!("at most {MOST_ITEMS_WITH_IMAGES} items are allowed when an item has an image"),
        ));
    }
    let clean = faults.is_empty();
    f.extend(faults);
    if clean {
        items.into_iter().collect()
    } else {
        None
    }
}

fn read_item(i: &mut Fields<'_>, catalog: bool) -> Option<Item> {
    let retailer_id = i.text("retailer_id", 100);
    let name = i.required_text("name", 60);
    let quantity = i.required("quantity").and_then(|_| i.integer("quantity"));
    let quantity = match quantity.map(u32::try_from) {
        Some(Ok(quantity @ 1..=1_000_000)) => Some(quantity),
        Some(_) => {
            i.fault("quantity", "out_of_range", "must be between 1 and 1000000");
            None
        }
        None => None,
    };
    let amount = i
        .required("amount")
        .and_then(|_| i.object("amount", json::amount));
    let sale_amount = i.object("sale_amount", json::amount);
    if let (Some(amount), Some(sale)) = (amount, sale_amount)
        && sale >= amount
    {
        i.fault("sale_amount", "not_reduced", "must be less than amount");
    }
    let image = i.object("image", |image| read_https(image, "link"));
    if image.is_some() && retailer_id.is_some() {
        i.fault("image", "excluded", "cannot be combined with retailer_id");
    }
    if image.is_some() && catalog {
        i.fault("image", "excluded", "cannot be combined with catalog_id");
    }
    let origin = read_origin(i, catalog || retailer_id.is_some());
    Some(Item {
        retailer_id,
        name: name?,
        quantity: quantity?,
        amount: amount?,
        sale_amount,
        origin,
        image,
    })
}

/// Meta: without a catalog, each item names its country of origin and importer. Its own OpenAPI sample has an item with only a
/// `retailer_id`, so that is taken as well; half of the three fields never is.
fn read_origin(i: &mut Fields<'_>, in_catalog: bool) -> Option<Origin> {
    let present = ["country_of_origin", "importer_name", "importer_address"]
        .map(|name| i.value(name).is_some());
    if present == [false; 3] && in_catalog {
        return None;
    }
    let country = i.required_text("country_of_origin", 100);
    let importer_name = i.required_text("importer_name", 200);
    let address = i.required("importer_address").and_then(|_| {
        i.object("importer_address", |a| {
            let address_line1 = a.required_text("address_line1", 100);
            let address_line2 = a.text("address_line2", 100);
            let city = a.required_text("city", 100);
            let zone_code = a.text("zone_code", 20);
            let postal_code = a.required_text("postal_code", 20);
            let country_code = a.required_text("country_code", 2);
            Some(Address {
                address_line1: address_line1?,
                address_line2,
                city: city?,
                zone_code,
                postal_code: postal_code?,
                country_code: country_code?,
            })
        })
    });
    Some(Origin {
        country: country?,
        importer_name: importer_name?,
        importer_address: address?,
    })
}

/// `Err(())` when the charge is there and wrong, so that sums are not reported on top.
fn read_charge<'a>(
    f: &mut Fields<'a>,
    name: &'a str,
    discount: bool,
) -> Result<Option<Charge>, ()> {
    if f.value(name).is_none() {
        return Ok(None);
    }
    f.object(name, |c| {
        let amount = json::amount(c);
        let description = c.text("description", 60);
        let program = if discount {
            c.text("discount_program_name", 60)
        } else {
            None
        };
        Some(Charge {
            amount: amount?,
            description,
            program,
        })
    })
    .map(Some)
    .ok_or(())
}

fn read_https(f: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let link = f.required_text(name, 2048)?;
    let host = link.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || link.contains(char::is_whitespace) {
        f.fault(name, "invalid", "must be an https link");
        return None;
    }
    Some(link)
}

fn read_header(h: &mut Fields<'_>) -> Option<Header> {
    h.required("type")?;
    let kind = h.parsed("type", |text| match text.as_str() {
        "text" | "image" | "video" | "document" => Ok(text),
        _ => Err("text, image, video or document"),
    })?;
    match kind.as_str() {
        "text" => h.required_text("text", 60).map(Header::Text),
        "image" => h
            .required("image")
            .and_then(|_| h.object("image", |m| read_https(m, "link")))
            .map(Header::Image),
        "video" => h
            .required("video")
            .and_then(|_| h.object("video", |m| read_https(m, "link")))
            .map(Header::Video),
        _ => h
            .required("document")
            .and_then(|_| {
                h.object("document", |m| {
                    let link = read_https(m, "link");
                    let filename = m.text("filename", LONGEST_FILENAME);
                    Some(Document {
                        link: link?,
                        filename,
                    })
                })
            })
            .map(Header::Document),
    }
}

fn read_beneficiaries(f: &mut Fields<'_>, goods: Option<Goods>) -> Option<Vec<Beneficiary>> {
    if f.value("beneficiaries").is_none() {
        return Some(Vec::new());
    }
    let list = f.list("beneficiaries")?;
    if list.len() > 10 {
        f.fault("beneficiaries", "too_many", "at most 10 are allowed");
        return None;
    }
    if goods == Some(Goods::Digital) && !list.is_empty() {
        f.fault(
            "beneficiaries",
            "excluded",
            "are only for shipped physical-goods",
        );
    }
    let mut faults = Vec::new();
    let read = list
        .iter()
        .enumerate()
        .map(|(index, value)| {
            json::object(
                value,
                format!("{}/{index}", f.at("beneficiaries")),
                &mut faults,
                |b| {
                    let name = b.required_text("name", 200);
                    let address_line1 = b.required_text("address_line1", 100);
                    let address_line2 = b.text("address_line2", 100);
                    let city = b.required_text("city", 100);
                    let state = b.required_text("state", 100);
                    let country = b.required("country").and_then(|_| {
                        b.parsed("country", |text| {
                            if text == "India" {
                                Ok(text)
                            } else {
                                Err("India")
                            }
                        })
                    });
                    let postal_code = b.required("postal_code").and_then(|_| {
                        b.parsed("postal_code", |text| {
                            let six = text.len() == 6 && text.bytes().all(|c| c.is_ascii_digit());
                            if six { Ok(text) } else { Err("six digits") }
                        })
                    });
                    Some(Beneficiary {
                        name: name?,
                        address_line1: address_line1?,
                        address_line2,
                        city: city?,
                        state: state?,
                        country: country?,
                        postal_code: postal_code?,
                    })
                },
            )
        })
        .collect();
    f.extend(faults);
    read
}

/// Razorpay and Meta: at most 15 notes of 256 characters.
fn read_notes(f: &mut Fields<'_>) -> Option<BTreeMap<String, String>> {
    let Some(value) = f.value("notes") else {
        return Some(BTreeMap::new());
    };
    let Value::Object(object) = value else {
        f.fault("notes", "wrong_type", "must be an object of texts");
        return None;
    };
    if object.len() > 15 {
        f.fault(
            "notes",
            "too_many",
            format!("has {} keys; at most 15 are allowed", object.len()),
        );
    }
    let mut notes = BTreeMap::new();
    let mut faults = Vec::new();
    for (key, value) in object {
        let pointer = format!(
            "{}/{}",
            f.at("notes"),
            key.replace('~', "~0").replace('/', "~1")
        );
        if json::one_line(key) == crate::payment::REFERENCE_NOTE {
            faults.push(Fault::new(
                pointer,
                "reserved",
                "is set by Chatbill itself, so that a payment finds its bill",
            ));
            continue;
        }
        let name = json::one_line(key);
        match value.as_str().map(json::lines) {
            Some(text) if json::has_control(&text) || json::has_control(&name) => {
                faults.push(Fault::new(
                    pointer,
                    "control_character",
                    "must not contain control characters",
                ))
            }
            Some(text)
                if text.chars().count() <= 256
                    && !name.is_empty()
                    && name.chars().count() <= 256 =>
            {
                if notes.insert(name, text).is_some() {
                    faults.push(Fault::new(
                        pointer,
                        "duplicate_key",
                        "is another note's key",
                    ));
                }
            }
            Some(_) => faults.push(Fault::new(
                pointer,
                "too_long",
                "keys and values have 1 to 256 characters",
            )),
            None => faults.push(Fault::new(pointer, "wrong_type", "must be a string")),
        }
    }
    f.extend(faults);
    Some(notes)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "small numbers of a test; an overflow panics here"
    )]

    use super::*;
    use serde_json::json;

    fn bill() -> Value {
        json!({
            "reference_id": "BM345A-12",
            "customer": {"phone": "+919876543210", "name": "Pallavi"},
            "goods": "physical-goods",
            "items": [{
                "retailer_id": "SKU001", "name": "Basmati 5 kg", "quantity": 2,
                "amount": {"value": 45000, "offset": 100}, "sale_amount": {"value": 42000, "offset": 100}
            }],
            "tax": {"value": 1000, "offset": 100, "description": "GST 5%"},
            "total_amount": {"value": 85000, "offset": 100},
            "currency": "INR", "expires_in": 1800
        })
    }

    fn read(document: &Value) -> Result<Bill, Vec<Fault>> {
        Bill::read(document, Country::INDIA, || {
            ReferenceId::parse("generated").unwrap()
        })
    }

    fn codes(document: &Value) -> Vec<(String, &'static str)> {
        read(document)
            .unwrap_err()
            .into_iter()
            .map(|f| (f.pointer, f.code))
            .collect()
    }

    #[test]
    fn the_sale_price_makes_the_subtotal() {
        let bill = read(&bill()).unwrap();
        assert_eq!(bill.subtotal.get(), 84_000);
        assert_eq!(bill.total.get(), 85_000);
    }

    #[test]
    fn what_is_stored_reads_back_the_same() {
        let bill = read(&bill()).unwrap();
        let text = serde_json::to_string(&bill).unwrap();
        assert_eq!(serde_json::from_str::<Bill>(&text).unwrap(), bill);
        assert_eq!(bill.hash().len(), 32);
    }

    #[test]
    fn the_hash_sees_content_not_layout() {
        let one = read(&bill()).unwrap();
        let mut reordered = serde_json::Map::new();
        for (k, v) in bill().as_object().unwrap().iter().rev() {
            reordered.insert(k.clone(), v.clone());
        }
        assert_eq!(read(&Value::Object(reordered)).unwrap().hash(), one.hash());
        let mut other = bill();
        other["customer"]["name"] = json!("Pallavi R");
        assert_ne!(read(&other).unwrap().hash(), one.hash());
    }

    #[test]
    fn the_hash_of_a_bill_stays_what_it_was() {
        // Orders that are stored have it: another value would make a conflict of every bill that is posted again.
        assert_eq!(
            read(&bill()).unwrap().hash(),
            "684ff6baef5c218b305943a1cd77fbc9"
        );
    }

    #[test]
    fn a_phone_in_another_spelling_is_the_same_bill() {
        let one = read(&bill()).unwrap();
        for phone in ["98765 43210", "+9876543210", "0091-98765-43210"] {
            let mut doc = bill();
            doc["customer"]["phone"] = json!(phone);
            let again = read(&doc).unwrap();
            assert_eq!(again.customer.phone.e164(), "+919876543210");
            assert_eq!(again.hash(), one.hash(), "{phone}");
        }
    }

    #[test]
    fn a_number_with_slashes_is_refused_with_its_dotted_form() {
        // Field report B26.
        let mut doc = bill();
        for (number, fix) in [
            ("INV/26-27/0012", Some("INV.26-27.0012")),
            ("26/27/9", Some("26.27.9")),
            ("INV 26/27", None),
            ("has spaces", None),
        ] {
            doc["reference_id"] = json!(number);
            let faults = read(&doc).unwrap_err();
            assert_eq!(
                (faults[0].pointer.as_str(), faults[0].code),
                ("/reference_id", "invalid")
            );
            let told = faults[0].detail.split_once("as dots: ").map(|(_, fix)| fix);
            assert_eq!(told, fix, "{number}");
        }
        doc["reference_id"] = json!("INV.26-27.0012");
        assert!(read(&doc).is_ok());
    }

    #[test]
    fn texts_from_windows_are_the_same_bill() {
        // Field report B14.
        let mut plain = bill();
        plain["body"] = json!("Thank you\nVisit again");
        plain["footer"] = json!("Acme Stores");
        plain["notes"] = json!({"till": "3 left"});
        let one = read(&plain).unwrap();
        let mut windows = plain.clone();
        windows["items"][0]["name"] = json!("Basmati\t5 kg\r\n");
        windows["body"] = json!("Thank you\r\nVisit again");
        windows["footer"] = json!("Acme\tStores");
        windows["notes"] = json!({"till\t": "3\tleft"});
        let two = read(&windows).unwrap();
        assert_eq!(two, one);
        assert_eq!(two.hash(), one.hash());
        assert_eq!(one.body.as_deref(), Some("Thank you\nVisit again"));
        for (field, pointer) in [
            (json!({"body": "a\u{b}b"}), "/body"),
            (json!({"footer": "a\u{1b}b"}), "/footer"),
            (json!({"notes": {"k": "a\u{0}"}}), "/notes/k"),
        ] {
            let mut doc = bill();
            doc.as_object_mut()
                .unwrap()
                .extend(field.as_object().unwrap().clone());
            assert_eq!(codes(&doc), [(pointer.to_owned(), "control_character")]);
        }
    }

    #[test]
    fn a_document_has_a_name_the_customer_can_read() {
        let shown = |document: Value| {
            let mut doc = bill();
            doc["header"] = json!({"type": "document", "document": document});
            let bill = read(&doc).unwrap();
            let stored = serde_json::to_string(&bill).unwrap();
            assert_eq!(serde_json::from_str::<Bill>(&stored).unwrap(), bill);
            match &bill.header {
                Some(Header::Document(document)) => document.shown_as(&bill.reference),
                other => panic!("{other:?}"),
            }
        };
        // Field report B13.
        assert_eq!(
            shown(
                json!({"link": "https://shop.example/inv/BM345A-12.pdf", "filename": "Invoice BM345A-12.pdf"})
            ),
            "Invoice BM345A-12.pdf"
        );
        for (link, name) in [
            ("https://shop.example/inv/A-1.pdf", "A-1.pdf"),
            (
                "https://shop.example/inv/A%201.PDF?sig=a/b.c#d.e",
                "A 1.PDF",
            ),
            ("https://shop.example/inv/4711", "BM345A-12.pdf"),
            ("https://shop.example/", "BM345A-12.pdf"),
            ("https://shop.example", "BM345A-12.pdf"),
            ("https://shop.example/bill.php?id=7.pdf", "BM345A-12.pdf"),
            ("https://shop.example/.pdf", "BM345A-12.pdf"),
            ("https://shop.example/v1.2/", "BM345A-12.pdf"),
            ("https://shop.example/a%2fb.pdf", "BM345A-12.pdf"),
            ("https://shop.example/a%zz.pdf", "BM345A-12.pdf"),
        ] {
            assert_eq!(shown(json!({"link": link})), name, "{link}");
        }
        let mut doc = bill();
        doc["header"] = json!({"type": "document", "document": {"link": "https://x.example/a.pdf", "filename": "x".repeat(241)}});
        assert_eq!(
            codes(&doc),
            [("/header/document/filename".to_owned(), "too_long")]
        );
        // What was stored before there were names.
        let old: Header =
            serde_json::from_str(r#"{"document": "https://x.example/a.pdf"}"#).unwrap();
        let document = Document {
            link: "https://x.example/a.pdf".to_owned(),
            filename: None,
        };
        assert_eq!(old, Header::Document(document));
        assert_eq!(
            serde_json::to_string(&old).unwrap(),
            r#"{"document":"https://x.example/a.pdf"}"#
        );
    }

    #[test]
    fn all_faults_come_at_once_with_pointers() {
        let mut doc = bill();
        doc["reference_id"] = json!("a/b");
        doc["customer"]["phone"] = json!("987654321");
        doc["goods"] = json!("physical_goods");
        doc["items"][0]["quantity"] = json!(1.5);
        doc["items"][0]["name"] = json!("x".repeat(61));
        doc["items"][0]["sale_amount"]["value"] = json!(45000);
        doc["tax"]["offset"] = json!(1000);
        doc["currency"] = json!("USD");
        doc["expires_in"] = json!(299);
        doc["colour"] = json!("red");
        let seen = codes(&doc);
        for expected in [
            ("/reference_id", "invalid"),
            ("/customer/phone", "invalid"),
            ("/goods", "invalid"),
            ("/items/0/quantity", "wrong_type"),
            ("/items/0/name", "too_long"),
            ("/items/0/sale_amount", "not_reduced"),
            ("/tax/offset", "invalid"),
            ("/currency", "invalid"),
            ("/expires_in", "too_short"),
            ("/colour", "unknown_field"),
        ] {
            assert!(
                seen.contains(&(expected.0.to_owned(), expected.1)),
                "{expected:?} not in {seen:?}"
            );
        }
        assert_eq!(seen.len(), 10, "{seen:?}");
    }

    #[test]
    fn each_rule_refuses_by_itself() {
        let too_many = vec![bill()["items"][0].clone(); MOST_ITEMS + 1];
        let mut pictured = bill()["items"][0].clone();
        pictured.as_object_mut().unwrap().remove("retailer_id");
        pictured["country_of_origin"] = json!("India");
        pictured["importer_name"] = json!("Acme");
        pictured["importer_address"] = json!({"address_line1": "1", "city": "Delhi", "postal_code": "110093", "country_code": "IN"});
        pictured["image"] = json!({"link": "https://x.example/a.png"});
        let eleven = vec![pictured.clone(); 11];
        for (path, value, pointer, code) in [
            (
                "/total_amount/value",
                json!(85001),
                "/total_amount",
                "total_mismatch",
            ),
            (
                "/total_amount/value",
                json!(-1),
                "/total_amount/value",
                "negative",
            ),
            (
                "/total_amount/value",
                json!(9_223_372_036_854_775_808_u64),
                "/total_amount/value",
                "wrong_type",
            ),
            ("/items", json!([]), "/items", "empty"),
            ("/items", json!(too_many), "/items", "too_many"),
            ("/items", json!(eleven), "/items", "too_many"),
            (
                "/items/0/quantity",
                json!(0),
                "/items/0/quantity",
                "out_of_range",
            ),
            (
                "/items/0/quantity",
                json!(-3),
                "/items/0/quantity",
                "out_of_range",
            ),
            (
                "/items/0/sale_amount/value",
                json!(i64::MAX),
                "/items/0/sale_amount",
                "not_reduced",
            ),
            (
                "/items",
                json!([{"retailer_id": "a", "name": "b", "quantity": 2, "amount": {"value": i64::MAX, "offset": 100}}]),
                "/items",
                "too_large",
            ),
            (
                "/items/0/image",
                json!({"link": "https://x.example/a.png"}),
                "/items/0/image",
                "excluded",
            ),
            (
                "/items/0/retailer_id",
                Value::Null,
                "/items/0/country_of_origin",
                "missing",
            ),
            (
                "/items/0/importer_name",
                json!("x"),
                "/items/0/importer_address",
                "missing",
            ),
            (
                "/discount",
                json!({"value": 90_000, "offset": 100}),
                "/discount",
                "inconsistent",
            ),
            (
                "/discount",
                json!({"value": 85_000, "offset": 100}),
                "/total_amount",
                "zero",
            ),
            (
                "/tax",
                json!({"value": 50_000_000, "offset": 100}),
                "/total_amount",
                "upi_cap",
            ),
            ("/body", json!("x".repeat(1025)), "/body", "too_long"),
            ("/footer", json!("x".repeat(61)), "/footer", "too_long"),
            ("/footer", json!("a\u{0}b"), "/footer", "control_character"),
            (
                "/header",
                json!({"type": "text", "text": "x".repeat(61)}),
                "/header/text",
                "too_long",
            ),
            (
                "/header",
                json!({"type": "image", "image": {"link": "http://x"}}),
                "/header/image/link",
                "invalid",
            ),
            (
                "/expires_in",
                json!(LONGEST_EXPIRY + 1),
                "/expires_in",
                "too_long",
            ),
            ("/receipt", json!("x".repeat(41)), "/receipt", "too_long"),
            ("/udf1", json!("x".repeat(256)), "/udf1", "too_long"),
            (
                "/notes",
                json!({"k": "x".repeat(257)}),
                "/notes/k",
                "too_long",
            ),
            (
                "/notes",
                json!(
                    (0..16)
                        .map(|i| (i.to_string(), "v"))
                        .collect::<BTreeMap<_, _>>()
                ),
                "/notes",
                "too_many",
            ),
            (
                "/beneficiaries",
                json!([{"name": "a", "address_line1": "b", "city": "c", "state": "d", "country": "IN", "postal_code": "11009"}]),
                "/beneficiaries/0/country",
                "invalid",
            ),
            (
                "/reference_id",
                json!("x".repeat(36)),
                "/reference_id",
                "invalid",
            ),
            ("/reference_id", json!(""), "/reference_id", "invalid"),
        ] {
            let mut doc = bill();
            if path != "/total_amount/value" {
                doc.as_object_mut().unwrap().remove("total_amount");
            }
            let (parent, name) = path.rsplit_once('/').unwrap();
            doc.pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .insert(name.to_owned(), value);
            let seen = codes(&doc);
            assert!(
                seen.contains(&(pointer.to_owned(), code)),
                "{path}: {seen:?}"
            );
        }
    }

    #[test]
    fn a_bill_without_a_number_is_named() {
        let mut doc = bill();
        doc.as_object_mut().unwrap().remove("reference_id");
        assert_eq!(read(&doc).unwrap().reference.as_str(), "generated");
    }

    proptest::proptest! {
        #[test]
        fn totals_are_exact(
            lines in proptest::collection::vec((1i64..2_000, 1u32..20, proptest::option::of(1i64..2_000)), 1..20),
            tax in 0i64..5_000,
            shipping in 0i64..5_000,
            discount in 0i64..5_000,
        ) {
            let mut doc = bill();
            let mut expected: i64 = 0;
            let items: Vec<Value> = lines
                .iter()
                .map(|(amount, quantity, sale)| {
                    let sale = sale.filter(|s| s < amount);
                    expected += sale.unwrap_or(*amount) * i64::from(*quantity);
                    let mut item = json!({"retailer_id": "a", "name": "b", "quantity": quantity, "amount": {"value": amount, "offset": 100}});
                    if let Some(sale) = sale {
                        item["sale_amount"] = json!({"value": sale, "offset": 100});
                    }
                    item
                })
                .collect();
            let subtotal = expected;
            expected += tax + shipping - discount;
            doc["items"] = json!(items);
            for (name, value) in [("tax", tax), ("shipping", shipping), ("discount", discount), ("total_amount", expected)] {
                doc[name] = json!({"value": value, "offset": 100});
            }
            match read(&doc) {
                Ok(bill) => {
                    proptest::prop_assert_eq!(bill.subtotal.get(), subtotal);
                    proptest::prop_assert_eq!(bill.total.get(), expected);
                    // One paisa off in the stated total is refused.
                    doc["total_amount"]["value"] = json!(expected + 1);
                    proptest::prop_assert!(codes(&doc).contains(&("/total_amount".to_owned(), "total_mismatch")));
                }
                Err(_) => proptest::prop_assert!(expected <= 0),
            }
        }
    }
}
