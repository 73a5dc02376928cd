// Govc is the command line of govmomi with those commands that look at virtual machines, built from its own packages.
// With a transcript of `lab vmx` before the command it looks at a simulated vCenter whose one virtual machine told that:
//
//	govc vm.info -json talos
//	govc --transcript vmx.jsonl NAME vm.info
package main

import (
	"fmt"
	"os"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/about" // it registers its commands
	_ "github.com/vmware/govmomi/cli/vm"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/report"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/vcenter"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(arguments []string) int {
	const own = 3 // --transcript FILE NAME

	if len(arguments) <= own || arguments[0] != "--transcript" {
		return cli.Run(arguments)
	}

	server, err := told(arguments[1], arguments[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "govc:", err)

		return 1
	}

	defer server.Stop()

	os.Setenv("GOVC_URL", server.URL().String()) //nolint:errcheck // it has no NUL
	os.Setenv("GOVC_INSECURE", "true")           //nolint:errcheck // likewise
	os.Setenv("GOVC_PERSIST_SESSION", "false")   //nolint:errcheck // likewise

	return cli.Run(append(arguments[own:], arguments[2]))
}

// told starts a vCenter whose one virtual machine has the adapters that its guest reported.
func told(transcript, name string) (*vcenter.VCenter, error) {
	guest, err := report.ReadFile(transcript)
	if err != nil {
		return nil, err
	}

	server, err := vcenter.Start(1)
	if err != nil {
		return nil, err
	}

	var macs []string

	if guest.Network != nil {
		for _, adapter := range guest.Network.Adapters {
			macs = append(macs, adapter.MAC)
		}
	}

	if _, err := server.Add(name, macs, guest); err != nil {
		server.Stop()

		return nil, err
	}

	return server, nil
}
