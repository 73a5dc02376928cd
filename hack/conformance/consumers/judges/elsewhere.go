package judges

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Packer is the step of github.com/hashicorp/packer-plugin-vsphere that waits for an address, in a program of its own
// (packer/), since it needs an older govmomi than the others; program is its path.
func Packer(program string) Judge {
	return Judge{
		Name: "Packer", Question: "address to connect to (`StepWaitForIp`)",
		Ask: func(ctx context.Context, m Machine) (string, error) {
			password, _ := m.Server.User.Password()

			return waited(output(exec.CommandContext(ctx, program, m.Server.Host, m.Server.User.Username(), password, m.Name,
				patience.String())))
		},
		// It takes the first IPv4 address of any adapter. Until all have addresses it waits, by default for half an hour,
		// and then takes one all the same.
		Right: func(t Truth) []string {
			var firsts []string

			for _, adapter := range t.Adapters {
				if index := slices.IndexFunc(adapter.Addresses, any4); index >= 0 {
					firsts = append(firsts, adapter.Addresses[index])
				}
			}

			if len(firsts) == 0 {
				return one(Waits)
			}

			if !t.complete(anyone) {
				for index := range firsts {
					firsts[index] = Waits + ", then " + firsts[index]
				}
			}

			return firsts
		},
	}
}

//go:embed pyvmomi.py
var pyvmomi string

// PyVmomi is the library itself; python is an interpreter that has it.
func PyVmomi(python string) Judge {
	return Judge{
		Name: "pyVmomi", Question: "`guest.hostName`, `guest.ipAddress`, adapters with a device, state change",
		Ask: func(ctx context.Context, m Machine) (string, error) {
			password, _ := m.Server.User.Password()

			return output(exec.CommandContext(ctx, python, "-c", pyvmomi, m.Server.Hostname(), m.Server.Port(),
				m.Server.User.Username(), password, m.Name))
		},
		Right: func(t Truth) []string {
			return one(fmt.Sprintf("%s, %s, %d, True", t.Name, dash(t.first()), len(t.Adapters)))
		},
	}
}

func output(command *exec.Cmd) (string, error) {
	var said bytes.Buffer

	command.Stderr = &said

	answer, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}

	return strings.TrimSpace(string(answer)), nil
}
