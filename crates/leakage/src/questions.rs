//! What the data sets ask about pictures: the questions that have few answers, and what the answer is for each picture.

use std::collections::{BTreeMap, BTreeSet};

use qtl_data::Reader;
use qtl_data::template::IMAGE_TAG;

use crate::seen::Seen;

/// A question must be asked so often to be one that can be learned.
const OFTEN: usize = 20;
/// And its answers must repeat so many times.
const REPEAT: usize = 4;
/// At most so many questions.
const MOST: usize = 1000;

/// The questions that are asked again and again, and their answers.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The questions.
    pub questions: Vec<Question>,
    /// Per class: its question and its answer.
    pub classes: Vec<(usize, String)>,
    places: BTreeMap<String, usize>,
}

/// A question that is asked again and again.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its text.
    pub text: String,
    /// What it begins with: questions of one form.
    pub form: String,
    /// Its classes.
    pub classes: Vec<usize>,
    /// The most frequent of them: what a guess says.
    pub guess: usize,
}

/// A question about a picture, and the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The picture, by its number in [`Seen::pictures`].
    pub picture: usize,
    /// The question, by its number in the catalogue.
    pub question: usize,
    /// The right answer.
    pub answer: String,
}

impl Catalogue {
    /// What is asked often in a data set.
    pub fn of(seen: &Seen, reader: &Reader) -> Self {
        let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for (_, question, answer) in turns(seen, reader) {
            *counts
                .entry(question)
                .or_default()
                .entry(answer)
                .or_default() += 1;
        }
        let mut often: Vec<_> = counts
            .into_iter()
            .map(|(question, answers)| (answers.values().sum::<usize>(), question, answers))
            .filter(|(times, _, answers)| *times >= OFTEN && answers.len() * REPEAT <= *times)
            .collect();
        often.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut catalogue = Self::default();
        for (_, text, answers) in often.into_iter().take(MOST) {
            let question = catalogue.questions.len();
            let first = catalogue.classes.len();
            let most = answers.values().copied().max();
            let guess = answers.values().position(|times| Some(*times) == most);
            let count = answers.len();
            catalogue
                .classes
                .extend(answers.into_keys().map(|answer| (question, answer)));
            catalogue.places.insert(text.clone(), question);
            catalogue.questions.push(Question {
                form: form(&text),
                text,
                classes: (first..first + count).collect(),
                guess: first + guess.unwrap_or(0),
            });
        }
        catalogue
    }

    /// Which of its questions are asked about the pictures of a data set.
    pub fn asked(&self, seen: &Seen, reader: &Reader) -> Vec<Asked> {
        let all = turns(seen, reader).filter_map(|(picture, question, answer)| {
            let question = *self.places.get(&question)?;
            Some(Asked {
                picture,
                question,
                answer,
            })
        });
        all.collect()
    }

    /// The class of an answer, if it is a known one.
    pub fn class(&self, question: usize, answer: &str) -> Option<usize> {
        let own = self.questions[question].classes.iter().copied();
        own.into_iter()
            .find(|class| self.classes[*class].1 == answer)
    }

    /// The forms of the questions, alphabetically.
    pub fn forms(&self) -> BTreeSet<&str> {
        self.questions.iter().map(|q| q.form.as_str()).collect()
    }
}

/// Picture, question and answer of every turn about a picture.
fn turns<'a>(
    seen: &'a Seen,
    reader: &'a Reader,
) -> impl Iterator<Item = (usize, String, String)> + 'a {
    let pictures = seen.shown_by.iter().enumerate();
    pictures.flat_map(|(picture, sample)| {
        let entry = reader.entry(seen.entries[*sample]);
        entry.talk.turns.iter().filter_map(move |turn| {
            let question = turn.question.replace(IMAGE_TAG, "").trim().to_owned();
            let answer = turn.answer.as_deref()?.trim().to_owned();
            Some((picture, question, answer))
        })
    })
}

/// The first two words.
fn form(question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().take(2).collect();
    words.join(" ").to_lowercase()
}
