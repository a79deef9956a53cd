//! JSON from outside, read strictly: no duplicate keys, whole numbers only, every fault collected with its pointer.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::money::Paise;

/// Parses a document. Duplicate keys are refused, because two readers may disagree about which one counts.
/// Depth is limited by the parser (128 levels).
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice::<Strict>(bytes)
        .map(|strict| strict.0)
        .map_err(|error| {
            let duplicate = error.to_string().starts_with("duplicate key");
            Fault::new(
                "",
                if duplicate {
                    "duplicate_key"
                } else {
                    "malformed_json"
                },
                format!("the body is not valid JSON: {error}"),
            )
        })
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Strict, E> {
        Ok(Strict(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Strict, E> {
        Ok(Strict(Value::from(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Strict, E> {
        Ok(Strict(Value::from(v)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Strict, E> {
        Ok(Strict(Value::from(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Strict, E> {
        Ok(Strict(Value::String(v.to_owned())))
    }

    fn visit_string<E>(self, v: String) -> Result<Strict, E> {
        Ok(Strict(Value::String(v)))
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Strict(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key \"{key}\"")));
            }
            object.insert(key, value);
        }
        Ok(Strict(Value::Object(object)))
    }
}

/// Reads the fields of one object and collects what is wrong with them. Fields nobody asked for are faults too.
pub struct Fields<'a> {
    pointer: String,
    object: &'a Map<String, Value>,
    known: Vec<&'a str>,
    faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Reads `value` at `pointer`, which must be an object.
    pub fn of(value: &'a Value, pointer: impl Into<String>) -> Result<Self, Fault> {
        let pointer = pointer.into();
        match value {
            Value::Object(object) => Ok(Self {
                pointer,
                object,
                known: Vec::new(),
                faults: Vec::new(),
            }),
            _ => Err(Fault::new(pointer, "wrong_type", "must be an object")),
        }
    }

    /// The pointer of a field of this object.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.pointer,
            name.replace('~', "~0").replace('/', "~1")
        )
    }

    /// Records a fault of a field.
    pub fn fault(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        let pointer = self.at(name);
        self.faults.push(Fault::new(pointer, code, detail));
    }

    /// Takes over faults found elsewhere.
    pub fn extend(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// The raw value of a field; `null` counts as absent.
    pub fn value(&mut self, name: &'a str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|v| !v.is_null())
    }

    /// A field that must be there.
    pub fn required(&mut self, name: &'a str) -> Option<&'a Value> {
        let value = self.value(name);
        if value.is_none() {
            self.fault(name, "missing", "is required");
        }
        value
    }

    /// A text of one line, of 1 to `max` characters. Line breaks and tabs in it are blanks: spreadsheets and Windows' editors leave
    /// them there, and WhatsApp refuses them.
    pub fn text(&mut self, name: &'a str, max: usize) -> Option<String> {
        self.checked_text(name, max, one_line)
    }

    /// A text that may have several lines, which end with a line feed however they were written.
    pub fn lines(&mut self, name: &'a str, max: usize) -> Option<String> {
        self.checked_text(name, max, lines)
    }

    /// A text that is kept to the letter: a secret.
    pub fn exact_text(&mut self, name: &'a str, max: usize) -> Option<String> {
        self.checked_text(name, max, str::to_owned)
    }

    fn checked_text(
        &mut self,
        name: &'a str,
        max: usize,
        normal: impl FnOnce(&str) -> String,
    ) -> Option<String> {
        let value = self.value(name)?;
        let Value::String(text) = value else {
            self.fault(name, "wrong_type", "must be a string");
            return None;
        };
        let text = normal(text);
        if text.trim().is_empty() {
            self.fault(name, "empty", "must not be empty");
            return None;
        }
        let length = text.chars().count();
        if length > max {
            self.fault(
                name,
                "too_long",
                format!("is {length} characters long; at most {max} are allowed"),
            );
            return None;
        }
        if has_control(&text) {
            self.fault(
                name,
                "control_character",
                "must not contain control characters",
            );
            return None;
        }
        Some(text)
    }

    /// A text that must be there.
    pub fn required_text(&mut self, name: &'a str, max: usize) -> Option<String> {
        self.required(name)?;
        self.text(name, max)
    }

    /// A text turned into something else by `parse`; the error's words are the fault's.
    pub fn parsed<T, E: fmt::Display>(
        &mut self,
        name: &'a str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        match self.value(name)? {
            Value::String(text) => match parse(text.clone()) {
                Ok(value) => Some(value),
                Err(rule) => {
                    self.fault(name, "invalid", format!("must be {rule}"));
                    None
                }
            },
            _ => {
                self.fault(name, "wrong_type", "must be a string");
                None
            }
        }
    }

    /// A whole number.
    pub fn integer(&mut self, name: &'a str) -> Option<i64> {
        let value = self.value(name)?;
        let number = whole(value);
        if number.is_none() {
            self.fault(name, "wrong_type", "must be a whole number");
        }
        number
    }

    /// true or false.
    pub fn boolean(&mut self, name: &'a str) -> Option<bool> {
        let value = self.value(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.fault(name, "wrong_type", "must be true or false");
        }
        flag
    }

    /// A list.
    pub fn list(&mut self, name: &'a str) -> Option<&'a [Value]> {
        match self.value(name)? {
            Value::Array(items) => Some(items),
            _ => {
                self.fault(name, "wrong_type", "must be a list");
                None
            }
        }
    }

    /// An object, read by `read`, whose faults are taken over.
    pub fn object<T>(
        &mut self,
        name: &'a str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let mut faults = Vec::new();
        let result = object(value, self.at(name), &mut faults, read);
        self.faults.append(&mut faults);
        result
    }

    /// Ends the reading: fields nobody asked for become faults.
    pub fn finish(mut self) -> Vec<Fault> {
        let unknown: Vec<&String> = self
            .object
            .keys()
            .filter(|k| !self.known.contains(&k.as_str()))
            .collect();
        for name in unknown {
            self.fault(name, "unknown_field", "is not a field of this object");
        }
        self.faults
    }
}

/// Reads one object with `read` and adds its faults to `faults`.
pub fn object<'a, T>(
    value: &'a Value,
    pointer: impl Into<String>,
    faults: &mut Vec<Fault>,
    read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
) -> Option<T> {
    match Fields::of(value, pointer) {
        Ok(mut fields) => {
            let result = read(&mut fields);
            faults.append(&mut fields.finish());
            result
        }
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// Reads one object and nothing besides: the value, or every fault of it.
pub fn read<'a, T>(
    value: &'a Value,
    pointer: impl Into<String>,
    read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    match object(value, pointer, &mut faults, read) {
        Some(value) if faults.is_empty() => Ok(value),
        _ => Err(faults),
    }
}

/// Reads `{"value": n, "offset": 100}` inside an object that may have further fields.
pub fn amount(fields: &mut Fields<'_>) -> Option<Paise> {
    let value = fields
        .required("value")
        .and_then(|_| fields.integer("value"));
    let offset = fields
        .required("offset")
        .and_then(|_| fields.integer("offset"));
    if offset.is_some_and(|offset| offset != 100) {
        fields.fault(
            "offset",
            "invalid",
            "must be 100, because amounts are in paise",
        );
    }
    match Paise::new(value?) {
        Ok(paise) => Some(paise),
        Err(_) => {
            fields.fault("value", "negative", "must not be negative");
            None
        }
    }
}

/// What parts lines, in any system's files.
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// The text with one blank for each line break and tab, and none of them at its ends.
#[must_use]
pub fn one_line(text: &str) -> String {
    let ends = |c: char| c == '\t' || LINE_BREAKS.contains(&c);
    with_breaks(text.trim_matches(ends), ' ')
}

/// The text with a line feed for each line break and a blank for each tab.
#[must_use]
pub fn lines(text: &str) -> String {
    with_breaks(text, '\n')
}

fn with_breaks(text: &str, line_break: char) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            c if LINE_BREAKS.contains(&c) => line_break,
            c => c,
        })
        .collect()
}

/// Whether there are control characters in it other than line feeds.
#[must_use]
pub fn has_control(text: &str) -> bool {
    text.chars().any(|c| c.is_control() && c != '\n')
}

/// A JSON number that is whole; 5.0 is not, because a float has no place in an amount.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_depth_and_bad_bytes_are_refused() {
        assert_eq!(
            parse(br#"{"a":1,"a":2}"#).unwrap_err().code,
            "duplicate_key"
        );
        assert_eq!(
            parse(br#"{"b":{"a":1,"a":2}}"#).unwrap_err().code,
            "duplicate_key"
        );
        let deep = "[".repeat(10_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().code, "malformed_json");
        assert_eq!(
            parse(b"{\"a\":\"\xff\"}").unwrap_err().code,
            "malformed_json"
        );
        assert_eq!(parse(b"\xef\xbb\xbf{}").unwrap_err().code, "malformed_json");
        assert_eq!(parse(b"").unwrap_err().code, "malformed_json");
    }

    #[test]
    fn line_breaks_and_tabs_are_blanks_or_line_feeds() {
        let document = serde_json::json!({
            "a": "Rice\t5 kg", "b": "Thank you\r\nVisit again", "c": "\tRice\r\n", "d": "1\r2\u{85}3\u{2028}4\u{2029}5\n6",
            "e": "a\u{b}b", "f": "a\0b", "g": "\r\n\t", "h": "ab\r\n\r\ncd"
        });
        let mut faults = Vec::new();
        object(&document, "", &mut faults, |f| {
            // Field report B14.
            assert_eq!(f.text("a", 9).as_deref(), Some("Rice 5 kg"));
            assert_eq!(f.lines("b", 30).as_deref(), Some("Thank you\nVisit again"));
            assert_eq!(f.text("b", 30).as_deref(), Some("Thank you Visit again"));
            assert_eq!(f.text("c", 4).as_deref(), Some("Rice"));
            assert_eq!(f.text("d", 11).as_deref(), Some("1 2 3 4 5 6"));
            assert_eq!(f.lines("d", 11).as_deref(), Some("1\n2\n3\n4\n5\n6"));
            assert_eq!(f.lines("h", 6).as_deref(), Some("ab\n\ncd"));
            for refused in ["e", "f", "g"] {
                assert_eq!(f.lines(refused, 9), None, "{refused}");
            }
            // A secret stays what it is, or is refused.
            assert_eq!(f.exact_text("a", 9), None);
            Some(())
        });
        let codes: Vec<_> = faults.iter().map(|fault| fault.code).collect();
        assert_eq!(
            codes,
            [
                "control_character",
                "control_character",
                "empty",
                "control_character"
            ]
        );
    }

    #[test]
    fn every_fault_is_named() {
        let doc =
            parse(br#"{"a":{"value":1.5,"offset":10,"x":1},"n":"","t":5,"l":"toolong"}"#).unwrap();
        let mut faults = Vec::new();
        object(&doc, "", &mut faults, |f| {
            f.object("a", amount);
            f.text("n", 5);
            f.text("t", 5);
            f.text("l", 5);
            f.required("q");
            Some(())
        });
        let seen: Vec<_> = faults
            .iter()
            .map(|f| (f.pointer.as_str(), f.code))
            .collect();
        assert_eq!(
            seen,
            [
                ("/a/value", "wrong_type"),
                ("/a/offset", "invalid"),
                ("/a/x", "unknown_field"),
                ("/n", "empty"),
                ("/t", "wrong_type"),
                ("/l", "too_long"),
                ("/q", "missing"),
            ]
        );
    }
}
