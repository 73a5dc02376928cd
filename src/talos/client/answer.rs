//! What an answer means: the message in it, the failure inside a reply that is well, the text of a status.

#![forbid(unsafe_code)]

use std::{error::Error as _, time::Duration};

use tonic::{Code, Status};

use super::method::Method;
use crate::{pb::common, talos::CallError};

/// Longest text of a failure that is kept, in bytes: it goes into log lines, and into what the host is told.
const MAX_REASON: usize = 1024;

/// The one message of a reply. Talos wraps replies in a list, which has one element when a single node is asked.
pub(super) fn only<T>(method: &Method, messages: Vec<T>) -> Result<T, CallError> {
    messages.into_iter().next().ok_or(CallError::Incomplete {
        method: method.path,
        what: "message",
    })
}

/// A node's failure can stand inside a reply that is well.
pub(super) fn refuse_failure(method: &Method, metadata: Option<&common::Metadata>) -> Result<(), CallError> {
    let Some(metadata) = metadata else { return Ok(()) };
    let status = metadata.status.clone().unwrap_or_default();
    if status.code == 0 && metadata.error.is_empty() {
        return Ok(());
    }
    Err(CallError::Status {
        method: method.path,
        code: if status.code == 0 {
            Code::Unknown
        } else {
            Code::from(status.code)
        },
        message: if metadata.error.is_empty() {
            status.message
        } else {
            metadata.error.clone()
        },
    })
}

pub(super) fn refused(method: &Method, status: &Status, deadline: Duration) -> CallError {
    // tonic has a clock of its own for the deadline in the request; whichever is first, it is the same news.
    let late = causes(status).any(|cause| cause.is::<tonic::TimeoutExpired>());
    let status = if late { &overdue(deadline) } else { status };
    CallError::Status {
        method: method.path,
        code: status.code(),
        message: describe(status),
    }
}

pub(in crate::talos) fn overdue(deadline: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {deadline:?}"))
}

/// What caused a status that was raised on this side, outermost first.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// The text of a status with its innermost cause, which tells an absent socket from a refused one; at most
/// [`MAX_REASON`] bytes.
pub(in crate::talos) fn describe(status: &Status) -> String {
    let text = status.message();
    let mut reason = match causes(status).last().map(ToString::to_string) {
        Some(cause) if text.is_empty() => cause,
        Some(cause) if !text.contains(&cause) => format!("{text}: {cause}"),
        _ => text.to_owned(),
    };
    if let Some(end) = (0..=MAX_REASON).rev().find(|&at| reason.is_char_boundary(at)) {
        reason.truncate(end);
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::{super::method::REBOOT, *};

    #[test]
    fn an_empty_reply_and_a_failure_inside_a_reply_are_errors() {
        assert_eq!(
            only::<()>(&REBOOT, vec![]),
            Err(CallError::Incomplete {
                method: REBOOT.path,
                what: "message"
            })
        );
        let metadata = common::Metadata {
            status: Some(common::RpcStatus {
                code: 7,
                message: "no".into(),
            }),
            ..common::Metadata::default()
        };
        assert_eq!(
            refuse_failure(&REBOOT, Some(&metadata)),
            Err(CallError::Status {
                method: REBOOT.path,
                code: Code::PermissionDenied,
                message: "no".into()
            })
        );
        assert_eq!(
            refuse_failure(&REBOOT, Some(&common::Metadata::default())),
            Ok(())
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let status = Status::internal("é".repeat(MAX_REASON));
        assert_eq!(describe(&status).len(), MAX_REASON);
        let status = Status::internal(format!("x{}", "é".repeat(MAX_REASON)));
        assert_eq!(describe(&status).len(), MAX_REASON - 1);
    }
}
