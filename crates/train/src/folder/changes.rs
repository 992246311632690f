//! What differs between the recipe and data that a run has been trained with and those it is to go on with, and the record
//! of both: `recipes/step-00000020.toml` is what holds from step 20 on.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::State;
use crate::files;
use crate::recipe::Recipe;
use crate::schedule;
use crate::stamp::Stamp;

/// Fields that do not enter into what is computed.
const HARMLESS: &[&str] = &[
    "name",
    "metrics.compare_every",
    "train.save_every",
    "train.keep",
    "quantizer.text_deltas",
    "messages.layout",
    "train.recompute",
    "data.cache_features",
    "data.cache_megabytes",
    "data.strict",
    "data.unlearnable",
    "sites.quorum",
    "sites.patience_s",
];

/// Whether another value of a recipe's field is another computation.
pub fn matters(field: &str) -> bool {
    !HARMLESS.contains(&field)
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Dotted name of the recipe's field, or `data`.
    pub field: String,
    /// What it was.
    pub before: String,
    /// What it is to be.
    pub now: String,
    /// What it does to the run.
    pub effect: Effect,
    /// What to know about it.
    pub note: Option<String>,
}

/// What a change does to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing to what is computed.
    None,
    /// The run becomes longer.
    Longer,
    /// It takes another course than the one it began.
    Course,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} before, {} now",
            self.field, self.before, self.now
        )?;
        match &self.note {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}

/// Why a run does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Something else was asked for than what the run was trained with.
    #[error(
        "the run in {dir} was trained up to step {step} with something else, and would take another course from there:{}\nGo \
         on with --allow-changes (given to both sides if the recipe changes), or with what it was trained with: \
         the recipe is in {recipe}",
        lines(changes)
    )]
    Course {
        /// The run's directory.
        dir: PathBuf,
        /// Micro-batches applied.
        step: u64,
        /// All that differs.
        changes: Vec<Change>,
        /// Where the former recipe lies.
        recipe: PathBuf,
    },
    /// The run is longer than it is to be.
    #[error(
        "the run in {dir} has {done} steps behind it and train.steps = {asked} asks for fewer; give more steps, or another \
         run directory"
    )]
    Shorter {
        /// The run's directory.
        dir: PathBuf,
        /// Optimizer steps applied.
        done: u64,
        /// Optimizer steps asked for.
        asked: u64,
    },
}

fn lines(changes: &[Change]) -> String {
    changes
        .iter()
        .map(|change| format!("\n  {change}"))
        .collect()
}

/// Everything that differs between what `state` was trained with and what it is to go on with. Data that either side says
/// nothing of is not compared.
pub fn changes(state: &State, recipe: &Recipe, data: Option<&Stamp>) -> Vec<Change> {
    let former = Recipe::parse(&state.recipe, &[], Path::new("state.json"));
    // As they are written: 0.9 in 32 bits is a longer number in 64. A recipe that this release would not take is still one
    // to compare with.
    let now = Recipe::fields_of(&recipe.to_toml());
    let before = match &former {
        Ok(former) => Recipe::fields_of(&former.to_toml()),
        Err(_) => Recipe::fields_of(&state.recipe),
    };
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let show = |value: Option<&String>| value.map_or_else(|| "not set".to_owned(), Clone::clone);
    let mut found: Vec<Change> = names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| {
            let longer =
                |former: &&Recipe| name == "train.steps" && former.train.steps < recipe.train.steps;
            let longer = former.as_ref().ok().filter(longer);
            Change {
                field: name.clone(),
                before: show(before.get(name)),
                now: show(now.get(name)),
                effect: match longer {
                    _ if !matters(name) => Effect::None,
                    Some(_) => Effect::Longer,
                    None => Effect::Course,
                },
                note: longer.map(|former| rate(former, recipe, state.step)),
            }
        })
        .collect();
    if let (Some(before), Some(now)) = (&state.data, data)
        && !before.agrees(now)
    {
        found.push(Change {
            field: "data".to_owned(),
            before: before.to_string(),
            now: now.to_string(),
            effect: Effect::Course,
            note: Some("their order begins anew".to_owned()),
        });
    }
    found
}

