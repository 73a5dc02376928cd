//! Running commands: each scenario and each connection to the control socket has its own session, with its own idea
//! of "since the last thing that happened".

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    command::{Command, Setting},
    evidence::{Since, is_request},
    expectation::{Anchor, Expectation, What, When},
};
use crate::vmx::{
    host::{Host, HostError, SharedHost, Version},
    machine::Machine,
    summary::{Baseline, Summary},
    tclo::Timing,
    transcript::{Event, Kind, milliseconds},
};

/// How long an expectation with an anchor waits for the anchor.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the node may take to answer a line.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer of the node, in bytes.
const MAX_NODE_ANSWER: u64 = 1 << 20;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What was seen instead.
    pub seen: Vec<String>,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            seen: Vec::new(),
        }
    }
}

/// Runs commands one after the other.
pub struct Session {
    host: SharedHost,
    machine: Arc<dyn Machine>,
    node: Option<PathBuf>,
    since: Since,
    measured: Option<Summary>,
}

impl Session {
    /// A session that looks at everything from the start of the run.
    pub fn new(host: SharedHost, machine: Arc<dyn Machine>, node: Option<PathBuf>) -> Self {
        let since = Since {
            sequence: 0,
            time: Duration::ZERO,
            request: None,
        };
        Self {
            host,
            machine,
            node,
            since,
            measured: None,
        }
    }

    /// Runs a command; the value is what the control socket adds to its answer.
    pub fn run(&mut self, command: &Command) -> Result<Value, Failure> {
        match command {
            Command::Note => {}
            Command::Wait(time) => self.pause(*time),
            Command::Measure(time) => return self.measure(*time),
            Command::Expect(expectation) => return self.expect(expectation),
            Command::Ask(request) => return self.ask(request),
            Command::PowerOn => return Err(Failure::new("the guest runs")),
            Command::Count { prefix, comparison } => {
                let sequence = self.since.sequence;
                let count = self.host.with(|host, _| {
                    let transcript = host.transcript();
                    transcript.remembers(sequence).then(|| {
                        transcript
                            .since(sequence)
                            .filter(|event| is_request(event, prefix))
                            .count()
                    })
                });
                let count = count.ok_or_else(|| Failure::new("too much happened since to count it"))?;
                if !comparison.holds(count as f64) {
                    return Err(Failure {
                        message: format!("counted {count}"),
                        seen: self
                            .host
                            .with(|host, now| What::Rpci(prefix.clone()).instead(host, now, &self.since)),
                    });
                }
                return Ok(json!({ "count": count }));
            }
            Command::State => {
                return self.host.with(|host, now| {
                    serde_json::to_value(host.view(now)).map_err(|error| Failure::new(error.to_string()))
                });
            }
            Command::Summary => {
                let measurement = self.machine.measure();
                let summary = self
                    .host
                    .with(|host, now| Summary::new(host, now, measurement, &Baseline::default()));
                return serde_json::to_value(summary).map_err(|error| Failure::new(error.to_string()));
            }
            Command::Transcript(count) => {
                return Ok(self.host.with(|host, _| {
                    let first = host
                        .transcript()
                        .next()
                        .saturating_sub(u64::try_from(*count).unwrap_or(u64::MAX));
                    let lines = host.transcript().since(first).map(Event::to_json);
                    lines
                        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
                        .collect()
                }));
            }
            Command::Allow(kind) => self.host.with(|host, _| {
                host.allowed.insert(kind.clone());
            }),
            _ => return self.act(command),
        }
        Ok(Value::Null)
    }

    /// Commands that make something happen: later expectations look at what follows.
    fn act(&mut self, command: &Command) -> Result<Value, Failure> {
        self.remember();
        match command {
            Command::Signal(signal) => {
                self.machine
                    .signal(*signal)
                    .map_err(|error| Failure::new(format!("signal: {error}")))?;
                return Ok(Value::Null);
            }
            Command::Node(line) => return self.node(line),
            _ => {}
        }
        let (answer, request) = self
            .host
            .with(|host, now| act(host, now, command))
            .map_err(|error| Failure::new(error.to_string()))?;
        self.since.request = request.or(self.since.request);
        Ok(answer)
    }

    fn remember(&mut self) {
        let request = self.since.request;
        self.since = self.host.with(|host, now| Since {
            sequence: host.transcript().next(),
            time: now,
            request,
        });
    }

    /// Nothing happens any more once the guest has ended.
    fn pause(&self, time: Duration) {
        self.host.wait(self.host.now() + time, |host, _| host.exit);
    }

