//! The few lines that the supervisor itself says, written without allocation and without a thread.

#![forbid(unsafe_code)]

use std::{fmt, io, io::Write, os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::WaitStatus,
};

/// Longest line, in bytes.
const MAX_LINE: usize = 256;

pub(super) fn daemon_ended(status: WaitStatus) {
    match status {
        WaitStatus::Exited(_, code) => say(format_args!(
            r#"{{"level":"error","msg":"the daemon ended, so the service ends and Talos starts it again","status":{code}}}"#
        )),
        WaitStatus::Signaled(_, signal, _) => say(format_args!(
            r#"{{"level":"error","msg":"the daemon was killed, so the service ends and Talos starts it again","signal":"{}"}}"#,
            signal.as_str()
        )),
        _ => {}
    }
}

pub(super) fn daemon_killed(grace: Duration) {
    say(format_args!(
        r#"{{"level":"error","msg":"the daemon did not stop in time and is killed","grace_ms":{}}}"#,
        grace.as_millis()
    ));
}

pub(super) fn signals_lost(errno: Errno) {
    say(format_args!(
        r#"{{"level":"error","msg":"signals cannot be received any more, so the service ends","errno":{}}}"#,
        errno as i32
    ));
}

pub(super) fn not_started(step: &str, errno: i32) {
    say(format_args!(
        r#"{{"level":"error","msg":"the daemon was not started","step":"{step}","errno":{errno}}}"#
    ));
}

fn say(line: fmt::Arguments<'_>) {
    let mut buffer = [0_u8; MAX_LINE];
    let mut rest: &mut [u8] = &mut buffer;
    // A line that does not fit is cut: there is nobody to tell.
    let _ = writeln!(rest, "{line}");
    let left = rest.len();
    let length = buffer.len().saturating_sub(left);
    let stdout = io::stdout();
    // A reader that has stalled must not keep PID 1 from ending. A pipe that says it can be written takes 4 KiB at once.
    let mut output = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
    let writable = poll(&mut output, PollTimeout::ZERO).is_ok_and(|ready| ready == 1);
    if let (true, Some(line)) = (writable, buffer.get(..length)) {
        let _ = nix::unistd::write(&stdout, line);
    }
}
