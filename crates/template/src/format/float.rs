//! Floats under `%v %g %G %e %E %f %F %b %x %X`.

use super::Printer;
use crate::limits::Fault;

/// No float has more digits than this before only zeros follow, neither in front of nor behind the point.
const DIGITS_MAX: usize = 1100;

/// Computing this many digits is one step.
const DIGITS_OF_STEP: usize = 4;

/// Exponents from here on are written as exponents when the precision is the shortest that is exact.
const SHORTEST_EXPONENT: i32 = 6;

/// Decimal digits without zeros at the end: `0.d₁d₂d₃… * 10^point`.
struct Decimal {
    digits: String,
    point: i32,
}

impl Printer<'_, '_> {
    /// Prints a float; `false` when the verb is not for floats.
    pub(super) fn float(&mut self, number: f64, verb: char) -> Result<bool, Fault> {
        let default = match verb {
            'v' | 'g' | 'G' | 'b' | 'x' | 'X' => None,
            'e' | 'E' | 'f' | 'F' => Some(6),
            _ => return Ok(false),
        };
        let precision = self.flags.precision.or(default);
        self.budget.fits(precision.unwrap_or(0))?;
        // Digits are computed exactly, which is more work the more of them there are.
        let digits = precision.unwrap_or(0).min(DIGITS_MAX);
        self.budget.step((digits / DIGITS_OF_STEP) as u64)?;
        let magnitude = number.abs();
        let special = !number.is_finite();
        let mut text = match verb {
            _ if number.is_nan() => "NaN".to_owned(),
            _ if number.is_infinite() => "Inf".to_owned(),
            'v' | 'g' | 'G' => general(magnitude, precision),
            'e' | 'E' => exponential(
                &rounded(magnitude, precision.unwrap_or(6) + 1),
                precision.unwrap_or(6),
            ),
            'b' => binary(magnitude),
            'x' | 'X' => hexadecimal(magnitude, precision),
            _ => fixed(magnitude, precision.unwrap_or(6)),
        };
        if self.flags.sharp && verb != 'b' && !special {
            text = with_point(&text, verb, precision);
        }
        if matches!(verb, 'E' | 'G' | 'X') && !special {
            text.make_ascii_uppercase();
        }
        let sign = match number.is_sign_negative() && !number.is_nan() {
            true => "-",
            false if self.flags.plus => "+",
            false if self.flags.space => " ",
            // An infinity always has its sign.
            false if number.is_infinite() => "+",
            false => "",
        };
        if special {
            self.padded_with_spaces(format!("{sign}{text}").as_bytes())?;
        } else if let Some(width) = self.flags.width.filter(|_| self.flags.zero && !sign.is_empty()) {
            // Zeros go between the sign and the digits.
            self.push(sign.as_bytes())?;
            self.padding(width.saturating_sub(sign.len() + text.len()))?;
            self.push(text.as_bytes())?;
        } else {
            self.padded(format!("{sign}{text}").as_bytes())?;
        }
        Ok(true)
    }
}

/// The fewest digits that give the same float again.
fn shortest(magnitude: f64) -> Decimal {
    decimal(&format!("{magnitude:e}"))
}

/// So many digits, rounded from the exact value.
fn rounded(magnitude: f64, digits: usize) -> Decimal {
    let digits = digits.clamp(1, DIGITS_MAX);
    decimal(&format!("{magnitude:.*e}", digits - 1))
}

/// Reads what the standard library writes: `1.25e-7`.
fn decimal(text: &str) -> Decimal {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = digits.trim_end_matches('0').to_owned();
    let point = if digits.is_empty() {
        0
    } else {
        exponent.parse::<i32>().unwrap_or(0) + 1
    };
    Decimal { digits, point }
}

/// `%g`: as an exponent when that is large or very small.
fn general(magnitude: f64, precision: Option<usize>) -> String {
    let (decimal, limit) = match precision {
        None => (shortest(magnitude), SHORTEST_EXPONENT),
        Some(precision) => {
            let precision = precision.max(1);
            let decimal = rounded(magnitude, precision);
            let count = decimal.digits.len();
            let zeros_at_end = usize::try_from(decimal.point).is_ok_and(|point| count < point);
            let limit = if precision > count && !zeros_at_end {
                count
            } else {
                precision
            };
            (decimal, limit as i32)
        }
    };
    let exponent = decimal.point - 1;
    let count = decimal.digits.len();
    if exponent < -4 || exponent >= limit {
        return exponential(&decimal, count.saturating_sub(1));
    }
    let decimals = usize::try_from(count as i32 - decimal.point).unwrap_or(0);
    positional(&decimal, decimals)
}

