package snapshot

import (
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// Disk is the reading of Disk.
type Disk struct {
	DevPath        string   `json:"dev_path"`
	Size           uint64   `json:"size"`
	Model          string   `json:"model"`
	Serial         string   `json:"serial"`
	WWID           string   `json:"wwid"`
	BusPath        string   `json:"bus_path"`
	Transport      string   `json:"transport"`
	Readonly       bool     `json:"readonly"`
	CDROM          bool     `json:"cdrom"`
	SecondaryDisks []string `json:"secondary_disks"`
}

// ReadDisk reads a Disk.
func ReadDisk(spec *block.DiskSpec) Disk {
	return Disk{
		DevPath:        spec.DevPath,
		Size:           spec.Size,
		Model:          spec.Model,
		Serial:         spec.Serial,
		WWID:           spec.WWID,
		BusPath:        spec.BusPath,
		Transport:      spec.Transport,
		Readonly:       spec.Readonly,
		CDROM:          spec.CDROM,
		SecondaryDisks: append([]string{}, spec.SecondaryDisks...),
	}
}

// DiscoveredVolume is the reading of DiscoveredVolume.
type DiscoveredVolume struct {
	DevPath        string `json:"dev_path"`
	Type           string `json:"type"`
	Size           uint64 `json:"size"`
	Name           string `json:"name"`
	Label          string `json:"label"`
	UUID           string `json:"uuid"`
	PartitionLabel string `json:"partition_label"`
	PartitionIndex uint64 `json:"partition_index"`
	Parent         string `json:"parent"`
	ParentDevPath  string `json:"parent_dev_path"`
}

// ReadDiscoveredVolume reads a DiscoveredVolume.
func ReadDiscoveredVolume(spec *block.DiscoveredVolumeSpec) DiscoveredVolume {
	return DiscoveredVolume{
		DevPath:        spec.DevPath,
		Type:           spec.Type,
		Size:           spec.Size,
		Name:           spec.Name,
		Label:          spec.Label,
		UUID:           spec.UUID,
		PartitionLabel: spec.PartitionLabel,
		PartitionIndex: uint64(spec.PartitionIndex),
		Parent:         spec.Parent,
		ParentDevPath:  spec.ParentDevPath,
	}
}

// Volume is the reading of VolumeStatus.
type Volume struct {
	Phase              int32  `json:"phase"`
	Type               int32  `json:"type"`
	Location           string `json:"location"`
	MountLocation      string `json:"mount_location"`
	ParentLocation     string `json:"parent_location"`
	Size               uint64 `json:"size"`
	Filesystem         int32  `json:"filesystem"`
	EncryptionProvider int32  `json:"encryption_provider"`
	TargetPath         string `json:"target_path"`
	ParentID           string `json:"parent_id"`
}

// ReadVolume reads a VolumeStatus.
func ReadVolume(spec *block.VolumeStatusSpec) Volume {
	return Volume{
		Phase:              int32(spec.Phase),
		Type:               int32(spec.Type),
		Location:           spec.Location,
		MountLocation:      spec.MountLocation,
		ParentLocation:     spec.ParentLocation,
		Size:               spec.Size,
		Filesystem:         int32(spec.Filesystem),
		EncryptionProvider: int32(spec.EncryptionProvider),
		TargetPath:         spec.MountSpec.TargetPath,
		ParentID:           spec.ParentID,
	}
}

// Mount is the reading of a MountStatus, of the block controllers or of older ones.
type Mount struct {
	VolumeID   string `json:"volume_id"`
	Source     string `json:"source"`
	Target     string `json:"target"`
	Filesystem string `json:"filesystem"`
	ReadOnly   bool   `json:"read_only"`
	Encrypted  bool   `json:"encrypted"`
}

// ReadMount reads a MountStatus of the block controllers. What is mounted nowhere has no target.
func ReadMount(spec *block.MountStatusSpec) Mount {
	mount := Mount{
		VolumeID:   spec.Spec.VolumeID,
		Source:     spec.Source,
		Target:     spec.Target,
		Filesystem: filesystemName(spec.Filesystem),
		ReadOnly:   spec.ReadOnly,
		Encrypted:  spec.EncryptionProvider != block.EncryptionProviderNone,
	}

	if detached(spec) {
		mount.Target = ""
	}

	return mount
}

// laterFilesystems are the names of the numbers that a release does not have yet.
var laterFilesystems = map[block.FilesystemType]string{5: "swap", 6: "virtiofs", 7: "btrfs"}

// filesystemName is the kernel's name, or nothing for none and for a number that no release knows.
func filesystemName(number block.FilesystemType) string {
	switch {
	case number == block.FilesystemTypeNone:
		return ""
	case !number.IsAFilesystemType():
		return laterFilesystems[number]
	case number.String() == "swapi": // Talos 1.13 and later spell it so
		return "swap"
	default:
		return number.String()
	}
}

// ReadRuntimeMount reads a MountStatus of the runtime, whose id is the volume's.
func ReadRuntimeMount(id string, spec *runtime.MountStatusSpec) Mount {
	return Mount{
		VolumeID:   id,
		Source:     spec.Source,
		Target:     spec.Target,
		Filesystem: spec.FilesystemType,
		ReadOnly:   slices.Contains(spec.Options, "ro"),
		Encrypted:  spec.Encrypted,
	}
}
