package snapshot

import (
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// The readings below are of resources that are not part of the snapshot yet. Each has every field that could matter under
// its name in Talos's protobuf definition; a decoder need not read all of them (README.md).

// AddressSpec is the reading of AddressSpec. An address is no use without its prefix.
type AddressSpec struct {
	Address         string `json:"address"`
	LinkName        string `json:"link_name"`
	Family          int32  `json:"family"`
	Scope           int32  `json:"scope"`
	Flags           uint32 `json:"flags"`
	AnnounceWithARP bool   `json:"announce_with_arp"`
	ConfigLayer     int32  `json:"config_layer"`
	Priority        uint32 `json:"priority"`
}

// ReadAddressSpec reads an AddressSpec.
func ReadAddressSpec(spec *network.AddressSpecSpec) (AddressSpec, bool) {
	prefix, ok := readPrefix(spec.Address)
	if !ok || !prefix.IsValid() {
		return AddressSpec{}, false
	}

	return AddressSpec{
		Address:         prefix.String(),
		LinkName:        spec.LinkName,
		Family:          int32(spec.Family),
		Scope:           int32(spec.Scope),
		Flags:           uint32(spec.Flags),
		AnnounceWithARP: spec.AnnounceWithARP,
		ConfigLayer:     int32(spec.ConfigLayer),
		Priority:        spec.Priority,
	}, true
}

// Extension is the reading of ExtensionStatus.
type Extension struct {
	Image       string `json:"image"`
	Name        string `json:"name"`
	Version     string `json:"version"`
	Author      string `json:"author"`
	Description string `json:"description"`
	ExtraInfo   string `json:"extra_info"`
}

// ReadExtension reads an ExtensionStatus.
func ReadExtension(spec *runtime.ExtensionStatusSpec) Extension {
	return Extension{
		Image:       spec.Image,
		Name:        spec.Metadata.Name,
		Version:     spec.Metadata.Version,
		Author:      spec.Metadata.Author,
		Description: spec.Metadata.Description,
		ExtraInfo:   spec.Metadata.ExtraInfo,
	}
}

// PlatformMetadata is the reading of PlatformMetadata.
type PlatformMetadata struct {
	Platform     string            `json:"platform"`
	Hostname     string            `json:"hostname"`
	Region       string            `json:"region"`
	Zone         string            `json:"zone"`
	InstanceType string            `json:"instance_type"`
	InstanceID   string            `json:"instance_id"`
	ProviderID   string            `json:"provider_id"`
	Spot         bool              `json:"spot"`
	Tags         map[string]string `json:"tags"`
}

// ReadPlatformMetadata reads a PlatformMetadata.
func ReadPlatformMetadata(spec *runtime.PlatformMetadataSpec) PlatformMetadata {
	return PlatformMetadata{
		Platform:     spec.Platform,
		Hostname:     spec.Hostname,
		Region:       spec.Region,
		Zone:         spec.Zone,
		InstanceType: spec.InstanceType,
		InstanceID:   spec.InstanceID,
		ProviderID:   spec.ProviderID,
		Spot:         spec.Spot,
		Tags:         table(spec.Tags),
	}
}

// TalosVersion is the reading of the resource Version.
type TalosVersion struct {
	Version string `json:"version"`
}

// ReadTalosVersion reads the resource Version.
func ReadTalosVersion(spec *runtime.VersionSpec) TalosVersion {
	return TalosVersion{Version: spec.Version}
}

// LegacyMount is the reading of MountStatuses.runtime.talos.dev.
type LegacyMount struct {
	Source         string   `json:"source"`
	Target         string   `json:"target"`
	FilesystemType string   `json:"filesystem_type"`
	Options        []string `json:"options"`
	Encrypted      bool     `json:"encrypted"`
}

// ReadLegacyMount reads a MountStatus of the runtime.
func ReadLegacyMount(spec *runtime.MountStatusSpec) LegacyMount {
	return LegacyMount{
		Source:         spec.Source,
		Target:         spec.Target,
		FilesystemType: spec.FilesystemType,
		Options:        list(spec.Options),
		Encrypted:      spec.Encrypted,
	}
}

// Nodename is the reading of Nodename.
type Nodename struct {
	Nodename             string `json:"nodename"`
	HostnameVersion      string `json:"hostname_version"`
	SkipNodeRegistration bool   `json:"skip_node_registration"`
}

// ReadNodename reads a Nodename.
func ReadNodename(spec *k8s.NodenameSpec) Nodename {
	return Nodename{
		Nodename:             spec.Nodename,
		HostnameVersion:      spec.HostnameVersion,
		SkipNodeRegistration: spec.SkipNodeRegistration,
	}
}

// NodeStatus is the reading of NodeStatus.
type NodeStatus struct {
	Nodename      string            `json:"nodename"`
	NodeReady     bool              `json:"node_ready"`
	Unschedulable bool              `json:"unschedulable"`
	Labels        map[string]string `json:"labels"`
	Annotations   map[string]string `json:"annotations"`
}

// ReadNodeStatus reads a NodeStatus.
func ReadNodeStatus(spec *k8s.NodeStatusSpec) NodeStatus {
	return NodeStatus{
		Nodename:      spec.Nodename,
		NodeReady:     spec.NodeReady,
		Unschedulable: spec.Unschedulable,
		Labels:        table(spec.Labels),
		Annotations:   table(spec.Annotations),
	}
}

// Disk is the reading of Disk.
type Disk struct {
	DevPath        string   `json:"dev_path"`
	Size           uint64   `json:"size"`
	IOSize         uint64   `json:"io_size"`
	SectorSize     uint64   `json:"sector_size"`
	Readonly       bool     `json:"readonly"`
	CDROM          bool     `json:"cdrom"`
	Rotational     bool     `json:"rotational"`
	Model          string   `json:"model"`
	Serial         string   `json:"serial"`
	WWID           string   `json:"wwid"`
	UUID           string   `json:"uuid"`
	BusPath        string   `json:"bus_path"`
	SubSystem      string   `json:"sub_system"`
	Transport      string   `json:"transport"`
	SecondaryDisks []string `json:"secondary_disks"`
	Symlinks       []string `json:"symlinks"`
}

// ReadDisk reads a Disk.
func ReadDisk(spec *block.DiskSpec) Disk {
	return Disk{
		DevPath:        spec.DevPath,
		Size:           spec.Size,
		IOSize:         uint64(spec.IOSize),
		SectorSize:     uint64(spec.SectorSize),
		Readonly:       spec.Readonly,
		CDROM:          spec.CDROM,
		Rotational:     spec.Rotational,
		Model:          spec.Model,
		Serial:         spec.Serial,
		WWID:           spec.WWID,
		UUID:           spec.UUID,
		BusPath:        spec.BusPath,
		SubSystem:      spec.SubSystem,
		Transport:      spec.Transport,
		SecondaryDisks: list(spec.SecondaryDisks),
		Symlinks:       list(spec.Symlinks),
	}
}

// SystemDisk is the reading of SystemDisk.
type SystemDisk struct {
	DiskID  string `json:"disk_id"`
	DevPath string `json:"dev_path"`
}

// ReadSystemDisk reads a SystemDisk.
func ReadSystemDisk(spec *block.SystemDiskSpec) SystemDisk {
	return SystemDisk{DiskID: spec.DiskID, DevPath: spec.DevPath}
}

// Volume is the reading of VolumeStatus; the mount specification stands in it as in the protobuf message.
type Volume struct {
	Phase              int32     `json:"phase"`
	Type               int32     `json:"type"`
	Location           string    `json:"location"`
	MountLocation      string    `json:"mount_location"`
	ParentLocation     string    `json:"parent_location"`
	ParentID           string    `json:"parent_id"`
	PartitionIndex     int64     `json:"partition_index"`
	UUID               string    `json:"uuid"`
	PartitionUUID      string    `json:"partition_uuid"`
	Size               uint64    `json:"size"`
	Filesystem         int32     `json:"filesystem"`
	EncryptionProvider int32     `json:"encryption_provider"`
	ErrorMessage       string    `json:"error_message"`
	MountSpec          MountSpec `json:"mount_spec"`
}

// MountSpec is where a volume is to be mounted.
type MountSpec struct {
	TargetPath string `json:"target_path"`
	ParentID   string `json:"parent_id"`
}

// ReadVolume reads a VolumeStatus.
func ReadVolume(spec *block.VolumeStatusSpec) Volume {
	return Volume{
		Phase:              int32(spec.Phase),
		Type:               int32(spec.Type),
		Location:           spec.Location,
		MountLocation:      spec.MountLocation,
		ParentLocation:     spec.ParentLocation,
		ParentID:           spec.ParentID,
		PartitionIndex:     int64(spec.PartitionIndex),
		UUID:               spec.UUID,
		PartitionUUID:      spec.PartitionUUID,
		Size:               spec.Size,
		Filesystem:         int32(spec.Filesystem),
		EncryptionProvider: int32(spec.EncryptionProvider),
		ErrorMessage:       spec.ErrorMessage,
		MountSpec:          MountSpec{TargetPath: spec.MountSpec.TargetPath, ParentID: spec.MountSpec.ParentID},
	}
}

// Mount is the reading of MountStatuses.block.talos.dev, with the volume out of its request.
type Mount struct {
	VolumeID           string `json:"volume_id"`
	Source             string `json:"source"`
	Target             string `json:"target"`
	Filesystem         int32  `json:"filesystem"`
	ReadOnly           bool   `json:"read_only"`
	EncryptionProvider int32  `json:"encryption_provider"`
}

// ReadMount reads a MountStatus of a volume.
func ReadMount(spec *block.MountStatusSpec) Mount {
	return Mount{
		VolumeID:           spec.Spec.VolumeID,
		Source:             spec.Source,
		Target:             spec.Target,
		Filesystem:         int32(spec.Filesystem),
		ReadOnly:           spec.ReadOnly,
		EncryptionProvider: int32(spec.EncryptionProvider),
	}
}

func list(values []string) []string { return append([]string{}, values...) }

func table(values map[string]string) map[string]string {
	if values == nil {
		return map[string]string{}
	}

	return values
}
