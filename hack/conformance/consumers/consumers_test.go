// Package consumers lets the programs that read a guest's report of vCenter judge what talos-vmtoolsd tells.
package consumers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/judges"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/laboratory"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/report"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/vcenter"
)

// document is where the table is kept.
var document = filepath.Join("..", "..", "..", "docs", "consumers.md")

// variable gives the path in an environment variable that `run` sets. Without it the test is skipped, or failed where
// nothing may be skipped.
func variable(t *testing.T, name string) string {
	t.Helper()

	value := os.Getenv(name)
	if value != "" {
		return value
	}

	if os.Getenv("CONFORMANCE_REQUIRED") == "1" {
		t.Fatalf("%s is not set, and CONFORMANCE_REQUIRED is", name)
	}

	t.Skipf("%s is not set", name)

	return ""
}

func programs(t *testing.T) laboratory.Programs {
	t.Helper()

	return laboratory.Programs{Lab: variable(t, "TALOS_VMTOOLSD_LAB"), Daemon: variable(t, "TALOS_VMTOOLSD")}
}

// record runs the daemon on a node in this state, and gives what it told.
func record(ctx context.Context, programs laboratory.Programs, state string) (*report.Guest, error) {
	run, err := programs.Start(ctx, state)
	if err != nil {
		return nil, err
	}

	defer run.Stop() //nolint:errcheck // only files in a temporary directory

	if err := run.Settle(); err != nil {
		return nil, err
	}

	return run.Guest()
}

// together does something for each of so many, a few at a time.
func together(count int, do func(int)) {
	const atOnce = 4

	var group sync.WaitGroup

	slots := make(chan struct{}, atOnce)

	for index := range count {
		slots <- struct{}{}

		group.Go(func() {
			do(index)
			<-slots
		})
	}

	group.Wait()
}

// TestConsumers has every consumer look at every topology.
func TestConsumers(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)

	lab, govc, packer := programs(t), variable(t, "CONSUMERS_GOVC"), variable(t, "CONSUMERS_PACKER")
	all := topologies()

	server, err := vcenter.Start(len(all))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(server.Stop)

	cloud, err := judges.CloudProvider(judges.Machine{Server: server.URL()})
	if err != nil {
		t.Fatal(err)
	}

	bench := append(judges.Govc(govc), judges.Govmomi()...)
	bench = append(bench, cloud...)
	bench = append(bench, judges.ClusterAPI(), judges.Packer(packer))
	bench = append(bench, judges.Terraform()...)
	bench = append(bench, judges.Ansible())

	python := os.Getenv("CONSUMERS_PYTHON")

	switch {
	case python != "":
		bench = append(bench, judges.PyVmomi(python))
	case os.Getenv("CONFORMANCE_REQUIRED") == "1":
		t.Error("CONSUMERS_PYTHON is not set, and CONFORMANCE_REQUIRED is")
	}

	guests := make([]*report.Guest, len(all))

	together(len(all), func(index int) {
		guest, err := record(ctx, lab, all[index].state(t))
		if err != nil {
			t.Errorf("%s: %s", all[index].Name, err)
		}

		guests[index] = guest
	})

	if t.Failed() {
		t.FailNow()
	}

	machines := make([]judges.Machine, len(all))

	for index, tp := range all {
		vm, err := server.Add(tp.Name, tp.macs(), guests[index])
		if err != nil {
			t.Fatal(err)
		}

		machines[index] = judges.Machine{
			VM: vm, Name: tp.Name, Node: tp.Node, UUID: server.UUID(tp.Name), Server: server.URL(),
		}

		bothFeeds(t, tp, guests[index])
	}

	answers := make([][]string, len(all))

	together(len(all), func(index int) {
		for _, judge := range bench {
			answer, err := judge.Ask(ctx, machines[index])
			if err != nil {
				answer = "failed"

				t.Errorf("%s: %s, %s: %s", all[index].Name, judge.Name, judge.Question, err)
			}

			if right := judge.Right(all[index].Truth); !slices.Contains(right, answer) {
				t.Errorf("%s: %s, %s: says %q, right is %q", all[index].Name, judge.Name, judge.Question, answer, right)
			} else if len(right) > 1 {
				// Which of them it takes is chance.
				answer = strings.Join(right, " or ")
			}

			answers[index] = append(answers[index], answer)
		}
	})

	text := table(t, all, bench, answers)
	fmt.Println(text)

	if python == "" {
		t.Log("there is no python with pyVmomi: its answers are missing, and docs/consumers.md was not compared")

		return
	}

	compare(t, text)
}

// bothFeeds demands that the two feeds of vCenter's address agree, and with what is right.
func bothFeeds(t *testing.T, tp topology, guest *report.Guest) {
	t.Helper()

	told, own := guest.Variables["guestinfo.ip"], tp.Own()
	if own != "" && told != own {
		t.Errorf("%s: guestinfo.ip is %q, right is %q", tp.Name, told, own)
	}
}

// compare holds the table against the kept one; UPDATE=1 writes it.
func compare(t *testing.T, text string) {
	t.Helper()

	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(document, []byte(text), 0o644); err != nil { //nolint:gosec // for everybody
			t.Fatal(err)
		}

		return
	}

	kept, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}

	if string(kept) != text {
		t.Error("docs/consumers.md differs from the table above: UPDATE=1 hack/conformance/consumers/run writes it")
	}
}
