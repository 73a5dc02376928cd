//! One variable of the VM that a feature fills by itself, beside what the publisher knows.
//!
//! It is told when it changes and when the host may have forgotten it. The first time an empty value is told too: a
//! clone or a revert can have left an old one there.

#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::debug;

use super::{
    control::{Control, Wants},
    key::Key,
};
use crate::rpci::Rpci;

/// Pause before a value is told again that found no channel.
pub const RETRY: Duration = Duration::from_secs(5);

/// What the host was told, and what it may have forgotten.
#[derive(Debug)]
pub struct Variable<R> {
    rpci: Arc<R>,
    key: Key,
    /// Otherwise it is kept empty.
    filled: bool,
    told: Option<String>,
    wants: watch::Receiver<Wants>,
    resets: u64,
}

impl<R: Rpci> Variable<R> {
    /// `key`, which is plain text. It is `filled` where the settings want the state of Talos told, otherwise empty.
    pub fn new(rpci: Arc<R>, key: Key, filled: bool, control: &Control) -> Self {
        let wants = control.subscribe();
        let resets = wants.borrow().resets;
        Self {
            rpci,
            key,
            filled,
            told: None,
            wants,
            resets,
        }
    }

    /// Waits until the host may have forgotten everything, this included: the next [`Self::tell`] tells it again.
    pub async fn forgotten(&mut self) {
        // The control lives as long as the backdoor thread.
        while self.wants.changed().await.is_ok() {
            let resets = self.wants.borrow_and_update().resets;
            if std::mem::replace(&mut self.resets, resets) != resets {
                self.told = None;
                return;
            }
        }
        std::future::pending().await
    }

    /// Tells `value`, if the host does not have it. `false` when there was no channel, or nothing may be sent: it is
    /// worth another try after [`RETRY`].
    pub async fn tell(&mut self, value: &str) -> bool {
        let value = if self.filled { value } else { "" };
        if self.told.as_deref() == Some(value) {
            return true;
        }
        let Some(request) = self.key.text(value) else {
            return true;
        };
        if self.wants.borrow().suspended {
            return false;
        }
        let key = self.key.name();
        match self.rpci.call(request).await {
            Ok(_) => {}
            Err(error) if error.is_lost() => {
                debug!(feature = "guestinfo", key, err = %error, "a variable waits for the host");
                return false;
            }
            // A host that does not take it is asked again with the next value only.
            Err(error) => {
                debug!(feature = "guestinfo", key, err = %error, "the host does not take a variable")
            }
        }
        self.told = Some(value.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guestinfo::StateKey;
    use crate::rpci::scripted::{Host, no_channel, refused};

    const EMPTY: &str = r"info-set guestinfo.talos.last-error \x00";

    fn told(host: &Host) -> Vec<String> {
        host.take()
            .iter()
            .map(crate::rpci::scripted::Seen::text)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn told_when_it_changes_and_when_it_may_be_forgotten() {
        let (host, control) = (Arc::new(Host::new()), Control::default());
        let mut variable = Variable::new(host.clone(), Key::Talos(StateKey::LastError), true, &control);
        assert!(variable.tell("").await);
        assert_eq!(told(&host), [EMPTY], "an older life may have left something");
        assert!(variable.tell("").await && variable.tell("x").await && variable.tell("x").await);
        assert_eq!(told(&host), [r"info-set guestinfo.talos.last-error x\x00"]);

        // A wish for the address is no reset; two resets that were not looked at are one.
        control.broadcast_ip();
        control.forget();
        control.forget();
        variable.forgotten().await;
        assert!(variable.tell("x").await);
        assert_eq!(told(&host), [r"info-set guestinfo.talos.last-error x\x00"]);
        control.broadcast_ip();
        let silence = tokio::time::timeout(Duration::from_secs(3600), variable.forgotten()).await;
        assert!(silence.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_channel_it_is_worth_another_try_and_a_refusal_is_final() {
        let (host, control) = (Arc::new(Host::new()), Control::default());
        let mut variable = Variable::new(host.clone(), Key::Talos(StateKey::LastError), true, &control);
        host.answer(|_| no_channel());
        assert!(!variable.tell("x").await && !variable.tell("x").await);
        host.answer(|_| refused("disabled"));
        assert!(variable.tell("x").await && variable.tell("x").await);
        assert_eq!(host.seen().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn suspended_it_sends_nothing_and_loses_nothing() {
        let (host, control) = (Arc::new(Host::new()), Control::default());
        let mut variable = Variable::new(host.clone(), Key::Talos(StateKey::LastError), true, &control);
        control.suspend();
        assert!(!variable.tell("x").await && !variable.tell("x").await);
        assert_eq!(told(&host), [""; 0]);
        control.resume();
        assert!(variable.tell("x").await);
        assert_eq!(told(&host), [r"info-set guestinfo.talos.last-error x\x00"]);
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_it_is_cleared_and_stays_empty() {
        let (host, control) = (Arc::new(Host::new()), Control::default());
        let mut variable = Variable::new(host.clone(), Key::Talos(StateKey::LastError), false, &control);
        assert!(variable.tell("x").await && variable.tell("y").await);
        assert_eq!(told(&host), [EMPTY]);
    }
}
