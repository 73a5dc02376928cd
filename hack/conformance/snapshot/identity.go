package snapshot

import (
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// AddressSpec is the reading of AddressSpec in the namespace network-config, whose id begins with who asked for it.
type AddressSpec struct {
	Origin   string `json:"origin"`
	Address  string `json:"address"`
	LinkName string `json:"link_name"`
}

// origins are those that an id of an AddressSpec may begin with.
var origins = []string{"dhcp4", "dhcp6", "vip", "configuration", "platform", "cmdline", "default"}

// ReadAddressSpec reads an AddressSpec. An address is no use without its prefix.
func ReadAddressSpec(id string, spec *network.AddressSpecSpec) (AddressSpec, bool) {
	prefix, ok := readPrefix(spec.Address)
	if !ok || !prefix.IsValid() {
		return AddressSpec{}, false
	}

	origin, _, _ := strings.Cut(id, "/")
	if !slices.Contains(origins, origin) {
		origin = "other"
	}

	return AddressSpec{Origin: origin, Address: prefix.String(), LinkName: spec.LinkName}, true
}

// ReadNodename reads a Nodename. Without a name it says nothing.
func ReadNodename(spec *k8s.NodenameSpec) (string, bool) { return spec.Nodename, spec.Nodename != "" }

// ReadNodeIP reads a NodeIP, in Talos's order.
func ReadNodeIP(spec *k8s.NodeIPSpec) ([]string, bool) {
	addresses := []string{}

	for _, told := range spec.Addresses {
		if address := readAddr(told); address.IsValid() {
			addresses = append(addresses, address.String())
		}
	}

	return addresses, true
}

// NodeStatus is the reading of NodeStatus.
type NodeStatus struct {
	Ready         bool `json:"ready"`
	Unschedulable bool `json:"unschedulable"`
}

// ReadNodeStatus reads a NodeStatus.
func ReadNodeStatus(spec *k8s.NodeStatusSpec) NodeStatus {
	return NodeStatus{Ready: spec.NodeReady, Unschedulable: spec.Unschedulable}
}

// ReadClusterName reads the Info of a cluster. A cluster without a name has the empty one.
func ReadClusterName(spec *cluster.InfoSpec) string { return spec.ClusterName }

// Schematic is the reading of ImageFactorySchematic.
type Schematic struct {
	ID     string `json:"id"`
	Flavor string `json:"flavor"`
}

// Extension is the reading of ExtensionStatus.
type Extension struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// ReadExtension reads an ExtensionStatus.
func ReadExtension(spec *runtime.ExtensionStatusSpec) Extension {
	return Extension{Name: spec.Metadata.Name, Version: spec.Metadata.Version}
}
