//! Types of the network namespaces.

use super::{
    Field, Release,
    Shape::{Address, Bits, Bool, Hardware, List, Message, Named, Prefix, Signed, Text, Unsigned},
    Type, names,
};

const VLAN: &[Field] = &[
    Field::new("vlanID", 1, Unsigned),
    Field::new("vlanProtocol", 2, Named(names::VLAN_PROTOCOL)),
];

const BRIDGE: &[Field] = &[
    Field::optional("stp", 1, Message(&[Field::new("enabled", 1, Bool)])),
    Field::optional("vlan", 2, Message(&[Field::new("filteringEnabled", 1, Bool)])),
];

/// The modes are numbers here, unnamed: nothing that reads a node from outside needs them.
const BOND: &[Field] = &[
    Field::new("mode", 1, Unsigned),
    Field::new("xmitHashPolicy", 2, Unsigned),
    Field::new("lacpRate", 3, Unsigned),
    Field::new("arpValidate", 4, Unsigned),
    Field::new("arpAllTargets", 5, Unsigned),
    Field::optional("primary", 6, Unsigned),
    Field::new("primaryReselect", 7, Unsigned),
    Field::new("failOverMac", 8, Unsigned),
    Field::optional("adSelect", 9, Unsigned),
    Field::optional("miimon", 10, Unsigned),
    Field::optional("updelay", 11, Unsigned),
    Field::optional("downdelay", 12, Unsigned),
    Field::optional("arpInterval", 13, Unsigned),
    Field::optional("resendIgmp", 14, Unsigned),
    Field::optional("minLinks", 15, Unsigned),
    Field::optional("lpInterval", 16, Unsigned),
    Field::optional("packetsPerSlave", 17, Unsigned),
    Field::optional("numPeerNotif", 18, Unsigned),
    Field::optional("tlbLogicalLb", 19, Unsigned),
    Field::optional("allSlavesActive", 20, Unsigned),
    Field::optional("useCarrier", 21, Bool),
    Field::optional("adActorSysPrio", 22, Unsigned),
    Field::optional("adUserPortKey", 23, Unsigned),
    Field::optional("peerNotifyDelay", 24, Unsigned),
];

const WIREGUARD: &[Field] = &[
    Field::optional("privateKey", 1, Text),
    Field::optional("publicKey", 2, Text),
    Field::new("listenPort", 3, Signed),
    Field::new("firewallMark", 4, Signed),
];

const LINK_STATUS: &[Field] = &[
    Field::optional("alias", 31, Text),
    Field::optional("altNames", 32, List(&Text)),
    Field::new("index", 1, Unsigned),
    Field::new("type", 2, Named(names::LINK_TYPE)),
    Field::new("linkIndex", 3, Unsigned),
    Field::new("flags", 4, Bits(names::LINK_FLAGS)),
    Field::new("hardwareAddr", 5, Hardware),
    Field::new("permanentAddr", 30, Hardware),
    Field::new("broadcastAddr", 6, Hardware),
    Field::new("mtu", 7, Unsigned),
    Field::new("queueDisc", 8, Text),
    Field::optional("masterIndex", 9, Unsigned),
    Field::new("operationalState", 10, Named(names::OPERATIONAL_STATE)),
    Field::new("kind", 11, Text),
    Field::new("slaveKind", 12, Text),
    Field::optional("busPath", 13, Text),
    Field::optional("pciID", 14, Text),
    Field::optional("driver", 15, Text),
    Field::optional("driverVersion", 16, Text),
    Field::optional("firmwareVersion", 17, Text),
    Field::optional("productID", 18, Text),
    Field::optional("vendorID", 19, Text),
    Field::optional("product", 20, Text),
    Field::optional("vendor", 21, Text),
    Field::new("linkState", 22, Bool),
    Field::optional("speedMbit", 23, Signed),
    Field::new("port", 24, Named(names::PORT)),
    Field::new("duplex", 25, Named(names::DUPLEX)),
    Field::optional("vlan", 26, Message(VLAN)),
    Field::optional("bridgeMaster", 27, Message(BRIDGE)),
    Field::optional("bondMaster", 28, Message(BOND)),
    Field::optional("wireguard", 29, Message(WIREGUARD)),
];

