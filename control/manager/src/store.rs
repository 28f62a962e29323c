//! The stored desired state: a text file that is either the old one or the new one, whole, after any crash.
//!
//! The file holds two configurations, the desired state and the configuration file as it was last taken in, and
//! a checksum over both. It is locked as long as the store is open: two writers would undo each other.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fulcrum_model::State;
use fulcrum_model::file::{Config, to_toml};
use xxhash_rust::xxh64::xxh64;

const HEAD: &str = "# Written by fulcrum-control. Edit the configuration file instead.\n# fulcrum-state ";
const SUM: &str = " xxh64 ";
/// Which form of the file this program writes. A new one whenever the program before could not read the file, be it
/// for a key that it does not know.
const SCHEMA: u32 = 2;
/// How the halves of a file of each former form, the first one first, become those of the next.
const MIGRATIONS: [fn(String) -> String; SCHEMA as usize - 1] = [
    // 2 has keys that 1 does not have; what 1 has means the same.
    |half| half,
];
const MARK: &str = "\n# ==== the configuration file as last taken in ====\n";

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The desired state.
    pub desired: State,
    /// The configuration file that it is based on.
    pub file: Config,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("another fulcrum-control keeps its state in {}; stop it first, or give this one another --state", .0.display())]
    InUse(PathBuf),
    /// The content is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A later program wrote it.
    #[error(
        "{} has the form {found}, this fulcrum-control knows the forms 1 to {SCHEMA}: start the one that wrote it, or \
         move the file away and lose the changes made at run time", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Locked. A file of its own, since the store's is replaced at each write.
    _lock: File,
}

