//! MMBench files: `mmbench*.tsv` of the releases, in which a row is a question with its picture. CircularEval asks a question with its
//! choices in every rotation. Some releases hold the rotations, as rows of their own whose index is that of the question and a
//! million more each time; where a file holds none, they are made here as LLaVA's script makes them.

mod table;

use std::ops::Range;
use std::path::Path;

use tempfile::TempDir;

use self::table::{ROUND, Row, Rows, wrong};
use super::prompts::{LETTER, SENTENCES, with};
use super::{
    Benchmark, Conventions, FormScore, Loaded, Picture, Question, Submission, files, shown,
    workbook,
};
use crate::score::Answers;
use crate::score::mmbench::{self, Asked, Circle, LETTERS, Part};
use crate::{EvalError, Table};

/// The form `mmbench`.
pub struct MmBench;

/// LLaVA's sentence for the Chinese files.
const LETTER_CN: &str = "请直接回答选项字母。";

/// The column of a submission that holds the answers.
const PREDICTION: usize = 6;

struct Questions {
    questions: Vec<Question>,
    asked: Vec<Asked>,
    groups: Vec<Group>,
    /// Columns of the file that a submission has.
    columns: Vec<String>,
    /// The rows of the file in their order.
    rows: Vec<Submitted>,
    answered: bool,
    /// Where pictures are unpacked; it goes with the questions.
    _unpacked: TempDir,
}

/// What a submission has of a row.
struct Submitted {
    /// The line of the file.
    line: u64,
    cells: Vec<String>,
    /// Which question it is.
    question: usize,
}

/// How the questions of a file are asked.
struct Asking<'a> {
    path: &'a Path,
    /// Whether the file holds the rotations.
    rotated: bool,
    /// What is said at the end.
    sentence: &'static str,
}

/// A question in all its rotations, among the questions.
struct Group {
    rotations: Range<usize>,
    category: String,
    ability: String,
}

impl Benchmark for MmBench {
    fn form(&self) -> &'static str {
        "mmbench"
    }

    fn files(&self) -> &'static str {
        "mmbench*.tsv"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let named = |name: &str| {
            let name = name.to_lowercase();
            name.starts_with("mmbench") && name.ends_with(".tsv")
        };
        let found = files::list(dir, named)?;
        match found.as_slice() {
            [] => Ok(None),
            [path] => Ok(Some(Box::new(read(path)?))),
            several => Err(files::several(dir, several)),
        }
    }
}

fn read(path: &Path) -> Result<Questions, EvalError> {
    let table = table::read(path)?;
    let mut made = Questions {
        questions: Vec::new(),
        asked: Vec::new(),
        groups: Vec::new(),
        columns: table.columns,
        rows: Vec::new(),
        answered: (table.groups.iter())
            .flat_map(|(group, _)| &group.rows)
            .any(|row| !row.answer.is_empty()),
        _unpacked: table.unpacked,
    };
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    let asking = Asking {
        path,
        rotated: table.groups.iter().any(|(group, _)| group.rows.len() > 1),
        sentence: match name.is_some_and(|name| name.contains("cn")) {
            true => LETTER_CN,
            false => LETTER,
        },
    };
    for (group, picture) in table.groups {
        made.add(group, &picture, &asking)?;
    }
    made.rows.sort_by_key(|row| row.line);
    Ok(made)
}

impl Questions {
    /// Adds a question in all its rotations.
    fn add(
        &mut self,
        group: Rows,
        picture: &Picture,
        asking: &Asking<'_>,
    ) -> Result<(), EvalError> {
        let path = asking.path;
        let Rows { base, mut rows, .. } = group;
        rows.sort_by_key(|row| row.index);
        let first = self.questions.len();
        let (mut category, mut ability) = (String::new(), String::new());
        for (round, row) in rows.into_iter().enumerate() {
            let of_round = base + round as u64 * ROUND;
            if row.index != of_round {
                let problem = format!("of this question's rotations {of_round} is missing");
                return Err(wrong(path, &row, &problem));
            }
            let letter = self
                .letter(&row)
                .map_err(|problem| wrong(path, &row, &problem))?;
            let question = self.questions.len();
            if round == 0 {
                (category, ability) = (row.category.clone(), row.ability.clone());
            }
            let mut ask = |index, choices: &[String], letter| {
                let text = asked(&row.question, choices, asking.sentence);
                self.ask(index, text, choices.to_vec(), letter, picture);
            };
            ask(row.index, &row.choices, letter);
            let count = row.choices.len();
            for step in 1..if asking.rotated { 1 } else { count } {
                let mut choices = row.choices.clone();
                choices.rotate_left(step);
                let place = LETTERS.iter().position(|own| *own == letter).unwrap_or(0);
                let letter = LETTERS[(place + count - step) % count];
                let index = base + step as u64 * ROUND;
                ask(index, &choices, letter);
            }
            self.rows.push(Submitted {
                line: row.line,
                cells: row.cells,
                question,
            });
        }
        self.groups.push(Group {
            rotations: first..self.questions.len(),
            category,
            ability,
        });
        Ok(())
    }

