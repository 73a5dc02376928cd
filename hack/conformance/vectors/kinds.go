package vectors

import (
	"math/rand/v2"

	"github.com/cosi-project/runtime/pkg/resource"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

// Kinds are the types that the daemon reads and that this release has.
func Kinds() []Kind {
	return append([]Kind{
		kind(network.LinkStatusType, &network.LinkStatus{}, sometimes(snapshot.ReadLink)),
		kind(network.AddressStatusType, &network.AddressStatus{}, sometimes(snapshot.ReadAddress)),
		kind(network.AddressSpecType, &network.AddressSpec{}, named(snapshot.ReadAddressSpec)),
		kind(network.RouteStatusType, &network.RouteStatus{}, sometimes(snapshot.ReadRoute)),
		kind(network.NodeAddressType, &network.NodeAddress{}, sometimes(snapshot.ReadNodeAddress)),
		kind(network.HostnameStatusType, &network.HostnameStatus{}, sometimes(snapshot.ReadHostname)),
		kind(network.ResolverStatusType, &network.ResolverStatus{}, sometimes(snapshot.ReadResolver)),
		kind(runtime.MachineStatusType, &runtime.MachineStatus{}, always(snapshot.ReadMachine)),
		kind(runtime.SecurityStateType, &runtime.SecurityState{}, always(snapshot.ReadSecurity)),
		kind(runtime.ExtensionStatusType, &runtime.ExtensionStatus{}, always(snapshot.ReadExtension)),
		kind(runtime.MountStatusType, &runtime.MountStatus{}, runtimeMount),
		kind(k8s.NodenameType, &k8s.Nodename{}, sometimes(snapshot.ReadNodename)),
		kind(k8s.NodeIPType, &k8s.NodeIP{}, sometimes(snapshot.ReadNodeIP)),
		kind(k8s.NodeStatusType, &k8s.NodeStatus{}, always(snapshot.ReadNodeStatus)),
		kind(cluster.InfoType, &cluster.Info{}, always(snapshot.ReadClusterName)),
		kind(block.DiskType, &block.Disk{}, always(snapshot.ReadDisk)),
		kind(block.DiscoveredVolumeType, &block.DiscoveredVolume{}, always(snapshot.ReadDiscoveredVolume)),
		kind(block.VolumeStatusType, &block.VolumeStatus{}, always(snapshot.ReadVolume)),
		kind(block.MountStatusType, &block.MountStatus{}, always(snapshot.ReadMount)),
		machineType(),
	}, newKinds()...)
}

func runtimeMount(id resource.ID, spec *runtime.MountStatusSpec) (any, bool) {
	return snapshot.ReadRuntimeMount(id, spec), true
}

// machineType is a number and no struct, and has an encoder of its own.
func machineType() Kind {
	return Kind{
		Type:  config.MachineTypeType,
		empty: func() resource.Resource { return config.NewMachineType() },
		fill: func(random *rand.Rand, r resource.Resource) {
			number := machinetype.Type(randomInt(random, numberBits, true))
			r.(*config.MachineType).SetMachineType(number) //nolint:forcetypeassert
		},
		read: func(r resource.Resource) (any, bool) {
			return int(r.(*config.MachineType).MachineType()), true //nolint:forcetypeassert
		},
	}
}
