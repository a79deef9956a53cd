//! `multipart/form-data` that came to us (RFC 7578), for the few short fields of a report. The crates for it read streams of an HTTP
//! server and bring an asynchronous one along; a webhook is one piece in memory.

use serde_json::{Map, Value};

/// More than any report has.
const MOST_PARTS: usize = 64;
/// RFC 2046, 5.1.1.
const LONGEST_BOUNDARY: usize = 70;

/// The boundary that a content type names.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters
        .split(';')
        .find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("boundary")
                .then_some(value)
        })
        .map(|value| value.trim().trim_matches('"'))
        .filter(|value| (1..=LONGEST_BOUNDARY).contains(&value.len()))
}

/// The boundary that a body without a content type begins with.
pub(crate) fn first_boundary(body: &[u8]) -> Option<&str> {
    let rest = body.strip_prefix(b"--")?;
    let end = rest
        .windows(2)
        .take(LONGEST_BOUNDARY.saturating_add(1))
        .position(|two| two == b"\r\n")?;
    let boundary = std::str::from_utf8(rest.get(..end)?).ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=?".contains(c);
    (!boundary.is_empty() && boundary.chars().all(is_plain)).then_some(boundary)
}

/// The fields as an object of texts. Of a repeated name the first counts. `None`: not such a form, or one that was cut off; half a
/// value is another value.
pub(crate) fn read(body: &[u8], boundary: &str) -> Option<Value> {
    let text = String::from_utf8_lossy(body);
    let delimiter = format!("\r\n--{boundary}");
    let mut rest: &str = match text.strip_prefix(delimiter.trim_start()) {
        Some(rest) => rest,
        None => text.split_once(delimiter.as_str())?.1,
    };
    let mut fields = Map::new();
    for _ in 0..MOST_PARTS {
        if rest.starts_with("--") {
            return Some(Value::Object(fields));
        }
        let (part, after) = split(line_end(rest)?, &delimiter)?;
        let (head, value) = part.split_once("\r\n\r\n")?;
        if let Some(name) = name(head) {
            fields.entry(name).or_insert_with(|| value.into());
        }
        rest = after;
    }
    None
}

/// What follows a delimiter on its line: blanks and the line's end.
fn line_end(text: &str) -> Option<&str> {
    text.trim_start_matches([' ', '\t']).strip_prefix("\r\n")
}

/// Up to the next delimiter that is one: another text may begin like it.
fn split<'a>(text: &'a str, delimiter: &str) -> Option<(&'a str, &'a str)> {
    text.match_indices(delimiter).find_map(|(at, found)| {
        let after = text.get(at.checked_add(found.len())?..)?;
        let ends = after.starts_with("--") || line_end(after).is_some();
        ends.then_some((text.get(..at)?, after))
    })
}

/// The field's name in the head of a part.
fn name(head: &str) -> Option<String> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    disposition
        .split(';')
        .find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("name").then_some(value)
        })
        .map(|value| value.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn part(name: &str, value: &str) -> String {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    #[test]
    fn fields_are_read_whatever_is_in_them() {
        // Field report B08.
        let report = "--x\r\nContent-Disposition: form-data; name=\"SmsSid\"\r\n\r\nabc1\r\n--x\r\nContent-Disposition: form-data; name=\"Status\"\r\n\r\nfailed\r\n--x\r\nContent-Disposition: form-data; name=\"CustomField\"\r\n\r\n1:BM345A-12:invoice.1:1\r\n--x--\r\n";
        let read_as =
            json!({"SmsSid": "abc1", "Status": "failed", "CustomField": "1:BM345A-12:invoice.1:1"});
        assert_eq!(read(report.as_bytes(), "x"), Some(read_as.clone()));
        assert_eq!(first_boundary(report.as_bytes()), Some("x"));
        let preamble = format!("to be ignored\r\n{report}and this");
        assert_eq!(read(preamble.as_bytes(), "x"), Some(read_as));
        let odd = format!(
            "{}{}{}--x--",
            part("a", "1\r\n--xy\r\n=&\"₹"),
            part("b", ""),
            "--x  \r\ncontent-type: text/plain\r\ncontent-disposition: form-data; NAME=a; filename=\"f\"\r\n\r\n2\r\n"
        );
        assert_eq!(
            read(odd.as_bytes(), "x"),
            Some(json!({"a": "1\r\n--xy\r\n=&\"₹", "b": ""}))
        );
    }

    #[test]
    fn a_form_that_was_cut_off_is_none() {
        let whole = format!("{}{}--x--\r\n", part("a", "1"), part("b", "2"));
        let ends = whole.len() - "--\r\n".len();
        for length in 0..=ends + 1 {
            assert_eq!(read(&whole.as_bytes()[..length], "x"), None, "{length}");
        }
        assert!(read(&whole.as_bytes()[..ends + 2], "x").is_some());
        let long = part("a", "1").repeat(MOST_PARTS + 1) + "--x--\r\n";
        assert_eq!(read(long.as_bytes(), "x"), None);
    }

    #[test]
    fn the_boundary_stands_in_the_content_type() {
        for (kind, found) in [
            ("multipart/form-data; boundary=x", Some("x")),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"",
                Some("a b"),
            ),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("application/json; boundary=x", None),
        ] {
            assert_eq!(boundary(kind), found, "{kind}");
        }
        assert_eq!(first_boundary(b"--"), None);
        assert_eq!(first_boundary(b"{}"), None);
        assert_eq!(first_boundary(b"--a b\r\n"), None);
    }
}
