package conformance

import (
	"net/netip"

	"github.com/cosi-project/runtime/pkg/resource"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/extensions"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

func machineType(number machinetype.Type) *config.MachineType {
	r := config.NewMachineType()
	r.SetMachineType(number)

	return r
}

func nodename(name string) *k8s.Nodename {
	r := k8s.NewNodename(k8s.NamespaceName, k8s.NodenameID)
	r.TypedSpec().Nodename = name
	r.TypedSpec().HostnameVersion = "1"

	return r
}

// kubernetesNode is a node as Kubernetes knows it; its labels are long, and of no interest.
// nodeIPs is what Talos gives the kubelet.
func nodeIPs(id string, addresses ...string) *k8s.NodeIP {
	r := k8s.NewNodeIP(k8s.NamespaceName, id)
	for _, address := range addresses {
		r.TypedSpec().Addresses = append(r.TypedSpec().Addresses, netip.MustParseAddr(address))
	}

	return r
}

func kubernetesNode(name string, ready, unschedulable bool) *k8s.NodeStatus {
	r := k8s.NewNodeStatus(k8s.NamespaceName, name)
	*r.TypedSpec() = k8s.NodeStatusSpec{
		Nodename:      name,
		NodeReady:     ready,
		Unschedulable: unschedulable,
		Labels:        map[string]string{"kubernetes.io/hostname": name},
	}

	return r
}

func clusterInfo(name string) *cluster.Info {
	r := cluster.NewInfo()
	r.TypedSpec().ClusterID = "8XuV9TZHW08DOk3bVxQjH9ih_TBKjnh-j44tsCLSBzo="
	r.TypedSpec().ClusterName = name

	return r
}

func extensionStatus(id, name, version string) *runtime.ExtensionStatus {
	r := runtime.NewExtensionStatus(runtime.NamespaceName, id)
	r.TypedSpec().Image = id
	r.TypedSpec().Metadata = extensions.Metadata{Name: name, Version: version, Author: "conformance"}

	return r
}

// addressSpec is the wish of a layer of the configuration for an address.
func addressSpec(layer, link, cidr string) *network.AddressSpec {
	prefix := netip.MustParsePrefix(cidr)
	r := network.NewAddressSpec(
		network.ConfigNamespaceName, layer+"/"+network.AddressID(link, prefix),
	)
	r.TypedSpec().Address = prefix
	r.TypedSpec().LinkName = link

	return r
}

// identity is who a node in service is.
func identity() []resource.Resource {
	return append([]resource.Resource{
		machineType(machinetype.TypeControlPlane),
		nodename("talos-cp-1"),
		kubernetesNode("talos-cp-1", true, false),
		clusterInfo("prod"),
		extensionStatus("0", "talos-vmtoolsd", "0.1.0"),
		extensionStatus("1", "schematic", "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"),
		addressSpec("dhcp4", "eth0", "10.5.0.2/24"),
		addressSpec("vip", "eth0", "10.5.0.100/32"),
		addressSpec("default", "lo", "127.0.0.1/8"),
	}, newIdentity("4f1c9d0e-0000-4000-8000-000000000001", "376567988ad3")...)
}
