//! The receipt page's address: unguessable, bound to one order of one tenant, and good for ever.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use crate::ids::{OrderKey, ReferenceId, TenantId};
use crate::signature::{hmac_sha256, same_bytes, sha256};

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

/// The short form of a receipt token for SMS, thirteen letters and digits: whose it may be (2), which one it is (8), and a check of both
/// under the tenant's secrets (3). What it leads to is stored. The check makes that nobody's made-up code is worth looking for; that a
/// code leads to its own order is proven by the same secrets as the long form, so it ends with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortCode(String);

impl ShortCode {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 13;
    /// Narrows the tenants down to one, mostly, whose secrets are tried.
    const TAG: usize = 2;
    /// One of 2 × 10^14: a million orders of one tenant share one with a chance of 0.2 %.
    const NAME: usize = 8;
    /// A made-up code passes with a chance of 1 in 238,000, and then leads to nothing.
    const CHECK: usize = 3;

    /// The code of an order with this secret.
    #[must_use]
    pub fn issue(key: &OrderKey, secret: &SecretString) -> Self {
        let mac = hmac_sha256(
            secret.expose_secret().as_bytes(),
            format!("short:{}/{}", key.tenant, key.reference).as_bytes(),
        );
        let begin = Self::tag(&key.tenant) + &Self::spell(&mac, Self::NAME);
        let check = Self::check(&begin, &key.tenant, secret);
        Self(begin + &check)
    }

    /// Reads a code. Nothing is proven yet.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shaped =
            text.len() == Self::LENGTH && text.bytes().all(|b| Self::ALPHABET.contains(&b));
        shaped.then(|| Self(text.to_owned()))
    }

    /// Whether it is worth trying this tenant's secrets.
    #[must_use]
    pub fn may_be_of(&self, tenant: &TenantId) -> bool {
        self.0.starts_with(&Self::tag(tenant))
    }

    /// It was not made up: this tenant's secrets (current and previous) made its check.
    #[must_use]
    pub fn is_genuine(&self, tenant: &TenantId, secrets: &[SecretString]) -> bool {
        let Some((begin, check)) = self
            .0
            .split_at_checked(Self::TAG.saturating_add(Self::NAME))
        else {
            return false;
        };
        // Not `any`, which would stop at the first match and so tell by its time which secret it was.
        secrets
            .iter()
            .filter(|s| !s.expose_secret().is_empty())
            .fold(false, |found, s| {
                let own = Self::check(begin, tenant, s);
                same_bytes(own.as_bytes(), check.as_bytes()).is_some() || found
            })
    }

    fn tag(tenant: &TenantId) -> String {
        Self::spell(&sha256(tenant.as_str().as_bytes()), Self::TAG)
    }

    fn check(begin: &str, tenant: &TenantId, secret: &SecretString) -> String {
        let mac = hmac_sha256(
            secret.expose_secret().as_bytes(),
            format!("short-check:{tenant}/{begin}").as_bytes(),
        );
        Self::spell(&mac, Self::CHECK)
    }

    /// The first eight bytes as so many letters and digits.
    fn spell(bytes: &[u8; 32], length: usize) -> String {
        let base = Self::ALPHABET.len();
        let mut rest = bytes
            .iter()
            .take(8)
            .fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let mut text = String::with_capacity(length);
        for _ in 0..length {
            let base = u64::try_from(base).unwrap_or(u64::MAX);
            let digit = rest.checked_rem(base).unwrap_or(0);
            rest = rest.checked_div(base).unwrap_or(0);
            let index = usize::try_from(digit).unwrap_or(0);
            text.extend(Self::ALPHABET.get(index).copied().map(char::from));
        }
        text
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
            "abcdefghijkl-",
            "abcdefghijkl\u{e9}",
            "",
        ] {
            assert_eq!(ShortCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_made_up_short_code_is_known_for_what_it_is() {
        let (now, old) = (SecretString::from("now"), SecretString::from("old"));
        let acme = TenantId::parse("acme").unwrap();
        let code = ShortCode::issue(&key("acme", "A-1"), &now);
        assert!(code.may_be_of(&acme) && !code.may_be_of(&TenantId::parse("evil").unwrap()));
        assert!(code.is_genuine(&acme, &[old.clone(), now.clone()]));
        assert!(!code.is_genuine(&acme, &[old]));
        assert!(!code.is_genuine(&acme, &["".into()]) && !code.is_genuine(&acme, &[]));
        assert!(!code.is_genuine(
            &TenantId::parse("evil").unwrap(),
            std::slice::from_ref(&now)
        ));
        // Every other letter in any place.
        for place in 0..code.0.len() {
            let mut text = code.0.clone().into_bytes();
            text[place] = if text[place] == b'a' { b'b' } else { b'a' };
            let other = ShortCode::parse(std::str::from_utf8(&text).unwrap()).unwrap();
            assert!(
                !other.is_genuine(&acme, std::slice::from_ref(&now)),
                "{place}"
            );
        }
        // One that passes by chance is still no order's.
        let lucky = (0..2_000_000_u32).find_map(|n| {
            let begin = format!("{}{n:08}", &code.0[..2]);
            let lucky = ShortCode::parse(&format!("{begin}abc")).unwrap();
            lucky
                .is_genuine(&acme, std::slice::from_ref(&now))
                .then_some(lucky)
        });
        assert!(!lucky.unwrap().opens(&key("acme", "A-1"), &[now]));
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
