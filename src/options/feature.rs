//! The part that stands on the backdoor thread.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tracing::info;

use super::{Options, Outcome, TimeSynchronize};
use crate::{
    hostlog::HostLog,
    limited,
    logging::limit::Limit,
    tclo::{Command, Feature, Reply},
};

/// The options as every holder sees them. The lock covers one look-up or copy, so the backdoor thread is never kept
/// waiting by it.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Options>>);

impl Shared {
    /// What the host has set so far.
    pub fn snapshot(&self) -> Options {
        self.with(|options| options.clone())
    }

    fn with<T>(&self, action: impl FnOnce(&mut Options) -> T) -> T {
        // The maps are valid after every assignment, so a panic elsewhere has not spoiled them.
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Remembers every option, and answers `Time_Synchronize`.
#[derive(Debug)]
pub struct HostOptions {
    shared: Shared,
    host: HostLog,
}

impl HostOptions {
    /// Remembers in `shared`; what the host should read of it goes to `host`.
    pub const fn new(shared: Shared, host: HostLog) -> Self {
        Self { shared, host }
    }

    fn remember(&self, name: &[u8], value: &[u8]) {
        match self.shared.with(|options| options.set(name, value)) {
            Ok(Outcome::Unchanged) => {}
            Ok(Outcome::Changed) => {
                let (name, value) = (name.escape_ascii(), value.escape_ascii());
                limited!(debug, feature = "options", %name, %value, "the host sets an option");
            }
            Ok(Outcome::NotKept) => limited!(
                info,
                feature = "options",
                name_len = name.len(),
                value_len = value.len(),
                "an option was accepted and not remembered"
            ),
            // The command was read before it came here, and has both.
            Err(error) => limited!(info, feature = "options", err = %error, "an option was not remembered"),
        }
    }

    fn refuse_time(&self, arguments: &[u8]) {
        static LIMIT: Limit = Limit::new();
        // A line in both logs or in none.
        let Some(leave) = LIMIT.leave(Instant::now()) else {
            return;
        };
        let backward = TimeSynchronize::parse(arguments).backward;
        let operation = self.host.operation();
        info!(
            suppressed = leave.suppressed,
            feature = "options",
            operation = operation.number(),
            backward,
            "the host asks for a step of the clock; Talos's NTP client keeps it, so nothing is done"
        );
        self.host
            .say(operation, "Time_Synchronize: no effect, NTP keeps the clock");
    }
}

impl Feature for HostOptions {
    fn name(&self) -> &'static str {
        "options"
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        match command {
            Command::SetOption { name, value } => {
                self.remember(name, value);
                None
            }
            Command::Unknown {
                name: b"Time_Synchronize",
                arguments,
            } => {
                self.refuse_time(arguments);
                Some(Reply::ok())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Name, *};

    #[test]
    fn options_are_remembered_and_left_to_others() {
        let shared = Shared::default();
        let mut feature = HostOptions::new(shared.clone(), HostLog::silent());
        let command = Command::parse(b"Set_Option synctime 1").unwrap();
        assert_eq!(feature.handle(&command), None);
        assert_eq!(shared.snapshot().flag(Name::SyncTime), Some(true));
        let too_long = [b"Set_Option synctime ".as_slice(), &[b'1'; 1000]].concat();
        assert_eq!(feature.handle(&Command::parse(&too_long).unwrap()), None);
        assert_eq!(shared.snapshot().value(Name::SyncTime), None);
    }

    #[test]
    fn a_step_of_the_clock_is_acknowledged_whatever_it_says() {
        let mut feature = HostOptions::new(Shared::default(), HostLog::silent());
        for request in [
            b"Time_Synchronize 0".as_slice(),
            b"Time_Synchronize 1\0",
            b"Time_Synchronize",
            b"Time_Synchronize \xff\xff",
        ] {
            let command = Command::parse(request).unwrap();
            assert_eq!(feature.handle(&command), Some(Reply::ok()));
        }
    }
}
