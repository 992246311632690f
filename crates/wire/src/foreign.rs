//! Text from somebody else, before it reaches a terminal, a log or an error.

/// Longest sentence of a peer that is shown.
pub const SENTENCE: usize = 600;

/// Longest name of a peer or an authority that is shown.
pub const NAME: usize = 80;

/// `text` on one line, without control characters, escape sequences and marks that turn the direction of writing, cut to
/// `longest` characters. What cannot be shown as it is appears as its number.
pub fn printable(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    let mut rest = text.trim().chars();
    for c in rest.by_ref().take(longest) {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            // What escaping would only make harder to read.
            '\'' | '"' | '\\' => shown.push(c),
            // Behind another character, so that accents which follow their letter stay as they are.
            c => shown.extend(['-', c].iter().collect::<String>().escape_debug().skip(1)),
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

/// `text` with every path in it replaced: where files lie on this machine is nobody else's business.
pub fn without_paths(text: &str) -> String {
    const INSTEAD: &str = "(a path)";
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        if !word.contains(['/', '\\']) {
            words.push(word.to_owned());
            continue;
        }
        let around = |c: char| !matches!(c, '/' | '\\' | '.' | '~') && !c.is_alphanumeric();
        let inner = word.trim_matches(around);
        let before = &word[..word.len() - word.trim_start_matches(around).len()];
        let after = word.trim_end_matches(around).len();
        // A path with blanks in it is several words.
        match words.last_mut() {
            Some(last) if last.ends_with(INSTEAD) && before.is_empty() => {
                last.push_str(&word[after..]);
            }
            _ if inner.is_empty() => words.push(word.to_owned()),
            _ => words.push(format!("{before}{INSTEAD}{}", &word[after..])),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_passes() {
        let hostile =
            "no\u{1b}[2J\u{1b}]0;title\u{7}\r\n\u{202e}evil\u{2028}\u{200b}\u{9b}31m\u{feff}";
        let shown = printable(hostile, 600);
        assert!(
            shown.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
            "{shown:?}"
        );
        assert!(shown.contains("[2J") && shown.contains("evil"), "{shown}");
    }

    #[test]
    fn what_people_write_stays() {
        for text in [
            "Klinikum Köln, \"Haus 3\" \\ O'Neill",
            "東京大学",
            "नमस्ते",
            "e\u{301}",
        ] {
            assert_eq!(printable(text, 80), text);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let shown = printable(&"x".repeat(900_000), SENTENCE);
        assert_eq!(shown.chars().count(), SENTENCE + 1);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn paths_stay_home() {
        for (text, told) in [
            (
                "cannot write /srv/gpu/runs/a b/step-1/state.json: No space left on device",
                "cannot write (a path) (a path): No space left on device",
            ),
            ("'runs/server' is locked", "'(a path)' is locked"),
            (r"C:\secret\x: denied", "(a path): denied"),
            ("step 3: loss is not finite", "step 3: loss is not finite"),
            ("~/run: full", "(a path): full"),
        ] {
            let plain = without_paths(text);
            assert!(!plain.contains(['/', '\\']), "{plain}");
            if !text.contains("a b") {
                assert_eq!(plain, told);
            } else {
                assert!(plain.ends_with(": No space left on device"), "{plain}");
            }
        }
    }
}
