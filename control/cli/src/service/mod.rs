//! `fulcrum service`: virtual services.

mod overrides;
mod row;

use std::net::{IpAddr, Ipv4Addr};

use clap::builder::BoolishValueParser;
use clap::{Subcommand, ValueEnum};
use fulcrum_model::state::scheduler_flag_words;
use fulcrum_model::validate::DEFAULT_SCHEDULER;
use fulcrum_model::{
    Announce, Announcement, ClientAddress, Edit, LocalAddress, Service, ServiceKey, prefix_of_mask,
};

use crate::command::Global;
use crate::failure::Failure;
use crate::health::ServiceOptions;
use crate::name::{AnyService, ServiceName, unless_none};
use crate::output::Output;
use crate::table;
use crate::timeout::Assignment;

pub use row::{ServiceRow, rows};

/// Virtual services.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the services
    List,
    /// Show a service and its servers with their counters
    Show(ServiceName),
    /// Add a service
    Add {
        /// Which one
        #[command(flatten)]
        name: ServiceName,
        /// How it is
        #[command(flatten)]
        settings: Box<Settings>,
        /// A local address of the service's own for FULLNAT (may be repeated)
        #[arg(long, value_name = "ADDRESS")]
        local_address: Vec<IpAddr>,
    },
    /// Change what is named of a service; its servers and sessions stay
    Edit {
        /// Which one
        #[command(flatten)]
        name: ServiceName,
        /// How it shall be
        #[command(flatten)]
        settings: Box<Settings>,
        /// A local address to add (may be repeated)
        #[arg(long, value_name = "ADDRESS")]
        add_local_address: Vec<IpAddr>,
        /// A local address to take away (may be repeated)
        #[arg(long, value_name = "ADDRESS")]
        delete_local_address: Vec<IpAddr>,
    },
    /// Delete a service with its servers
    Delete(ServiceName),
    /// Zero the counters of a service, or of all
    Zero(AnyService),
    /// What services have beside what tools written for IPVS can say, whether the services are there or not
    #[command(subcommand)]
    Override(overrides::Command),
}

/// Settings of a service.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// How connections are given to servers, such as rr, wlc, sh or mh [default: wlc]
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// How the scheduler works, such as mh-port,mh-fallback; `none` for no flags
    #[arg(long, value_name = "FLAG,…", value_delimiter = ',')]
    pub scheduler_flags: Option<Vec<String>>,
    /// Whether every datagram is scheduled anew (UDP)
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "yes", value_parser = BoolishValueParser::new())]
    pub one_packet: Option<bool>,
    /// Seconds for which a client stays with its server, 0 = off
    #[arg(long, value_name = "SECONDS")]
    pub persistent: Option<u32>,
    /// What persistence goes by, such as sip; `none` for the client's address
    #[arg(long, value_name = "NAME")]
    pub persistence_engine: Option<String>,
    /// Clients alike in so many leading bits stay together
    #[arg(long, value_name = "BITS", conflicts_with = "netmask")]
    pub prefix: Option<u8>,
    /// The same as a mask, such as 255.255.255.0, or bits for IPv6
    #[arg(long, value_name = "MASK", value_parser = netmask)]
    pub netmask: Option<u8>,
    /// Pool of local addresses for FULLNAT, `none` for none
    #[arg(long, value_name = "NAME")]
    pub local_pool: Option<String>,
    /// Interface on which the address answers ARP when no subnet decides, `none` for none
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Largest TCP segment in bytes that may be announced, 0 = any
    #[arg(long, value_name = "BYTES")]
    pub mss: Option<u16>,
    /// How FULLNAT servers learn the client's address
    #[arg(long, value_enum)]
    pub client_address: Option<ClientAddressWord>,
    /// Seconds that sessions stay in a state, such as tcp-established=3600; `=default` for the director's (may be
    /// repeated)
    #[arg(long, value_name = "STATE=SECONDS")]
    pub timeout: Vec<Assignment>,
    /// When the VIP is on an interface of the host, where routing daemons find it [default: never]
    #[arg(long, value_enum)]
    pub announce: Option<AnnounceWord>,
    /// Which interface of the host that is, `none` for the one that [control] names
    #[arg(long, value_name = "NAME")]
    pub announce_on: Option<String>,
    /// Seconds for which the service serves before [default: 5]
    #[arg(long, value_name = "SECONDS")]
    pub announce_after: Option<u32>,
    /// What follows from checks
    #[command(flatten)]
    pub health: ServiceOptions,
}

