//! MMBench (Liu et al. 2023) under CircularEval: a question is asked with its choices in every rotation, and is right only if all
//! answers are. Answers are read as the official program and lmms-eval read them before they ask a judge; where these would ask
//! one, an answer is wrong here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answers, percent, python};

/// The letters of the choices.
pub const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// What stands around a letter, in the order in which it is looked for.
const AROUND: [(&str, &str); 12] = [
    ("", "."),
    ("", ","),
    ("", ":"),
    ("", ")"),
    ("", ")."),
    ("(", ")"),
    ("(", ")."),
    (":", ""),
    (":", ","),
    (":", "."),
    (":", ")"),
    (":", ")."),
];

/// A word more is a sentence, and the A in it may be an article.
const WORDS_WITH_A_LETTER: usize = 3;

/// A question in one of its rotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Question id.
    pub id: String,
    /// The choices in this rotation.
    pub choices: Vec<String>,
    /// The letter of the right one.
    pub letter: char,
}

/// A question in all its rotations, the one as it was written first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle<'a> {
    /// The rotations.
    pub rotations: &'a [Asked],
    /// What it tries, such as `image_scene`.
    pub category: &'a str,
    /// What that belongs to, such as `coarse_perception`.
    pub ability: &'a str,
}

/// The letter that an answer chooses, if it can be told without a judge. There may be no choice of that letter.
pub fn chosen(answer: &str, choices: &[String]) -> Option<char> {
    by_letter(answer).or_else(|| by_text(answer, choices))
}

fn by_letter(answer: &str) -> Option<char> {
    let words: Vec<&str> = python::split(answer).collect();
    let only = |before: &str, after: &str| {
        let named = |letter: &char| words.contains(&format!("{before}{letter}{after}").as_str());
        let mut found = ('A'..='E').filter(named);
        found.next().filter(|_| found.next().is_none())
    };
    let article = words.contains(&"A") && words.len() > WORDS_WITH_A_LETTER;
    only("", "").filter(|_| !article).or_else(|| {
        AROUND
            .iter()
            .find_map(|(before, after)| only(before, after))
    })
}

fn by_text(answer: &str, choices: &[String]) -> Option<char> {
    let answer = answer.to_lowercase();
    let said = |(_, choice): &(char, &String)| answer.contains(&choice.to_lowercase());
    let mut found = LETTERS.into_iter().zip(choices).filter(said);
    let (letter, _) = found.next()?;
    found.next().is_none().then_some(letter)
}

/// Whether an answer to one rotation is right.
pub fn is_right(answer: &str, asked: &Asked) -> bool {
    chosen(answer, &asked.choices) == Some(asked.letter)
}

/// Right ones of some questions, in per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// In every rotation.
    pub circular: f64,
    /// As they were written.
    pub first: f64,
    /// Questions.
    pub questions: usize,
}

/// The result over all questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MmBenchScore {
    /// All of them.
    pub all: Part,
    /// By ability.
    pub abilities: BTreeMap<String, Part>,
    /// By category.
    pub categories: BTreeMap<String, Part>,
    /// Answers, of all rotations, in which no choice was found: other programs ask a judge what they mean.
    pub unread: usize,
    /// Rotations without an answer; they are wrong.
    pub missing: usize,
}

