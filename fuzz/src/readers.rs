//! What holds for everything else that is read from outside.

use chatbill_domain::bill::Bill;
use chatbill_domain::connector::Wish;
use chatbill_domain::contact::{Msisdn, quotable};
use chatbill_domain::ids::{OrderKey, ReferenceId, TenantId};
use chatbill_domain::json;
use chatbill_domain::lenient;
use chatbill_domain::message::{MessageKey, Tag, Variable};
use chatbill_domain::money::{Paise, UPI_CAP};
use chatbill_domain::phone::Country;
use chatbill_domain::sms::{Encoding, SLOT, Template};
use chatbill_domain::tenant::Tenant;
use chatbill_domain::time::Millis;
use chatbill_domain::token::{ReceiptToken, ShortCode};
use chatbill_domain::upi::UpiIntent;
use secrecy::SecretString;
use serde_json::Value;

use crate::senders::RECEIPT_SECRET;

/// A posted bill: one that is taken adds up, is within the limits, and is the same bill however often it is read or stored.
pub fn bill(data: &[u8]) {
    let name = || ReferenceId::parse("unnamed").expect("a reference");
    let Ok(document) = json::parse(data) else {
        return;
    };
    let bill = match Bill::read(&document, Country::INDIA, name) {
        Ok(bill) => bill,
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            for fault in faults {
                let exists = fault.pointer.is_empty() || fault.pointer.starts_with('/');
                assert!(exists, "not a pointer: {}", fault.pointer);
            }
            return;
        }
    };
    // Wider than what is stored, so that nothing here can overflow.
    let wide = |amount: Paise| i128::from(amount.get());
    let lines = bill.items.iter().map(|item| {
        let price = item.sale_amount.unwrap_or(item.amount);
        wide(price) * i128::from(item.quantity)
    });
    let subtotal: i128 = lines.sum();
    let charge = |charge: &Option<_>| {
        charge
            .as_ref()
            .map_or(0, |c: &chatbill_domain::bill::Charge| wide(c.amount))
    };
    let total = subtotal + wide(bill.tax.amount) + charge(&bill.shipping) - charge(&bill.discount);
    assert_eq!(wide(bill.subtotal), subtotal, "the subtotal");
    assert_eq!(wide(bill.total), total, "the total");
    assert!(
        bill.total > Paise::ZERO && bill.total <= UPI_CAP,
        "the total's limits"
    );
    if let Some(stated) = document
        .pointer("/total_amount/value")
        .and_then(Value::as_i64)
    {
        assert_eq!(i128::from(stated), total, "not what the shop says");
    }

    let stored = serde_json::to_string(&bill).expect("a bill can be stored");
    let back: Bill = serde_json::from_str(&stored).expect("a stored bill can be read");
    assert_eq!(back, bill, "stored otherwise");
    assert_eq!(back.hash(), bill.hash(), "another bill after it was stored");
    let laid_out = serde_json::to_vec_pretty(&document).expect("JSON");
    let again = json::parse(&laid_out).map(|document| Bill::read(&document, Country::INDIA, name));
    let again = again.expect("the same JSON").expect("the same bill");
    assert_eq!(again.hash(), bill.hash(), "another bill in another layout");
}

/// A tenant's document: whatever it says, opening its vendors does not panic, and no fault repeats a secret.
pub fn tenant(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut secrets = Vec::new();
    let document = json::parse(data).ok();
    if let Some(document) = &document {
        for place in [
            "/channel/credentials",
            "/payment/credentials",
            "/receipt_secrets",
        ] {
            if let Some(value) = document.pointer(place) {
                long_texts(value, &mut secrets);
            }
        }
    }
    for local in [false, true] {
        let faults = match Tenant::read(text, local) {
            Err(faults) => faults,
            Ok(tenant) => {
                let mut said = vec![format!("{tenant:?}")];
                let gateway = chatbill_gateways::open(&tenant);
                let channel = chatbill_channels::open(&tenant);
                if let Ok(gateway) = &gateway {
                    assert_eq!(gateway.name(), tenant.payment.account.vendor);
                }
                if let Ok(channel) = &channel {
                    assert_eq!(channel.name(), tenant.channel.account.vendor);
                }
                let faults = [gateway.err(), channel.err()];
                said.extend(faults.iter().flatten().flatten().map(|f| format!("{f:?}")));
                unsaid(&secrets, &said);
                faults.into_iter().flatten().flatten().collect()
            }
        };
        let said: Vec<String> = faults.iter().map(|fault| fault.detail.clone()).collect();
        unsaid(&secrets, &said);
    }
}

