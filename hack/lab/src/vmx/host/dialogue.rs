//! Whole messages: what the guest's requests and replies mean to the host, and what it asks next.

use std::time::Duration;

use super::{Host, steps::Call};
use crate::vmx::{
    backdoor::Protocol,
    fault::Effect,
    message::Outgoing,
    rpci::Handled,
    tclo::{self, Origin, Request, Sent, TOOLBOX},
    transcript::{Event, Kind, readable},
    violation::Violation,
};

impl Host {
    pub(super) fn delivered(
        &mut self,
        call: &Call<'_>,
        protocol: Protocol,
        bytes: Vec<u8>,
        via: &'static str,
        effects: &[Effect],
    ) -> Result<(), Violation> {
        if protocol == Protocol::Rpci {
            self.requested(call, bytes, via, effects.contains(&Effect::NoReply));
            return Ok(());
        }
        let console = self
            .consoles
            .iter_mut()
            .find(|console| console.channel == call.id);
        let Some(console) = console else { return Ok(()) };
        let sent = console.sent(call.now, &bytes)?;
        self.last_poll = Some(call.now);
        match sent {
            Sent::Poll => self.counters.polls += 1,
            Sent::Reply(request) => self.replied(call, &request, bytes, via),
        }
        Ok(())
    }

    /// An RPCI request arrived.
    fn requested(&mut self, call: &Call<'_>, bytes: Vec<u8>, via: &'static str, silent: bool) {
        self.counters.rpci += 1;
        let changes = self.rpci.state_changes.len();
        let handled = if !self.config.version_type && bytes.starts_with(b"tools.set.versiontype") {
            Handled {
                reply: Some(b"0 Unknown command".to_vec()),
                ..Handled::default()
            }
        } else {
            self.rpci.handle(&bytes, self.config.profile, call.now)
        };
        let event = Event {
            channel: Some(call.id),
            pid: Some(call.pid),
            via: Some(via),
            bytes: Some(bytes),
            ok: handled.reply.as_ref().map(|reply| reply.starts_with(b"1 ")),
            ..Event::new(Kind::Rpci)
        };
        self.record(call.now, event);
        if let Some(violation) = handled.violation {
            self.violate(call.now, call.pid, Some(call.id), &violation);
        }
        if handled.soft_reset {
            self.record(
                call.now,
                Event {
                    pid: Some(call.pid),
                    ..Event::new(Kind::SoftReset)
                },
            );
        }
        if let Some(state) = self.rpci.state_changes.get(changes).map(|change| change.state) {
            self.executing = self.executing.filter(|awaited| *awaited != state);
            self.powered_on |= state == 3;
            self.resuming &= state != 4;
        }
        if let Some(reply) = handled.reply.filter(|_| !silent)
            && let Some(channel) = self.channels.get(call.id)
        {
            channel.outgoing = Some(Outgoing {
                bytes: reply,
                made_at: call.now,
                not_before: call.now + handled.delay,
            });
        }
    }

    /// The reply to a request of the host arrived.
    fn replied(&mut self, call: &Call<'_>, request: &Request, bytes: Vec<u8>, via: &'static str) {
        let latency = call.now.saturating_sub(request.fetched_at.unwrap_or(call.now));
        self.counters.replied(latency);
        let text = readable(&bytes);
        let event = Event {
            channel: Some(call.id),
            id: Some(request.id),
            origin: Some(request.origin.name()),
            via: Some(via),
            latency: Some(latency),
            bytes: Some(bytes),
            ..Event::new(Kind::TcloReply)
        };
        self.record(call.now, event);
        if !text.starts_with("OK ") && !text.starts_with("ERROR ") {
            self.violate(
                call.now,
                call.pid,
                Some(call.id),
                &Violation::ReplyForm { text: text.clone() },
            );
        }
        if request.command() == b"reset" {
            match text
                .strip_prefix("OK ATR ")
                .filter(|application| !application.is_empty())
            {
                Some(application) => self.registered(call, application.trim_end_matches('\0')),
                None => self.violate(
                    call.now,
                    call.pid,
                    Some(call.id),
                    &Violation::Registration { text },
                ),
            }
        }
    }

