//! How much is logged, and how that changes while the program runs.

#![forbid(unsafe_code)]

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, filter::Targets, reload};

use crate::config::LogLevel;

/// Where the answers to `vmsupport.start` come from. Somebody asked for them, so they are said at every level.
const ALWAYS: &str = concat!(env!("CARGO_CRATE_NAME"), "::support");

/// The most that the host can ask for: trace shows payloads, and is for the node's own administrator to set.
const HOST_MOST: LogLevel = LogLevel::Debug;

/// The filter of the process's log.
pub(super) type Reloadable = reload::Layer<Targets, Registry>;

/// Changes the level. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Level {
    configured: LogLevel,
    handle: reload::Handle<Targets, Registry>,
}

impl Level {
    /// A filter for this level, and the handle to change it.
    pub(super) fn new(configured: LogLevel) -> (Reloadable, Self) {
        let (filter, handle) = reload::Layer::new(targets(configured));
        (filter, Self { configured, handle })
    }

    /// Logs as much as the host wants: at least what the node's setting says, debug at most, and with `None` again the
    /// setting alone. Gives the level from now on.
    pub fn host_wants(&self, wanted: Option<LogLevel>) -> LogLevel {
        let wanted = wanted.map_or(self.configured, |wanted| wanted.min(HOST_MOST));
        let level = wanted.max(self.configured);
        // Fails only when the log is gone.
        let _ = self.handle.reload(targets(level));
        level
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level)
        .with_target(ALWAYS, level.max(LevelFilter::INFO))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    struct Count(Arc<AtomicUsize>);

    impl Layer<Registry> for Count {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, Registry>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn the_host_makes_it_talk_and_the_setting_stays() {
        let seen = Arc::new(AtomicUsize::new(0));
        let (filter, level) = Level::new(LogLevel::Warn);
        let subscriber = tracing_subscriber::registry().with(Count(seen.clone()).with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            let said = || {
                tracing::warn!("w");
                tracing::info!("i");
                tracing::debug!("d");
                tracing::trace!("t");
                seen.swap(0, Relaxed)
            };
            assert_eq!(said(), 1);
            assert_eq!(level.host_wants(Some(LogLevel::Debug)), LogLevel::Debug);
            assert_eq!(said(), 3);
            assert_eq!(level.host_wants(Some(LogLevel::Trace)), LogLevel::Debug);
            assert_eq!(said(), 3);
            assert_eq!(level.host_wants(Some(LogLevel::Error)), LogLevel::Warn);
            assert_eq!(said(), 1);
            level.host_wants(Some(LogLevel::Info));
            assert_eq!(said(), 2);
            assert_eq!(level.host_wants(None), LogLevel::Warn);
            assert_eq!(said(), 1);
            tracing::info!(target: "talos_vmtoolsd::support::task", "asked for");
            assert_eq!(seen.swap(0, Relaxed), 1);
        });
    }
}
