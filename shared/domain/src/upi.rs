//! Reads `upi://pay` intents (NPCI, "UPI Linking Specification" 1.6).
//!
//! A signed intent is passed on byte for byte, because its signature is over its text. One without a signature is known by what it
//! says, not by its spelling, and gateways spell it in ways that some apps do not open: raw blanks, `%40` for `@`, a scheme in
//! capitals. Those are mended. What two apps could read differently is refused, for one of them would pay somebody else.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// A payment intent, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct UpiIntent {
    /// All of it, as customers are given it.
    text: String,
    /// Name, value decoded, and the pair as it stands in `text`.
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

/// What a raw value may hold without any app reading the address differently: everything but blanks, what is not ASCII, and what
/// addresses do not have. `%` is seen to before.
const RAW: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

impl UpiIntent {
    /// How every intent to pay begins.
    pub const PREFIX: &str = "upi://pay?";

    /// Takes an intent apart. One that names a thing twice and says two things of it is none: two apps could pay two different
    /// accounts.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let (prefix, query) = text.split_at_checked(Self::PREFIX.len())?;
        // A control character is nobody's spelling; `#` would end what an app reads.
        if !prefix.eq_ignore_ascii_case(Self::PREFIX)
            || query.chars().any(|c| c.is_control() || c == '#')
        {
            return None;
        }
        let mut parameters: Vec<(String, String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return None;
            }
            let value = mended(name, value);
            let said = decoded(&value)?;
            let mut known = parameters.iter();
            match known.find(|(known, ..)| known.eq_ignore_ascii_case(name)) {
                // Twice, and the same both times.
                Some((known, before, _)) if known == name && *before == said => {}
                Some(_) => return None,
                None => parameters.push((name.to_owned(), said, format!("{name}={value}"))),
            }
        }
        let signs = |name: &String| name.eq_ignore_ascii_case("sign");
        let text = match parameters.as_slice() {
            [] => return None,
            all if all.iter().any(|(name, ..)| signs(name)) => text.to_owned(),
            all => joined(all.iter()),
        };
        Some(Self { text, parameters })
    }

    /// The whole intent, as customers are given it: byte for byte what the gateway signed, or mended where it signed nothing.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A parameter's value, decoded.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, ..)| known == name)
            .map(|(_, value, _)| value.as_str())
    }

    /// The same intent with nothing but these parameters, in its own sequence. It is not the gateway's text any more, so it is mended
    /// also where the whole is signed.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> String {
        let kept = |(name, ..): &&(String, String, String)| names.contains(&name.as_str());
        joined(self.parameters.iter().filter(kept))
    }
}

fn joined<'a>(parameters: impl Iterator<Item = &'a (String, String, String)>) -> String {
    let pairs: Vec<&str> = parameters.map(|(.., pair)| pair.as_str()).collect();
    format!("{}{}", UpiIntent::PREFIX, pairs.join("&"))
}

/// A value spelled so that every app reads the same. A plus stays a plus: the specification encodes blanks as `%20`, and what a
/// gateway meant by one cannot be told.
fn mended(name: &str, value: &str) -> String {
    let value = value.trim_matches(' ');
    let value = match name {
        // Some apps do not decode the payee's `@`.
        "pa" => value.replace("%40", "@"),
        // "50% off": nothing is paid by these, so a percent sign without two hex digits behind it stands for itself.
        "pn" | "tn" => with_bare_percents(value),
        _ => value.to_owned(),
    };
    utf8_percent_encode(&value, RAW).to_string()
}

fn with_bare_percents(value: &str) -> String {
    let mut parts = value.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut code = part.bytes().take(2).filter(u8::is_ascii_hexdigit);
        let is_code = code.next().is_some() && code.next().is_some();
        text.push_str(if is_code { "%" } else { "%25" });
        text.push_str(part);
    }
    text
}