/// When a VIP is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnnounceWord {
    /// Never: whoever configures the host sees to it
    Never,
    /// While the data plane serves and the service has its quorum
    Healthy,
    /// While the data plane serves, however the servers are
    Always,
}

impl From<AnnounceWord> for Announce {
    fn from(word: AnnounceWord) -> Announce {
        match word {
            AnnounceWord::Never => Announce::Never,
            AnnounceWord::Healthy => Announce::Healthy,
            AnnounceWord::Always => Announce::Always,
        }
    }
}

/// How FULLNAT servers learn the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientAddressWord {
    /// Not at all
    None,
    /// By a TCP option, for servers that read it
    Toa,
    /// By a line of the PROXY protocol before the data
    ProxyV1,
    /// By a binary header of the PROXY protocol before the data
    ProxyV2,
}

impl From<ClientAddressWord> for ClientAddress {
    fn from(word: ClientAddressWord) -> ClientAddress {
        match word {
            ClientAddressWord::None => ClientAddress::None,
            ClientAddressWord::Toa => ClientAddress::Toa,
            ClientAddressWord::ProxyV1 => ClientAddress::ProxyV1,
            ClientAddressWord::ProxyV2 => ClientAddress::ProxyV2,
        }
    }
}

/// The prefix length that a mask is.
fn netmask(text: &str) -> Result<u8, String> {
    if let Ok(bits) = text.parse() {
        return Ok(bits);
    }
    let mask: Ipv4Addr = text.parse().map_err(|_| "no mask such as 255.255.255.0".to_owned())?;
    prefix_of_mask(mask).ok_or_else(|| format!("netmask {mask} has holes; such as 255.255.255.0"))
}

/// The flags that these words are for a scheduler.
fn scheduler_flags(scheduler: &str, words: &[String]) -> Result<u8, Failure> {
    let (own, plain) = (scheduler_flag_words(scheduler), scheduler_flag_words(""));
    words.iter().filter(|word| *word != "none").try_fold(0, |flags, word| {
        match (0..own.len()).find(|at| own[*at] == word || plain[*at] == word) {
            Some(at) => Ok(flags | 1 << at),
            None => {
                let known = own.join(", ");
                Err(Failure::Usage(format!("scheduler {scheduler} has no flag `{word}`; known: {known}")))
            }
        }
    })
}

impl Settings {
    /// Whether something is named that [`Edit::UpdateService`] sets.
    fn update(&self) -> bool {
        self.scheduler.is_some()
            || self.scheduler_flags.is_some()
            || self.one_packet.is_some()
            || self.persistent.is_some()
            || self.persistence_engine.is_some()
            || self.prefix.is_some()
            || self.netmask.is_some()
    }

    /// The service with what is named of that.
    fn updated(&self, service: Service) -> Result<Service, Failure> {
        let scheduler = self.scheduler.clone().unwrap_or(service.scheduler);
        let kept = if self.scheduler.is_some() { 0 } else { service.scheduler_flags };
        let flags = self.scheduler_flags.as_ref().map(|words| scheduler_flags(&scheduler, words));
        Ok(Service {
            scheduler_flags: flags.transpose()?.unwrap_or(kept),
            scheduler,
            one_packet: self.one_packet.unwrap_or(service.one_packet),
            persistent: self.persistent.map_or(service.persistent, |n| Some(n).filter(|n| *n != 0)),
            persistence_engine: match self.persistence_engine.as_deref() {
                Some(name) => unless_none(name),
                None => service.persistence_engine,
            },
            prefix: self.prefix.or(self.netmask).unwrap_or(service.prefix),
            ..service
        })
    }

