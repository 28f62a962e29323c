//! The controller of generic netlink, as far as tools ask it: which number the family has.

use crate::Errno;
use crate::attribute::{Attributes, Policy, Writer};
use crate::family::{self, command, top};

/// The controller's own number.
pub(crate) const CONTROLLER: u16 = 0x10;
/// Ours. In a kernel it is whatever is free; tools ask.
pub const FAMILY_ID: u16 = 0x1c;

/// Version of the controller.
pub(crate) const VERSION: u8 = 2;
/// Commands of the controller.
pub(crate) const NEW_FAMILY: u8 = 1;
pub(crate) const GET_FAMILY: u8 = 3;

mod attribute {
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
    pub(super) const VERSION: u16 = 3;
    pub(super) const HDRSIZE: u16 = 4;
    pub(super) const MAXATTR: u16 = 5;
    pub(super) const OPS: u16 = 6;
    pub(super) const OP_ID: u16 = 1;
    pub(super) const OP_FLAGS: u16 = 2;
}

/// What can be done with a command: GENL_ADMIN_PERM and so on.
const ADMIN: u32 = 1;
const DO: u32 = 2;
const DUMP: u32 = 4;
const HAS_POLICY: u32 = 8;

/// A family that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The controller.
    Controller,
    /// IPVS.
    Ipvs,
}

impl Known {
    /// Both.
    pub const ALL: [Known; 2] = [Known::Controller, Known::Ipvs];

    const fn id(self) -> u16 {
        match self {
            Known::Controller => CONTROLLER,
            Known::Ipvs => FAMILY_ID,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Known::Controller => "nlctrl",
            Known::Ipvs => family::NAME,
        }
    }

    /// Which one a message asks for, by name or else by number.
    pub(crate) fn asked(bytes: &[u8]) -> Result<Known, Errno> {
        // The number comes first in the kernel; of a message with both the name decides.
        let attributes = Attributes::read(bytes, &[Policy::AtLeast(2), Policy::Text(15)])?;
        let id = attributes.u16(attribute::FAMILY_ID);
        let name = attributes.text(attribute::FAMILY_NAME);
        if id.is_none() && name.is_none() {
            return Err(Errno::EINVAL);
        }
        let is = |known: &Known| match &name {
            Some(name) => known.name() == name,
            None => Some(known.id()) == id,
        };
        Known::ALL.into_iter().find(is).ok_or(Errno::ENOENT)
    }

    pub(crate) fn write(self, out: &mut Writer<'_>) {
        let (version, attributes): (u8, usize) = match self {
            Known::Controller => (VERSION, 0),
            Known::Ipvs => (family::VERSION, top::MAX),
        };
        out.text(attribute::FAMILY_NAME, self.name());
        out.u16(attribute::FAMILY_ID, self.id());
        out.u32(attribute::VERSION, version.into());
        out.u32(attribute::HDRSIZE, 0);
        out.u32(attribute::MAXATTR, u32::try_from(attributes).unwrap_or(0));
        out.nest(attribute::OPS, |out| {
            let operations: &[(u8, u32)] = match self {
                Known::Controller => &[(GET_FAMILY, DO | DUMP | HAS_POLICY)],
                Known::Ipvs => &OPERATIONS,
            };
            for (number, (command, flags)) in (1..).zip(operations) {
                out.nest(number, |out| {
                    out.u32(attribute::OP_ID, u32::from(*command));
                    out.u32(attribute::OP_FLAGS, *flags);
                });
            }
        });
    }
}

const SET: u32 = ADMIN | DO | HAS_POLICY;

/// The family's commands, in the kernel's order.
pub(crate) const OPERATIONS: [(u8, u32); 16] = [
    (command::NEW_SERVICE, SET),
    (command::SET_SERVICE, SET),
    (command::DEL_SERVICE, SET),
    (command::GET_SERVICE, SET | DUMP),
    (command::NEW_DEST, SET),
    (command::SET_DEST, SET),
    (command::DEL_DEST, SET),
    (command::GET_DEST, ADMIN | DUMP | HAS_POLICY),
    (command::NEW_DAEMON, SET),
    (command::DEL_DAEMON, SET),
    (command::GET_DAEMON, ADMIN | DUMP | HAS_POLICY),
    (command::SET_CONFIG, SET),
    (command::GET_CONFIG, SET),
    (command::GET_INFO, SET),
    (command::ZERO, SET),
    (command::FLUSH, SET),
];

/// Whether there is such a command, for all or for one.
pub(crate) fn takes(command: u8, dump: bool) -> bool {
    let wanted = if dump { DUMP } else { DO };
    OPERATIONS.iter().any(|(known, flags)| *known == command && flags & wanted != 0)
}
