//! Numbers for messages.

/// A number with commas: "1,234,567".
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number with its noun: "1 token", "2,000 tokens".
pub fn many(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_115_394), "1,115,394");
        assert_eq!(many(0, "line"), "0 lines");
        assert_eq!(many(1, "token"), "1 token");
        assert_eq!(many(2000, "token"), "2,000 tokens");
    }
}
