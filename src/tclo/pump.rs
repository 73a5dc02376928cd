//! The backdoor thread's loop, one step at a time.
//!
//! ```text
//!  step: queued RPCI calls (some) ──> send the owed reply or an empty poll ──> receive ──> dispatch ──> owed reply
//!                                              | failure
//!                                              v
//!                               close both channels, open again when Backoff says so
//! ```
//!
//! A step never sleeps; it says how long the thread may. Time comes in as a parameter, so tests drive years of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::trace;

use super::{Contention, Counters, Event, Events, Loss, MAX_REQUEST, Pace, Reply};
use crate::{
    backdoor::Hypercall,
    dispatch::Dispatch,
    limited,
    message::{Backoff, Channel, ChannelError, Protocol},
    rpci::{self, Calls, Connection, RpciError},
};

/// RPCI calls that one step serves: an endless stream of them does not hold up the host's requests, nor the reverse.
const CALLS_PER_STEP: usize = 16;

/// The time for the calls of one step, when the host is slow: the rest waits for the next one.
const CALLS_TIME: Duration = Duration::from_secs(1);

/// An outage from here on is told even while another agent fights for the channel, whose losses are not.
const LONG_OUTAGE: Duration = Duration::from_secs(30);

/// The longest pause of the thread, whatever it waits for: it shows that it lives.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to do.
    Now,
    /// Nothing to do for this long, unless a call is queued.
    Pause(Duration),
}

/// Both channels and everything that happens on them.
#[derive(Debug)]
pub struct Pump<H> {
    port: H,
    dispatch: Dispatch,
    calls: Calls,
    tclo: Option<Channel>,
    /// Whether a poll of the open channel has worked.
    connected: bool,
    rpci: Connection,
    /// Encoded, for the next poll; taken by it, so it never outlives its channel.
    reply: Option<Vec<u8>>,
    buffer: Vec<u8>,
    pace: Pace,
    backoff: Backoff,
    /// Whether the log says that the outage that is on began.
    outage_told: bool,
    contention: Contention,
    counters: Arc<Counters>,
    events: Events,
}

impl<H: Hypercall> Pump<H> {
    /// A pump that has not opened anything yet.
    pub fn new(
        port: H,
        dispatch: Dispatch,
        calls: Calls,
        events: Events,
        counters: Arc<Counters>,
        pace: Pace,
    ) -> Self {
        Self {
            port,
            dispatch,
            calls,
            tclo: None,
            connected: false,
            rpci: Connection::new(),
            reply: None,
            buffer: Vec::new(),
            pace,
            backoff: Backoff::default(),
            outage_told: false,
            contention: Contention::default(),
            counters,
            events,
        }
    }

    /// The other side of the exchanges.
    pub fn port(&mut self) -> &mut H {
        &mut self.port
    }

    /// Does what is due at `now`: some RPCI calls, and at most one request of the host.
    pub fn step(&mut self, now: Instant) -> Next {
        self.counters.stepped(now);
        self.events.catch_up();
        if self.backoff.wait(now).is_zero() {
            self.exchange(now)
        } else {
            self.refuse_calls();
            pause(self.backoff.wait(now))
        }
    }

