//! What is to be run.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::libc::sock_filter;

use super::TracerError;
use super::process::Launch;
use crate::vmx::isolation::Isolation;

/// The program to be run, and what surrounds it.
#[derive(Debug)]
pub struct Guest {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    streams: [Option<OwnedFd>; 3],
}

impl Guest {
    /// `program`, looked up in PATH when it has no slash, with this process's environment, directory and streams.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: std::env::vars_os().collect(),
            directory: None,
            streams: [None, None, None],
        }
    }

    /// Adds arguments after the program's name.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let key = key.into();
        self.environment.retain(|(present, _)| *present != key);
        self.environment.push((key, value.into()));
        self
    }

    /// Removes every environment variable.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.environment.clear();
        self
    }

    /// Runs the program in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Standard input.
    #[must_use]
    pub fn stdin(mut self, stream: impl Into<OwnedFd>) -> Self {
        let [stdin, ..] = &mut self.streams;
        *stdin = Some(stream.into());
        self
    }

    /// Standard output.
    #[must_use]
    pub fn stdout(mut self, stream: impl Into<OwnedFd>) -> Self {
        let [_, stdout, _] = &mut self.streams;
        *stdout = Some(stream.into());
        self
    }

    /// Standard error.
    #[must_use]
    pub fn stderr(mut self, stream: impl Into<OwnedFd>) -> Self {
        let [.., stderr] = &mut self.streams;
        *stderr = Some(stream.into());
        self
    }

    /// Where the program is: as given, or in the first directory of PATH that has it.
    pub(super) fn find(&self) -> Option<PathBuf> {
        let program = PathBuf::from(&self.program);
        if self.program.as_bytes().contains(&b'/') {
            return Some(program);
        }
        let path = self
            .environment
            .iter()
            .find(|(key, _)| key == "PATH")
            .map(|(_, value)| value.clone());
        std::env::split_paths(
            path.as_deref()
                .unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")),
        )
        .map(|directory| directory.join(&program))
        .find(|file| {
            file.metadata()
                .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        })
    }

    pub(super) fn launch(
        self,
        filter: Vec<sock_filter>,
        isolation: Option<Isolation>,
    ) -> Result<Launch, TracerError> {
        let not_found = || TracerError::NotFound {
            program: self.program.to_string_lossy().into_owned(),
        };
        let string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| not_found());
        let program = string(self.find().ok_or_else(not_found)?.into_os_string().into_vec())?;
        let arguments = std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|argument| string(argument.as_bytes().to_vec()))
            .collect::<Result<_, _>>()?;
        let environment = self
            .environment
            .iter()
            .map(|(key, value)| string([key.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<_, _>>()?;
        let directory = match &self.directory {
            Some(directory) => Some(string(directory.as_os_str().as_bytes().to_vec())?),
            None => None,
        };
        Ok(Launch {
            program,
            arguments,
            environment,
            directory,
            streams: self.streams,
            filter,
            isolation,
        })
    }
}