    /// The letter of a row's right choice; any where it is not public.
    fn letter(&self, row: &Row) -> Result<char, String> {
        if row.choices.len() < 2 {
            return Err(
                "has fewer than two choices; expected the columns A and B, perhaps C and D"
                    .to_owned(),
            );
        }
        if !self.answered {
            return Ok(LETTERS[0]);
        }
        let known = LETTERS.iter().take(row.choices.len());
        let found = known
            .copied()
            .find(|letter| letter.to_string() == row.answer);
        found.ok_or_else(|| {
            format!(
                "`answer` is `{}`: expected the letter of one of its {} choices",
                row.answer,
                row.choices.len()
            )
        })
    }

    fn ask(
        &mut self,
        index: u64,
        text: String,
        choices: Vec<String>,
        letter: char,
        picture: &Picture,
    ) {
        let id = format!("mmbench/{index}");
        self.questions.push(Question {
            id: id.clone(),
            pictures: vec![picture.clone()],
            text,
            form: "mmbench",
            truth: if self.answered {
                letter.to_string()
            } else {
                String::new()
            },
            longest: SENTENCES,
        });
        self.asked.push(Asked {
            id,
            choices,
            letter,
        });
    }
}

/// The words in which LLaVA's script asks.
fn asked(question: &str, choices: &[String], sentence: &str) -> String {
    let lines = LETTERS.iter().zip(choices);
    let text = lines.fold(question.to_owned(), |text, (letter, choice)| {
        with(&text, &format!("{letter}. {choice}"))
    });
    with(&text, sentence)
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// With all their rotations.
    fn keep(&mut self, count: usize) {
        self.groups.truncate(count);
        let end = self.groups.last().map_or(0, |group| group.rotations.end);
        self.questions.truncate(end);
        self.asked.truncate(end);
        self.rows.retain(|row| row.question < end);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        let right = self.answered && mmbench::is_right(answer, &self.asked[index]);
        f64::from(u8::from(right))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let circles = self.groups.iter().map(|group| Circle {
            rotations: &self.asked[group.rotations.clone()],
            category: group.category.as_str(),
            ability: group.ability.as_str(),
        });
        let circles: Vec<Circle<'_>> = circles.collect();
        let score = mmbench::score(&circles, answers);
        let mut table = Table::default();
        if self.answered {
            table = Table::new(
                "MMBench, %",
                &[
                    "ability",
                    "questions",
                    "right in every rotation",
                    "as written",
                ],
            );
            let mut push = |name: &str, part: &Part| {
                let [circular, first] = [part.circular, part.first].map(shown);
                table.push([name, &part.questions.to_string(), &circular, &first]);
            };
            for (name, part) in &score.abilities {
                push(name, part);
            }
            push("all", &score.all);
            if score.unread > 0 {
                table.note = format!(
                    "In {} answers no choice was found: they are wrong here; the official program and lmms-eval ask a judge.",
                    score.unread
                );
            }
        }
        FormScore {
            form: "mmbench",
            measure: "circular accuracy",
            percent: self.answered.then_some(score.all.circular),
            questions: self.groups.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table,
            conventions: Conventions::default(),
            combined: None,
        }
    }

    /// The workbook that the server takes: the file's own rows, without pictures.
    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        fn insert<'a>(cells: &'a [String], value: &'a str) -> Vec<&'a str> {
            let mut row: Vec<&str> = cells.iter().map(String::as_str).collect();
            row.insert(PREDICTION.min(row.len()), value);
            row
        }
        let head = std::iter::once(insert(&self.columns, "prediction"));
        let rows = self.rows.iter().map(|row| {
            let answer = answers.get(&self.questions[row.question].id);
            insert(&row.cells, answer.unwrap_or_default())
        });
        let bytes = workbook::of(head.chain(rows)).ok();
        let file = bytes.map(|bytes| Submission {
            name: "mmbench_submission.xlsx".to_owned(),
            bytes,
        });
        file.into_iter().collect()
    }
}
