//! The conversation on the terminal: questions in, answers out as their tokens come.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use qtl_data::{AnswerStream, Tokenizer, Turn};

use super::interrupt::Interrupt;
use super::tally::Clock;

/// Continues a conversation whose last turn is open. It hands every token to the function that it is given and stops when
/// that returns `false`.
pub type Answer<'a> = &'a mut dyn FnMut(&[Turn], &mut dyn FnMut(u32) -> bool) -> Result<()>;

/// Asks the one question, or reads questions until there are no more; shows answers and remembers both. How fast it went is
/// said at the end, on standard error.
pub fn talk(tokenizer: &Tokenizer, question: Option<&str>, answer: Answer<'_>) -> Result<()> {
    let interactive = question.is_none() && std::io::stdin().is_terminal();
    let mut talk = Talk {
        tokenizer,
        turns: Vec::new(),
        interrupt: Interrupt::install(interactive)?,
    };
    let outcome = match question {
        Some(question) => talk.turn(question, answer),
        None => talk.turns(interactive, answer),
    };
    talk.interrupt.tally().show();
    outcome
}

struct Talk<'a> {
    tokenizer: &'a Tokenizer,
    turns: Vec<Turn>,
    interrupt: Interrupt,
}

impl Talk<'_> {
    fn turns(&mut self, interactive: bool, answer: Answer<'_>) -> Result<()> {
        if interactive {
            eprintln!("One question per line; /new begins a new conversation, Ctrl-D ends.");
        }
        loop {
            if interactive {
                eprint!("> ");
            }
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            if read.context("cannot read the question from standard input")? == 0 {
                if interactive {
                    eprintln!();
                }
                return Ok(());
            }
            match line.trim() {
                "" => {}
                "/new" => self.turns.clear(),
                question => match self.turn(question, answer) {
                    // Someone who types can say it in another way.
                    Err(error) if interactive => eprintln!("error: {error:#}"),
                    outcome => outcome?,
                },
            }
        }
    }

    /// One question and its answer; neither is remembered if the answer fails.
    fn turn(&mut self, question: &str, answer: Answer<'_>) -> Result<()> {
        self.turns.push(Turn {
            question: question.to_owned(),
            answer: None,
        });
        match self.said(answer) {
            Ok(said) => {
                if let Some(turn) = self.turns.last_mut() {
                    turn.answer = Some(said);
                }
                Ok(())
            }
            Err(error) => {
                self.turns.pop();
                Err(error)
            }
        }
    }

    fn said(&mut self, answer: Answer<'_>) -> Result<String> {
        let mut out = std::io::stdout().lock();
        let terminal = out.is_terminal();
        let mut stream = AnswerStream::new(self.tokenizer);
        let mut failed = None;
        let mut show = |mut piece: String| -> Result<()> {
            if terminal {
                // A model is not to steer the terminal.
                piece.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
            }
            crate::output::piece(&mut out, &piece)
        };
        let mut clock = Clock::start();
        self.interrupt.begin();
        let outcome = answer(&self.turns, &mut |id| {
            clock.token();
            let piece = stream.push(id).map_err(anyhow::Error::from);
            failed = piece.and_then(&mut show).err();
            failed.is_none() && self.interrupt.go_on()
        });
        self.interrupt.end();
        self.interrupt.tally().add(&clock);
        outcome?;
        if let Some(error) = failed {
            return Err(error).context("cannot write the answer");
        }
        let rest = stream.end()?;
        show(rest + "\n").context("cannot write the answer")?;
        Ok(stream.given().to_owned())
    }
}
