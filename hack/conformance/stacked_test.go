package conformance

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
)

// under makes a link a member of another.
func under(link *network.LinkStatus, master uint32, kind string) *network.LinkStatus {
	r := link.DeepCopy().(*network.LinkStatus) //nolint:forcetypeassert
	r.TypedSpec().MasterIndex = master
	r.TypedSpec().SlaveKind = kind

	return r
}

// on makes a link stand on another.
func on(link *network.LinkStatus, parent uint32) *network.LinkStatus {
	r := link.DeepCopy().(*network.LinkStatus) //nolint:forcetypeassert
	r.TypedSpec().LinkIndex = parent

	return r
}

// withEverything gives each link an address and a route, under its own name.
func withEverything(links ...*network.LinkStatus) []resource.Resource {
	resources := make([]resource.Resource, 0, len(links))

	for n, link := range links {
		third := string(rune('0' + n))
		resources = append(resources, link,
			address(link, "192.168."+third+".2/24"),
			address(link, "2001:db8:"+third+"::2/64"),
			route("inet4//192.168."+third+".0/24/1024", link, "192.168."+third+".0/24", ""),
			route(link.Metadata().ID()+"/inet6/fe80::1//1024", link, "", "fe80::1"))
	}

	return resources
}

// checkStacked has addresses on bonds, VLANs and bridges: those that stand on an adapter, and those that do not.
func checkStacked(i *inspection) error {
	eth0, eth1, eth2 := adapter("eth0", 2), adapter("eth1", 3), adapter("eth2", 4)
	bond := virtual("bond0", 10, "bond")
	vlan := on(virtual("bond0.100", 11, network.LinkKindVLAN), 10)
	bridge := virtual("br0", 12, network.LinkKindBridge)
	pods := virtual("cni0", 13, network.LinkKindBridge)

	return i.steps(
		step{"a bond that is empty", func() error { return i.put(withEverything(eth0, bond, vlan)...) }},
		step{"a bond of two with a VLAN on it", func() error {
			return i.put(withEverything(eth0, bond, vlan, under(eth1, 10, "bond"), under(eth2, 10, "bond"))...)
		}},
		step{"a bridge over the VLAN, and one of pods", func() error {
			return i.put(withEverything(
				eth0, bond, under(vlan, 12, "bridge"), under(eth1, 10, "bond"), under(eth2, 10, "bond"), bridge, pods,
				under(virtual("veth1", 14, "veth"), 13, "bridge"))...)
		}},
		step{"the bond loses one", func() error { return i.put(eth2) }},
		step{"the bond loses both", func() error { return i.put(eth1) }},
		step{"VLANs in a circle", func() error {
			return i.put(withEverything(
				on(virtual("a", 20, network.LinkKindVLAN), 21), on(virtual("b", 21, network.LinkKindVLAN), 20),
				on(virtual("c", 22, network.LinkKindVLAN), 22))...)
		}},
		step{"an adapter without an address", func() error {
			bare := adapter("eth0", 2)
			bare.TypedSpec().HardwareAddr, bare.TypedSpec().PermanentAddr = nil, nil

			return i.put(bare)
		}},
	)
}
