//! What each request does, and what is said to it.

use std::io;

use fulcrum_ipvs::{Errno, Known, Message, Question, Record, Request, proc};
use fulcrum_model::ipvsadm::list::TABLE_SIZE;
use fulcrum_model::{ServiceKey, State};
use tracing::warn;

use super::Guest;
use super::client::Sender;
use crate::desired::ChangeError;
use crate::service::Service;

/// Why a request is refused: the number for who asked, and words for the log where the number does not say it.
#[derive(Debug)]
pub(super) struct Refusal {
    number: Errno,
    why: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(number: Errno) -> Refusal {
        Refusal { number, why: None }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Refusal {
        let number = match &error {
            ChangeError::Edit(_, edit) => edit.into(),
            ChangeError::Invalid(_) => Errno::EINVAL,
            ChangeError::Store(_) => Errno::EIO,
        };
        let unsaid = matches!(number, Errno::EINVAL | Errno::EIO);
        Refusal { number, why: unsaid.then(|| error.to_string()) }
    }
}

/// Answers a message. Each packet goes to who asked, and a dump is not made faster than it is read.
pub(super) async fn answer(
    service: &Service,
    guest: &Guest,
    message: &Message<'_>,
    to: &Sender,
) -> io::Result<()> {
    let done = match message.question(guest.privileged) {
        Ok(question) => respond(service, guest, message, question, to).await?,
        Err(number) => Err(number.into()),
    };
    match done {
        Ok(true) if message.wants_ack() => to.send(&message.ack()).await,
        Ok(_) => Ok(()),
        Err(Refusal { number, why }) => {
            if let Some(why) = why {
                warn!(who = %guest.who.name, from = %guest.who.from, why, "refused");
            }
            to.send(&message.refusal(number)).await
        }
    }
}

/// Does what is asked and sends what is to be told; true when the end of it may be acknowledged, which that of a dump
/// is not.
async fn respond(
    service: &Service,
    guest: &Guest,
    message: &Message<'_>,
    question: Question,
    to: &Sender,
) -> io::Result<Result<bool, Refusal>> {
    let request = match question {
        Question::Nothing => return Ok(Ok(true)),
        Question::Families => return dump(message, Known::ALL.map(Record::Family).to_vec(), to).await,
        Question::Family(known) => return reply(message, &Record::Family(known), to).await,
        Question::Ipvs(request) => request,
    };
    match request {
        Request::Info => {
            let size = u32::try_from(TABLE_SIZE).unwrap_or(u32::MAX);
            reply(message, &Record::Info(size), to).await
        }
        Request::Timeouts => {
            let state = service.state().await;
            reply(message, &Record::Timeouts(&state.timeouts), to).await
        }
        Request::Service(name) => {
            let listed = match name {
                Some(key) => service.listed(Some(key)).await,
                None => Vec::new(),
            };
            match listed.first() {
                Some(listed) => reply(message, &Record::Service(listed), to).await,
                None => Ok(Err(Errno::ESRCH.into())),
            }
        }
        Request::Services => {
            let listed = service.listed(None).await;
            dump(message, proc::in_order(&listed).map(Record::Service).collect(), to).await
        }
        Request::Servers(name) => {
            let listed = match name.flatten() {
                Some(key) => service.listed(Some(key)).await,
                None => Vec::new(),
            };
            let servers = listed.iter().flat_map(|service| service.servers.iter().rev());
            dump(message, servers.map(Record::Server).collect(), to).await
        }
        Request::Daemons => dump(message, Vec::new(), to).await,
        Request::Zero(name) => Ok(zero(service, guest, name).await.map(|()| true)),
        change => {
            let made = service.change(&guest.who, |state: &State| change.edits(state).map_err(Refusal::from));
            Ok(made.await.map(|_| true))
        }
    }
}

async fn zero(service: &Service, guest: &Guest, name: Option<Option<ServiceKey>>) -> Result<(), Refusal> {
    let key = match name {
        Some(Some(key)) if service.state().await.service(key).is_some() => Some(key),
        Some(_) => return Err(Errno::ESRCH.into()),
        None => None,
    };
    service
        .zero(&guest.who, key)
        .await
        .map_err(|status| Refusal { number: Errno::EIO, why: Some(status.message().to_owned()) })
}

async fn reply(message: &Message<'_>, record: &Record<'_>, to: &Sender) -> io::Result<Result<bool, Refusal>> {
    to.send(&message.reply(record)).await?;
    Ok(Ok(true))
}

async fn dump(
    message: &Message<'_>,
    records: Vec<Record<'_>>,
    to: &Sender,
) -> io::Result<Result<bool, Refusal>> {
    for packet in message.dump(records) {
        to.send(&packet).await?;
    }
    Ok(Ok(false))
}
