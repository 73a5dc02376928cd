//! What the host learns about these tools when it asks for their state.

use std::ops::RangeInclusive;

use super::PropertyList;

/// Our name, where open-vm-tools says `VMware Tools`.
const PRODUCT_NAME: &str = env!("CARGO_PKG_NAME");

/// Our version in the form that the host knows, `<x.y.z> build-<n>`. Builds of this program carry no number.
const TOOLS_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " build-0");

/// The API options: the tools state can be asked for, nothing else (VIX_TOOLSFEATURE_SUPPORT_GET_HANDLE_STATE).
const API_OPTIONS: i32 = 1;

/// The family of the operating system: Linux (GUEST_OS_FAMILY_LINUX).
const OS_FAMILY_LINUX: i32 = 1;

/// Bits of a word; every architecture that this program is built for has 64.
const WORD_SIZE: i32 = 64;

/// Ids of the properties (vixOpenSource.h).
mod id {
    pub(super) const TOOLS_VERSION: i32 = 4500;
    pub(super) const API_OPTIONS: i32 = 4501;
    pub(super) const OS_FAMILY: i32 = 4502;
    pub(super) const OS_VERSION: i32 = 4503;
    pub(super) const PACKAGE_LIST: i32 = 4504;
    pub(super) const HOST_NAME: i32 = 4505;
    pub(super) const PRODUCT_NAME: i32 = 4511;
    pub(super) const WORD_SIZE: i32 = 4519;
    pub(super) const OS_SHORT_NAME: i32 = 4520;
}

/// One property per guest operation, from `START_PROGRAM` to `REMOVE_AUTH_ALIAS_BY_CERT`.
///
/// They are called `…_ENABLED`, but open-vm-tools puts the switch from its configuration into them that turns the operation
/// off: 0 in a stock installation, 1 where it is disabled. One that is absent makes clients say that the tools are too old.
const OPERATION_DISABLED: RangeInclusive<i32> = 4540..=4568;

/// What is known of this node and matters to the host's view of its tools. A fact that is not known, or is empty, is left
/// out of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolsState {
    /// The node's name, in the form in which it is reported elsewhere.
    pub host_name: Option<String>,
    /// VMware's short name of the operating system, `other6xlinux-64`.
    pub os_short_name: Option<String>,
    /// The full name, `Talos v1.14.1`.
    pub os_full_name: Option<String>,
    /// The filesystems are frozen for a snapshot. Every opcode is then answered "busy", as open-vm-tools does, so that
    /// nobody takes the node for ready.
    pub frozen: bool,
}

impl ToolsState {
    /// The list in the order of open-vm-tools. Left out for good: directories for temporary files and shared folders, and the
    /// power scripts, for there are none.
    pub fn properties(&self) -> PropertyList {
        let mut list = PropertyList::default();
        add_fact(&mut list, id::OS_VERSION, self.os_full_name.as_deref());
        add_fact(&mut list, id::OS_SHORT_NAME, self.os_short_name.as_deref());
        list.string(id::PRODUCT_NAME, PRODUCT_NAME);
        list.string(id::TOOLS_VERSION, TOOLS_VERSION);
        add_fact(&mut list, id::HOST_NAME, self.host_name.as_deref());
        list.integer(id::API_OPTIONS, API_OPTIONS);
        list.integer(id::OS_FAMILY, OS_FAMILY_LINUX);
        list.string(id::PACKAGE_LIST, "");
        list.integer(id::WORD_SIZE, WORD_SIZE);
        for operation in OPERATION_DISABLED {
            list.boolean(operation, true);
        }
        list
    }
}

fn add_fact(list: &mut PropertyList, id: i32, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        list.string(id, value);
    }
}
