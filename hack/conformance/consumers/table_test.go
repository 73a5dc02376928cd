package consumers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/judges"
)

const preface = `# What its consumers make of it

This page is written by ` + "`UPDATE=1 hack/conformance/consumers/run`" + `, and a test fails when it is not what that run finds.

For each node below, the unmodified release binary ran between the laboratory's simulated node and its simulated VMware
host. The bytes that it sent were decoded by a decoder of their own, put into the simulated vCenter of govmomi, and read
from there, through the vSphere API, by the programs themselves:

| consumer | whose code |
| --- | --- |
| govc, govmomi | github.com/vmware/govmomi v0.55.0, ` + "`cli` and `object`" + ` |
| cloud provider | k8s.io/cloud-provider-vsphere v1.31.0: node found by name, and by UUID with the same result |
| Cluster API | sigs.k8s.io/cluster-api-provider-vsphere v1.14.0, ` + "`pkg/services/govmomi/net`" + ` |
| Packer | github.com/hashicorp/packer-plugin-vsphere v1.4.2, ` + "`StepWaitForIp`" + ` |
| Terraform, Ansible | their rules restated, with the source, in ` + "`hack/conformance/consumers/judges/restated.go`" + ` |
| pyVmomi | pyVmomi 8.0.3 |

"waits" is an answer: a consumer that needs what the node does not have (an address on each adapter, a routable one) is
right to wait. Where Packer may take any of several addresses, all of them are given.

`

// table is the page: an overview, then each topology with what every consumer says beside what is right.
func table(t *testing.T, all []topology, bench []judges.Judge, answers [][]string) string {
	t.Helper()

	var (
		text  strings.Builder
		names []string
	)

	text.WriteString(preface)

	for _, judge := range bench {
		if !slices.Contains(names, judge.Name) {
			names = append(names, judge.Name)
		}
	}

	fmt.Fprintf(&text, "## All nodes\n\n| node | its address | %s |\n|%s\n", strings.Join(names, " | "),
		strings.Repeat(" --- |", len(names)+2)) //nolint:mnd // the two columns before

	for index, tp := range all {
		address := tp.Own()
		if address == "" {
			address = "none"
		}

		fmt.Fprintf(&text, "| [%s](#%s) | %s |", tp.Name, tp.Name, address)

		for _, name := range names {
			fmt.Fprintf(&text, " %s |", verdict(tp, bench, answers[index], name))
		}

		text.WriteString("\n")
	}

	for index, tp := range all {
		fmt.Fprintf(&text, "\n## %s\n\n%s\n", tp.Name, tp.comment(t))

		if tp.NoRoute != "" {
			fmt.Fprintf(&text, "No address is routable by Terraform's rule: %s.\n", tp.NoRoute)
		}

		text.WriteString("\n| consumer | asked for | says | right |\n| --- | --- | --- | --- |\n")

		for number, judge := range bench {
			fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", judge.Name, judge.Question, answers[index][number],
				strings.Join(judge.Right(tp.Truth), " or "))
		}
	}

	return text.String()
}

// verdict on all that a consumer says of a topology: "right", with what it waits for, or "wrong".
func verdict(tp topology, bench []judges.Judge, answers []string, name string) string {
	asked, waits := 0, 0

	for number, judge := range bench {
		if judge.Name != name {
			continue
		}

		if answers[number] != strings.Join(judge.Right(tp.Truth), " or ") {
			return "wrong"
		}

		asked++

		if strings.HasPrefix(answers[number], judges.Waits) {
			waits++
		}
	}

	switch waits {
	case 0:
		return "right"
	case asked:
		return "right, waits"
	default:
		return fmt.Sprintf("right, %d of %d wait", waits, asked)
	}
}
