//! TCP as IPVS follows it: eleven states, three tables, one time-out a state.

use super::View;
use crate::{Nanos, SECOND};
use fulcrum_packet::tcp;

/// State of a TCP session. // IPVS: IP_VS_TCP_S_*
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are TCP's own")]
pub enum State {
    None,
    Established,
    SynSent,
    SynRecv,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    SynAck,
}

use State::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

impl State {
    /// IPVS's name.
    pub const fn name(self) -> &'static str {
        match self {
            State::None => "NONE",
            ES => "ESTABLISHED",
            SS => "SYN_SENT",
            SR => "SYN_RECV",
            FW => "FIN_WAIT",
            TW => "TIME_WAIT",
            CL => "CLOSE",
            CW => "CLOSE_WAIT",
            LA => "LAST_ACK",
            LI => "LISTEN",
            SA => "SYNACK",
        }
    }

    /// Whether a session in this state counts as an active one.
    pub const fn is_active(self) -> bool {
        matches!(self, ES | SS | SR | SA)
    }
}

/// How many states there are.
pub const STATES: usize = 11;

/// How long a session stays in each state without a packet, unless configured otherwise. // IPVS: tcp_timeouts
pub const TIMEOUTS: [Nanos; STATES] = [
    2 * SECOND,
    900 * SECOND,
    120 * SECOND,
    60 * SECOND,
    120 * SECOND,
    120 * SECOND,
    10 * SECOND,
    60 * SECOND,
    30 * SECOND,
    120 * SECOND,
    120 * SECOND,
];

type Row = [State; STATES];

/// Columns: NONE ES SS SR FW TW CL CW LA LI SA; rows: SYN FIN ACK RST.
const INPUT: [Row; 4] = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
];
const OUTPUT: [Row; 4] = [
    [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];
const INPUT_ONLY: [Row; 4] = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

/// The state after a segment with these flags.
pub fn next(state: State, view: View, flags: u8) -> State {
    let row = if flags & tcp::RST != 0 {
        3
    } else if flags & tcp::SYN != 0 {
        0
    } else if flags & tcp::FIN != 0 {
        1
    } else if flags & tcp::ACK != 0 {
        2
    } else {
        return CL;
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

    fn walk(steps: &[(View, u8)]) -> State {
        steps.iter().fold(State::None, |state, &(view, flags)| next(state, view, flags))
    }

    #[test]
    fn whole_sessions_end_where_the_kernel_was_seen_to_leave_them() {
        let open = [(View::Input, tcp::SYN), (View::Output, tcp::SYN | tcp::ACK), (View::Input, tcp::ACK)];
        assert_eq!(walk(&open), ES);
        let server_closes = [
            (View::Output, tcp::FIN | tcp::ACK),
            (View::Input, tcp::ACK),
            (View::Input, tcp::FIN | tcp::ACK),
        ];
        assert_eq!(walk(&[&open[..], &server_closes].concat()), TW);
        assert_eq!(walk(&[&open[..], &[(View::Input, tcp::RST)]].concat()), CL);
    }

    #[test]
    fn half_seen_sessions_end_in_fin_wait() {
        let seen = [tcp::SYN, tcp::ACK, tcp::ACK, tcp::FIN | tcp::ACK, tcp::ACK];
        assert_eq!(walk(&seen.map(|flags| (View::InputOnly, flags))), FW);
    }

    #[test]
    fn a_segment_without_flags_closes() {
        assert_eq!(next(ES, View::Input, 0), CL);
        assert_eq!(next(State::None, View::Input, 0x08), CL);
    }
}
