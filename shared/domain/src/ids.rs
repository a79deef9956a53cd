//! Names of things. Each can only be made by `parse`, so holding one means it is well-formed.

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(&'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The rule in words, as shown to a caller who broke it.
            pub const RULE: &'static str = $rule;

            /// Checks the text and takes it.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(InvalidId($rule)) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(
    /// A merchant. No underscore, because an API key is `cb_<tenant_id>_<random>`.
    TenantId,
    |t| {
        (1..=40).contains(&t.len())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
            && t.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    },
    "1 to 40 letters, digits, dashes or dots, beginning with a letter or digit"
);

id!(
    /// A customer as Meta names them to one business (Meta, "Business-scoped user IDs"): a country's two letters, a dot and up to 128
    /// letters and digits. It stands for a person, so it is not logged.
    UserId,
    |t| {
        t.split_once('.').is_some_and(|(country, id)| {
            country.len() == 2
                && country.bytes().all(|b| b.is_ascii_uppercase())
                && (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    },
    "two capital letters, a dot and 1 to 128 letters or digits"
);

id!(
    /// The shop's own number of a bill. The rule is WhatsApp's for `reference_id` (Meta, "Payment Links", parameters
    /// object): English letters, digits, underscores, dashes and dots, at most 35.
    ReferenceId,
    |t| {
        (1..=35).contains(&t.len())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            // A path segment of dots alone would be normalised away by HTTP clients and API Gateway.
            && t.bytes().any(|b| b != b'.')
    },
    "1 to 35 English letters, digits, underscores, dashes or dots"
);

/// Which order: a merchant's reference. Two merchants may use the same `reference_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey {
    /// The merchant.
    pub tenant: TenantId,
    /// The merchant's bill number.
    pub reference: ReferenceId,
}

impl OrderKey {
    /// The order of `tenant` with the number `reference`.
    #[must_use]
    pub fn new(tenant: TenantId, reference: ReferenceId) -> Self {
        Self { tenant, reference }
    }
}

impl std::fmt::Display for OrderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.tenant, self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_obeys_whatsapp() {
        for good in ["BM345A-12", "a", "A_b.c-9", &"x".repeat(35), "..a"] {
            assert!(ReferenceId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "../",
            "..",
            ".",
            "a/b",
            "é",
            "a b",
            &"x".repeat(36),
            "a\n",
        ] {
            assert!(ReferenceId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tenant_has_no_underscore() {
        assert!(TenantId::parse("acme-2").is_ok());
        assert!(TenantId::parse("ac_me").is_err());
        assert!(TenantId::parse("-acme").is_err());
    }
}
