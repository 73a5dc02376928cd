//! Follows the node: connects, keeps every watch up, and publishes a snapshot whenever something changed.
//!
//! ```text
//!            ┌─ connect: Version ─ one task per resource type ─ first of them to lose the connection ─┐
//!            │                        │ events                                                       │
//!            │                        v                                                              │
//!            │                     reducer ──> snapshots, selected links (back to the tasks)         │
//!            └────────────── pause <── everything stale, every task ended <──────────────────────────┘
//! ```
//!
//! Nothing is carried from one connection to the next but the facts themselves: every connect asks for everything
//! again, and what is told then replaces what was held.

#![forbid(unsafe_code)]

mod event;
pub(super) mod pause;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use self::{pause::Pause, stream::Stream};
use super::{
    client::{Client, Settings},
    reducer::{Event, MAX_HELD, Reducer, Resource, Selection},
    resource::ResourceType,
    snapshot::Snapshot,
};
use crate::jitter::jittered;

/// Events that may wait for the reducer. A task that fills it waits, and Talos with it, so a storm costs no memory.
const QUEUE: usize = 64;

const UNANSWERED: &str = "a call was not answered in time";

/// Resources whose specs cannot be read and that were said to be so; beyond these, silence.
const MAX_UNDECODABLE: usize = 64;

/// How far following has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Types whose complete answer is still to come.
    pub unanswered: BTreeSet<ResourceType>,
    /// Why Talos cannot be asked at present.
    pub outage: Option<String>,
    /// Why a type cannot be had at present.
    pub troubles: BTreeMap<ResourceType, String>,
}

/// Follows one node.
pub struct Follower {
    client: Client,
    settings: Settings,
    reducer: Reducer,
    snapshots: watch::Sender<Arc<Snapshot>>,
    selected: watch::Sender<Option<Arc<BTreeSet<String>>>>,
    progress: watch::Sender<Progress>,
    /// The snapshot differs from the published one.
    changed: bool,
    outage: Option<Instant>,
    undecodable: BTreeSet<(ResourceType, String)>,
    /// Types that were said to be full.
    full: BTreeSet<ResourceType>,
}

impl Follower {
    /// Knows nothing yet.
    pub fn new(client: Client, settings: Settings, selection: Selection) -> Self {
        let reducer = Reducer::new(selection);
        let progress = Progress {
            unanswered: reducer.unanswered().clone(),
            ..Progress::default()
        };
        Self {
            client,
            settings,
            reducer,
            snapshots: watch::Sender::default(),
            selected: watch::Sender::default(),
            progress: watch::Sender::new(progress),
            changed: false,
            outage: None,
            undecodable: BTreeSet::new(),
            full: BTreeSet::new(),
        }
    }

    /// Snapshots as they are published; the first is empty.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// How far this has come.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Follows until `shutdown`. Every task it started has ended when it returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut pause = Pause::new(self.settings.first_pause, self.settings.longest_pause);
        loop {
            let begun = Instant::now();
            let Some(reason) = self.connection(&shutdown).await else {
                return;
            };
            // Before the pause: a power call in it must not meet a connection that hangs.
            self.client.renew();
            self.apply(Event::Disconnected);
            self.interrupted(reason);
            self.publish();
            // A connection that breaks at once is no better than none.
            if begun.elapsed() >= self.settings.longest_pause {
                pause.reset();
            }
            if shutdown
                .run_until_cancelled(tokio::time::sleep(pause.draw()))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// One connection, from its first call until it is lost. Gives why, or nothing on shutdown.
    async fn connection(&mut self, shutdown: &CancellationToken) -> Option<String> {
        let mut given_up = self.client.given_up();
        match shutdown.run_until_cancelled(self.client.version()).await? {
            Ok(version) => {
                self.apply(Event::Connected(version));
                self.publish();
            }
            Err(error) => return Some(error.to_string()),
        }

        let connection = self.client.opened();
        let (sender, mut events) = mpsc::channel(QUEUE);
        let mut watches = JoinSet::new();
        for resource_type in ResourceType::ALL {
            let stream = Stream {
                resource_type,
                client: self.client.clone(),
                connection,
                settings: self.settings.clone(),
                selected: self.selected.subscribe(),
                events: sender.clone(),
            };
            watches.spawn(stream.run().instrument(info_span!("talos_watch", %resource_type)));
        }
        let heard = Notify::new();
        let silence = silence(self.client.clone(), self.settings.silence, &heard);
        tokio::pin!(silence);
        let reason = loop {
            tokio::select! {
                () = shutdown.cancelled() => break None,
                Some(ended) = watches.join_next() => {
                    break Some(ended.unwrap_or_else(|error| error.to_string()));
                }
                Ok(()) = given_up.changed() => break Some(UNANSWERED.to_owned()),
                reason = &mut silence => break Some(reason),
                Some(event) = events.recv() => {
                    heard.notify_one();
                    self.apply(event);
                    // What arrived together is published together.
                    for _ in 1..QUEUE {
                        let Ok(event) = events.try_recv() else { break };
                        self.apply(event);
                    }
                    self.publish();
                }
            }
        };
        watches.shutdown().await;
        reason
    }

    fn apply(&mut self, event: Event) {
        self.tell(&event);
        let fallback = match &event {
            Event::Refused {
                resource_type: ResourceType::BootId,
                ..
            } => kernel_boot_id(),
            _ => None,
        };
        let now = SystemTime::now();
        self.changed |= self.reducer.apply(event, now);
        if let Some(boot_id) = fallback {
            self.changed |= self.reducer.apply(Event::Put(Resource::BootId(boot_id)), now);
        }
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.snapshots
                .send_replace(Arc::new(self.reducer.snapshot().clone()));
        }
        for resource_type in self.reducer.full() {
            if self.full.insert(resource_type) {
                warn!(feature = "talos", %resource_type, limit = MAX_HELD, "more resources than are held");
            }
        }
        let selected = self.reducer.selected();
        self.selected.send_if_modified(|held| {
            let modified = held.as_ref() != selected;
            if modified {
                *held = selected.cloned();
            }
            modified
        });
        self.progress.send_if_modified(|progress| {
            let modified = progress.unanswered != *self.reducer.unanswered();
            if modified {
                progress.unanswered.clone_from(self.reducer.unanswered());
            }
            modified
        });
    }

