//! Types of the machine configuration, the hardware, Kubernetes and etcd.

use super::{
    Field, Release,
    Shape::{Address, Bool, List, Named, Prefix, Text, TextMap},
    Type, names,
};

/// `MachineTypes.config.talos.dev`
pub const MACHINE_TYPES: &str = "MachineTypes.config.talos.dev";

/// `Nodenames.kubernetes.talos.dev`
pub const NODENAMES: &str = "Nodenames.kubernetes.talos.dev";
/// `NodeStatuses.kubernetes.talos.dev`
pub const NODE_STATUSES: &str = "NodeStatuses.kubernetes.talos.dev";
/// `NodeIPConfigs.kubernetes.talos.dev`
pub const NODE_IP_CONFIGS: &str = "NodeIPConfigs.kubernetes.talos.dev";
/// `NodeIPs.kubernetes.talos.dev`
pub const NODE_IPS: &str = "NodeIPs.kubernetes.talos.dev";
/// `KubeletSpecs.kubernetes.talos.dev`
pub const KUBELET_SPECS: &str = "KubeletSpecs.kubernetes.talos.dev";
/// `Infos.cluster.talos.dev`
pub const CLUSTER_INFOS: &str = "Infos.cluster.talos.dev";

/// The types of this module.
pub const TYPES: &[Type] = &[
    Type::new(
        MACHINE_TYPES,
        "config",
        "config.MachineTypeController",
        &[Field::new("machineType", 1, Named(names::MACHINE_TYPE))],
    )
    .generated(),
    Type::new(
        "MachineConfigs.config.talos.dev",
        "config",
        "config.AcquireController",
        &[Field::new("yamlMarshalled", 1, Text)],
    )
    .generated()
    .sensitive(Release::V1_10),
    Type::new(
        "SystemInformations.hardware.talos.dev",
        "hardware",
        "hardware.SystemInfoController",
        &[
            Field::optional("manufacturer", 1, Text),
            Field::optional("productName", 2, Text),
            Field::optional("version", 3, Text),
            Field::optional("biosVersion", 8, Text).since(Release::V1_14),
            Field::optional("serialnumber", 4, Text),
            Field::optional("uuid", 5, Text),
            Field::optional("wakeUpType", 6, Text),
            Field::optional("skuNumber", 7, Text),
        ],
    ),
    Type::new(
        NODENAMES,
        "k8s",
        "k8s.NodenameController",
        &[
            Field::new("nodename", 1, Text),
            Field::new("hostnameVersion", 2, Text),
            Field::new("skipNodeRegistration", 3, Bool),
        ],
    ),
    Type::new(
        NODE_STATUSES,
        "k8s",
        "k8s.NodeStatusController",
        &[
            Field::new("nodename", 1, Text),
            Field::new("nodeReady", 2, Bool),
            Field::new("unschedulable", 3, Bool),
            Field::new("labels", 4, TextMap),
            Field::new("annotations", 5, TextMap),
            Field::new("podCIDRs", 6, List(&Prefix)).since(Release::V1_13),
        ],
    ),
    Type::new(
        NODE_IP_CONFIGS,
        "k8s",
        "k8s.NodeIPConfigController",
        &[
            Field::optional("validSubnets", 1, List(&Text)),
            Field::new("excludeSubnets", 2, List(&Text)),
        ],
    ),
    Type::new(
        NODE_IPS,
        "k8s",
        "k8s.NodeIPController",
        &[Field::new("addresses", 1, List(&Address))],
    ),
    Type::new(
        KUBELET_SPECS,
        "k8s",
        "k8s.KubeletSpecController",
        &[
            Field::new("image", 1, Text),
            Field::optional("args", 2, List(&Text)),
            Field::optional("expectedNodename", 4, Text),
        ],
    )
    .sensitive(Release::V1_13),
    Type::new(
        CLUSTER_INFOS,
        "cluster",
        "cluster.InfoController",
        &[
            Field::new("clusterId", 1, Text),
            Field::new("clusterName", 2, Text),
        ],
    ),
    Type::new(
        "EtcdMembers.etcd.talos.dev",
        "etcd",
        "etcd.MemberController",
        &[Field::new("memberID", 1, Text)],
    ),
];
