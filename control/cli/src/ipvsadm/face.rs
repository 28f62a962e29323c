//! The names that the program answers to beside its own: `ipvsadm`, and the two scripts that came with it.

use std::ffi::OsStr;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, ValueEnum};
use fulcrum_model::ipvsadm::{COMMANDS, Description, OPTIONS, SERVICES};

/// A name that old scripts call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// ipvsadm itself.
    Ipvsadm,
    /// `ipvsadm-save [-n]` prints the table.
    Save,
    /// `ipvsadm-restore` puts what it reads in place of the table.
    Restore,
}

impl Face {
    /// All of them.
    pub const ALL: [Face; 3] = [Face::Ipvsadm, Face::Save, Face::Restore];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Face::Ipvsadm => "ipvsadm",
            Face::Save => "ipvsadm-save",
            Face::Restore => "ipvsadm-restore",
        }
    }

    /// What a program that was called by this path is to be.
    pub fn of(called: &Path) -> Option<Face> {
        Face::ALL.into_iter().find(|face| called.file_name() == Some(OsStr::new(face.name())))
    }

    /// Its options, for what is generated from them; nothing is parsed by this.
    pub fn command(self) -> Command {
        let command = Command::new(self.name()).disable_help_flag(true).disable_version_flag(true);
        match self {
            Face::Ipvsadm => {
                let parts = [("Commands", COMMANDS), ("Services", SERVICES), ("Options", OPTIONS)];
                let arguments = parts.into_iter().flat_map(|(title, descriptions)| {
                    descriptions.iter().map(move |described| argument(described).help_heading(title))
                });
                command.about("Virtual services and their real servers, in ipvsadm's words").args(arguments)
            }
            Face::Save => {
                command.about("Print the table of virtual services as commands for ipvsadm-restore").arg(
                    Arg::new("numeric")
                        .short('n')
                        .action(ArgAction::SetTrue)
                        .help("Numbers instead of names"),
                )
            }
            Face::Restore => command.about(
                "Replace the table of virtual services by what stdin holds: lines of ipvsadm's options, as \
                 ipvsadm-save prints them. All of it or nothing is done",
            ),
        }
    }
}

impl ValueEnum for Face {
    fn value_variants<'a>() -> &'a [Face] {
        &Face::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

fn argument(described: &Description) -> Arg {
    let argument = Arg::new(described.long).long(described.long).help(described.text.replace('\n', " "));
    let argument = match described.short {
        // The one command with two letters.
        Some('L') => argument.short('L').visible_short_alias('l'),
        Some(letter) => argument.short(letter),
        None => argument,
    };
    let names: Vec<&'static str> = described.value.trim_matches(['[', ']']).split_whitespace().collect();
    match names.len() {
        0 => argument.action(ArgAction::SetTrue),
        1 if described.value.starts_with('[') => argument.value_name(names[0]).num_args(0..=1),
        several => argument.value_names(names).num_args(several),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_wherever_they_are() {
        assert_eq!(Face::of(Path::new("ipvsadm")), Some(Face::Ipvsadm));
        assert_eq!(Face::of(Path::new("/sbin/ipvsadm-save")), Some(Face::Save));
        assert_eq!(Face::of(Path::new("./ipvsadm-restore")), Some(Face::Restore));
        assert_eq!(Face::of(Path::new("/usr/bin/fulcrum")), None);
    }

    #[test]
    fn its_options_make_a_command() {
        Face::ALL.into_iter().for_each(|face| face.command().debug_assert());
        let help = Face::Ipvsadm.command().render_long_help().to_string();
        assert!(help.contains("-t, --tcp-service <service-address>"), "{help}");
        assert!(help.contains("-p, --persistent [<timeout>]"), "{help}");
    }
}
