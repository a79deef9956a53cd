//! What our orders are called at gateways that take a number of ours.
//!
//! Several merchants may share one gateway account and count their bills alike, and the account's web shop has numbers of its own.
//! So the name is made of tenant and bill, it is letters and digits because that is what every such gateway takes, and it says
//! itself whose it is: a webhook about somebody else's order is recognised without a look into the store. It never changes, whatever
//! becomes of the tenant's secrets, because money is found again under it; so it proves nothing.

use chatbill_domain::ids::{ReferenceId, TenantId};
use chatbill_domain::signature::sha256;

/// Digits and capitals: some gateways may not tell small letters from capitals.
const ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Characters that are the order's: two orders of the account meet by chance once in 10^17, and only if their numbers end alike.
const OWN: usize = 11;
/// Characters that are the tenant's: a number of somebody else passes for ours by chance once in 60 million times.
const TENANT: usize = 5;

/// The order's name, at most `longest` characters (at least 16): the end of the bill's number as far as there is room, for people's
/// eyes, then what is the order's alone.
pub(crate) fn name(tenant: &TenantId, reference: &ReferenceId, longest: usize) -> ReferenceId {
    let plain: Vec<char> = reference
        .as_str()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let room = longest.saturating_sub(OWN.saturating_add(TENANT));
    let end = plain.len().saturating_sub(room);
    let mut name: String = plain.into_iter().skip(end).collect();
    name.push_str(&digits(&format!("order {tenant}/{reference}"), OWN));
    name.push_str(&digits(&format!("name {tenant}/{name}"), TENANT));
    // Letters and digits always are a reference.
    ReferenceId::parse(name).unwrap_or_else(|_| reference.clone())
}

/// Whether this is the name of one of the tenant's orders.
pub(crate) fn is_of(tenant: &TenantId, name: &str) -> bool {
    let at = name.len().saturating_sub(TENANT);
    at >= OWN
        && name
            .split_at_checked(at)
            .is_some_and(|(order, sign)| sign == digits(&format!("name {tenant}/{order}"), TENANT))
}

/// Digits and capitals made of a text.
fn digits(text: &str, count: usize) -> String {
    let mut number = sha256(text.as_bytes())
        .iter()
        .take(16)
        .fold(0_u128, |n, byte| (n << 8) | u128::from(*byte));
    let mut digits = String::new();
    while digits.len() < count {
        let digit = usize::try_from(number % 36).unwrap_or_default();
        digits.push(char::from(*ALPHABET.get(digit).unwrap_or(&b'0')));
        number /= 36;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn named(of: &str, reference: &str, longest: usize) -> String {
        name(
            &tenant(of),
            &ReferenceId::parse(reference).unwrap(),
            longest,
        )
        .into()
    }

    #[test]
    fn a_name_is_letters_and_digits_and_says_whose_it_is() {
        let mut seen = BTreeSet::new();
        for of in ["acme", "bazaar"] {
            for reference in [
                "1001",
                "BM345A-12",
                "BM345A.12",
                "bm345a-12",
                "-",
                &"7".repeat(35),
            ] {
                for longest in [16, 20, 25] {
                    let name = named(of, reference, longest);
                    assert!(name.len() <= longest && name.bytes().all(|b| ALPHABET.contains(&b)));
                    assert_eq!(name, named(of, reference, longest));
                    assert!(is_of(&tenant(of), &name));
                    for other in ["acme", "bazaar", "ACME", "acme.1"] {
                        assert_eq!(is_of(&tenant(other), &name), other == of, "{other} {name}");
                    }
                    assert!(longest < 25 || seen.insert(name));
                }
            }
        }
        // People find a bill by what they see.
        assert!(named("acme", "BM345A-12", 25).starts_with("BM345A12"));
        assert!(named("acme", "INV-2026-1001", 20).starts_with("1001"));
        for strange in [
            "",
            "1001",
            "BM345A12",
            "ZP43613736458877783333",
            "é",
            &"A".repeat(35),
        ] {
            assert!(!is_of(&tenant("acme"), strange), "{strange}");
        }
    }

    /// Money is found again under a name, so it must never be another.
    #[test]
    fn a_name_once_given_is_never_another() {
        assert_eq!(named("acme", "BM345A-12", 25), "BM345A12SA29TPIC532XC8OB");
        assert_eq!(named("acme", "BM345A-12", 20), "5A12SA29TPIC532GRVUA");
        assert_eq!(named("bazaar", "BM345A-12", 20), "5A12S3ICAXZZL46BW1B1");
    }
}
