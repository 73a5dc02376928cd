//! This machine as a node: its links, addresses, routes and name, live.
//!
//! ```text
//!  kernel --rtnetlink notification--> dump everything --adapter rule--> documents --difference--> store
//! ```
//!
//! Every notification leads to a new dump; what was queued meanwhile is covered by it. A notification that the kernel
//! dropped costs nothing that way. What a command adds stays; what it changes of the machine's own lasts until the next
//! dump.

mod adapter;
mod kernel;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    network::node_addresses,
    script,
    store::{Document, Store, StoreError},
};
use kernel::Kernel;

/// How often the host name and resolv.conf are read; nothing tells of their change.
const REREAD: Duration = Duration::from_secs(5);
/// Time that a dump may take.
const DUMP: Duration = Duration::from_secs(5);
/// Pause after a dump that failed, before the next one.
const PAUSE: Duration = Duration::from_millis(200);

/// Why this machine cannot be mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// No rtnetlink socket.
    #[error("rtnetlink: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused a dump.
    #[error("rtnetlink: {0}")]
    Dump(#[from] rtnetlink::Error),
    /// The kernel did not answer.
    #[error("rtnetlink: no answer within {DUMP:?}")]
    Late(#[from] tokio::time::error::Elapsed),
    /// What the kernel says does not fit a resource.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Namespace, type and id.
type Key = (Option<String>, String, String);

/// The mirror of this machine in a store.
pub struct Mirror {
    store: Arc<Store>,
    kernel: Kernel,
    /// What the mirror put and therefore removes.
    own: BTreeSet<Key>,
}

impl Mirror {
    /// Fills `store`, and says what is served differently than it is. `tasks` gets the netlink connection, which ends
    /// with `stop`.
    pub async fn start(
        store: Arc<Store>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(Self, Vec<String>), MirrorError> {
        let mut mirror = Self {
            store,
            kernel: Kernel::connect(tasks, stop)?,
            own: BTreeSet::new(),
        };
        let notices = mirror.refresh().await?;
        mirror.reread()?;
        Ok((mirror, notices))
    }

    /// Follows this machine until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut reread = interval(REREAD);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                // The connection ends with the same token, which is no news then.
                biased;
                () = stop.cancelled() => return,
                _ = reread.tick() => self.reread(),
                alive = self.kernel.changed() => {
                    if !alive {
                        tracing::warn!("rtnetlink is gone, the mirror stands still");
                        return;
                    }
                    self.refresh().await.map(drop)
                }
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "could not mirror");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Brings the store in line with the kernel.
    async fn refresh(&mut self) -> Result<Vec<String>, MirrorError> {
        let mut machine = timeout(DUMP, self.kernel.dump()).await??;
        let notices = adapter::present(&mut machine);
        let links = machine.links.iter().map(|link| link.document());
        let addresses = machine.addresses.iter().flat_map(|address| address.documents());
        let routes = machine.routes.iter().map(|route| route.document());
        let documents = links.chain(addresses).chain(routes);
        let fresh: BTreeMap<Key, Document> = documents
            .map(|document| {
                let key = (
                    document.namespace.clone(),
                    document.kind.clone(),
                    document.id.clone(),
                );
                (key, document)
            })
            .collect();
        for (namespace, name, id) in self.own.iter().filter(|key| !fresh.contains_key(*key)) {
            match self.store.remove(namespace.as_deref(), name, id) {
                // Somebody removed it by hand.
                Ok(()) | Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.own = fresh.keys().cloned().collect();
        for document in fresh.into_values() {
            self.store.put(document)?;
        }
        node_addresses::update(&self.store)?;
        Ok(notices)
    }

    /// Host name and resolvers. A file that cannot be read leaves what was known.
    fn reread(&self) -> Result<(), MirrorError> {
        if let Ok(name) = fs::read_to_string("/proc/sys/kernel/hostname") {
            let (host, domain) = name.trim().split_once('.').unwrap_or((name.trim(), ""));
            self.store.put(script::hostname(host, domain))?;
        }
        if let Ok(text) = fs::read_to_string("/etc/resolv.conf") {
            let (servers, search) = resolv_conf(&text);
            self.store.put(script::resolvers(&servers, &search))?;
        }
        Ok(())
    }
}

/// Servers and search domains of a resolv.conf; the last `search` line counts.
fn resolv_conf(text: &str) -> (Vec<String>, Vec<String>) {
    let mut servers = Vec::new();
    let mut search = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A zone is of this machine only, and Talos has none in a resolver.
                let bare = words.next().and_then(|word| word.split('%').next());
                servers.extend(
                    bare.and_then(|word| word.parse::<IpAddr>().ok())
                        .map(|ip| ip.to_string()),
                );
            }
            Some("search") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read() {
        let text = "# a comment\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch a b\n\
                    search example.org\noptions edns0\n";
        let (servers, search) = resolv_conf(text);
        assert_eq!(servers, ["10.0.0.1", "fe80::1"]);
        assert_eq!(search, ["example.org"]);
    }
}
