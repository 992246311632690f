//! The answer normalisation of the VQA evaluation, with the quirks that scores depend on.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Marks that are deleted or become a blank.
const MARKS: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?', '!',
];

/// Full stops deleted at most: the evaluation passes a flag of value 32 where a count belongs.
const FULL_STOPS: usize = 32;

/// Contractions whose spelling is repaired where one apostrophe (any of them) is missing.
///
/// The evaluation's table also has entries with a capital I, which never match a lower-cased word, and
/// `let's` and `she's`, which map to themselves.
const CONTRACTIONS: &str = "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't \
    hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't \
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've \
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's \
    something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've \
    they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd \
    where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't \
    wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've";

/// Spelling without one of its apostrophes -> right spelling.
static REPAIRS: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
    let mut repairs = HashMap::new();
    for right in CONTRACTIONS.split_whitespace() {
        for (at, _) in right.match_indices('\'') {
            repairs.insert(format!("{}{}", &right[..at], &right[at + 1..]), right);
        }
    }
    // The one entry the wrong way round; undoing that would change scores.
    repairs.insert("somebody'd".to_owned(), "somebodyd");
    repairs
});

/// An answer as the official scorer compares it (only where the ten people disagree, see
/// [`vqav2`](super::vqav2)).
pub fn official(answer: &str) -> String {
    words(&punctuation(&trimmed(answer)))
}

/// An answer as LLaVA's conversion writes it into the file that is uploaded to the evaluation server:
/// [`official`] with commas and question marks deleted and `'s` split off beforehand.
pub fn submission(answer: &str) -> String {
    let apart = answer
        .to_lowercase()
        .replace([',', '?'], "")
        .replace("'s", " 's");
    official(&apart)
}

/// Line breaks and tabs as blanks, outer blanks removed.
pub(crate) fn trimmed(answer: &str) -> String {
    answer.replace(['\n', '\t'], " ").trim().to_owned()
}

/// A mark goes without trace if, in the original, it has a blank at either side somewhere, or a comma
/// stands between digits anywhere; else it becomes a blank. Then full stops not before a digit go.
fn punctuation(original: &str) -> String {
    let chars: Vec<char> = original.chars().collect();
    let thousands = chars
        .windows(3)
        .any(|w| w[0].is_ascii_digit() && w[1] == ',' && w[2].is_ascii_digit());
    let beside_blank = |mark: char| {
        chars
            .windows(2)
            .any(|w| (w[0] == mark && w[1] == ' ') || (w[0] == ' ' && w[1] == mark))
    };
    let replaced: Vec<char> = chars
        .iter()
        .filter_map(|&c| match MARKS.contains(&c) {
            false => Some(c),
            true if thousands || beside_blank(c) => None,
            true => Some(' '),
        })
        .collect();
    let mut deleted = 0;
    let mut text = String::with_capacity(original.len());
    for (at, &c) in replaced.iter().enumerate() {
        let before_digit = replaced.get(at + 1).is_some_and(char::is_ascii_digit);
        if c == '.' && !before_digit && deleted < FULL_STOPS {
            deleted += 1;
        } else {
            text.push(c);
        }
    }
    text
}

/// Lower case, number words as digits, articles dropped, contractions repaired, single blanks.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split_whitespace()
        .map(digit)
        .filter(|word| !matches!(*word, "a" | "an" | "the"))
        .map(|word| REPAIRS.get(word).copied().unwrap_or(word))
        .collect();
    words.join(" ")
}

fn digit(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_one_missing_apostrophe_is_repaired_but_not_two() {
        assert_eq!(official("couldntve"), "couldntve");
        assert_eq!(official("couldnt've couldn'tve"), "couldn't've couldn't've");
        assert_eq!(official("somebody'd"), "somebodyd");
        assert_eq!(official("Im"), "im");
    }

    #[test]
    fn only_32_full_stops_go() {
        assert_eq!(official(&".".repeat(40)), ".".repeat(8));
    }
}
