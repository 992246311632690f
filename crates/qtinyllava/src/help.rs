//! The command line as clap knows it, with examples that can be copied from `--help`: clap breaks long lines at the
//! terminal's width, also inside of a command.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};

use crate::Cli;

/// A blank at which clap breaks no line; it becomes a plain one again before anybody sees it.
const HARD: char = '\u{a0}';

/// What is asked for, or how the program ends when it was asked for help or cannot be understood.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let mut command = command();
    let parsed = command
        .try_get_matches_from_mut(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let text = error.render();
        let asked = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = !plain
            && if asked {
                std::io::stdout().is_terminal()
            } else {
                std::io::stderr().is_terminal()
            };
        let text = if coloured {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        let text = text.replace(HARD, " ");
        if asked {
            print!("{text}");
        } else {
            eprint!("{text}");
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// The whole tree of commands.
fn command() -> Command {
    prepared(Cli::command())
}

fn prepared(command: Command) -> Command {
    let examples = command.get_after_help().map(ToString::to_string);
    let mut command = command.mut_args(|arg| {
        // Otherwise -1 is said to be an unknown flag, and not what is wrong with it.
        let takes = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes)
    });
    if let Some(text) = examples {
        command = command.after_help(hardened(&text));
    }
    command.mut_subcommands(prepared)
}

/// The same text, in which the indented lines, which are commands, cannot be broken.
fn hardened(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.starts_with(' ') {
            line.replace(' ', &HARD.to_string())
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The examples in a rendered help, each as one line.
    fn examples(help: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut open = false;
        for line in help.lines() {
            if open || line.starts_with("  qtinyllava ") {
                let (text, more) = match line.strip_suffix('\\') {
                    Some(text) => (text, true),
                    None => (line, false),
                };
                match found.last_mut() {
                    Some(last) if open => last.push_str(text),
                    _ => found.push(text.to_owned()),
                }
                open = more;
            }
        }
        found
    }

    /// The words of a line as a shell would take it, without variables: quotes and a comment at the end.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (Some(q), _) if c == q => quote = None,
                (Some(_), _) => word.get_or_insert_default().push(c),
                (None, '\'' | '"') => {
                    word.get_or_insert_default();
                    quote = Some(c);
                }
                (None, ' ') => words.extend(word.take()),
                (None, '#') if word.is_none() => return words,
                // What a shell gives another meaning stands in no example.
                (None, '{' | '}' | '(' | ')' | '$' | '&' | ';' | '|' | '<' | '>' | '*') => {
                    panic!("{c:?} in {line:?} needs quotes")
                }
                (None, _) => word.get_or_insert_default().push(c),
            }
        }
        assert!(quote.is_none(), "an open quote in {line:?}");
        words.extend(word);
        words
    }

    /// The helps of all commands as a terminal of this width shows them.
    fn helps(command: &mut Command, width: usize, found: &mut Vec<(String, String)>) {
        let mut shown = command.clone().term_width(width).max_term_width(width);
        let text = shown.render_help().to_string().replace(HARD, " ");
        found.push((command.get_name().to_owned(), text));
        for sub in command.get_subcommands_mut() {
            if sub.get_name() != "help" {
                helps(sub, width, found);
            }
        }
    }

    #[test]
    fn every_example_can_be_copied_from_help_at_any_width() {
        for width in [40, 80, 100, 200] {
            let mut all = Vec::new();
            helps(&mut command(), width, &mut all);
            assert!(all.len() > 10, "{}", all.len());
            for (name, help) in all {
                let found = examples(&help);
                if help.contains("Example") {
                    assert!(!found.is_empty(), "{name} has no example in\n{help}");
                }
                for line in found {
                    let words = words(&line);
                    let parsed = command().try_get_matches_from(&words);
                    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
                    assert!(parsed.is_ok(), "{line}\n{}", parsed.err().unwrap());
                    for set in words.iter().filter(|word| word.contains("={")) {
                        let (_, value) = set.split_once('=').unwrap();
                        let toml = format!("value = {value}");
                        assert!(toml.contains('\''), "the shell has eaten the quotes: {set}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_shell_s_words() {
        assert_eq!(words("a  'b c' d\"e\" # f"), ["a", "b c", "de"]);
    }
}
