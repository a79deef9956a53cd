//! The two compact forms BillDesk speaks: JWS with HS256 (RFC 7515), and around a JWE with `dir` and A256GCM (RFC 7516, 7518).
//!
//! Nothing in a token chooses how it is checked: the tenant's settings say which form and which keys, and a header that names
//! anything else is refused. That closes `alg: none`, keys taken for others, and a token that is only signed where encryption was
//! agreed on.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chatbill_domain::signature::{Proof, hmac_sha256, hmac_sha256_hex};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

/// RFC 7518, 5.3: the key of A256GCM.
pub(super) const KEY_BYTES: usize = 32;
/// RFC 7518, 5.3: "The use of an Initialization Vector of size 96 bits is REQUIRED"; the tag has 128.
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Why a token is not one of BillDesk's; for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// The keys of the symmetric encryption mode.
pub(super) struct Encryption {
    /// Current first; each of [`KEY_BYTES`] bytes.
    pub(super) keys: Vec<SecretString>,
    /// Names the current one.
    pub(super) id: String,
}

/// Makes and opens the tokens of one client.
pub(super) struct Jose {
    pub(super) client: String,
    /// Current first.
    pub(super) signing: Vec<SecretString>,
    pub(super) signing_id: Option<String>,
    /// None in HMAC mode.
    pub(super) encryption: Option<Encryption>,
}

impl Jose {
    /// The token of a request. `trace` is the request's BD-Traceid.
    pub(super) fn seal(&self, payload: &[u8], trace: &str) -> Option<String> {
        let payload = match &self.encryption {
            None => payload.to_vec(),
            Some(encryption) => self.encrypt(encryption, payload, trace)?.into_bytes(),
        };
        let mut header = json!({"alg": "HS256", "clientid": self.client});
        if let (Some(header), Some(id)) = (header.as_object_mut(), &self.signing_id) {
            header.insert("kid".to_owned(), id.as_str().into());
        }
        let input = format!("{}.{}", encode(header.to_string()), encode(payload));
        let key = self.signing.first()?.expose_secret().as_bytes();
        let signature = encode(hmac_sha256(key, input.as_bytes()));
        Some(format!("{input}.{signature}"))
    }

    fn encrypt(&self, encryption: &Encryption, payload: &[u8], trace: &str) -> Option<String> {
        let header =
            json!({"alg": "dir", "enc": "A256GCM", "kid": encryption.id, "clientid": self.client});
        let header = encode(header.to_string());
        let key = encryption.keys.first()?.expose_secret().as_bytes();
        let iv = iv(key, trace, &header, payload);
        let sealed = Aes256Gcm::new_from_slice(key)
            .ok()?
            .encrypt(
                &Nonce::from(iv),
                Payload {
                    msg: payload,
                    aad: header.as_bytes(),
                },
            )
            .ok()?;
        let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        // RFC 7516, 5.1: with `dir` the encrypted key is empty.
        Some(format!(
            "{header}..{}.{}.{}",
            encode(iv),
            encode(text),
            encode(tag)
        ))
    }

    /// What a token of BillDesk's says, and the proof that it is BillDesk's.
    pub(super) fn open(&self, token: &str) -> Result<(Vec<u8>, Proof), Broken> {
        let (input, signature) = token.rsplit_once('.').ok_or(Broken("not a token"))?;
        let (header, payload) = input.split_once('.').ok_or(Broken("not a token"))?;
        if payload.contains('.') {
            return Err(Broken("not a signed token"));
        }
        named(&self::header(header)?, "alg", "HS256")?;
        let signature = decode(signature)?;
        let proof = hmac_sha256_hex(&self.signing, input.as_bytes(), &hex::encode(signature))
            .ok_or(Broken("wrong signature"))?;
        let payload = decode(payload)?;
        match &self.encryption {
            None => Ok((payload, proof)),
            Some(encryption) => Ok((encryption.decrypt(&payload)?, proof)),
        }
    }
}

impl Encryption {
    fn decrypt(&self, token: &[u8]) -> Result<Vec<u8>, Broken> {
        const NOT_ENCRYPTED: Broken = Broken("signed but not encrypted");
        let token = std::str::from_utf8(token).map_err(|_| NOT_ENCRYPTED)?;
        let parts: Vec<&str> = token.split('.').collect();
        let [protected, "", iv, text, tag] = parts.as_slice() else {
            return Err(NOT_ENCRYPTED);
        };
        let header = header(protected)?;
        named(&header, "alg", "dir")?;
        named(&header, "enc", "A256GCM")?;
        if header.contains_key("zip") {
            return Err(Broken("a compressed token"));
        }
        let iv: [u8; IV_BYTES] = decode(iv)?
            .try_into()
            .map_err(|_| Broken("an initialization vector of another length"))?;
        let tag = decode(tag)?;
        if tag.len() != TAG_BYTES {
            return Err(Broken("a tag of another length"));
        }
        let sealed = [decode(text)?, tag].concat();
        self.keys
            .iter()
            .find_map(|key| {
                let payload = Payload {
                    msg: &sealed,
                    aad: protected.as_bytes(),
                };
                Aes256Gcm::new_from_slice(key.expose_secret().as_bytes())
                    .ok()?
                    .decrypt(&Nonce::from(iv), payload)
                    .ok()
            })
            .ok_or(Broken("cannot be decrypted"))
    }
}

