//! Phone numbers as people and vendors write them, made into the one form that is stored.
//!
//! Measured, 2026-11: the `phonenumber` crate (libphonenumber's tables) takes a small program from 0.29 MB to 2.67 MB at
//! `opt-level = "z"` with `lto = "fat"`, and brings `regex`: 2.4 MB in every function, for rules of which a shop in India needs one.
//! So India's rule stands here, and every other country's numbers are written in full.
//!
//! India (Department of Telecommunications, "National Numbering Plan"): mobiles are ten digits beginning with 6 to 9, the prefix
//! before a call inside the country is `0`, before one abroad `00`.

use crate::contact::{InvalidMsisdn, Msisdn};

/// A country, as ISO 3166-1 alpha-2 names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    /// The country whose numbers are known without their code.
    pub const INDIA: Self = Self(*b"IN");

    /// The rule in words.
    pub const RULE: &str = "a country's two capital letters (ISO 3166-1), such as IN";

    /// Checks the form; whether there is such a country is not known here.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match <[u8; 2]>::try_from(text.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Self(letters)),
            _ => Err(Self::RULE),
        }
    }
}

/// Why what a person typed is no number that a message can be sent to. The words continue "must be" and name what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusablePhone {
    /// Something else than digits and what stands between them.
    #[error(
        "one phone number: digits, with a + in front of a country's code; blanks, dashes, dots and brackets may stand between them"
    )]
    NotANumber,
    /// A landline of India.
    #[error(
        "a mobile number; this is an Indian landline, which gets neither WhatsApp nor SMS. Indian mobiles have ten digits beginning with 6 to 9"
    )]
    Landline,
    /// Written as an Indian number, with too many or too few digits.
    #[error(
        "an Indian mobile of ten digits beginning with 6 to 9, such as 98765 43210 or +91 98765 43210; a number of another country begins with + and the country's code"
    )]
    NotIndian,
    /// Without its country's code, where no country is taken for granted.
    #[error(
        "a phone number with + and the country's code in front, such as +65 9123 4567: numbers without one are only taken as Indian, when the tenant's country is IN"
    )]
    NoCountry,
    /// A country's code, but no possible number.
    #[error("{}", Msisdn::RULE)]
    Impossible,
}

impl Msisdn {
    /// Reads what a person typed at a till of this country. Whatever the spelling, the same number comes out, and what came out reads
    /// as itself again.
    ///
    /// In India `+` and ten digits beginning with 6 to 9 is a mobile whose `91` is missing, although a few small countries have numbers
    /// of that form (Maldives +960, Brunei +673); Singapore's mobiles (+65 and eight digits beginning with 8 or 9) are left theirs.
    pub fn from_people(text: &str, country: Country) -> Result<Self, UnusablePhone> {
        let (plus, digits) = written(text).ok_or(UnusablePhone::NotANumber)?;
        if country != Country::INDIA {
            let abroad = international(plus, &digits).ok_or(UnusablePhone::NoCountry)?;
            return full(abroad).ok_or(UnusablePhone::Impossible);
        }
        if let Some(phone) = indian(plus, &digits) {
            return Ok(phone);
        }
        match international(plus, &digits) {
            Some(abroad) if !abroad.starts_with('0') && !abroad.starts_with("91") => {
                full(abroad).ok_or(UnusablePhone::Impossible)
            }
            _ => Err(not_a_mobile(&digits)),
        }
    }

    /// Reads a number as vendors hand it back: in full, with and without its plus, or as Indian networks write their own, ten digits
    /// or `0` and ten digits. A vendor whose numbers are always in full but lack the plus is read with a plus in front.
    pub fn from_vendor(text: &str) -> Result<Self, InvalidMsisdn> {
        let (plus, digits) = written(text).ok_or(InvalidMsisdn)?;
        indian(plus, &digits)
            .or_else(|| full(international(true, &digits)?))
            .ok_or(InvalidMsisdn)
    }
}

/// An Indian mobile, in any of the ways it is written.
fn indian(plus: bool, digits: &str) -> Option<Msisdn> {
    if international(plus, digits).is_some_and(singapore) {
        return None;
    }
    let rest = without_zeros(digits);
    // The country's code is there, or not, or twice: tills put it in front of numbers that have it already.
    let national = match rest.len() {
        10 => rest,
        _ => without_zeros(rest.strip_prefix("91")?),
    };
    let national = match national.len() {
        10 => national,
        _ => without_zeros(national.strip_prefix("91")?),
    };
    if mobile(national) {
        full(&format!("91{national}"))
    } else {
        None
    }
}

/// The digits behind a plus, or behind the `00` that stands for it.
fn international(plus: bool, digits: &str) -> Option<&str> {
    digits.strip_prefix("00").or_else(|| plus.then_some(digits))
}

