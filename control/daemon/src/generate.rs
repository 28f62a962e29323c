//! Manual pages and completions of the daemons, for who packs them.

use std::io::{self, Write};

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

/// The option that has a daemon print what is generated from its arguments.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Generate {
    /// Print the manual page, or a shell's completions, and end
    #[arg(long, value_name = "WHAT", hide = true)]
    pub generate: Option<What>,
}

/// What is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The manual page.
    Man,
    /// Completions.
    Completion(Shell),
}

impl ValueEnum for What {
    fn value_variants<'a>() -> &'a [What] {
        &[
            What::Man,
            What::Completion(Shell::Bash),
            What::Completion(Shell::Elvish),
            What::Completion(Shell::Fish),
            What::Completion(Shell::PowerShell),
            What::Completion(Shell::Zsh),
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            What::Man => Some("man".into()),
            What::Completion(shell) => shell.to_possible_value(),
        }
    }
}

impl Generate {
    /// Prints what was asked for; whether anything was.
    pub fn print(self, mut command: Command, out: &mut impl Write) -> io::Result<bool> {
        let Some(what) = self.generate else { return Ok(false) };
        let mut text = Vec::new();
        match what {
            What::Man => Man::new(command).section("8").render(&mut text)?,
            What::Completion(shell) => {
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut text);
            }
        }
        out.write_all(&text)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_be_asked_for_names_the_program_and_its_options() {
        let command =
            Generate::augment_args(Command::new("a-daemon").arg(clap::Arg::new("taste").long("taste")));
        for what in What::value_variants() {
            let mut text = Vec::new();
            let asked = Generate { generate: Some(*what) };
            assert!(asked.print(command.clone(), &mut text).unwrap());
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("a-daemon") && text.contains("taste"), "{what:?}: {text}");
        }
        assert!(!Generate::default().print(command, &mut Vec::new()).unwrap());
    }
}
