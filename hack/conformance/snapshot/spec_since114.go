//go:build since1.14

package snapshot

import (
	"net/netip"

	"github.com/siderolabs/talos/pkg/machinery/resources/network"
)

func nextHop(spec *network.RouteStatusSpec) (netip.Addr, string, bool) {
	if len(spec.NextHops) == 0 {
		return netip.Addr{}, "", false
	}

	return spec.NextHops[0].Gateway, spec.NextHops[0].OutLinkName, true
}

func nameServers(spec *network.ResolverStatusSpec) []netip.Addr {
	servers := make([]netip.Addr, 0, len(spec.NameServers))

	for _, server := range spec.NameServers {
		servers = append(servers, server.Addr)
	}

	return servers
}
