//! The command line.

#![forbid(unsafe_code)]

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};
use thiserror::Error;

/// What `--help` prints.
pub const HELP: &str = "\
VMware guest tools for Talos Linux

Usage: talos-vmtoolsd [COMMAND]

Commands:
  run                 Serve as the guest tools of this machine (default)
  query [--json]      Show what is known of the node and what would be published
  rpc COMMAND         Send one RPCI command to the host and print its answer
  vmtoolsd            The same as run, as the Go program of this name calls it
  talosquery          The same as query

Options:
  --use-machined      Accepted for the Go program's sake: the unix socket is the default
  -h, --help          Show this
  -V, --version       Show the version

Settings are environment variables that begin with VMTOOLSD_, or the YAML file /etc/talos-vmtoolsd/config.yaml;
none is needed, and README.md lists them.
";

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Supervise the daemon when root, else be it.
    Run,
    /// Be the daemon of a supervisor.
    Daemon,
    /// Print the snapshot and what would be published.
    Query {
        /// As JSON.
        json: bool,
    },
    /// Send one RPCI command.
    Rpc {
        /// The command as it goes over the channel.
        command: String,
    },
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Why the command line was not understood.
#[derive(Debug, Error)]
pub enum ArgumentError {
    /// A word that is no command, or an option that does not exist.
    #[error(transparent)]
    Unexpected(#[from] lexopt::Error),
    /// No such command.
    #[error("there is no command {0:?}; see --help")]
    UnknownCommand(String),
    /// `rpc` without its argument.
    #[error("rpc needs one command, for example: rpc 'info-get guestinfo.ip'")]
    NoRpcCommand,
}

/// Understands the arguments after the program's name.
///
/// # Errors
///
/// The first word that does not fit.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgumentError> {
    let mut parser = Parser::from_args(arguments);
    let mut command: Option<Command> = None;
    while let Some(argument) = parser.next()? {
        match (argument, &mut command) {
            (Arg::Short('h') | Arg::Long("help"), _) => return Ok(Command::Help),
            (Arg::Short('V') | Arg::Long("version"), _) => return Ok(Command::Version),
            (Arg::Long("use-machined"), _) => {
                // A Go flag may carry its value: --use-machined=true.
                let _ = parser.optional_value();
            }
            (Arg::Long("json"), Some(Command::Query { json })) => *json = true,
            (Arg::Value(word), None) => command = Some(named(&word.string()?)?),
            (Arg::Value(text), Some(Command::Rpc { command })) if command.is_empty() => {
                *command = text.string()?
            }
            (other, _) => return Err(other.unexpected().into()),
        }
    }
    match command {
        Some(Command::Rpc { command }) if command.is_empty() => Err(ArgumentError::NoRpcCommand),
        Some(command) => Ok(command),
        None => Ok(Command::Run),
    }
}

fn named(word: &str) -> Result<Command, ArgumentError> {
    Ok(match word {
        "run" | "vmtoolsd" => Command::Run,
        crate::supervisor::DAEMON_ROLE => Command::Daemon,
        "query" | "talosquery" => Command::Query { json: false },
        "rpc" => Command::Rpc {
            command: String::new(),
        },
        other => return Err(ArgumentError::UnknownCommand(other.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, ArgumentError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn commands() {
        assert_eq!(parsed(&[]).unwrap(), Command::Run);
        assert_eq!(parsed(&["run"]).unwrap(), Command::Run);
        assert_eq!(parsed(&["daemon"]).unwrap(), Command::Daemon);
        assert_eq!(
            parsed(&["query", "--json"]).unwrap(),
            Command::Query { json: true }
        );
        assert_eq!(
            parsed(&["rpc", "info-get a b"]).unwrap(),
            Command::Rpc {
                command: "info-get a b".into()
            }
        );
        assert_eq!(parsed(&["run", "-h"]).unwrap(), Command::Help);
    }

    #[test]
    fn the_go_programs_words_are_accepted() {
        for words in [
            &["vmtoolsd"][..],
            &["vmtoolsd", "--use-machined"],
            &["--use-machined", "vmtoolsd"],
            &["--use-machined=true"],
        ] {
            assert_eq!(parsed(words).unwrap(), Command::Run, "{words:?}");
        }
        assert_eq!(
            parsed(&["talosquery", "--use-machined"]).unwrap(),
            Command::Query { json: false }
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (words, named) in [
            (&["start"][..], "start"),
            (&["run", "--colour"], "--colour"),
            (&["run", "--json"], "--json"),
            (&["rpc"], "rpc needs"),
            (&["rpc", "log a", "b"], "b"),
        ] {
            let err = parsed(words).unwrap_err().to_string();
            assert!(err.contains(named), "{words:?}: {err}");
        }
    }
}