/// `d.ddde±dd`.
fn exponential(decimal: &Decimal, decimals: usize) -> String {
    let mut digits = decimal.digits.chars();
    let mut out = String::new();
    out.push(digits.next().unwrap_or('0'));
    if decimals > 0 {
        out.push('.');
        out.extend(digits.chain(std::iter::repeat('0')).take(decimals));
    }
    let exponent = if decimal.digits.is_empty() {
        0
    } else {
        decimal.point - 1
    };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{out}e{sign}{:02}", exponent.unsigned_abs())
}

/// `ddd.ddd` from digits.
fn positional(decimal: &Decimal, decimals: usize) -> String {
    let digit = |at: i32| {
        let at = usize::try_from(at).ok();
        at.and_then(|at| decimal.digits.as_bytes().get(at))
            .map_or('0', |byte| char::from(*byte))
    };
    let mut out = String::new();
    if decimal.point > 0 {
        out.extend((0..decimal.point).map(digit));
    } else {
        out.push('0');
    }
    if decimals > 0 {
        out.push('.');
        out.extend((0..decimals as i32).map(|at| digit(decimal.point + at)));
    }
    out
}

/// `%f`.
fn fixed(magnitude: f64, decimals: usize) -> String {
    let exact = decimals.min(DIGITS_MAX);
    let mut out = format!("{magnitude:.exact$}");
    out.extend(std::iter::repeat_n('0', decimals - exact));
    out
}

/// `%b`: an integer and a power of two.
fn binary(magnitude: f64) -> String {
    let (mantissa, exponent) = parts(magnitude);
    format!("{mantissa}p{exponent:+}")
}

/// Mantissa and exponent: `mantissa * 2^exponent`.
fn parts(magnitude: f64) -> (u64, i32) {
    let bits = magnitude.to_bits();
    let mantissa = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as i32 {
        0 => (mantissa, -1074),
        exponent => (mantissa | 1 << 52, exponent - 1075),
    }
}

/// `%x`: `0x1.8p+01`.
fn hexadecimal(magnitude: f64, precision: Option<usize>) -> String {
    let (mut mantissa, mut exponent) = parts(magnitude);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // The leading one goes to bit 52, so that thirteen digits follow it.
        let shift = mantissa.leading_zeros() - 11;
        mantissa <<= shift;
        exponent += 52 - shift as i32;
    }
    if let Some(precision) = precision.filter(|precision| *precision < 13) {
        let dropped = 52 - precision * 4;
        let lost = mantissa & ((1 << dropped) - 1);
        let half = 1 << (dropped - 1);
        mantissa >>= dropped;
        if lost > half || (lost == half && mantissa & 1 == 1) {
            mantissa += 1;
        }
        mantissa <<= dropped;
        if mantissa >> 53 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let mut fraction = match precision {
        None => digits.trim_end_matches('0').to_owned(),
        Some(precision) => digits[..precision.min(13)].to_owned(),
    };
    fraction.extend(std::iter::repeat_n(
        '0',
        precision.unwrap_or(0).saturating_sub(13),
    ));
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!(
        "0x{}{point}{fraction}p{sign}{:02}",
        mantissa >> 52,
        exponent.unsigned_abs()
    )
}

/// The `#` flag: always a point, and for `%g` the zeros at the end.
fn with_point(text: &str, verb: char, precision: Option<usize>) -> String {
    let exponent_mark = if matches!(verb, 'x' | 'X') { 'p' } else { 'e' };
    let (number, exponent) = text.split_at(text.find(exponent_mark).unwrap_or(text.len()));
    let mut wanted = match verb {
        'v' | 'g' | 'G' | 'x' => precision.unwrap_or(6),
        _ => 0,
    };
    let mut counting = false;
    for c in number.chars().filter(|c| *c != '.') {
        counting |= c != '0';
        wanted = wanted.saturating_sub(usize::from(counting));
    }
    let mut out = number.to_owned();
    if !number.contains('.') {
        // A lone zero is a digit after all.
        wanted = wanted.saturating_sub(usize::from(number == "0"));
        out.push('.');
    }
    out.extend(std::iter::repeat_n('0', wanted));
    out.push_str(exponent);
    out
}
