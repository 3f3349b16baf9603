//! The characters that a person can see. Does not know where they are shown.

/// Whether this is neither a control nor a format character (Unicode 16, Cc, Cf, Zl and Zp): those that move the
/// cursor, reorder or hide text.
pub fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// Returns the text with invisible characters spelled out, as `\u{202e}`, cut after `most` characters with an ellipsis.
pub fn made_visible(text: &str, most: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for letter in text.chars() {
        let part = if is_visible(letter) { letter.to_string() } else { letter.escape_unicode().to_string() };
        length += part.chars().count();
        shown.push_str(&part);
        if length > most {
            return shown.chars().take(most.saturating_sub(1)).chain(['…']).collect();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_spelled_out_and_what_is_long_is_cut() {
        assert_eq!(made_visible("a\n\u{200b}ü", 64), "a\\u{a}\\u{200b}ü");
        assert_eq!(made_visible("abcd", 4), "abcd");
        assert_eq!(made_visible("abcde", 4), "abc…");
        assert_eq!(made_visible("ab\n", 4), "ab\\…");
    }
}
