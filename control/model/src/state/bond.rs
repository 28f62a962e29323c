//! Several devices that are one port.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Devices that DPDK's bonding driver makes one port of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bond {
    /// How they are used.
    pub mode: BondMode,
    /// The devices, each written as a port's device is.
    pub members: Vec<String>,
}

impl Bond {
    /// Members at most.
    pub const MOST: usize = 8;
}

/// How the members of a bond are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// One carries everything, another takes over when its link goes down.
    ActiveBackup {
        /// The member that is used whenever its link is up, `None` = whichever is in use stays so.
        primary: Option<String>,
    },
    /// All carry traffic that the partner has agreed on by LACP. // IEEE 802.1AX
    Lacp {
        /// What of a packet chooses the member that sends it.
        hash: BondHash,
    },
}

impl BondMode {
    /// The mode's word.
    pub const fn name(&self) -> &'static str {
        match self {
            BondMode::ActiveBackup { .. } => "active-backup",
            BondMode::Lacp { .. } => "lacp",
        }
    }
}

/// What of a packet chooses the member that sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondHash {
    /// MAC addresses.
    Layer2,
    /// MAC and IP addresses.
    Layer23,
    /// IP addresses and ports.
    #[default]
    Layer34,
}

impl BondHash {
    /// All of them with their names, which are those of Linux.
    pub const WORDS: [(&'static str, BondHash); 3] =
        [("layer2", BondHash::Layer2), ("layer2+3", BondHash::Layer23), ("layer3+4", BondHash::Layer34)];
}

impl fmt::Display for BondHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = BondHash::WORDS.iter().find(|(_, hash)| hash == self).map_or("layer3+4", |(word, _)| word);
        f.write_str(word)
    }
}

impl fmt::Display for Bond {
    /// As in `active-backup:eth1+eth2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.mode.name(), self.members.join("+"))
    }
}
