//! Which request for a power operation is let through: a state machine without clock, lock or I/O.
//!
//! ```text
//!           admit               accepted
//!   Idle ─────────> UnderWay ──────────────> Accepted
//!    ^                 │ failed                 │ expired
//!    └─────────────────┴────────────────────────┘
//! ```
//!
//! While an operation stands, the same request again joins it and another one is turned away. Nothing the host sends
//! ends it: a `reset` of the channel does not undo a shutdown that Talos has begun.

#![forbid(unsafe_code)]

use std::fmt;

/// An operation that ends the run of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `OS_Halt`.
    Shutdown,
    /// `OS_Reboot`.
    Reboot,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "shutdown",
            Self::Reboot => "reboot",
        })
    }
}

/// Number of an operation in this life of the process; the first is 1.
pub type Number = u64;

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Carry it out under this number.
    Begin(Number),
    /// It is this one, which stands already: do not call again.
    Join(Number),
    /// Another one stands.
    Busy(Operation),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    UnderWay(Operation),
    Accepted(Operation),
}

/// The one operation of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    state: State,
    /// Of the operation that stands, or stood last.
    number: Number,
}

impl Gate {
    /// Asks for `operation`.
    pub fn admit(&mut self, operation: Operation) -> Admission {
        match self.state {
            State::Idle => {
                self.number = self.number.wrapping_add(1);
                self.state = State::UnderWay(operation);
                Admission::Begin(self.number)
            }
            State::UnderWay(standing) | State::Accepted(standing) => {
                if standing == operation {
                    Admission::Join(self.number)
                } else {
                    Admission::Busy(standing)
                }
            }
        }
    }

    /// Whether an operation was begun and has not ended.
    pub fn stands(&self) -> bool {
        self.state != State::Idle
    }

    /// Talos carries `number` out.
    pub fn accepted(&mut self, number: Number) {
        if let (State::UnderWay(operation), true) = (self.state, number == self.number) {
            self.state = State::Accepted(operation);
        }
    }

    /// `number` will not happen: Talos refused it, or took it and is still there long after.
    pub fn ended(&mut self, number: Number) {
        if number == self.number {
            self.state = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn twelve_requests_are_one_operation() {
        let mut gate = Gate::default();
        assert_eq!(gate.admit(Operation::Shutdown), Admission::Begin(1));
        for _ in 0..6 {
            assert_eq!(gate.admit(Operation::Shutdown), Admission::Join(1));
        }
        gate.accepted(1);
        for _ in 0..5 {
            assert_eq!(gate.admit(Operation::Shutdown), Admission::Join(1));
        }
        assert_eq!(
            gate.admit(Operation::Reboot),
            Admission::Busy(Operation::Shutdown)
        );
    }

    #[test]
    fn a_failure_opens_the_gate() {
        let mut gate = Gate::default();
        assert_eq!(gate.admit(Operation::Reboot), Admission::Begin(1));
        assert_eq!(
            gate.admit(Operation::Shutdown),
            Admission::Busy(Operation::Reboot)
        );
        gate.ended(1);
        assert_eq!(gate.admit(Operation::Shutdown), Admission::Begin(2));
        // What the first call says afterwards changes nothing.
        gate.accepted(1);
        gate.ended(1);
        assert_eq!(gate.admit(Operation::Shutdown), Admission::Join(2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(Operation),
        Accepted,
        Ended,
        Stale(Number),
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens in whatever order, no operation begins before the one before it has ended.
        #[test]
        fn one_at_a_time(steps in vec(prop_oneof![
            Just(Step::Admit(Operation::Shutdown)),
            Just(Step::Admit(Operation::Reboot)),
            Just(Step::Accepted),
            Just(Step::Ended),
            (0u64..4).prop_map(Step::Stale),
        ], 0..60)) {
            let mut gate = Gate::default();
            let mut standing: Option<(Number, Operation)> = None;
            let mut last = 0;
            for step in steps {
                match step {
                    Step::Admit(operation) => match (gate.admit(operation), standing) {
                        (Admission::Begin(number), None) => {
                            prop_assert_eq!(number, last + 1);
                            last = number;
                            standing = Some((number, operation));
                        }
                        (Admission::Join(number), Some(now)) => prop_assert_eq!((number, operation), now),
                        (Admission::Busy(other), Some((_, now))) => {
                            prop_assert_eq!(other, now);
                            prop_assert_ne!(other, operation);
                        }
                        unexpected => prop_assert!(false, "{:?}", unexpected),
                    },
                    Step::Accepted => gate.accepted(last),
                    Step::Ended => {
                        gate.ended(last);
                        standing = None;
                    }
                    Step::Stale(back) if back > 0 && last > back => {
                        gate.ended(last - back);
                        gate.accepted(last - back);
                    }
                    Step::Stale(_) => {}
                }
            }
        }
    }
}
