//! Sizes and durations for people. For programs print plain numbers.

use std::time::Duration;

/// `0 B`, `812 B`, `24.0 MiB`, `8.0 GiB`: binary units, one digit behind the point from KiB on.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `0ms`, `15ms`, `2.5s`, `1m30s`, `2h5m`, `3d4h`: the two largest units.
pub fn human_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    if seconds < 60 {
        let tenths = millis / 100;
        return if tenths.is_multiple_of(10) {
            format!("{}s", tenths / 10)
        } else {
            format!("{}.{}s", tenths / 10, tenths % 10)
        };
    }
    let (large, large_unit, small, small_unit) = match seconds {
        0..3_600 => (seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => (seconds / 3_600, "h", seconds / 60 % 60, "m"),
        _ => (seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    };
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (25_165_824, "24.0 MiB"),
            (8 << 30, "8.0 GiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (millis, text) in [
            (0, "0ms"),
            (15, "15ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (2_540, "2.5s"),
            (59_999, "59.9s"),
            (90_000, "1m30s"),
            (7_500_000, "2h5m"),
            (7_200_000, "2h"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(human_duration(Duration::from_millis(millis)), text);
        }
    }
}
