//! The suite: every attack on everything that has crossed, one after the other, each result on disk before the next begins.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use qtl_data::Reader;
use qtl_model::Device;
use qtl_model::quant::QuantizerSpec;
use qtl_train::Recipe;
use qtl_train::stamp::Stamp as DataStamp;

use crate::attack::{Attack, Case, World};
use crate::clock::Clock;
use crate::error::LeakageError;
use crate::finding::{Outcome, Setting};
use crate::halves::Halves;
use crate::judge::judge;
use crate::kept::{Kept, Stamp, Used};
use crate::overheard::Messages;
use crate::questions::Catalogue;
use crate::seen::{Seen, capture, capture_without};

/// Questions about the victims' pictures that models are asked, at most.
const ASKED: usize = 600;
/// The shortest time that an attack which learns is given.
const SHORTEST: Duration = Duration::from_secs(3);

/// What is attacked, with what, for how long.
pub struct Suite<'a> {
    /// The model.
    pub model: PathBuf,
    /// The public base that its client's half started from, for attackers that have no more.
    pub base: Option<PathBuf>,
    /// The recipe.
    pub recipe: Recipe,
    /// The victims' data.
    pub victims: Arc<Reader>,
    /// The attacker's own.
    pub auxiliary: Arc<Reader>,
    /// Samples that the model was trained on, with what tells them from others; the victims then were not.
    pub members: Option<(Arc<Reader>, DataStamp)>,
    /// What tells the files of both from others.
    pub data: [DataStamp; 2],
    /// Samples of either that are used at most.
    pub most: [usize; 2],
    /// Whether the same features are tried in 32 bits, beside the recipe's quantizers.
    pub exact: bool,
    /// Other quantizers to try on them.
    pub also: Vec<QuantizerSpec>,
    /// The attacks.
    pub attacks: Vec<&'static dyn Attack>,
    /// Time for all of them together.
    pub budget: Duration,
    /// What `train --dry-run` wrote, instead of messages made here: of the recipe's quantizers alone.
    pub messages: Option<PathBuf>,
    /// What computes.
    pub device: Device,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Where results go.
    pub out: PathBuf,
    /// Set when it is to stop.
    pub stop: &'a AtomicBool,
}

/// What whoever watches is told.
pub enum Event<'a> {
    /// Something else is done now.
    Doing(String),
    /// An attack begins: so many are done, of so many, and so long the rest takes.
    Begins {
        /// Attacks that are done.
        done: usize,
        /// Attacks in all.
        of: usize,
        /// What begins.
        what: String,
        /// How long it takes, and all that is left.
        left: Duration,
    },
    /// It has ended.
    Ended(&'a Outcome),
}

/// What came of it.
#[derive(Debug)]
pub struct Results {
    /// What was found, the oldest first.
    pub outcomes: Vec<Outcome>,
    /// What was used of the victims' data and of the attacker's.
    pub used: [Used; 2],
    /// Where it lies; nobody else writes there before this is dropped.
    pub kept: Kept,
}

/// What has crossed: its name, and the quantizers instead of the model's own.
struct View {
    name: String,
    instead: Option<QuantizerSpec>,
}

