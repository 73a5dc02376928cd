//! What a scenario or a person at the control socket can do to the host.

use std::time::Duration;

use super::{Exit, Host};
use crate::vmx::{
    backdoor::Protocol,
    tclo::{Origin, Timing},
    transcript::{Event, Kind},
};

/// Why the host cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is nobody to ask.
    #[error("no TCLO channel is open")]
    NoChannel,
    /// No view to go back to.
    #[error("remember host comes first")]
    NothingRemembered,
}

/// How the VM's execution was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Live migration or snapshot: a message in flight starts again, channels live.
    Soft,
    /// Revert to a snapshot: no channel exists any more.
    Hard,
}

impl Host {
    /// Queues a request for the tools daemon, or for the newest TCLO channel if none registered; returns its number.
    pub fn send(&mut self, now: Duration, command: &[u8]) -> Result<u64, HostError> {
        let channel = self.toolbox_channel().ok_or(HostError::NoChannel)?;
        Ok(self.ask(now, channel, Origin::Script, command))
    }

    /// Asks for registration again.
    pub fn reset(&mut self, now: Duration) -> Result<u64, HostError> {
        let channel = self.toolbox_channel().ok_or(HostError::NoChannel)?;
        Ok(self.ask(now, channel, Origin::Reset, b"reset"))
    }

    /// Interrupts the VM; after a soft checkpoint the guest is asked to register again. Tells how many messages were
    /// in flight.
    pub fn checkpoint(&mut self, now: Duration, checkpoint: Checkpoint) -> usize {
        let in_flight = self
            .channels
            .iter_mut()
            .filter_map(|channel| channel.checkpoint().then_some(()))
            .count();
        match checkpoint {
            Checkpoint::Hard => self.lose(now, |_| true),
            // Without a TCLO channel there is nobody to ask; the next one to open is asked anyway.
            Checkpoint::Soft => drop(self.reset(now)),
        }
        in_flight
    }

    /// The VM comes back from suspend: a checkpoint, and `OS_Resume` after registration.
    pub fn resume(&mut self, now: Duration) -> usize {
        self.resuming = true;
        self.checkpoint(now, Checkpoint::Soft)
    }

    /// The view that [`Self::revert`] goes back to is the one of now.
    pub fn remember(&mut self) {
        self.remembered = Some(self.rpci.clone());
    }

    /// The VM goes back to the snapshot: the host's view is the remembered one, no channel survives.
    pub fn revert(&mut self, now: Duration) -> Result<usize, HostError> {
        let earlier = self.remembered.clone().ok_or(HostError::NothingRemembered)?;
        self.rpci.revert(&earlier);
        Ok(self.checkpoint(now, Checkpoint::Hard))
    }

    /// The host's process starts again: it knows the VM's variables and nothing that the guest told.
    pub fn restart(&mut self, now: Duration) -> usize {
        self.rpci.forget();
        self.checkpoint(now, Checkpoint::Hard)
    }

    /// Every channel gets other cookies; tells how many have some.
    pub fn change_cookies(&mut self) -> usize {
        // Who cannot reach its channel is registered no more.
        for console in &mut self.consoles {
            console.application = None;
        }
        self.channels.change_cookies()
    }

    /// Other programs of the guest use this many channels.
    pub fn occupy(&mut self, channels: usize) {
        self.channels.foreign = channels;
    }

    /// Closes all channels of a protocol, or all, and tells how many.
    pub fn close_channels(&mut self, now: Duration, protocol: Option<Protocol>) -> usize {
        let ids: Vec<u16> = self
            .channels
            .iter()
            .filter(|channel| protocol.is_none_or(|protocol| channel.protocol == protocol))
            .map(|channel| channel.id)
            .collect();
        self.lose(now, |id| ids.contains(&id));
        ids.len()
    }

    /// Changes when the host asks.
    pub fn set_timing(&mut self, now: Duration, timing: Timing) {
        self.config.timing = timing;
        for console in &mut self.consoles {
            console.restart_timers(&timing, now);
        }
    }

    /// The guest ended.
    pub fn exited(&mut self, now: Duration, pid: i32, exit: Exit) {
        self.exit = Some(exit);
        let status = match exit {
            Exit::Status(status) => status,
            Exit::Signal(signal) => -signal,
        };
        self.record(
            now,
            Event {
                pid: Some(pid),
                status: Some(status),
                ..Event::new(Kind::Exit)
            },
        );
    }

    /// Whether the tools daemon is registered.
    pub fn is_registered(&self) -> bool {
        self.consoles.iter().any(super::Console::is_toolbox)
    }

    /// Whether the host waits for the report of a state change.
    pub fn is_executing(&self) -> bool {
        self.executing.is_some()
    }

    /// Channels open now, by protocol.
    pub fn open_channels(&self, protocol: Protocol) -> usize {
        self.channels
            .iter()
            .filter(|channel| channel.protocol == protocol)
            .count()
    }

    /// All channels open now.
    pub fn channel_count(&self) -> usize {
        self.channels.iter().count()
    }

    /// Violations that fail the run.
    pub fn violations(&self) -> u64 {
        let counted = |kind: &str| !self.allowed.contains(kind) && !self.allowed.contains("any");
        self.counters
            .violations
            .iter()
            .filter(|(kind, _)| counted(kind))
            .map(|(_, count)| count)
            .sum()
    }

    fn toolbox_channel(&self) -> Option<u16> {
        let toolbox = self.consoles.iter().find(|console| console.is_toolbox());
        toolbox.or(self.consoles.last()).map(|console| console.channel)
    }
}