const ADDRESS_STATUS: &[Field] = &[
    Field::new("address", 1, Prefix),
    Field::optional("local", 2, Address),
    Field::optional("broadcast", 3, Address),
    Field::optional("anycast", 4, Address),
    Field::optional("multicast", 5, Address),
    Field::new("linkIndex", 6, Unsigned),
    Field::new("linkName", 7, Text),
    Field::new("family", 8, Named(names::FAMILY)),
    Field::new("scope", 9, Named(names::SCOPE)),
    Field::new("flags", 10, Bits(names::ADDRESS_FLAGS)),
    Field::new("priority", 11, Unsigned),
];

const ADDRESS_SPEC: &[Field] = &[
    Field::new("address", 1, Prefix),
    Field::new("linkName", 2, Text),
    Field::new("family", 3, Named(names::FAMILY)),
    Field::new("scope", 4, Named(names::SCOPE)),
    Field::new("flags", 5, Bits(names::ADDRESS_FLAGS)),
    Field::optional("announceWithARP", 6, Bool),
    Field::optional("priority", 8, Unsigned),
    Field::new("layer", 7, Named(names::CONFIG_LAYER)),
];

const ROUTE_STATUS: &[Field] = &[
    Field::new("family", 1, Named(names::FAMILY)),
    Field::new("dst", 2, Prefix),
    Field::new("src", 3, Address),
    Field::new("gateway", 4, Address),
    Field::optional("outLinkIndex", 5, Unsigned),
    Field::optional("outLinkName", 6, Text),
    Field::new("table", 7, Named(names::ROUTE_TABLE)),
    Field::new("priority", 8, Unsigned),
    Field::new("scope", 9, Named(names::SCOPE)),
    Field::new("type", 10, Named(names::ROUTE_TYPE)),
    Field::new("flags", 11, Bits(names::ROUTE_FLAGS)),
    Field::new("protocol", 12, Named(names::ROUTE_PROTOCOL)),
    Field::optional("mtu", 13, Unsigned),
    Field::optional(
        "nextHops",
        14,
        List(&Message(&[
            Field::new("gateway", 1, Address),
            Field::new("outLinkName", 2, Text),
            Field::new("weight", 3, Unsigned),
        ])),
    )
    .since(Release::V1_14),
];

const NODE_ADDRESS: &[Field] = &[
    Field::new("addresses", 1, List(&Prefix)),
    Field::new("sortAlgorithm", 2, Named(names::SORT_ALGORITHM)),
];

const NODE_ADDRESS_FILTER: &[Field] = &[
    Field::new("includeSubnets", 1, List(&Prefix)),
    Field::new("excludeSubnets", 2, List(&Prefix)),
];

const HOSTNAME_STATUS: &[Field] = &[Field::new("hostname", 1, Text), Field::new("domainname", 2, Text)];

const RESOLVER_STATUS: &[Field] = &[
    Field::new("dnsServers", 1, List(&Address)),
    Field::optional(
        "nameServers",
        4,
        List(&Message(&[
            Field::new("addr", 1, Address),
            Field::new("protocol", 2, Named(names::DNS_PROTOCOL)),
            Field::optional("tlsServerName", 3, Text),
        ])),
    )
    .since(Release::V1_14),
    Field::new("searchDomains", 2, List(&Text)),
];

const NETWORK_STATUS: &[Field] = &[
    Field::new("addressReady", 1, Bool),
    Field::new("connectivityReady", 2, Bool),
    Field::new("hostnameReady", 3, Bool),
    Field::new("etcFilesReady", 4, Bool),
];

const TIME_SERVER_STATUS: &[Field] = &[
    Field::new("timeServers", 1, List(&Text)),
    Field::new("useNTS", 2, Bool).since(Release::V1_14),
];

const HARDWARE_ADDRESS: &[Field] = &[
    Field::new("name", 1, Text),
    Field::new("hardwareAddr", 2, Hardware),
];

