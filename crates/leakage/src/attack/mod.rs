//! The attacks, and what they are compared with: one file each, and one list.

mod ask;
mod baselines;
mod collage;
mod context;
mod dictionary;
mod gallery;
mod gradient;
mod habits;
mod inverse;
mod member;
mod optimise;
mod probe;
mod targets;

use std::path::Path;
use std::sync::Arc;

use qtl_data::Reader;
use qtl_model::Device;
use qtl_train::Recipe;

use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::{Finding, Setting};
use crate::halves::Halves;
use crate::pictures::Pictures;
use crate::questions::{Asked, Catalogue};
use crate::seen::Seen;

pub use baselines::{Background, MeanPicture, NearestCode, NearestPixels};
pub use collage::Collage;
pub use context::Context;
pub use dictionary::Dictionary;
pub use gallery::Match;
pub use gradient::Gradient;
pub use habits::Lengths;
pub use inverse::{Inverse, Mixed};
pub use member::Member;
pub use optimise::Optimise;
pub use probe::Probe;

/// Every attack, in the order in which they are run.
pub const ATTACKS: &[&dyn Attack] = &[
    &baselines::MeanPicture,
    &baselines::Background,
    &baselines::NearestPixels,
    &baselines::NearestCode,
    &collage::Collage,
    &inverse::Inverse,
    &inverse::Mixed,
    &optimise::Optimise,
    &ask::Ask,
    &probe::Probe,
    &gallery::Match,
    &habits::Lengths,
    &dictionary::Dictionary,
    &context::Context,
    &targets::Targets,
    &gradient::Gradient,
    &member::Member,
];

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Image rows.
    Picture,
    /// Text rows.
    Text,
    /// What is learned.
    Labels,
    /// Who was in training.
    Members,
}

impl Stream {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Picture, Self::Text, Self::Labels, Self::Members];
}

impl Stream {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Text => "text",
            Self::Labels => "labels",
            Self::Members => "members",
        }
    }
}

/// An attack, or what attacks are compared with.
pub trait Attack: Sync {
    /// Its name on the command line and in tables.
    fn name(&self) -> &'static str;

    /// What it attacks.
    fn stream(&self) -> Stream;

    /// What the attacker needs and does, in a sentence.
    fn needs(&self) -> &'static str;

    /// Whether it is only what attacks are compared with.
    fn is_baseline(&self) -> bool {
        false
    }

    /// Whether what has crossed makes no difference to it, so that once is enough.
    fn is_blind(&self) -> bool {
        false
    }

    /// Whether it is about samples that the model was trained on.
    fn needs_members(&self) -> bool {
        false
    }

    /// Its share of the time, beside the shares of others; 0 where it ends by itself.
    fn weight(&self) -> f64 {
        0.0
    }

    /// What it finds in time.
    ///
    /// # Errors
    ///
    /// [`LeakageError`]; [`LeakageError::Unfit`] where there is nothing for it.
    fn run(&self, case: &Case<'_>, clock: &Clock<'_>) -> Result<Found, LeakageError>;
}

/// What an attack has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Numbers.
    pub findings: Vec<Finding>,
    /// What there is to say about how it went.
    pub notes: Vec<String>,
    /// Steps of training; none where nothing is learned.
    pub steps: Option<usize>,
    /// A reconstruction of each of the victims' pictures.
    pub pictures: Option<Pictures>,
}

impl Found {
    /// Numbers alone.
    pub fn numbers(findings: Vec<Finding>) -> Self {
        Self {
            findings,
            ..Self::default()
        }
    }

    /// Pictures alone.
    pub fn pictures(pictures: Pictures) -> Self {
        Self {
            pictures: Some(pictures),
            ..Self::default()
        }
    }
}

/// What does not depend on what has crossed.
pub struct World<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The victims' data.
    pub victims: &'a Arc<Reader>,
    /// The attacker's own.
    pub auxiliary: &'a Arc<Reader>,
    /// Samples that the model was trained on, if they are known; the victims then were not.
    pub members: Option<&'a Arc<Reader>>,
    /// Where the public base lies.
    pub base: Option<&'a Path>,
    /// The victim's model.
    pub victim: &'a Halves,
    /// What the attacker's data asks again and again.
    pub catalogue: &'a Catalogue,
    /// Those questions about the victims' pictures that are asked.
    pub asked: &'a [Asked],
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Where attackers compute.
    pub device: Device,
}

/// What one attacker has.
pub struct Case<'a> {
    /// What does not depend on what has crossed.
    pub world: &'a World<'a>,
    /// What the attacker has of the client's half.
    pub setting: Setting,
    /// What has crossed.
    pub seen: &'a Seen,
    /// The attacker's own samples, as its half makes them cross.
    pub own: &'a Seen,
    /// The half that it has, and the server's.
    pub known: &'a Halves,
    /// The victim's halves, for what crosses only in an exchange. No attack looks into its client's half.
    pub victim: &'a Halves,
}

/// An error for an attacker that has taken no step, and is nothing without one.
pub(crate) fn trained(steps: usize, clock: &Clock<'_>) -> Result<(), LeakageError> {
    match steps {
        0 if !clock.stopped() => Err(LeakageError::Untrained(format!(
            "no step of training fitted into its {:.1} s",
            clock.seconds()
        ))),
        _ => Ok(()),
    }
}

/// An error for an attack that has nothing to work on.
pub(crate) fn unfit<T>(why: impl Into<String>) -> Result<T, LeakageError> {
    Err(LeakageError::Unfit(why.into()))
}
