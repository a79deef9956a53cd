//! A word of ours that travels with a bill through systems we do not control and proves, when it comes back signed by the gateway,
//! which bill a payment was for.
//!
//! It is bound to tenant, bill and amount, so it is of no use on a payment of another amount or for another bill. It is not a secret
//! of the customer's phone: who takes it out of the message there can put it on another payment to the same merchant's account. Such
//! a payment is real money of exactly the bill's amount, received and signed for by the gateway; that is what makes it acceptable,
//! and why it proves nothing by itself.
//!
//! What we make at the gateway ourselves (links, transactions) carries a mark instead: shorter, and bound to tenant and order only.

use secrecy::{ExposeSecret, SecretString};

use crate::ids::{ReferenceId, TenantId};
use crate::money::Paise;
use crate::signature::{Proof, hmac_sha256, hmac_sha256_hex, one_of};

/// What a text says that a vendor carried for somebody and brought back.
#[derive(Debug)]
pub enum Whose {
    /// It is ours, and about this order.
    Ours(Proof),
    /// It names another tenant: what came with it is none of our business.
    Others,
    /// It says nothing we could rely on.
    Nobodys,
}

/// Letters and digits that no vendor's field refuses and no font confuses in one case; five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a mark: 80 bits. A wrong guess costs a webhook that only the gateway can sign, so nobody tries 2^79 of them.
const MARK: usize = 16;

/// Makes and checks the proofs of one tenant's bills.
#[derive(Clone)]
pub struct BillProofs {
    tenant: TenantId,
    /// Current first.
    secrets: Vec<SecretString>,
}

impl std::fmt::Debug for BillProofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BillProofs([redacted])")
    }
}

impl BillProofs {
    /// With the tenant's receipt secrets, which both its gateway and its messaging provider can see.
    #[must_use]
    pub fn new(tenant: TenantId, secrets: Vec<SecretString>) -> Self {
        Self { tenant, secrets }
    }

    /// Whose bills these are.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The proof of a bill: 64 hex digits.
    #[must_use]
    pub fn issue(&self, reference: &ReferenceId, amount: Paise) -> Option<String> {
        let secret = self.secrets.first()?.expose_secret();
        let mac = hmac_sha256(secret.as_bytes(), self.text(reference, amount).as_bytes());
        Some(hex::encode(mac))
    }

    /// It was made for this bill and this amount with one of the secrets (current and previous). In constant time.
    #[must_use]
    pub fn check(&self, reference: &ReferenceId, amount: Paise, presented: &str) -> Option<Proof> {
        let text = self.text(reference, amount);
        hmac_sha256_hex(&self.secrets, text.as_bytes(), presented)
    }

    /// The mark of an order: 16 small letters and digits that name tenant and order and fit into any vendor's field. It goes on what
    /// we make at the gateway ourselves (a link, a transaction), whose amount is our own; so, unlike a proof, it is not bound to an
    /// amount, and neither is ever taken for the other.
    #[must_use]
    pub fn mark(&self, reference: &ReferenceId) -> Option<String> {
        self.marks(reference).into_iter().next()
    }

    /// The text is this order's mark, made with one of the secrets (current and previous). In constant time.
    #[must_use]
    pub fn check_mark(&self, reference: &ReferenceId, presented: &str) -> Option<Proof> {
        one_of(&self.marks(reference), presented)
    }

    /// The mark with the tenant's name in front, for fields that have the room: who reads it can tell another tenant's from nobody's.
    #[must_use]
    pub fn named_mark(&self, reference: &ReferenceId) -> Option<String> {
        Some(format!("{}.{}", self.tenant, self.mark(reference)?))
    }

    /// Whose a [`Self::named_mark`] is.
    #[must_use]
    pub fn whose(&self, reference: &ReferenceId, presented: &str) -> Whose {
        match presented.rsplit_once('.') {
            Some((tenant, mark)) if tenant == self.tenant.as_str() => {
                match self.check_mark(reference, mark) {
                    Some(proof) => Whose::Ours(proof),
                    // The secrets may have changed twice since.
                    None => Whose::Nobodys,
                }
            }
            Some((tenant, mark))
                if TenantId::parse(tenant).is_ok()
                    && mark.len() == MARK
                    && mark.bytes().all(|b| ALPHABET.contains(&b)) =>
            {
                Whose::Others
            }
            _ => Whose::Nobodys,
        }
    }

    /// A second name of an order, where somebody else holds its number: the number with four letters behind it that belong to the
    /// tenant. One for each secret, current first. It proves nothing.
    #[must_use]
    pub fn second_names(&self, reference: &ReferenceId) -> Vec<String> {
        self.marks(reference)
            .iter()
            .map(|mark| {
                let letters: String = mark.chars().take(4).collect();
                format!("{reference}-{letters}")
            })
            .collect()
    }

    /// With each secret, current first.
    fn marks(&self, reference: &ReferenceId) -> Vec<String> {
        let text = format!("mark:{}/{reference}", self.tenant);
        self.secrets
            .iter()
            .map(|secret| secret.expose_secret())
            .filter(|secret| !secret.is_empty())
            .map(|secret| letters(&hmac_sha256(secret.as_bytes(), text.as_bytes())))
            .collect()
    }

    /// Neither a tenant's name nor a bill's number has a slash. The prefix keeps it apart from receipt tokens.
    fn text(&self, reference: &ReferenceId, amount: Paise) -> String {
        format!("bill:{}/{reference}/{}", self.tenant, amount.get())
    }
}

