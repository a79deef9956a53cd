//! Signatures as the vendors make them, written from their documents and not from the product's code.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Lower-case hex HMAC-SHA256 of `message`.
///
/// Razorpay, "Validate and Test Webhooks": over the raw body with the webhook secret. Meta, "Webhooks: validating
/// payloads": over the raw body with the app secret.
pub(crate) fn hmac_sha256_hex(key: &[u8], message: &[u8]) -> String {
    // HMAC takes a key of any length, so the error cannot happen; an empty signature would be refused by any receiver.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

/// Lower-case hex SHA-512 of `message`, as PayU's `hash`.
pub(crate) fn sha512_hex(message: &[u8]) -> String {
    hex::encode(Sha512::digest(message))
}
