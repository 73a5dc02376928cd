package conformance

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

const gigabyte = 1 << 30

// disk is a virtual disk of a virtual machine.
func disk(name string, size uint64) *block.Disk {
	r := block.NewDisk(block.NamespaceName, name)
	*r.TypedSpec() = block.DiskSpec{
		DevPath:    "/dev/" + name,
		Size:       size,
		IOSize:     512,
		SectorSize: 512,
		Model:      "Virtual disk",
		Serial:     "6000c29",
		WWID:       "naa.6000c29",
		BusPath:    "/pci0000:00/0000:00:10.0/host2/target2:0:0/2:0:0:0/",
		SubSystem:  "/sys/class/block",
		Transport:  "sas",
	}

	return r
}

// cdrom is an optical drive without a medium.
func cdrom() *block.Disk {
	r := disk("sr0", 0)
	r.TypedSpec().CDROM = true
	r.TypedSpec().Readonly = true

	return r
}

// partition is what Talos found on a part of a disk.
func partition(disk, name, label, filesystem string, index uint, size uint64) *block.DiscoveredVolume {
	r := block.NewDiscoveredVolume(block.NamespaceName, name)
	*r.TypedSpec() = block.DiscoveredVolumeSpec{
		DevPath:        "/dev/" + name,
		Type:           "partition",
		Parent:         disk,
		ParentDevPath:  "/dev/" + disk,
		Size:           size,
		SectorSize:     512,
		Name:           filesystem,
		UUID:           "6d1b3c2e-0000-4000-8000-000000000001",
		Label:          label,
		PartitionLabel: label,
		PartitionIndex: index,
	}

	return r
}

// volume is one that Talos manages.
func volume(id string, phase block.VolumePhase, device, target string) *block.VolumeStatus {
	r := block.NewVolumeStatus(block.NamespaceName, id)
	*r.TypedSpec() = block.VolumeStatusSpec{
		Phase:          phase,
		Type:           block.VolumeTypePartition,
		Location:       device,
		MountLocation:  device,
		ParentLocation: "/dev/sda",
		Size:           40 * gigabyte,
		Filesystem:     block.FilesystemTypeXFS,
		MountSpec:      block.MountSpec{TargetPath: target},
	}

	return r
}

// mount is a volume at its place.
func mount(id, source, target string) *block.MountStatus {
	r := block.NewMountStatus(block.NamespaceName, id)
	*r.TypedSpec() = block.MountStatusSpec{
		Spec:       block.MountRequestSpec{VolumeID: id, Requesters: []string{"kubelet"}},
		Source:     source,
		Target:     target,
		Filesystem: block.FilesystemTypeXFS,
	}

	return r
}

// runtimeMount is a volume at its place as older controllers tell it.
func runtimeMount(id, source, target string, options ...string) *runtime.MountStatus {
	r := runtime.NewMountStatus(runtime.NamespaceName, id)
	*r.TypedSpec() = runtime.MountStatusSpec{
		Source:         source,
		Target:         target,
		FilesystemType: "xfs",
		Options:        options,
	}

	return r
}

// disks are those of a node in service: the system disk with its volumes, and a drive.
func disks() []resource.Resource {
	return []resource.Resource{
		disk("sda", 50*gigabyte), cdrom(),
		partition("sda", "sda1", "EFI", "vfat", 1, gigabyte),
		partition("sda", "sda6", "EPHEMERAL", "xfs", 6, 40*gigabyte),
		volume("STATE", block.VolumePhaseReady, "/dev/sda5", "/system/state"),
		volume("EPHEMERAL", block.VolumePhaseReady, "/dev/sda6", "/var"),
		mount("EPHEMERAL", "/dev/sda6", "/var"),
		runtimeMount("STATE", "/dev/sda5", "/system/state", "noatime"),
	}
}
