//! MME files: `mme/<task>.txt`, lines of picture, question and `Yes` or `No`, separated by tabs; two lines
//! in a row are about the same picture. Or the release's layout: a folder `mme/<task>` with a text file per picture, lines of
//! question and `Yes` or `No`, there or in `questions_answers_YN`; the picture of the same name there, in `images` there or
//! in the directory's `images`.

use std::path::{Path, PathBuf};

use super::prompts::{SCENES, SHORT, WORDS, with};
use super::{Benchmark, Conventions, FormScore, Loaded, Question, Submission, files, shown};
use crate::score::Answers;
use crate::score::mme::{self, COGNITION, Group, Label, PERCEPTION, Reading};
use crate::{EvalError, Table};

/// The form `mme`.
pub struct Mme;

/// The folder of tasks: in the directory of a test set, and as it was released, later and at first.
const PLACES: [&str; 3] = [
    "mme",
    "MME_Benchmark_release_version/MME_Benchmark",
    "MME_Benchmark_release_version",
];

/// What ends every question of the release. LLaVA's sentence is asked instead.
const ENDING: &str = "Please answer yes or no.";

struct Questions {
    questions: Vec<Question>,
    labels: Vec<Label>,
    /// The questions as they stand in the files.
    written: Vec<String>,
}

impl Benchmark for Mme {
    fn form(&self) -> &'static str {
        "mme"
    }

    fn files(&self) -> &'static str {
        "mme/<task>.txt, mme/<task>/<picture>.txt or MME_Benchmark_release_version/<task>/<picture>.txt"
    }

    fn load(&self, dir: &Path) -> Result<Option<Box<dyn Loaded>>, EvalError> {
        let places = PLACES.map(|name| dir.join(name));
        let Some(tasks) = places.into_iter().find(|tasks| tasks.is_dir()) else {
            return Ok(None);
        };
        let mut found = files::list(&tasks, |name| name.ends_with(".txt"))?;
        for folder in files::folders(&tasks)? {
            if !texts(&folder)?.is_empty() {
                found.push(folder);
            }
        }
        if found.is_empty() {
            return Err(EvalError::file(
                &tasks,
                "holds no <task>.txt and no <task>/<picture>.txt; add one or remove the directory",
            ));
        }
        let order = |task: &str| {
            let known = PERCEPTION
                .iter()
                .chain(&COGNITION)
                .position(|name| *name == task);
            known.unwrap_or(usize::MAX)
        };
        found.sort_by_key(|path| order(&task(path)));
        let mut all = Questions {
            questions: Vec::new(),
            labels: Vec::new(),
            written: Vec::new(),
        };
        for path in found {
            if path.is_dir() {
                read_folder(self.form(), dir, &path, &mut all)?;
            } else {
                read(self.form(), dir, &path, &mut all)?;
            }
        }
        Ok(Some(Box::new(all)))
    }
}

fn task(path: &Path) -> String {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
        .to_owned()
}

fn read(form: &'static str, dir: &Path, path: &Path, all: &mut Questions) -> Result<(), EvalError> {
    let task = task(path);
    let start = all.labels.len();
    let mut last = 0;
    for (line, row) in files::lines(path)? {
        let wrong = |problem: String| EvalError::line(path, line, problem);
        let cells: Vec<&str> = row.split('\t').collect();
        let [picture, text, truth] = cells[..] else {
            return Err(wrong(format!(
                "{} cells; expected picture, question, Yes or No, separated by tabs",
                cells.len()
            )));
        };
        let yes = is_yes(truth).map_err(wrong)?;
        // Accuracy+ counts pairs, and the official program takes two lines at a time.
        if let Some(first) = all.labels[start..]
            .chunks(2)
            .next_back()
            .filter(|pair| pair.len() == 1)
            .map(|pair| &pair[0])
            && first.picture != picture
        {
            return Err(wrong(format!(
                "picture `{picture}` where a second question about `{}` is expected; questions come in pairs",
                first.picture
            )));
        }
        let id = format!("{form}/{task}/{line}");
        let image = files::picture(dir, picture).map_err(wrong)?;
        let truth = truth.trim().to_owned();
        all.questions.push(Question {
            id: id.clone(),
            pictures: vec![image],
            text: text.to_owned(),
            form,
            truth,
            longest: SCENES,
        });
        all.written.push(text.to_owned());
        all.labels.push(Label {
            id,
            task: task.clone(),
            picture: picture.to_owned(),
            yes,
        });
        last = line;
    }
    if (all.labels.len() - start) % 2 == 1 {
        return Err(EvalError::line(
            path,
            last,
            "the last picture has one question; questions come in pairs",
        ));
    }
    Ok(())
}

fn is_yes(truth: &str) -> Result<bool, String> {
    match truth.trim() {
        "Yes" => Ok(true),
        "No" => Ok(false),
        other => Err(format!("truth `{other}`: expected `Yes` or `No`")),
    }
}

/// The text files of a folder of the release.
fn texts(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let apart = folder.join("questions_answers_YN");
    let place = if apart.is_dir() { &apart } else { folder };
    files::list(place, |name| name.ends_with(".txt"))
}

