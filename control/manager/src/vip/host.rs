//! Addresses of the host's interfaces, by rtnetlink: seen, put there, taken off.
//!
//! What was put there carries a mark of ours, which the kernel keeps (`ip -d addr` shows it as `proto`). So an address of
//! the operator's is never taken off, and what a process that was killed had put is known to the next one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use rtnetlink::Handle;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::link::LinkAttribute;
use tokio_stream::StreamExt as _;
use xxhash_rust::xxh64::xxh64;

/// What addresses are marked with by those who keep their state at `store`: processes side by side leave each other's
/// alone. The kernel takes the first few numbers for itself. // linux/if_addr.h: IFA_PROTO, IFAPROT_KERNEL_LO
pub fn mark_of(store: &Path) -> u8 {
    let spread = xxh64(store.as_os_str().as_encoded_bytes(), 0) % 128;
    0x80 | u8::try_from(spread).unwrap_or(0)
}

/// Why an address could not be seen, put or taken off.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no netlink.
    #[error("no netlink socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The host has no such interface.
    #[error("the host has no interface `{0}`")]
    NoInterface(String),
    /// It may not.
    #[error("it takes CAP_NET_ADMIN to put addresses on an interface of the host")]
    NotAllowed,
    /// The kernel does not keep the mark.
    #[error("this kernel does not keep who put an address there; announcing takes Linux 5.18 or newer")]
    NoMarks,
    /// The kernel said something else.
    #[error("netlink: {0}")]
    Netlink(rtnetlink::Error),
}

impl From<rtnetlink::Error> for HostError {
    fn from(error: rtnetlink::Error) -> HostError {
        const NOT_PERMITTED: i32 = -1;
        const NO_ACCESS: i32 = -13;
        match &error {
            rtnetlink::Error::NetlinkError(message)
                if matches!(message.raw_code(), NOT_PERMITTED | NO_ACCESS) =>
            {
                HostError::NotAllowed
            }
            _ => HostError::Netlink(error),
        }
    }
}

/// An interface's name and an address on it.
pub type Place = (String, IpAddr);

/// What is at a place.
#[derive(Clone, Debug)]
pub struct There {
    /// Whether we put it there.
    pub ours: bool,
    message: AddressMessage,
}

/// The host that this process runs on.
#[derive(Debug)]
pub struct Host {
    handle: Handle,
    mark: AddressProtocol,
}

impl Host {
    /// Opens a socket, to put addresses with this mark; its other half lives in the runtime.
    pub fn open(mark: u8) -> Result<Host, HostError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Host { handle, mark: mark.into() })
    }

    /// All addresses of all interfaces.
    pub async fn addresses(&self) -> Result<BTreeMap<Place, There>, HostError> {
        let names: BTreeMap<u32, String> =
            self.interfaces().await?.into_iter().map(|(name, at)| (at, name)).collect();
        let mut found = BTreeMap::new();
        let mut stream = std::pin::pin!(self.handle.address().get().execute());
        while let Some(message) = stream.next().await {
            let message = message?;
            let Some(name) = names.get(&message.header.index) else { continue };
            let ours = message.attributes.contains(&AddressAttribute::Protocol(self.mark));
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let other = || {
                message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            };
            if let Some(address) = local.or_else(other) {
                found.insert((name.clone(), address), There { ours, message });
            }
        }
        Ok(found)
    }

    async fn interfaces(&self) -> Result<BTreeMap<String, u32>, HostError> {
        let mut found = BTreeMap::new();
        let mut stream = std::pin::pin!(self.handle.link().get().execute());
        while let Some(message) = stream.next().await {
            let message = message?;
            for attribute in message.attributes {
                if let LinkAttribute::IfName(name) = attribute {
                    found.insert(name, message.header.index);
                }
            }
        }
        Ok(found)
    }

    /// Puts an address on an interface, alone in its network.
    pub async fn put(&self, (name, address): &Place) -> Result<(), HostError> {
        let index = self.interfaces().await?.get(name).copied();
        let index = index.ok_or_else(|| HostError::NoInterface(name.clone()))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(index, *address, bits);
        let message = request.message_mut();
        message.attributes.push(AddressAttribute::Protocol(self.mark));
        if address.is_ipv6() {
            // Other directors have it, too.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await?;
        let there = self.addresses().await?.remove(&(name.clone(), *address));
        match there {
            Some(there) if !there.ours => {
                self.take_off(there).await?;
                Err(HostError::NoMarks)
            }
            _ => Ok(()),
        }
    }

    /// Takes an address off.
    pub async fn take_off(&self, there: There) -> Result<(), HostError> {
        Ok(self.handle.address().del(there.message).execute().await?)
    }
}
