//! Files that a configuration includes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fulcrum_model::file::read_text;

/// Finds and reads included files.
pub trait Files {
    /// The files that `pattern` names, in order: `*` and `?` stand for other characters of a file's name.
    fn find(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;

    /// The text of one.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Those of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn find(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let Some(name) = pattern.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
        if !name.contains(['*', '?']) {
            return Ok(vec![pattern.to_owned()]);
        }
        let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|entry| fits(name.as_bytes(), entry.as_bytes())) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::File::open(path).and_then(read_text)
    }
}

/// Whether `name` is what `pattern` describes. As a shell has it, `*` does not stand for a dot at the beginning.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // The last `*`, and how much of the name it stands for, to come back to.
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[of] => (at, of) = (at + 1, of + 1),
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                (at, of) = (back + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, yes) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.old", false),
            ("*.conf", ".a.conf", false),
            (".*", ".a", true),
            ("a?c*e", "abcdde", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "x", true),
            ("?", "", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), yes, "{pattern} {name}");
        }
    }
}
