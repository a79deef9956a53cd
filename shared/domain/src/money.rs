//! Money is a whole number of paise. There are no floats and no silent overflow.

use serde::{Deserialize, Serialize};

/// The UPI limit of one merchant payment, 5,00,000 INR (Meta, "Receive payments via payment gateways", checklist, May 2026).
pub const UPI_CAP: Paise = Paise(50_000_000);

/// An amount of Indian rupees in paise (1 INR = 100 paise), never negative.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "i64", into = "i64")]
pub struct Paise(i64);

/// The amount is negative or does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount must be between 0 and {} paise", i64::MAX)]
pub struct OutOfRange;

impl Paise {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of `paise`; negative amounts are refused.
    pub const fn new(paise: i64) -> Result<Self, OutOfRange> {
        if paise < 0 {
            Err(OutOfRange)
        } else {
            Ok(Self(paise))
        }
    }

    /// The number of paise.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, unless it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, unless it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(left) if left >= 0 => Some(Self(left)),
            _ => None,
        }
    }

    /// `quantity` times the amount, unless it does not fit.
    #[must_use]
    pub const fn checked_mul(self, quantity: u32) -> Option<Self> {
        // A u32 always fits into an i64; `From` is not const.
        #[expect(clippy::as_conversions, reason = "widening, in a const fn")]
        match self.0.checked_mul(quantity as i64) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// Rupees with two decimals and no sign or separators, as gateways write them: `840.00`.
    #[must_use]
    pub fn decimal(self) -> String {
        format!("{}.{:02}", self.0.div_euclid(100), self.0.rem_euclid(100))
    }

    /// Reads what [`Paise::decimal`] writes; also `840` and `840.5`. Nothing else: no signs, no exponents, no blanks.
    #[must_use]
    pub fn parse_decimal(text: &str) -> Option<Self> {
        let (rupees, paise) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(rupees) || !digits(paise) || paise.len() > 2 {
            return None;
        }
        let paise = if paise.len() == 1 {
            format!("{paise}0")
        } else {
            paise.to_owned()
        };
        let total = rupees.parse::<i64>().ok()?.checked_mul(100)?;
        Self::new(total.checked_add(paise.parse::<i64>().ok()?)?).ok()
    }

    /// Rupees the Indian way, for people: `₹1,23,456.50`.
    #[must_use]
    pub fn rupees(self) -> String {
        let whole = self.0.div_euclid(100).to_string();
        let (head, tail) = whole.split_at(whole.len().saturating_sub(3));
        let mut grouped = String::new();
        for (position, digit) in head.chars().enumerate() {
            if position > 0 && head.len().saturating_sub(position).is_multiple_of(2) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        if !grouped.is_empty() {
            grouped.push(',');
        }
        format!("₹{grouped}{tail}.{:02}", self.0.rem_euclid(100))
    }
}

impl TryFrom<i64> for Paise {
    type Error = OutOfRange;
    fn try_from(paise: i64) -> Result<Self, OutOfRange> {
        Self::new(paise)
    }
}

impl From<Paise> for i64 {
    fn from(amount: Paise) -> i64 {
        amount.0
    }
}

/// An amount as WhatsApp and our API write it: `{"value": 50000, "offset": 100}` is 500.00 INR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Paise.
    pub value: Paise,
    /// Always 100 for INR.
    pub offset: i64,
}

impl From<Paise> for Money {
    fn from(value: Paise) -> Self {
        Self { value, offset: 100 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "small numbers of a test; an overflow panics here"
    )]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rupees_are_grouped_the_indian_way() {
        for (paise, text) in [
            (0, "₹0.00"),
            (5, "₹0.05"),
            (99_999, "₹999.99"),
            (100_000, "₹1,000.00"),
            (12_345_650, "₹1,23,456.50"),
            (1_234_567_890, "₹1,23,45,678.90"),
        ] {
            assert_eq!(Paise::new(paise).unwrap().rupees(), text);
        }
    }

    #[test]
    fn decimals_that_are_not_money_are_refused() {
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1.234",
            "1e3",
            " 1",
            "1 ",
            "٣",
            "92233720368547758.08",
        ] {
            assert_eq!(Paise::parse_decimal(bad), None, "{bad}");
        }
        assert_eq!(Paise::parse_decimal("840.5"), Paise::new(84_050).ok());
    }

    proptest! {
        #[test]
        fn decimal_text_survives_the_way_there_and_back(paise in 0..=i64::MAX) {
            let amount = Paise::new(paise).unwrap();
            prop_assert_eq!(Paise::parse_decimal(&amount.decimal()), Some(amount));
        }

        #[test]
        fn arithmetic_never_wraps(a in 0..=i64::MAX, b in 0..=i64::MAX, q in any::<u32>()) {
            let (x, y) = (Paise::new(a).unwrap(), Paise::new(b).unwrap());
            prop_assert_eq!(x.checked_add(y).map(i64::from), a.checked_add(b));
            prop_assert_eq!(x.checked_sub(y).map(i64::from), (a >= b).then(|| a - b));
            prop_assert_eq!(x.checked_mul(q).map(i64::from), a.checked_mul(i64::from(q)));
        }
    }
}
