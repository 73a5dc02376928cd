//! The log: one JSON object per line on stdout, text on a terminal, or the journal.
//!
//! ```text
//!  tracing event ── Level ── line::Lines ──bounded queue──> writer thread ──> stdout
//!                         └─ journal: is there room? ── tracing_journald ──datagram──> the journal's socket
//! ```
//!
//! machined lifts the keys `time`, `level`, `msg` and `err` of a JSON line into its own record and keeps the rest as
//! fields (its logging/extract.go), so lines are flat. A reader that stalls costs lines, never time: the backdoor thread logs
//! too, and it must not wait.

#![forbid(unsafe_code)]

mod journal;
mod level;
pub mod limit;
mod line;
mod writer;

use std::{io::IsTerminal, path::Path, time::Duration};

use thiserror::Error;
use tracing_subscriber::{
    Layer,
    layer::{Filter, SubscriberExt},
    util::SubscriberInitExt,
};

pub use self::level::Level;
use self::{
    journal::Unhurried,
    line::{Lines, Style},
    writer::Writer,
};
use crate::config::{LogFormat, LogLevel};

/// Where systemd's journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Name in the journal.
const IDENTIFIER: &str = "talos-vmtoolsd";

/// Why there is no log as wanted.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// A subscriber is set already.
    #[error("logging was set up twice")]
    Twice,
    /// The thread that writes could not be started.
    #[error("the log's thread did not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running log; [`Log::flush`] before the process ends.
#[derive(Clone)]
pub struct Log {
    writer: Option<Writer>,
    level: Level,
}

impl Log {
    /// How much is logged, to be changed while it runs.
    pub const fn level(&self) -> &Level {
        &self.level
    }

    /// Waits until everything said so far is written, or `deadline` has passed.
    pub fn flush(&self, deadline: Duration) {
        if let Some(writer) = &self.writer {
            writer.flush(deadline);
        }
    }
}

/// Sets the process's log up.
pub fn init(format: LogFormat, level: LogLevel) -> Result<Log, LoggingError> {
    let (filter, level) = Level::new(level);
    let style = match format {
        LogFormat::Json => Style::Json,
        LogFormat::Text => Style::Text,
        LogFormat::Auto if std::io::stdout().is_terminal() => Style::Text,
        LogFormat::Auto if !Path::new(JOURNAL_SOCKET).exists() => Style::Json,
        LogFormat::Auto | LogFormat::Journald => match to_journal() {
            Ok(journal) => {
                install(journal, filter)?;
                return Ok(Log { writer: None, level });
            }
            Err(err) => {
                let log = to_stdout(Style::Json, filter, level)?;
                tracing::warn!(
                    err = &err as &dyn std::error::Error,
                    "the journal is not there, logging JSON"
                );
                return Ok(log);
            }
        },
    };
    to_stdout(style, filter, level)
}

fn to_journal() -> std::io::Result<Unhurried<tracing_journald::Layer>> {
    let journal = tracing_journald::layer()?
        .with_syslog_identifier(IDENTIFIER.into())
        .with_field_prefix(None);
    Unhurried::new(journal, Path::new(JOURNAL_SOCKET))
}

/// Sets the log of a command line tool up: text on stderr, written at once.
pub fn init_for_command(level: LogLevel) -> Result<(), LoggingError> {
    let level = match level {
        LogLevel::Trace | LogLevel::Debug => level,
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => LogLevel::Warn,
    };
    let (filter, _) = Level::new(level);
    install(Lines::new(Style::Text, |line| eprint!("{line}")), filter)
}

fn to_stdout(style: Style, filter: level::Reloadable, level: Level) -> Result<Log, LoggingError> {
    let writer = Writer::start(std::io::stdout(), style)?;
    let sink = writer.clone();
    install(Lines::new(style, move |line| sink.send(line)), filter)?;
    Ok(Log {
        writer: Some(writer),
        level,
    })
}

fn install<L, F>(layer: L, filter: F) -> Result<(), LoggingError>
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync + 'static,
    F: Filter<tracing_subscriber::Registry> + Send + Sync + 'static,
{
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_| LoggingError::Twice)
}
