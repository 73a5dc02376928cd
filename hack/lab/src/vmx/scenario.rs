//! Scenarios: a text file that makes things happen to a guest and says what has to follow.
//!
//! ```text
#![doc = include_str!("scenario/language.txt")]
//! ```

pub mod command;
pub mod evidence;
pub mod expectation;
pub mod lexer;
pub mod session;

use std::{fs, io, path::Path};

use command::{Command, CommandError};
use session::{Failure, Session};

use super::{
    host::SharedHost,
    transcript::{Event, Kind},
};

/// Longest scenario in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Why a scenario could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The file is larger than a scenario may be.
    #[error("{file}: {size} bytes, the limit is {MAX_SIZE}")]
    Size {
        /// The file.
        file: String,
        /// Its size.
        size: u64,
    },
    /// A line that is no command.
    #[error("{file}:{line}: {error}")]
    Line {
        /// The file.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        error: CommandError,
    },
}

/// One command of a scenario.
#[derive(Debug)]
struct Line {
    number: usize,
    text: String,
    command: Command,
}

/// A scenario that was read.
#[derive(Debug)]
pub struct Scenario {
    file: String,
    lines: Vec<Line>,
}

impl Scenario {
    /// Reads a file; the first line that is no command is the error.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        let io = |error| ScenarioError::Io {
            file: file.clone(),
            error,
        };
        let size = fs::metadata(path).map_err(io)?.len();
        if size > MAX_SIZE {
            return Err(ScenarioError::Size { file, size });
        }
        Self::parse(&file, &fs::read_to_string(path).map_err(io)?)
    }

    /// Reads a text; `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut lines = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let number = index + 1;
            let parsed = Command::parse(text).map_err(|error| ScenarioError::Line {
                file: file.to_owned(),
                line: number,
                error,
            })?;
            if let Some(command) = parsed {
                lines.push(Line {
                    number,
                    text: text.trim().to_owned(),
                    command,
                });
            }
        }
        Ok(Self {
            file: file.to_owned(),
            lines,
        })
    }

    /// Carries out what stands before `power-on`, for a guest that is not started yet.
    ///
    /// # Errors
    /// When a line there is more than a change of the host.
    pub fn prepare(&self, host: &SharedHost) -> Result<(), String> {
        for line in self.lines.get(..self.start()).unwrap_or_default() {
            if !matches!(line.command, Command::PowerOn) {
                session::prepare(host, &line.command)
                    .map_err(|error| format!("{}:{}: {}\n    {error}", self.file, line.number, line.text))?;
            }
        }
        Ok(())
    }

    /// Number of the first line that is played while the guest runs.
    fn start(&self) -> usize {
        self.lines
            .iter()
            .position(|line| matches!(line.command, Command::PowerOn))
            .map_or(0, |at| at + 1)
    }

    /// Plays the scenario from `power-on` on. The first failure ends it; its text names file and line.
    pub fn play(&self, host: &SharedHost, session: &mut Session) -> Result<(), String> {
        for line in self.lines.iter().skip(self.start()) {
            host.with(|host, now| {
                let event = Event {
                    text: Some(line.text.clone()),
                    detail: Some(serde_json::json!({ "script": self.file, "line": line.number })),
                    ..Event::new(Kind::Script)
                };
                host.record(now, event)
            });
            let begin = host.now();
            let result = session.run(&line.command);
            if matches!(line.command, Command::Expect(_) | Command::Count { .. }) {
                host.with(|host, now| {
                    let event = Event {
                        text: Some(line.text.clone()),
                        ok: Some(result.is_ok()),
                        latency: Some(now.saturating_sub(begin)),
                        ..Event::new(Kind::Expect)
                    };
                    host.record(now, event)
                });
            }
            if let Err(Failure { message, seen }) = result {
                let mut text = format!("{}:{}: {}\n    {message}", self.file, line.number, line.text);
                for line in seen {
                    text.push_str("\n    seen: ");
                    text.push_str(&line);
                }
                return Err(text);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
