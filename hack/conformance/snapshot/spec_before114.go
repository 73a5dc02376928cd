//go:build !since1.14

package snapshot

import (
	"net/netip"

	"github.com/siderolabs/talos/pkg/machinery/resources/network"
)

func nextHop(*network.RouteStatusSpec) (netip.Addr, string, bool) { return netip.Addr{}, "", false }

func nameServers(*network.ResolverStatusSpec) []netip.Addr { return nil }