    fn registered(&mut self, call: &Call<'_>, application: &str) {
        let timing = self.config.timing;
        // The newest owner of a name wins: the one before may have died without closing.
        for console in &mut self.consoles {
            if console.channel == call.id {
                console.registered(application.to_owned(), &timing, call.now);
            } else if console.application.as_deref() == Some(application) {
                console.application = None;
            }
        }
        let event = Event {
            channel: Some(call.id),
            pid: Some(call.pid),
            text: Some(application.to_owned()),
            ..Event::new(Kind::TcloReady)
        };
        self.record(call.now, event);
        if application != TOOLBOX {
            return;
        }
        self.reset_answered = Some(call.now);
        // Asked again until it is reported: a daemon may die, or be reset, in between.
        let (power_on, resume) = (!self.powered_on, self.resuming);
        for request in tclo::startup(power_on) {
            self.ask(call.now, call.id, Origin::Startup, &request);
        }
        if power_on {
            self.executing = Some(3);
        }
        if resume {
            self.executing = Some(4);
            self.ask(call.now, call.id, Origin::Startup, b"OS_Resume");
        }
    }

    /// The guest acknowledged a message.
    pub(super) fn consumed(&mut self, call: &Call<'_>, protocol: Protocol) {
        let outgoing = self
            .channels
            .get(call.id)
            .and_then(|channel| channel.outgoing.take());
        let Some(outgoing) = outgoing else { return };
        let mut event = Event {
            channel: Some(call.id),
            pid: Some(call.pid),
            ..Event::new(Kind::RpciReply)
        };
        if protocol == Protocol::Tclo {
            self.counters.tclo_sent += 1;
            let console = self
                .consoles
                .iter_mut()
                .find(|console| console.channel == call.id);
            let Some(request) = console.and_then(|console| console.fetched(call.now)) else {
                return;
            };
            event.kind = Kind::TcloSend;
            event.id = Some(request.id);
            event.origin = Some(request.origin.name());
            event.queued = Some(call.now.saturating_sub(request.queued_at));
        } else {
            event.latency = Some(call.now.saturating_sub(outgoing.made_at));
        }
        event.bytes = Some(outgoing.bytes);
        self.record(call.now, event);
    }

    /// The guest refused a message.
    pub(super) fn aborted(&mut self, call: &Call<'_>, protocol: Protocol) {
        if let Some(channel) = self.channels.get(call.id) {
            channel.outgoing = None;
        }
        let mut event = Event {
            channel: Some(call.id),
            pid: Some(call.pid),
            ..Event::new(Kind::RpciAborted)
        };
        if protocol == Protocol::Tclo {
            let console = self
                .consoles
                .iter_mut()
                .find(|console| console.channel == call.id);
            let Some(request) = console.and_then(|console| console.aborted(call.now)) else {
                return;
            };
            event.kind = Kind::TcloAborted;
            event.id = Some(request.id);
            event.origin = Some(request.origin.name());
            event.bytes = Some(request.bytes);
        }
        self.record(call.now, event);
    }

    pub(super) fn close(&mut self, call: &Call<'_>) {
        let Some(channel) = self.channels.close(call.id, call.cookies) else {
            return;
        };
        self.consoles.retain(|console| console.channel != call.id);
        let event = Event {
            channel: Some(call.id),
            pid: Some(call.pid),
            protocol: Some(channel.protocol.name()),
            origin: Some("guest"),
            ..Event::new(Kind::Close)
        };
        self.record(call.now, event);
    }

    /// The host takes channels away.
    pub(super) fn lose(&mut self, now: Duration, which: impl Fn(u16) -> bool) {
        for channel in self.channels.lose(|channel| which(channel.id)) {
            self.consoles.retain(|console| console.channel != channel.id);
            let event = Event {
                channel: Some(channel.id),
                protocol: Some(channel.protocol.name()),
                origin: Some("host"),
                ..Event::new(Kind::Close)
            };
            self.record(now, event);
        }
    }

    /// Queues a request on a channel and returns its number.
    pub(super) fn ask(&mut self, now: Duration, channel: u16, origin: Origin, command: &[u8]) -> u64 {
        self.requests += 1;
        let mut bytes = command.to_vec();
        if self.config.trailing_nul && bytes.last() != Some(&0) {
            bytes.push(0);
        }
        if let Some(console) = self
            .consoles
            .iter_mut()
            .find(|console| console.channel == channel)
        {
            console.enqueue(Request::new(self.requests, origin, bytes, now), now);
        }
        self.requests
    }
}
