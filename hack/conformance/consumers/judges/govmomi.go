package judges

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Govc is the command line of govmomi, built by this module; program is its path.
func Govc(program string) []Judge {
	return []Judge{
		{
			Name: "govc", Question: "`vm.ip`",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				return waited(govc(ctx, program, m, "vm.ip", "-wait", patience.String(), m.Name))
			},
			Right: func(t Truth) []string { return one(t.first()) },
		},
		{
			Name: "govc", Question: "`vm.ip -a`, any order",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				answer, err := waited(govc(ctx, program, m, "vm.ip", "-a", "-wait", patience.String(), m.Name))
				if answer == Waits || err != nil {
					return answer, err
				}

				return sorted(strings.Split(answer, ",")), nil
			},
			Right: func(t Truth) []string {
				if !t.complete(anyone) {
					return one(Waits)
				}

				return one(sorted(t.all(anyone)))
			},
		},
		{
			Name: "govc", Question: "`vm.info`, the line \"IP address\"",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				text, err := govc(ctx, program, m, "vm.info", m.Name)
				if err != nil {
					return "", err
				}

				for line := range strings.Lines(text) {
					if address, ok := strings.CutPrefix(strings.TrimSpace(line), "IP address:"); ok {
						return dash(strings.TrimSpace(address)), nil
					}
				}

				return "", fmt.Errorf("no line \"IP address\" in %q", text)
			},
			Right: func(t Truth) []string { return one(dash(t.first())) },
		},
		{
			Name: "govc", Question: "`vm.info -json`, host name and adapters",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				text, err := govc(ctx, program, m, "vm.info", "-json", m.Name)
				if err != nil {
					return "", err
				}

				var info struct {
					VirtualMachines []struct {
						Guest types.GuestInfo `json:"guest"`
					} `json:"virtualMachines"`
				}

				if err := json.Unmarshal([]byte(text), &info); err != nil || len(info.VirtualMachines) != 1 {
					return "", fmt.Errorf("%w: %d machines", err, len(info.VirtualMachines))
				}

				guest := info.VirtualMachines[0].Guest
				answer := guest.HostName

				for _, nic := range guest.Net {
					answer += fmt.Sprintf(", %s:%d", shortMAC(nic.MacAddress), len(nic.IpAddress))
				}

				return answer, nil
			},
			Right: func(t Truth) []string { return one(t.Name + countByAdapter(t)) },
		},
	}
}

// countByAdapter gives the number of addresses behind the end of each MAC, in the order of the report: the adapter with the
// node's own address, others with addresses, those without.
func countByAdapter(t Truth) string {
	var own, with, without string

	for _, adapter := range t.Adapters {
		text := fmt.Sprintf(", %s:%d", shortMAC(adapter.MAC), len(adapter.Addresses))

		switch {
		case len(adapter.Addresses) == 0:
			without += text
		case slices.Contains(adapter.Addresses, t.Own()):
			own += text
		default:
			with += text
		}
	}

	return own + with + without
}

// shortMAC is the last byte, which tells the adapters of a machine apart.
func shortMAC(mac string) string { return mac[strings.LastIndex(mac, ":")+1:] }

func dash(text string) string {
	if text == "" {
		return "-"
	}

	return text
}

func govc(ctx context.Context, program string, m Machine, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = append(os.Environ(), "GOVC_URL="+m.Server.String(), "GOVC_INSECURE=true", "GOVC_PERSIST_SESSION=false")

	var said bytes.Buffer

	command.Stderr = &said

	answer, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %s", arguments, err, said.String())
	}

	return strings.TrimSpace(string(answer)), nil
}

// Govmomi are the waiters of the library.
func Govmomi() []Judge {
	return []Judge{
		{
			Name: "govmomi", Question: "`WaitForIP`",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()

				return waited(m.VM.WaitForIP(ctx))
			},
			Right: func(t Truth) []string { return one(t.first()) },
		},
		{
			Name: "govmomi", Question: "`WaitForNetIP`, IPv4, `ethernet-0`",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()

				found, err := m.VM.WaitForNetIP(ctx, true, "ethernet-0")
				if err != nil {
					return waited("", err)
				}

				var addresses []string
				for _, list := range found {
					addresses = append(addresses, list...)
				}

				return strings.Join(addresses, " "), nil
			},
			Right: func(t Truth) []string {
				// The addresses of the first virtual adapter, whatever stands first in the report.
				return one(strings.Join(Truth{Adapters: t.Adapters[:1]}.all(any4), " "))
			},
		},
	}
}
