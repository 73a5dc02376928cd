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

use crate::hostlog;

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

/// The operation as both logs know it.
pub type Number = hostlog::Operation;

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
    UnderWay(Operation, Number),
    Accepted(Operation, Number),
}

/// The one operation of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    state: State,
}

impl Gate {
    /// Asks for `operation`, which gets a `fresh` number if it begins.
    pub fn admit(&mut self, operation: Operation, fresh: impl FnOnce() -> Number) -> Admission {
        match self.state {
            State::Idle => {
                let number = fresh();
                self.state = State::UnderWay(operation, number);
                Admission::Begin(number)
            }
            State::UnderWay(standing, number) | State::Accepted(standing, number) => {
                if standing == operation {
                    Admission::Join(number)
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
        if let State::UnderWay(operation, standing) = self.state
            && standing == number
        {
            self.state = State::Accepted(operation, number);
        }
    }

    /// `number` will not happen: Talos refused it, or took it and is still there long after.
    pub fn ended(&mut self, number: Number) {
        if let State::UnderWay(_, standing) | State::Accepted(_, standing) = self.state
            && standing == number
        {
            self.state = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::hostlog::HostLog;

    /// A gate and where its numbers come from.
    struct Bench {
        gate: Gate,
        log: HostLog,
        /// Every number that was given, oldest first.
        numbers: Vec<Number>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                gate: Gate::default(),
                log: HostLog::silent(),
                numbers: Vec::new(),
            }
        }

        fn admit(&mut self, operation: Operation) -> Admission {
            let admission = self.gate.admit(operation, || self.log.operation());
            if let Admission::Begin(number) = admission {
                self.numbers.push(number);
            }
            admission
        }

        fn last(&self) -> Option<Number> {
            self.numbers.last().copied()
        }
    }

    #[test]
    fn twelve_requests_are_one_operation() {
        let mut bench = Bench::new();
        assert!(matches!(bench.admit(Operation::Shutdown), Admission::Begin(_)));
        let number = bench.last().unwrap();
        for _ in 0..6 {
            assert_eq!(bench.admit(Operation::Shutdown), Admission::Join(number));
        }
        bench.gate.accepted(number);
        for _ in 0..5 {
            assert_eq!(bench.admit(Operation::Shutdown), Admission::Join(number));
        }
        assert_eq!(
            bench.admit(Operation::Reboot),
            Admission::Busy(Operation::Shutdown)
        );
        assert_eq!(bench.log.operation().number(), 2, "no number is wasted");
    }

    #[test]
    fn a_failure_opens_the_gate() {
        let mut bench = Bench::new();
        assert!(matches!(bench.admit(Operation::Reboot), Admission::Begin(_)));
        let first = bench.last().unwrap();
        assert_eq!(
            bench.admit(Operation::Shutdown),
            Admission::Busy(Operation::Reboot)
        );
        bench.gate.ended(first);
        assert!(matches!(bench.admit(Operation::Shutdown), Admission::Begin(_)));
        let second = bench.last().unwrap();
        // What the first call says afterwards changes nothing.
        bench.gate.accepted(first);
        bench.gate.ended(first);
        assert_eq!(bench.admit(Operation::Shutdown), Admission::Join(second));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(Operation),
        Accepted,
        Ended,
        Stale(usize),
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
            (1_usize..4).prop_map(Step::Stale),
        ], 0..60)) {
            let mut bench = Bench::new();
            let mut standing: Option<(Number, Operation)> = None;
            for step in steps {
                match step {
                    Step::Admit(operation) => match (bench.admit(operation), standing) {
                        (Admission::Begin(number), None) => standing = Some((number, operation)),
                        (Admission::Join(number), Some(now)) => prop_assert_eq!((number, operation), now),
                        (Admission::Busy(other), Some((_, now))) => {
                            prop_assert_eq!(other, now);
                            prop_assert_ne!(other, operation);
                        }
                        unexpected => prop_assert!(false, "{:?}", unexpected),
                    },
                    Step::Accepted => if let Some(last) = bench.last() {
                        bench.gate.accepted(last);
                    },
                    Step::Ended => if let Some(last) = bench.last() {
                        bench.gate.ended(last);
                        standing = None;
                    },
                    Step::Stale(back) => if let Some(stale) = bench.numbers.iter().rev().nth(back) {
                        bench.gate.ended(*stale);
                        bench.gate.accepted(*stale);
                    },
                }
            }
        }
    }
}
