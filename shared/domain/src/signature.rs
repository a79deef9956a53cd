//! The only place that compares signatures. A successful comparison is the only way to a [`Proof`], and a
//! [`crate::webhook::VerifiedWebhook`] cannot be made without one.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Evidence that a presented signature or secret was the right one.
#[derive(Debug)]
pub struct Proof(());

/// HMAC-SHA256 of `message` under the UTF-8 bytes of `key`.
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length; the error cannot occur"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-512 of `bytes` in lower-case hex.
#[must_use]
pub fn sha512_hex(bytes: &[u8]) -> String {
    hex::encode(Sha512::digest(bytes))
}

/// Checks a presented signature against every one that would be right, in constant time.
#[must_use]
pub fn one_of(expected: &[String], presented: &str) -> Option<Proof> {
    let mut matched = subtle::Choice::from(0);
    for expected in expected.iter().filter(|text| !text.is_empty()) {
        matched |= expected.as_bytes().ct_eq(presented.as_bytes());
    }
    bool::from(matched).then_some(Proof(()))
}

/// Checks a lower-case hex HMAC-SHA256 against every secret of a list (current and previous). Upper case is refused, as the
/// vendors' own SDKs do. All secrets are tried whatever the outcome, in constant time.
#[must_use]
pub fn hmac_sha256_hex(secrets: &[SecretString], message: &[u8], presented: &str) -> Option<Proof> {
    let mut matched = subtle::Choice::from(0);
    for secret in secrets {
        if secret.expose_secret().is_empty() {
            continue;
        }
        let expected = hex::encode(hmac_sha256(secret.expose_secret().as_bytes(), message));
        matched |= expected.as_bytes().ct_eq(presented.as_bytes());
    }
    bool::from(matched).then_some(Proof(()))
}

/// Checks a presented secret (a token in a URL or header) against a list of them, in constant time.
#[must_use]
pub fn same_secret(secrets: &[SecretString], presented: &str) -> Option<Proof> {
    let presented = sha256(presented.as_bytes());
    let mut matched = subtle::Choice::from(0);
    for secret in secrets {
        if secret.expose_secret().is_empty() {
            continue;
        }
        matched |= sha256(secret.expose_secret().as_bytes()).ct_eq(&presented);
    }
    bool::from(matched).then_some(Proof(()))
}

/// Compares two byte strings in constant time.
#[must_use]
pub fn same_bytes(a: &[u8], b: &[u8]) -> Option<Proof> {
    bool::from(a.ct_eq(b)).then_some(Proof(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_case_2() {
        assert_eq!(
            hex::encode(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn sha512_of_fips_180_and_one_of_several() {
        let abc = sha512_hex(b"abc");
        assert!(abc.starts_with("ddaf35a193617abacc417349ae204131") && abc.len() == 128);
        let expected = [abc.clone(), String::new(), "b".to_owned()];
        assert!(one_of(&expected, &abc).is_some());
        assert!(one_of(&expected, "b").is_some());
        for wrong in ["", "a", &abc.to_uppercase()] {
            assert!(one_of(&expected, wrong).is_none(), "{wrong}");
        }
        assert!(one_of(&[], &abc).is_none());
    }

    #[test]
    fn the_previous_secret_still_counts_and_an_empty_one_never() {
        let secrets = [
            SecretString::from("new"),
            SecretString::from("old"),
            SecretString::from(""),
        ];
        let sign = |key: &str| hex::encode(hmac_sha256(key.as_bytes(), b"m"));
        assert!(hmac_sha256_hex(&secrets, b"m", &sign("new")).is_some());
        assert!(hmac_sha256_hex(&secrets, b"m", &sign("old")).is_some());
        assert!(hmac_sha256_hex(&secrets, b"m", &sign("")).is_none());
        assert!(hmac_sha256_hex(&secrets, b"m", &sign("new").to_uppercase()).is_none());
        assert!(hmac_sha256_hex(&secrets, b"m ", &sign("new")).is_none());
        assert!(hmac_sha256_hex(&[], b"m", &sign("new")).is_none());
        assert!(same_secret(&secrets, "").is_none());
        assert!(same_secret(&secrets, "old").is_some());
    }
}
