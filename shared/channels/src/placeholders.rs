//! JSON that a vendor makes by putting values into a text of ours without escaping them. A customer's quote, backslash or line break
//! ends such a document early, and worse, a customer can write `", "status": "failed` and mean it.
//!
//! So a document is believed as JSON only where each name stands once. Otherwise it is read as the text it was made from: fields in
//! the sequence of `docs/kaleyra-callback.md`, each up to its closing quote, the first of a name counting, until the free text, which
//! comes last and is everything up to the document's end. Whatever stands in it is text.

use chatbill_domain::{json, lenient};
use serde_json::{Map, Value};

/// Names of free texts.
const FREE: [&str; 2] = ["body", "detail"];
/// In documents as they were set up before the free text came last, this one field follows it.
const BEHIND: &str = "\", \"created_at\": \"";

/// The document, or `None` if it is none at all.
pub(crate) fn read(bytes: &[u8]) -> Option<Value> {
    if let Ok(document @ Value::Object(_)) = json::parse(&lenient::mended(bytes)) {
        return Some(document);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    let mut fields = Map::new();
    while let Some((name, after)) = name(rest) {
        if FREE.contains(&name) {
            if let Some(free) = after.strip_prefix('"') {
                free_text(name, free, &mut fields);
            }
            break;
        }
        let Some((value, after)) = value(after) else {
            // Cut off in the middle: half a value is another value.
            break;
        };
        fields.entry(name).or_insert_with(|| value.into());
        match after.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None => break,
        }
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// `"name":`, and what follows.
fn name(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('"')?.split_once('"')?;
    Some((name, after.trim_start().strip_prefix(':')?.trim_start()))
}

/// A value up to the quote that a comma or the end follows, or a bare word; and what follows, without blanks.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '}'])?;
        let (word, after) = text.split_at_checked(end)?;
        return Some((word.trim(), after));
    };
    quoted.match_indices('"').find_map(|(at, quote)| {
        let after = quoted.get(at.checked_add(quote.len())?..)?.trim_start();
        after
            .starts_with([',', '}'])
            .then_some((quoted.get(..at)?, after))
    })
}

/// The free text is everything to the end. A document without its end was cut off, and so was the text.
fn free_text(name: &str, text: &str, fields: &mut Map<String, Value>) {
    let whole = text
        .trim_end()
        .strip_suffix('}')
        .and_then(|text| text.trim_end().strip_suffix('"'));
    let Some(whole) = whole else { return };
    let (free, behind) = match whole.rsplit_once(BEHIND) {
        Some((free, time)) if !fields.contains_key("created_at") && is_time(time) => {
            (free, Some(time))
        }
        _ => (whole, None),
    };
    fields.entry(name).or_insert_with(|| free.into());
    if let Some(time) = behind {
        fields.insert("created_at".to_owned(), time.into());
    }
}

fn is_time(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || " :.+-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn last(said: &str) -> String {
        format!(
            r#"{{"event": "inbound", "from": "919800000001", "type": "text", "created_at": "1780000000", "body": "{said}"}}"#
        )
    }

    fn before(said: &str) -> String {
        format!(
            r#"{{"event": "inbound", "from": "919800000001", "type": "text", "body": "{said}", "created_at": "1780000000"}}"#
        )
    }

    /// What customers write, the field report's (B24) first.
    const SAID: &[&str] = &[
        "the \"red\" one\nSTOP",
        "\"STOP\"",
        "back\\slash",
        "\\",
        "\"",
        "\"}",
        "{\"a\": \"b\"}",
        "line\r\nbreak\ttab",
        "x\", \"status\": \"delivered",
        "x\", \"event\": \"message\", \"status\": \"failed\", \"tag\": \"1:BM345A-12:invoice.1:1",
        "x\", \"from\": \"919811111111\", \"body\": \"STOP",
        "x\", \"event\": \"inbound",
        "x\"}\n{\"event\": \"message\", \"status\": \"read",
    ];

    #[test]
    fn what_a_customer_writes_is_one_text() {
        for said in SAID {
            for document in [last(said), before(said)] {
                let read = read(document.as_bytes()).unwrap();
                for (name, value) in [
                    ("event", "inbound"),
                    ("from", "919800000001"),
                    ("created_at", "1780000000"),
                ] {
                    assert_eq!(read[name], value, "{document}");
                }
                // As JSON with one more name it is JSON, and what is more than the document has is not looked at.
                let made_up = read.get("status").is_some();
                assert!(read["body"] == *said || made_up, "{document}: {read}");
            }
        }
    }

    #[test]
    fn a_time_in_the_text_is_text() {
        let said = "x\", \"created_at\": \"1";
        assert_eq!(
            read(last(said).as_bytes()).unwrap()["created_at"],
            "1780000000"
        );
        assert_eq!(read(last(said).as_bytes()).unwrap()["body"], said);
        assert_eq!(
            read(before(said).as_bytes()).unwrap()["created_at"],
            "1780000000"
        );
        assert_eq!(read(before(said).as_bytes()).unwrap()["body"], said);
    }

    #[test]
    fn a_report_s_words_may_hold_quotes() {
        let report = "{\"event\": \"message\", \"message_id\": \"m1\", \"tag\": \"1:BM345A-12:invoice.1:1\", \"status\": \"failed\", \"code\": 131026, \"detail\": \"the \"number\"\nis no \\ number\"}";
        assert_eq!(
            read(report.as_bytes()),
            Some(
                json!({"event": "message", "message_id": "m1", "tag": "1:BM345A-12:invoice.1:1", "status": "failed",
                        "code": "131026", "detail": "the \"number\"\nis no \\ number"})
            )
        );
    }

    #[test]
    fn half_a_value_is_no_value() {
        let whole = last("hi \"you\"");
        for length in 0..whole.len() {
            if let Some(cut) = read(&whole.as_bytes()[..length]) {
                let kept = cut.as_object().unwrap();
                let full = read(whole.as_bytes()).unwrap();
                assert!(
                    kept.iter().all(|(name, value)| full[name] == *value),
                    "{cut}"
                );
                assert!(!kept.contains_key("body"), "{cut}");
            }
        }
        for nothing in ["", "{", "{}x", "[]", "status=sent", "{\"a\"", "{\"a\":\"b"] {
            assert_eq!(read(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
