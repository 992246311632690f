//! MMMU as TinyLLaVA Factory takes it: `anns_for_eval.json`, which says what is asked, with the pictures in `all_images/`, and
//! `answer_dict_val.json` of the official program, there or in `eval/`, which has the answers.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::super::files;
use super::{Entry, Questions, mmmu_parse};
use crate::EvalError;

/// Where pictures lie.
const FOLDERS: [&str; 2] = ["all_images", "images"];

#[derive(Deserialize)]
struct Listed {
    id: String,
    prompt: String,
    question_type: String,
    #[serde(default)]
    all_choices: Vec<String>,
    #[serde(default)]
    index2ans: HashMap<String, String>,
    #[serde(default)]
    image: OneOrMore,
}

/// One text, or a list of them.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
    #[default]
    None,
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(all) => all,
            Self::None => Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct Truth {
    question_type: String,
    ground_truth: OneOrMore,
}

/// Reads the questions, or `None` where they are not listed.
pub(super) fn read(dir: &Path) -> Result<Option<Questions>, EvalError> {
    let path = dir.join("anns_for_eval.json");
    if !path.is_file() {
        return Ok(None);
    }
    let places = ["answer_dict_val.json", "eval/answer_dict_val.json"];
    let answers = places
        .map(|name| dir.join(name))
        .into_iter()
        .find(|path| path.is_file());
    let mut truths: HashMap<String, Truth> = match &answers {
        Some(path) => files::entries(path)?.into_iter().collect(),
        None => HashMap::new(),
    };
    let mut all = Questions {
        answered: answers.is_some(),
        ..Questions::default()
    };
    for (line, listed) in files::objects::<Listed>(&path)? {
        let id = listed.id.clone();
        let truth = match answers {
            Some(_) => Some(truths.remove(&id)),
            None => None,
        };
        let entry = entry(dir, listed, truth).and_then(|entry| all.add(&id, entry));
        entry
            .map_err(|problem| EvalError::line(&path, line, format!("question {id}: {problem}")))?;
    }
    Ok(Some(all))
}

/// An entry; the truth is `None` where no answers are known.
fn entry(dir: &Path, listed: Listed, truth: Option<Option<Truth>>) -> Result<Entry, String> {
    let truths = match truth {
        None => Vec::new(),
        Some(None) => {
            return Err("has no answer in answer_dict_val.json, or stands twice; the two files must be of one release".to_owned());
        }
        Some(Some(truth)) if truth.question_type != listed.question_type => {
            let (here, there) = (&listed.question_type, &truth.question_type);
            return Err(format!(
                "is `{here}` here and `{there}` in answer_dict_val.json"
            ));
        }
        Some(Some(truth)) => truth.ground_truth.list(),
    };
    let letters = (0..listed.all_choices.len()).map(|index| mmmu_parse::letter(index).to_string());
    if !letters.eq(listed.all_choices.iter().cloned()) {
        return Err("`all_choices` are not the letters from A on".to_owned());
    }
    let choices = listed
        .all_choices
        .iter()
        .map(|letter| listed.index2ans.get(letter).cloned());
    let choices = choices.collect::<Option<Vec<String>>>();
    let pictures = listed.image.list();
    let pictures = pictures
        .iter()
        .map(|name| files::picture_in(dir, &FOLDERS, name));
    Ok(Entry {
        choices: choices.ok_or("`index2ans` lacks one of `all_choices`")?,
        truths,
        text: listed.prompt,
        pictures: pictures.collect::<Result<_, _>>()?,
    })
}
