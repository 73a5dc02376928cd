package consumers

import (
	"embed"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/judges"
)

//go:embed topologies/*.yaml
var files embed.FS

// topology is a node, and what is right to say of it.
type topology struct {
	// Name of its file in topologies/, without the ending.
	Name string
	// Node is its name in Kubernetes.
	Node string
	judges.Truth
}

// state is the text of its file.
func (tp topology) state(t *testing.T) string {
	t.Helper()

	text, err := files.ReadFile(path.Join("topologies", tp.Name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}

// comment is what its file begins with.
func (tp topology) comment(t *testing.T) string {
	t.Helper()

	var comment []string

	for line := range strings.Lines(tp.state(t)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			break
		}

		comment = append(comment, strings.TrimSpace(text))
	}

	return strings.Join(comment, " ")
}

// macs of its virtual adapters, in the order of the virtual machine.
func (tp topology) macs() []string {
	var macs []string
	for _, adapter := range tp.Adapters {
		macs = append(macs, adapter.MAC)
	}

	return macs
}

// plain is a topology whose node and guest are both called NAME-1, with adapters 00:50:56:a0:NUMBER:01 and so on that have
// these addresses.
func plain(number int, name, ipv4, ipv6 string, adapters ...[]string) topology {
	tp := topology{Name: name, Node: name + "-1", Truth: judges.Truth{Name: name + "-1", IPv4: ipv4, IPv6: ipv6}}

	for index, addresses := range adapters {
		tp.Adapters = append(tp.Adapters, judges.Adapter{
			MAC: fmt.Sprintf("00:50:56:a0:%02x:%02x", number, index+1), Addresses: addresses,
		})
	}

	return tp
}

// called gives another name to the node, which is the guest's as well.
func (tp topology) called(name string) topology {
	tp.Node, tp.Truth.Name = name, name

	return tp
}

// unroutable says why no address is in one network with its gateway.
func (tp topology) unroutable(why string) topology {
	tp.NoRoute = why

	return tp
}

// topologies are the nodes that consumers have stumbled over elsewhere.
func topologies() []topology {
	none := []string{}

	return []topology{
		plain(0x01, "single", "10.1.0.11", "", []string{"10.1.0.11"}),
		plain(0x02, "dual-stack", "10.66.146.29", "2620:52:0:4292:250:56ff:fea0:201",
			[]string{"10.66.146.29", "2620:52:0:4292:250:56ff:fea0:201"}),
		plain(0x03, "dhcpv6", "10.3.0.11", "2001:db8:3::11",
			[]string{"10.3.0.11", "2001:db8:3::11", "2001:db8:3:0:250:56ff:fea0:301"}),
		plain(0x04, "ipv6-only", "", "2001:db8:4::11",
			[]string{"2001:db8:4::11", "2001:db8:4:0:250:56ff:fea0:401"}).
			unroutable("the router has a link-local address only"),
		plain(0x05, "ipv6-only-static", "", "2001:db8:5::11", []string{"2001:db8:5::11", "fd00:5::11"}),
		plain(0x06, "bond", "10.6.0.11", "2001:db8:6::11", []string{"10.6.0.11", "2001:db8:6::11"}, none),
		plain(0x07, "bond-vlan-vip", "10.7.100.11", "", []string{"10.7.100.11", "10.7.200.11", "10.7.100.2"}, none),
		plain(0x08, "bridge", "10.8.0.11", "2001:db8:8::11",
			[]string{"10.8.0.11", "2001:db8:8::11", "2001:db8:8:0:250:56ff:fea0:801", "10.8.0.5"}),
		plain(0x09, "calico", "10.9.0.11", "", []string{"10.9.0.11"}),
		plain(0x0a, "cilium", "10.10.0.11", "", []string{"10.10.0.11"}),
		plain(0x0b, "flannel", "10.11.0.11", "", []string{"10.11.0.11"}),
		plain(0x0c, "talos-vip", "10.93.60.245", "", []string{"10.93.60.245", "10.93.60.131"}),
		plain(0x0d, "kube-vip", "10.13.0.11", "fd65:a1a8:60ad:981::11",
			[]string{"10.13.0.11", "fd65:a1a8:60ad:981::11", "10.13.0.2", "fd65:a1a8:60ad:981::13f"}),
		plain(0x0e, "two-networks", "10.14.0.11", "2001:db8:e::11",
			[]string{"172.16.14.11"}, []string{"10.14.0.11", "2001:db8:e::11"}),
		plain(0x17, "kubelet-subnet", "10.23.0.11", "2001:db8:17::11",
			[]string{"10.16.23.11", "2001:db8:16::11"}, []string{"10.23.0.11", "2001:db8:17::11"}),
		plain(0x0f, "spare-adapters", "10.15.0.11", "", []string{"10.15.0.11"}, none, none, none, none, none, none, none),
		plain(0x10, "off-subnet", "203.0.113.16", "", []string{"203.0.113.16"}).
			unroutable("the gateway is in another network"),
		plain(0x11, "privacy", "10.17.0.11", "2001:db8:11:0:250:56ff:fea0:1101",
			[]string{"10.17.0.11", "2001:db8:11:0:250:56ff:fea0:1101", "2001:db8:11::1:1", "2001:db8:11::1:2"}),
		plain(0x12, "no-address", "", "", none).unroutable("there is no address"),
		plain(0x13, "link-local-only", "", "", []string{"169.254.19.11", "fe80::250:56ff:fea0:1301"}).
			unroutable("there is no route"),
		plain(0x14, "name-full", "10.20.0.11", "", []string{"10.20.0.11"}).called("name-full-1.c.vsphere.local"),
		plain(0x15, "name-short", "10.21.0.11", "", []string{"10.21.0.11"}),
		plain(0x16, "name-case", "10.22.0.11", "", []string{"10.22.0.11"}).called("talos-name-case-1"),
	}
}

// TestTopologies keeps the files and the list together.
func TestTopologies(t *testing.T) {
	entries, err := files.ReadDir("topologies")
	if err != nil {
		t.Fatal(err)
	}

	listed := map[string]bool{}
	for _, tp := range topologies() {
		listed[tp.Name+".yaml"] = true
	}

	for _, entry := range entries {
		if !listed[entry.Name()] {
			t.Errorf("%s is judged by nobody", entry.Name())
		}
	}

	if len(listed) != len(entries) {
		t.Errorf("%d topologies, %d files", len(listed), len(entries))
	}
}
