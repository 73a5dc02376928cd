//! The host's side of TCLO: what is asked of the application behind a channel, in which order, and what it answers.
//!
//! ```text
//! channel opens -> reset -> OK ATR toolbox -> Capabilities_Register, Set_Option ..., tools state, OS_PowerOn
//!                                          -> ping every few seconds, Set_Option broadcastIP 1 every half minute
//! ```
//!
//! One request is under way at a time; the others wait in a queue.

use std::{collections::VecDeque, time::Duration};

use super::{backdoor::Step, host::vix_request, violation::Violation};

/// What a host sends after registration, as recorded from hosts: the options of a default VM.
const OPTIONS: [&str; 15] = [
    "Set_Option synctime 0",
    "Set_Option copypaste 0",
    "Set_Option autohide 0",
    "Set_Option enableDnD 0",
    "Set_Option synctime.period 0",
    "Set_Option time.synchronize.tools.enable 1",
    "Set_Option time.synchronize.guest.resync 0",
    "Set_Option time.synchronize.guest.resync.timeout 0",
    "Set_Option time.synchronize.tools.startup.backward 0",
    "Set_Option time.synchronize.tools.startup 1",
    "Set_Option toolScripts.afterPowerOn 1",
    "Set_Option toolScripts.afterResume 1",
    "Set_Option toolScripts.beforeSuspend 1",
    "Set_Option toolScripts.beforePowerOff 1",
    "Set_Option enableAppInfo 1",
];

/// The VIX operation that asks for the tools' state.
const GET_TOOLS_STATE: u32 = 62;

/// Name of the application that is the tools daemon.
pub const TOOLBOX: &str = "toolbox";

/// When the host asks.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Pause between pings; none if absent. Hosts do not publish theirs, the recorded sessions have five seconds.
    pub ping: Option<Duration>,
    /// Pause between the requests to publish the primary address, counted from registration; none if absent.
    pub broadcast: Option<Duration>,
    /// How long a request may take before the host gives up (`GuestRpcSendTimedOut`).
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Some(Duration::from_secs(5)),
            broadcast: Some(Duration::from_secs(30)),
            request: Duration::from_secs(15),
        }
    }
}

/// Why the host asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A new channel or a host event.
    Reset,
    /// Registration.
    Startup,
    /// The heartbeat's question.
    Ping,
    /// The wish for the primary address.
    Broadcast,
    /// A scenario or the control socket.
    Script,
    /// A flood of hostile requests.
    Flood,
}

impl Origin {
    /// The name in transcripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Startup => "startup",
            Self::Ping => "ping",
            Self::Broadcast => "broadcast",
            Self::Script => "script",
            Self::Flood => "flood",
        }
    }
}

/// A request of the host.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number, from 1, unique in a run.
    pub id: u64,
    /// Why.
    pub origin: Origin,
    /// The command, as it goes over the channel.
    pub bytes: Vec<u8>,
    /// When it was made.
    pub queued_at: Duration,
    /// When the guest acknowledged that it read it.
    pub fetched_at: Option<Duration>,
    /// When it became the one under way.
    current_since: Duration,
    timed_out: bool,
}

impl Request {
    /// A request made now.
    pub fn new(id: u64, origin: Origin, bytes: Vec<u8>, now: Duration) -> Self {
        Self {
            id,
            origin,
            bytes,
            queued_at: now,
            fetched_at: None,
            current_since: now,
            timed_out: false,
        }
    }

    /// The command without NULs at its end.
    pub fn command(&self) -> &[u8] {
        let end = self
            .bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        self.bytes.get(..end).unwrap_or_default()
    }
}

/// What a message of the guest on a TCLO channel is.
#[derive(Debug)]
pub enum Sent {
    /// An empty message: the guest is alive and has nothing to say.
    Poll,
    /// The reply to a request.
    Reply(Request),
}

/// The host's side of one TCLO channel.
#[derive(Debug)]
pub struct Console {
    /// Channel.
    pub channel: u16,
    /// The application that registered.
    pub application: Option<String>,
    queue: VecDeque<Request>,
    current: Option<Request>,
    /// The guest opened the exchange by sending.
    polled: bool,
    next_ping: Option<Duration>,
    next_broadcast: Option<Duration>,
}

impl Console {
    /// The console of a channel that was opened just now.
    pub fn new(channel: u16) -> Self {
        Self {
            channel,
            application: None,
            queue: VecDeque::new(),
            current: None,
            polled: false,
            next_ping: None,
            next_broadcast: None,
        }
    }

    /// Queues a request; `reset` goes first and takes the host's own routine requests with it.
    pub fn enqueue(&mut self, request: Request, now: Duration) {
        if request.origin == Origin::Reset {
            self.queue.retain(|queued| queued.origin == Origin::Script);
            self.queue.push_front(request);
        } else {
            self.queue.push_back(request);
        }
        self.advance(now);
    }