/// Percent-decoding. A plus is a plus: the specification encodes blanks as `%20`.
pub(crate) fn decoded(text: &str) -> Option<String> {
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
        assert_eq!(intent.text(), text);
    }

    fn mended(text: &str) -> String {
        let intent = UpiIntent::parse(text).unwrap_or_else(|| panic!("{text}"));
        intent.text().to_owned()
    }

    // Field report B20, and its relatives.
    #[test]
    fn an_unsigned_intent_is_spelled_for_every_app() {
        let plain = "upi://pay?pa=shop@hdfcbank&pn=Ram%20Stores&mc=5411&tr=T1&am=850.00&cu=INR";
        for odd in [
            "upi://pay?pa=shop@hdfcbank&pn=Ram Stores&mc=5411&tr=T1&am=850.00&cu=INR",
            "upi://pay?pa=shop%40hdfcbank&pn=Ram Stores&mc=5411&tr=T1&am=850.00&cu=INR",
            "UPI://PAY?pa=shop@hdfcbank&pn=Ram%20Stores&mc=5411&tr=T1&am=850.00&cu=INR",
            "Upi://Pay?pa=shop@hdfcbank&&pn=Ram%20Stores&mc=5411&tr=T1&am=850.00&cu=INR&",
            " upi://pay?pa=shop@hdfcbank&pn=Ram Stores&mc=5411&tr=T1&am=850.00&cu=INR\r\n",
            "upi://pay?pa=shop@hdfcbank&pn=Ram Stores&mc=5411&tr=T1&am=850.00&am=850.00&cu=INR",
        ] {
            assert_eq!(mended(odd), plain, "{odd}");
        }
        for (odd, plain) in [
            (
                "upi://pay?pa=a@b&pn=R\u{e9}my",
                "upi://pay?pa=a@b&pn=R%C3%A9my",
            ),
            (
                "upi://pay?pa=a@b&pn=Ram+Stores",
                "upi://pay?pa=a@b&pn=Ram+Stores",
            ),
            (
                "upi://pay?pa=a@b&tn=50% off",
                "upi://pay?pa=a@b&tn=50%25%20off",
            ),
            ("upi://pay?pa=a@b&pn=100%", "upi://pay?pa=a@b&pn=100%25"),
            (
                "upi://pay?pa=a@b&url=http://x.in/?a=1",
                "upi://pay?pa=a@b&url=http://x.in/?a=1",
            ),
            ("upi://pay?pa=a@b&tn", "upi://pay?pa=a@b&tn="),
            ("upi://pay?pa= a@b &am=1.00 ", "upi://pay?pa=a@b&am=1.00"),
            (
                "upi://pay?pa=a@b&pn=\"A\" <B>",
                "upi://pay?pa=a@b&pn=%22A%22%20%3CB%3E",
            ),
        ] {
            assert_eq!(mended(odd), plain, "{odd}");
            assert_eq!(mended(plain), plain);
        }
    }

    #[test]
    fn a_signed_intent_is_kept_byte_for_byte() {
        for signed in [
            "upi://pay?pa=shop%40hdfcbank&pn=Ram Stores&am=850.00&cu=INR&sign=MEQ=",
            "UPI://pay?pa=a@b&pn=R\u{e9}my&&SIGN=x&",
            "upi://pay?sign=x&tn=50% off&pa=a@b&pa=a@b",
        ] {
            assert_eq!(mended(signed), signed);
        }
        let intent = UpiIntent::parse("upi://pay?pa=a%40b&pn=Ram Stores&sign=x").unwrap();
        assert_eq!(intent.get("pa"), Some("a@b"));
        // What WhatsApp takes of it is signed by nobody.
        assert_eq!(
            intent.only(&["pa", "pn"]),
            "upi://pay?pa=a@b&pn=Ram%20Stores"
        );
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
            "upi://pay?pa=a@b&PA=c@d",
            "upi://pay?pa=a@b&Pa=a@b",
            "upi://pay?am=1.00&am=1",
            "upi://pay?=a@b",
            "upi://pay?pa=a@b&p a=c",
            "upi://pay?pa=a@b#&am=1",
            "upi://pay?pa=a@b#",
            "upi://pay?pa=%4",
            "upi://pay?am=%zz",
            "upi://pay?pn=%ff",
            "upi://pay?pa=a@b\n&am=1",
            "upi://pay?pa=a@b\0",
            "upi:pay?pa=a@b",
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
