//! The receipt page's address: unguessable, bound to one order of one tenant, and good for ever.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use crate::ids::{OrderKey, ReferenceId, TenantId};
use crate::signature::{hmac_sha256, same_bytes};

/// Length of the code that makes a token unguessable, in bytes (128 bits).
const CODE_BYTES: usize = 16;

/// A receipt token that has been read but not yet checked: `base64url(tenant/reference).base64url(code)`.
#[derive(Debug)]
pub struct ReceiptToken {
    key: OrderKey,
    code: Vec<u8>,
}

impl ReceiptToken {
    /// Makes the token of an order with the tenant's current secret.
    #[must_use]
    pub fn issue(key: &OrderKey, secret: &SecretString) -> String {
        let name = format!("{}/{}", key.tenant, key.reference);
        let code = code(&name, secret);
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(&name),
            URL_SAFE_NO_PAD.encode(code)
        )
    }

    /// Takes a token apart. Nothing is proven yet.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // The longest tenant and reference fit well below this; anything longer is not ours.
        if text.len() > 160 {
            return None;
        }
        let (name, code) = text.split_once('.')?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let (tenant, reference) = name.split_once('/')?;
        Some(Self {
            key: OrderKey::new(
                TenantId::parse(tenant).ok()?,
                ReferenceId::parse(reference).ok()?,
            ),
            code: URL_SAFE_NO_PAD.decode(code).ok()?,
        })
    }

    /// Whose secrets to check it with.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.key.tenant
    }

    /// The order, if the token was made with one of these secrets (current and previous).
    #[must_use]
    pub fn check(self, secrets: &[SecretString]) -> Option<OrderKey> {
        let name = format!("{}/{}", self.key.tenant, self.key.reference);
        #[expect(
            clippy::unnecessary_fold,
            reason = "`any` would stop at the first match and so tell by its time which secret it was"
        )]
        let matched = secrets
            .iter()
            .filter(|s| !s.expose_secret().is_empty())
            .fold(false, |found, s| {
                same_bytes(&code(&name, s), &self.code).is_some() || found
            });
        matched.then_some(self.key)
    }
}

/// The short form of a receipt token for SMS, thirteen letters and digits. What it leads to is stored; that it was issued here is
/// proven by the same secrets as the long form, so it ends with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortCode(String);

impl ShortCode {
    /// Five bits a character; none easily mistaken for another.
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    /// 65 bits, of which 64 are used: nobody guesses one of a billion among 1.8 × 10^19.
    const LENGTH: usize = 13;

    /// The code of an order with this secret.
    #[must_use]
    pub fn issue(key: &OrderKey, secret: &SecretString) -> Self {
        let mac = hmac_sha256(
            secret.expose_secret().as_bytes(),
            format!("short:{}/{}", key.tenant, key.reference).as_bytes(),
        );
        let bits = mac
            .iter()
            .take(8)
            .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let text = (0..Self::LENGTH).filter_map(|place| {
            let index = usize::try_from((bits >> place.saturating_mul(5)) & 31).ok()?;
            Self::ALPHABET.get(index).copied().map(char::from)
        });
        Self(text.collect())
    }

    /// Reads a code. Nothing is proven yet.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shaped =
            text.len() == Self::LENGTH && text.bytes().all(|b| Self::ALPHABET.contains(&b));
        shaped.then(|| Self(text.to_owned()))
    }

    /// It was made for this order with one of these secrets (current and previous).
    #[must_use]
    pub fn opens(&self, key: &OrderKey, secrets: &[SecretString]) -> bool {
        // Not `any`, which would stop at the first match and so tell by its time which secret it was.
        secrets
            .iter()
            .filter(|s| !s.expose_secret().is_empty())
            .fold(false, |found, s| {
                let own = Self::issue(key, s);
                same_bytes(own.0.as_bytes(), self.0.as_bytes()).is_some() || found
            })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn code(name: &str, secret: &SecretString) -> Vec<u8> {
    let mac = hmac_sha256(
        secret.expose_secret().as_bytes(),
        format!("receipt:{name}").as_bytes(),
    );
    mac.into_iter().take(CODE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, reference: &str) -> OrderKey {
        OrderKey::new(
            TenantId::parse(tenant).unwrap(),
            ReferenceId::parse(reference).unwrap(),
        )
    }

    #[test]
    fn a_short_code_opens_its_order_and_no_other() {
        let (now, old) = (SecretString::from("now"), SecretString::from("old"));
        let both = [now.clone(), old.clone()];
        for secret in &both {
            let code = ShortCode::issue(&key("acme", "A-1"), secret);
            assert_eq!(ShortCode::parse(code.as_str()), Some(code.clone()));
            assert!(code.opens(&key("acme", "A-1"), &both));
            assert!(!code.opens(&key("acme", "A-2"), &both));
            assert!(!code.opens(&key("evil", "A-1"), &both));
            assert!(!code.opens(&key("acme", "A-1"), &[SecretString::from("other")]));
            assert!(!code.opens(&key("acme", "A-1"), &[]));
        }
        let code = ShortCode::issue(&key("acme", "A-1"), &now);
        for bad in [
            &code.as_str()[1..],
            &format!("{}a", code.as_str()),
            "abcdefghijkl0",
            "",
        ] {
            assert_eq!(ShortCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_opens_its_order_and_no_other() {
        let (now, old) = (SecretString::from("now"), SecretString::from("old"));
        let mine = key("acme", "A-1");
        for secret in [&now, &old] {
            let token = ReceiptToken::issue(&mine, secret);
            let read = ReceiptToken::parse(&token).unwrap();
            assert_eq!(read.tenant().as_str(), "acme");
            assert_eq!(read.check(&[now.clone(), old.clone()]), Some(mine.clone()));
        }
        let token = ReceiptToken::issue(&mine, &now);
        assert!(
            ReceiptToken::parse(&token)
                .unwrap()
                .check(&[SecretString::from("other")])
                .is_none()
        );
        assert!(
            ReceiptToken::parse(&token)
                .unwrap()
                .check(&[SecretString::from("")])
                .is_none()
        );

        let other = ReceiptToken::issue(&key("evil", "A-1"), &SecretString::from("evil"));
        let forged = format!(
            "{}.{}",
            token.split('.').next().unwrap(),
            other.split('.').nth(1).unwrap()
        );
        assert!(
            ReceiptToken::parse(&forged)
                .unwrap()
                .check(std::slice::from_ref(&now))
                .is_none()
        );

        for cut in 0..token.len() {
            let opened = ReceiptToken::parse(&token[..cut])
                .and_then(|t| t.check(std::slice::from_ref(&now)));
            assert!(opened.is_none(), "cut at {cut}");
        }
        let longer = ReceiptToken::parse(&format!("{token}A")).and_then(|t| t.check(&[now]));
        assert!(longer.is_none());
    }
}