/// The schedule stretches with the run.
fn rate(before: &Recipe, now: &Recipe, step: u64) -> String {
    let at = |recipe: &Recipe| schedule::at(&recipe.train, step) * recipe.train.lr;
    format!(
        "the learning rate follows the schedule of the longer run: at step {step} it is {:.3e} instead of {:.3e}",
        at(now),
        at(before)
    )
}

/// Whether a run whose newest checkpoint in `dir` says `state` may go on so; what differs.
///
/// # Errors
///
/// [`ChangeError`] if the run would take another course and that is not `allowed`, or it is already longer than it is to be.
pub fn check(
    dir: &Path,
    state: Option<&State>,
    recipe: &Recipe,
    data: Option<&Stamp>,
    allowed: bool,
) -> Result<Vec<Change>, ChangeError> {
    let Some(state) = state else {
        return Ok(Vec::new());
    };
    let changes = changes(state, recipe, data);
    let (dir, step) = (dir.to_owned(), state.step);
    if !allowed && changes.iter().any(|c| c.effect == Effect::Course) {
        let recipe = newest(&dir).unwrap_or_else(|| dir.join("recipe.toml"));
        return Err(ChangeError::Course {
            dir,
            step,
            changes,
            recipe,
        });
    }
    let asked = recipe.train.steps;
    if step > asked {
        return Err(ChangeError::Shorter {
            dir,
            done: step,
            asked,
        });
    }
    Ok(changes)
}

/// Writes down that `recipe` and `data` hold from `step` on, unless they already did; what held from later steps on, behind
/// which the run went back, goes.
///
/// # Errors
///
/// What the file system refuses.
pub fn note(dir: &Path, step: u64, recipe: &Recipe, data: Option<&Stamp>) -> io::Result<()> {
    let mut text = String::new();
    if let Some(data) = data {
        text = format!("# data: {data}\n");
    }
    text += &recipe.to_toml();
    fs::create_dir_all(dir.join("recipes"))?;
    let (later, earlier): (Vec<_>, Vec<_>) = noted(dir).into_iter().partition(|(s, _)| *s > step);
    let held = earlier
        .last()
        .and_then(|(_, path)| fs::read_to_string(path).ok());
    if held.as_deref() != Some(&text) {
        files::replace(
            &dir.join(format!("recipes/step-{step:08}.toml")),
            text.as_bytes(),
        )?;
    }
    later
        .into_iter()
        .try_for_each(|(_, path)| fs::remove_file(path))
}

/// The recipe that holds last.
fn newest(dir: &Path) -> Option<PathBuf> {
    noted(dir).pop().map(|(_, path)| path)
}