/// The first ten bytes of a code as letters, five bits at a time.
fn letters(code: &[u8]) -> String {
    let bits = code
        .iter()
        .take(10)
        .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    (0..MARK)
        .filter_map(|place| {
            let index = usize::try_from((bits >> place.saturating_mul(5)) & 31).ok()?;
            ALPHABET.get(index).copied().map(char::from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(tenant: &str, secrets: &[&str]) -> BillProofs {
        let secrets = secrets.iter().map(|s| SecretString::from(*s)).collect();
        BillProofs::new(TenantId::parse(tenant).unwrap(), secrets)
    }

    fn bill(reference: &str) -> ReferenceId {
        ReferenceId::parse(reference).unwrap()
    }

    fn paise(amount: i64) -> Paise {
        Paise::new(amount).unwrap()
    }

    #[test]
    fn it_proves_one_bill_of_one_amount() {
        let acme = proofs("acme", &["current", "previous"]);
        let proof = acme.issue(&bill("A-1"), paise(85_000)).unwrap();
        assert_eq!(proof.len(), 64);
        assert!(acme.check(&bill("A-1"), paise(85_000), &proof).is_some());
        assert!(acme.check(&bill("A-2"), paise(85_000), &proof).is_none());
        assert!(acme.check(&bill("A-1"), paise(85_001), &proof).is_none());
        for other in [
            proofs("evil", &["current"]),
            proofs("acme", &["another"]),
            proofs("acme", &[]),
        ] {
            assert!(other.check(&bill("A-1"), paise(85_000), &proof).is_none());
        }
        for cut in 0..proof.len() {
            assert!(
                acme.check(&bill("A-1"), paise(85_000), &proof[..cut])
                    .is_none()
            );
        }
        assert_eq!(proofs("acme", &[]).issue(&bill("A-1"), paise(1)), None);
    }

    #[test]
    fn the_previous_secret_still_counts() {
        let before = proofs("acme", &["previous"]);
        let proof = before.issue(&bill("A-1"), paise(100)).unwrap();
        let now = proofs("acme", &["current", "previous"]);
        assert!(now.check(&bill("A-1"), paise(100), &proof).is_some());
        assert_ne!(now.issue(&bill("A-1"), paise(100)), Some(proof));
    }

    #[test]
    fn it_is_no_receipt_token() {
        let secret = SecretString::from("secret");
        let key = crate::ids::OrderKey::new(TenantId::parse("acme").unwrap(), bill("A-1"));
        let token = crate::token::ReceiptToken::issue(&key, &secret);
        let proof = proofs("acme", &["secret"]).issue(&bill("A-1"), paise(100));
        assert!(!token.contains(&proof.unwrap()[..20]));
    }

    #[test]
    fn a_mark_names_one_order_of_one_tenant() {
        let acme = proofs("acme", &["current", "previous"]);
        let mark = acme.mark(&bill("A-1")).unwrap();
        assert_eq!(mark.len(), 16);
        assert!(
            mark.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        assert!(acme.check_mark(&bill("A-1"), &mark).is_some());
        assert!(acme.check_mark(&bill("A-2"), &mark).is_none());
        assert!(acme.check_mark(&bill("A-1"), &mark[..15]).is_none());
        assert!(acme.check_mark(&bill("A-1"), "").is_none());
        for other in [
            proofs("evil", &["current"]),
            proofs("acme", &["another"]),
            proofs("acme", &[]),
        ] {
            assert!(other.check_mark(&bill("A-1"), &mark).is_none());
        }
        let old = proofs("acme", &["previous"]).mark(&bill("A-1")).unwrap();
        assert_ne!(old, mark);
        assert!(acme.check_mark(&bill("A-1"), &old).is_some());
        assert_eq!(proofs("acme", &[]).mark(&bill("A-1")), None);
        assert_eq!(proofs("acme", &[""]).mark(&bill("A-1")), None);
    }

    #[test]
    fn a_mark_and_a_proof_are_not_the_same_word() {
        let acme = proofs("acme", &["current"]);
        let mark = acme.mark(&bill("A-1")).unwrap();
        let proof = acme.issue(&bill("A-1"), paise(100)).unwrap();
        assert!(acme.check(&bill("A-1"), paise(100), &mark).is_none());
        assert!(acme.check_mark(&bill("A-1"), &proof).is_none());
        assert!(acme.check_mark(&bill("A-1"), &proof[..16]).is_none());
    }

    #[test]
    fn a_named_mark_tells_anothers_from_nobodys() {
        let acme = proofs("acme", &["current"]);
        let ours = acme.named_mark(&bill("A-1")).unwrap();
        assert!(matches!(acme.whose(&bill("A-1"), &ours), Whose::Ours(_)));
        assert!(matches!(acme.whose(&bill("A-2"), &ours), Whose::Nobodys));
        let other = proofs("evil", &["current"]).named_mark(&bill("A-1"));
        let other = other.unwrap();
        assert!(matches!(acme.whose(&bill("A-1"), &other), Whose::Others));
        // Another tenant's name on our own mark is not ours.
        let renamed = ours.replace("acme.", "evil.");
        assert!(matches!(acme.whose(&bill("A-1"), &renamed), Whose::Others));
        for nobodys in ["", ".", "acme.", "acme.x", "a note of the shop", "evil.x"] {
            let whose = acme.whose(&bill("A-1"), nobodys);
            assert!(matches!(whose, Whose::Nobodys), "{nobodys}");
        }
    }
}
