//! Values as the Argo Rollouts controller reads them: durations and counts that may be percentages.

use serde_json::Value;

/// A count or a share of the replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IntOrPercent {
    /// So many.
    Int(i64),
    /// So many of a hundred.
    Percent(i64),
}

impl IntOrPercent {
    /// Reads a whole number or a text like `25%`; `None` for what the controller takes for 0.
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Int),
            Value::String(text) => text.strip_suffix('%')?.parse().ok().map(Self::Percent),
            _ => None,
        }
    }

    /// The number without its unit.
    pub const fn number(self) -> i64 {
        match self {
            Self::Int(number) | Self::Percent(number) => number,
        }
    }
}

/// Reads a length of time in seconds from a text like `30s`, `1h30m`, `1.5h` or `-5s`.
///
/// `None` where the text is not a number and a unit, one or more times.
pub fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_read_as_the_controller_reads_them() {
        let rows = [
            ("30s", Some(30.0)),
            ("1h30m", Some(5400.0)),
            ("1.5h", Some(5400.0)),
            ("100ms", Some(0.1)),
            ("-5s", Some(-5.0)),
            ("+5s", Some(5.0)),
            ("0", Some(0.0)),
            ("", None),
            ("-", None),
            ("5d", None),
            ("abc", None),
            ("10", None),
            ("s", None),
            ("1h 30m", None),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn shares_need_their_percent_sign() {
        assert_eq!(IntOrPercent::read(&json!(2)), Some(IntOrPercent::Int(2)));
        assert_eq!(IntOrPercent::read(&json!("25%")), Some(IntOrPercent::Percent(25)));
        for wrong in [json!("2"), json!("abc"), json!("2.5%"), json!(2.5), json!(null)] {
            assert_eq!(IntOrPercent::read(&wrong), None, "{wrong}");
        }
    }
}
