//! Sizes of memory as typed, and the handler for failed memory allocations.

use std::io::Write;

use surprisal_platform::memory;

/// Parses a size as lmplz and GNU sort do: `80%` of the machine's memory, or a number with a unit,
/// by default K.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().map_err(|_| "a size is a number with a unit: 80%, 1G or 512M")?;
    let unit = match unit {
        "%" => memory::physical().ok_or("this system does not tell the size of its memory")? as f64 / 100.0,
        "k" | "" => 1024.0,
        unit => {
            let power = ["b", "K", "M", "G", "T", "P", "E"].iter().position(|known| *known == unit);
            1024f64.powi(power.ok_or("the units are b, K, M, G, T, P, E and %")? as i32)
        }
    };
    Ok((number * unit) as u64)
}

/// Prints an error about the failed allocation of `bytes` bytes and ends the process, which would
/// otherwise abort without a message.
pub fn out_of_memory(bytes: usize) {
    let words = format_args!(
        "error: out of memory: {bytes} more bytes were requested\n  hint: use a smaller text, order or \
         model, or fewer --threads; a memory limit may be set (ulimit -v, or a container's)\n"
    );
    let _ = std::io::stderr().write_fmt(words);
    surprisal_engine::store::pending::stop_writing();
    signal_hook::low_level::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_lmplz() {
        let sizes = [
            ("1024b", 1024),
            ("100K", 102_400),
            ("100k", 102_400),
            ("100", 102_400),
            ("512M", 536_870_912),
            ("1.5G", 1_610_612_736),
            ("2T", 2_199_023_255_552),
            ("0", 0),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "-1G", "1GB", "1 G", "1.2.3M", "inf", "nan", "1e9", "1x", "%", "1%%"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        if let Some(all) = memory::physical() {
            assert_eq!(parse_size("100%"), Ok(all));
            assert_eq!(parse_size("50%"), Ok(all / 2));
        }
    }
}
