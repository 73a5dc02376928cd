// Package snapshot is what `talos-vmtoolsd query --json` says of a node, computed from Talos's own resources.
//
// This is the only place that knows the daemon's JSON (src/talos/snapshot.rs): its names, which resources are read, and
// which of them are kept. A change there is a change here and nowhere else.
//
//	Talos's resources ── spec.go, block.go, identity.go: one reading per spec ──┐
//	                     carrier.go: which links are reported ──────────────────┴── Snapshot ── JSON ── Diff
package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// Fact is a value that may be unknown. A single look never has a stale one.
type Fact[T any] struct {
	State string `json:"state"`
	Value *T     `json:"value,omitempty"`
}

func unknown[T any]() Fact[T] { return Fact[T]{State: "unknown"} }

func known[T any](value T) Fact[T] { return Fact[T]{State: "known", Value: &value} }

// Snapshot is every fact of a node that the daemon watches.
type Snapshot struct {
	Version           Fact[Version]                     `json:"version"`
	Hostname          Fact[Hostname]                    `json:"hostname"`
	Links             Fact[map[string]Link]             `json:"links"`
	Addresses         Fact[map[string]Address]          `json:"addresses"`
	AddressSpecs      Fact[map[string]AddressSpec]      `json:"address_specs"`
	Routes            Fact[map[string]Route]            `json:"routes"`
	NodeAddresses     Fact[map[string][]string]         `json:"node_addresses"`
	NodeIPs           Fact[map[string][]string]         `json:"node_ips"`
	Resolvers         Fact[Resolver]                    `json:"resolvers"`
	Machine           Fact[Machine]                     `json:"machine"`
	Security          Fact[Security]                    `json:"security"`
	MachineType       Fact[int32]                       `json:"machine_type"`
	Nodename          Fact[string]                      `json:"nodename"`
	Nodes             Fact[map[string]NodeStatus]       `json:"nodes"`
	ClusterName       Fact[string]                      `json:"cluster_name"`
	Schematic         Fact[Schematic]                   `json:"schematic"`
	Extensions        Fact[map[string]Extension]        `json:"extensions"`
	BootID            Fact[string]                      `json:"boot_id"`
	Disks             Fact[map[string]Disk]             `json:"disks"`
	DiscoveredVolumes Fact[map[string]DiscoveredVolume] `json:"discovered_volumes"`
	Volumes           Fact[map[string]Volume]           `json:"volumes"`
	Mounts            Fact[map[string]Mount]            `json:"mounts"`
	RuntimeMounts     Fact[map[string]Mount]            `json:"runtime_mounts"`
}

// Unknown is what is known of a node that never answered.
func Unknown() Snapshot {
	return Snapshot{
		Version:           unknown[Version](),
		Hostname:          unknown[Hostname](),
		Links:             unknown[map[string]Link](),
		Addresses:         unknown[map[string]Address](),
		AddressSpecs:      unknown[map[string]AddressSpec](),
		Routes:            unknown[map[string]Route](),
		NodeAddresses:     unknown[map[string][]string](),
		NodeIPs:           unknown[map[string][]string](),
		Resolvers:         unknown[Resolver](),
		Machine:           unknown[Machine](),
		Security:          unknown[Security](),
		MachineType:       unknown[int32](),
		Nodename:          unknown[string](),
		Nodes:             unknown[map[string]NodeStatus](),
		ClusterName:       unknown[string](),
		Schematic:         unknown[Schematic](),
		Extensions:        unknown[map[string]Extension](),
		BootID:            unknown[string](),
		Disks:             unknown[map[string]Disk](),
		DiscoveredVolumes: unknown[map[string]DiscoveredVolume](),
		Volumes:           unknown[map[string]Volume](),
		Mounts:            unknown[map[string]Mount](),
		RuntimeMounts:     unknown[map[string]Mount](),
	}
}

// Kind is a resource type that is read.
type Kind struct {
	Namespace resource.Namespace
	Type      resource.Type
	// ID is the only id that counts, or empty where every resource does.
	ID resource.ID
	// Forget makes the facts of this type unknown: those of a release that does not serve it.
	Forget func(*Snapshot)
}

