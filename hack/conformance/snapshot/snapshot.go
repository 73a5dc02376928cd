// Package snapshot is what `talos-vmtoolsd query --json` says of a node, computed from Talos's own resources.
//
// This is the only place that knows the daemon's JSON (src/talos/snapshot.rs): its names, which resources are read, and
// which of them are kept. A change there is a change here and nowhere else.
//
//	Talos's resources ── spec.go: one reading per spec ──┐
//	                     kept: candidate, reported ──────┴── Snapshot ── JSON ── Diff ── JSON of the daemon
package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/go-cmp/cmp"
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
	Version       Fact[Version]             `json:"version"`
	Hostname      Fact[Hostname]            `json:"hostname"`
	Links         Fact[map[string]Link]     `json:"links"`
	Addresses     Fact[map[string]Address]  `json:"addresses"`
	Routes        Fact[map[string]Route]    `json:"routes"`
	NodeAddresses Fact[map[string][]string] `json:"node_addresses"`
	Resolvers     Fact[Resolver]            `json:"resolvers"`
	Machine       Fact[Machine]             `json:"machine"`
	Security      Fact[Security]            `json:"security"`
}

// Unknown is what is known of a node that never answered.
func Unknown() Snapshot {
	return Snapshot{
		Version:       unknown[Version](),
		Hostname:      unknown[Hostname](),
		Links:         unknown[map[string]Link](),
		Addresses:     unknown[map[string]Address](),
		Routes:        unknown[map[string]Route](),
		NodeAddresses: unknown[map[string][]string](),
		Resolvers:     unknown[Resolver](),
		Machine:       unknown[Machine](),
		Security:      unknown[Security](),
	}
}

// Kind is a resource type that is read.
type Kind struct {
	Namespace resource.Namespace
	Type      resource.Type
}

// Kinds are the resource types that a snapshot is made of.
var Kinds = []Kind{
	{network.NamespaceName, network.LinkStatusType},
	{network.NamespaceName, network.AddressStatusType},
	{network.NamespaceName, network.RouteStatusType},
	{network.NamespaceName, network.NodeAddressType},
	{network.NamespaceName, network.HostnameStatusType},
	{network.NamespaceName, network.ResolverStatusType},
	{runtime.NamespaceName, runtime.MachineStatusType},
	{runtime.NamespaceName, runtime.SecurityStateType},
}

// Read is what a daemon has to say of a node with this state.
func Read(ctx context.Context, version Version, st state.State) (Snapshot, error) {
	var all []resource.Resource

	for _, kind := range Kinds {
		list, err := st.List(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined))
		if err != nil {
			return Snapshot{}, fmt.Errorf("%s: %w", kind.Type, err)
		}

		all = append(all, list.Items...)
	}

	return From(version, all), nil
}

// From makes a snapshot of a complete set of resources. What is going away is gone.
func From(version Version, resources []resource.Resource) Snapshot {
	present := slices.DeleteFunc(slices.Clone(resources), func(r resource.Resource) bool {
		return r.Metadata().Phase() == resource.PhaseTearingDown
	})

	links := make(map[string]Link)
	reported := make(map[string]bool)

	for _, r := range present {
		status, ok := r.(*network.LinkStatus)
		if !ok {
			continue
		}

		if link, ok := ReadLink(status.TypedSpec()); ok && link.candidate() {
			links[r.Metadata().ID()] = link
			reported[r.Metadata().ID()] = link.Reported()
		}
	}

	facts := Unknown()
	facts.Version = known(version)
	facts.Links = known(links)

	addresses := make(map[string]Address)
	routes := make(map[string]Route)
	nodeAddresses := make(map[string][]string)

	for _, r := range present {
		id := r.Metadata().ID()

		switch r := r.(type) {
		case *network.AddressStatus:
			if address, ok := ReadAddress(r.TypedSpec()); ok && reported[address.LinkName] {
				addresses[id] = address
			}
		case *network.RouteStatus:
			if route, ok := ReadRoute(r.TypedSpec()); ok && route.mainUnicast() && reported[route.OutLinkName] {
				routes[id] = route
			}
		case *network.NodeAddress:
			if list, ok := ReadNodeAddress(r.TypedSpec()); ok {
				nodeAddresses[id] = list
			}
		case *network.HostnameStatus:
			if hostname, ok := ReadHostname(r.TypedSpec()); ok && id == network.HostnameID {
				facts.Hostname = known(hostname)
			}
		case *network.ResolverStatus:
			if resolver, ok := ReadResolver(r.TypedSpec()); ok && id == network.ResolverID {
				facts.Resolvers = known(resolver)
			}
		case *runtime.MachineStatus:
			facts.Machine = known(ReadMachine(r.TypedSpec()))
		case *runtime.SecurityState:
			facts.Security = known(ReadSecurity(r.TypedSpec()))
		}
	}

	facts.Addresses = known(addresses)
	facts.Routes = known(routes)
	facts.NodeAddresses = known(nodeAddresses)

	return facts
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