/// Only what a refused reader would look for: the type is Sensitive on every release.
const OPERATOR_SPEC: &[Field] = &[
    Field::new("operator", 1, Named(names::OPERATOR)),
    Field::new("linkName", 2, Text),
    Field::new("requireUp", 3, Bool),
    Field::new("layer", 7, Named(names::CONFIG_LAYER)),
];

/// `LinkStatuses.net.talos.dev`
pub const LINK_STATUSES: &str = "LinkStatuses.net.talos.dev";
/// `AddressStatuses.net.talos.dev`
pub const ADDRESS_STATUSES: &str = "AddressStatuses.net.talos.dev";
/// `AddressSpecs.net.talos.dev`
pub const ADDRESS_SPECS: &str = "AddressSpecs.net.talos.dev";
/// `RouteStatuses.net.talos.dev`
pub const ROUTE_STATUSES: &str = "RouteStatuses.net.talos.dev";
/// `NodeAddresses.net.talos.dev`
pub const NODE_ADDRESSES: &str = "NodeAddresses.net.talos.dev";
/// `NodeAddressFilters.net.talos.dev`
pub const NODE_ADDRESS_FILTERS: &str = "NodeAddressFilters.net.talos.dev";
/// `HostnameStatuses.net.talos.dev`
pub const HOSTNAME_STATUSES: &str = "HostnameStatuses.net.talos.dev";
/// `ResolverStatuses.net.talos.dev`
pub const RESOLVER_STATUSES: &str = "ResolverStatuses.net.talos.dev";
/// `NetworkStatuses.net.talos.dev`
pub const NETWORK_STATUSES: &str = "NetworkStatuses.net.talos.dev";

/// The namespace of what is.
pub const NAMESPACE: &str = "network";
/// The namespace of what was asked for, one resource per configuration layer.
pub const CONFIG_NAMESPACE: &str = "network-config";

/// The types of this module.
pub const TYPES: &[Type] = &[
    Type::new(
        ADDRESS_STATUSES,
        NAMESPACE,
        "network.AddressStatusController",
        ADDRESS_STATUS,
    ),
    Type::new(
        ADDRESS_SPECS,
        CONFIG_NAMESPACE,
        "network.AddressConfigController",
        ADDRESS_SPEC,
    ),
    Type::new(
        LINK_STATUSES,
        NAMESPACE,
        "network.LinkStatusController",
        LINK_STATUS,
    ),
    Type::new(
        ROUTE_STATUSES,
        NAMESPACE,
        "network.RouteStatusController",
        ROUTE_STATUS,
    ),
    Type::new(
        NODE_ADDRESSES,
        NAMESPACE,
        "network.NodeAddressController",
        NODE_ADDRESS,
    ),
    Type::new(
        NODE_ADDRESS_FILTERS,
        NAMESPACE,
        "k8s.AddressFilterController",
        NODE_ADDRESS_FILTER,
    ),
    Type::new(
        HOSTNAME_STATUSES,
        NAMESPACE,
        "network.HostnameSpecController",
        HOSTNAME_STATUS,
    ),
    Type::new(
        RESOLVER_STATUSES,
        NAMESPACE,
        "network.ResolverSpecController",
        RESOLVER_STATUS,
    ),
    Type::new(
        NETWORK_STATUSES,
        NAMESPACE,
        "network.StatusController",
        NETWORK_STATUS,
    ),
    Type::new(
        "TimeServerStatuses.net.talos.dev",
        NAMESPACE,
        "network.TimeServerSpecController",
        TIME_SERVER_STATUS,
    ),
    Type::new(
        "HardwareAddresses.net.talos.dev",
        NAMESPACE,
        "network.HardwareAddrController",
        HARDWARE_ADDRESS,
    ),
    Type::new(
        "OperatorSpecs.net.talos.dev",
        NAMESPACE,
        "network.OperatorMergeController",
        OPERATOR_SPEC,
    )
    .sensitive(Release::V1_10),
];
