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
    /// All of them.
    pub const ALL: [State; 11] = [State::None, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

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
pub const STATES: usize = State::ALL.len();

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

/// The same, against floods. // IPVS: tcp_states_dos
const SECURE_INPUT: [Row; 4] = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
    [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];
const SECURE_OUTPUT: [Row; 4] = [
    [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];
const SECURE_INPUT_ONLY: [Row; 4] = [
    [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

/// The state after a segment with these flags; `secure` while the setting secure_tcp works.
#[inline]
pub fn next(state: State, view: View, flags: u8, secure: bool) -> State {
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
        View::Input if secure => &SECURE_INPUT,
        View::Output if secure => &SECURE_OUTPUT,
        View::InputOnly if secure => &SECURE_INPUT_ONLY,
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
        steps.iter().fold(State::None, |state, &(view, flags)| next(state, view, flags, false))
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
        assert_eq!(next(ES, View::Input, 0, false), CL);
        assert_eq!(next(State::None, View::Input, 0x08, true), CL);
    }

    /// Each line: the setting secure_tcp, the server's way, segments, and the states after them.
    #[test]
    fn states_are_those_recorded_from_a_kernel() {
        let lines = include_str!("tcp-kernel.txt").lines().filter(|line| !line.starts_with('#'));
        let mut compared = 0;
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [mode, way, segments, states @ ..] = &words[..] else { panic!("{line}") };
            let mut state = State::None;
            for (segment, expected) in segments.chars().zip(states) {
                let flags = match segment.to_ascii_uppercase() {
                    'S' if segment.is_lowercase() => tcp::SYN | tcp::ACK,
                    'Y' => tcp::SYN | tcp::ACK,
                    'S' => tcp::SYN,
                    'A' => tcp::ACK,
                    'F' => tcp::FIN | tcp::ACK,
                    'R' => tcp::RST | tcp::ACK,
                    other => panic!("{other}"),
                };
                let view = match (*way, segment.is_lowercase()) {
                    // The answer goes another way.
                    ("dr", true) => continue,
                    ("dr", false) => View::InputOnly,
                    (_, true) => View::Output,
                    (_, false) => View::Input,
                };
                state = next(state, view, flags, *mode == "secure");
                assert_eq!(state.name(), *expected, "{line}, {segment}");
                compared += 1;
            }
        }
        assert!(compared > 400, "{compared}");
    }
}
