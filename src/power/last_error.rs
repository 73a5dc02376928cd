//! The task behind `guestinfo.talos.last-error`.

#![forbid(unsafe_code)]

use std::future::pending;

use tokio::{sync::watch, time::sleep};

use crate::{
    guestinfo::{Variable, variable},
    rpci::Rpci,
};

/// Keeps the host's value in step with `errors`, for ever. A value that found no channel is tried again, and a host that
/// may have forgotten it is told once more.
pub(super) async fn publish<R: Rpci>(mut variable: Variable<R>, mut errors: watch::Receiver<String>) {
    loop {
        let error = errors.borrow_and_update().clone();
        let told = variable.tell(&error).await;
        tokio::select! {
            changed = errors.changed() => if changed.is_err() {
                // Whoever would have news is gone; the last one stands.
                return pending().await;
            },
            () = variable.forgotten() => {}
            () = sleep(variable::RETRY), if !told => {}
        }
    }
}
