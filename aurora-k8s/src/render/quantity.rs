//! Kubernetes quantities: reading them and writing them in the one form that stays as it is.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// An amount of a resource, such as `100m` or `1Gi`.
///
/// Displayed in canonical form: the form in which the API machinery writes it back. Compared by amount.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Billionths, rounded away from zero.
    nanos: i128,
    format: Format,
}

/// How a quantity was written decides how it is written back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// The text is not a quantity.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a quantity: {problem}")]
pub struct InvalidQuantity {
    /// What was given, cut to 64 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Suffix and power of ten, smallest first.
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    /// Reads what stands in a manifest: a text or a plain number.
    ///
    /// # Errors
    /// [`InvalidQuantity`] for everything else.
    pub fn read(value: &Value) -> Result<Self, InvalidQuantity> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            other => Err(invalid(&other.to_string(), "it is neither text nor number")),
        }
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let (negative, rest) = match text.trim() {
            rest if rest.starts_with('-') => (true, &rest[1..]),
            rest => (false, rest.strip_prefix('+').unwrap_or(rest)),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid(text, "it has no digits"));
        }
        if fraction.contains('.') {
            return Err(invalid(text, "it has two points"));
        }
        let (format, ten, kilos) = unit(suffix).ok_or_else(|| invalid(text, "its unit is not known"))?;
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
        let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let nanos = amount(digits, i64::from(ten) - places, kilos)
            .filter(|nanos| *nanos <= i128::from(i64::MAX) * NANO)
            .ok_or_else(|| invalid(text, "it is too large"))?;
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// What a suffix means: the format, a power of ten and a power of 1024.
fn unit(suffix: &str) -> Option<(Format, i32, usize)> {
    if let Some(index) = BINARY.iter().position(|known| *known == suffix) {
        return Some((Format::Binary, 0, index + 1));
    }
    if let Some((_, ten)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return Some((Format::Decimal, *ten, 0));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((Format::Exponent, exponent.parse().ok()?, 0))
}

/// `digits` × 10^`ten` × 1024^`kilos` in billionths, rounded up; `None` when it does not fit.
fn amount(mut digits: Vec<u8>, ten: i64, kilos: usize) -> Option<i128> {
    for _ in 0..kilos {
        times_1024(&mut digits);
    }
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..leading);
    if digits.is_empty() {
        return Some(0);
    }
    let shift = ten.saturating_add(9);
    let lost = usize::try_from(-shift).unwrap_or(0).min(digits.len());
    let up = digits
        .split_off(digits.len() - lost)
        .iter()
        .any(|digit| *digit != 0)
        || digits.is_empty();
    let mut nanos: i128 = 0;
    for digit in digits {
        nanos = nanos.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    for _ in 0..shift.max(0) {
        nanos = nanos.checked_mul(10)?;
    }
    nanos.checked_add(i128::from(up))
}

fn times_1024(digits: &mut Vec<u8>) {
    let mut carry = 0_u32;
    for digit in digits.iter_mut().rev() {
        carry += u32::from(*digit) * 1024;
        *digit = u8::try_from(carry % 10).unwrap_or_default();
        carry /= 10;
    }
    while carry > 0 {
        digits.insert(0, u8::try_from(carry % 10).unwrap_or_default());
        carry /= 10;
    }
}

fn invalid(text: &str, problem: &'static str) -> InvalidQuantity {
    InvalidQuantity {
        text: text.chars().take(64).collect(),
        problem,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // Small and broken binary amounts are written in decimal, so that nothing is lost.
        let whole = self.nanos % NANO == 0;
        let binary = self.format == Format::Binary && whole && self.nanos.abs() >= 1024 * NANO;
        let mut number = self.nanos;
        if binary {
            number /= NANO;
            let mut suffix = "";
            for next in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                number /= 1024;
                suffix = next;
            }
            return write!(f, "{number}{suffix}");
        }
        let mut ten = -9;
        while number % 1000 == 0 && ten < 18 {
            number /= 1000;
            ten += 3;
        }
        match DECIMAL.iter().find(|(_, power)| *power == ten) {
            Some((suffix, _)) if self.format != Format::Exponent => write!(f, "{number}{suffix}"),
            _ if ten == 0 => write!(f, "{number}"),
            _ => write!(f, "{number}e{ten}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_take_their_canonical_form() {
        let rows = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1", "1"),
            ("100m", "100m"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1", "1"),
            (" 1 ", "1"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-0", "0"),
            ("-1500m", "-1500m"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("1Gi", "1Gi"),
            ("1073741824", "1073741824"),
            ("1024", "1024"),
            ("100000", "100k"),
            ("1000", "1k"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1.1Ki", "1126400m"),
            ("1Ki", "1Ki"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("5e-1", "500e-3"),
            ("100e-2", "1"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.5n", "2n"),
            ("1e-100", "1e-9"),
            ("0.0000000000000000000000000000000000000000001Gi", "1n"),
            ("10000000000000000000000000000000000000000000000e-46", "1"),
            ("7Ei", "7Ei"),
            ("500Mi", "500Mi"),
        ];
        for (text, canonical) in rows {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.to_string(), canonical, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        let rows = [
            "abc",
            "",
            " ",
            "-",
            ".",
            "1.2.3",
            "1KB",
            "1K",
            "1 Gi",
            "Gi",
            "1e",
            "1e+",
            "1mm",
            "0x10",
            "1,5",
            "--1",
            "1Zi",
            "1e1.5",
            "8Ei",
            "100E",
            "1e100",
            "1e99999999999",
            "½",
        ];
        for text in rows {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_quantities_and_other_values_are_not() {
        let canonical = |value| Quantity::read(&value).map(|quantity| quantity.to_string());
        assert_eq!(canonical(json!(1)), Ok("1".to_owned()));
        assert_eq!(canonical(json!(0.5)), Ok("500m".to_owned()));
        assert_eq!(canonical(json!(1_073_741_824)), Ok("1073741824".to_owned()));
        assert!(canonical(json!(true)).is_err());
        assert!(canonical(json!({})).is_err());
    }

    #[test]
    fn amounts_compare_over_units() {
        let of = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(of("1500m") > of("1"));
        assert!(of("1Gi") > of("1G"));
        assert_eq!(of("1024Mi"), of("1Gi"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_stable_and_keeps_the_amount(
            text in "[+-]?[0-9]{0,12}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|e[0-9]|E-?[0-9])?"
        ) {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let written = quantity.to_string();
                let again: Quantity = written.parse().unwrap();
                prop_assert_eq!(again, quantity);
                prop_assert_eq!(again.to_string(), written);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
