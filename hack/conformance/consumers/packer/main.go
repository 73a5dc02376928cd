// Packer waits for the address of a virtual machine with Packer's own step, and prints it, behind "waits" where it came
// when patience was over only:
//
//	packer SERVER USER PASSWORD NAME PATIENCE
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-vsphere/builder/vsphere/common"
	"github.com/hashicorp/packer-plugin-vsphere/builder/vsphere/driver"
)

func main() {
	log.SetOutput(io.Discard)

	address, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "packer:", err)
		os.Exit(1)
	}

	fmt.Println(address)
}

// run gives the address, or nothing when the step gave up.
func run(arguments []string) (string, error) {
	const wanted = 5

	if len(arguments) != wanted {
		return "", fmt.Errorf("%d arguments, %d are needed", len(arguments), wanted)
	}

	patience, err := time.ParseDuration(arguments[4])
	if err != nil {
		return "", err
	}

	server, err := driver.NewDriver(&driver.ConnectConfig{
		VCenterServer: arguments[0], Username: arguments[1], Password: arguments[2], InsecureConnection: true,
	})
	if err != nil {
		return "", err
	}

	defer server.Cleanup() //nolint:errcheck // the session ends with the server

	vm, err := server.FindVM(arguments[3])
	if err != nil {
		return "", err
	}

	// An address that is the same at the second look has settled.
	config := &common.WaitIpConfig{WaitTimeout: patience, SettleTimeout: time.Nanosecond}
	for _, err := range config.Prepare() {
		return "", err
	}

	state := &multistep.BasicStateBag{}
	state.Put("vm", vm)
	state.Put("ui", &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: io.Discard, ErrorWriter: io.Discard})

	begun := time.Now()
	step := &common.StepWaitForIp{Config: config}
	if step.Run(context.Background(), state) != multistep.ActionContinue {
		return "", nil
	}

	address, _ := state.Get("ip").(string)
	if time.Since(begun) >= patience {
		return "waits, then " + address, nil
	}

	return address, nil
}
