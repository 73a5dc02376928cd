//! What is sent beside the network: disks, statistics, containers, the state of Talos; and what is cleared.

use tokio::time::Instant;
use tracing::debug;

use super::{Answer, Publisher, Stop};
use crate::{
    guestinfo::{disk, key::Key, talos_state::StateKey},
    rpci::{Request, Rpci},
    talos::Snapshot,
};

impl<R: Rpci> Publisher<R> {
    /// The disks, in the form the host takes.
    pub(super) async fn send_disks(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
        sent: &mut Vec<Key>,
    ) -> Result<(), Stop> {
        let Some(filesystems) = &self.filesystems else {
            return Ok(());
        };
        let Some(disks) = disk::select(snapshot, &filesystems.borrow(), &mut self.devices) else {
            return Ok(());
        };
        let disks = self.disks.settle(disks, now);
        if !self.ledger.packed_disks {
            let key = Key::Disks;
            let request = disk::json(&disks);
            let identity = request.bytes().to_vec();
            if !self.ledger.wants(key, &identity) {
                return Ok(());
            }
            match self.ask(key, request).await? {
                Answer::Refused { text } => {
                    debug!(feature = "guestinfo", text, "the host takes packed disks only");
                    self.ledger.packed_disks = true;
                }
                answer => {
                    self.conclude(key, identity, answer, sent);
                    return Ok(());
                }
            }
        }
        let key = Key::DisksPacked;
        let identity = disk::packed(&disks);
        if self.ledger.wants(key, &identity) {
            let answer = self.ask(key, Request::guest_info_binary(3, &identity)).await?;
            self.conclude(key, identity, answer, sent);
        }
        Ok(())
    }

    /// The statistics of this moment, every time.
    pub(super) async fn send_statistics(&mut self) -> Result<(), Stop> {
        let key = Key::Statistics;
        self.ledger.resend_one(key);
        if !self.ledger.wants(key, &[]) {
            return Ok(());
        }
        let message = self.statistics.collect();
        let answer = self.ask(key, Request::guest_info_binary(8, &message)).await?;
        self.conclude(key, message, answer, &mut Vec::new());
        Ok(())
    }

    /// The images of the node's pods; nothing at all once the host does not want them.
    pub(super) async fn send_containers(&mut self, sent: &mut Vec<Key>) -> Result<(), Stop> {
        let Some(containers) = &self.containers else {
            return Ok(());
        };
        // An earlier life may have left a list there, so the wish does not wait for one of this life.
        let list = if self.seen.containers_off {
            Some("".into())
        } else {
            containers.borrow().clone()
        };
        match list {
            Some(list) => self.send_text(Key::Containers, &list, sent).await,
            None => Ok(()),
        }
    }

    /// What the host lacks of the state of Talos, as far as the budget goes; the rest when there is more.
    pub(super) async fn send_state(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
        sent: &mut Vec<Key>,
    ) -> Result<(), Stop> {
        self.schedule.state_waits(None);
        if !self.policy.talos_state {
            return Ok(());
        }
        // Behind the key that was written last, or one that flaps would take the whole budget.
        let count = StateKey::ALL.len();
        let keys = StateKey::ALL.into_iter().enumerate().cycle();
        for (place, state) in keys.skip(self.next_state).take(count) {
            let key = Key::Talos(state);
            let Some(value) = state.value(snapshot) else {
                continue;
            };
            if !self.ledger.wants(key, value.as_bytes()) {
                continue;
            }
            if let Err(when) = self.budget.take(now) {
                self.schedule.state_waits(Some(when));
                break;
            }
            self.send_text(key, &value, sent).await?;
            self.next_state = place + 1;
        }
        Ok(())
    }

    /// Clears the keys of ours that an earlier life of this machine left and that nobody fills now: those of a clone's
    /// original would be taken for its own. Its address too, where Talos has told nothing of the network yet.
    pub(super) async fn clear_stale(&mut self, snapshot: &Snapshot, network_known: bool) -> Result<(), Stop> {
        let told = self.policy.talos_state;
        let state = StateKey::ALL.into_iter();
        let unfilled = state
            .filter(|state| !state.is_of_events())
            .filter(|state| !told || state.value(snapshot).is_none())
            .map(Key::Talos);
        let list = self
            .containers
            .as_ref()
            .and_then(|containers| containers.borrow().clone());
        let containers = list.is_none().then_some(Key::Containers);
        let address = (!network_known).then_some(Key::PrimaryIp);
        for key in unfilled.chain(containers).chain(address) {
            let (Some(get), Some(clear)) = (key.get(), key.text("")) else {
                continue;
            };
            self.still_wanted()?;
            match self.rpci.call(get).await {
                Ok(value) if value.iter().any(|byte| *byte != 0) => {
                    let answer = self.ask(key, clear).await?;
                    debug!(
                        feature = "guestinfo",
                        key = key.name(),
                        ?answer,
                        "cleared a stale value"
                    );
                }
                Err(error) if error.is_lost() => return Err(Stop::NoChannel(error)),
                // Nothing there, or nothing to be had.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}
