//! Quantities as people write and read them: durations, bytes, counts, rates.

use std::fmt;
use std::time::Duration;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration: write 500ms, 60s or 2m, more than nothing")]
pub struct NoDuration(String);

/// A text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no number of bytes: write 500MB, 8GiB or 1000000, more than nothing")]
pub struct NoBytes(String);

/// `1000000`, `500MB`, `8GiB`; never zero.
pub fn parse_bytes(text: &str) -> Result<u64, NoBytes> {
    let no_bytes = || NoBytes(text.to_owned());
    let (number, unit) = text.split_at(text.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(text.len()));
    let bytes_per_unit: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(no_bytes()),
    };
    let plain = number.chars().all(|char| char.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|&number| plain && number > 0).ok_or_else(no_bytes)?;
    number.checked_mul(bytes_per_unit).ok_or_else(no_bytes)
}

/// `500ms`, `60s`, `1.5s`, `2m`, `24h`; never zero.
pub fn parse_duration(text: &str) -> Result<Duration, NoDuration> {
    let no_duration = || NoDuration(text.to_owned());
    let unit_at = text.find(|char: char| char.is_ascii_alphabetic()).ok_or_else(no_duration)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(no_duration()),
    };
    let plain = number.chars().all(|char| char.is_ascii_digit() || char == '.');
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(no_duration)?;
    let duration = Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| no_duration())?;
    if duration.is_zero() { Err(no_duration()) } else { Ok(duration) }
}

/// A count with a decimal prefix and three significant digits: `999`, `1.50 k`, `10.0 G`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub f64);

/// Bytes with a decimal prefix: `999 B`, `1.50 kB`, `80.0 GB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub f64);

/// A time with three significant digits: `1.20 ms`, `8.53 s`, `2 min 5 s`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// (`1.50`, `k`): a number below a thousand and its prefix. Whole numbers below a thousand keep no fraction.
fn scaled(value: f64) -> (String, &'static str) {
    let (mut value, mut prefix) = (value, 0);
    // 999.5 would be printed as 1000: it is 1.00 of the next prefix.
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        (value, prefix) = (value / 1000.0, prefix + 1);
    }
    let text = if prefix == 0 && value.fract() == 0.0 { format!("{value}") } else { three_digits(value) };
    (text, PREFIXES[prefix])
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match scaled(self.0) {
            (number, "") => f.write_str(&number),
            (number, prefix) => write!(f, "{number} {prefix}"),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, prefix) = scaled(self.0);
        write!(f, "{number} {prefix}B")
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            s if s < 999.5e-6 => write!(f, "{} us", three_digits(s * 1e6)),
            s if s < 0.9995 => write!(f, "{} ms", three_digits(s * 1e3)),
            s if s < 119.95 => write!(f, "{} s", three_digits(s)),
            s => {
                let whole = s.round() as u64;
                write!(f, "{} min {} s", whole / 60, whole % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let check = |text: &str, expected_ms: u64| {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(expected_ms)), "{text}");
        };
        check("60s", 60_000);
        check("500ms", 500);
        check("2m", 120_000);
        check("1.5s", 1500);
        check("24h", 86_400_000);
        for text in ["", "60", "s", "0s", "-1s", "1d", "1e3s", "1s ", "infs", "1..5s", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_read() {
        let read = |text| parse_bytes(text).unwrap();
        assert_eq!([read("17"), read("17B"), read("2kB"), read("8GiB")], [17, 17, 2000, 8 << 30]);
        for text in ["", "0", "GiB", "1.5GiB", "-1", "1gib", "8 GiB", "99999999999TiB", "1Gi"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_have_three_digits() {
        let count = |value| Count(value).to_string();
        assert_eq!([count(0.0), count(7.0), count(999.0), count(999.7)], ["0", "7", "999", "1.00 k"]);
        assert_eq!([count(1e10), count(1.234e9), count(0.5)], ["10.0 G", "1.23 G", "0.50"]);
        assert_eq!([Bytes(12.0), Bytes(80e9), Bytes(1536.0)].map(|b| b.to_string()), ["12 B", "80.0 GB", "1.54 kB"]);
        let time = |seconds| Time(Duration::from_secs_f64(seconds)).to_string();
        assert_eq!([time(12.3e-6), time(0.0012), time(8.534)], ["12.3 us", "1.20 ms", "8.53 s"]);
        assert_eq!([time(60.0), time(125.2), time(119.97)], ["60.0 s", "2 min 5 s", "2 min 0 s"]);
    }
}