impl Store {
    /// Opens the store at `path`, which need not exist yet.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let directory = directory(path);
        fs::create_dir_all(directory).map_err(io("create", directory))?;
        let lock_path = beside(path, "lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Store { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(io("lock", &lock_path)(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is stored, if anything is.
    pub fn load(&self) -> Result<Option<Stored>, StoreError> {
        match fs::read(&self.path) {
            Ok(bytes) => read(&bytes).map(Some).map_err(|wrong| match wrong {
                Wrong::Damaged(why) => StoreError::Damaged { path: self.path.clone(), why },
                Wrong::Newer(found) => StoreError::Newer { path: self.path.clone(), found },
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io("read", &self.path)(source)),
        }
    }

    /// Replaces what is stored. When this returns it is on the disk.
    pub fn save(&self, stored: &Stored) -> Result<(), StoreError> {
        let new = beside(&self.path, "new");
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .map_err(io("write", &new))?;
        file.write_all(write(stored).as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &new))?;
        fs::rename(&new, &self.path).map_err(io("replace", &self.path))?;
        // The rename itself is only on the disk when the directory is.
        let directory = directory(&self.path);
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(io("write", directory))
    }

    /// Puts a damaged file aside and says where it is now.
    pub fn set_aside(&self) -> Result<PathBuf, StoreError> {
        let aside = beside(&self.path, "damaged");
        fs::rename(&self.path, &aside).map_err(io("rename", &self.path))?;
        Ok(aside)
    }
}

fn write(stored: &Stored) -> String {
    let desired = Config { state: stored.desired.clone(), ..Config::default() };
    let body = format!("{}{MARK}{}", to_toml(&desired), to_toml(&stored.file));
    format!("{HEAD}{SCHEMA}{SUM}{:016x}\n{body}", xxh64(body.as_bytes(), 0))
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Damaged(String),
    /// Of a form that is not known yet.
    Newer(u32),
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Wrong {
        Wrong::Damaged(why.to_owned())
    }
}

fn read(bytes: &[u8]) -> Result<Stored, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let rest = text.strip_prefix(HEAD).ok_or("it does not begin as a state file does")?;
    let (head, body) = rest.split_once('\n').ok_or("it ends in its first lines")?;
    let (schema, sum) = head.split_once(SUM).ok_or("it does not begin as a state file does")?;
    let schema: u32 = schema.parse().ok().filter(|form| *form > 0).ok_or("its form is no number")?;
    if sum != format!("{:016x}", xxh64(body.as_bytes(), 0)) {
        return Err("its checksum is wrong".into());
    }
    // Only a file that is whole is believed to be of a later form.
    if schema > SCHEMA {
        return Err(Wrong::Newer(schema));
    }
    let (desired, file) = body.split_once(MARK).ok_or("its second half is missing")?;
    let steps = MIGRATIONS.iter().skip(schema as usize - 1);
    let parse = |name, text: &str| {
        let text = steps.clone().fold(text.to_owned(), |text, step| step(text));
        Config::parse(name, &text).map_err(|errors| Wrong::Damaged(errors.to_string()))
    };
    Ok(Stored { desired: parse("desired state", desired)?.state, file: parse("configuration file", file)? })
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn stored() -> Stored {
        let text = "[[port]]\nname = \"wan\"\ndevice = \"eth \\\"1\\\"\\n# ==== x\"\n\
                    [[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\n";
        let file = Config::parse("test", text).unwrap();
        let mut desired = file.state.clone();
        desired.services[0].scheduler = "rr".into();
        Stored { desired, file }
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state.toml");
        let store = Store::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), None);
        store.save(&Stored::default()).unwrap();
        assert_eq!(store.load().unwrap(), Some(Stored::default()));
        store.save(&stored()).unwrap();
        assert_eq!(store.load().unwrap(), Some(stored()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_store_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        let first = Store::open(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
        drop(first);
        Store::open(&path).unwrap();
    }

    #[test]
    fn no_change_of_a_byte_and_no_cut_goes_unnoticed() {
        let whole = write(&stored()).into_bytes();
        assert_eq!(read(&whole).unwrap(), stored());
        for at in 0..whole.len() {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
    }

    /// A file as a program of that form wrote it.
    fn of_form(schema: u32, body: &str) -> String {
        format!("{HEAD}{schema}{SUM}{:016x}\n{body}", xxh64(body.as_bytes(), 0))
    }

    #[test]
    fn files_of_former_forms_are_read_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        let store = Store::open(&path).unwrap();
        let half = "[[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n";
        let first = of_form(1, &format!("{half}{MARK}{half}"));
        fs::write(&path, first).unwrap();
        let stored = store.load().unwrap().unwrap();
        assert_eq!(stored.desired.services[0].scheduler, "rr");
        store.save(&stored).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with(&format!("{HEAD}{SCHEMA} ")));
        assert_eq!(store.load().unwrap(), Some(stored));
    }

    #[test]
    fn a_later_program_s_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        let later = of_form(SCHEMA + 1, "key-of-tomorrow = 1\n");
        fs::write(&path, &later).unwrap();
        let refused = Store::open(&path).unwrap().load().unwrap_err();
        assert!(refused.to_string().contains(&format!("has the form {}", SCHEMA + 1)), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), later);
        // A wrong sum is damage, whatever form it says.
        fs::write(&path, later.replace("tomorrow", "yesterday")).unwrap();
        assert!(matches!(Store::open(&path).unwrap().load(), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        let store = Store::open(&path).unwrap();
        store.save(&stored()).unwrap();
        fs::write(beside(&path, "new"), "half a fi").unwrap();
        assert_eq!(store.load().unwrap(), Some(stored()));
        store.save(&Stored::default()).unwrap();
        assert_eq!(store.load().unwrap(), Some(Stored::default()));
    }

    #[test]
    fn a_damaged_store_can_be_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        fs::write(&path, "rubbish").unwrap();
        let store = Store::open(&path).unwrap();
        assert!(store.load().unwrap_err().to_string().contains("damaged"));
        let aside = store.set_aside().unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"rubbish");
        assert_eq!(store.load().unwrap(), None);
    }
}