fn mobile(national: &str) -> bool {
    national.len() == 10 && matches!(national.as_bytes().first(), Some(b'6'..=b'9'))
}

/// Mobiles of Singapore have ten digits with their country's code, and no Indian mobile network is known by these.
fn singapore(digits: &str) -> bool {
    digits.len() == 10 && (digits.starts_with("658") || digits.starts_with("659"))
}

/// What is wrong with a number that was meant as an Indian one.
fn not_a_mobile(digits: &str) -> UnusablePhone {
    let rest = without_zeros(digits);
    let national = match rest.len() {
        10 => rest,
        _ => rest.strip_prefix("91").map_or(rest, without_zeros),
    };
    // Area code and subscriber make ten digits; what begins with 1 to 5 is no mobile.
    if national.len() == 10 && !mobile(national) {
        UnusablePhone::Landline
    } else {
        UnusablePhone::NotIndian
    }
}

fn full(digits: &str) -> Option<Msisdn> {
    Msisdn::parse(format!("+{digits}")).ok()
}

fn without_zeros(digits: &str) -> &str {
    digits.trim_start_matches('0')
}

/// Whether a plus stands in front, and the digits; nothing when there is anything else.
fn written(text: &str) -> Option<(bool, String)> {
    // Europeans write the zero that is left out from abroad in brackets.
    let text = text
        .trim()
        .trim_start_matches(['\'', '’'])
        .replace("(0)", "");
    let mut plus = false;
    let mut digits = String::new();
    for c in text.chars() {
        match c {
            '+' | '＋' if !plus && digits.is_empty() => plus = true,
            '-' | '.' | '(' | ')' | '[' | ']' => {}
            c if c.is_whitespace() || dash_or_invisible(c) => {}
            c => digits.push(digit(c)?),
        }
    }
    (!digits.is_empty()).then_some((plus, digits))
}

/// Dashes and brackets of other keyboards, and the marks without width that come along when a number is copied from a contact.
fn dash_or_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{2010}'
            ..='\u{2015}'
                | '\u{2212}'
                | '\u{fe63}'
                | '\u{ff0d}'
                | '\u{ff08}'
                | '\u{ff09}'
                | '\u{ff0e}'
    ) || crate::contact::invisible(c)
}

/// Zeros of the digits that keyboards in India have, and the full-width ones.
const ZEROS: [char; 13] = [
    '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{ff10}',
];

