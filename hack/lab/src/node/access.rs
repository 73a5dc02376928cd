//! Who may call what: the role metadata of machined.
//!
//! A caller asserts its roles itself, one per `talos-role` value; each method asks for a least role, whatever is not
//! in the table asks for os:admin. Source: Talos `pkg/grpc/middleware/authz`, `pkg/machinery/role`,
//! `internal/app/machined/pkg/system/services/machined.go`.

use http::HeaderMap;
use tonic::Status;

/// The metadata key of the roles.
pub const ROLE_KEY: &str = "talos-role";

/// Roles that a method can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `os:reader`
    Reader,
    /// `os:operator`
    Operator,
    /// `os:admin`
    Admin,
}

impl Role {
    /// The role as metadata carries it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "os:reader",
            Self::Operator => "os:operator",
            Self::Admin => "os:admin",
        }
    }
}

/// The methods that the node serves with their least roles; on a node they are the same from 1.10 to 1.14.
pub const METHODS: &[(&str, Role)] = &[
    ("/machine.MachineService/Version", Role::Reader),
    ("/machine.MachineService/Mounts", Role::Reader),
    ("/machine.MachineService/Containers", Role::Reader),
    ("/machine.MachineService/Shutdown", Role::Operator),
    ("/machine.MachineService/Reboot", Role::Operator),
    ("/machine.MachineService/Events", Role::Reader),
    ("/cosi.resource.State/Get", Role::Reader),
    ("/cosi.resource.State/List", Role::Reader),
    ("/cosi.resource.State/Watch", Role::Reader),
];

/// The roles of a call, as its metadata gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<String>);

impl Roles {
    /// Reads every value of `talos-role`. Values are trimmed and never split: `os:reader,os:admin` is one unknown role.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(values(headers, ROLE_KEY))
    }

    /// The values.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether these roles allow what `least` allows; a stronger role includes the weaker ones.
    pub fn allow(&self, least: Role) -> bool {
        [Role::Reader, Role::Operator, Role::Admin]
            .into_iter()
            .filter(|role| *role >= least)
            .any(|role| self.0.iter().any(|name| name == role.name()))
    }
}

/// All values of the metadata key `key`, trimmed.
pub fn values(headers: &HeaderMap, key: &str) -> Vec<String> {
    headers
        .get_all(key)
        .into_iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        .collect()
}

/// What every refusal for want of a role says.
pub fn not_authorized() -> Status {
    Status::permission_denied("not authorized")
}

/// Refuses a call whose roles do not reach. A method that is not served passes: a node answers UNIMPLEMENTED before it
/// looks at roles.
pub fn authorize(path: &str, roles: &Roles) -> Result<(), Status> {
    match METHODS.iter().find(|(method, _)| *method == path) {
        Some((_, least)) if !roles.allow(*least) => Err(not_authorized()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(values: &[&str]) -> Roles {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ROLE_KEY, value.parse().unwrap());
        }
        Roles::of(&headers)
    }

    #[test]
    fn one_matching_value_is_enough() {
        assert!(roles(&["os:reader"]).allow(Role::Reader));
        assert!(roles(&["os:etcd:backup", " os:operator "]).allow(Role::Operator));
        assert!(roles(&["os:admin"]).allow(Role::Reader));
    }

    #[test]
    fn weak_joined_unknown_and_absent_roles_match_nothing() {
        assert!(!roles(&["os:reader"]).allow(Role::Operator));
        assert!(!roles(&["os:reader,os:admin"]).allow(Role::Reader));
        assert!(!roles(&["OS:ADMIN"]).allow(Role::Reader));
        assert!(!roles(&["os:impersonator"]).allow(Role::Reader));
        assert!(!roles(&[]).allow(Role::Reader));
    }

    /// The methods of a file of `proto/`, as paths. A server implements each, so these are what the node serves.
    fn methods(proto: &str) -> Vec<String> {
        let after = |word: &str| -> Vec<&str> {
            proto
                .lines()
                .filter_map(|line| line.trim().strip_prefix(word)?.split(['(', ' ', ';']).next())
                .collect()
        };
        let (package, service) = (after("package ")[0], after("service ")[0]);
        after("rpc ")
            .into_iter()
            .map(|method| format!("/{package}.{service}/{method}"))
            .collect()
    }

    #[test]
    fn every_served_method_has_a_role() {
        let mut served = methods(include_str!("../../../../proto/machine.proto"));
        served.extend(methods(include_str!("../../../../proto/cosi.proto")));
        served.sort();
        let mut known: Vec<_> = METHODS.iter().map(|(path, _)| *path).collect();
        known.sort_unstable();
        assert_eq!(known, served);
    }

    #[test]
    fn only_served_methods_are_checked() {
        let none = roles(&[]);
        assert!(authorize("/machine.MachineService/Version", &none).is_err());
        assert!(authorize("/machine.MachineService/Kubeconfig", &none).is_ok());
    }
}
