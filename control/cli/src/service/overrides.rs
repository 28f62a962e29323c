//! `fulcrum service override`: what services have beside what tools written for IPVS can say.

use clap::{Subcommand, ValueEnum};
use fulcrum_model::{Edit, Override};
use serde::Serialize;

use super::ClientAddressWord;
use crate::command::Global;
use crate::failure::Failure;
use crate::name::{ServiceName, unless_none};
use crate::output::Output;
use crate::table::{self, Row};

/// Overrides.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the overrides
    List,
    /// Set what is named of an override; the rest of it stays
    Set {
        /// Of which service
        #[command(flatten)]
        name: ServiceName,
        /// How its NAT servers are reached
        #[arg(long, value_enum)]
        forward: Option<ForwardWord>,
        /// Pool of local addresses for FULLNAT, `none` for the service's
        #[arg(long, value_name = "NAME")]
        local_pool: Option<String>,
        /// Interface on which the address answers ARP when no subnet decides, `none` for the service's
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
        /// Largest TCP segment in bytes that may be announced, 0 for the service's
        #[arg(long, value_name = "BYTES")]
        mss: Option<u16>,
        /// How FULLNAT servers learn the client's address
        #[arg(long, value_enum)]
        client_address: Option<ClientAddressWord>,
    },
    /// Delete the override of a service; the service stays
    Delete(ServiceName),
}

/// How NAT servers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForwardWord {
    /// By NAT
    Nat,
    /// By FULLNAT
    Fullnat,
}

/// Does it.
pub(super) async fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        Command::List => {
            let state = global.client().await?.state().await?;
            let rows: Vec<OverrideRow> = state.overrides.iter().map(Into::into).collect();
            Ok(table::print(out, global.json, &rows)?)
        }
        Command::Set { name, forward, local_pool, interface, mss, client_address } => {
            let key = name.key()?;
            let state = global.client().await?.state().await?;
            let mut over = state.override_of(key).cloned().unwrap_or_else(|| Override::new(key));
            over.full_nat = forward.map_or(over.full_nat, |forward| forward == ForwardWord::Fullnat);
            over.local_pool = local_pool.as_deref().map_or(over.local_pool, unless_none);
            over.interface = interface.as_deref().map_or(over.interface, unless_none);
            over.mss = mss.map_or(over.mss, |bytes| Some(bytes).filter(|bytes| *bytes != 0));
            over.client_address = client_address.map(Into::into).or(over.client_address);
            global.edit(&[Edit::SetOverride(over)]).await
        }
        Command::Delete(name) => global.edit(&[Edit::DeleteOverride(name.key()?)]).await,
    }
}

#[derive(Clone, Debug, Serialize)]
struct OverrideRow {
    service: String,
    forward: Option<&'static str>,
    local_pool: Option<String>,
    interface: Option<String>,
    mss: Option<u16>,
    client_address: Option<String>,
}

impl From<&Override> for OverrideRow {
    fn from(over: &Override) -> OverrideRow {
        OverrideRow {
            service: over.service.to_string(),
            forward: over.full_nat.then_some("fullnat"),
            local_pool: over.local_pool.clone(),
            interface: over.interface.clone(),
            mss: over.mss,
            client_address: over.client_address.map(|way| way.to_string()),
        }
    }
}

impl Row for OverrideRow {
    const HEAD: &'static [&'static str] =
        &["SERVICE", "FORWARD", "LOCAL POOL", "INTERFACE", "MSS", "CLIENT ADDRESS"];

    fn cells(&self) -> Vec<String> {
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        vec![
            self.service.clone(),
            text(self.forward),
            text(self.local_pool.as_deref()),
            text(self.interface.as_deref()),
            self.mss.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            text(self.client_address.as_deref()),
        ]
    }
}
