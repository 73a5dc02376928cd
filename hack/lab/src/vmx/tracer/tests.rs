//! What needs the tracer's inside. The rest is in `tests/tracer`.

use std::io::{Read, Seek};

use super::*;
use crate::vmx::device::{Access, GuestMemory, Outcome, Registers};

struct Absent;

impl Device for Absent {
    fn access(&mut self, _: i32, _: Access, _: &mut Registers, _: &dyn GuestMemory) -> Outcome {
        Outcome::Fault
    }
}

/// The way into the guest that CPUID faulting takes, with a call whose effect can be seen on every processor: umask.
#[test]
fn a_call_is_put_into_each_new_program() {
    let mut output = tempfile::tempfile().unwrap();
    let umask = faulting::Call::new(u32::try_from(nix::libc::SYS_umask).unwrap(), 0o123);
    // The second program inherits the mask anyway, unless it sets its own before.
    let script =
        "umask; umask 077; exec /bin/sh -c 'umask; trap \"echo got it\" USR1; kill -USR1 $$; exit 4'";
    let guest = Guest::new("/bin/sh")
        .args(["-c", script])
        .stdout(output.try_clone().unwrap());
    let started = Tracer::start_with(
        guest,
        Options::default(),
        Method::Faulting(umask),
        Box::new(Absent),
        None,
    );
    let report = match started {
        Ok(tracer) => tracer.wait().unwrap(),
        Err(error) => {
            assert!(error.is_unavailable(), "{error}");
            return;
        }
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "0123\n0123\ngot it\n");
    assert_eq!(report.status.code(), Some(4));
    assert_eq!(report.measures.total().stops.cpuid, 2);
}

#[test]
fn a_call_that_fails_ends_the_run() {
    // getpgid of a process that cannot be: ESRCH.
    let getpgid = faulting::Call::new(
        u32::try_from(nix::libc::SYS_getpgid).unwrap(),
        i32::MAX.cast_unsigned(),
    );
    let guest = Guest::new("/bin/true");
    match Tracer::start_with(
        guest,
        Options::default(),
        Method::Faulting(getpgid),
        Box::new(Absent),
        None,
    ) {
        Ok(tracer) => {
            let error = tracer.wait().unwrap_err();
            assert!(
                matches!(
                    error,
                    TracerError::Faulting {
                        source: Errno::ESRCH,
                        ..
                    }
                ),
                "{error}"
            );
        }
        Err(error) => assert!(error.is_unavailable(), "{error}"),
    }
}

#[test]
fn programs_are_found_in_the_guests_path() {
    let guest = |path: &str| Guest::new("sh").clear_env().env("PATH", path).find();
    assert_eq!(guest("/nonexistent:/bin"), Some(PathBuf::from("/bin/sh")));
    assert_eq!(guest("/nonexistent"), None);
    assert_eq!(Guest::new("./sh").find(), Some(PathBuf::from("./sh")));
    assert!(
        Guest::new("sh").clear_env().find().is_some(),
        "the usual directories without PATH"
    );
}

#[test]
fn a_zero_byte_is_an_error() {
    let guest = Guest::new("/bin/true").args(["a\0b"]);
    assert!(matches!(
        guest.launch(Vec::new(), None),
        Err(TracerError::NotFound { .. })
    ));
}
