//! Bytes as lower-case hex, and back. Upper case is refused: a token has one spelling.

/// Two digits a byte.
pub(super) fn print(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes.
pub(super) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_as_it_is_written() {
        let bytes = [0x00, 0x7f, 0xa5, 0xff];
        assert_eq!(print(&bytes), "007fa5ff");
        assert_eq!(parse("007fa5ff"), Some(bytes));
        for text in ["", "007fa5f", "007fa5ff0", "007FA5FF", "007fa5fg", "é07fa5f"] {
            assert_eq!(parse::<4>(text), None, "{text}");
        }
    }
}
