//! The task that keeps the host's picture of this machine true.
//!
//! ```text
//!        ┌── a snapshot changed ── at once, or when the quiet time of the last message is over
//!  wait ─┼── reset, broadcastIP ── at once, at most once per quiet time
//!        ├── uptime is due
//!        └── full resend is due
//!            pass: facts, minus what the ledger says the host has ──> Rpci
//!              taken    remember
//!              refused  remember, say so once; other form where there is one
//!              no channel  back off, then the same pass again
//! ```

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    control::{Control, Wants},
    key::Key,
    ledger::{self, Ledger},
    nic::{Cut, Message, NicInfo},
    os::{Kernel, OsNames},
    policy::Policy,
    render::Facts,
    uptime,
};
use crate::{
    rpci::{Request, Rpci, RpciError},
    talos::Snapshot,
};

/// What follows a change within this time goes into one message.
const QUIET: Duration = Duration::from_millis(100);
/// The same after a change that did not concern the host: bounds the work under a flood of them.
const QUIET_UNSENT: Duration = Duration::from_millis(10);
/// How long the first NIC record waits for routes and node addresses, so that it is not sent with one address first and
/// then with another.
const SETTLE: Duration = Duration::from_millis(300);
/// Uptime, as often as open-vm-tools sends it (guestinfo.md 1.4).
const UPTIME: Duration = Duration::from_secs(30);
/// Share by which the uptime's period varies.
const UPTIME_JITTER: f64 = 0.1;
/// Everything again, in case the host has lost it without a `reset`.
const RESEND: Duration = Duration::from_secs(600);
/// Share by which that varies, so that the nodes of a cluster do not do it together.
const RESEND_JITTER: f64 = 0.2;
/// Pauses after a message without answer: the first, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
const RETRY_JITTER: f64 = 0.2;
/// Changes are logged at info level no more often than this.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Why a pass stopped.
#[derive(Debug)]
enum Stop {
    /// There is no way to the host at the moment.
    NoChannel(RpciError),
    /// A `reset` or a suspension came in between.
    Overtaken,
}

/// What the host made of a request.
#[derive(Debug)]
enum Answer {
    Accepted,
    Refused { text: String },
    Garbled,
}

/// When what is due.
#[derive(Debug)]
struct Schedule {
    /// A pass for a change or a `reset`.
    change: Option<Instant>,
    uptime: Instant,
    resend: Instant,
    /// Changes wait until then.
    quiet: Instant,
    /// A `reset` waits until then.
    calm: Instant,
    /// Everything but a `reset` waits until then.
    blocked: Instant,
    /// The last pause of a series.
    backoff: Option<Duration>,
    /// The first NIC record waits until then at most.
    settle: Option<Instant>,
    /// No info line before.
    log: Instant,
}

/// Publishes snapshots until it is cancelled.
pub struct Publisher<R> {
    rpci: Arc<R>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    wants: watch::Receiver<Wants>,
    policy: Policy,
    kernel: Option<Kernel>,
    ledger: Ledger,
    /// What of `wants` has been taken into account.
    seen: Wants,
    /// A `reset` has been noticed and not yet answered by a pass.
    forgotten: bool,
    /// A key was answered with garbage in this pass.
    garbled: bool,
    /// Refusals that have been logged and last.
    refusals: BTreeMap<Key, String>,
    /// The last cut that has been logged.
    cut: Cut,
    schedule: Schedule,
    random: fastrand::Rng,
}

impl<R: Rpci> Publisher<R> {
    /// A publisher that has told the host nothing yet. `kernel` is this node's.
    pub fn new(
        rpci: Arc<R>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        control: &Control,
        policy: Policy,
        kernel: Option<Kernel>,
    ) -> Self {
        let now = Instant::now();
        Self {
            rpci,
            snapshots,
            wants: control.subscribe(),
            policy,
            kernel,
            ledger: Ledger::default(),
            seen: Wants::default(),
            forgotten: false,
            garbled: false,
            refusals: BTreeMap::new(),
            cut: Cut::default(),
            schedule: Schedule {
                change: Some(now),
                uptime: now,
                resend: now + RESEND,
                quiet: now,
                calm: now,
                blocked: now,
                backoff: None,
                settle: None,
                log: now,
            },
            random: fastrand::Rng::new(),
        }
    }

