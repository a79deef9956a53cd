//! A word of ours that travels with a bill through systems we do not control and proves, when it comes back signed by the gateway,
//! which bill a payment was for.
//!
//! It is bound to tenant, bill and amount, so it is of no use on a payment of another amount or for another bill. It is not a secret
//! of the customer's phone: who takes it out of the message there can put it on another payment to the same merchant's account. Such
//! a payment is real money of exactly the bill's amount, received and signed for by the gateway; that is what makes it acceptable,
//! and why it proves nothing by itself.

use secrecy::{ExposeSecret, SecretString};

use crate::ids::{ReferenceId, TenantId};
use crate::money::Paise;
use crate::signature::{Proof, hmac_sha256, hmac_sha256_hex};

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

    /// Neither a tenant's name nor a bill's number has a slash. The prefix keeps it apart from receipt tokens.
    fn text(&self, reference: &ReferenceId, amount: Paise) -> String {
        format!("bill:{}/{reference}/{}", self.tenant, amount.get())
    }
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
}