// Kinds are the resource types that a snapshot is made of and that this release has.
func Kinds() []Kind {
	return append([]Kind{
		{network.NamespaceName, network.LinkStatusType, "", func(s *Snapshot) { forget(&s.Links) }},
		{network.NamespaceName, network.AddressStatusType, "", func(s *Snapshot) { forget(&s.Addresses) }},
		{network.ConfigNamespaceName, network.AddressSpecType, "", func(s *Snapshot) { forget(&s.AddressSpecs) }},
		{network.NamespaceName, network.RouteStatusType, "", func(s *Snapshot) { forget(&s.Routes) }},
		{network.NamespaceName, network.NodeAddressType, "", func(s *Snapshot) { forget(&s.NodeAddresses) }},
		{k8s.NamespaceName, k8s.NodeIPType, k8s.KubeletID, func(s *Snapshot) { forget(&s.NodeIPs) }},
		{network.NamespaceName, network.HostnameStatusType, network.HostnameID, func(s *Snapshot) { forget(&s.Hostname) }},
		{network.NamespaceName, network.ResolverStatusType, network.ResolverID, func(s *Snapshot) { forget(&s.Resolvers) }},
		{runtime.NamespaceName, runtime.MachineStatusType, runtime.MachineStatusID, func(s *Snapshot) { forget(&s.Machine) }},
		{runtime.NamespaceName, runtime.SecurityStateType, runtime.SecurityStateID, func(s *Snapshot) { forget(&s.Security) }},
		{config.NamespaceName, config.MachineTypeType, config.MachineTypeID, func(s *Snapshot) { forget(&s.MachineType) }},
		{k8s.NamespaceName, k8s.NodenameType, k8s.NodenameID, func(s *Snapshot) { forget(&s.Nodename) }},
		{k8s.NamespaceName, k8s.NodeStatusType, "", func(s *Snapshot) { forget(&s.Nodes) }},
		{cluster.NamespaceName, cluster.InfoType, cluster.InfoID, func(s *Snapshot) { forget(&s.ClusterName) }},
		{runtime.NamespaceName, runtime.ExtensionStatusType, "", func(s *Snapshot) { forget(&s.Extensions) }},
		{block.NamespaceName, block.DiskType, "", func(s *Snapshot) { forget(&s.Disks) }},
		{block.NamespaceName, block.DiscoveredVolumeType, "", func(s *Snapshot) { forget(&s.DiscoveredVolumes) }},
		{block.NamespaceName, block.VolumeStatusType, "", func(s *Snapshot) { forget(&s.Volumes) }},
		{block.NamespaceName, block.MountStatusType, "", func(s *Snapshot) { forget(&s.Mounts) }},
		{runtime.NamespaceName, runtime.MountStatusType, "", func(s *Snapshot) { forget(&s.RuntimeMounts) }},
	}, newKinds()...)
}

func forget[T any](fact *Fact[T]) { *fact = unknown[T]() }

// kernelBootID is what the daemon falls back to where Talos does not serve it; it is the same.
func kernelBootID(s *Snapshot) {
	if text, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		s.BootID = known(strings.TrimSpace(string(text)))
	}
}

// Read is what a daemon has to say of a node with this state.
func Read(ctx context.Context, version Version, st state.State) (Snapshot, error) {
	var all []resource.Resource

	for _, kind := range Kinds() {
		list, err := st.List(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined))
		if err != nil {
			return Snapshot{}, fmt.Errorf("%s: %w", kind.Type, err)
		}

		for _, r := range list.Items {
			if kind.ID == "" || kind.ID == r.Metadata().ID() {
				all = append(all, r)
			}
		}
	}

	return From(version, all), nil
}

