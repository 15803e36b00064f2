//! [`Decimal`]: a share or a factor as a decimal number, exactly as it was written.
//!
//! As floating point `1 - 0.995` is `0.0050000000000000044`; a budget that is printed into a rule must be `0.005`.

use std::fmt;

/// Units in one.
const ONE: u128 = 1_000_000_000_000;

/// Digits after the point.
const PLACES: usize = 12;

/// Largest whole part that is read; far above any share, factor or traffic.
const WHOLE_MAX: u128 = 1_000_000_000_000;

/// Most significant digits that are printed.
const DIGITS_MAX: usize = 6;

/// A number from 0 with at most twelve digits after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(u128);

impl Decimal {
    /// 1.
    pub const ONE: Decimal = Decimal(ONE);

    /// `numerator / denominator`, rounded to the last place.
    ///
    /// # Panics
    /// If the denominator is 0.
    pub fn ratio(numerator: u64, denominator: u64) -> Decimal {
        let (numerator, denominator) = (u128::from(numerator), u128::from(denominator));
        Decimal((numerator * ONE + denominator / 2) / denominator)
    }

    /// Reads the text of a number, `0.995`. `None` if it is none, is negative, or has more digits than are kept.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > PLACES {
            return None;
        }
        let whole: u128 = whole.parse().ok().filter(|whole| *whole <= WHOLE_MAX)?;
        let fraction: u128 = format!("{fraction:0<PLACES$}").parse().ok()?;
        Some(Decimal(whole * ONE + fraction))
    }

    /// The number as people write it: the shortest text that means this value.
    pub fn of(value: f64) -> Option<Decimal> {
        // What is not finite prints as a word, which is no decimal.
        Decimal::parse(&value.to_string())
    }

    /// What is missing to one; 0 above it.
    #[must_use]
    pub fn complement(self) -> Decimal {
        Decimal(ONE.saturating_sub(self.0))
    }

    /// The hundredth part. `None` if that needs more digits than are kept.
    pub fn percent(self) -> Option<Decimal> {
        self.0.is_multiple_of(100).then_some(Decimal(self.0 / 100))
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The product, rounded down to the last place; the largest possible number if it is larger.
    #[must_use]
    pub fn times(self, other: Decimal) -> Decimal {
        Decimal(self.0.saturating_mul(other.0) / ONE)
    }

    /// As floating point: the nearest.
    pub fn value(self) -> f64 {
        // Both are exact below 2^53; larger ones are rounded once each, far below what is compared.
        self.0 as f64 / ONE as f64
    }
}

/// At most six significant digits, never with an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short(self.value(), DIGITS_MAX))
    }
}

/// A number with at most so many significant digits, without an exponent and without zeros at its end.
pub fn short(value: f64, digits: usize) -> String {
    let rounded: f64 = format!("{value:.*e}", digits.saturating_sub(1))
        .parse()
        .expect("a printed number can be read");
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_exact() {
        for (target, budget) in [
            ("0.995", "0.005"),
            ("0.99", "0.01"),
            ("0.9999", "0.0001"),
            ("0", "1"),
        ] {
            assert_eq!(Decimal::parse(target).unwrap().complement().to_string(), budget);
        }
        assert_eq!(Decimal::of(0.995), Decimal::parse("0.995"));
        assert_eq!(Decimal::of(99.5).unwrap().percent(), Decimal::parse("0.995"));
        assert_eq!(Decimal::of(1e-7).unwrap().to_string(), "0.0000001");
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in [
            "",
            ".5",
            "-1",
            "1e3",
            "0.1234567890123",
            "inf",
            "1.2.3",
            "9999999999999999",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        for value in [-0.1, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(Decimal::of(value), None, "{value}");
        }
    }

    #[test]
    fn at_most_six_digits_are_printed() {
        for (numerator, denominator, text) in [
            (144, 10, "14.4"),
            (1, 3, "0.333333"),
            (2_000_000, 3, "666667"),
            (6, 1, "6"),
            (0, 7, "0"),
        ] {
            assert_eq!(Decimal::ratio(numerator, denominator).to_string(), text);
        }
    }

    #[test]
    fn products_are_those_of_the_numbers() {
        let product = Decimal::parse("14.4")
            .unwrap()
            .times(Decimal::parse("0.005").unwrap());
        assert_eq!(product.to_string(), "0.072");
        assert!((product.value() - 0.072).abs() < 1e-15);
    }
}
