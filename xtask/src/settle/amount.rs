//! Amounts as vendors write them, to the paisa: text to whole paise, without a float on the way.

use std::fmt;

/// What a number without a point means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Rupees,
    Paise,
}

/// Whole paise; less than nothing is money that went back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(pub(crate) i64);

impl Amount {
    /// Reads `850`, `850.5`, `-850.00`, `850.00-`, `(850.00)`, `₹1,23,456.50`, `Rs. 850/-`, and with a bank's word for the side it is on
    /// `850.00 Cr` and `850.00Dr`, of which the second went out. What would be less than a paisa is refused, and so is whatever else
    /// there is: guessing at money is worse than stopping.
    pub(crate) fn parse(text: &str, unit: Unit) -> Result<Self, String> {
        let refused = || format!("`{text}` is not an amount");
        let (rest, side) = side(text.trim());
        let (rest, brackets) = rest
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .map_or((rest, false), |rest| (rest.trim(), true));
        let (rest, first) = sign(rest);
        let rest = ["INR", "Rs.", "Rs", "₹"]
            .iter()
            .find_map(|mark| rest.strip_prefix(mark))
            .unwrap_or(rest)
            .trim_start();
        let (rest, second) = if first.is_some() {
            (rest, None)
        } else {
            sign(rest)
        };
        let rest = rest.strip_suffix("/-").unwrap_or(rest);
        let (rest, third) = match rest.strip_suffix('-') {
            Some(rest) => (rest.trim_end(), Some('-')),
            None => (rest, None),
        };
        let signs = [
            brackets.then_some('-'),
            first.or(second),
            third,
            side.map(|side| if side == Side::Debit { '-' } else { '+' }),
        ];
        let mut signs = signs.into_iter().flatten();
        let minus = signs.next() == Some('-');
        // Two of them may say the same, or cancel each other out.
        if signs.next().is_some() {
            return Err(refused());
        }
        let (whole, part) = rest.split_once('.').unwrap_or((rest, ""));
        let digits = ungrouped(whole).ok_or_else(refused)?;
        if !part.bytes().all(|byte| byte.is_ascii_digit()) || (rest.ends_with('.')) {
            return Err(refused());
        }
        let places = match unit {
            Unit::Rupees => 2,
            Unit::Paise => 0,
        };
        let (kept, lost) = part.split_at(part.len().min(places));
        if lost.bytes().any(|byte| byte != b'0') {
            let hint = match unit {
                Unit::Paise => "; is it in rupees (unit=rupees)?",
                Unit::Rupees => "",
            };
            return Err(format!("`{text}` has less than a paisa in it{hint}"));
        }
        let paise: i64 = format!("{digits}{kept:0<places$}")
            .parse()
            .map_err(|_| format!("`{text}` is too large"))?;
        Ok(Self(if minus { paise.saturating_neg() } else { paise }))
    }

    pub(crate) const fn absolute(self) -> Self {
        Self(self.0.saturating_abs())
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Rupees with two decimals, as a statement prints them.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let paise = self.0.unsigned_abs();
        let (rupees, rest) = (
            paise.checked_div(100).unwrap_or(0),
            paise.checked_rem(100).unwrap_or(0),
        );
        write!(f, "{sign}{rupees}.{rest:02}")
    }
}

/// On which side of the account it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Credit,
    Debit,
}

/// Takes a bank's `Cr`, `DR.` or `(Dr)` off the end.
fn side(text: &str) -> (&str, Option<Side>) {
    let bare = text.trim_end_matches(['.', ')']);
    let Some((at, _)) = bare.char_indices().nth_back(1) else {
        return (text, None);
    };
    let (amount, word) = bare.split_at(at);
    let side = match word.to_ascii_lowercase().as_str() {
        "cr" => Side::Credit,
        "dr" => Side::Debit,
        _ => return (text, None),
    };
    let amount = amount.trim_end();
    let amount = match amount.strip_suffix('(') {
        Some(amount) if text.ends_with(')') => amount.trim_end(),
        _ => amount,
    };
    (amount, Some(side))
}

fn sign(text: &str) -> (&str, Option<char>) {
    match text.strip_prefix('-') {
        Some(rest) => (rest.trim_start(), Some('-')),
        None => match text.strip_prefix('+') {
            Some(rest) => (rest.trim_start(), Some('+')),
            None => (text, None),
        },
    }
}

/// The digits of a whole number, the commas between thousands, lakhs and crores taken out. A comma anywhere else may be somebody's
/// decimal point.
fn ungrouped(text: &str) -> Option<String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = text.split(',').collect::<Vec<_>>();
    let last = groups.pop()?;
    let grouped = !groups.is_empty();
    let fits = |(index, group): (usize, &&str)| {
        digits(group)
            && if index == 0 {
                group.len() <= 3
            } else {
                (2..=3).contains(&group.len())
            }
    };
    let good = digits(last) && (!grouped || last.len() == 3) && groups.iter().enumerate().all(fits);
    good.then(|| groups.concat() + last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rupees_are_read_to_the_paisa() {
        for (text, paise) in [
            ("850", 85_000),
            ("850.5", 85_050),
            ("850.05", 85_005),
            (" 850.00 ", 85_000),
            ("850.0000", 85_000),
            ("0.01", 1),
            ("-0.01", -1),
            ("+1.00", 100),
            ("(12.34)", -1_234),
            ("1,23,456.50", 12_345_650),
            ("123,456.50", 12_345_650),
            ("₹1,000.00", 100_000),
            ("Rs. 10", 1_000),
            ("INR 10.10", 1_010),
            ("-₹10", -1_000),
            ("₹-10", -1_000),
            ("92233720368547758.07", i64::MAX),
            ("2,10,000.00 Cr", 21_000_000),
            ("1,850.00Cr", 185_000),
            ("1,850.00 DR.", -185_000),
            ("500.00 (Dr)", -50_000),
            ("₹ 500.00 cr", 50_000),
            ("500.00-", -50_000),
            ("Rs. 1,850/-", 185_000),
            ("\u{a0}1,850.00\u{a0}", 185_000),
        ] {
            assert_eq!(
                Amount::parse(text, Unit::Rupees),
                Ok(Amount(paise)),
                "{text}"
            );
        }
    }

    #[test]
    fn paise_are_whole() {
        assert_eq!(Amount::parse("97100", Unit::Paise), Ok(Amount(97_100)));
        assert_eq!(Amount::parse("97100.00", Unit::Paise), Ok(Amount(97_100)));
        let refused = Amount::parse("971.50", Unit::Paise).unwrap_err();
        assert!(refused.contains("unit=rupees"), "{refused}");
    }

    #[test]
    fn what_is_no_amount_is_not_guessed_at() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1.234",
            "1e3",
            "12,34",
            "1,2,3",
            "1 000",
            "0x10",
            "--1",
            "(-1)",
            "1.2.3",
            "1.000,00",
            "NaN",
            "92233720368547758.08",
            "१२",
            "12,3456",
            "-500.00 Dr",
            "(500.00) Cr",
            "-500-",
            "Cr",
            "Dr.",
            "500 Crore",
            "500 CrDr",
        ] {
            assert!(Amount::parse(text, Unit::Rupees).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_printed_as_they_are_read() {
        for paise in [0, 1, -1, 99, 100, -12_345, i64::MAX] {
            let text = Amount(paise).to_string();
            assert_eq!(
                Amount::parse(&text, Unit::Rupees),
                Ok(Amount(paise)),
                "{text}"
            );
        }
    }
}
