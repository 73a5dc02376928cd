//! The record of calls: what was asked, by whom, with which roles, and how it ended.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::sync::watch;
use tonic::Code;

/// Calls that are kept; the oldest go first.
pub const KEPT: usize = 10_000;

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Counts the calls of the node from 0.
    pub number: u64,
    /// For example `machine.MachineService`.
    pub service: String,
    /// For example `Shutdown`.
    pub method: String,
    /// The values of `talos-role`.
    pub roles: Vec<String>,
    /// The values of `node` and `nodes`, which machined ignores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Unix time of the request, in seconds.
    pub at: f64,
    /// Process that opened the connection.
    pub pid: Option<i32>,
    /// User that opened the connection.
    pub uid: Option<u32>,
    /// What the request asked for, for example `force` or `type`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub request: BTreeMap<&'static str, String>,
    /// gRPC code of the answer as Go spells it, `OK` for a stream that was opened; absent while the call is running.
    pub outcome: Option<&'static str>,
}

/// The calls of a node.
#[derive(Debug, Default)]
pub struct CallLog {
    calls: Mutex<Calls>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Calls {
    kept: VecDeque<Call>,
    next: u64,
}

/// What is known of a call before it is answered.
#[derive(Debug, Default)]
pub struct Caller {
    /// The values of `talos-role`.
    pub roles: Vec<String>,
    /// The values of `node` and `nodes`.
    pub nodes: Vec<String>,
    /// Process of the peer.
    pub pid: Option<i32>,
    /// User of the peer.
    pub uid: Option<u32>,
}

impl CallLog {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call of `path` (`/service/method`).
    pub fn begin(self: &Arc<Self>, path: &str, caller: Caller) -> Record {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let mut calls = self.lock();
        let number = calls.next;
        calls.next += 1;
        if calls.kept.len() == KEPT {
            calls.kept.pop_front();
        }
        calls.kept.push_back(Call {
            number,
            service: service.to_owned(),
            method: method.to_owned(),
            roles: caller.roles,
            nodes: caller.nodes,
            at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
            pid: caller.pid,
            uid: caller.uid,
            request: BTreeMap::new(),
            outcome: None,
        });
        drop(calls);
        self.changed.send_replace(());
        Record {
            log: Arc::clone(self),
            number,
        }
    }

    /// All calls that are kept, the oldest first.
    pub fn list(&self) -> Vec<Call> {
        self.lock().kept.iter().cloned().collect()
    }

    /// Forgets all calls.
    pub fn clear(&self) {
        self.lock().kept.clear();
        self.changed.send_replace(());
    }

    /// Wakes at every change of the record.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// The record of one call, open for what is learnt later.
#[derive(Clone, Debug)]
pub struct Record {
    log: Arc<CallLog>,
    number: u64,
}

impl Record {
    fn update(&self, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self
            .log
            .lock()
            .kept
            .iter_mut()
            .rev()
            .find(|call| call.number == self.number)
        {
            change(call);
        }
        self.log.changed.send_replace(());
    }

    /// Notes something that the request asked for.
    pub fn note(&self, key: &'static str, value: impl Into<String>) {
        self.update(|call| {
            call.request.insert(key, value.into());
        });
    }

    /// Notes how the call ended.
    pub fn end(&self, code: Code) {
        self.update(|call| call.outcome = Some(code_name(code)));
    }
}

const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// The name of a code in gRPC's documentation.
pub fn code_name(code: Code) -> &'static str {
    CODES
        .iter()
        .find(|(known, _)| *known == code)
        .map_or("UNKNOWN", |(_, name)| name)
}

/// The code called `name`; case and hyphens do not matter, a number is understood as well.
pub fn code_named(name: &str) -> Option<Code> {
    let upper = name.to_ascii_uppercase().replace('-', "_");
    CODES
        .iter()
        .find(|(code, known)| *known == upper || name.parse() == Ok(i32::from(*code)))
        .map(|(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_by_name_and_number() {
        for (code, name) in CODES {
            assert_eq!(code_named(name), Some(code));
            assert_eq!(code_named(&i32::from(code).to_string()), Some(code));
            assert_eq!(code_name(code), name);
        }
        assert_eq!(code_named("permission-denied"), Some(Code::PermissionDenied));
        assert_eq!(code_named("17"), None);
    }

    #[test]
    fn the_record_is_bounded_and_late_notes_do_no_harm() {
        let log = Arc::new(CallLog::default());
        let first = log.begin("/a.B/C", Caller::default());
        for _ in 0..KEPT {
            log.begin("/a.B/D", Caller::default());
        }
        first.end(Code::Ok);
        let calls = log.list();
        assert_eq!(calls.len(), KEPT);
        assert!(
            calls
                .iter()
                .all(|call| call.method == "D" && call.outcome.is_none())
        );
    }
}