/// Scores the answers to some questions.
pub fn score(circles: &[Circle<'_>], answers: &Answers) -> MmBenchScore {
    let mut result = MmBenchScore::default();
    let mut counts: [BTreeMap<&str, [usize; 3]>; 3] = Default::default();
    for circle in circles {
        let right: Vec<bool> = circle
            .rotations
            .iter()
            .map(|asked| {
                let Some(answer) = answers.get(&asked.id) else {
                    result.missing += 1;
                    return false;
                };
                result.unread += usize::from(chosen(answer, &asked.choices).is_none());
                is_right(answer, asked)
            })
            .collect();
        let first = right.first().copied().unwrap_or_default();
        let all = right.iter().all(|right| *right);
        for (counts, key) in counts.iter_mut().zip(["", circle.ability, circle.category]) {
            let count = counts.entry(key).or_default();
            let one = [all, first, true].map(usize::from);
            count.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
    }
    let part = |[circular, first, questions]: [usize; 3]| Part {
        circular: percent(circular as f64, questions as f64),
        first: percent(first as f64, questions as f64),
        questions,
    };
    let [all, abilities, categories] = counts.map(|counts| {
        let parts = counts
            .into_iter()
            .map(|(key, count)| (key.to_owned(), part(count)));
        parts.collect::<BTreeMap<_, _>>()
    });
    result.all = all.into_values().next().unwrap_or_default();
    (result.abilities, result.categories) = (abilities, categories);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_letter_is_read_where_it_stands_alone() {
        let choices = choices(&["a cat", "dog", "Fox", "hotdog stand"]);
        for (answer, letter) in [
            ("B", Some('B')),
            (" C\n", Some('C')),
            ("D.", Some('D')),
            ("(B) dog", Some('B')),
            ("B) fox", Some('B')),
            ("Answer :C.", Some('C')),
            ("The answer is B", Some('B')),
            ("I would say C because", Some('C')),
            // There is no such choice, and so it is wrong.
            ("E", Some('E')),
            // An article; then the words count.
            ("A FOX is in it", Some('C')),
            ("It is A fox", Some('C')),
            // Up to three words it is a letter.
            ("A is right", Some('A')),
            // Two letters, and no text.
            ("B or C", None),
            ("B. or C.", None),
            // Two letters in two ways: the first way that has only one.
            ("B. or C,", Some('B')),
            ("a", None),
            // Two choices are in the text.
            ("hotdog stand", None),
            ("a Dog", Some('B')),
            ("no idea", None),
            ("", None),
        ] {
            assert_eq!(chosen(answer, &choices), letter, "{answer:?}");
        }
    }

    #[test]
    fn a_question_is_right_if_all_its_rotations_are() {
        let asked = |id: &str, texts: &[&str], letter| Asked {
            id: id.to_owned(),
            choices: choices(texts),
            letter,
        };
        let one = [
            asked("1", &["red", "blue"], 'A'),
            asked("1b", &["blue", "red"], 'B'),
        ];
        let two = [
            asked("2", &["red", "blue"], 'B'),
            asked("2b", &["blue", "red"], 'A'),
        ];
        let three = [asked("3", &["yes"], 'A'), asked("3b", &["yes"], 'A')];
        fn circle<'a>(rotations: &'a [Asked], category: &'a str, ability: &'a str) -> Circle<'a> {
            Circle {
                rotations,
                category,
                ability,
            }
        }
        let all = [
            circle(&one, "color", "perception"),
            circle(&two, "color", "perception"),
            circle(&three, "logic", "reasoning"),
        ];
        // The first is right however it is asked; whoever always says B is right once in two; the last has one answer only.
        let said = [
            ("1", "A"),
            ("1b", "red it is"),
            ("2", "B"),
            ("2b", "B"),
            ("3", "A."),
        ];
        let score = score(&all, &said.into_iter().collect());
        let part = |circular: f64, first: f64, questions| Part {
            circular,
            first,
            questions,
        };
        assert_eq!(score.all, part(100.0 / 3.0, 100.0, 3));
        assert_eq!(score.abilities["perception"], part(50.0, 100.0, 2));
        assert_eq!(score.categories["color"], part(50.0, 100.0, 2));
        assert_eq!(score.categories["logic"], part(0.0, 100.0, 1));
        assert_eq!((score.unread, score.missing), (0, 1));
        let said = [
            ("1", "what?"),
            ("1b", "B"),
            ("2", "C"),
            ("2b", "A"),
            ("3", "A"),
            ("3b", "yes"),
        ];
        let score = super::score(&all, &said.into_iter().collect());
        assert_eq!(score.all, part(100.0 / 3.0, 100.0 / 3.0, 3));
        assert_eq!((score.unread, score.missing), (1, 0));
    }
}