/// A task of the release: one file per picture.
fn read_folder(
    form: &'static str,
    dir: &Path,
    folder: &Path,
    all: &mut Questions,
) -> Result<(), EvalError> {
    let task = task(folder);
    let released = folder
        .parent()
        .is_some_and(|tasks| !tasks.ends_with(PLACES[0]));
    for path in texts(folder)? {
        let stem = self::task(&path);
        let image = files::picture_named(
            &stem,
            [&folder.join("images"), folder, &dir.join(files::IMAGES)],
        );
        let mut questions = 0;
        for (line, row) in files::lines(&path)? {
            let wrong = |problem: String| EvalError::line(&path, line, problem);
            let Some((text, truth)) = row.split_once('\t') else {
                return Err(wrong(
                    "expected a question and Yes or No, separated by a tab".into(),
                ));
            };
            let yes = is_yes(truth).map_err(wrong)?;
            let id = format!("{form}/{task}/{stem}/{line}");
            all.questions.push(Question {
                id: id.clone(),
                pictures: vec![image.clone()],
                text: if released {
                    with(text.trim_end().trim_end_matches(ENDING).trim_end(), SHORT)
                } else {
                    text.to_owned()
                },
                form,
                truth: truth.trim().to_owned(),
                longest: if released { WORDS } else { SCENES },
            });
            all.written.push(text.to_owned());
            all.labels.push(Label {
                id,
                task: task.clone(),
                picture: stem.clone(),
                yes,
            });
            questions += 1;
        }
        if questions != 2 {
            let problem = format!("{questions} questions; a picture has two");
            return Err(EvalError::file(&path, problem));
        }
    }
    Ok(())
}

impl Loaded for Questions {
    fn questions(&self) -> &[Question] {
        &self.questions
    }

    fn keep(&mut self, count: usize) {
        let count = count.next_multiple_of(2);
        self.questions.truncate(count);
        self.labels.truncate(count);
        self.written.truncate(count);
    }

    fn credit(&self, index: usize, answer: &str) -> f64 {
        let right = match mme::read(answer) {
            Reading::Yes => self.labels[index].yes,
            Reading::No => !self.labels[index].yes,
            Reading::Other => false,
        };
        f64::from(u8::from(right))
    }

    fn score(&self, answers: &Answers) -> FormScore {
        let score = mme::score(&self.labels, answers, mme::read);
        let [ours, lmms] = [mme::read, mme::read_loosely]
            .map(|read| mme::score(&self.labels, answers, read).total());
        let mut table = Table::new(
            "MME",
            &[
                "task",
                "questions",
                "acc %",
                "acc+ %",
                "score",
                "neither yes nor no",
            ],
        );
        for task in &score.tasks {
            let numbers = [task.acc, task.acc_plus, task.score].map(shown);
            let cells = [task.task.clone(), task.questions.to_string()];
            table.push(
                cells
                    .into_iter()
                    .chain(numbers)
                    .chain([task.other.to_string()]),
            );
        }
        for (group, total) in [
            (Group::Perception, score.perception),
            (Group::Cognition, score.cognition),
        ] {
            let Some(total) = total else { continue };
            let tasks = score.tasks.iter().filter(|task| task.group == group);
            let (count, questions) =
                tasks.fold((0, 0), |(n, sum), task| (n + 1, sum + task.questions));
            let name = format!("{group:?} (of {})", 200 * count);
            let cells = [
                name,
                questions.to_string(),
                String::new(),
                String::new(),
                shown(total),
            ];
            table.push(cells);
        }
        FormScore {
            form: "mme",
            measure: "questions answered rightly",
            percent: Some(score.accuracy),
            questions: self.questions.len(),
            details: serde_json::to_value(&score).unwrap_or_default(),
            table,
            conventions: Conventions {
                of: "Perception and cognition together",
                by: vec![("official", ours.0), ("lmms-eval", lmms.0)],
            },
            combined: (ours.1 > 0.0).then(|| 100.0 * ours.0 / ours.1),
        }
    }

    /// A file per task: picture, question, truth and answer, separated by tabs.
    fn submissions(&self, answers: &Answers) -> Vec<Submission> {
        let mut files: Vec<Submission> = Vec::new();
        for ((label, written), question) in
            self.labels.iter().zip(&self.written).zip(&self.questions)
        {
            let name = format!("mme_results/{}.txt", label.task);
            let answer = answers.get(&label.id).unwrap_or_default();
            let answer = answer.replace(['\t', '\n', '\r'], " ");
            let stem = Path::new(&label.picture).with_extension("txt");
            let line = format!(
                "{}\t{written}\t{}\t{answer}\n",
                stem.display(),
                question.truth
            );
            match files.iter_mut().find(|file| file.name == name) {
                Some(file) => file.bytes.extend(line.into_bytes()),
                None => files.push(Submission {
                    name,
                    bytes: line.into_bytes(),
                }),
            }
        }
        files
    }
}
