//! Certificates as an operator makes them, by openssl.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An authority, and files that it signed.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes one in a folder of its own below `folder`.
    pub(crate) fn new(folder: &Path, name: &str) -> Authority {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let authority = Authority { folder };
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN={name}"
        ));
        authority
    }

    /// Signs a certificate for a name; its files are `NAME.pem` and `NAME.key`.
    pub(crate) fn sign(&self, name: &str, alternatives: &str) {
        std::fs::write(self.path("extensions"), format!("subjectAltName={alternatives}\n")).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
        ));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn openssl(&self, words: &str) {
        let done = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(&self.folder)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "openssl {words}");
    }
}
