//! Statuses that arrive: a status travels in headers, and a connection ends over headers that are too long.

/// Bytes of text in a status at most.
const LONGEST: usize = 4000;

/// The text, or as much of its beginning as a status has room for. What a client sent, and a refusal quotes, has any
/// length.
pub fn clipped(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clipped("short".into()), "short");
        let long = clipped("ä".repeat(LONGEST));
        assert_eq!(long, "ä".repeat(LONGEST / 2) + "…");
        assert!(clipped(format!("x{}", "ä".repeat(LONGEST))).len() <= LONGEST + "…".len());
    }
}
