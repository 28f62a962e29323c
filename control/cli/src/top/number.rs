//! Numbers in few characters.

/// A number in six characters at most: `999999`, `1.23M`, `45.6G`.
pub(super) fn short(number: f64) -> String {
    if !number.is_finite() {
        return "-".to_owned();
    }
    if number < 99_999.5 {
        return format!("{number:.0}");
    }
    let mut scaled = number;
    for unit in ["k", "M", "G", "T", "P", "E"] {
        scaled /= 1000.0;
        if scaled < 999.5 || unit == "E" {
            let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
            return format!("{scaled:.digits$}{unit}");
        }
    }
    unreachable!("the last unit takes all")
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_characters_say_it() {
        let cases = [
            (0.0, "0"),
            (0.4, "0"),
            (12_345.0, "12345"),
            (99_999.4, "99999"),
            (99_999.6, "100k"),
            (999_499.0, "999k"),
            (999_600.0, "1.00M"),
            (1_234_567.0, "1.23M"),
            (45_600_000_000.0, "45.6G"),
            (u64::MAX as f64, "18.4E"),
            (f64::NAN, "-"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
        assert_eq!(percent(0.256), "26%");
    }
}
