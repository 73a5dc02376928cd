package snapshot

import (
	"net"
	"net/netip"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// maxHardwareAddr is the longest hardware address that Linux knows, in bytes (MAX_ADDR_LEN, linux/netdevice.h).
const maxHardwareAddr = 32

// stackedKinds are the kinds of links that can stand on an adapter and carry its addresses.
var stackedKinds = []string{"bond", "bridge", "team", "vlan"}

// Version is what the call Version says.
type Version struct {
	Tag      string `json:"tag"`
	Arch     string `json:"arch"`
	Platform string `json:"platform"`
}

// Hostname is the reading of HostnameStatus.
type Hostname struct {
	Hostname   string `json:"hostname"`
	Domainname string `json:"domainname"`
}

// Link is the reading of LinkStatus.
type Link struct {
	Index            uint32 `json:"index"`
	Type             int32  `json:"type"`
	LinkIndex        uint32 `json:"link_index"`
	MasterIndex      uint32 `json:"master_index"`
	Flags            uint32 `json:"flags"`
	HardwareAddr     string `json:"hardware_addr"`
	PermanentAddr    string `json:"permanent_addr"`
	Kind             string `json:"kind"`
	SlaveKind        string `json:"slave_kind"`
	OperationalState int32  `json:"operational_state"`
	LinkState        bool   `json:"link_state"`
	Driver           string `json:"driver"`
	BusPath          string `json:"bus_path"`
	MTU              uint32 `json:"mtu"`

	physical bool
}

// candidate says whether the daemon keeps the link: an adapter, or what can stand on one.
func (l Link) candidate() bool { return l.physical || slices.Contains(stackedKinds, l.Kind) }

// Address is the reading of AddressStatus.
type Address struct {
	Address  string `json:"address"`
	LinkName string `json:"link_name"`
	Scope    int32  `json:"scope"`
	Flags    uint32 `json:"flags"`
}

// Route is the reading of RouteStatus.
type Route struct {
	Destination string  `json:"destination"`
	Gateway     *string `json:"gateway"`
	Source      *string `json:"source"`
	OutLinkName string  `json:"out_link_name"`
	Table       int32   `json:"table"`
	Priority    uint32  `json:"priority"`
	Type        int32   `json:"type"`
}

func (r Route) mainUnicast() bool {
	return r.Table == int32(nethelpers.TableMain) && r.Type == int32(nethelpers.TypeUnicast)
}

// Resolver is the reading of ResolverStatus.
type Resolver struct {
	DNSServers    []string `json:"dns_servers"`
	SearchDomains []string `json:"search_domains"`
}

// Machine is the reading of MachineStatus.
type Machine struct {
	Stage           int32       `json:"stage"`
	Ready           bool        `json:"ready"`
	UnmetConditions [][2]string `json:"unmet_conditions"`
}

// Security is the reading of SecurityState.
type Security struct {
	SecureBoot   bool  `json:"secure_boot"`
	SELinuxState int32 `json:"se_linux_state"`
}

// ReadLink reads a LinkStatus, or says that it cannot be read.
func ReadLink(spec *network.LinkStatusSpec) (Link, bool) {
	if len(spec.HardwareAddr) > maxHardwareAddr || len(spec.PermanentAddr) > maxHardwareAddr {
		return Link{}, false
	}

	return Link{
		Index:            spec.Index,
		Type:             int32(spec.Type),
		LinkIndex:        spec.LinkIndex,
		MasterIndex:      spec.MasterIndex,
		Flags:            uint32(spec.Flags),
		HardwareAddr:     net.HardwareAddr(spec.HardwareAddr).String(),
		PermanentAddr:    net.HardwareAddr(spec.PermanentAddr).String(),
		Kind:             spec.Kind,
		SlaveKind:        spec.SlaveKind,
		OperationalState: int32(spec.OperationalState),
		LinkState:        spec.LinkState,
		Driver:           spec.Driver,
		BusPath:          spec.BusPath,
		MTU:              spec.MTU,
		physical:         spec.Physical(),
	}, true
}

// ReadAddress reads an AddressStatus: the node's own address, which on a point-to-point link is `local`.
func ReadAddress(spec *network.AddressStatusSpec) (Address, bool) {
	prefix, ok := readPrefix(spec.Address)
	if !ok || !prefix.IsValid() {
		return Address{}, false
	}

	if local := readAddr(spec.Local); local.IsValid() {
		if own := netip.PrefixFrom(local, prefix.Bits()); own.IsValid() {
			prefix = own
		}
	}

	return Address{
		Address:  prefix.String(),
		LinkName: spec.LinkName,
		Scope:    int32(spec.Scope),
		Flags:    uint32(spec.Flags),
	}, true
}

// ReadRoute reads a RouteStatus. A destination that is none is everywhere, in the family of the route; of a route with
// several next hops, which has no gateway of its own, the first counts.
func ReadRoute(spec *network.RouteStatusSpec) (Route, bool) {
	gateway, link := readAddr(spec.Gateway), spec.OutLinkName
	if hop, hopLink, ok := nextHop(spec); ok && link == "" {
		gateway, link = readAddr(hop), hopLink
	}

	destination, ok := readPrefix(spec.Destination)
	if !ok {
		return Route{}, false
	}

	if !destination.IsValid() {
		family := spec.Family
		if family == 0 && gateway.IsValid() {
			family = nethelpers.FamilyInet6
			if gateway.Is4() {
				family = nethelpers.FamilyInet4
			}
		}

		switch family {
		case nethelpers.FamilyInet4:
			destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		case nethelpers.FamilyInet6:
			destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		default:
			return Route{}, false
		}
	}

	return Route{
		Destination: destination.String(),
		Gateway:     optional(gateway),
		Source:      optional(readAddr(spec.Source)),
		OutLinkName: link,
		Table:       int32(spec.Table),
		Priority:    spec.Priority,
		Type:        int32(spec.Type),
	}, true
}

// ReadNodeAddress reads a NodeAddress, in Talos's order.
func ReadNodeAddress(spec *network.NodeAddressSpec) ([]string, bool) {
	addresses := []string{}

	for _, address := range spec.Addresses {
		prefix, ok := readPrefix(address)
		if !ok {
			return nil, false
		}

		if prefix.IsValid() {
			addresses = append(addresses, prefix.String())
		}
	}

	return addresses, true
}

// ReadHostname reads a HostnameStatus. Without a name it says nothing.
func ReadHostname(spec *network.HostnameStatusSpec) (Hostname, bool) {
	return Hostname{Hostname: spec.Hostname, Domainname: spec.Domainname}, spec.Hostname != ""
}

// ReadResolver reads a ResolverStatus.
func ReadResolver(spec *network.ResolverStatusSpec) (Resolver, bool) {
	servers := spec.DNSServers
	if len(servers) == 0 {
		servers = nameServers(spec)
	}

	resolver := Resolver{DNSServers: []string{}, SearchDomains: append([]string{}, spec.SearchDomains...)}

	for _, server := range servers {
		if address := readAddr(server); address.IsValid() {
			resolver.DNSServers = append(resolver.DNSServers, address.String())
		}
	}

	return resolver, true
}

// ReadMachine reads a MachineStatus.
func ReadMachine(spec *runtime.MachineStatusSpec) Machine {
	machine := Machine{
		Stage:           int32(spec.Stage),
		Ready:           spec.Status.Ready,
		UnmetConditions: [][2]string{},
	}

	for _, condition := range spec.Status.UnmetConditions {
		machine.UnmetConditions = append(machine.UnmetConditions, [2]string{condition.Name, condition.Reason})
	}

	return machine
}

// ReadSecurity reads a SecurityState.
func ReadSecurity(spec *runtime.SecurityStateSpec) Security {
	return Security{SecureBoot: spec.SecureBoot, SELinuxState: int32(spec.SELinuxState)}
}

// readAddr drops the zone, and makes an IPv4-mapped address an IPv4 one.
func readAddr(address netip.Addr) netip.Addr { return address.WithZone("").Unmap() }

// readPrefix gives no prefix for no address, and false for a length that the address does not have.
func readPrefix(prefix netip.Prefix) (netip.Prefix, bool) {
	const mapped = 96 // bits before the IPv4 address in an IPv4-mapped one

	if !prefix.Addr().IsValid() {
		return netip.Prefix{}, true
	}

	bits := prefix.Bits()
	if prefix.Addr().Is4In6() {
		bits -= mapped
	}

	read := netip.PrefixFrom(readAddr(prefix.Addr()), bits)

	return read, read.IsValid()
}

func optional(address netip.Addr) *string {
	if !address.IsValid() {
		return nil
	}

	text := address.String()

	return &text
}