    /// Runs until `shutdown`. A request under way is abandoned then; the host keeps what it has.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.schedule.resend = Instant::now() + self.varied(RESEND, RESEND_JITTER);
        let publish = async {
            loop {
                self.wait().await;
                let started = Instant::now();
                let outcome = self.pass(started).await;
                self.plan(started, outcome);
            }
        };
        shutdown.run_until_cancelled(publish).await;
    }

    /// Returns when a pass is due.
    async fn wait(&mut self) {
        loop {
            let now = Instant::now();
            self.notice(now);
            let due = self.due();
            if due.is_some_and(|due| due <= now) {
                return;
            }
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = changed(&mut self.wants) => {}
                () = changed(&mut self.snapshots) => self.schedule.change_at(now.max(self.schedule.quiet)),
                () = timer => {}
            }
        }
    }

    /// Takes new wishes and facts into account.
    fn notice(&mut self, now: Instant) {
        let wants = *self.wants.borrow_and_update();
        if wants.resets != self.seen.resets {
            self.ledger = Ledger::default();
            self.forgotten = true;
            self.schedule.uptime = now.max(self.schedule.calm);
        }
        if wants.broadcasts != self.seen.broadcasts {
            self.ledger.resend_one(Key::PrimaryIp);
            self.forgotten = true;
        }
        if self.forgotten {
            // The host has just spoken, so there is a channel.
            self.schedule.blocked = now;
            self.schedule.change_at(now.max(self.schedule.calm));
        }
        if self.seen.suspended && !wants.suspended {
            self.schedule.change_at(now);
        }
        self.seen = wants;
        // One that came during the last pass.
        if self.snapshots.has_changed().unwrap_or(false) {
            self.snapshots.mark_unchanged();
            self.schedule.change_at(now.max(self.schedule.quiet));
        }
    }

    /// When the next pass is due; never while suspended.
    fn due(&self) -> Option<Instant> {
        if self.seen.suspended {
            return None;
        }
        let timers = self.schedule.uptime.min(self.schedule.resend);
        let due = self.schedule.change.map_or(timers, |change| change.min(timers));
        Some(due.max(self.schedule.blocked))
    }

    /// Sends what the host lacks.
    async fn pass(&mut self, now: Instant) -> Result<Vec<Key>, Stop> {
        self.schedule.change = None;
        self.garbled = false;
        if std::mem::take(&mut self.forgotten) {
            self.schedule.calm = now + QUIET;
        }
        if now >= self.schedule.resend {
            self.ledger.resend();
            self.schedule.resend = now + self.varied(RESEND, RESEND_JITTER);
            self.schedule.uptime = now;
        }

        let snapshot = self.snapshots.borrow_and_update().clone();
        let facts = Facts::new(&snapshot, &self.policy, self.kernel.as_ref(), &mut |_| ());
        let mut sent = Vec::new();
        if let Some(network) = &facts.network
            && self.is_settled(network.settled, now)
        {
            self.send_network(&network.record, &mut sent).await?;
            let primary = network.primary.map(|address| address.to_string());
            self.send_text(Key::PrimaryIp, &primary.unwrap_or_default(), &mut sent)
                .await?;
        }
        if let Some(Ok(name)) = &facts.name {
            self.send_text(Key::HostName, name, &mut sent).await?;
        }
        if let Some(names) = &facts.os {
            self.send_os(names, &mut sent).await?;
        }
        if now >= self.schedule.uptime {
            self.send_uptime().await?;
            self.schedule.uptime = now + self.varied(UPTIME, UPTIME_JITTER);
        }
        self.log_published(&sent, &facts, now);
        Ok(sent)
    }

    /// Decides about the time until the next pass.
    fn plan(&mut self, started: Instant, outcome: Result<Vec<Key>, Stop>) {
        let now = Instant::now();
        match outcome {
            Ok(sent) => {
                let quiet = if sent.is_empty() { QUIET_UNSENT } else { QUIET };
                self.schedule.quiet = started + quiet;
                if self.garbled {
                    self.back_off(now);
                } else if self.schedule.backoff.take().is_some() {
                    debug!(feature = "guestinfo", "the host answers again");
                }
            }
            Err(Stop::Overtaken) => self.schedule.change_at(now.max(self.schedule.calm)),
            Err(Stop::NoChannel(error)) => {
                // Whoever owns the channel has said that it is gone.
                debug!(feature = "guestinfo", err = %error, "publishing waits for the host");
                self.back_off(now);
            }
        }
    }

    /// Repeats the pass later, and nothing before.
    fn back_off(&mut self, now: Instant) {
        let pause = match self.schedule.backoff {
            None => RETRY_FIRST,
            Some(last) => (last * 2).min(RETRY_LONGEST),
        };
        self.schedule.backoff = Some(pause);
        self.schedule.blocked = now + self.varied(pause, RETRY_JITTER);
        self.schedule.change_at(self.schedule.blocked);
    }

    /// Whether the NIC record may go out. After the first one it always may.
    fn is_settled(&mut self, settled: bool, now: Instant) -> bool {
        let until = *self
            .schedule
            .settle
            .get_or_insert(if settled { now } else { now + SETTLE });
        if settled || now >= until {
            self.schedule.settle = Some(now);
            return true;
        }
        self.schedule.change_at(until);
        false
    }

    async fn send_text(&mut self, key: Key, value: &str, sent: &mut Vec<Key>) -> Result<(), Stop> {
        let Some(request) = key.text(value) else {
            return Ok(());
        };
        let identity = value.as_bytes().to_vec();
        if self.ledger.wants(key, &identity) {
            let answer = self.ask(key, request).await?;
            self.conclude(key, identity, answer, sent);
        }
        Ok(())
    }

    /// The NIC record, in the message the host takes: where it refuses one, the next is tried at once and kept.
    async fn send_network(&mut self, record: &NicInfo, sent: &mut Vec<Key>) -> Result<(), Stop> {
        let key = Key::NicInfo;
        // Whatever message carries it, the record is known by its longest form.
        let (identity, cut) = record.encode(Message::V3);
        if !self.ledger.wants(key, &identity) {
            return Ok(());
        }
        let request = |message: Message, bytes: &[u8]| Request::guest_info_binary(message.id(), bytes);
        let mut cut = cut;
        let mut answer = Answer::Garbled;
        if self.ledger.nic_message == Message::V3 {
            answer = self.ask(key, request(Message::V3, &identity)).await?;
            if matches!(answer, Answer::Refused { .. }) {
                self.ledger.nic_message = Message::V2;
            }
        }
        if self.ledger.nic_message == Message::V2 {
            let (bytes, shorter) = record.encode(Message::V2);
            cut = shorter;
            answer = self.ask(key, request(Message::V2, &bytes)).await?;
            if matches!(answer, Answer::Refused { .. }) {
                self.ledger.nic_message = Message::V3;
            }
        }
        if cut != self.cut {
            self.cut = cut;
            if cut.is_nothing() {
                info!(
                    feature = "guestinfo",
                    "the NIC record fits into one message again"
                );
            } else {
                warn!(feature = "guestinfo", %cut, "the NIC record does not fit into one message");
            }
        }
        self.conclude(key, identity, answer, sent);
        Ok(())
    }

    /// The structured record, or the two plain names for a host that refuses it.
    async fn send_os(&mut self, names: &OsNames, sent: &mut Vec<Key>) -> Result<(), Stop> {
        let key = Key::OsDetailed;
        if !self.ledger.plain_os_names {
            let record = names.detailed();
            if !self.ledger.wants(key, &record) {
                return Ok(());
            }
            let answer = self.ask(key, Request::guest_info_binary(11, &record)).await?;
            match answer {
                Answer::Refused { text } => {
                    debug!(feature = "guestinfo", text, "the host takes plain OS names only");
                    self.ledger.plain_os_names = true;
                }
                answer => {
                    self.conclude(key, record, answer, sent);
                    return Ok(());
                }
            }
        }
        self.send_text(Key::OsNameFull, &names.full, sent).await?;
        self.send_text(Key::OsName, &names.short, sent).await
    }

    /// The uptime of this moment, every time.
    async fn send_uptime(&mut self) -> Result<(), Stop> {
        let Some(uptime) = uptime::hundredths() else {
            return Ok(());
        };
        self.ledger.resend_one(Key::Uptime);
        self.send_text(Key::Uptime, &uptime.to_string(), &mut Vec::new())
            .await
    }

    async fn ask(&mut self, key: Key, request: Request) -> Result<Answer, Stop> {
        self.check_overtaken()?;
        let reply = self.rpci.call(request).await;
        // An answer from before a `reset` says nothing about what the host has now.
        self.check_overtaken()?;
        match reply {
            Ok(body) => {
                let text = String::from_utf8_lossy(&body);
                let text = text.trim_end_matches('\0');
                if key.silence_means_stored() && !text.is_empty() {
                    Ok(Answer::Refused {
                        text: text.to_owned(),
                    })
                } else {
                    Ok(Answer::Accepted)
                }
            }
            Err(RpciError::Refused { text, .. }) => Ok(Answer::Refused { text }),
            Err(error @ RpciError::TooLarge { .. }) => Ok(Answer::Refused {
                text: error.to_string(),
            }),
            Err(RpciError::Malformed { .. }) => Ok(Answer::Garbled),
            Err(
                error
                @ (RpciError::Channel { .. } | RpciError::Deadline { .. } | RpciError::NotQueued { .. }),
            ) => Err(Stop::NoChannel(error)),
        }
    }

    fn check_overtaken(&self) -> Result<(), Stop> {
        let wants = self.wants.borrow();
        if wants.resets != self.seen.resets || wants.suspended {
            return Err(Stop::Overtaken);
        }
        Ok(())
    }

    /// Remembers what the host made of a value; says so when a refusal begins or ends.
    fn conclude(&mut self, key: Key, identity: Vec<u8>, answer: Answer, sent: &mut Vec<Key>) {
        match answer {
            Answer::Accepted => {
                self.ledger.accepted(key, identity);
                sent.push(key);
                if self.refusals.remove(&key).is_some() {
                    info!(feature = "guestinfo", key = key.name(), "the host takes it again");
                }
            }
            Answer::Refused { text } => {
                let permanent = ledger::is_permanent(&text);
                self.ledger.refused(key, identity, permanent);
                let text: String = text.escape_debug().take(200).collect();
                if self.refusals.get(&key) != Some(&text) {
                    warn!(
                        feature = "guestinfo",
                        key = key.name(),
                        permanent,
                        err = text,
                        "the host refuses it"
                    );
                    self.refusals.insert(key, text);
                }
            }
            Answer::Garbled => self.garbled = true,
        }
    }

    fn log_published(&mut self, sent: &[Key], facts: &Facts, now: Instant) {
        if sent.is_empty() {
            return;
        }
        let keys = sent.iter().map(|key| key.name()).collect::<Vec<_>>().join(" ");
        let adapters = facts.network.as_ref().map(|network| network.record.nics.len());
        let address = facts.network.as_ref().and_then(|network| network.primary);
        let name = facts.name.as_ref().and_then(|name| name.as_deref().ok());
        if now >= self.schedule.log {
            self.schedule.log = now + LOG_PAUSE;
            info!(feature = "guestinfo", keys, adapters, address = ?address, name, "published");
        } else {
            debug!(feature = "guestinfo", keys, adapters, address = ?address, name, "published");
        }
    }

    /// `period`, more or less.
    fn varied(&mut self, period: Duration, share: f64) -> Duration {
        period.mul_f64(1.0 - share + 2.0 * share * self.random.f64())
    }
}

impl Schedule {
    /// A pass at `when`, or earlier if one was planned already.
    fn change_at(&mut self, when: Instant) {
        self.change = Some(self.change.map_or(when, |planned| planned.min(when)));
    }
}

/// Waits for a new value. When nobody can send one any more, for ever: the last one stays true.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        future::pending().await
    }
}

#[cfg(test)]
mod tests;