// From makes a snapshot of a complete set of resources. What is going away is gone.
func From(version Version, resources []resource.Resource) Snapshot {
	facts := Unknown()
	facts.Version = known(version)
	facts.lack()

	// A release tells every collection that it has, if only to say that it is empty.
	links := tell(&facts.Links)
	addresses := tell(&facts.Addresses)
	addressSpecs := tell(&facts.AddressSpecs)
	routes := tell(&facts.Routes)
	nodeAddresses := tell(&facts.NodeAddresses)
	nodeIPs := tell(&facts.NodeIPs)
	nodes := tell(&facts.Nodes)
	extensions := tell(&facts.Extensions)
	disks := tell(&facts.Disks)
	discoveredVolumes := tell(&facts.DiscoveredVolumes)
	volumes := tell(&facts.Volumes)
	mounts := tell(&facts.Mounts)
	runtimeMounts := tell(&facts.RuntimeMounts)

	for _, r := range resources {
		id := r.Metadata().ID()

		if r.Metadata().Phase() == resource.PhaseTearingDown || facts.readNew(r) {
			continue
		}

		switch r := r.(type) {
		case *network.LinkStatus:
			if link, ok := ReadLink(r.TypedSpec()); ok && link.candidate() {
				links[id] = link
			}
		case *network.AddressStatus:
			if address, ok := ReadAddress(r.TypedSpec()); ok {
				addresses[id] = address
			}
		case *network.AddressSpec:
			if spec, ok := ReadAddressSpec(id, r.TypedSpec()); ok {
				addressSpecs[id] = spec
			}
		case *network.RouteStatus:
			if route, ok := ReadRoute(r.TypedSpec()); ok && route.mainUnicast() {
				routes[id] = route
			}
		case *network.NodeAddress:
			// The daemon asks for these two by an id query; the others have the addresses of pods in them.
			if id != network.NodeAddressDefaultID && id != network.FilteredNodeAddressID(network.NodeAddressRoutedID, "no-k8s") {
				continue
			}

			if list, ok := ReadNodeAddress(r.TypedSpec()); ok {
				nodeAddresses[id] = list
			}
		case *k8s.NodeIP:
			// The daemon asks for this one by an id query.
			if id != k8s.KubeletID {
				continue
			}

			if list, ok := ReadNodeIP(r.TypedSpec()); ok {
				nodeIPs[id] = list
			}
		case *network.HostnameStatus:
			facts.Hostname = fact(ReadHostname(r.TypedSpec()))
		case *network.ResolverStatus:
			facts.Resolvers = fact(ReadResolver(r.TypedSpec()))
		case *runtime.MachineStatus:
			facts.Machine = known(ReadMachine(r.TypedSpec()))
		case *runtime.SecurityState:
			facts.Security = known(ReadSecurity(r.TypedSpec()))
		case *config.MachineType:
			facts.MachineType = known(int32(r.MachineType()))
		case *k8s.Nodename:
			facts.Nodename = fact(ReadNodename(r.TypedSpec()))
		case *k8s.NodeStatus:
			nodes[id] = ReadNodeStatus(r.TypedSpec())
		case *cluster.Info:
			facts.ClusterName = known(ReadClusterName(r.TypedSpec()))
		case *runtime.ExtensionStatus:
			extensions[id] = ReadExtension(r.TypedSpec())
		case *block.Disk:
			disks[id] = ReadDisk(r.TypedSpec())
		case *block.DiscoveredVolume:
			discoveredVolumes[id] = ReadDiscoveredVolume(r.TypedSpec())
		case *block.VolumeStatus:
			volumes[id] = ReadVolume(r.TypedSpec())
		case *block.MountStatus:
			mounts[id] = ReadMount(r.TypedSpec())
		case *runtime.MountStatus:
			runtimeMounts[id] = ReadRuntimeMount(id, r.TypedSpec())
		}
	}

	onAdapters := reported(links)

	maps.DeleteFunc(addresses, func(_ string, a Address) bool { return !onAdapters[a.LinkName] })
	maps.DeleteFunc(routes, func(_ string, r Route) bool { return !onAdapters[r.OutLinkName] })

	return facts
}

// tell makes a collection known and empty, and gives it.
func tell[T any](fact *Fact[map[string]T]) map[string]T {
	*fact = known(make(map[string]T))

	return *fact.Value
}

// fact is a reading that may be none.
func fact[T any](value T, ok bool) Fact[T] {
	if !ok {
		return unknown[T]()
	}

	return known(value)
}

// Diff compares the output of `query --json` with a snapshot and gives the differences, or nothing. Facts that a
// snapshot does not have are no business of this comparison.
func Diff(want Snapshot, output []byte) (string, error) {
	got, err := facts(output)
	if err != nil {
		return "", err
	}

	expected, err := generic(want)
	if err != nil {
		return "", err
	}

	judged := make(map[string]any, len(expected))

	for name := range expected {
		if fact, ok := got[name]; ok {
			judged[name] = fact
		}
	}

	return cmp.Diff(expected, judged), nil
}

// facts takes the snapshot out of the output: the whole of it, or its member of that name.
func facts(output []byte) (map[string]any, error) {
	var document map[string]any

	decoder := json.NewDecoder(bytes.NewReader(output))
	decoder.UseNumber()

	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("query --json: %w in %q", err, output)
	}

	if inner, ok := document["snapshot"].(map[string]any); ok {
		return inner, nil
	}

	return document, nil
}

func generic(value any) (map[string]any, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}

	var document map[string]any

	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()

	return document, decoder.Decode(&document)
}
