//! How MMMU reads answers.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::mmmu::Convention;
use super::python;

/// One reading of an open answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A number, rounded to two decimals.
    Number(f64),
    /// A text in lower case.
    Text(String),
}

/// The letter of a choice, counted from 0.
pub fn letter(index: usize) -> char {
    u8::try_from(index)
        .ok()
        .and_then(|index| b'A'.checked_add(index))
        .map_or('?', char::from)
}

/// The choice that an answer names, if it names one. Looked for is a letter in brackets, then a letter that stands alone,
/// then, in answers of more than five words, a choice's text; of several the one whose last occurrence comes last.
pub fn choice(answer: &str, choices: &[String], convention: Convention) -> Option<usize> {
    let marks = [',', '.', '!', '?', ';', ':', '\''];
    let bare = marks
        .iter()
        .fold(answer, |text, mark| text.trim_matches(*mark));
    let text = format!(" {bare} ");
    let among = |pattern: &dyn Fn(char) -> String| -> Vec<usize> {
        let all = 0..choices.len();
        all.filter(|&choice| text.contains(&pattern(letter(choice))))
            .collect()
    };
    let last = |found: &[usize], pattern: &dyn Fn(usize) -> Option<usize>| match found {
        [] => None,
        // The first of the highest: a choice may stand nowhere in the form that is compared.
        found => found
            .iter()
            .copied()
            .rev()
            .max_by_key(|&choice| pattern(choice)),
    };
    let bracketed = |letter| format!("({letter})");
    let alone = |letter| format!(" {letter} ");
    let found = among(&bracketed);
    if !found.is_empty() {
        return last(&found, &|choice| text.rfind(&bracketed(letter(choice))));
    }
    let mut found = match convention {
        Convention::Official => among(&alone),
        Convention::LmmsEval => among(&|letter| format!("{letter} ")),
    };
    if found.is_empty() && convention == Convention::LmmsEval {
        found = among(&|letter| format!("{letter}."));
    }
    if !found.is_empty() {
        return last(&found, &|choice| text.rfind(&alone(letter(choice))));
    }
    let words = text.split(python::is_space).filter(|word| !word.is_empty());
    if words.count() <= 5 {
        return None;
    }
    let text = text.to_lowercase();
    let lower: Vec<String> = choices.iter().map(|choice| choice.to_lowercase()).collect();
    let all = 0..choices.len();
    let found: Vec<usize> = all
        .filter(|&choice| text.contains(&lower[choice]))
        .collect();
    last(&found, &|choice| text.rfind(&lower[choice]))
}

/// The readings of an open answer: of each line the shortest rest behind a word like "is", or else the whole; then the
/// numbers within these.
pub fn open(answer: &str) -> Vec<Said> {
    let keys = keys(answer);
    let numbers: Vec<String> = keys.iter().flat_map(|key| numbers(key)).collect();
    let all = keys.iter().chain(&numbers).flat_map(|text| normalise(text));
    let mut readings: Vec<Said> = Vec::new();
    for said in all {
        if !readings.contains(&said) {
            readings.push(said);
        }
    }
    readings
}

fn keys(answer: &str) -> Vec<String> {
    const INDICATORS: [&str; 9] = [
        "could be ",
        "so ",
        "is ",
        "thus ",
        "therefore ",
        "final ",
        "answer ",
        "result ",
        "=",
    ];
    let answer = python::strip(answer).trim_matches('.').to_lowercase();
    // The official pattern also splits at a full stop before a capital, of which a text in lower case has none.
    let lines: Vec<&str> = answer.split('\n').collect();
    let mut keys = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let last = index + 1 == lines.len();
        let indicators = &INDICATORS[..INDICATORS.len() - usize::from(!last)];
        let mut shortest = String::new();
        for indicator in indicators {
            let Some((_, rest)) = line.rsplit_once(indicator) else {
                continue;
            };
            let rest = python::strip(rest);
            if shortest.is_empty() || rest.chars().count() < shortest.chars().count() {
                shortest = rest.to_owned();
            }
        }
        if !shortest.is_empty()
            && !matches!(shortest.as_str(), ":" | "," | "." | "!" | "?" | ";" | "'")
        {
            keys.push(shortest);
        }
    }
    match keys.is_empty() {
        true => vec![answer],
        false => keys,
    }
}

/// Numbers with commas, in powers of ten, and plain ones, as the official patterns find them.
fn numbers(text: &str) -> Vec<String> {
    static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        let all = [
            r"-?\b\d{1,3}(?:,\d{3})+\b",
            r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
            r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
        ];
        all.iter()
            .filter_map(|pattern| Regex::new(pattern).ok())
            .collect()
    });
    let found = PATTERNS.iter().flat_map(|pattern| pattern.find_iter(text));
    found
        .filter_map(|found| Some(found.ok()?.as_str().to_owned()))
        .collect()
}

/// A text as a number where it is one, else in lower case; a single character with a blank on either side, so that it is
/// not found within any word.
pub fn normalise(text: &str) -> Vec<Said> {
    let text = python::strip(text);
    if let Some(number) = python::float(&text.replace(',', "")) {
        return vec![Said::Number(python::round2(number))];
    }
    let lower = text.to_lowercase();
    match lower.chars().count() {
        1 => vec![
            Said::Text(format!(" {lower}")),
            Said::Text(format!("{lower} ")),
        ],
        _ => vec![Said::Text(lower)],
    }
}