    /// The connection is lost, or there never was one: said once, until something is answered again.
    fn interrupted(&mut self, reason: String) {
        if self.outage.is_none() {
            warn!(feature = "talos", err = reason, "Talos does not answer");
            self.outage = Some(Instant::now());
        } else {
            debug!(feature = "talos", err = reason, "Talos still does not answer");
        }
        self.progress
            .send_modify(|progress| progress.outage = Some(reason));
    }

    /// Says what begins and what ends, once.
    fn tell(&mut self, event: &Event) {
        match event {
            Event::Connected(version) if self.reducer.snapshot().version.value() != Some(version) => {
                info!(
                    feature = "talos",
                    tag = version.tag,
                    platform = version.platform,
                    "this is Talos"
                );
            }
            Event::Bootstrapped(resource_type) => {
                self.answered();
                self.recovered(*resource_type);
            }
            Event::Lost {
                resource_type,
                reason,
            } => self.trouble(*resource_type, reason, "a watch failed"),
            Event::Refused {
                resource_type,
                reason,
            } => {
                self.answered();
                self.trouble(*resource_type, reason, "Talos does not serve this");
            }
            Event::Undecodable {
                resource_type,
                id,
                reason,
            } if self.undecodable.len() < MAX_UNDECODABLE
                && self.undecodable.insert((*resource_type, id.clone())) =>
            {
                warn!(feature = "talos", %resource_type, id, err = reason, "a resource cannot be read");
            }
            _ => {}
        }
    }

    fn answered(&mut self) {
        if let Some(since) = self.outage.take() {
            info!(
                feature = "talos",
                outage_ms = since.elapsed().as_millis(),
                "Talos answers"
            );
            self.progress.send_modify(|progress| progress.outage = None);
        }
    }

    fn trouble(&self, resource_type: ResourceType, reason: &str, what: &str) {
        self.progress.send_if_modified(|progress| {
            let news = progress
                .troubles
                .insert(resource_type, reason.to_owned())
                .is_none();
            if news {
                warn!(feature = "talos", %resource_type, err = reason, "{what}");
            }
            news
        });
    }

    fn recovered(&self, resource_type: ResourceType) {
        self.progress.send_if_modified(|progress| {
            let news = progress.troubles.remove(&resource_type).is_some();
            if news {
                info!(feature = "talos", %resource_type, "watched again");
            }
            news
        });
    }
}

/// Asks Talos whether it still lives whenever nothing was heard for a while; gives why it does not. A call and no
/// keep-alive ping, for Talos closes a quiet connection that is pinged.
async fn silence(client: Client, longest: Duration, heard: &Notify) -> String {
    let mut random = fastrand::Rng::new();
    loop {
        let pause = jittered(&mut random, longest, 0.2);
        if timeout(pause, heard.notified()).await.is_err()
            && let Err(error) = client.version().await
        {
            return error.to_string();
        }
    }
}

/// The kernel's own word, which Talos repeats from 1.14 on; the same in every container of the node.
fn kernel_boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot_id = text.trim();
    (!boot_id.is_empty()).then(|| boot_id.to_owned())
}
