//! A server that takes steps and nothing else.

use qtl_wire::{
    Backward, Calibration, Exchange, Forward, Prompt, Purpose, Resume, Rows, Standing, Terms,
    Tokens, WireError, Work, WorkError,
};

/// What answers a step.
pub(super) trait Steps: Send + 'static {
    /// The answer to the features of a step.
    fn answer(&mut self, f: &Forward) -> Result<Backward, WorkError>;
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

/// What a measurement does not ask for.
fn refused<T>() -> Result<T, WorkError> {
    Err(WorkError::Invalid(
        "a measurement only takes steps".to_owned(),
    ))
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
        let answer = self.steps.answer(&f)?;
        self.applied = Some(f.step + 1);
        Ok(answer)
    }

    fn calibrate(&mut self, _: Calibration) -> Result<(), WorkError> {
        refused()
    }

    fn save(&mut self, _: u64) -> Result<(), WorkError> {
        refused()
    }

    fn open(&mut self, _: Prompt) -> Result<Tokens, WorkError> {
        refused()
    }

    fn next(&mut self, _: Rows) -> Result<Tokens, WorkError> {
        refused()
    }

    fn close(&mut self) {}

    fn finish(&mut self, _: u64) -> Result<(), WorkError> {
        refused()
    }
}
