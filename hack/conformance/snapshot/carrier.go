package snapshot

import (
	"maps"
	"net"
	"slices"
)

// deepest is how many links may stand on each other.
const deepest = 8

// Reported are the links whose addresses and routes the daemon asks for: adapters, and what stands on one. An adapter is
// what the hypervisor knows, by its hardware address.
func (s Snapshot) Reported() map[string]bool {
	if s.Links.Value == nil {
		return nil
	}

	return reported(*s.Links.Value)
}

func reported(links map[string]Link) map[string]bool {
	// An index belongs to one link; of two that claim it, the first by name.
	byIndex := make(map[uint32]Link)

	for _, name := range slices.Backward(slices.Sorted(maps.Keys(links))) {
		byIndex[links[name].Index] = links[name]
	}

	found := make(map[string]bool)

	for name, link := range links {
		found[name] = onAdapter(byIndex, link, deepest)
	}

	return found
}

// onAdapter follows a link down. A circle ends with the depth.
func onAdapter(byIndex map[uint32]Link, link Link, depth int) bool {
	if link.physical {
		return ethernet(link.PermanentAddr) || ethernet(link.HardwareAddr)
	}

	if depth == 0 {
		return false
	}

	switch link.Kind {
	case "vlan":
		parent, ok := byIndex[link.LinkIndex]

		return ok && onAdapter(byIndex, parent, depth-1)
	case "bond", "bridge", "team":
		for _, member := range byIndex {
			if member.MasterIndex != 0 && member.MasterIndex == link.Index && onAdapter(byIndex, member, depth-1) {
				return true
			}
		}
	}

	return false
}

// ethernet says whether an Ethernet adapter can have this address.
func ethernet(text string) bool {
	const length, multicast = 6, 1

	address, err := net.ParseMAC(text)

	return err == nil && len(address) == length && address[0]&multicast == 0 &&
		!slices.Equal(address, make(net.HardwareAddr, length))
}
