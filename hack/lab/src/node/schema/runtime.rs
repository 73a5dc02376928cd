//! Types of the runtime namespace: the machine, its volumes and its services.

use super::{
    Field, Release,
    Shape::{Bool, List, Message, Named, Signed, Text, TextMap, Unsigned},
    Type, names,
};

const UNMET_CONDITION: &[Field] = &[Field::new("name", 1, Text), Field::new("reason", 2, Text)];

const MACHINE_STATUS: &[Field] = &[
    Field::new("stage", 1, Named(names::STAGE)),
    Field::new(
        "status",
        2,
        Message(&[
            Field::new("ready", 1, Bool),
            Field::new("unmetConditions", 2, List(&Message(UNMET_CONDITION))),
        ]),
    ),
];

const SECURITY_STATE: &[Field] = &[
    Field::new("secureBoot", 1, Bool),
    Field::optional("ukiSigningKeyFingerprint", 2, Text),
    Field::optional("pcrSigningKeyFingerprint", 3, Text),
    Field::optional("selinuxState", 4, Named(names::SELINUX)),
    Field::optional("fipsState", 6, Named(names::FIPS)).since(Release::V1_11),
    Field::optional("bootedWithUKI", 5, Bool),
    Field::optional("moduleSignatureEnforced", 7, Bool).since(Release::V1_12),
];

const PLATFORM_METADATA: &[Field] = &[
    Field::optional("platform", 1, Text),
    Field::optional("hostname", 2, Text),
    Field::optional("region", 3, Text),
    Field::optional("zone", 4, Text),
    Field::optional("instanceType", 5, Text),
    Field::optional("instanceId", 6, Text),
    Field::optional("providerId", 7, Text),
    Field::optional("spot", 8, Bool),
    Field::optional("internalDNS", 9, Text),
    Field::optional("externalDNS", 10, Text),
    Field::optional("tags", 11, TextMap),
];

const EXTENSION_STATUS: &[Field] = &[
    Field::new("image", 1, Text),
    Field::new(
        "metadata",
        2,
        Message(&[
            Field::new("name", 1, Text),
            Field::new("version", 2, Text),
            Field::new("author", 3, Text),
            Field::new("description", 4, Text),
            Field::new(
                "compatibility",
                5,
                Message(&[Field::new("talos", 1, Message(&[Field::new("version", 1, Text)]))]),
            ),
            Field::optional("extraInfo", 6, Text),
        ]),
    ),
];

const DISK: &[Field] = &[
    Field::new("dev_path", 14, Text),
    Field::new("size", 1, Unsigned),
    Field::new("pretty_size", 15, Text),
    Field::new("io_size", 2, Unsigned),
    Field::new("sector_size", 3, Unsigned),
    Field::new("readonly", 4, Bool),
    Field::new("cdrom", 13, Bool),
    Field::optional("model", 5, Text),
    Field::optional("firmware_version", 19, Text).since(Release::V1_14),
    Field::optional("serial", 6, Text),
    Field::optional("modalias", 7, Text),
    Field::optional("wwid", 8, Text),
    Field::optional("uuid", 17, Text),
    Field::optional("bus_path", 9, Text),
    Field::optional("sub_system", 10, Text),
    Field::optional("transport", 11, Text),
    Field::optional("rotational", 12, Bool),
    Field::optional("secondary_disks", 16, List(&Text)),
    Field::optional("symlinks", 18, List(&Text)),
];

const VOLUME_STATUS: &[Field] = &[
    Field::new("phase", 1, Named(names::VOLUME_PHASE)),
    Field::optional("preFailPhase", 6, Named(names::VOLUME_PHASE)),
    Field::new("type", 16, Named(names::VOLUME_TYPE)),
    Field::optional("parentID", 19, Text),
    Field::optional("location", 2, Text),
    Field::optional("mountLocation", 11, Text),
    Field::optional("partitionIndex", 8, Signed),
    Field::optional("parentLocation", 7, Text),
    Field::optional("uuid", 4, Text),
    Field::optional("partitionUUID", 5, Text),
    Field::optional("size", 9, Unsigned),
    Field::optional("prettySize", 13, Text),
    Field::optional("filesystem", 10, Named(names::FILESYSTEM)),
    Field::optional("encryptionProvider", 12, Named(names::ENCRYPTION)),
    Field::optional("encryptionFailedSyncs", 14, List(&Text)),
    Field::optional("configuredEncryptionKeys", 17, List(&Text)),
    Field::optional(
        "mountSpec",
        15,
        Message(&[
            Field::new("targetPath", 1, Text),
            Field::new("selinuxLabel", 2, Text),
            Field::new("projectQuotaSupport", 3, Bool),
            Field::optional("parentId", 4, Text),
            Field::optional("fileMode", 5, Unsigned),
            Field::optional("uid", 6, Signed),
            Field::optional("gid", 7, Signed),
            Field::optional("recursiveRelabel", 8, Bool),
            Field::optional("bindTarget", 9, Text),
        ]),
    ),
    Field::optional("errorMessage", 3, Text),
];

const MOUNT_STATUS: &[Field] = &[
    Field::new("source", 1, Text),
    Field::new("target", 2, Text),
    Field::new("filesystemType", 3, Text),
    Field::new("options", 4, List(&Text)),
    Field::new("encrypted", 5, Bool),
    Field::optional("encryptionProviders", 6, List(&Text)),
];

