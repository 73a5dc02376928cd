// Package judges asks the consumers of a guest's report what they make of it. All but Terraform and Ansible are the
// consumers' own code, and all read a vCenter through its API.
package judges

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
)

// patience is how long a consumer may wait for an address. All that will ever be told is there before it asks.
const patience = 4 * time.Second

// Waits is the answer of a consumer that waits for something that does not come.
const Waits = "waits"

// Machine is a virtual machine as its consumers know it.
type Machine struct {
	VM *object.VirtualMachine
	// Name in the inventory, Node in Kubernetes.
	Name, Node, UUID string
	// Server is the URL of the SDK, with user and password.
	Server *url.URL
}

// Truth is what is right to say of a machine, by its topology.
type Truth struct {
	// Name is what the guest is to be called.
	Name string
	// IPv4 and IPv6 are the node's own addresses, empty where it has none.
	IPv4, IPv6 string
	// Adapters are the addresses by virtual adapter, in the order that is right.
	Adapters []Adapter
	// NoRoute says that Terraform's rule for a routable address cannot hold, and why.
	NoRoute string
}

// Adapter is a virtual adapter.
type Adapter struct {
	MAC       string
	Addresses []string
}

// Own is the node's own address, IPv4 where it has both.
func (t Truth) Own() string {
	if t.IPv4 != "" {
		return t.IPv4
	}

	return t.IPv6
}

// first is what stands first of all: the node's own, or what is left where it has none.
func (t Truth) first() string {
	if own := t.Own(); own != "" {
		return own
	}

	if all := t.all(anyone); len(all) > 0 {
		return all[0]
	}

	return ""
}

// complete says whether every adapter has an address of the families.
func (t Truth) complete(fit func(string) bool) bool {
	return !slices.ContainsFunc(t.Adapters, func(a Adapter) bool { return !slices.ContainsFunc(a.Addresses, fit) })
}

// all gives every address that fits, adapter by adapter.
func (t Truth) all(fit func(string) bool) []string {
	var all []string

	for _, adapter := range t.Adapters {
		for _, address := range adapter.Addresses {
			if fit(address) {
				all = append(all, address)
			}
		}
	}

	return all
}

// Judge is a consumer.
type Judge struct {
	// Name of the program and what it is asked.
	Name, Question string
	// Ask gives its answer.
	Ask func(context.Context, Machine) (string, error)
	// Right gives the answers that are right: several where the consumer itself takes any of them.
	Right func(Truth) []string
}

func one(text string) []string {
	if text == "" {
		text = Waits
	}

	return []string{text}
}

func any4(address string) bool { return strings.Contains(address, ".") }
func any6(address string) bool { return strings.Contains(address, ":") }
func anyone(string) bool       { return true }

func global(address string) bool {
	return !strings.HasPrefix(address, "fe80:") && !strings.HasPrefix(address, "169.254.")
}

// sorted joins addresses whose order the consumer itself leaves to chance.
func sorted(addresses []string) string {
	addresses = slices.Clone(addresses)
	slices.Sort(addresses)

	return strings.Join(addresses, " ")
}

// waited turns the end of patience into an answer.
func waited(answer string, err error) (string, error) {
	if errors.Is(err, context.DeadlineExceeded) || err == nil && answer == "" {
		return Waits, nil
	}

	return answer, err
}
