//! ipvsadm 1.31 on a Linux 6.1 kernel, recorded, against the model: the same words, byte for byte.
//!
//! A transcript is cases of `$` command, `<` lines of its input, `|` lines of its output, `!` lines of its
//! errors and `=` its exit code when not 0. `golden/kept.txt` holds what the real one said and we say,
//! `golden/commands.txt` the same for odd command lines in bulk (every option with every command, values at
//! their bounds, orders), `golden/differs.txt` what we say instead, each case with its reason.

mod transcript;

use transcript::play;

fn check(name: &str, transcript: &str, least: usize) {
    let (played, cases) = play(transcript);
    assert!(cases >= least, "{name} has lost cases: {cases}");
    let mut case = "";
    for (wanted, got) in transcript.lines().zip(played.lines()) {
        if wanted.starts_with("===") {
            case = wanted;
        }
        assert_eq!(got, wanted, "{name}: {case}");
    }
    assert_eq!(played.lines().count(), transcript.lines().count(), "{name}");
}

#[test]
fn words_are_ipvsadms() {
    check("kept.txt", include_str!("golden/kept.txt"), 138);
}

#[test]
fn odd_command_lines_are_taken_and_refused_as_ipvsadm_does() {
    check("commands.txt", include_str!("golden/commands.txt"), 29);
}

#[test]
fn differences_are_these_and_no_others() {
    check("differs.txt", include_str!("golden/differs.txt"), 14);
}
