//! The transcript: what happened, one event per line of JSON, and the last events in memory for expectations.

use std::{
    collections::VecDeque,
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

/// Events kept in memory.
const MAX_EVENTS: usize = 8192;
/// Payload bytes kept in memory.
const MAX_BYTES: usize = 16 << 20;

/// Events that quote a line of a scenario.
const COMMANDS: [Kind; 3] = [Kind::Script, Kind::Expect, Kind::Node];

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The run began.
    Start,
    /// The guest opened a channel.
    Open,
    /// A channel closed; `origin` says by whom.
    Close,
    /// A request of the guest.
    Rpci,
    /// The guest read the host's answer.
    RpciReply,
    /// The guest fetched a request of the host.
    TcloSend,
    /// The guest answered it.
    TcloReply,
    /// An application registered.
    TcloReady,
    /// A request was not answered in time.
    TcloTimeout,
    /// The guest refused a request that was offered to it.
    TcloAborted,
    /// The guest refused the answer to its own request.
    RpciAborted,
    /// The guest broke the protocol.
    Violation,
    /// An armed fault struck.
    Fault,
    /// The guest's uptime went backwards: it was rebooted.
    SoftReset,
    /// A command of a scenario or the control socket.
    Script,
    /// An expectation and what became of it.
    Expect,
    /// A line to the node's control socket and its answer.
    Node,
    /// A program was executed.
    Exec,
    /// A process of the guest ended.
    ProcExit,
    /// The guest ended.
    Exit,
    /// The tracer kept a call from reaching the machine.
    Guard,
    /// A measurement.
    Measure,
    /// The end.
    Summary,
}

/// One event. Fields that do not apply are absent from the JSON.
#[derive(Clone, Debug)]
pub struct Event {
    /// Number of the event, from 0.
    pub sequence: u64,
    /// Time since the start.
    pub at: Duration,
    /// What happened.
    pub kind: Kind,
    /// Channel.
    pub channel: Option<u16>,
    /// Process.
    pub pid: Option<i32>,
    /// Protocol of the channel.
    pub protocol: Option<&'static str>,
    /// Number of a TCLO request, from 1.
    pub id: Option<u64>,
    /// Where a TCLO request comes from, who closed a channel, or the kind of a violation.
    pub origin: Option<&'static str>,
    /// `lb` or `hb`: how the payload moved.
    pub via: Option<&'static str>,
    /// The payload.
    pub bytes: Option<Vec<u8>>,
    /// Text of an event without payload.
    pub text: Option<String>,
    /// Time a request waited to be fetched.
    pub queued: Option<Duration>,
    /// Time from fetching a request to its reply, or from an RPCI request to its reply being read.
    pub latency: Option<Duration>,
    /// Whether it went well.
    pub ok: Option<bool>,
    /// Exit status, or the negative number of the signal that ended it.
    pub status: Option<i32>,
    /// Whatever else there is to say: an object, whose fields stand beside the others.
    pub detail: Option<serde_json::Value>,
}

impl Event {
    /// An event of `kind`; the transcript gives it its number and time.
    pub fn new(kind: Kind) -> Self {
        Self {
            sequence: 0,
            at: Duration::ZERO,
            kind,
            channel: None,
            pid: None,
            protocol: None,
            id: None,
            origin: None,
            via: None,
            bytes: None,
            text: None,
            queued: None,
            latency: None,
            ok: None,
            status: None,
            detail: None,
        }
    }

