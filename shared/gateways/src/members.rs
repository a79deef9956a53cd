//! A JSON object taken apart without losing how its values are written: what some vendors sign is the text of a value, which would be
//! another one if it were read and written anew.

use std::ops::Range;

use serde_json::Value;

/// The members of a JSON object in their sequence, also those that are there twice: name, value, and where the value's text stands.
pub(crate) fn members(body: &[u8]) -> Option<Vec<(String, Value, Range<usize>)>> {
    let mut found = Vec::new();
    let place = |rest: &[u8]| body.len().saturating_sub(rest.len());
    let mut rest = body
        .trim_ascii_start()
        .strip_prefix(b"{")?
        .trim_ascii_start();
    if rest.first() == Some(&b'}') {
        return None;
    }
    loop {
        let (name, after) = value(rest)?;
        let after = after
            .trim_ascii_start()
            .strip_prefix(b":")?
            .trim_ascii_start();
        let start = place(after);
        let (content, after) = value(after)?;
        found.push((name.as_str()?.to_owned(), content, start..place(after)));
        match after.trim_ascii_start().split_first()? {
            (b',', after) => rest = after.trim_ascii_start(),
            (b'}', after) if after.trim_ascii_start().is_empty() => return Some(found),
            _ => return None,
        }
    }
}

/// The JSON value at the beginning, and what follows.
fn value(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = stream.next()?.ok()?;
    let rest = bytes.get(stream.byte_offset()..)?;
    Some((value, rest))
}
