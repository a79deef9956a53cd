//! Whom to reach: a phone number that never appears in full in a log line or an error.

use serde::{Deserialize, Serialize};

/// A phone number in E.164 form, `+919876543210`. Its `Display` and `Debug` are masked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Msisdn(String);

/// The text is not a phone number we can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Msisdn::RULE)]
pub struct InvalidMsisdn;

impl Msisdn {
    /// The rule in words.
    pub const RULE: &str = "a phone number in E.164 form, + and 8 to 15 digits; an Indian mobile is +91 and ten digits beginning with 6 to 9";

    /// Checks the text and takes it.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidMsisdn> {
        let text = text.into();
        let digits = text.strip_prefix('+').ok_or(InvalidMsisdn)?;
        let shape = (8..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        let indian = match digits.strip_prefix("91") {
            Some(national) => {
                national.len() == 10 && matches!(national.as_bytes().first(), Some(b'6'..=b'9'))
            }
            None => true,
        };
        if shape && indian {
            Ok(Self(text))
        } else {
            Err(InvalidMsisdn)
        }
    }

    /// With the plus, as most APIs want it. Personal data: only for a provider's request.
    #[must_use]
    pub fn e164(&self) -> &str {
        &self.0
    }

    /// Without the plus, as WhatsApp names accounts. Personal data: only for a provider's request.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }

    /// Country code and last four digits; what is between is hidden.
    #[must_use]
    pub fn masked(&self) -> String {
        let digits = self.digits();
        let tail = digits
            .get(digits.len().saturating_sub(4)..)
            .unwrap_or_default();
        let head = digits.get(..2).unwrap_or_default();
        format!(
            "+{head}{}{tail}",
            "•".repeat(digits.len().saturating_sub(6))
        )
    }
}

impl std::fmt::Display for Msisdn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

impl std::fmt::Debug for Msisdn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Msisdn({})", self.masked())
    }
}

impl TryFrom<String> for Msisdn {
    type Error = InvalidMsisdn;
    fn try_from(text: String) -> Result<Self, InvalidMsisdn> {
        Self::parse(text)
    }
}

impl From<Msisdn> for String {
    fn from(phone: Msisdn) -> String {
        phone.0
    }
}

/// The longest quotation of a vendor's words.
const LONGEST_QUOTE: usize = 200;

/// A vendor's words, fit for a log line or an answer: one line, cut at 200 characters, with everything hidden that could be a
/// phone number (eight digits or more, also when blanks, dashes or brackets stand between them) or the name before an `@`
/// (a UPI or mail address; of several in one word only the last one's bank is left). Control characters are blanks: a terminal
/// that shows the line obeys them.
#[must_use]
pub fn quotable(text: &str) -> String {
    let shown: String = text
        .chars()
        .filter(|c| !invisible(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let one_line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let words: Vec<String> = one_line
        .split(' ')
        .map(|word| match word.rsplit_once('@') {
            Some((name, rest)) if !name.is_empty() => format!("…@{rest}"),
            _ => word.to_owned(),
        })
        .collect();
    without_numbers(&words.join(" "))
        .chars()
        .take(LONGEST_QUOTE)
        .collect()
}

/// Without width, or turning the direction of what follows: between the digits of a number they would keep it from being seen as one.
pub(crate) fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars() {
        let inside = c.is_ascii_digit() || (!run.is_empty() && matches!(c, ' ' | '-' | '(' | ')'));
        if inside {
            run.push(c);
        } else {
            end_run(&mut out, &mut run);
            out.push(c);
        }
    }
    end_run(&mut out, &mut run);
    out
}

fn end_run(out: &mut String, run: &mut String) {
    let digits = run.chars().filter(char::is_ascii_digit).count();
    if digits >= 8 {
        let rest = run.trim_end_matches(|c: char| !c.is_ascii_digit()).len();
        out.push('…');
        out.push_str(run.get(rest..).unwrap_or_default());
    } else {
        out.push_str(run);
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_names_nobody() {
        for (said, quoted) in [
            (
                "contact +91 98765-43210 is\ninvalid",
                "contact +… is invalid",
            ),
            ("(91) 9876543210.", "(…."),
            ("payer gaurav.k@okbank declined", "payer …@okbank declined"),
            ("code 131047, retry in 60 s", "code 131047, retry in 60 s"),
            ("@ 12345678", "@ …"),
            // Found by fuzzing.
            ("x@pallavi@okbank", "…@okbank"),
            ("a\u{1b}[2Jb\0c\u{7}", "a [2Jb c"),
            ("98765\u{0}43210, 98765\u{200b}43210", "…, …"),
        ] {
            assert_eq!(quotable(said), quoted);
        }
        assert_eq!(quotable(&"x".repeat(500)).len(), LONGEST_QUOTE);
    }

    #[test]
    fn only_reachable_numbers_are_taken() {
        for good in ["+919876543210", "+14155550123", "+4930123456"] {
            assert!(Msisdn::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "919876543210",
            "+91987654321",
            "+915876543210",
            "+9198765432100",
            "",
            "+",
            "+0123456789",
            "+91 98765 43210",
            "+९१9876543210",
        ] {
            assert!(Msisdn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_never_printed_in_full() {
        let phone = Msisdn::parse("+919876543210").unwrap();
        assert_eq!(phone.to_string(), "+91••••••3210");
        assert_eq!(format!("{phone:?}"), "Msisdn(+91••••••3210)");
    }
}
