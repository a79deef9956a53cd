//! What every provider's file needs to read and write the wire.

use chatbill_domain::connector::Wish;
use chatbill_domain::consent::ConsentWords;
use chatbill_domain::contact::quotable;
use chatbill_domain::lenient;
use chatbill_domain::message::{Outgoing, Remedy, SendFailure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// Everything but RFC 3986's unreserved characters, for one path segment, query value or form value.
pub(crate) const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The content type of [`form`].
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Pairs as a query or a form, blanks as `%20`.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let encoded: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, STRICT)))
        .collect();
    encoded.join("&")
}

/// A form that came to us, as an object of texts. Of a repeated name the first counts.
pub(crate) fn read_form(body: &[u8]) -> Value {
    let decode = |text: &str| {
        let blanks = text.replace('+', " ");
        percent_encoding::percent_decode_str(&blanks)
            .decode_utf8_lossy()
            .into_owned()
    };
    let mut fields = Map::new();
    for pair in String::from_utf8_lossy(body).trim().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !name.is_empty() {
            let name = decode(name);
            fields.entry(name).or_insert_with(|| decode(value).into());
        }
    }
    Value::Object(fields)
}

/// "Webhooks, messages": what a customer asks for with a message, in the object that Meta makes of it and others pass on. A button, a
/// row of a list or the answers of a flow count like the same words typed: what stands on them first, then what lies behind. `words`
/// are the shop's own.
pub(crate) fn wish(message: &Value, words: &ConsentWords) -> Option<Wish> {
    let places = [
        "/text/body",
        "/button/text",
        "/button/payload",
        "/interactive/button_reply/title",
        "/interactive/button_reply/id",
        "/interactive/list_reply/title",
        "/interactive/list_reply/id",
    ];
    places
        .iter()
        .filter_map(|place| message.pointer(place)?.as_str())
        .find_map(|text| words.wish(text))
        .or_else(|| flow_wish(message, words))
}

/// "Flows, responses": the answers are JSON within a text. One that is a wish by itself counts, unless another is the opposite.
fn flow_wish(message: &Value, words: &ConsentWords) -> Option<Wish> {
    let answers = message.pointer("/interactive/nfm_reply/response_json")?;
    let answers = match answers {
        Value::String(text) => lenient::parse(text.as_bytes()).ok()?,
        answers => answers.clone(),
    };
    let mut wishes = answers
        .as_object()?
        .iter()
        .filter(|(name, _)| *name != "flow_token")
        .filter_map(|(_, answer)| words.wish(answer.as_str()?));
    let first = wishes.next()?;
    wishes.all(|wish| wish == first).then_some(first)
}

/// Where a provider without signatures reports to: `<base>/webhooks/<provider>/<tenant>?token=…`.
pub(crate) fn callback(
    out: &Outgoing<'_>,
    provider: &str,
    tenant: &str,
    token: &SecretString,
) -> String {
    format!(
        "{}/webhooks/{provider}/{}?{}",
        out.callback_base,
        utf8_percent_encode(tenant, STRICT),
        form(&[("token", token.expose_secret())])
    )
}

/// An account's id that becomes a part of every URL.
pub(crate) fn is_plain(id: &str) -> bool {
    id.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A failure in the provider's words.
pub(crate) fn failure(remedy: Remedy, code: &str, detail: &str) -> SendFailure {
    SendFailure {
        remedy,
        code: code.to_owned(),
        detail: quotable(detail),
    }
}

/// Takes over the vendor's own wish how long to wait.
pub(crate) fn patient(remedy: Remedy, retry_after: Option<u32>) -> Remedy {
    match (remedy, retry_after) {
        (Remedy::Retry, Some(seconds)) => Remedy::RetryAfter(seconds),
        (Remedy::RetryAfter(least), Some(seconds)) => Remedy::RetryAfter(least.max(seconds)),
        (Remedy::Throttled(_), Some(seconds)) => Remedy::Throttled(seconds),
        (remedy, _) => remedy,
    }
}

/// A whole number, also one in quotes: the documents say integers, their samples show both.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        value => value.as_i64(),
    }
}

pub(crate) fn is(value: &Value, name: &str, word: &str) -> bool {
    text(value, name).is_some_and(|t| t.eq_ignore_ascii_case(word))
}

pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A code, which may be a number or a text.
pub(crate) fn code(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::Number(number) => Some(number.to_string()),
        _ => text(value, name),
    }
}

pub(crate) fn text(value: &Value, name: &str) -> Option<String> {
    value
        .get(name)?
        .as_str()
        .filter(|t| !t.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_are_read_as_they_are_written() {
        let written = form(&[
            ("To", "+919876543210"),
            ("Body", "a b&c=d\n₹"),
            ("Empty", ""),
        ]);
        assert_eq!(
            written,
            "To=%2B919876543210&Body=a%20b%26c%3Dd%0A%E2%82%B9&Empty="
        );
        assert_eq!(
            read_form(written.as_bytes()),
            json!({"To": "+919876543210", "Body": "a b&c=d\n₹", "Empty": ""})
        );
        assert_eq!(
            read_form(b"a=1+2&a=3&&=x&b\r\n"),
            json!({"a": "1 2", "b": ""})
        );
        assert_eq!(read_form(b""), json!({}));
    }
}
