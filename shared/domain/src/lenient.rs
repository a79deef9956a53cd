//! JSON of vendors, read forgivingly: a text that was cut in the middle of a character must not cost the payment it stands beside.
//!
//! Vendors whose strings are UTF-16 cut them where they like and write the half pair as `\ud83c`. RFC 8259 allows that, a Rust text
//! cannot hold it, and serde_json offers no way around for a [`Value`] (its issue 827). The crates that do are whole parsers of
//! their own, so this mends the bytes and leaves the parsing where it is.
//!
//! Only for what is signed, came with a secret, or answers a question of ours. Tills and tenant documents are read strictly
//! ([`crate::json`]). Signatures are over the bytes as they came, never over what is mended here.

use std::borrow::Cow;

use serde_json::Value;

/// Reads a document as serde_json does, or where that fails, with its broken characters replaced.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(bytes).or_else(|error| match mended(bytes) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(mended) => serde_json::from_slice(&mended),
    })
}

/// The document with U+FFFD for each half of a surrogate pair, escaped or as the three bytes some encoders make of it, and `?` for
/// each other byte that is not UTF-8. Exactly as long as before, so that a place in the one is the same place in the other.
#[must_use]
pub fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (whole, halves) = without_halves(bytes);
    match std::str::from_utf8(&whole) {
        Ok(_) if halves => Cow::Owned(whole),
        Ok(_) => Cow::Borrowed(bytes),
        Err(_) => {
            let mut text = Vec::with_capacity(whole.len());
            for chunk in whole.utf8_chunks() {
                text.extend_from_slice(chunk.valid().as_bytes());
                text.extend(chunk.invalid().iter().map(|_| b'?'));
            }
            Cow::Owned(text)
        }
    }
}

/// The bytes without half pairs, and whether there were any.
fn without_halves(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut whole = Vec::with_capacity(bytes.len());
    let mut found = false;
    let mut rest = bytes;
    loop {
        rest = match rest {
            [b'\\', b'u', a, b, c, d, after @ ..] if is_surrogate([*a, *b, *c, *d]) => {
                match after {
                    [b'\\', b'u', e, f, g, h, beyond @ ..]
                        if is_pair([*a, *b, *c, *d], [*e, *f, *g, *h]) =>
                    {
                        whole.extend_from_slice(&[b'\\', b'u', *a, *b, *c, *d]);
                        whole.extend_from_slice(&[b'\\', b'u', *e, *f, *g, *h]);
                        beyond
                    }
                    _ => {
                        whole.extend_from_slice(b"\\ufffd");
                        found = true;
                        after
                    }
                }
            }
            // Any other escape; of `\\ud83c` the second backslash begins none.
            [b'\\', escaped, after @ ..] => {
                whole.extend_from_slice(&[b'\\', *escaped]);
                after
            }
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, after @ ..] => {
                whole.extend_from_slice("\u{fffd}".as_bytes());
                found = true;
                after
            }
            [byte, after @ ..] => {
                whole.push(*byte);
                after
            }
            [] => return (whole, found),
        };
    }
}

/// The code unit that four hexadecimal digits write.
fn unit(digits: [u8; 4]) -> Option<u32> {
    let mut unit = 0_u32;
    for digit in digits {
        unit = unit
            .checked_mul(16)?
            .checked_add(char::from(digit).to_digit(16)?)?;
    }
    Some(unit)
}

fn is_surrogate(digits: [u8; 4]) -> bool {
    matches!(unit(digits), Some(0xd800..=0xdfff))
}

fn is_pair(first: [u8; 4], second: [u8; 4]) -> bool {
    matches!(unit(first), Some(0xd800..=0xdbff)) && matches!(unit(second), Some(0xdc00..=0xdfff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn half_a_pair_becomes_the_replacement_character() {
        // Field report B04, and its relatives.
        for (text, read) in [
            (
                r#"{"a":"Card \ud83c declined"}"#,
                json!({"a": "Card \u{fffd} declined"}),
            ),
            (r#"{"a":"\uD83C"}"#, json!({"a": "\u{fffd}"})),
            (r#"{"a":"\udf89 low"}"#, json!({"a": "\u{fffd} low"})),
            (r#"{"a":"\udf89\ud83c"}"#, json!({"a": "\u{fffd}\u{fffd}"})),
            (r#"{"a":"\ud83c\ud83c\udf89"}"#, json!({"a": "\u{fffd}🎉"})),
            (r#"{"a":"\ud83c\n"}"#, json!({"a": "\u{fffd}\n"})),
            (r#"{"a":"\ud83c\u0041"}"#, json!({"a": "\u{fffd}A"})),
            (
                r#"{"\ud83c":"🎉 \ud83c\udf89 \\ud83c"}"#,
                json!({"\u{fffd}": "🎉 🎉 \\ud83c"}),
            ),
            (r#"["\\\ud83c"]"#, json!(["\\\u{fffd}"])),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), read, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_cost_only_themselves() {
        assert_eq!(
            parse(b"{\"a\":\"cut \xf0\x9f\x8e\",\"b\":\"half \xed\xa0\xbc\"}").unwrap(),
            json!({"a": "cut ???", "b": "half \u{fffd}"})
        );
    }

    #[test]
    fn everything_else_is_read_as_ever() {
        for bad in [
            "",
            "{",
            r#"{"a":"\ud83c"#,
            r#"{"a":"\ud8"}"#,
            r#"{"a":"\x"}"#,
            "{\"a\":\"line\nbreak\"}",
            r#"{"a":\ud83c}"#,
            "\u{feff}{}",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let good = br#"{"a":[1,-2,0.5,null,true,"\u20b9 \"x\""]}"#;
        assert_eq!(
            parse(good).unwrap(),
            serde_json::from_slice::<Value>(good).unwrap()
        );
        assert!(matches!(mended(good), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_moves() {
        let cut = b"{\"a\":\"\\ud83c \xed\xa0\xbc \xf0\x9f\",\"b\":1}";
        let mended = mended(cut);
        assert_eq!(mended.len(), cut.len());
        assert!(mended.ends_with(b"\",\"b\":1}"));
    }
}
