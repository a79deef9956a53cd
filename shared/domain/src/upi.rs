//! Reads `upi://pay` intents (NPCI, "UPI Linking Specification" 1.6). What a gateway issued is never spelled anew: an intent may be
//! signed, and its gateway knows it by its text.

/// A payment intent, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct UpiIntent {
    /// Name, value decoded, and the pair as it stood.
    parameters: Vec<(String, String, String)>,
}

impl std::fmt::Debug for UpiIntent {
    // It names the payee's account.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpiIntent")
            .field("parameters", &self.parameters.len())
            .finish_non_exhaustive()
    }
}

impl UpiIntent {
    /// How every intent to pay begins.
    pub const PREFIX: &str = "upi://pay?";

    /// Takes an intent apart. One that names a thing twice is none: two apps could pay two different accounts.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let query = text.strip_prefix(Self::PREFIX)?;
        // Blanks and control characters have no place in an address; `#` would end what an app reads.
        if query.is_empty() || !query.chars().all(|c| c.is_ascii_graphic() && c != '#') {
            return None;
        }
        let mut parameters: Vec<(String, String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            if name.is_empty() || parameters.iter().any(|(known, ..)| known == name) {
                return None;
            }
            parameters.push((name.to_owned(), decoded(value)?, pair.to_owned()));
        }
        (!parameters.is_empty()).then_some(Self { parameters })
    }

    /// A parameter's value, decoded.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, ..)| known == name)
            .map(|(_, value, _)| value.as_str())
    }

    /// The same intent with nothing but these parameters, in its own sequence and spelling.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> String {
        let kept: Vec<&str> = self
            .parameters
            .iter()
            .filter(|(name, ..)| names.contains(&name.as_str()))
            .map(|(.., pair)| pair.as_str())
            .collect();
        format!("{}{}", Self::PREFIX, kept.join("&"))
    }
}

/// Percent-decoding. A plus is a plus: the specification encodes blanks as `%20`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut pair = [0_u8; 1];
            hex::decode_to_slice([rest.next()?, rest.next()?], &mut pair).ok()?;
            bytes.extend(pair);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_intent_is_read_and_narrowed_without_being_spelled_anew() {
        let text =
            "upi://pay?pa=shop@bank&pn=My%20Shop+Co&mc=5411&tr=T1&am=10.00&cu=INR&sign=a%2Bb%3d";
        let intent = UpiIntent::parse(text).unwrap();
        assert_eq!(intent.get("pa"), Some("shop@bank"));
        assert_eq!(intent.get("pn"), Some("My Shop+Co"));
        assert_eq!(intent.get("sign"), Some("a+b="));
        assert_eq!(intent.get("tn"), None);
        assert_eq!(
            intent.only(&["tr", "pn", "purpose"]),
            "upi://pay?pn=My%20Shop+Co&tr=T1"
        );
        assert!(!format!("{intent:?}").contains("bank"));
    }

    #[test]
    fn what_two_apps_could_read_differently_is_no_intent() {
        for bad in [
            "",
            "upi://pay",
            "upi://pay?",
            "upi://pay?&&",
            "upi://collect?pa=a@b",
            "https://pay?pa=a@b",
            "upi://pay?pa=a@b&pa=c@d",
            "upi://pay?pa",
            "upi://pay?=a@b",
            "upi://pay?pa=a@b#&am=1",
            "upi://pay?pn=My Shop",
            "upi://pay?pn=%4",
            "upi://pay?pn=%zz",
            "upi://pay?pn=%ff",
            "upi://pay?pn=\u{e9}",
            "upi://pay?pa=a@b\n",
        ] {
            assert_eq!(UpiIntent::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(tail in ".*") {
            let _ = UpiIntent::parse(&tail);
            let _ = UpiIntent::parse(&format!("upi://pay?{tail}"));
        }

        #[test]
        fn everything_kept_is_the_intent_itself(values in proptest::collection::vec("[A-Za-z0-9@.+-]{0,8}", 1..6)) {
            let names = ["pa", "pn", "mc", "tr", "am", "cu"];
            let pairs: Vec<String> = names.iter().zip(&values).map(|(n, v)| format!("{n}={v}")).collect();
            let text = format!("upi://pay?{}", pairs.join("&"));
            let intent = UpiIntent::parse(&text).unwrap();
            prop_assert_eq!(intent.only(&names), text);
            for (name, value) in names.iter().zip(&values) {
                prop_assert_eq!(intent.get(name), Some(value.as_str()));
            }
        }
    }
}
