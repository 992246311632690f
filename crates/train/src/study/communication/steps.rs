//! A server that takes steps and nothing else.

use qtl_wire::{
    Backward, Exchange, Forward, Purpose, Resume, Standing, Terms, WireError, Work, WorkError,
};

/// What answers a step.
pub(super) trait Steps: Send + 'static {
    /// The answer to the features of the step with this number.
    fn answer(&mut self, step: u64, f: &Forward) -> Result<Backward, WorkError>;
}

/// A server of a measurement: no weights that move, no checkpoints, no generation.
pub(super) struct OnlySteps<S> {
    /// What answers.
    pub(super) steps: S,
    applied: Option<u64>,
}

impl<S> OnlySteps<S> {
    pub(super) fn new(steps: S) -> Self {
        Self {
            steps,
            applied: None,
        }
    }
}

/// Opens the session with such a server.
pub(super) fn greet(link: &mut impl Exchange) -> Result<Resume, WireError> {
    let standing = Standing {
        run: "measurement".into(),
        ..Standing::default()
    };
    link.greet(&Terms::default(), &standing, Purpose::Train)
}

impl<S: Steps> Work for OnlySteps<S> {
    fn terms(&self) -> Terms {
        Terms::default()
    }

    fn standing(&self) -> Standing {
        Standing {
            live: self.applied,
            ..Standing::default()
        }
    }

    fn restore(&mut self, step: u64) -> Result<(), WorkError> {
        self.applied = Some(step);
        Ok(())
    }

    fn step(&mut self, f: Forward) -> Result<Backward, WorkError> {
        let step = self.applied.unwrap_or(0);
        let answer = self.steps.answer(step, &f)?;
        self.applied = Some(step + 1);
        Ok(answer)
    }
}
