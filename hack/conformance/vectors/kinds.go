package vectors

import (
	"math/rand/v2"

	"github.com/cosi-project/runtime/pkg/resource"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

// Kinds are the types that the daemon reads, or will, and that this release has.
func Kinds() []Kind {
	return append([]Kind{
		kind(network.LinkStatusType, &network.LinkStatus{}, sometimes(snapshot.ReadLink)),
		kind(network.AddressStatusType, &network.AddressStatus{}, sometimes(snapshot.ReadAddress)),
		kind(network.AddressSpecType, &network.AddressSpec{}, sometimes(snapshot.ReadAddressSpec)),
		kind(network.RouteStatusType, &network.RouteStatus{}, sometimes(snapshot.ReadRoute)),
		kind(network.NodeAddressType, &network.NodeAddress{}, sometimes(snapshot.ReadNodeAddress)),
		kind(network.HostnameStatusType, &network.HostnameStatus{}, sometimes(snapshot.ReadHostname)),
		kind(network.ResolverStatusType, &network.ResolverStatus{}, sometimes(snapshot.ReadResolver)),
		kind(runtime.MachineStatusType, &runtime.MachineStatus{}, always(snapshot.ReadMachine)),
		kind(runtime.SecurityStateType, &runtime.SecurityState{}, always(snapshot.ReadSecurity)),
		kind(runtime.ExtensionStatusType, &runtime.ExtensionStatus{}, always(snapshot.ReadExtension)),
		kind(runtime.PlatformMetadataType, &runtime.PlatformMetadata{}, always(snapshot.ReadPlatformMetadata)),
		kind(runtime.VersionType, &runtime.Version{}, always(snapshot.ReadTalosVersion)),
		kind(runtime.MountStatusType, &runtime.MountStatus{}, always(snapshot.ReadLegacyMount)),
		kind(k8s.NodenameType, &k8s.Nodename{}, always(snapshot.ReadNodename)),
		kind(k8s.NodeStatusType, &k8s.NodeStatus{}, always(snapshot.ReadNodeStatus)),
		kind(block.DiskType, &block.Disk{}, always(snapshot.ReadDisk)),
		kind(block.SystemDiskType, &block.SystemDisk{}, always(snapshot.ReadSystemDisk)),
		kind(block.VolumeStatusType, &block.VolumeStatus{}, always(snapshot.ReadVolume)),
		kind(block.MountStatusType, &block.MountStatus{}, always(snapshot.ReadMount)),
		machineType(),
	}, newKinds()...)
}

// machineType is a number and no struct, and has an encoder of its own.
func machineType() Kind {
	return Kind{
		Type:  config.MachineTypeType,
		empty: func() resource.Resource { return config.NewMachineType() },
		fill: func(random *rand.Rand, r resource.Resource) {
			number := machinetype.Type(random.IntN(int(machinetype.TypeWorker) + 1))
			r.(*config.MachineType).SetMachineType(number) //nolint:forcetypeassert
		},
		read: func(r resource.Resource) (any, bool) {
			return int(r.(*config.MachineType).MachineType()), true //nolint:forcetypeassert
		},
	}
}