/// Shorter ones are words that a fault may say by itself.
fn long_texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if text.chars().count() >= 16 && !text.contains(' ') => {
            found.push(text)
        }
        Value::Array(list) => list.iter().for_each(|value| long_texts(value, found)),
        Value::Object(object) => object.values().for_each(|value| long_texts(value, found)),
        _ => {}
    }
}

fn unsaid(secrets: &[&str], said: &[String]) {
    for line in said {
        // Templates of messages stand among the credentials; they are looked at by everybody, and their ids are no secrets.
        let told = secrets.iter().find(|secret| line.contains(**secret));
        assert!(told.is_none(), "a credential is repeated: {line}");
    }
}

/// Receipt tokens and short codes: what opens an order is exactly what was issued for it.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let secret = SecretString::from(RECEIPT_SECRET);
    let secrets = [secret.clone(), SecretString::from("")];
    if let Some(token) = ReceiptToken::parse(text) {
        let tenant = token.tenant().clone();
        if let Some(key) = token.check(&secrets) {
            assert_eq!(key.tenant, tenant);
            assert_eq!(
                ReceiptToken::issue(&key, &secret),
                text,
                "a second spelling"
            );
        }
    }
    let key = order();
    if let Some(code) = ShortCode::parse(text) {
        assert_eq!(code.as_str(), text);
        let issued = ShortCode::issue(&key, &secret);
        assert_eq!(code.opens(&key, &secrets), code == issued);
        if code.opens(&key, &secrets) {
            assert!(code.may_be_of(&key.tenant) && code.is_genuine(&key.tenant, &secrets));
        }
    }
    if let Some(tenant) = Tenant::named_by(text) {
        assert!(text.starts_with(&format!("cb_{tenant}_")));
    }
}

/// The order whose token and code are among the seeds.
#[must_use]
pub fn order() -> OrderKey {
    OrderKey::new(
        TenantId::parse("acme").expect("a tenant"),
        ReferenceId::parse("BM345A-12").expect("a reference"),
    )
}

/// UPI intents: what customers are given is read as the same intent, narrowing one keeps the values and adds nothing.
pub fn upi(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(intent) = UpiIntent::parse(text) else {
        return;
    };
    assert_eq!(
        UpiIntent::parse(intent.text()).as_ref(),
        Some(&intent),
        "{}",
        intent.text()
    );
    let (_, query) = text.trim_ascii().split_at(UpiIntent::PREFIX.len());
    let names: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
        .collect();
    let narrow = ["pa", "pn", "am", "cu", "tr"];
    let narrowed = UpiIntent::parse(&intent.only(&narrow));
    for name in &names {
        assert!(intent.get(name).is_some(), "{name}");
        let kept = narrowed.as_ref().and_then(|intent| intent.get(name));
        let expected = intent.get(name).filter(|_| narrow.contains(name));
        assert_eq!(kept, expected, "{name}");
    }
}

/// The small words that come back to us: each has one spelling, the one we write.
pub fn tag(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(tag) = Tag::parse(text) {
        assert_eq!(tag.to_string(), text, "a second spelling");
    }
    if let Some((tag, Some(tenant))) = Tag::parse_named(text) {
        assert_eq!(tag.named(&tenant), text, "a second spelling");
    }
    if let Ok(key) = MessageKey::parse(text) {
        assert_eq!(key.to_string(), text, "a second spelling");
    }
    if let Ok(reference) = ReferenceId::parse(text) {
        assert_eq!(reference.as_str(), text);
    }
    if let Ok(phone) = Msisdn::parse(text) {
        assert!(!quotable(text).contains(&text[1..]), "a number in full");
        assert!(
            !format!("{phone:?}").contains(&text[1..]),
            "a number in full"
        );
    }
    for country in ["IN", "SG"] {
        let country = Country::parse(country).expect("a country");
        if let Ok(phone) = Msisdn::from_people(text, country) {
            let again = Msisdn::from_people(phone.e164(), country);
            assert_eq!(again, Ok(phone), "its own form is another number");
        }
    }
    if let Ok(phone) = Msisdn::from_vendor(text) {
        assert_eq!(Msisdn::from_vendor(phone.e164()), Ok(phone));
    }
    if let Some(amount) = Paise::parse_decimal(text) {
        let written = amount.decimal();
        assert_eq!(Paise::parse_decimal(&written), Some(amount), "{written}");
        assert!(amount.rupees().starts_with('₹'));
    }
    if let Some(at) = Millis::from_rfc3339(text) {
        let _ = at.india();
    }
    if let Some(wish) = Wish::of(text) {
        assert_eq!(Wish::of(&text.to_uppercase()), Some(wish));
    }
    let line = quotable(text);
    assert!(line.chars().count() <= 200, "{line}");
    assert!(
        !line.chars().any(char::is_control),
        "not one line: {line:?}"
    );
    for (at, _) in line.match_indices('@') {
        let before = line[..at].chars().next_back();
        let hidden = before.is_none_or(|c| c == '…' || c == ' ');
        assert!(hidden, "could be an address: {line}");
    }
    let mut run = 0;
    for c in line.chars() {
        run = if c.is_ascii_digit() { run + 1 } else { 0 };
        assert!(run < 8, "could be a phone number: {line}");
    }
}

