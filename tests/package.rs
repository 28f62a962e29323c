//! What is installed: files, units, packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAMS: &str = env!("FULCRUM_PROGRAMS");
const UNITS: [&str; 5] = [
    "fulcrum-dataplane.service",
    "fulcrum-control.service",
    "fulcrum-control.socket",
    "fulcrum-ipvsadm.service",
    "fulcrum-ipvs.socket",
];

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("fulcrum-package-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a folder of this process");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command has printed, which has to succeed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}");
    said
}

/// `make install` into a folder.
fn install(root: &Path, prefix: &str) {
    let settings =
        [("DESTDIR", root.to_str().expect("a path of ours")), ("PREFIX", prefix), ("BUILT", PROGRAMS)];
    let settings = settings.map(|(name, value)| format!("{name}={value}"));
    run(Command::new("make").current_dir(SOURCE).args(["install", "IPVSADM=1"]).args(settings));
}

fn files(folder: &Path, below: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder.join(below)).unwrap_or_else(|error| panic!("{below}: {error}"));
    entries.map(|entry| entry.expect("it is listed").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn everything_is_installed_where_it_belongs() {
    let folder = Folder::new("install");
    install(&folder.0, "/usr/local");
    let read = |path: &str| {
        fs::read_to_string(folder.0.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let programs =
        ["fulcrum", "fulcrum-control", "fulcrum-dataplane", "ipvsadm", "ipvsadm-restore", "ipvsadm-save"];
    for program in programs {
        let completion = [
            (
                format!("bash-completion/completions/{program}"),
                format!(" -o bashdefault -o default {program}\n"),
            ),
            (format!("zsh/site-functions/_{program}"), format!("#compdef {program}")),
            (format!("fish/vendor_completions.d/{program}.fish"), format!("complete -c {program} ")),
        ];
        for (path, said) in completion {
            // It has no option, of which fish has nothing to say.
            let said = if path.ends_with("ipvsadm-restore.fish") { "" } else { &said };
            assert!(read(&format!("usr/local/share/{path}")).contains(said), "{path}: no `{said}`");
        }
    }
    // A page for each command that there is.
    let pages = files(&folder.0, "usr/local/share/man/man1");
    let nouns = ["fulcrum.1", "fulcrum-service-add.1", "fulcrum-status.1", "fulcrum-reference.1"];
    assert!(nouns.iter().all(|page| pages.contains(*page)), "{pages:?}");
    assert!(read("usr/local/share/man/man5/fulcrum.toml.5").contains("[[service.server]]"));
    let pages = files(&folder.0, "usr/local/share/man/man8");
    assert_eq!(pages.len(), programs.len() - 1, "{pages:?}");
    for unit in UNITS {
        let text = read(&format!("usr/local/lib/systemd/system/{unit}"));
        assert!(!text.contains("/usr/sbin/"), "{unit} starts programs that are elsewhere");
    }
    // The program finds the library that is installed with it.
    let mut command = Command::new(folder.0.join("usr/local/bin/fulcrum"));
    let said =
        run(command.args(["run", "--anyway", "sh", "-c", "echo $LD_PRELOAD; exec cat /proc/self/maps"]));
    let library = folder.0.join("usr/local/lib/fulcrum/libfulcrum_ipvs.so").display().to_string();
    assert!(said.starts_with(&format!("{library}\n")) && said.matches(&library).count() > 1, "{said}");
    let linked = folder.0.join("usr/local/sbin/ipvsadm");
    assert!(run(Command::new(linked).arg("-v")).starts_with("ipvsadm "));
    let example = folder.0.join("usr/local/share/doc/fulcrum/examples/fulcrum.toml");
    run(Command::new(folder.0.join("usr/local/bin/fulcrum")).arg("check").arg(example));
    // What an operator has changed stays.
    fs::write(folder.0.join("etc/default/fulcrum"), "changed").expect("it is there");
    install(&folder.0, "/usr/local");
    assert_eq!(read("etc/default/fulcrum"), "changed");
}

#[test]
fn units_are_right_and_hardened() {
    let folder = Folder::new("units");
    install(&folder.0, "/usr");
    // Beside the system's own units, and the program of it that ours call.
    run(Command::new("cp").args(["-a", "/lib/systemd/system"]).arg(folder.0.join("usr/lib/systemd")));
    fs::create_dir(folder.0.join("bin")).expect("a new folder");
    fs::copy("/bin/sh", folder.0.join("bin/sh")).expect("a program");
    let verify = || {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=one"]);
        command.arg(format!("--root={}", folder.0.display())).args(UNITS);
        command
    };
    assert_eq!(run(&mut verify()), "");
    for (unit, threshold) in [(UNITS[0], "45"), (UNITS[1], "20"), (UNITS[3], "20")] {
        let unit = folder.0.join("usr/lib/systemd/system").join(unit);
        run(Command::new("systemd-analyze")
            .args(["security", "--offline=yes", "--no-pager", "--threshold", threshold])
            .arg(unit));
    }
    // That it would be noticed.
    fs::remove_file(folder.0.join("usr/sbin/fulcrum-control")).expect("it was installed");
    let said = verify().output().expect("it ran");
    assert!(String::from_utf8_lossy(&said.stderr).contains("fulcrum-control is not executable"), "{said:?}");
}

/// Beside the units of keepalived and ldirectord as their packages bring them.
#[test]
fn drop_ins_for_programs_of_ipvs_are_right() {
    let folder = Folder::new("drop-ins");
    install(&folder.0, "/usr");
    run(Command::new("cp").args(["-a", "/lib/systemd/system"]).arg(folder.0.join("usr/lib/systemd")));
    let verify = || {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=one"]);
        command
            .arg(format!("--root={}", folder.0.display()))
            .args(["keepalived.service", "ldirectord.service"]);
        String::from_utf8_lossy(&command.output().expect("it ran").stderr).into_owned()
    };
    for name in ["keepalived", "ldirectord"] {
        let example = format!("usr/share/doc/fulcrum/examples/{name}-fulcrum.conf");
        let text = fs::read_to_string(folder.0.join(example)).expect("it is installed");
        let (head, _) = text.split_once("\n[Unit]").expect("it says what it is first");
        let place = format!("/etc/systemd/system/{name}.service.d/fulcrum.conf");
        assert!(head.ends_with(&format!("{place}:")), "{head}");
        let library = text.lines().find_map(|line| line.strip_prefix("Environment=LD_PRELOAD=/"));
        assert!(folder.0.join(library.expect("it preloads")).is_file());
        let place = folder.0.join(place.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("it is in a folder")).expect("a new folder");
        fs::write(&place, &text).expect("a new file");
        let said = verify();
        assert!(!said.contains("fulcrum.conf") && !said.contains("fulcrum-control"), "{said}");
        // That it would be noticed.
        fs::write(&place, format!("{text}Environmant=\n")).expect("it is ours");
        assert!(verify().contains("fulcrum.conf"), "{said}");
        fs::write(&place, text).expect("it is ours");
    }
}

#[test]
fn users_and_folders_are_made_as_the_units_want_them() {
    let folder = Folder::new("users");
    install(&folder.0, "/usr");
    let root = format!("--root={}", folder.0.display());
    run(Command::new("systemd-sysusers").args([&root, "fulcrum.conf"]));
    let users = fs::read_to_string(folder.0.join("etc/passwd")).expect("users");
    assert!(
        users.lines().any(|line| line.starts_with("fulcrum:") && line.contains(":/var/lib/fulcrum:")),
        "{users}"
    );
    run(Command::new("systemd-tmpfiles").args(["--create", &root, "fulcrum.conf"]));
    assert!(folder.0.join("run/fulcrum").is_dir() && folder.0.join("var/lib/fulcrum").is_dir());
}

/// The page's own lines, in a machine's place: namespaces of their own for interfaces, processes and files.
#[test]
fn the_first_steps_lead_to_a_service_that_answers() {
    let page = fs::read_to_string(Path::new(SOURCE).join("docs/getting-started.md")).expect("the page");
    let section =
        page.split("\n## ").find(|section| section.starts_with("Without a NIC")).expect("the section");
    let blocks = |language: &str| -> Vec<&str> {
        let open = format!("```{language}\n");
        section.split(&open).skip(1).filter_map(|rest| rest.split("```").next()).collect()
    };
    let folder = Folder::new("start");
    fs::write(folder.0.join("fulcrum.toml"), blocks("toml")[0]).expect("a new file");
    let steps = blocks("sh").concat();
    assert!(steps.contains("fulcrum-control --config"), "{steps}");
    let script = format!("set -eu\nmount -t tmpfs none /run\nmount -t sysfs none /sys\n{steps}");
    let path = format!("{PROGRAMS}:{}", std::env::var("PATH").unwrap_or_default());
    let said = run(Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
        .env("PATH", path)
        .current_dir(&folder.0));
    for server in ["web1", "web2"] {
        assert_eq!(said.lines().filter(|line| *line == server).count(), 2, "{said}");
    }
}

/// No engine builds it here. What it installs exists in the Debian that it names, and is what the package depends on; what
/// it copies is there.
#[test]
fn the_image_has_what_the_programs_need() {
    let recipe =
        fs::read_to_string(Path::new(SOURCE).join("deploy/container/Containerfile")).expect("the recipe");
    let stages: Vec<&str> = recipe.split("\nFROM ").skip(1).collect();
    assert_eq!(stages.len(), 2, "building and running");
    let packages = |stage: &str| -> BTreeSet<String> {
        let list = stage.split("--no-install-recommends").nth(1).expect("it installs").split("&&").next();
        let list = list.expect("there is a first part").split("\nENV").next().expect("as before");
        list.split([' ', '\\', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut known = Command::new("apt-cache");
    known.arg("show").args(stages.iter().flat_map(|stage| packages(stage)));
    run(known.stdout(std::process::Stdio::null()));
    let running = packages(stages[1]);
    for program in ["fulcrum", "fulcrum-dataplane", "fulcrum-control"] {
        assert!(
            recipe.contains(&format!("--bin {program}")) && recipe.contains(&format!("/release/{program}")),
            "{program}"
        );
        let linked = run(Command::new("ldd").arg(Path::new(PROGRAMS).join(program)));
        for library in linked.lines().filter_map(|line| line.split_whitespace().next()) {
            if let Some((name, version)) =
                library.strip_prefix("librte_").and_then(|name| name.split_once(".so."))
            {
                let package = format!("librte-{}{version}", name.replace('_', "-"));
                // What these need comes with them.
                let indirect = ["kvargs", "telemetry", "net", "ring", "meter"].contains(&name);
                assert!(indirect || running.contains(&package), "{program} needs {package}");
            }
        }
    }
    let rules = fs::read_to_string(Path::new(SOURCE).join("deploy/debian/rules")).expect("the rules");
    let drivers =
        rules.lines().find_map(|line| line.strip_prefix("depends := $(foreach part,")).expect("drivers");
    for part in drivers.split(',').next().expect("a list").split_whitespace() {
        assert!(
            running.iter().any(|name| name.starts_with(&format!("librte-{part}"))),
            "the image has no {part}"
        );
    }
}

#[test]
fn packages_are_of_the_version_of_the_programs() {
    let changelog =
        fs::read_to_string(Path::new(SOURCE).join("deploy/debian/changelog")).expect("the changelog");
    let first = changelog.lines().next().unwrap_or_default();
    assert!(first.starts_with(&format!("fulcrum ({}-", env!("FULCRUM_VERSION"))), "{first}");
}

#[test]
fn packages_are_installed_run_upgraded_and_purged() {
    let said = run(Command::new(Path::new(SOURCE).join("tests/package/chroot")).arg(PROGRAMS));
    assert!(said.ends_with("== fine\n"), "{said}");
}
