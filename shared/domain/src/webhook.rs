//! A webhook before and after its signature was checked.

use secrecy::SecretString;

use crate::signature::{Proof, same_secret};

/// What arrived, untouched. Signatures are over these exact bytes.
#[derive(Clone)]
pub struct RawWebhook {
    /// Header names in lower case, with their values. A name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// Query parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The body as sent (API Gateway's base64 already undone).
    pub body: Vec<u8>,
}

impl RawWebhook {
    /// The value of a header, if it is there exactly once. A doubled signature header is no signature.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        single(&self.headers, name)
    }

    /// The value of a query parameter, if it is there exactly once.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        single(&self.query, name)
    }
}

fn single<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = pairs
        .iter()
        .filter(|(n, _)| n == name)
        .map(|(_, v)| v.as_str());
    let first = found.next();
    if found.next().is_some() { None } else { first }
}

impl std::fmt::Debug for RawWebhook {
    // The body holds customers' data and the headers a signature; neither belongs in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawWebhook")
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A webhook that a connector's `verify` let through. Only a signature check gives a [`Proof`], and only with one is it signed.
#[derive(Debug)]
pub struct VerifiedWebhook {
    raw: RawWebhook,
    signed: bool,
}

impl VerifiedWebhook {
    /// Seals a webhook with the proof that its signature was right.
    #[must_use]
    pub fn new(raw: RawWebhook, _proof: Proof) -> Self {
        Self { raw, signed: true }
    }

    /// Lets a webhook through that its sender does not sign, if its address has the tenant's `callback_token`: whoever was not given the
    /// address costs no call. Whatever is read from it, [`crate::connector::signals`] leaves only hints of it.
    pub fn unsigned(raw: RawWebhook, token: Option<&SecretString>) -> Result<Self, Refused> {
        let presented = raw.query("token").ok_or(Refused::Missing)?;
        let token = token.map(std::slice::from_ref).unwrap_or_default();
        same_secret(token, presented).ok_or(Refused::Mismatch)?;
        Ok(Self { raw, signed: false })
    }

    /// Whether its sender is proven.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// What was let through.
    #[must_use]
    pub fn raw(&self) -> &RawWebhook {
        &self.raw
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.raw.body
    }
}

/// Why a webhook was refused. The sender is told 401 and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No signature, or more than one.
    #[error("no signature")]
    Missing,
    /// The signature is not the one we compute.
    #[error("wrong signature")]
    Mismatch,
}

/// A verified webhook that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("verified but unreadable: {0}")]
pub struct Unreadable(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_signed_needs_the_token_of_its_address() {
        let token = SecretString::from("0123456789abcdef");
        let hook = |query: &[&str]| RawWebhook {
            headers: vec![],
            query: query
                .iter()
                .map(|value| ("token".to_owned(), (*value).to_owned()))
                .collect(),
            body: vec![],
        };
        let judge = |query: &[&str], token| {
            VerifiedWebhook::unsigned(hook(query), token).map(|webhook| webhook.is_signed())
        };
        assert_eq!(judge(&["0123456789abcdef"], Some(&token)), Ok(false));
        assert_eq!(
            judge(&["0123456789abcdeF"], Some(&token)),
            Err(Refused::Mismatch)
        );
        assert_eq!(judge(&[""], Some(&token)), Err(Refused::Mismatch));
        assert_eq!(judge(&[], Some(&token)), Err(Refused::Missing));
        let twice = ["0123456789abcdef", "0123456789abcdef"];
        assert_eq!(judge(&twice, Some(&token)), Err(Refused::Missing));
        // A tenant without one hears nothing that is not signed.
        assert_eq!(judge(&[""], None), Err(Refused::Mismatch));
        assert_eq!(judge(&["0123456789abcdef"], None), Err(Refused::Mismatch));
    }

    #[test]
    fn a_doubled_header_is_no_header() {
        let raw = RawWebhook {
            headers: vec![
                ("a".into(), "1".into()),
                ("b".into(), "2".into()),
                ("a".into(), "1".into()),
            ],
            query: vec![],
            body: b"secret".to_vec(),
        };
        assert_eq!(raw.header("a"), None);
        assert_eq!(raw.header("b"), Some("2"));
        assert!(!format!("{raw:?}").contains("secret"));
    }
}
