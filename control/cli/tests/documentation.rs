//! The commands that the documentation names are ones that there are.

use clap::Parser as _;
use clap::error::ErrorKind;
use fulcrum_cli::command::Arguments;
use fulcrum_director::Reason;

fn pages() -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let docs = std::fs::read_dir(format!("{root}/docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain(["README.md", "CHANGELOG.md"].map(|page| format!("{root}/{page}").into()));
    pages.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The lines of a page's blocks for a shell, which are whole, and what its text has between back quotes, which may only
/// be the beginning of a command.
fn commands(page: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 0 {
            found.extend(part.split('`').skip(1).step_by(2).map(|command| (command, false)));
        } else if let Some(block) = part.strip_prefix("sh\n") {
            found.extend(block.lines().flat_map(|line| line.split(" | ")).map(|command| (command, true)));
        }
    }
    found
}

#[test]
fn every_command_is_understood() {
    let mut seen = 0;
    for (name, page) in pages() {
        for (command, whole) in commands(&page) {
            // What is cut out cannot be tried.
            if !command.starts_with("fulcrum ") || command.contains('…') {
                continue;
            }
            let words = command.split_whitespace().take_while(|word| !["#", "&", "<", ">"].contains(word));
            let fault = Arguments::try_parse_from(words).err().filter(|error| match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => false,
                ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => whole,
                _ => true,
            });
            assert!(fault.is_none(), "{name}: `{command}`: {}", fault.unwrap());
            seen += 1;
        }
    }
    assert!(seen >= 30, "the documentation has commands: {seen}");
}

#[test]
fn the_page_about_trouble_has_all_reasons_for_drops() {
    let (_, page) = pages().into_iter().find(|(name, _)| name.ends_with("troubleshooting.md")).unwrap();
    for reason in Reason::ALL {
        let line = format!("| `{reason}` | {} | {} |", reason.meaning(), reason.remedy().advice);
        assert!(page.lines().any(|is| is == line), "docs/troubleshooting.md lacks:\n{line}");
    }
}