    /// Answers what was asked, withdraws the capabilities and closes both channels, leaving out what does not fit before
    /// `deadline`.
    pub fn stop(&mut self, deadline: Instant) {
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            if self.tclo.is_none() || Instant::now() >= deadline {
                refuse(call);
            } else {
                self.serve(call, Instant::now());
            }
        }
        if let (Some(channel), Some(reply)) = (&self.tclo, self.reply.take()) {
            // The process is ending; whether the host takes its answer changes nothing.
            let _ = channel.send(&mut self.port, &reply);
        }
        if self.tclo.is_some() {
            let (port, rpci) = (&mut self.port, &mut self.rpci);
            self.dispatch.withdraw(&mut |request| {
                let now = Instant::now();
                if now >= deadline {
                    return Err(no_channel(request));
                }
                self.counters.called();
                rpci.call(port, request, now)
            });
        }
        self.close();
    }

    fn exchange(&mut self, now: Instant) -> Next {
        if let Err(error) = self.open() {
            return self.lose(&error, now);
        }
        // The host waits for an answer that is owed; our own requests can be many, and slow.
        let owed = self.reply.is_some();
        if owed && let Err(error) = self.poll(now) {
            return self.lose(&error, now);
        }
        let more_calls = self.serve_calls(now);
        self.finish_registration(now);
        if !owed
            && self.pace.wait(now).is_zero()
            && let Err(error) = self.poll(now)
        {
            return self.lose(&error, now);
        }
        if more_calls || self.reply.is_some() {
            Next::Now
        } else {
            pause(self.pace.wait(now))
        }
    }

    fn open(&mut self) -> Result<(), ChannelError> {
        if self.tclo.is_none() {
            self.tclo = Some(Channel::open(&mut self.port, Protocol::Tclo, MAX_REQUEST)?);
            self.counters.opened();
            self.rpci.retry_at_once();
        }
        Ok(())
    }

    /// One iteration: the owed reply, or nothing, goes out; a request may come in.
    fn poll(&mut self, now: Instant) -> Result<(), ChannelError> {
        let Some(channel) = &self.tclo else {
            return Ok(());
        };
        let reply = self.reply.take().unwrap_or_default();
        channel.send(&mut self.port, &reply)?;
        channel.receive(&mut self.port, &mut self.buffer)?;
        self.counters.polled();
        self.connect(now);
        // An announced message of no bytes is an empty poll too: nothing was asked, so nothing is owed.
        if self.buffer.is_empty() {
            self.dispatch.on_silence();
            self.pace.idle(now, self.dispatch.wants_fast_polling());
        } else {
            self.answer(now);
        }
        Ok(())
    }

    fn answer(&mut self, now: Instant) {
        self.counters.requested();
        trace!(feature = "tclo", request = %self.buffer.escape_ascii(), "received");
        let (port, rpci, counters) = (&mut self.port, &mut self.rpci, &self.counters);
        let handled = self.dispatch.handle(&self.buffer, now, &mut |request| {
            counters.called();
            rpci.call(port, request, now)
        });
        if handled.restarts_polling {
            self.pace.restart(now);
        }
        if let Some(event) = handled.event {
            if event == Event::Reset {
                self.counters.was_reset();
                self.rpci.retry_at_once();
                if self.contention.reset(now) {
                    self.contended();
                }
            }
            self.events.tell(event);
        }
        let mut reply = handled.reply.encode();
        if reply.len() > rpci::MAX_REQUEST {
            limited!(
                warn,
                feature = "tclo",
                len = reply.len(),
                "a reply exceeds a guest message"
            );
            reply = Reply::Error("Reply too large".into()).encode();
        }
        trace!(feature = "tclo", reply = %reply.escape_ascii(), "answered");
        self.reply = Some(reply);
    }

    fn finish_registration(&mut self, now: Instant) {
        let (port, rpci, counters) = (&mut self.port, &mut self.rpci, &self.counters);
        let event = self.dispatch.finish_registration(now, &mut |request| {
            counters.called();
            rpci.call(port, request, now)
        });
        if let Some(event) = event {
            self.events.tell(event);
        }
    }

    /// Serves some queued calls; `true` when more may be waiting.
    fn serve_calls(&mut self, now: Instant) -> bool {
        let begin = Instant::now();
        for _ in 0..CALLS_PER_STEP {
            match self.calls.try_recv() {
                Ok(call) => self.serve(call, now),
                Err(_) => return false,
            }
            if begin.elapsed() >= CALLS_TIME {
                break;
            }
        }
        true
    }

    fn serve(&mut self, call: rpci::Call, now: Instant) {
        if call.is_abandoned() {
            return;
        }
        self.counters.called();
        let answer = self.rpci.call(&mut self.port, call.request(), now);
        call.finish(answer);
    }

    /// Without a channel a call fails at once: the caller knows better than a queue whether it is still wanted later.
    fn refuse_calls(&mut self) {
        while let Ok(call) = self.calls.try_recv() {
            refuse(call);
        }
    }

    /// A poll worked.
    fn connect(&mut self, now: Instant) {
        self.rpci.tclo_works();
        if let Some(outage) = self.backoff.succeeded(now)
            && std::mem::take(&mut self.outage_told)
        {
            limited!(
                info,
                feature = "tclo",
                ?outage,
                "the channel to the host works again"
            );
        }
        if !self.connected {
            self.connected = true;
            self.contention.connected(now);
            self.events.tell(Event::Connected);
        } else if let Some(lasted) = self.contention.held(now) {
            limited!(
                info,
                feature = "tclo",
                ?lasted,
                "the channel to the host is no longer taken away"
            );
        }
    }

    fn contended(&mut self) {
        limited!(
            warn,
            feature = "tclo",
            "the channel to the host is taken away again and again: does a second agent run on this node, such as the \
             talos-vmtoolsd of a DaemonSet? Only one can be served; this one keeps trying"
        );
        self.events.tell(Event::Contended);
    }

    fn outage_began(&mut self, error: &ChannelError) {
        self.outage_told = true;
        limited!(warn, feature = "tclo", err = %error, "no channel to the host");
    }

    /// The channel failed at `now`: everything that belongs to it goes, and the pauses of [`Backoff`] begin.
    fn lose(&mut self, error: &ChannelError, now: Instant) -> Next {
        self.close();
        self.counters.lost();
        self.dispatch.on_loss();
        self.pace.restart(now);
        if self.backoff.failed(now) {
            self.outage_told = false;
            match self.contention.lost(now) {
                Loss::Single => self.outage_began(error),
                Loss::Contended => self.contended(),
                Loss::Again { losses } => {
                    limited!(
                        warn,
                        feature = "tclo",
                        losses,
                        err = %error,
                        "the channel to the host is still taken away"
                    );
                    self.events.tell(Event::Contended);
                }
                Loss::Quiet => {}
            }
            self.events.tell(Event::Lost { since: now });
        } else if !self.outage_told && self.backoff.outage(now) >= Some(LONG_OUTAGE) {
            self.outage_began(error);
        }
        pause(self.backoff.wait(now))
    }

    fn close(&mut self) {
        self.connected = false;
        self.rpci.close(&mut self.port);
        if let Some(channel) = self.tclo.take() {
            channel.close(&mut self.port);
        }
    }
}

fn pause(wait: Duration) -> Next {
    if wait.is_zero() {
        Next::Now
    } else {
        Next::Pause(wait.min(PAUSE_MAX))
    }
}

fn refuse(call: rpci::Call) {
    let error = no_channel(call.request());
    call.finish(Err(error));
}

fn no_channel(request: &rpci::Request) -> RpciError {
    RpciError::Channel {
        command: request.name(),
        reason: "the channel to the host is lost or closed".into(),
        unsent: true,
    }
}
