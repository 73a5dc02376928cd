//! A busy node: thousands of pod links with addresses, and addresses that come and go.
//!
//! The links are veths and their addresses link-local, as a CNI makes them: none of them is an address of the node.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    command::{NewAddress, NewLink},
    network::{Origin, PERMANENT, edit},
    spec::Prefix,
    store::{Store, StoreError},
};

/// Most links and most addresses of a crowd.
pub const MOST: u32 = 100_000;
/// Index of the first link of a crowd, beyond those of a state file.
const FIRST_INDEX: u32 = 1000;
/// Shortest time between two turns of a churn; faster ones do several changes in a turn.
const TURN: Duration = Duration::from_millis(1);

fn link_name(number: u32) -> String {
    format!("lxc{number:05}")
}

fn address(number: u32, links: u32) -> NewAddress {
    NewAddress {
        link: link_name(number % links.max(1)),
        prefix: Prefix {
            address: IpAddr::V6(Ipv6Addr::from((0xfe80_u128 << 112) + u128::from(number) + 1)),
            length: 64,
        },
        origin: Origin::Kernel,
        flags: PERMANENT,
        scope: None,
        priority: 0,
        local: None,
    }
}

/// Adds `links` pod links, and `addresses` addresses that stand on them in turn.
pub fn add(store: &Store, links: u32, addresses: u32) -> Result<(), StoreError> {
    for number in 0..links {
        let new = NewLink {
            name: link_name(number),
            kind: "veth".to_owned(),
            index: Some(FIRST_INDEX + number),
            ..NewLink::default()
        };
        store.put(edit::link(store, new)?.document())?;
    }
    for number in 0..addresses {
        for document in edit::address(store, address(number, links))?.documents() {
            store.put(document)?;
        }
    }
    Ok(())
}

/// Addresses that come and go on the first link of a crowd.
pub struct Churn {
    store: Arc<Store>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the present one.
    running: Mutex<CancellationToken>,
}

impl Churn {
    /// Nothing comes and goes.
    pub fn new(store: Arc<Store>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            store,
            tasks,
            stop,
            running: Mutex::default(),
        }
    }

    /// Makes `rate` changes a second for `time`, instead of what ran before; none ends that only.
    pub fn set(&self, change: Option<(u32, Duration)>) {
        let fresh = self.stop.child_token();
        let previous = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *running, fresh.clone())
        };
        previous.cancel();
        if let Some((rate, time)) = change {
            let store = Arc::clone(&self.store);
            self.tasks.spawn(async move {
                let end = fresh.run_until_cancelled(churn(&store, rate.max(1), time)).await;
                if let Some(Err(error)) = end {
                    tracing::warn!(%error, "the churn ended");
                }
            });
        }
    }
}

async fn churn(store: &Store, rate: u32, time: Duration) -> Result<(), StoreError> {
    // Beyond the addresses of any crowd.
    let coming = address(MOST, 1);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / f64::from(rate)).max(TURN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut done = 0.0;
    while begun.elapsed() < time {
        ticks.tick().await;
        while done < begun.elapsed().as_secs_f64() * f64::from(rate) {
            // There, gone, there, gone.
            if done % 2.0 == 0.0 {
                for document in edit::address(store, coming.clone())?.documents() {
                    store.put(document)?;
                }
            } else {
                edit::remove_address(store, &coming.link, coming.prefix)?;
            }
            done += 1.0;
        }
    }
    Ok(())
}
