package conformance

import (
	"net/netip"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// Flags of the kernel: IFF_UP, IFF_BROADCAST, IFF_RUNNING, IFF_MULTICAST, IFF_LOWER_UP; IFA_F_PERMANENT.
const (
	linkUp    = 0x11043
	permanent = 0x80
)

// adapter is a vmxnet3 of a virtual machine.
func adapter(name string, index uint32) *network.LinkStatus {
	r := network.NewLinkStatus(network.NamespaceName, name)
	*r.TypedSpec() = network.LinkStatusSpec{
		Index:            index,
		Type:             nethelpers.LinkEther,
		Flags:            linkUp,
		HardwareAddr:     mac(index),
		PermanentAddr:    mac(index),
		BroadcastAddr:    nethelpers.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		MTU:              1500,
		QueueDisc:        "mq",
		OperationalState: nethelpers.OperStateUp,
		BusPath:          "0000:0b:00.0",
		PCIID:            "15AD:07B0",
		Driver:           "vmxnet3",
		LinkState:        true,
		SpeedMegabits:    10000,
		Duplex:           nethelpers.Full,
	}

	return r
}

// virtual is a link that software made, such as a veth or a VLAN.
func virtual(name string, index uint32, kind string) *network.LinkStatus {
	r := network.NewLinkStatus(network.NamespaceName, name)
	*r.TypedSpec() = network.LinkStatusSpec{
		Index:            index,
		Type:             nethelpers.LinkEther,
		Flags:            linkUp,
		HardwareAddr:     mac(index),
		MTU:              1450,
		QueueDisc:        "noqueue",
		OperationalState: nethelpers.OperStateUp,
		Kind:             kind,
	}

	if kind == network.LinkKindVLAN {
		r.TypedSpec().LinkIndex = 2
		r.TypedSpec().VLAN = network.VLANSpec{VID: 4000, Protocol: nethelpers.VLANProtocol8021Q}
	}

	return r
}

func loopback() *network.LinkStatus {
	r := network.NewLinkStatus(network.NamespaceName, "lo")
	*r.TypedSpec() = network.LinkStatusSpec{
		Index: 1,
		Type:  nethelpers.LinkLoopbck,
		Flags: 0x10049,
		MTU:   65536,
	}

	return r
}

func mac(index uint32) nethelpers.HardwareAddr {
	return nethelpers.HardwareAddr{0x00, 0x50, 0x56, 0xab, byte(index >> 8), byte(index)}
}

func address(link *network.LinkStatus, cidr string) *network.AddressStatus {
	prefix := netip.MustParsePrefix(cidr)
	name := link.Metadata().ID()
	r := network.NewAddressStatus(network.NamespaceName, network.AddressID(name, prefix))
	*r.TypedSpec() = network.AddressStatusSpec{
		Address:   prefix,
		LinkIndex: link.TypedSpec().Index,
		LinkName:  name,
		Family:    nethelpers.FamilyInet6,
		Scope:     nethelpers.ScopeGlobal,
		Flags:     permanent,
	}

	if prefix.Addr().Is4() {
		r.TypedSpec().Family = nethelpers.FamilyInet4
		r.TypedSpec().Local = prefix.Addr()
	}

	if prefix.Addr().IsLinkLocalUnicast() {
		r.TypedSpec().Scope = nethelpers.ScopeLink
	}

	return r
}

// route leaves by a link; the destination is empty for a default route, as Talos has it.
func route(id string, link *network.LinkStatus, destination, gateway string) *network.RouteStatus {
	r := network.NewRouteStatus(network.NamespaceName, id)
	*r.TypedSpec() = network.RouteStatusSpec{
		Family:       nethelpers.FamilyInet4,
		OutLinkIndex: link.TypedSpec().Index,
		OutLinkName:  link.Metadata().ID(),
		Table:        nethelpers.TableMain,
		Priority:     1024,
		Scope:        nethelpers.ScopeGlobal,
		Type:         nethelpers.TypeUnicast,
		Protocol:     nethelpers.ProtocolStatic,
	}

	if destination != "" {
		r.TypedSpec().Destination = netip.MustParsePrefix(destination)
	}

	if gateway != "" {
		r.TypedSpec().Gateway = netip.MustParseAddr(gateway)
		if r.TypedSpec().Gateway.Is6() {
			r.TypedSpec().Family = nethelpers.FamilyInet6
		}
	}

	return r
}

// localRoute is one of the many of the local table.
func localRoute(link *network.LinkStatus, destination string) *network.RouteStatus {
	r := route("local/inet4//"+destination+"/0", link, destination, "")
	r.TypedSpec().Table = nethelpers.TableLocal
	r.TypedSpec().Type = nethelpers.TypeLocal

	return r
}

func nodeAddresses(id string, cidrs ...string) *network.NodeAddress {
	r := network.NewNodeAddress(network.NamespaceName, id)
	for _, cidr := range cidrs {
		r.TypedSpec().Addresses = append(r.TypedSpec().Addresses, netip.MustParsePrefix(cidr))
	}

	return r
}

func hostname(name, domain string) *network.HostnameStatus {
	r := network.NewHostnameStatus(network.NamespaceName, network.HostnameID)
	*r.TypedSpec() = network.HostnameStatusSpec{Hostname: name, Domainname: domain}

	return r
}

func resolvers(servers ...string) *network.ResolverStatus {
	r := network.NewResolverStatus(network.NamespaceName, network.ResolverID)
	for _, server := range servers {
		r.TypedSpec().DNSServers = append(r.TypedSpec().DNSServers, netip.MustParseAddr(server))
	}

	r.TypedSpec().SearchDomains = []string{"example.org"}

	return r
}

func machineStatus(stage runtime.MachineStage, unmet ...runtime.UnmetCondition) *runtime.MachineStatus {
	r := runtime.NewMachineStatus()
	*r.TypedSpec() = runtime.MachineStatusSpec{
		Stage:  stage,
		Status: runtime.MachineStatusStatus{Ready: len(unmet) == 0, UnmetConditions: unmet},
	}

	return r
}

func securityState(secureBoot bool) *runtime.SecurityState {
	r := runtime.NewSecurityStateSpec(runtime.NamespaceName)
	*r.TypedSpec() = runtime.SecurityStateSpec{SecureBoot: secureBoot, SELinuxState: runtime.SELinuxStatePermissive}

	return r
}

// running is a node in service: one adapter with both families, a VLAN on it, a pod network, disks, and who it is.
func running() []resource.Resource {
	eth0, vlan, pod := adapter("eth0", 2), virtual("eth0.4000", 9, network.LinkKindVLAN), virtual("veth1a2b", 12, "veth")

	return slices.Concat(disks(), identity(), []resource.Resource{
		loopback(), eth0, vlan, pod, virtual("cni0", 10, network.LinkKindBridge), virtual("flannel.1", 11, "vxlan"),
		address(loopback(), "127.0.0.1/8"),
		address(eth0, "10.5.0.2/24"),
		address(eth0, "2001:db8::5/64"),
		address(eth0, "fe80::250:56ff:feab:2/64"),
		address(vlan, "172.20.0.2/24"),
		address(pod, "10.244.1.1/32"),
		route("inet4/10.5.0.1//1024", eth0, "", "10.5.0.1"),
		route("inet4//10.5.0.0/24/1024", eth0, "10.5.0.0/24", ""),
		route("inet6/fe80::1//1024", eth0, "", "fe80::1"),
		route("inet4//10.244.1.1/32/0", pod, "10.244.1.1/32", ""),
		localRoute(eth0, "10.5.0.2/32"),
		nodeAddresses(network.NodeAddressDefaultID, "10.5.0.2/24"),
		nodeAddresses(network.NodeAddressRoutedID, "10.5.0.2/24", "2001:db8::5/64"),
		nodeAddresses(network.FilteredNodeAddressID(network.NodeAddressRoutedID, "no-k8s"), "10.5.0.2/24"),
		nodeIPs(k8s.KubeletID, "10.5.0.2", "2001:db8::5"),
		nodeIPs("other", "10.5.0.3"),
		hostname("talos-cp-1", "example.org"),
		resolvers("10.5.0.1", "2001:db8::53"),
		machineStatus(runtime.MachineStageRunning),
		securityState(true),
	})
}
