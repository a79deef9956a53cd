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
