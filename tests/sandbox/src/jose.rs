//! BillDesk's tokens, written from RFC 7515, 7516 and 7518 and not from the product's code.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// What a client and BillDesk share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// `clientid` in headers.
    pub(crate) client: String,
    /// Key of the JWS.
    pub(crate) signing_key: String,
    /// `kid` of the JWS, if the client has one.
    pub(crate) signing_key_id: Option<String>,
    /// Key and `kid` of the JWE, in encryption mode.
    pub(crate) encryption: Option<(String, String)>,
}

fn mac(key: &str, input: &str) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(input.as_bytes());
    Some(mac)
}

fn protected(token: &str) -> Option<Value> {
    serde_json::from_slice(&B64.decode(token.split('.').next()?).ok()?).ok()
}

/// The client a token says it is from; nothing is checked yet.
pub(crate) fn client_of(token: &str) -> Option<String> {
    Some(protected(token)?.get("clientid")?.as_str()?.to_owned())
}

impl Shared {
    /// Signs, after encrypting where that is agreed on. `seed` has to be new each time: the initialization vector comes from it.
    pub(crate) fn seal(&self, payload: &[u8], seed: &str) -> Option<String> {
        let mut header = json!({"alg": "HS256", "clientid": self.client});
        if let Some(id) = &self.signing_key_id {
            header
                .as_object_mut()?
                .insert("kid".to_owned(), id.as_str().into());
        }
        let content = match &self.encryption {
            None => payload.to_vec(),
            Some((key, id)) => {
                let head = B64.encode(
                    json!({"alg": "dir", "enc": "A256GCM", "kid": id, "clientid": self.client})
                        .to_string(),
                );
                let iv: [u8; 12] = seed.as_bytes().get(..12)?.try_into().ok()?;
                let message = Payload {
                    msg: payload,
                    aad: head.as_bytes(),
                };
                let sealed = Aes256Gcm::new_from_slice(key.as_bytes())
                    .ok()?
                    .encrypt(&Nonce::from(iv), message)
                    .ok()?;
                let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(16)?)?;
                format!(
                    "{head}..{}.{}.{}",
                    B64.encode(iv),
                    B64.encode(text),
                    B64.encode(tag)
                )
                .into_bytes()
            }
        };
        let input = format!("{}.{}", B64.encode(header.to_string()), B64.encode(content));
        let signature = B64.encode(mac(&self.signing_key, &input)?.finalize().into_bytes());
        Some(format!("{input}.{signature}"))
    }

    /// The content of a token, if it is protected as agreed.
    pub(crate) fn open(&self, token: &str) -> Option<Vec<u8>> {
        let parts: Vec<&str> = token.split('.').collect();
        let [head, content, signature] = parts.as_slice() else {
            return None;
        };
        if protected(token)?.get("alg")? != "HS256" {
            return None;
        }
        let input = format!("{head}.{content}");
        mac(&self.signing_key, &input)?
            .verify_slice(&B64.decode(signature).ok()?)
            .ok()?;
        let content = B64.decode(content).ok()?;
        let Some((key, _)) = &self.encryption else {
            return Some(content);
        };
        let inner = String::from_utf8(content).ok()?;
        let parts: Vec<&str> = inner.split('.').collect();
        let [head, "", iv, text, tag] = parts.as_slice() else {
            return None;
        };
        let header = protected(&inner)?;
        if header.get("alg")? != "dir" || header.get("enc")? != "A256GCM" {
            return None;
        }
        let iv: [u8; 12] = B64.decode(iv).ok()?.try_into().ok()?;
        let mut sealed = B64.decode(text).ok()?;
        sealed.extend(B64.decode(tag).ok()?);
        let message = Payload {
            msg: &sealed,
            aad: head.as_bytes(),
        };
        Aes256Gcm::new_from_slice(key.as_bytes())
            .ok()?
            .decrypt(&Nonce::from(iv), message)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another library, npm jose 6.2.17.
    #[test]
    fn tokens_of_another_library_open() {
        let vectors: Value =
            serde_json::from_str(include_str!("../tests/vectors/billdesk.json")).unwrap();
        let mut seen = 0;
        for vector in vectors["vectors"].as_array().unwrap() {
            let text = |name: &str| vector[name].as_str().unwrap_or_default().to_owned();
            let shared = Shared {
                client: text("client_id"),
                signing_key: text("signing_key"),
                signing_key_id: None,
                encryption: (vector["mode"] == "jose")
                    .then(|| (text("encryption_key"), "encKid1".to_owned())),
            };
            let opened = shared
                .open(&text("token"))
                .map(|b| String::from_utf8(b).unwrap());
            assert_eq!(
                opened.as_deref(),
                vector["expected_payload"].as_str(),
                "{}",
                vector["id"]
            );
            let sealed = shared.seal(b"{}", "twelve bytes and more").unwrap();
            assert_eq!(shared.open(&sealed).as_deref(), Some(b"{}".as_slice()));
            assert_eq!(client_of(&sealed).as_deref(), Some("bdmerc1"));
            seen += 1;
        }
        assert_eq!(seen, 7);
    }
}
