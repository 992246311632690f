//! Every subcommand explains itself with an example.

use crate::program::run;

#[test]
fn every_subcommand_has_help_with_an_example() {
    let commands = [
        "",
        "demo",
        "data scenes",
        "data tokenizer",
        "data random-model",
        "certs",
        "serve",
        "train",
        "merge",
        "compose",
        "devices",
        "export",
        "inspect",
        "leakage",
        "verify",
        "compare",
        "eval",
        "chat",
        "align",
        "bench codec",
        "check",
        "plan",
    ];
    for command in commands {
        let help = run(command.split_whitespace().chain(["--help"])).succeeds();
        assert!(
            help.stdout.contains("Example"),
            "{command}: {}",
            help.stdout
        );
    }
    let top = run(["--help"]).stdout;
    let listed = top
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // Longer descriptions go on, further in, on the next line.
        .filter(|line| !line.starts_with("   "));
    for name in listed
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
    {
        assert!(
            commands.iter().any(|c| c.split(' ').next() == Some(name)),
            "{name} is not looked at here"
        );
    }
}