    /// How `now` is with what is named of it; `None` when nothing is.
    fn announcement(&self, now: &Announcement) -> Option<Announcement> {
        let named = self.announce.is_some() || self.announce_on.is_some() || self.announce_after.is_some();
        named.then(|| Announcement {
            when: self.announce.map_or(now.when, Into::into),
            on: self.announce_on.as_deref().map_or_else(|| now.on.clone(), unless_none),
            after: self.announce_after.unwrap_or(now.after),
        })
    }

    /// A new service.
    fn create(&self, key: ServiceKey, local_addresses: &[IpAddr]) -> Result<Service, Failure> {
        let service = self.updated(Service::new(key, DEFAULT_SCHEDULER))?;
        let timeouts = self.timeout.iter().filter_map(|set| Some((set.state, set.seconds?)));
        let health = self.health.change(&service)?.unwrap_or_default();
        Ok(Service {
            health,
            local_pool: self.local_pool.as_deref().and_then(unless_none),
            local_addresses: local_addresses.iter().copied().map(LocalAddress).collect(),
            interface: self.interface.as_deref().and_then(unless_none),
            mss: self.mss.filter(|bytes| *bytes != 0),
            client_address: self.client_address.map(Into::into).unwrap_or_default(),
            timeouts: timeouts.collect(),
            announcement: self.announcement(&service.announcement).unwrap_or_default(),
            ..service
        })
    }

    /// The edits that change what is named of a service and keep the rest.
    fn change(&self, service: &Service) -> Result<Vec<Edit>, Failure> {
        let key = service.key;
        let mut edits = Vec::new();
        if self.update() {
            edits.push(Edit::UpdateService(self.updated(service.clone())?));
        }
        edits.extend(self.local_pool.as_deref().map(|pool| Edit::SetServicePool(key, unless_none(pool))));
        edits.extend(self.interface.as_deref().map(|name| Edit::SetServiceInterface(key, unless_none(name))));
        edits.extend(self.mss.map(|bytes| Edit::SetServiceMss(key, Some(bytes).filter(|bytes| *bytes != 0))));
        edits.extend(self.client_address.map(|way| Edit::SetServiceClientAddress(key, way.into())));
        edits.extend(self.timeout.iter().map(|set| Edit::SetStateTimeout(Some(key), set.state, set.seconds)));
        let announcement = self.announcement(&service.announcement);
        edits.extend(announcement.map(|announcement| Edit::SetServiceAnnouncement(key, announcement)));
        edits.extend(self.health.change(service)?.map(|health| Edit::SetServiceHealth(key, health)));
        Ok(edits)
    }
}

/// Does it.
pub async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let rows = rows(&mut global.client().await?).await?;
            table::print(out, global.json, &rows)?;
            Ok(())
        }
        Command::Show(name) => {
            let key = name.key()?;
            let rows = rows(&mut global.client().await?).await?;
            let row = rows.into_iter().find(|row| row.key == key);
            let row = row.ok_or_else(|| Failure::Missing(format!("there is no service {key}")))?;
            row.show(global.json, out)
        }
        Command::Add { name, settings, local_address } => {
            global.edit(&[Edit::AddService(settings.create(name.key()?, &local_address)?)]).await
        }
        Command::Edit { name, settings, add_local_address, delete_local_address } => {
            let key = name.key()?;
            let state = global.client().await?.state().await?;
            let service =
                state.service(key).ok_or_else(|| Failure::Missing(format!("there is no service {key}")))?;
            let mut edits = settings.change(service)?;
            edits.extend(add_local_address.into_iter().map(|address| Edit::AddLocalAddress(key, address)));
            edits.extend(
                delete_local_address.into_iter().map(|address| Edit::DeleteLocalAddress(key, address)),
            );
            if edits.is_empty() {
                return Err(Failure::Invalid(format!(
                    "nothing to change in service {key}; name what, see --help"
                )));
            }
            global.edit(&edits).await
        }
        Command::Delete(name) => global.edit(&[Edit::DeleteService(name.key()?)]).await,
        Command::Override(command) => overrides::run(global, command, out).await,
        Command::Zero(which) => {
            let key = which.key()?;
            global.client().await?.zero(key).await
        }
    }
}