    fn measure(&mut self, time: Duration) -> Result<Value, Failure> {
        let measurement = self.machine.measure();
        let baseline = self.host.with(|host, now| Baseline {
            at: now,
            counters: host.counters.clone(),
            measurement,
        });
        let ended = self.host.wait(self.host.now() + time, |host, _| host.exit);
        if let Some(exit) = ended {
            return Err(Failure::new(format!("the guest ended meanwhile: {exit:?}")));
        }
        let measurement = self.machine.measure();
        let value = self.host.with(|host, now| {
            let summary = Summary::new(host, now, measurement, &baseline);
            let value = serde_json::to_value(&summary).unwrap_or_default();
            host.record(
                now,
                Event {
                    detail: Some(value.clone()),
                    ..Event::new(Kind::Measure)
                },
            );
            self.measured = Some(summary);
            value
        });
        Ok(value)
    }

    /// A request, and how long its reply took from being queued and from being fetched.
    fn ask(&mut self, request: &[u8]) -> Result<Value, Failure> {
        self.remember();
        let (id, asked) = self.host.with(|host, now| (host.send(now, request), now));
        let id = id.map_err(|error| Failure::new(error.to_string()))?;
        self.since.request = Some(id);
        let mut seen = self.since.sequence;
        let replied = self.host.wait(asked + PATIENCE, |host, _| {
            let reply = host
                .transcript()
                .since(seen)
                .find(|event| event.kind == Kind::TcloReply && event.id == Some(id))
                .cloned();
            seen = host.transcript().next();
            reply
        });
        let reply = replied.ok_or_else(|| Failure::new("no reply"))?;
        Ok(json!({
            "reply": reply.readable(),
            "after_ms": milliseconds(reply.at.saturating_sub(asked)),
            "latency_ms": reply.latency.map(milliseconds),
        }))
    }

    fn expect(&self, expectation: &Expectation) -> Result<Value, Failure> {
        if let What::Figure(name, comparison) = &expectation.what {
            let measured = self
                .measured
                .as_ref()
                .ok_or_else(|| Failure::new("no measure before"))?;
            let figure = measured
                .figure(name)
                .ok_or_else(|| Failure::new("nothing was measured of it"))?;
            if comparison.holds(figure) == expectation.negated {
                return Err(Failure::new(format!("{name} is {figure}")));
            }
            return Ok(Value::Null);
        }
        let what = &expectation.what;
        let mut since = Since {
            time: Duration::ZERO,
            ..self.since
        };
        match expectation.when {
            When::For(time) => {
                // Events count from this line on; a state has to hold all the time.
                since.sequence = self.host.with(|host, _| host.transcript().next());
                let until = self.host.now() + time;
                let broken = self.host.wait(until, |host, now| {
                    (what.seen(host, now, &since).is_some() == expectation.negated)
                        .then(|| self.failure(what, host, now, &since))
                });
                broken.map_or(Ok(Value::Null), Err)
            }
            When::Now => self.become_true(expectation, self.host.now(), &since, None),
            When::Within(time, None) => self.become_true(expectation, self.host.now() + time, &since, None),
            When::Within(time, Some(anchor)) => {
                let begin = match anchor {
                    Anchor::Action => self.since.time,
                    Anchor::Reset => self
                        .host
                        .wait(self.host.now() + PATIENCE, |host, _| {
                            host.reset_answered.filter(|at| *at >= self.since.time)
                        })
                        .ok_or_else(|| Failure::new("the guest did not answer a reset"))?,
                };
                since.time = begin;
                self.become_true(expectation, begin + time, &since, Some(begin))
            }
        }
    }

    fn become_true(
        &self,
        expectation: &Expectation,
        deadline: Duration,
        since: &Since,
        anchor: Option<Duration>,
    ) -> Result<Value, Failure> {
        let what = &expectation.what;
        // Whoever waits for the end of the guest must not be told that it ended.
        let ends = !matches!(what, What::Exit(_) | What::Violation(_));
        let outcome = self.host.wait(deadline, |host, now| {
            let seen = what.seen(host, now, since);
            if expectation.negated {
                return seen.is_none().then_some(Ok(Value::Null));
            }
            match (seen, anchor, host.exit) {
                // A bound from an anchor is a bound on the wire's time, not on this thread's.
                (Some(at), Some(anchor), _) if at > deadline => Some(Err(Failure {
                    message: format!("it took {:.3} ms", milliseconds(at.saturating_sub(anchor))),
                    seen: what.instead(host, now, since),
                })),
                // From the last thing that happened.
                (Some(at), ..) => Some(Ok(
                    json!({ "after_ms": milliseconds(at.saturating_sub(self.since.time)) }),
                )),
                (None, _, Some(exit)) if ends => Some(Err(Failure {
                    message: format!("the guest ended: {exit:?}"),
                    seen: Vec::new(),
                })),
                _ => None,
            }
        });
        outcome.unwrap_or_else(|| Err(self.host.with(|host, now| self.failure(what, host, now, since))))
    }

    fn failure(&self, what: &What, host: &Host, now: Duration, since: &Since) -> Failure {
        Failure {
            message: "not so".to_owned(),
            seen: what.instead(host, now, since),
        }
    }

