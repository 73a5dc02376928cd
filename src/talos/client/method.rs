//! The methods that are called, each with its least role and its deadline.

#![forbid(unsafe_code)]

use std::time::Duration;

/// Deadline of every call until one was answered: from 1.13 on Talos holds a call for up to 5 s while it waits to
/// learn the process of a service that has just started (pkg/grpc/middleware/auth/unix/authorizer.go).
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A method that is called: the least role it needs, and how long its answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// The least role.
    pub role: &'static str,
    /// Of the answer; for a stream of its next message while its first answer is incomplete.
    pub deadline: Duration,
}

const READER: &str = "os:reader";
const OPERATOR: &str = "os:operator";

/// `Version`: which release this is. The first call on every connection.
pub const VERSION: Method = Method {
    path: "/machine.MachineService/Version",
    role: READER,
    deadline: FIRST_ANSWER,
};
/// `Watch`: resources as they are and as they change.
pub const WATCH: Method = Method {
    path: "/cosi.resource.State/Watch",
    role: READER,
    deadline: Duration::from_secs(5),
};
/// `Mounts`: size and free space of every filesystem. Talos asks each filesystem, and waits for one that hangs.
pub const MOUNTS: Method = Method {
    path: "/machine.MachineService/Mounts",
    role: READER,
    deadline: Duration::from_secs(5),
};
/// `Containers`: what the container runtime runs.
pub const CONTAINERS: Method = Method {
    path: "/machine.MachineService/Containers",
    role: READER,
    deadline: Duration::from_secs(5),
};
/// `Shutdown`: Talos answers before it begins.
pub const SHUTDOWN: Method = Method {
    path: "/machine.MachineService/Shutdown",
    role: OPERATOR,
    deadline: Duration::from_secs(5),
};
/// `Reboot`: Talos answers before it begins.
pub const REBOOT: Method = Method {
    path: "/machine.MachineService/Reboot",
    role: OPERATOR,
    deadline: Duration::from_secs(5),
};

/// `Events`: what happens on the node, while an operation stands.
pub const EVENTS: Method = Method {
    path: "/machine.MachineService/Events",
    role: READER,
    deadline: Duration::from_secs(5),
};

/// Every method that is called.
pub const METHODS: [Method; 7] = [VERSION, WATCH, MOUNTS, CONTAINERS, SHUTDOWN, REBOOT, EVENTS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_least_role() {
        let roles: Vec<_> = METHODS.iter().map(|method| (method.path, method.role)).collect();
        assert_eq!(
            roles,
            [
                ("/machine.MachineService/Version", "os:reader"),
                ("/cosi.resource.State/Watch", "os:reader"),
                ("/machine.MachineService/Mounts", "os:reader"),
                ("/machine.MachineService/Containers", "os:reader"),
                ("/machine.MachineService/Shutdown", "os:operator"),
                ("/machine.MachineService/Reboot", "os:operator"),
                ("/machine.MachineService/Events", "os:reader"),
            ]
        );
    }
}