/// An initialization vector must never serve two messages under one key. There is no randomness here, so it is drawn from the
/// message itself by a keyed function, as SIV modes do: another header, trace id or payload gives another vector, with the odds of
/// a random one, and the very same message gives the very same token, which tells an eavesdropper nothing but that it is the same.
/// The function has a key of its own, derived from the encryption key, because one key must not serve two algorithms.
fn iv(key: &[u8], trace: &str, header: &str, payload: &[u8]) -> [u8; IV_BYTES] {
    let derived = hmac_sha256(
        key,
        b"chatbill: initialization vectors of billdesk requests",
    );
    // Neither a trace id nor a header in base64url has a NUL, so the three cannot run into each other.
    let message = [trace.as_bytes(), b"\0", header.as_bytes(), b"\0", payload].concat();
    let mac = hmac_sha256(&derived, &message);
    let mut iv = [0_u8; IV_BYTES];
    for (to, from) in iv.iter_mut().zip(mac) {
        *to = from;
    }
    iv
}

/// A protected header. RFC 7515, 4.1.11: what `crit` names must be understood, and nothing there is; `b64` changes what is signed.
fn header(text: &str) -> Result<Map<String, Value>, Broken> {
    match serde_json::from_slice(&decode(text)?) {
        Ok(Value::Object(header)) if header.contains_key("crit") || header.contains_key("b64") => {
            Err(Broken("a header with extensions"))
        }
        Ok(Value::Object(header)) => Ok(header),
        _ => Err(Broken("a header that is not JSON")),
    }
}

fn named(header: &Map<String, Value>, name: &str, wanted: &str) -> Result<(), Broken> {
    if header.get(name).and_then(Value::as_str) == Some(wanted) {
        Ok(())
    } else {
        Err(Broken("an algorithm that was not agreed on"))
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict: padding, other alphabets and left-over bits are refused, so a token has one spelling only.
fn decode(text: &str) -> Result<Vec<u8>, Broken> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Broken("not base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jose(signing: &str, encryption: Option<&str>) -> Jose {
        Jose {
            client: "bdmerc1".into(),
            signing: vec![SecretString::from(signing)],
            signing_id: encryption.map(|_| "s1".into()),
            encryption: encryption.map(|key| Encryption {
                keys: vec![SecretString::from(key)],
                id: "e1".into(),
            }),
        }
    }

    /// RFC 7515, A.1, with its own key, which is not text: so the vector is checked at the one function that signs.
    #[test]
    fn rfc_7515_a_1() {
        let key = decode(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        )
        .unwrap();
        let input = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        assert_eq!(
            encode(hmac_sha256(&key, input.as_bytes())),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_keys_only() {
        let key = "encDemoKey-32-bytes-exactly-0001";
        for mode in [None, Some(key)] {
            let ours = jose("signing", mode);
            let token = ours.seal(b"{\"a\":1}", "trace1").unwrap();
            assert_eq!(ours.open(&token).unwrap().0, b"{\"a\":1}");
            assert_eq!(
                jose("other", mode).open(&token).unwrap_err(),
                Broken("wrong signature")
            );
        }
        let sealed = jose("signing", Some(key)).seal(b"{}", "t").unwrap();
        let other = jose("signing", Some("encDemoKey-32-bytes-exactly-0002"));
        assert_eq!(
            other.open(&sealed).unwrap_err(),
            Broken("cannot be decrypted")
        );
        let signed = jose("signing", None).seal(b"{}", "t").unwrap();
        let refused = jose("signing", Some(key)).open(&signed).unwrap_err();
        assert_eq!(refused, Broken("signed but not encrypted"));
    }

    #[test]
    fn a_vector_serves_one_message_only() {
        let ours = jose("signing", Some("encDemoKey-32-bytes-exactly-0001"));
        let vector = |payload: &[u8], trace: &str| {
            let token = ours.seal(payload, trace).unwrap();
            let inner = decode(token.split('.').nth(1).unwrap()).unwrap();
            let inner = String::from_utf8(inner).unwrap();
            inner.split('.').nth(2).unwrap().to_owned()
        };
        assert_eq!(vector(b"{}", "t1"), vector(b"{}", "t1"));
        assert_ne!(vector(b"{}", "t1"), vector(b"{}", "t2"));
        assert_ne!(vector(b"{}", "t1"), vector(b"{ }", "t1"));
    }
}
