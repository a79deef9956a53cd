//! What is wrong with one field of a document, named so that a person can find and mend it.

use serde::Serialize;

/// One fault of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the field; empty for the document itself.
    pub pointer: String,
    /// Stable snake_case code, e.g. `too_long`.
    pub code: &'static str,
    /// What is wrong and what would be right. Never repeats a secret.
    pub detail: String,
}

impl Fault {
    /// A fault of the field at `pointer`.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            code,
            detail: detail.into(),
        }
    }
}

/// All faults in one line, for a log or an error's internal text.
#[must_use]
pub fn listed(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pointer = if self.pointer.is_empty() {
            "/"
        } else {
            &self.pointer
        };
        write!(f, "{pointer}: {} ({})", self.detail, self.code)
    }
}
