//! Sizes and durations as people write and read them.

use std::time::Duration;

/// `64KiB`, `1M`, `1GB`: with `iB` or nothing behind the letter powers of 1024, with `B` powers of 1000.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size such as 4096, 64KiB, 1M or 1GB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => 0,
        Some('b') if letters.as_str().is_empty() => 0,
        Some(letter) => 1 + "kmgtpe".find(letter).ok_or_else(wrong)?,
    };
    let base: u64 = match letters.as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return Err(wrong()),
    };
    let factor = (0..power).try_fold(1_u64, |product, _| product.checked_mul(base));
    factor.and_then(|factor| number.checked_mul(factor)).ok_or_else(|| format!("{text:?} is too large"))
}

/// The longest duration, a thousand years: with it added every clock's time is still one.
const DURATION_MAX: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

/// `200ms`, `30s`, `5m`, `24h`, `7d`, `2w`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 30s, 24h or 7d");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        "w" => 7 * 24 * 60 * 60 * 1000,
        "" if number == 0 => 1,
        _ => return Err(wrong()),
    };
    let duration = number.checked_mul(millis).map(Duration::from_millis);
    duration.filter(|duration| *duration <= DURATION_MAX).ok_or_else(|| format!("{text:?} is too long"))
}

/// `5%`, `0.5%`: in parts of ten thousand, at least one of them and at most all.
pub fn parse_share(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no share from 0.01% to 100%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.len() <= 3 && text.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 2 {
        return Err(wrong());
    }
    let share = format!("{whole}{part:0<2}").parse::<u32>().map_err(|_| wrong())?;
    if (1..=10_000).contains(&share) { Ok(share) } else { Err(wrong()) }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// `999 B`, `64.0 KiB`, `1.2 GiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Three digits are shown: what a float of this size loses is beyond them.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0.12 s`, `5.3 s`, `2 min 5 s`, `3 h 20 min`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{:.2} s", duration.as_secs_f64()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1 file`, `2 files`.
pub fn count(number: u64, one: &str) -> String {
    match (number, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let good = [("5%", 500), ("0.5%", 50), ("0.01%", 1), ("100%", 10_000), ("12.34 %", 1234), ("33.3%", 3330)];
        for (text, share) in good {
            assert_eq!(parse_share(text), Ok(share), "{text}");
        }
        for text in ["", "%", "5", "0%", "101%", "-1%", "0.001%", "a%", ".5%", "1e1%", "5%%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("64KiB", 65536),
            ("64kib", 65536),
            ("64K", 65536),
            ("1M", 1 << 20),
            ("1MB", 1_000_000),
            ("1GB", 1_000_000_000),
            ("2 GiB", 2 << 30),
            ("15EiB", 15 << 60),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "KiB", "-1", "1.5M", "1X", "1KiBB", "1iB", "16EiB", "99999999999999999999", "1 0", "0x10", "１"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let cases =
            [("200ms", 200), ("0", 0), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("7d", 604_800_000)];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1y", "1.5h", "18446744073709551615d", "9223372036854775807s", "400000d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_short() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (1_300_000_000, "1.2 GiB")];
        for (bytes, shown) in cases {
            assert_eq!(show_bytes(bytes), shown);
        }
        assert_eq!(show_bytes(u64::MAX), "16.0 EiB");
        assert_eq!(show_duration(Duration::from_millis(120)), "0.12 s");
        assert_eq!(show_duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(show_duration(Duration::from_secs(12_000)), "3 h 20 min");
        assert_eq!((count(1, "entry"), count(0, "file")), ("1 entry".into(), "0 files".into()));
        assert_eq!(count(2, "entry"), "2 entries");
    }
}