const DISCOVERED_VOLUME: &[Field] = &[
    Field::new("dev_path", 17, Text),
    Field::new("type", 14, Text),
    Field::optional("device_path", 15, Text),
    Field::optional("parent", 16, Text),
    Field::optional("parent_dev_path", 18, Text),
    Field::new("size", 1, Unsigned),
    Field::new("pretty_size", 19, Text),
    Field::new("sector_size", 2, Unsigned),
    Field::new("io_size", 3, Unsigned),
    Field::optional("offset", 20, Unsigned).since(Release::V1_12),
    Field::optional("name", 4, Text),
    Field::optional("uuid", 5, Text),
    Field::optional("label", 6, Text),
    Field::optional("block_size", 7, Unsigned),
    Field::optional("filesystem_block_size", 8, Unsigned),
    Field::optional("probed_size", 9, Unsigned),
    Field::optional("partition_uuid", 10, Text),
    Field::optional("partition_type", 11, Text),
    Field::optional("partition_label", 12, Text),
    Field::optional("partition_index", 13, Unsigned),
];

const BLOCK_MOUNT_STATUS: &[Field] = &[
    Field::new(
        "spec",
        1,
        Message(&[
            Field::new("volumeID", 1, Text),
            Field::optional("parentID", 2, Text),
            Field::new("readOnly", 5, Bool),
            Field::optional("detached", 6, Bool).since(Release::V1_12),
            Field::new("requesters", 3, List(&Text)),
            Field::new("requesterIDs", 4, List(&Text)),
        ]),
    ),
    Field::new("target", 2, Text),
    Field::new("source", 3, Text),
    Field::new("filesystem", 4, Named(names::FILESYSTEM)),
    Field::optional("readOnly", 5, Bool),
    Field::optional("projectQuotaSupport", 6, Bool),
    Field::optional("encryptionProvider", 7, Named(names::ENCRYPTION)),
    Field::optional("detached", 8, Bool).since(Release::V1_12),
];

const EXTENSION_SERVICE_CONFIG: &[Field] = &[
    Field::optional(
        "files",
        1,
        List(&Message(&[
            Field::new("content", 1, Text),
            Field::new("mountPath", 2, Text),
        ])),
    ),
    Field::optional("environment", 2, List(&Text)),
];

/// `MachineStatuses.runtime.talos.dev`
pub const MACHINE_STATUSES: &str = "MachineStatuses.runtime.talos.dev";
/// `SecurityStates.talos.dev`
pub const SECURITY_STATES: &str = "SecurityStates.talos.dev";

/// The namespace of the machine itself.
pub const NAMESPACE: &str = "runtime";

const BLOCK_OWNER: &str = "block.VolumeManagerController";

/// The types of this module.
pub const TYPES: &[Type] = &[
    Type::new(
        MACHINE_STATUSES,
        NAMESPACE,
        "runtime.MachineStatusController",
        MACHINE_STATUS,
    ),
    Type::new(
        SECURITY_STATES,
        NAMESPACE,
        "runtime.SecurityStateController",
        SECURITY_STATE,
    ),
    Type::new(
        "PlatformMetadatas.talos.dev",
        NAMESPACE,
        "network.PlatformConfigController",
        PLATFORM_METADATA,
    ),
    Type::new(
        "Versions.runtime.talos.dev",
        NAMESPACE,
        "runtime.VersionController",
        &[
            Field::new("name", 2, Text).since(Release::V1_13),
            Field::new("version", 1, Text),
        ],
    ),
    Type::new(
        "BootIDs.runtime.talos.dev",
        NAMESPACE,
        "runtime.BootIDController",
        &[Field::new("bootID", 1, Text)],
    )
    .since(Release::V1_14),
    Type::new(
        "ImageFactorySchematics.runtime.talos.dev",
        NAMESPACE,
        "runtime.ImageFactorySchematicController",
        &[
            Field::new("schematicId", 1, Text),
            Field::new("flavor", 2, Text),
            Field::new("apiUrl", 3, Text),
        ],
    )
    .since(Release::V1_14),
    Type::new(
        "ExtensionStatuses.runtime.talos.dev",
        NAMESPACE,
        "runtime.ExtensionStatusController",
        EXTENSION_STATUS,
    ),
    Type::new(
        "ExtensionServiceConfigs.runtime.talos.dev",
        NAMESPACE,
        "runtime.ExtensionServiceConfigController",
        EXTENSION_SERVICE_CONFIG,
    )
    .sensitive(Release::V1_13),
    Type::new(
        "MetaKeys.runtime.talos.dev",
        NAMESPACE,
        "",
        &[Field::new("value", 1, Text)],
    ),
    Type::new(
        "ServicePIDs.runtime.talos.dev",
        NAMESPACE,
        "",
        &[
            Field::new("pid", 1, Signed),
            Field::new("mountNamespace", 2, Text),
        ],
    )
    .since(Release::V1_13),
    Type::new(
        "Services.v1alpha1.talos.dev",
        NAMESPACE,
        "v1alpha1.ServiceController",
        &[
            Field::new("running", 1, Bool),
            Field::new("healthy", 2, Bool),
            Field::new("unknown", 3, Bool),
        ],
    ),
    Type::new("Disks.block.talos.dev", NAMESPACE, "block.DisksController", DISK),
    Type::new(
        "SystemDisks.block.talos.dev",
        NAMESPACE,
        "block.SystemDiskController",
        &[Field::new("diskID", 1, Text), Field::new("devPath", 2, Text)],
    ),
    Type::new(
        "VolumeStatuses.block.talos.dev",
        NAMESPACE,
        BLOCK_OWNER,
        VOLUME_STATUS,
    ),
    Type::new("MountStatuses.runtime.talos.dev", NAMESPACE, "", MOUNT_STATUS),
    Type::new(
        "DiscoveredVolumes.block.talos.dev",
        NAMESPACE,
        "block.DiscoveryController",
        DISCOVERED_VOLUME,
    ),
    Type::new(
        "MountStatuses.block.talos.dev",
        NAMESPACE,
        "block.MountController",
        BLOCK_MOUNT_STATUS,
    ),
];
