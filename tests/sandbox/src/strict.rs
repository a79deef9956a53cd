//! Reading a caller's JSON strictly: every field is known, present where it must be, of its type and within its limits.
//!
//! It only says what is wrong and where; how that is worded and numbered is each vendor's own business.

use serde_json::{Map, Value};

/// What is wrong with a caller's JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A field the contract does not know.
    Unknown {
        /// Where.
        path: String,
    },
    /// A required field that is not there.
    Missing {
        /// Where.
        path: String,
    },
    /// A field of another JSON type than the contract's.
    Type {
        /// Where.
        path: String,
        /// What it should have been.
        wanted: &'static str,
    },
    /// A field of the right type whose value breaks a rule.
    Value {
        /// Where.
        path: String,
        /// The rule, in words.
        why: String,
    },
}

impl Problem {
    /// A broken rule at `path`.
    pub(crate) fn value(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Value {
            path: path.into(),
            why: why.into(),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Unknown { path }
            | Self::Missing { path }
            | Self::Type { path, .. }
            | Self::Value { path, .. } => path,
        }
    }
}

/// One JSON object being read.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads `value` as an object that has no other keys than `allowed`.
    pub(crate) fn of(
        value: &'a Value,
        path: impl Into<String>,
        allowed: &[&str],
    ) -> Result<Self, Problem> {
        let path = path.into();
        let Some(map) = value.as_object() else {
            return Err(Problem::Type {
                path,
                wanted: "a JSON object",
            });
        };
        let fields = Self { path, map };
        if let Some(key) = map.keys().find(|key| !allowed.contains(&key.as_str())) {
            return Err(Problem::Unknown {
                path: fields.at(key),
            });
        }
        Ok(fields)
    }

    /// The path of one of its fields.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether the field is there at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The field as it stands.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// The field, which must be there.
    pub(crate) fn need(&self, key: &str) -> Result<&'a Value, Problem> {
        self.map
            .get(key)
            .ok_or_else(|| Problem::Missing { path: self.at(key) })
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.map
            .get(key)
            .map(|value| {
                read(value).ok_or_else(|| Problem::Type {
                    path: self.at(key),
                    wanted,
                })
            })
            .transpose()
    }

    fn required<T>(&self, key: &str, found: Option<T>) -> Result<T, Problem> {
        found.ok_or_else(|| Problem::Missing { path: self.at(key) })
    }

    /// Text of 1 to `max` characters.
    pub(crate) fn text(&self, key: &str, max: usize) -> Result<Option<&'a str>, Problem> {
        let found = self.typed(key, "a string", Value::as_str)?;
        if let Some(text) = found {
            let length = text.chars().count();
            if length == 0 {
                return Err(Problem::value(self.at(key), "must not be empty"));
            }
            if length > max {
                return Err(Problem::value(
                    self.at(key),
                    format!("has {length} characters, at most {max} are allowed"),
                ));
            }
        }
        Ok(found)
    }

    /// Required text of 1 to `max` characters.
    pub(crate) fn need_text(&self, key: &str, max: usize) -> Result<&'a str, Problem> {
        let found = self.text(key, max)?;
        self.required(key, found)
    }

    /// One of a closed set of words.
    pub(crate) fn word(&self, key: &str, words: &[&str]) -> Result<Option<&'a str>, Problem> {
        let found = self.typed(key, "a string", Value::as_str)?;
        if let Some(word) = found
            && !words.contains(&word)
        {
            return Err(Problem::value(
                self.at(key),
                format!("is {word:?}, must be one of {words:?}"),
            ));
        }
        Ok(found)
    }

    /// A required one of a closed set of words.
    pub(crate) fn need_word(&self, key: &str, words: &[&str]) -> Result<&'a str, Problem> {
        let found = self.word(key, words)?;
        self.required(key, found)
    }

    /// A whole number; `1.0` and `"1"` are not.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Problem> {
        self.typed(key, "an integer", Value::as_i64)
    }

    /// A required whole number.
    pub(crate) fn need_integer(&self, key: &str) -> Result<i64, Problem> {
        let found = self.integer(key)?;
        self.required(key, found)
    }

    /// A boolean.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Problem> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    /// An object with no other keys than `allowed`.
    pub(crate) fn object(
        &self,
        key: &str,
        allowed: &[&str],
    ) -> Result<Option<Fields<'a>>, Problem> {
        self.map
            .get(key)
            .map(|value| Fields::of(value, self.at(key), allowed))
            .transpose()
    }

    /// A required object with no other keys than `allowed`.
    pub(crate) fn need_object(&self, key: &str, allowed: &[&str]) -> Result<Fields<'a>, Problem> {
        let found = self.object(key, allowed)?;
        self.required(key, found)
    }

    /// An array.
    pub(crate) fn array(&self, key: &str) -> Result<Option<&'a [Value]>, Problem> {
        self.typed(key, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// A required array.
    pub(crate) fn need_array(&self, key: &str) -> Result<&'a [Value], Problem> {
        let found = self.array(key)?;
        self.required(key, found)
    }

    /// Key-value pairs of text: at most `pairs`, each value of at most `max` characters.
    pub(crate) fn pairs(
        &self,
        key: &str,
        pairs: usize,
        max: usize,
    ) -> Result<Option<&'a Map<String, Value>>, Problem> {
        let Some(map) = self.typed(key, "a JSON object", Value::as_object)? else {
            return Ok(None);
        };
        if map.len() > pairs {
            return Err(Problem::value(
                self.at(key),
                format!("has {} pairs, at most {pairs} are allowed", map.len()),
            ));
        }
        for (name, value) in map {
            let path = format!("{}.{name}", self.at(key));
            let Some(text) = value.as_str() else {
                return Err(Problem::Type {
                    path,
                    wanted: "a string",
                });
            };
            if text.chars().count() > max {
                return Err(Problem::value(
                    path,
                    format!("value: the length must not be greater than {max}."),
                ));
            }
        }
        Ok(Some(map))
    }
}