/// An ASCII digit for a digit of any of these scripts.
fn digit(c: char) -> Option<char> {
    ZEROS.iter().find_map(|zero| {
        let value = u32::from(c)
            .checked_sub(u32::from(*zero))
            .filter(|value| *value < 10)?;
        char::from_digit(value, 10)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, UnusablePhone> {
        Msisdn::from_people(text, Country::INDIA).map(|phone| phone.e164().to_owned())
    }

    #[test]
    fn an_indian_mobile_is_known_however_it_is_typed() {
        for text in [
            // Field report B10.
            "+9876543210",
            "9876543210",
            "09876543210",
            "+09876543210",
            "919876543210",
            "+919876543210",
            "0919876543210",
            "00919876543210",
            "009876543210",
            "+00919876543210",
            "+91 98765 43210",
            "+91-98765-43210",
            "(+91) 98765.43210",
            "+91 (0) 98765 43210",
            "+91 098765 43210",
            "91 0 98765 43210",
            "+91 91 98765 43210",
            "0091-0987-654-3210",
            " 98765\u{a0}43210\t",
            "98765\u{202f}43210",
            "'9876543210",
            "98765–43210",
            "\u{202a}+91 98765 43210\u{202c}",
            "\u{feff}9876543210",
            "９８７６５４３２１０",
            "＋９１９８７６５４３２１０",
            "९८७६५४३२१०",
            "+९१ ९८७६५ ४३२१०",
            "৯৮৭৬৫৪৩২১০",
            "௯௮௭௬௫௪௩௨௧௦",
            "۹۸۷۶۵۴۳۲۱۰",
            "[98765] 43210",
        ] {
            assert_eq!(read(text).as_deref(), Ok("+919876543210"), "{text:?}");
        }
        // A mobile of the 91 series, whose code is missing.
        assert_eq!(read("9123456789").as_deref(), Ok("+919123456789"));
        assert_eq!(read("+9123456789").as_deref(), Ok("+919123456789"));
        assert_eq!(read("+6301234567").as_deref(), Ok("+916301234567"));
    }

    #[test]
    fn foreigners_are_left_what_they_are() {
        for (text, number) in [
            ("+977 984-1234567", "+9779841234567"),
            ("+65 9123 4567", "+6591234567"),
            ("0065 8123 4567", "+6581234567"),
            ("+61 412 345 678", "+61412345678"),
            ("+971 50 123 4567", "+971501234567"),
            ("+1 (415) 555-0123", "+14155550123"),
            ("001 415 555 0123", "+14155550123"),
            ("+44 (0)7911 123456", "+447911123456"),
            ("+880 1712-345678", "+8801712345678"),
            ("+94 71 234 5678", "+94712345678"),
            ("+968 9212 3456", "+96892123456"),
            ("+7 912 345-67-89", "+79123456789"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_the_fix() {
        use UnusablePhone::{Impossible, Landline, NotANumber, NotIndian};
        for (text, why) in [
            ("", NotANumber),
            ("+", NotANumber),
            ("none", NotANumber),
            ("98765 43210 / 98765 43211", NotANumber),
            ("9876543210, 9876543211", NotANumber),
            ("98765+43210", NotANumber),
            ("++919876543210", NotANumber),
            ("9.87654E+09", NotANumber),
            ("9876543210x2", NotANumber),
            ("²876543210", NotANumber),
            // A spreadsheet's number with its decimals.
            ("9876543210.0", NotIndian),
            ("987654321", NotIndian),
            ("98765432101", NotIndian),
            ("+91 98765 4321", NotIndian),
            ("+91 98765 432101", NotIndian),
            ("+098765432101", NotIndian),
            ("22334455", NotIndian),
            ("971501234567", NotIndian),
            ("022 2345 6789", Landline),
            ("+91 11 2345 6789", Landline),
            ("0091 44 2345 6789", Landline),
            ("91 044 2345 6789", Landline),
            ("11-23456789", Landline),
            ("+1234567", Impossible),
            ("+1234567890123456", Impossible),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
    }

    #[test]
    fn only_a_shop_in_india_takes_india_for_granted() {
        let singapore = Country::parse("SG").unwrap();
        let read = |text| Msisdn::from_people(text, singapore).map(|phone| phone.e164().to_owned());
        assert_eq!(read("+65 9123-4567").as_deref(), Ok("+6591234567"));
        assert_eq!(read("+960 771 2345").as_deref(), Ok("+9607712345"));
        assert_eq!(read("0091 98765 43210").as_deref(), Ok("+919876543210"));
        assert_eq!(read("91234567"), Err(UnusablePhone::NoCountry));
        assert_eq!(read("9876543210"), Err(UnusablePhone::NoCountry));
        assert_eq!(read("+0123456789"), Err(UnusablePhone::Impossible));
        for bad in ["", "in", "IND", "I1", "भा"] {
            assert!(Country::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vendors_hand_indian_numbers_back_in_short() {
        for (text, number) in [
            // Field report B09.
            ("09876543210", "+919876543210"),
            ("9876543210", "+919876543210"),
            ("919876543210", "+919876543210"),
            ("+919876543210", "+919876543210"),
            ("00919876543210", "+919876543210"),
            ("+9876543210", "+919876543210"),
            ("14155550123", "+14155550123"),
            ("+6591234567", "+6591234567"),
            ("6591234567", "+916591234567"),
            ("9779841234567", "+9779841234567"),
            ("4930123456", "+4930123456"),
        ] {
            let read = Msisdn::from_vendor(text);
            assert_eq!(read.unwrap().e164(), number, "{text}");
        }
        for bad in [
            "",
            "+",
            "IN.1A2B3C",
            "02223456789",
            "911123456789",
            "1234",
            "98765",
        ] {
            assert!(Msisdn::from_vendor(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_spelling_is_the_same_number(
            national in "[6-9][0-9]{9}",
            before in "(\\+|00)?(91)?[ -]?0?",
            blanks in proptest::collection::vec("[ .\u{a0}-]?", 10),
        ) {
            let spelled: String = national.chars().zip(&blanks).map(|(digit, blank)| format!("{digit}{blank}")).collect();
            let text = format!("{before}{spelled}");
            let foreign = matches!(before.as_str(), "+" | "00" | "+ " | "+-" | "00 " | "00-") && singapore(&national);
            let wanted = if foreign { format!("+{national}") } else { format!("+91{national}") };
            proptest::prop_assert_eq!(read(&text), Ok(wanted), "{}", text);
        }

        #[test]
        fn what_came_out_reads_as_itself(text in "[+0-9 ()-]{1,20}") {
            for country in [Country::INDIA, Country(*b"AE")] {
                if let Ok(phone) = Msisdn::from_people(&text, country) {
                    proptest::prop_assert_eq!(Msisdn::from_people(phone.e164(), country), Ok(phone));
                }
            }
            if let Ok(phone) = Msisdn::from_vendor(&text) {
                proptest::prop_assert_eq!(Msisdn::from_vendor(phone.e164()), Ok(phone));
            }
        }
    }
}