/// The recipes on record, ascending by their step.
fn noted(dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(dir.join("recipes"))
        .into_iter()
        .flatten()
        .flatten();
    let mut noted: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let step = name
                .strip_prefix("step-")?
                .strip_suffix(".toml")?
                .parse()
                .ok()?;
            Some((step, entry.path()))
        })
        .collect();
    noted.sort();
    noted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Side;

    const TEXT: &str = "name = 'a'\n[data]\ntemplate = 'qa'\nmax_length = 64\n[train]\nsteps = 20\nbatch = 2\nlr = 1e-3\n";

    fn recipe(sets: &[&str]) -> Recipe {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        Recipe::parse(TEXT, &sets, Path::new("test.toml")).unwrap()
    }

    fn state(step: u64) -> State {
        State::new(Side::Client, "run", step, None, recipe(&[]).to_toml())
    }

    fn stamp(digest: &str) -> Stamp {
        Stamp {
            file: digest.to_owned(),
            samples: 3,
            pictures: "x".to_owned(),
            contents: None,
        }
    }

    fn checked(step: u64, sets: &[&str], allowed: bool) -> Result<Vec<Change>, ChangeError> {
        let dir = Path::new("runs/client");
        check(dir, Some(&state(step)), &recipe(sets), None, allowed)
    }

    #[test]
    fn what_alters_the_course_is_listed_and_must_be_allowed() {
        let sets = ["train.lr=5e-4", "train.batch=4", "train.keep=5"];
        let error = checked(10, &sets, false).unwrap_err().to_string();
        for part in [
            "runs/client was trained up to step 10",
            "train.lr: 0.001 before, 0.0005 now",
            "train.batch: 2 before, 4 now",
            "train.keep: 2 before, 5 now",
            "--allow-changes",
        ] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert_eq!(checked(10, &sets, true).unwrap().len(), 3);
        assert_eq!(checked(10, &[], false).unwrap(), []);
        assert_eq!(checked(10, &["train.keep=5"], false).unwrap().len(), 1);
    }

    #[test]
    fn how_long_sites_are_waited_for_may_change() {
        let mut state = state(10);
        state.recipe = recipe(&["sites.count=2"]).to_toml();
        let sets = ["sites.count=2", "sites.patience_s=5", "sites.quorum=1"];
        let changes = check(Path::new("runs"), Some(&state), &recipe(&sets), None, false);
        assert_eq!(changes.unwrap().len(), 2);
        let turns = recipe(&["sites.count=2", "sites.mode=turns"]);
        check(Path::new("runs"), Some(&state), &turns, None, false).unwrap_err();
    }

    #[test]
    fn numbers_are_shown_as_they_are_written() {
        let sets = ["train.betas=[0.9, 0.95]"];
        let error = checked(10, &sets, false).unwrap_err().to_string();
        let says = "train.betas: [0.9, 0.999] before, [0.9, 0.95] now";
        assert!(error.contains(says), "{error}");
        // Also beside a recipe of another release.
        let mut state = state(10);
        state.recipe = state.recipe.replace("clip", "clap");
        let fields = changes(&state, &recipe(&[]), None).into_iter();
        let fields: Vec<String> = fields.map(|change| change.field).collect();
        assert_eq!(fields, ["train.clap", "train.clip"]);
    }

    #[test]
    fn more_steps_go_on_and_say_what_becomes_of_the_learning_rate() {
        let changes = checked(20, &["train.steps=40"], false).unwrap();
        let text = changes[0].to_string();
        assert!(text.starts_with("train.steps: 20 before, 40 now"), "{text}");
        assert!(text.contains("5.000e-4 instead of 0.000e0"), "{text}");
        assert!(checked(10, &["train.steps=15"], false).is_err());
        checked(10, &["train.steps=15"], true).unwrap();
        let error = checked(18, &["train.steps=15"], true).unwrap_err();
        assert!(
            error.to_string().contains("has 18 steps behind it"),
            "{error}"
        );
    }

    #[test]
    fn other_data_is_another_course() {
        let mut state = state(10);
        let compare = |state: &State, mark: &str| {
            let (dir, data) = (Path::new("runs/client"), stamp(mark));
            check(dir, Some(state), &recipe(&[]), Some(&data), false)
        };
        // An earlier release did not write the data down.
        assert_eq!(compare(&state, "a").unwrap(), []);
        state.data = Some(stamp("a"));
        assert_eq!(compare(&state, "a").unwrap(), []);
        let error = compare(&state, "b").unwrap_err().to_string();
        assert!(error.contains("\n  data: 3 samples of"), "{error}");
    }

    #[test]
    fn both_recipes_stay_on_record() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let names = || {
            noted(dir)
                .into_iter()
                .map(|(step, _)| step)
                .collect::<Vec<_>>()
        };
        let (first, second) = (recipe(&[]), recipe(&["train.lr=1"]));
        for (step, recipe) in [(0, &first), (5, &first), (10, &second), (15, &second)] {
            note(dir, step, recipe, Some(&stamp("a"))).unwrap();
        }
        assert_eq!(names(), [0, 10]);
        let text = fs::read_to_string(dir.join("recipes/step-00000010.toml")).unwrap();
        let read = Recipe::parse(&text, &[], Path::new("step-00000010.toml")).unwrap();
        assert_eq!(read, second);
        // Back behind the change, with the second recipe.
        note(dir, 5, &second, Some(&stamp("a"))).unwrap();
        assert_eq!(names(), [0, 5]);
    }
}
