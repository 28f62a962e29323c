//! Which session makes room for a new one when there is none: one that is over, one that is about to be, one that
//! has not come about yet; of each the one that has been so longest. Established ones, UDP and templates never.

use super::line::Cold;
use super::{NONE, SessionId, State, sctp, tcp};

/// How dispensable a session is, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Both ends have closed, or one has broken off.
    Closed,
    /// One end has closed.
    Closing,
    /// The handshake is not over.
    Embryonic,
}

const RANKS: [Rank; 3] = [Rank::Closed, Rank::Closing, Rank::Embryonic];

/// Sessions of a rank looked at for one that controls no other.
const TRIES: usize = 8;

impl Rank {
    pub(super) fn of(state: State) -> Option<Rank> {
        use sctp::State as Sctp;
        use tcp::State as Tcp;
        match state {
            State::Tcp(Tcp::TimeWait | Tcp::Close | Tcp::LastAck)
            | State::Sctp(Sctp::Closed | Sctp::Rejected) => Some(Rank::Closed),
            State::Tcp(Tcp::FinWait | Tcp::CloseWait)
            | State::Sctp(Sctp::ShutdownSent | Sctp::ShutdownReceived | Sctp::ShutdownAckSent) => {
                Some(Rank::Closing)
            }
            State::Tcp(Tcp::None | Tcp::SynSent | Tcp::SynRecv | Tcp::SynAck) => Some(Rank::Embryonic),
            State::Sctp(state) if state != Sctp::Established => Some(Rank::Embryonic),
            State::Tcp(Tcp::Established | Tcp::Listen)
            | State::Sctp(_)
            | State::Udp
            | State::OnePacket
            | State::Template { .. } => None,
        }
    }
}

/// A session's neighbours among those of its rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    next: SessionId,
    previous: SessionId,
}

impl Default for Link {
    fn default() -> Link {
        Link { next: NONE, previous: NONE }
    }
}

impl Link {
    #[inline]
    pub(super) fn next(self) -> SessionId {
        self.next
    }

    /// Both, for those who want to have them at hand when the session leaves its rank.
    #[inline]
    pub(super) fn neighbours(self) -> [SessionId; 2] {
        [self.next, self.previous]
    }
}

/// The sessions of each rank, the oldest first.
#[derive(Debug)]
pub(super) struct Ranks {
    heads: [SessionId; RANKS.len()],
    tails: [SessionId; RANKS.len()],
}

impl Ranks {
    pub(super) fn new() -> Ranks {
        Ranks { heads: [NONE; RANKS.len()], tails: [NONE; RANKS.len()] }
    }

    /// Puts a session where its rank is now.
    #[inline]
    pub(super) fn place(&mut self, cold: &mut [Cold], id: SessionId, rank: Option<Rank>) {
        if cold[id as usize].rank == rank {
            return;
        }
        self.remove(cold, id);
        let Some(place) = rank.map(|rank| rank as usize) else { return };
        let previous = self.tails[place];
        cold[id as usize].rank = rank;
        cold[id as usize].link = Link { next: NONE, previous };
        match previous {
            NONE => self.heads[place] = id,
            previous => cold[previous as usize].link.next = id,
        }
        self.tails[place] = id;
    }

    pub(super) fn remove(&mut self, cold: &mut [Cold], id: SessionId) {
        let leaver = &mut cold[id as usize];
        let Some(place) = leaver.rank.take().map(|rank| rank as usize) else { return };
        let Link { next, previous } = leaver.link;
        match previous {
            NONE => self.heads[place] = next,
            previous => cold[previous as usize].link.next = next,
        }
        match next {
            NONE => self.tails[place] = previous,
            next => cold[next as usize].link.previous = previous,
        }
    }

    /// The most dispensable session.
    pub(super) fn first(&self, cold: &[Cold]) -> Option<SessionId> {
        let of = |head: SessionId| {
            let after = |&id: &SessionId| Some(cold[id as usize].link.next).filter(|&next| next != NONE);
            let oldest = std::iter::successors(Some(head).filter(|&id| id != NONE), after).take(TRIES);
            oldest.into_iter().find(|&id| cold[id as usize].controls == 0)
        };
        self.heads.into_iter().find_map(of)
    }
}
