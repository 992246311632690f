//! The recipe's `[sites]` section: several sites that train one model.

use std::time::Duration;

use qtl_wire::Mode;
use serde::{Deserialize, Serialize};

use super::{Recipe, RecipeError};

/// Several sites that train one model, each with its own client. How many there are and how they share the steps is a term
/// that both sides agree on; `quorum` and `patience_s` are the server's affair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SitesSpec {
    /// Number of sites.
    pub count: usize,
    /// How they share the steps.
    #[serde(default)]
    pub mode: ModeSpec,
    /// Every how many steps what the sites train on their own side is averaged; 0: each keeps its own.
    #[serde(default)]
    pub average_every: u64,
    /// Who averages.
    #[serde(default, skip_serializing_if = "AverageSpec::is_default")]
    pub average: AverageSpec,
    /// So many sites at least go on without the others; left out: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<usize>,
    /// Seconds for which a site is waited for.
    #[serde(default = "patience")]
    pub patience_s: u64,
}

/// How sites share the steps of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeSpec {
    /// Every step is on a micro-batch of every site.
    #[default]
    Rounds,
    /// The sites take the steps in rotation.
    Turns,
}

/// Who averages what the sites train on their own side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AverageSpec {
    /// The server, which sees what it averages.
    #[default]
    Server,
    /// Another program: the sites stop, write down what they have trained, and go on from a file that they are given. Not at
    /// the end of the run.
    Outside,
}

impl AverageSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn patience() -> u64 {
    600
}

/// What is wrong with a number of steps that leaves some sites one more than others.
const WHOLE_TURNS: &str = "a multiple of sites.count where sites.mode = \"turns\"";

/// A seed that differs by site; that of the first is the recipe's.
const PER_PLACE: u64 = 0x9e37_79b9_7f4a_7c15;

impl SitesSpec {
    /// As the protocol counts.
    pub fn mode(&self) -> Mode {
        match self.mode {
            ModeSpec::Rounds => Mode::Rounds,
            ModeSpec::Turns => Mode::Turns,
        }
    }

    /// Micro-batches of a step.
    pub fn at_once(&self) -> u64 {
        match self.mode {
            ModeSpec::Rounds => self.count.max(1) as u64,
            ModeSpec::Turns => 1,
        }
    }

    /// Sites that go on without the others.
    pub fn quorum(&self) -> usize {
        self.quorum.unwrap_or(self.count)
    }

    /// How long a site is waited for.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }

    /// Steps from one that a site takes part in to its next.
    pub fn stride(&self) -> u64 {
        match self.mode {
            ModeSpec::Rounds => 1,
            ModeSpec::Turns => self.count as u64,
        }
    }

    /// The number of a micro-batch, from which everything random in it follows: in rounds as if one client accumulated over
    /// all sites.
    pub fn number(&self, step: u64, place: usize) -> u64 {
        match self.mode {
            ModeSpec::Rounds => step * self.count as u64 + place as u64,
            ModeSpec::Turns => step,
        }
    }

    /// Whether the state after so many steps, of `steps` in all, is to be averaged by another program.
    pub fn is_averaged_outside(&self, at: u64, steps: u64) -> bool {
        let every = self.average_every;
        let due = every > 0 && at > 0 && at < steps && at.is_multiple_of(every);
        due && self.average == AverageSpec::Outside
    }

    /// The newest multiple of `every`, or the end of the run, behind `before` and not behind `now`.
    pub fn boundary(every: u64, end: u64, before: u64, now: u64) -> Option<u64> {
        let now = now.min(end);
        let last = match every {
            0 => 0,
            every => now / every * every,
        };
        let last = if now == end && every > 0 { end } else { last };
        (last > before).then_some(last)
    }
}

/// The seed of a site's data order.
pub fn seed_of(seed: u64, place: usize) -> u64 {
    seed.wrapping_add((place as u64).wrapping_mul(PER_PLACE))
}

/// Checks the section.
///
/// # Errors
///
/// [`RecipeError::Range`] naming the field.
pub(super) fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    let Some(sites) = &recipe.sites else {
        return Ok(());
    };
    // What sites do in common falls between the same two steps of each, and never two such things apart.
    let whole = |steps: u64| steps.is_multiple_of(sites.stride().max(1));
    let rules = [
        (
            "sites.count",
            sites.count.to_string(),
            "1 to 1024",
            (1..=1024).contains(&sites.count),
        ),
        (
            "sites.quorum",
            sites.quorum().to_string(),
            "1 to sites.count",
            (1..=sites.count).contains(&sites.quorum()),
        ),
        (
            "train.accumulate",
            recipe.train.accumulate.to_string(),
            "1 where several sites train: a round accumulates over them",
            recipe.train.accumulate == 1,
        ),
        (
            "train.steps",
            recipe.train.steps.to_string(),
            WHOLE_TURNS,
            whole(recipe.train.steps),
        ),
        (
            "train.save_every",
            recipe.train.save_every.to_string(),
            WHOLE_TURNS,
            whole(recipe.train.save_every),
        ),
        (
            "sites.average_every",
            sites.average_every.to_string(),
            WHOLE_TURNS,
            whole(sites.average_every),
        ),
        (
            "sites.average_every",
            sites.average_every.to_string(),
            "above 0 where sites.average = \"outside\"",
            sites.average_every > 0 || sites.average == AverageSpec::Server,
        ),
    ];
    match rules.into_iter().find(|rule| !rule.3) {
        Some((field, value, range, _)) => Err(RecipeError::Range {
            field,
            value,
            range,
        }),
        None => Ok(()),
    }
}
