//! The operations that VIX knows (vixCommands.h).

use std::fmt;

/// An operation of the VIX protocol. Every value can come from the host; [`Opcode::GET_TOOLS_STATE`] alone is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opcode(pub i32);

impl Opcode {
    /// What tools run here, on which operating system, and what they offer.
    pub const GET_TOOLS_STATE: Self = Self(62);

    /// VMware's name of the operation, for the log.
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|known| known.name)
    }

    /// Bytes of the fixed fields at the head of the body: a shorter body makes the frame malformed. 0 for an operation that
    /// is not known.
    pub fn least_body(self) -> u32 {
        self.known().map_or(0, |known| known.least_body)
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.opcode == self.0)
    }
}

/// `185 START_PROGRAM`, or the number alone.
impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        self.name().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// What is to be known of an operation in order to refuse it.
struct Known {
    opcode: i32,
    name: &'static str,
    least_body: u32,
}

const fn known(opcode: i32, name: &'static str, least_body: u32) -> Known {
    Known {
        opcode,
        name,
        least_body,
    }
}

/// Ascending by opcode.
const KNOWN: &[Known] = &[
    known(4, "RUN_PROGRAM", 12),
    known(8, "READ_REGISTRY", 0),
    known(10, "WRITE_REGISTRY", 0),
    known(18, "DELETE_GUEST_FILE", 8),
    known(19, "FILE_EXISTS", 8),
    known(22, "REGISTRY_KEY_EXISTS", 0),
    known(38, "WAIT_FOR_TOOLS", 0),
    known(46, "RUN_SCRIPT_IN_GUEST", 16),
    known(58, "CAPTURE_SCREEN", 0),
    known(62, "GET_TOOLS_STATE", 0),
    known(70, "DIRECTORY_EXISTS", 8),
    known(71, "DELETE_REGISTRY_KEY", 0),
    known(72, "DELETE_DIRECTORY", 8),
    known(73, "DELETE_EMPTY_DIRECTORY", 8),
    known(74, "CREATE_TEMPORARY_FILE", 16),
    known(75, "LIST_PROCESSES", 0),
    known(76, "MOVE_GUEST_FILE", 16),
    known(77, "CREATE_DIRECTORY", 12),
    known(78, "CHECK_USER_ACCOUNT", 0),
    known(79, "LIST_DIRECTORY", 8),
    known(84, "SEND_HGFS_PACKET", 8),
    known(85, "KILL_PROCESS", 12),
    known(87, "LOGOUT_IN_GUEST", 0),
    known(88, "READ_VARIABLE", 12),
    known(89, "WRITE_VARIABLE", 16),
    known(94, "GET_FILE_INFO", 8),
    known(101, "MOUNT_HGFS_FOLDERS", 12),
    known(116, "GET_GUEST_NETWORKING_CONFIG", 4),
    known(117, "SET_GUEST_NETWORKING_CONFIG", 4),
    known(169, "LIST_FILESYSTEMS", 8),
    known(177, "LIST_FILES", 28),
    known(178, "CREATE_DIRECTORY_EX", 13),
    known(179, "MOVE_GUEST_FILE_EX", 17),
    known(180, "MOVE_GUEST_DIRECTORY", 17),
    known(181, "CREATE_TEMPORARY_FILE_EX", 20),
    known(182, "CREATE_TEMPORARY_DIRECTORY", 20),
    known(183, "SET_GUEST_FILE_ATTRIBUTES", 38),
    known(185, "START_PROGRAM", 21),
    known(186, "LIST_PROCESSES_EX", 12),
    known(187, "READ_ENV_VARIABLES", 8),
    known(188, "INITIATE_FILE_TRANSFER_FROM_GUEST", 28),
    known(189, "INITIATE_FILE_TRANSFER_TO_GUEST", 9),
    known(190, "ACQUIRE_CREDENTIALS", 8),
    known(191, "RELEASE_CREDENTIALS", 8),
    known(192, "VALIDATE_CREDENTIALS", 0),
    known(193, "TERMINATE_PROCESS", 12),
    known(194, "DELETE_GUEST_FILE_EX", 8),
    known(195, "DELETE_GUEST_DIRECTORY_EX", 13),
    known(197, "ADD_AUTH_ALIAS", 25),
    known(198, "REMOVE_AUTH_ALIAS", 20),
    known(199, "LIST_AUTH_PROVIDER_ALIASES", 8),
    known(200, "LIST_AUTH_MAPPED_ALIASES", 4),
    known(201, "CREATE_REGISTRY_KEY", 0),
    known(202, "LIST_REGISTRY_KEYS", 0),
    known(203, "DELETE_REGISTRY_KEY_EX", 0),
    known(204, "SET_REGISTRY_VALUE", 0),
    known(205, "LIST_REGISTRY_VALUES", 0),
    known(206, "DELETE_REGISTRY_VALUE", 0),
    known(207, "REMOVE_AUTH_ALIAS_BY_CERT", 20),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_stands_once_in_order() {
        assert!(KNOWN.is_sorted_by(|one, next| one.opcode < next.opcode));
    }

    #[test]
    fn the_log_shows_number_and_name() {
        assert_eq!(Opcode(185).to_string(), "185 START_PROGRAM");
        assert_eq!(Opcode(-1).to_string(), "-1");
    }
}
