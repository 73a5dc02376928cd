package conformance

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/reference"
)

// TestHabits works out in what this release differs from others, as far as the daemon has to know, and finds that row in
// docs/talos.md. CONFORMANCE_HABITS names a file for it.
func TestHabits(t *testing.T) {
	t.Parallel()

	ctx, _, conn := connect(t)
	calls, types := permissions(t)

	var absentTypes, absentCalls []string

	for _, watched := range types {
		err := watching(watched.namespace, watched.kind).call(reference.WithRoles(ctx, string(role.Reader)), conn)

		switch {
		case err == nil:
		case isAbsent(err):
			name, _, _ := strings.Cut(watched.kind, ".")
			absentTypes = append(absentTypes, "`"+name+"`")
		default:
			t.Error(err)
		}
	}

	for _, call := range calls {
		if _, ok := call.describe(); !ok {
			absentCalls = append(absentCalls, "`"+call.method+"`")
		}
	}

	empty, err := protobuf.FromResource(
		network.NewAddressStatus(network.NamespaceName, "eth0/"), protobuf.WithoutYAML(),
	)
	if err != nil {
		t.Fatal(err)
	}

	encoded, err := empty.Marshal()
	if err != nil {
		t.Fatal(err)
	}

	row := "| " + strings.Join([]string{
		node.Release(),
		listed(absentTypes),
		listed(absentCalls),
		listed(absentFields()),
		listed(absentRoles()),
		listed(absentRebootModes()),
		yes(node.ChecksPeer),
		yes(len(encoded.GetSpec().GetProtoSpec()) > 0),
		yes(crashesWithoutOptions),
	}, " | ") + " |"

	page, err := os.ReadFile("../../docs/talos.md")
	if err != nil {
		t.Fatal(err)
	}

	if !strings.Contains(string(page), row+"\n") {
		t.Errorf("docs/talos.md does not have this row:\n%s", row)
	}

	if path := os.Getenv("CONFORMANCE_HABITS"); path != "" {
		if err := os.WriteFile(path, []byte(row+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// absentFields are the fields that the daemon reads and this release does not have.
func absentFields() []string {
	var absent []string

	for _, field := range []struct {
		spec any
		name string
	}{
		{block.MountStatusSpec{}, "Detached"},
		{network.RouteStatusSpec{}, "NextHops"},
		{network.ResolverStatusSpec{}, "NameServers"},
	} {
		kind := reflect.TypeOf(field.spec)
		if _, ok := kind.FieldByName(field.name); !ok {
			absent = append(absent, fmt.Sprintf("`%s.%s`", strings.TrimSuffix(kind.Name(), "Spec"), field.name))
		}
	}

	return absent
}

// absentRoles are those of later releases. What is no role is dropped from a call without a word.
func absentRoles() []string {
	var absent []string

	for _, name := range []string{
		"os:reader", "os:operator", "os:admin", "os:etcd:backup", "os:impersonator", "os:image:verifier", "os:meta:writer",
	} {
		if !role.All.Includes(role.Role(name)) {
			absent = append(absent, "`"+name+"`")
		}
	}

	return absent
}

// absentRebootModes are those of later releases. A mode that is unknown is the default one.
func absentRebootModes() []string {
	var absent []string

	for _, name := range []string{"DEFAULT", "POWERCYCLE", "FORCE"} {
		if _, ok := machine.RebootRequest_Mode_value[name]; !ok {
			absent = append(absent, name)
		}
	}

	return absent
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}

	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

func yes(is bool) string {
	if is {
		return "yes"
	}

	return "no"
}