impl Suite<'_> {
    /// Runs what has not been run before.
    ///
    /// # Errors
    ///
    /// [`LeakageError`]; [`LeakageError::Stopped`] when it was asked to stop.
    pub fn run(&self, watch: &mut dyn FnMut(Event<'_>)) -> Result<Results, LeakageError> {
        let device = self.device.clone();
        let stamp = self.stamp()?;
        self.check_data()?;
        let messages = self
            .messages
            .as_deref()
            .map(|dir| Messages::open(dir, &stamp.model, &self.data[0], &self.recipe));
        let messages = messages.transpose()?;
        let kept = Kept::open(&self.out, &stamp)?;
        let (views, settings) = (self.views(), self.settings());
        watch(Event::Doing("reading the model".to_owned()));
        let open = |dir: &Path| {
            let halves = Halves::open(dir, &self.recipe, &self.auxiliary, &device)?;
            match &messages {
                Some(messages) => messages.started(halves),
                None => Ok(halves),
            }
        };
        let victim = open(&self.model)?;
        let base = self.base.as_deref().map(open).transpose()?;
        let (mut outcomes, lost) = kept.read()?;
        for path in lost {
            watch(Event::Doing(format!(
                "{} is not there whole any more: its attack is run again",
                path.display()
            )));
        }
        let mut left: Vec<Job> = self.jobs(&views, &settings).collect();
        let of = left.len();
        left.retain(|job| !outcomes.iter().any(|done| job.is(done)));
        let mut used = kept.used();
        let started = Instant::now();
        let mut basis: Option<(Catalogue, Vec<crate::questions::Asked>)> = None;
        for view in &views {
            if !left.iter().any(|job| job.view == view.name) {
                continue;
            }
            let theirs = self.under(view, &victim, "victim")?;
            watch(Event::Doing(format!(
                "{}: what crosses of the victims",
                view.name
            )));
            let seen = self.seen(&theirs, messages.as_ref(), self.most[0])?;
            for setting in &settings {
                if !left.iter().any(|job| job.is_in(view, *setting)) {
                    continue;
                }
                let known = match (setting, &base) {
                    (Setting::Base, Some(base)) => base,
                    _ => &victim,
                };
                let known = self.under(view, known, "attacker")?;
                watch(Event::Doing(format!(
                    "{}: codes of auxiliary samples",
                    view.name
                )));
                let own = self.own(&known, &seen)?;
                if used.is_none() {
                    kept.keep_used(*used.insert([&seen, &own].map(Used::of)))?;
                }
                let (catalogue, asked) = basis.get_or_insert_with(|| self.questions(&own, &seen));
                let world = World {
                    recipe: &self.recipe,
                    victims: &self.victims,
                    auxiliary: &self.auxiliary,
                    members: self.members.as_ref().map(|(reader, _)| reader),
                    base: self.base.as_deref(),
                    victim: &victim,
                    catalogue,
                    asked,
                    seed: self.seed,
                    device: device.clone(),
                };
                let case = Case {
                    world: &world,
                    setting: *setting,
                    seen: &seen,
                    own: &own,
                    known: &known,
                    victim: &theirs,
                };
                while let Some(place) = left.iter().position(|job| job.is_in(view, *setting)) {
                    let job = left.remove(place);
                    let clock = self.clock(&job, &left, started);
                    watch(Event::Begins {
                        done: of - left.len() - 1,
                        of,
                        what: job.name(),
                        left: self.budget.saturating_sub(started.elapsed()),
                    });
                    let outcome = attacked(&job, &case, &clock)?;
                    // More time gives another number, so that it is tried again.
                    if !outcome.is_untrained() {
                        kept.keep(&outcome)?;
                    }
                    watch(Event::Ended(&outcome));
                    outcomes.push(outcome);
                }
            }
        }
        if used.is_none() {
            let seen = self.seen(&victim, messages.as_ref(), self.most[0])?;
            let own = self.own(&victim, &seen)?;
            kept.keep_used(*used.insert([&seen, &own].map(Used::of)))?;
        }
        if outcomes.iter().any(|outcome| outcome.pictures.is_some()) || kept.truth()?.is_none() {
            // The pictures themselves, for the page.
            let shown = self.recipe.train.batch.max(crate::kept::SHOWN);
            let seen = self.seen(&victim, messages.as_ref(), self.most[0].min(shown))?;
            kept.keep_truth(&seen.pictures)?;
        }
        Ok(Results {
            outcomes,
            used: used.unwrap_or_default(),
            kept,
        })
    }

    /// The same samples on both sides would be no victims.
    fn check_data(&self) -> Result<(), LeakageError> {
        let [victims, auxiliary] = &self.data;
        match victims.file == auxiliary.file && victims.pictures == auxiliary.pictures {
            true => Err(LeakageError::Unfit(
                "--auxiliary has the same samples as --data: an attacker that has the victims' own has nothing to find out; give it others of the same kind"
                    .to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// What the server has of the first `most` victims.
    fn seen(
        &self,
        halves: &Halves,
        messages: Option<&Messages<'_>>,
        most: usize,
    ) -> Result<Seen, LeakageError> {
        let all = self.victims.entries().len();
        let seen = match messages {
            Some(messages) => messages.seen(halves, &self.recipe, &self.victims, most)?,
            None => {
                let samples: Vec<usize> = (0..all.min(most)).collect();
                capture(halves, &self.recipe, &self.victims, &samples)?
            }
        };
        match seen.entries.is_empty() {
            true => Err(LeakageError::Unfit(format!(
                "none of the first {} samples of --data can be read; see `qtinyllava check`",
                all.min(most)
            ))),
            false => Ok(seen),
        }
    }

    /// The attacker's own samples, without pictures of the victims.
    fn own(&self, halves: &Halves, seen: &Seen) -> Result<Seen, LeakageError> {
        let samples: Vec<usize> = (0..self.auxiliary.entries().len().min(self.most[1])).collect();
        let (recipe, source) = (&self.recipe, &self.auxiliary);
        let own = capture_without(halves, recipe, source, &samples, &seen.digests)?;
        match own.entries.is_empty() {
            true => Err(LeakageError::Unfit(format!(
                "no sample of --auxiliary is left: of {}, {} show a picture of the victims and {} cannot be read; give samples of the same kind with other pictures",
                samples.len(),
                own.shared,
                own.unread
            ))),
            false => Ok(own),
        }
    }

    /// Halves under the quantizers of a view; `who` has them.
    fn under(&self, view: &View, halves: &Halves, who: &str) -> Result<Halves, LeakageError> {
        let (halves, mut recipe) = (halves.clone(), self.recipe.clone());
        let Some(spec) = &view.instead else {
            return Ok(halves.hiding(&recipe, who));
        };
        recipe.quantizer.image.clone_from(spec);
        recipe.quantizer.text.clone_from(spec);
        let halves = halves.quantized(spec, spec, &recipe, &self.auxiliary)?;
        Ok(halves.hiding(&recipe, who))
    }

    /// What is asked often, and a part of it that is asked about the victims' pictures.
    fn questions(&self, own: &Seen, seen: &Seen) -> (Catalogue, Vec<crate::questions::Asked>) {
        let catalogue = Catalogue::of(own, &self.auxiliary);
        let mut asked = catalogue.asked(seen, &self.victims);
        let every = asked.len().div_ceil(ASKED).max(1);
        asked = asked.into_iter().step_by(every).collect();
        (catalogue, asked)
    }

    fn views(&self) -> Vec<View> {
        let quantizer = &self.recipe.quantizer;
        let own = match quantizer.image == quantizer.text {
            true => quantizer.image.to_string(),
            false => format!("{} / {}", quantizer.image, quantizer.text),
        };
        let own = View {
            name: format!("the recipe's: {own}"),
            instead: None,
        };
        let exact = QuantizerSpec::Exact(qtl_model::quant::ExactSpec {});
        // Messages that were made elsewhere are as they are.
        let exact = self.exact.then_some(&exact);
        let others = exact.into_iter().chain(&self.also);
        let others = others.filter(|_| self.messages.is_none());
        let others = others.map(|spec| View {
            // What a client adds to its rows is there whatever rounds them.
            name: match self.recipe.privacy.adds() {
                true => format!("{spec}, under [privacy]"),
                false => spec.to_string(),
            },
            instead: Some(spec.clone()),
        });
        std::iter::once(own).chain(others).collect()
    }

    fn settings(&self) -> Vec<Setting> {
        let base = self.base.is_some().then_some(Setting::Base);
        std::iter::once(Setting::Insider).chain(base).collect()
    }

    fn jobs<'v>(
        &'v self,
        views: &'v [View],
        settings: &'v [Setting],
    ) -> impl Iterator<Item = Job> + 'v {
        views.iter().enumerate().flat_map(move |(i, view)| {
            settings.iter().enumerate().flat_map(move |(j, setting)| {
                let attacks = self.attacks.iter();
                let due = attacks.filter(move |attack| !attack.is_blind() || i + j == 0);
                due.map(|attack| Job {
                    view: view.name.clone(),
                    setting: *setting,
                    attack: *attack,
                })
            })
        })
    }

    /// Its share of the time that is left.
    fn clock(&self, job: &Job, rest: &[Job], started: Instant) -> Clock<'_> {
        let of = |job: &Job| match job.attack.needs_members() && self.members.is_none() {
            true => 0.0,
            false => job.attack.weight(),
        };
        let weight = of(job);
        let all = weight + rest.iter().map(of).sum::<f64>();
        let left = self.budget.saturating_sub(started.elapsed());
        // What has no share takes some time as well.
        let share = left.mul_f64(0.9 * weight / all.max(1e-9));
        Clock::new(share.max(SHORTEST)).stopped_by(self.stop)
    }

    fn stamp(&self) -> Result<Stamp, LeakageError> {
        let model = |dir: &Path| crate::kept::digest(dir);
        Ok(Stamp {
            messages: self.messages.as_deref().map(model).transpose()?,
            model: model(&self.model)?,
            base: self.base.as_deref().map(model).transpose()?,
            recipe: self.recipe.to_toml(),
            members: self.members.as_ref().map(|(_, stamp)| stamp.clone()),
            data: [0, 1].map(|which| (self.most[which], self.data[which].clone())),
            seed: self.seed,
        })
    }
}

/// One attack on what has crossed under one quantizer.
struct Job {
    view: String,
    setting: Setting,
    attack: &'static dyn Attack,
}

impl Job {
    fn is(&self, done: &Outcome) -> bool {
        (&self.view, self.told()) == (&done.view, done.setting) && self.attack.name() == done.attack
    }

    fn is_in(&self, view: &View, setting: Setting) -> bool {
        self.view == view.name && self.setting == setting
    }

    /// The setting as it is told: what has crossed makes no difference to some.
    fn told(&self) -> Setting {
        match self.attack.is_blind() {
            true => Setting::Any,
            false => self.setting,
        }
    }

    fn name(&self) -> String {
        format!(
            "{} ({}, {})",
            self.attack.name(),
            self.view,
            self.told().name()
        )
    }
}

fn attacked(job: &Job, case: &Case<'_>, clock: &Clock<'_>) -> Result<Outcome, LeakageError> {
    let started = Instant::now();
    let mut outcome = Outcome {
        stream: job.attack.stream().name().to_owned(),
        attack: job.attack.name().to_owned(),
        baseline: job.attack.is_baseline(),
        view: job.view.clone(),
        setting: job.told(),
        findings: Vec::new(),
        notes: Vec::new(),
        steps: None,
        seconds: 0.0,
        picture_bytes: 0,
        pictures: None,
    };
    let pictures = job.attack.stream() == crate::attack::Stream::Picture;
    let found = match pictures && case.seen.pictures.is_empty() {
        true => Err(LeakageError::Unfit(
            "the victims' samples show no whole picture".to_owned(),
        )),
        false => job.attack.run(case, clock),
    };
    if clock.stopped() {
        return Err(LeakageError::Stopped);
    }
    match found {
        Ok(found) => {
            outcome.findings = found.findings;
            (outcome.notes, outcome.steps) = (found.notes, found.steps);
            if let Some(made) = found.pictures {
                outcome
                    .findings
                    .extend(judge(case.world, case.seen, &made)?);
                let shown = made.first(crate::kept::SHOWN);
                outcome.picture_bytes = shown.bytes.len() as u64;
                outcome.pictures = Some(shown);
            }
        }
        Err(LeakageError::Unfit(why)) => outcome.notes.push(format!("not run: {why}")),
        Err(error @ LeakageError::Untrained(_)) => {
            outcome.steps = Some(0);
            outcome.notes.push(format!("not run: {error}"));
        }
        Err(error) => return Err(error),
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}