    /// The guest is about to send `size` bytes: a poll is not allowed where a reply is due.
    pub fn check_send(&self, size: u32) -> Result<(), Violation> {
        match &self.current {
            Some(request) if size == 0 && request.fetched_at.is_some() => Err(Violation::ReplyDue {
                step: Step::SendSize,
                id: request.id,
            }),
            _ => Ok(()),
        }
    }

    /// A whole message of the guest.
    pub fn sent(&mut self, now: Duration, bytes: &[u8]) -> Result<Sent, Violation> {
        if bytes.is_empty() {
            self.polled = true;
            return Ok(Sent::Poll);
        }
        match self.current.take_if(|request| request.fetched_at.is_some()) {
            None => Err(Violation::Unasked {
                text: super::transcript::readable(bytes),
            }),
            Some(request) => {
                self.polled = true;
                self.advance(now);
                Ok(Sent::Reply(request))
            }
        }
    }

    /// The request to offer at RECVSIZE.
    pub fn offer(&self) -> Result<Option<&Request>, Violation> {
        match &self.current {
            Some(request) if request.fetched_at.is_some() => Err(Violation::ReplyDue {
                step: Step::RecvSize,
                id: request.id,
            }),
            _ if !self.polled => Err(Violation::NoPoll),
            current => Ok(current.as_ref()),
        }
    }

    /// RECVSIZE found nothing: the exchange is over.
    pub fn nothing_offered(&mut self) {
        self.polled = false;
    }

    /// The guest consumed the request under way.
    pub fn fetched(&mut self, now: Duration) -> Option<&Request> {
        self.polled = false;
        let request = self.current.as_mut()?;
        request.fetched_at = Some(now);
        Some(request)
    }

    /// The guest refused the request under way.
    pub fn aborted(&mut self, now: Duration) -> Option<Request> {
        self.polled = false;
        let request = self.current.take_if(|request| request.fetched_at.is_none());
        self.advance(now);
        request
    }

    /// The application registered: its timers start.
    pub fn registered(&mut self, application: String, timing: &Timing, now: Duration) {
        self.application = Some(application);
        self.next_ping = timing.ping.map(|pause| now + pause);
        self.next_broadcast = timing.broadcast.map(|pause| now + pause);
    }

    /// Whether nothing is under way nor waiting.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.queue.is_empty()
    }

    /// Whether this is the tools daemon.
    pub fn is_toolbox(&self) -> bool {
        self.application.as_deref() == Some(TOOLBOX)
    }

    /// Routine requests that are due now.
    pub fn due(&mut self, timing: &Timing, now: Duration) -> Vec<(Origin, &'static [u8])> {
        let mut due: Vec<(Origin, &'static [u8])> = Vec::new();
        if !self.is_toolbox() {
            return due;
        }
        if let (Some(at), Some(pause)) = (self.next_broadcast, timing.broadcast)
            && at <= now
        {
            self.next_broadcast = Some(now + pause);
            due.push((Origin::Broadcast, b"Set_Option broadcastIP 1"));
        }
        if let (Some(at), Some(pause)) = (self.next_ping, timing.ping)
            && at <= now
        {
            self.next_ping = Some(now + pause);
            due.push((Origin::Ping, b"ping"));
        }
        due.retain(|(origin, _)| {
            !self
                .current
                .iter()
                .chain(&self.queue)
                .any(|request| request.origin == *origin)
        });
        due
    }

    /// The timers were changed: they start again from now.
    pub fn restart_timers(&mut self, timing: &Timing, now: Duration) {
        if let Some(application) = self.application.take() {
            self.registered(application, timing, now);
        }
    }

    /// The request under way, if its time is over and was not reported before. One that was never fetched is dropped
    /// where `droppable`; a fetched one stays, its reply is still owed.
    pub fn timed_out(&mut self, timing: &Timing, now: Duration, droppable: bool) -> Option<Request> {
        let request = self.current.as_mut()?;
        if request.timed_out || now.saturating_sub(request.current_since) < timing.request {
            return None;
        }
        request.timed_out = true;
        let report = request.clone();
        if report.fetched_at.is_none() && droppable {
            self.current = None;
            self.advance(now);
        }
        Some(report)
    }

    fn advance(&mut self, now: Duration) {
        if self.current.is_none() {
            self.current = self.queue.pop_front();
            if let Some(request) = &mut self.current {
                request.current_since = now;
            }
        }
    }
}

/// What follows registration; `power_on` where the VM was powered on and nobody told the guest yet.
pub fn startup(power_on: bool) -> Vec<Vec<u8>> {
    let mut requests = vec![b"Capabilities_Register".to_vec()];
    requests.extend(OPTIONS.iter().map(|option| option.as_bytes().to_vec()));
    requests.push(vix_request(GET_TOOLS_STATE, 0));
    if power_on {
        requests.push(b"OS_PowerOn".to_vec());
    }
    requests
}
