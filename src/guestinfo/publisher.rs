//! The task that keeps the host's picture of this machine true.
//!
//! ```text
//!        ┌── a snapshot changed ── at once, or when the quiet time of the last message is over
//!  wait ─┼── reset, broadcastIP ── at once, at most once per quiet time
//!        ├── uptime, statistics are due
//!        └── full resend is due
//!            pass: facts, minus what the ledger says the host has ──> Rpci
//!              taken    remember
//!              refused  remember, say so once; other form where there is one, or the same again after 30 s
//!              no channel  back off, then the same pass again
//! ```

#![forbid(unsafe_code)]

mod machine;

use std::{collections::BTreeMap, future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, field};

use super::{
    containers::Containers,
    control::{Control, Wants},
    disk::{self, Filesystems},
    key::Key,
    ledger::{self, Ledger},
    name::NameError,
    nic::{Cut, Message, NicInfo},
    os::{Kernel, OsNames},
    policy::Policy,
    render::Facts,
    schedule::Schedule,
    statistics::Statistics,
    talos_state::Budget,
    uptime,
};
use crate::{
    limited,
    rpci::{Request, Rpci, RpciError},
    talos::Snapshot,
};

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
    /// A key was answered with garbage in this pass.
    garbled: bool,
    /// Refusals that last, with what the host says to them.
    refusals: BTreeMap<Key, String>,
    /// The record did not fit the last time.
    cut: Cut,
    /// The node's name could not be sent the last time.
    nameless: bool,
    schedule: Schedule,
    statistics: Statistics,
    budget: Budget,
    /// Place behind the key of Talos's state that was written last.
    next_state: usize,
    /// None where disks are not told.
    filesystems: Option<watch::Receiver<Filesystems>>,
    disks: disk::Told,
    /// None where containers are not told.
    containers: Option<watch::Receiver<Containers>>,
    devices: disk::Devices,
    /// No info line about a publication before then.
    log: Instant,
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
        let mut schedule = Schedule::new(now, fastrand::Rng::new()).with_stale(now);
        if policy.statistics {
            schedule = schedule.with_statistics(now);
        }
        Self {
            rpci,
            snapshots,
            wants: control.subscribe(),
            policy,
            kernel,
            ledger: Ledger::default(),
            seen: Wants::default(),
            garbled: false,
            refusals: BTreeMap::new(),
            cut: Cut::default(),
            nameless: false,
            schedule,
            statistics: Statistics::default(),
            budget: Budget::new(now),
            next_state: 0,
            filesystems: None,
            disks: disk::Told::default(),
            containers: None,
            devices: disk::Devices::default(),
            log: now,
        }
    }

    /// Tells the fill of the disks too, from what comes by `filesystems`.
    pub fn with_disks(mut self, filesystems: watch::Receiver<Filesystems>) -> Self {
        self.filesystems = Some(filesystems);
        self
    }

    /// Tells the containers too, from what comes by `containers`.
    pub fn with_containers(mut self, containers: watch::Receiver<Containers>) -> Self {
        self.containers = Some(containers);
        self
    }

    /// Runs until `shutdown`. A request under way is abandoned then; the host keeps what it has.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let publish = async {
            loop {
                self.wait().await;
                let began = Instant::now();
                let outcome = self.pass(began).await;
                self.plan(began, outcome);
            }
        };
        shutdown.run_until_cancelled(publish).await;
    }

    /// Returns when a pass is due.
    async fn wait(&mut self) {
        loop {
            let now = Instant::now();
            self.notice(now);
            let due = (!self.seen.suspended).then(|| self.schedule.due());
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
                () = changed(&mut self.snapshots) => self.schedule.changed(Instant::now()),
                () = changed_if_any(&mut self.filesystems) => self.schedule.changed(Instant::now()),
                () = changed_if_any(&mut self.containers) => self.schedule.changed(Instant::now()),
                () = timer => {}
            }
        }
    }

    /// Takes new wishes and facts into account.
    fn notice(&mut self, now: Instant) {
        let wants = *self.wants.borrow_and_update();
        if wants.resets != self.seen.resets {
            // Also what was answered between the `reset` and now.
            self.ledger = Ledger::default();
            self.schedule.retry_waits(None);
            self.schedule.reset(now);
        }
        if wants.broadcasts != self.seen.broadcasts {
            self.ledger.resend_one(Key::PrimaryIp);
            self.schedule.asked(now);
        }
        if self.seen.suspended && !wants.suspended {
            self.schedule.resumed(now);
        }
        if self.seen.containers_off != wants.containers_off {
            self.schedule.changed(now);
        }
        self.seen = wants;
        // One that came during the last pass.
        if self.snapshots.has_changed().unwrap_or(false) {
            self.snapshots.mark_unchanged();
            self.schedule.changed(Instant::now());
        }
    }

    /// Sends what the host lacks.
    async fn pass(&mut self, now: Instant) -> Result<Vec<Key>, Stop> {
        self.garbled = false;
        let resend = self.schedule.begin(now);
        if resend {
            self.ledger.resend();
            self.devices.forget();
        }
        self.ledger.retry(now);

        let snapshot = self.snapshots.borrow_and_update().clone();
        let facts = Facts::new(&snapshot, &self.policy, self.kernel.as_ref(), &mut |_| ());
        let mut sent = Vec::new();
        if let Some(network) = &facts.network
            && self.schedule.may_report_network(network.settled, now)
        {
            self.send_network(&network.record, &mut sent).await?;
            let primary = network.primary.map(|address| address.to_string());
            self.send_text(Key::PrimaryIp, &primary.unwrap_or_default(), &mut sent)
                .await?;
        }
        match &facts.name {
            Some(Ok(name)) => {
                self.nameless = false;
                self.send_text(Key::HostName, name, &mut sent).await?;
            }
            // Before Talos has one, it is empty.
            Some(Err(NameError::Empty)) | None => {}
            Some(Err(error)) => {
                if !std::mem::replace(&mut self.nameless, true) {
                    limited!(
                        warn,
                        feature = "guestinfo",
                        err = %error,
                        "the node's name is not sent, the host keeps the last one"
                    );
                }
            }
        }
        if let Some(names) = &facts.os {
            self.send_os(names, &mut sent).await?;
        }
        self.send_disks(&snapshot, now, &mut sent).await?;
        if self.schedule.is_uptime_due(now) {
            self.send_uptime().await?;
            self.schedule.uptime_told(now);
        }
        if self.schedule.are_statistics_due(now) {
            self.send_statistics().await?;
            self.schedule.statistics_told(now);
        }
        self.send_containers(&mut sent).await?;
        self.send_state(&snapshot, now, &mut sent).await?;
        if self.schedule.is_stale_due(now) {
            self.clear_stale(&snapshot, facts.network.is_some()).await?;
            self.schedule.stale_cleared();
        }
        // The free space of a disk that is written to moves for ever.
        let routine = sent
            .iter()
            .all(|key| matches!(key, Key::Disks | Key::DisksPacked));
        self.log_published(&sent, &facts, !resend && !routine && now >= self.log);
        Ok(sent)
    }

    /// Decides about the time until the next pass.
    fn plan(&mut self, began: Instant, outcome: Result<Vec<Key>, Stop>) {
        let now = Instant::now();
        self.schedule.retry_waits(self.ledger.next_retry());
        match outcome {
            Ok(_) if self.garbled => self.schedule.back_off(now),
            Ok(sent) => self.schedule.completed(began, !sent.is_empty()),
            Err(Stop::Overtaken) => self.schedule.overtaken(now),
            Err(Stop::NoChannel(error)) => {
                // Whoever owns the channel has said that it is gone.
                debug!(feature = "guestinfo", err = %error, "publishing waits for the host");
                self.schedule.back_off(now);
            }
        }
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
        if self.ledger.nic_message == Message::V3 {
            self.note_cut(cut);
        }
        if !self.ledger.wants(key, &identity) {
            return Ok(());
        }
        let request = |message: Message, bytes: &[u8]| Request::guest_info_binary(message.id(), bytes);
        let mut answer = Answer::Garbled;
        if self.ledger.nic_message == Message::V3 {
            answer = self.ask(key, request(Message::V3, &identity)).await?;
            if matches!(answer, Answer::Refused { .. }) {
                self.ledger.nic_message = Message::V2;
            }
        }
        if self.ledger.nic_message == Message::V2 {
            let (bytes, cut) = record.encode(Message::V2);
            self.note_cut(cut);
            answer = self.ask(key, request(Message::V2, &bytes)).await?;
            if matches!(answer, Answer::Refused { .. }) {
                self.ledger.nic_message = Message::V3;
            }
        }
        self.conclude(key, identity, answer, sent);
        Ok(())
    }

    /// Says when a record begins not to fit, and when it fits again; how much is missing changes all the time.
    fn note_cut(&mut self, cut: Cut) {
        let before = std::mem::replace(&mut self.cut, cut);
        match (before.is_nothing(), cut.is_nothing()) {
            (true, false) => {
                limited!(warn, feature = "guestinfo", %cut, "the NIC record does not fit into one message");
            }
            (false, true) => limited!(
                info,
                feature = "guestinfo",
                "the NIC record fits into one message again"
            ),
            _ => {}
        }
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
                    self.refusals.remove(&key);
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

    /// Whether this pass may go on: nothing is sent for a life of the host that is over, or while suspended.
    fn still_wanted(&self) -> Result<(), Stop> {
        let wants = *self.wants.borrow();
        if wants.resets != self.seen.resets || wants.suspended {
            return Err(Stop::Overtaken);
        }
        Ok(())
    }

    async fn ask(&mut self, key: Key, request: Request) -> Result<Answer, Stop> {
        self.still_wanted()?;
        // Until it has answered, the host may have the old value or the new one.
        self.ledger.resend_one(key);
        let reply = self.rpci.call(request).await;
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

    /// Remembers what the host made of a value; says so when a refusal begins or ends.
    fn conclude(&mut self, key: Key, identity: Vec<u8>, answer: Answer, sent: &mut Vec<Key>) {
        match answer {
            Answer::Accepted => {
                self.ledger.accepted(key, identity);
                sent.push(key);
                if self.refusals.remove(&key).is_some() && self.refusals.is_empty() {
                    limited!(info, feature = "guestinfo", "the host takes everything again");
                }
            }
            Answer::Refused { text } => {
                if ledger::is_permanent(&text) {
                    self.ledger.unsupported(key);
                } else {
                    let again = self.schedule.after_refusal(Instant::now());
                    self.ledger.refused(key, identity, again);
                }
                self.log_refusal(key, &text);
            }
            Answer::Garbled => {
                self.garbled = true;
                self.log_refusal(key, "malformed reply");
            }
        }
    }

    /// One line for each thing the host says, however many keys it says it to.
    fn log_refusal(&mut self, key: Key, text: &str) {
        let text: String = text.chars().flat_map(char::escape_debug).take(200).collect();
        if self.refusals.get(&key) == Some(&text) {
            return;
        }
        let key_name = key.name();
        if self.refusals.values().any(|said| *said == text) {
            debug!(
                feature = "guestinfo",
                key = key_name,
                err = text,
                "the host refuses it"
            );
        } else {
            limited!(
                warn,
                feature = "guestinfo",
                key = key_name,
                err = text,
                "the host refuses it"
            );
        }
        self.refusals.insert(key, text);
    }

    fn log_published(&mut self, sent: &[Key], facts: &Facts, aloud: bool) {
        if sent.is_empty() {
            return;
        }
        let keys = sent.iter().map(|key| key.name()).collect::<Vec<_>>().join(" ");
        let adapters = facts.network.as_ref().map(|network| network.record.nics.len());
        let address = facts
            .network
            .as_ref()
            .and_then(|network| network.primary)
            .map(field::display);
        let name = facts.name.as_ref().and_then(|name| name.as_deref().ok());
        if aloud {
            self.log = Instant::now() + LOG_PAUSE;
            limited!(
                info,
                feature = "guestinfo",
                keys,
                adapters,
                address,
                name,
                "published"
            );
        } else {
            debug!(feature = "guestinfo", keys, adapters, address, name, "published");
        }
    }
}

/// Waits for a new value. When nobody can send one any more, for ever: the last one stays true.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        future::pending().await
    }
}

async fn changed_if_any<T>(receiver: &mut Option<watch::Receiver<T>>) {
    match receiver {
        Some(receiver) => changed(receiver).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