    /// The payload without the NULs at its end.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.bytes.as_deref().unwrap_or_default();
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        bytes.get(..end).unwrap_or_default()
    }

    /// The payload as a person can read it.
    pub fn readable(&self) -> String {
        match &self.text {
            Some(text) => text.clone(),
            None => readable(self.payload()),
        }
    }

    /// One line of JSON, without the line's end.
    pub fn to_json(&self) -> String {
        let bytes = self.bytes.as_deref();
        // Events call the same thing by the name that fits them.
        let time = self.latency.map(milliseconds);
        let is = |kinds: &[Kind]| kinds.contains(&self.kind);
        let line = Line {
            t: milliseconds(self.at),
            ev: self.kind,
            ch: self.channel,
            pid: self.pid,
            proto: self.protocol,
            id: self.id,
            origin: self.origin.filter(|_| !is(&[Kind::Violation])),
            kind: self.origin.filter(|_| is(&[Kind::Violation])),
            cmd: self.text.as_deref().filter(|_| is(&COMMANDS)),
            via: self.via,
            queued_ms: self.queued.map(milliseconds),
            latency_ms: time.filter(|_| !is(&[Kind::RpciReply, Kind::Expect])),
            transfer_ms: time.filter(|_| is(&[Kind::RpciReply])),
            waited_ms: time.filter(|_| is(&[Kind::Expect])),
            ok: self.ok,
            status: self.status,
            info: bytes.and_then(info_id),
            len: bytes.map(<[u8]>::len),
            nul: bytes
                .map(|bytes| bytes.iter().filter(|byte| **byte == 0).count())
                .filter(|count| *count > 0),
            text: (bytes.is_some() || (self.text.is_some() && !is(&COMMANDS))).then(|| self.readable()),
            hex: bytes.filter(|_| is_binary(self.payload())).map(hex),
            detail: self.detail.as_ref().and_then(serde_json::Value::as_object),
        };
        serde_json::to_string(&line).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    t: f64,
    ev: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    ch: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nul: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(flatten)]
    detail: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

/// Milliseconds with three decimals, as transcripts write times.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// The number N of a `SetGuestInfo  N` message.
pub fn info_id(payload: &[u8]) -> Option<u32> {
    let rest = payload.strip_prefix(b"SetGuestInfo  ")?;
    let digits = rest.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// UTF-8 where it is; otherwise each byte is the character of its number, so that nothing is lost.
pub fn readable(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(
        |_| bytes.iter().map(|byte| char::from(*byte)).collect(),
        str::to_owned,
    )
}

fn is_binary(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or(true, |text| {
        text.chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Where events go.
pub struct Transcript {
    events: VecDeque<Event>,
    bytes: usize,
    next: u64,
    file: Option<Box<dyn Write + Send>>,
    /// First failure to write; the rest of the run is not written.
    failure: Option<io::Error>,
}

impl Transcript {
    /// A transcript that is also written to `file`.
    pub fn new(file: Option<Box<dyn Write + Send>>) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            next: 0,
            file,
            failure: None,
        }
    }

    /// Takes an event and returns its number.
    pub fn record(&mut self, at: Duration, mut event: Event) -> u64 {
        event.at = at;
        event.sequence = self.next;
        self.next += 1;
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{}", event.to_json())
        {
            self.failure = Some(error);
            self.file = None;
        }
        self.bytes += event.bytes.as_ref().map_or(0, Vec::len);
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(gone) = self.events.pop_front() else {
                break;
            };
            self.bytes -= gone.bytes.as_ref().map_or(0, Vec::len);
        }
        self.next - 1
    }

    /// Number that the next event gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The events from number `sequence` on that are still in memory.
    pub fn since(&self, sequence: u64) -> impl DoubleEndedIterator<Item = &Event> {
        let forgotten = self.events.front().map_or(self.next, |event| event.sequence);
        let skip = usize::try_from(sequence.saturating_sub(forgotten)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip)
    }

    /// Whether all events from number `sequence` on are still in memory.
    pub fn remembers(&self, sequence: u64) -> bool {
        self.events.front().is_none_or(|event| event.sequence <= sequence)
    }

    /// The failure to write the file, if there was one. Writes out what is buffered.
    pub fn finish(&mut self) -> Option<io::Error> {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.failure.get_or_insert(error);
        }
        self.failure.take()
    }
}