/// DLT templates: the first line is the text, each further line a value. What stands fixed goes out as it was registered, a value
/// takes no more than its slot, and a plain template makes a plain message.
pub fn sms(data: &[u8]) {
    const VARIABLES: [Variable; 7] = [
        Variable::Shop,
        Variable::CustomerName,
        Variable::ReferenceId,
        Variable::Amount,
        Variable::ReceiptUrl,
        Variable::PaymentId,
        Variable::Status,
    ];
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (text, values) = text.split_once('\n').unwrap_or((text, ""));
    let values: Vec<&str> = values.split('\n').collect();
    // As many variables as there are values, in their sequence.
    let variables: Vec<Variable> = VARIABLES
        .iter()
        .cycle()
        .take(values.len())
        .copied()
        .collect();
    let Ok(template) = Template::new("1107160000000000001", text, &variables) else {
        return;
    };
    let place = |wanted: Variable| VARIABLES.iter().position(|v| *v == wanted);
    let sms = template.fill(|variable| {
        let value = place(variable).and_then(|place| values.get(place));
        value.map(ToString::to_string).unwrap_or_default()
    });
    let mut rest = sms.text.as_str();
    let mut fixed = Vec::new();
    let mut unread = text;
    while let Some((before, after)) = unread.split_once("{#")
        && let Some((_, after)) = after.split_once("#}")
    {
        fixed.push(before);
        unread = after;
    }
    fixed.push(unread);
    rest = rest.strip_prefix(fixed[0]).expect("how it begins");
    let last = fixed.len() - 1;
    if last > 0 {
        rest = rest.strip_suffix(fixed[last]).expect("how it ends");
        for part in &fixed[1..last] {
            let at = rest.find(part).expect("a fixed part");
            rest = &rest[at + part.len()..];
        }
    }
    let longest: usize = fixed.iter().map(|part| part.chars().count()).sum::<usize>()
        + variables
            .iter()
            .map(|variable| {
                let value = place(*variable).and_then(|place| values.get(place));
                // A character may be spelled with three, and nothing as a dash.
                let link = value.map_or(0, |value| value.chars().count() * 3).max(1);
                if *variable == Variable::ReceiptUrl || text.contains("{#url#}") {
                    link.max(SLOT)
                } else {
                    SLOT
                }
            })
            .sum::<usize>();
    assert!(
        sms.text.chars().count() <= longest,
        "{} is too long",
        sms.text
    );
    let plain = |c: char| c.is_ascii_alphanumeric() || " .,:-/{}#".contains(c);
    if text.chars().all(plain) {
        assert_eq!(sms.encoding, Encoding::Gsm7, "{}", sms.text);
    }
    assert!(sms.segments >= 1);
}

/// JSON with broken characters: what is good already is read as it stands, mending moves nothing, and once is enough.
pub fn lenient(data: &[u8]) {
    let mended = lenient::mended(data);
    assert_eq!(mended.len(), data.len(), "something moved");
    let text = std::str::from_utf8(&mended).expect("text");
    assert_eq!(lenient::mended(&mended), mended, "mended twice");
    // Nothing but broken characters changed: what frames the texts is where it was.
    let frame = |byte: &u8| b"{}[],:\"".contains(byte);
    let kept = data.iter().zip(mended.iter());
    assert!(
        kept.into_iter()
            .all(|(was, is)| !(frame(was) || frame(is)) || was == is),
        "another structure"
    );
    match (serde_json::from_slice::<Value>(data), lenient::parse(data)) {
        (Ok(strict), Ok(read)) => assert_eq!(strict, read, "read otherwise"),
        (Ok(_), Err(error)) => panic!("good JSON was refused: {error}"),
        (Err(_), Ok(read)) => {
            let mended: Value = serde_json::from_str(text).expect("mended JSON");
            assert_eq!(mended, read);
        }
        (Err(_), Err(_)) => {}
    }
}