    fn node(&self, line: &str) -> Result<Value, Failure> {
        let path = self
            .node
            .as_deref()
            .ok_or_else(|| Failure::new("no control socket of a node was given"))?;
        let answer = ask_node(path, line)
            .map_err(|error| Failure::new(format!("node at {}: {error}", path.display())))?;
        let ok = answer.get("ok") == Some(&Value::Bool(true));
        self.host.with(|host, now| {
            let event = Event {
                text: Some(line.to_owned()),
                ok: Some(ok),
                detail: Some(json!({ "answer": answer })),
                ..Event::new(Kind::Node)
            };
            host.record(now, event)
        });
        if ok {
            Ok(answer)
        } else {
            Err(Failure::new(format!("the node answered {answer}")))
        }
    }
}

/// One line to the node, one line of JSON back.
fn ask_node(path: &Path, line: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(NODE_TIMEOUT))?;
    stream.set_write_timeout(Some(NODE_TIMEOUT))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_NODE_ANSWER)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Carries out what is to hold before the guest starts.
///
/// # Errors
/// When it takes a guest that runs.
pub fn prepare(host: &SharedHost, command: &Command) -> Result<(), String> {
    match command {
        Command::Setting(_)
        | Command::Variable(..)
        | Command::MachineId(_)
        | Command::Fault(_)
        | Command::ClearFaults
        | Command::Override(..) => host
            .with(|host, now| act(host, now, command))
            .map(drop)
            .map_err(|error| error.to_string()),
        Command::Allow(kind) => {
            host.with(|host, _| host.allowed.insert(kind.clone()));
            Ok(())
        }
        Command::Note => Ok(()),
        _ => Err("before power-on there is no guest to do this with".to_owned()),
    }
}

/// Carries out what happens to the host; the second value is the number of the request it made.
fn act(host: &mut Host, now: Duration, command: &Command) -> Result<(Value, Option<u64>), HostError> {
    let mut request = None;
    let answer = match command {
        Command::Send(bytes) => {
            let id = host.send(now, bytes)?;
            request = Some(id);
            json!({ "id": id })
        }
        Command::Reset => {
            let id = host.reset(now)?;
            request = Some(id);
            json!({ "id": id })
        }
        Command::Flood(requests) => {
            host.flood(*requests);
            Value::Null
        }
        Command::RememberHost => {
            host.remember();
            Value::Null
        }
        Command::Revert => json!({ "in_flight": host.revert(now)? }),
        Command::Restart => json!({ "in_flight": host.restart(now) }),
        Command::ChangeCookies => json!({ "changed": host.change_cookies() }),
        Command::Checkpoint(checkpoint) => json!({ "in_flight": host.checkpoint(now, *checkpoint) }),
        Command::Resume => json!({ "in_flight": host.resume(now) }),
        Command::Close(protocol) => json!({ "closed": host.close_channels(now, *protocol) }),
        Command::Variable(key, value) => {
            host.rpci.variables.set(key, value.clone());
            Value::Null
        }
        Command::MachineId(id) => {
            host.rpci.machine_id = Some(id.clone());
            Value::Null
        }
        Command::Fault(fault) => {
            host.faults.arm(fault.clone());
            json!({ "armed": host.faults.len() })
        }
        Command::ClearFaults => {
            host.faults.clear();
            Value::Null
        }
        Command::Override(prefix, what) => {
            host.rpci.set_override(prefix, what.clone());
            Value::Null
        }
        Command::Setting(setting) => {
            set(host, now, *setting);
            Value::Null
        }
        // Remember is done by now; the others never come here.
        _ => Value::Null,
    };
    Ok((answer, request))
}

fn set(host: &mut Host, now: Duration, setting: Setting) {
    let timing = host.config.timing;
    match setting {
        Setting::Ping(ping) => host.set_timing(now, Timing { ping, ..timing }),
        Setting::Broadcast(broadcast) => host.set_timing(now, Timing { broadcast, ..timing }),
        Setting::RequestTimeout(request) => host.config.timing.request = request,
        Setting::TrailingNul(on) => host.config.trailing_nul = on,
        Setting::HighBandwidth(on) => host.config.high_bandwidth = on,
        Setting::Cookies(on) => host.config.cookies = on,
        Setting::VersionType(on) => host.config.version_type = on,
        Setting::Profile(profile) => host.config.profile = profile,
        Setting::Version(answer) => host.config.version = answer.map_or(Version::Faults, Version::Answer),
        Setting::ForeignChannels(channels) => host.occupy(channels),
        Setting::Slow(milliseconds) => host.config.slow = milliseconds,
        Setting::Clock(clock) => host.config.clock = clock,
        Setting::TimeCommand(newest) => host.config.time_command = newest,
        Setting::TcloOwner(owner) => host.config.tclo_owner = owner,
    }
}
