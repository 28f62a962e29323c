//! SCTP as IPVS follows it: fourteen states, three tables, one time-out a state; what a packet is about is told by
//! its leading chunk.

use super::View;
use crate::{Nanos, SECOND};
use fulcrum_packet::sctp;

/// State of an SCTP session. // IPVS: IP_VS_SCTP_S_*
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the kernel's own")]
pub enum State {
    None,
    Init1,
    Init,
    CookieSent,
    CookieReplied,
    CookieWait,
    Cookie,
    CookieEchoed,
    Established,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
    Rejected,
    Closed,
}

use State::{
    Closed as CL, Cookie as CO, CookieEchoed as CE, CookieReplied as CR, CookieSent as CS, CookieWait as CW,
    Established as ES, Init as IN, Init1 as I1, None as NO, Rejected as RJ, ShutdownAckSent as SA,
    ShutdownReceived as SR, ShutdownSent as SS,
};

impl State {
    /// All of them.
    pub const ALL: [State; 14] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

    /// IPVS's name.
    pub const fn name(self) -> &'static str {
        match self {
            NO => "NONE",
            I1 => "INIT1",
            IN => "INIT",
            CS => "C-SENT",
            CR => "C-REPLIED",
            CW => "C-WAIT",
            CO => "COOKIE",
            CE => "C-ECHOED",
            ES => "ESTABLISHED",
            SS => "S-SENT",
            SR => "S-RECEIVED",
            SA => "S-ACK-SENT",
            RJ => "REJECTED",
            CL => "CLOSED",
        }
    }

    /// Whether a session in this state counts as an active one.
    pub const fn is_active(self) -> bool {
        matches!(self, ES)
    }
}

/// How many states there are.
pub const STATES: usize = State::ALL.len();

/// How long a session stays in each state without a packet, unless configured otherwise. // IPVS: sctp_timeouts
pub const TIMEOUTS: [Nanos; STATES] = [
    2 * SECOND,
    4 * SECOND,
    61 * SECOND,
    61 * SECOND,
    61 * SECOND,
    61 * SECOND,
    61 * SECOND,
    61 * SECOND,
    900 * SECOND,
    61 * SECOND,
    61 * SECOND,
    61 * SECOND,
    4 * SECOND,
    61 * SECOND,
];

type Row = [State; STATES];

/// Columns: NONE I1 IN CS CR CW CO CE ES SS SR SA RJ CL; rows: DATA INIT INIT_ACK COOKIE_ECHO COOKIE_ACK SHUTDOWN
/// SHUTDOWN_ACK SHUTDOWN_COMPLETE ERROR ABORT.
const INPUT: [Row; 10] = [
    [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
    [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
    [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
    [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
    [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
    [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
    [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];
const OUTPUT: [Row; 10] = [
    [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
    [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
    [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
    [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
    [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
    [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];
const INPUT_ONLY: [Row; 10] = [
    [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
    [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
    [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
    [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
    [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
    [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];

/// The state after a packet with this leading chunk; types that IPVS does not tell apart count as data.
pub fn next(state: State, view: View, chunk: u8) -> State {
    let row = match chunk {
        sctp::INIT => 1,
        sctp::INIT_ACK => 2,
        sctp::COOKIE_ECHO => 3,
        sctp::COOKIE_ACK => 4,
        sctp::SHUTDOWN => 5,
        sctp::SHUTDOWN_ACK => 6,
        sctp::SHUTDOWN_COMPLETE => 7,
        sctp::ERROR => 8,
        sctp::ABORT => 9,
        _ => 0,
    };
    let table = match view {
        View::Input => &INPUT,
        View::Output => &OUTPUT,
        View::InputOnly => &INPUT_ONLY,
    };
    table[row][state as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: [u8; 10] = [
        sctp::DATA,
        sctp::INIT,
        sctp::INIT_ACK,
        sctp::COOKIE_ECHO,
        sctp::COOKIE_ACK,
        sctp::SHUTDOWN,
        sctp::SHUTDOWN_ACK,
        sctp::SHUTDOWN_COMPLETE,
        sctp::ERROR,
        sctp::ABORT,
    ];

    #[test]
    fn every_state_that_a_kernel_could_be_brought_into_is_left_as_it_left_it() {
        let state = |name: &str| State::ALL.into_iter().find(|state| state.name() == name);
        let lines = include_str!("sctp-kernel.txt").lines().filter(|line| !line.starts_with('#'));
        let mut compared = 0;
        for line in lines {
            let mut words = line.split(' ');
            let view = match words.next() {
                Some("in") => View::Input,
                Some("out") => View::Output,
                Some("in-only") => View::InputOnly,
                other => panic!("{other:?} in {line}"),
            };
            let before = words.next().and_then(state).expect("a state");
            for (chunk, word) in CHUNKS.into_iter().zip(words) {
                // An INIT on a closed session is a new session: conn_reuse_mode was 1.
                let from =
                    if before == CL && chunk == sctp::INIT && view != View::Output { NO } else { before };
                if let Some(after) = state(word) {
                    assert_eq!(next(from, view, chunk), after, "{line}, chunk {chunk}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 338);
    }

    #[test]
    fn a_whole_session_is_established_and_closed() {
        let steps = [
            (View::Input, sctp::INIT, I1),
            (View::Output, sctp::INIT_ACK, CS),
            (View::Input, sctp::COOKIE_ECHO, CR),
            (View::Output, sctp::COOKIE_ACK, ES),
            (View::Input, sctp::DATA, ES),
            (View::Output, sctp::SACK, ES),
            (View::Input, sctp::SHUTDOWN, SR),
            (View::Output, sctp::SHUTDOWN_ACK, SA),
            (View::Input, sctp::SHUTDOWN_COMPLETE, CL),
        ];
        let mut state = NO;
        for (view, chunk, after) in steps {
            state = next(state, view, chunk);
            assert_eq!(state, after, "chunk {chunk}");
            assert_eq!(state.is_active(), state == ES);
        }
        assert_eq!((TIMEOUTS[ES as usize], TIMEOUTS[RJ as usize]), (900 * SECOND, 4 * SECOND));
    }

    #[test]
    fn a_chunk_that_nobody_knows_is_data() {
        for chunk in [sctp::SACK, sctp::HEARTBEAT, 12, 0xc1] {
            assert_eq!(next(NO, View::Input, chunk), ES);
        }
    }
}
