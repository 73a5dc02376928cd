//! Names of numbers, from Talos's `pkg/machinery/nethelpers` and the kernel headers behind them.

use super::Names;

pub const FAMILY: Names = &[(2, "inet4"), (10, "inet6")];

/// RT_SCOPE_* of linux/rtnetlink.h.
pub const SCOPE: Names = &[
    (0, "global"),
    (200, "site"),
    (253, "link"),
    (254, "host"),
    (255, "nowhere"),
];

/// IFA_F_* of linux/if_addr.h.
pub const ADDRESS_FLAGS: Names = &[
    (0x01, "temporary"),
    (0x02, "nodad"),
    (0x04, "optimistic"),
    (0x08, "dadfailed"),
    (0x10, "homeaddress"),
    (0x20, "deprecated"),
    (0x40, "tentative"),
    (0x80, "permanent"),
    (0x100, "mngmtmpaddr"),
    (0x200, "noprefixroute"),
    (0x400, "mcautojoin"),
    (0x800, "stableprivacy"),
];

/// IFF_* of linux/if.h.
pub const LINK_FLAGS: Names = &[
    (0x1, "UP"),
    (0x2, "BROADCAST"),
    (0x4, "DEBUG"),
    (0x8, "LOOPBACK"),
    (0x10, "POINTTOPOINT"),
    (0x20, "NOTRAILERS"),
    (0x40, "RUNNING"),
    (0x80, "NOARP"),
    (0x100, "PROMISC"),
    (0x200, "ALLMULTI"),
    (0x400, "MASTER"),
    (0x800, "SLAVE"),
    (0x1000, "MULTICAST"),
    (0x2000, "PORTSEL"),
    (0x4000, "AUTOMEDIA"),
    (0x8000, "DYNAMIC"),
    (0x1_0000, "LOWER_UP"),
    (0x2_0000, "DORMANT"),
    (0x4_0000, "ECHO"),
];

/// ARPHRD_* of linux/if_arp.h, those that a node is likely to have.
pub const LINK_TYPE: Names = &[
    (1, "ether"),
    (32, "infiniband"),
    (512, "ppp"),
    (768, "ipip"),
    (769, "tunnel6"),
    (772, "loopback"),
    (776, "sit"),
    (778, "ipgre"),
    (824, "netlink"),
    (65534, "nohdr"),
];

/// IF_OPER_* of linux/if.h (RFC 2863).
pub const OPERATIONAL_STATE: Names = &[
    (0, "unknown"),
    (1, "notPresent"),
    (2, "down"),
    (3, "lowerLayerDown"),
    (4, "testing"),
    (5, "dormant"),
    (6, "up"),
];

/// PORT_* of linux/ethtool.h.
pub const PORT: Names = &[
    (0, "TwistedPair"),
    (1, "AUI"),
    (2, "MII"),
    (3, "Fibre"),
    (4, "BNC"),
    (5, "DirectAttach"),
    (239, "None"),
    (255, "Other"),
];

/// DUPLEX_* of linux/ethtool.h.
pub const DUPLEX: Names = &[(0, "Half"), (1, "Full"), (255, "Unknown")];

pub const VLAN_PROTOCOL: Names = &[(33024, "802.1q"), (34984, "802.1ad")];

pub const ROUTE_TABLE: Names = &[(0, "unspec"), (253, "default"), (254, "main"), (255, "local")];

/// RTN_* of linux/rtnetlink.h.
pub const ROUTE_TYPE: Names = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
    (9, "throw"),
    (10, "nat"),
    (11, "xresolve"),
];

/// RTM_F_* of linux/rtnetlink.h.
pub const ROUTE_FLAGS: Names = &[
    (0x100, "notify"),
    (0x200, "cloned"),
    (0x400, "equalize"),
    (0x800, "prefix"),
];

/// RTPROT_* of linux/rtnetlink.h.
pub const ROUTE_PROTOCOL: Names = &[
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (9, "ra"),
    (12, "bird"),
    (16, "dhcp"),
    (18, "keepalived"),
    (186, "bgp"),
    (188, "ospf"),
];

pub const CONFIG_LAYER: Names = &[
    (0, "default"),
    (1, "cmdline"),
    (2, "platform"),
    (3, "operator"),
    (4, "configuration"),
];

pub const OPERATOR: Names = &[(0, "dhcp4"), (1, "dhcp6"), (2, "vip")];

pub const SORT_ALGORITHM: Names = &[(0, "v1"), (1, "v2")];

pub const DNS_PROTOCOL: Names = &[(0, "Do53"), (1, "DoT"), (2, "DoH")];

pub const STAGE: Names = &[
    (0, "unknown"),
    (1, "booting"),
    (2, "installing"),
    (3, "maintenance"),
    (4, "running"),
    (5, "rebooting"),
    (6, "shutting down"),
    (7, "resetting"),
    (8, "upgrading"),
];

pub const MACHINE_TYPE: Names = &[(0, "unknown"), (1, "init"), (2, "controlplane"), (3, "worker")];

pub const SELINUX: Names = &[
    (0, "disabled"),
    (1, "enabled, permissive"),
    (2, "enabled, enforcing"),
];

pub const FIPS: Names = &[(0, "disabled"), (1, "enabled"), (2, "enabled, strict")];

pub const VOLUME_PHASE: Names = &[
    (0, "waiting"),
    (1, "failed"),
    (2, "missing"),
    (3, "located"),
    (4, "provisioned"),
    (5, "prepared"),
    (6, "ready"),
    (7, "closed"),
];

pub const VOLUME_TYPE: Names = &[
    (0, "partition"),
    (1, "disk"),
    (2, "tmpfs"),
    (3, "directory"),
    (4, "symlink"),
    (5, "overlay"),
    (6, "external"),
];

pub const FILESYSTEM: Names = &[
    (0, "none"),
    (1, "xfs"),
    (2, "vfat"),
    (3, "ext4"),
    (4, "iso9660"),
    (5, "swap"),
    (6, "virtiofs"),
    (7, "btrfs"),
];

pub const ENCRYPTION: Names = &[(0, "none"), (1, "luks2")];
