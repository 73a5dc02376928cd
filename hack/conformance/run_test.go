package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"google.golang.org/grpc/codes"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

const (
	shutdownMethod = "/machine.MachineService/Shutdown"
	// adapterMAC is that of the adapter of running().
	adapterMAC = "00:50:56:ab:00:02"
)

// laboratory is the simulated VMware host of hack/lab, with the daemon as its guest. It is what sees the daemon's effect;
// what the daemon was told is still Talos's own code.
type laboratory struct {
	command *exec.Cmd
	said    logBuffer
	conn    net.Conn
	answers *bufio.Reader
}

func startLaboratory(ctx context.Context, directory, lab, daemon, socket string) (*laboratory, error) {
	control := filepath.Join(directory, "control.sock")
	l := &laboratory{}
	l.command = exec.CommandContext(ctx, lab, "vmx", "--limit", "2m", "--control", control, "--", daemon, "run")
	l.command.Env = append(os.Environ(), "VMTOOLSD_TALOS_SOCKET="+socket)
	l.command.Stdout = &l.said
	l.command.Stderr = &l.said
	l.command.Cancel = func() error { return l.command.Process.Signal(os.Interrupt) }
	l.command.WaitDelay = 10 * time.Second

	if err := l.command.Start(); err != nil {
		return nil, err
	}

	// The socket appears once the laboratory is ready.
	const attempts, between = 200, 50 * time.Millisecond

	var err error

	for range attempts {
		if l.conn, err = net.Dial("unix", control); err == nil {
			l.answers = bufio.NewReader(l.conn)

			return l, nil
		}

		time.Sleep(between)
	}

	return nil, fmt.Errorf("%w: %s", err, l.stop())
}

// do gives one line to the laboratory and fails where its answer is not that all is well.
func (l *laboratory) do(line string) error {
	if err := l.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}

	if _, err := fmt.Fprintln(l.conn, line); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}

	text, err := l.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}

	var answer struct {
		OK bool `json:"ok"`
	}

	if err := json.Unmarshal(text, &answer); err != nil || !answer.OK {
		return fmt.Errorf("%s: %s", line, bytes.TrimSpace(text))
	}

	return nil
}

// stop ends the laboratory and gives what it said.
func (l *laboratory) stop() string {
	l.command.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
	l.command.Wait()                       //nolint:errcheck // likewise

	return l.said.String()
}

// atWork has the daemon follow a running node as a service does, under the laboratory, while a check looks at both.
func atWork(t *testing.T, check func(*inspection, *laboratory) error) {
	t.Helper()

	atWorkAfter(t, func(*inspection) error { return nil }, check)
}

// atWorkAfter prepares the node before the daemon starts.
func atWorkAfter(t *testing.T, prepare func(*inspection) error, check func(*inspection, *laboratory) error) {
	t.Helper()

	daemon := theDaemon(t)

	lab := os.Getenv("TALOS_VMTOOLSD_LAB")
	if lab == "" {
		if os.Getenv("CONFORMANCE_REQUIRED") == "1" {
			t.Fatal("TALOS_VMTOOLSD_LAB does not name the laboratory, and CONFORMANCE_REQUIRED is set")
		}

		t.Skip("TALOS_VMTOOLSD_LAB does not name the laboratory")
	}

	_, types := permissions(t)
	lacking := len(types) - len(snapshot.Kinds())

	findings := inspect(t, daemon, func(i *inspection) error {
		if err := i.put(running()...); err != nil {
			return err
		}

		if err := prepare(i); err != nil {
			return err
		}

		l, err := startLaboratory(i.ctx, filepath.Dir(i.Socket), lab, daemon.program, i.Socket)
		if err != nil {
			return err
		}

		defer l.conn.Close() //nolint:errcheck

		// The daemon is a grandchild; machined would know it by the mount namespace as well.
		if err := i.Admit(i.ctx, service, l.command.Process.Pid); err != nil {
			return err
		}

		if err := l.lines(
			`expect running within 20s`,
			`expect hostname "talos-cp-1" within 20s`,
			`expect nic `+adapterMAC+` address 10.5.0.2/24 within 20s`,
		); err != nil {
			return fmt.Errorf("%w\n%s", err, l.stop())
		}

		// A type that this release does not have is one line.
		ctx, cancel := context.WithTimeout(i.ctx, recovery)
		defer cancel()

		l.said.await(ctx, func(text string) bool { return len(warnings(text)) >= lacking })

		if begun := warnings(l.said.String()); len(begun) != lacking {
			i.find("the daemon warned %d times at its start, not %d:\n%s", len(begun), lacking, strings.Join(begun, "\n"))
		}

		if err := check(i, l); err != nil {
			return fmt.Errorf("%w\n%s", err, l.stop())
		}

		facts, err := i.truth()
		if err != nil {
			return err
		}

		i.judgeCalls("run", facts)

		if err := l.do("signal TERM"); err != nil {
			return err
		}

		if err := l.command.Wait(); err != nil {
			i.find("the laboratory ended with %v:\n%s", err, l.said.String())
		}

		return nil
	})
	for _, finding := range findings {
		t.Error(finding)
	}
}

// TestRun has the daemon follow a node as a service does, and carry out a power command of the host.
func TestRun(t *testing.T) {
	t.Parallel()

	atWork(t, (*inspection).follow)
}

// follow changes the node and waits for each change at the host.
func (i *inspection) follow(l *laboratory) error {
	eth0 := adapter("eth0", 2)
	nic := "nic " + adapterMAC
	second := address(eth0, "10.5.0.77/24")

	if err := i.put(second, hostname("renamed", "example.org")); err != nil {
		return err
	}

	if err := l.lines(`expect `+nic+` address 10.5.0.77/24 within 5s`, `expect hostname "renamed" within 5s`); err != nil {
		return err
	}

	if err := i.remove(second); err != nil {
		return err
	}

	if err := l.do(`expect no ` + nic + ` address 10.5.0.77/24 within 5s`); err != nil {
		return err
	}

	// What changes while the socket is gone is found by comparison when it is back.
	if err := i.Kill(); err != nil {
		return err
	}

	if err := i.remove(address(eth0, "2001:db8::5/64")); err != nil {
		return err
	}

	if err := i.put(address(eth0, "10.5.0.88/24")); err != nil {
		return err
	}

	if err := i.Start(i.ctx); err != nil {
		return err
	}

	if err := l.lines(
		`expect `+nic+` address 10.5.0.88/24 within 20s`,
		`expect no `+nic+` address 2001:db8::5/64 within 5s`,
	); err != nil {
		return err
	}

	if err := i.overrun(l, eth0); err != nil {
		return err
	}

	if err := l.lines(
		`send "OS_Halt"`,
		`expect reply "OK " within 5s`,
		`expect rpci "tools.os.statechange.status 1" within 10s`,
	); err != nil {
		return err
	}

	isShutdown := func(c node.Call) bool { return c.Method == shutdownMethod }
	if _, err := i.Calls.Await(i.ctx, func(c node.Call) bool { return isShutdown(c) && c.Ended }); err != nil {
		return err
	}

	calls := slices.DeleteFunc(i.Calls.All(), func(c node.Call) bool { return !isShutdown(c) })
	for _, call := range calls {
		request, ok := call.Request.(*machine.ShutdownRequest)
		if !ok || request.GetForce() || call.Code != codes.OK {
			i.find("the shutdown was called as %+v", call)
		}
	}

	if len(calls) != 1 {
		i.find("the shutdown was called %d times", len(calls))
	}

	return nil
}

// overrun changes an address faster than a watch can tell, until Talos's state service gives up on the watch: it says so
// once and then nothing more, on a stream that stays open.
func (i *inspection) overrun(l *laboratory, link *network.LinkStatus) error {
	const rounds, changes = 20, 5000

	flapping := address(link, "10.5.0.99/24")

	for round := range rounds {
		for change := range uint32(changes) {
			flapping.TypedSpec().Flags = nethelpers.AddressFlags(permanent | change<<16)

			if err := i.put(flapping); err != nil {
				return err
			}
		}

		last := fmt.Sprintf("10.5.1.%d/24", round)
		if err := i.put(address(link, last)); err != nil {
			return err
		}

		if err := l.do(`expect nic ` + adapterMAC + ` address ` + last + ` within 20s`); err != nil {
			return err
		}

		if slices.ContainsFunc(i.Calls.All(), func(c node.Call) bool { return c.Overruns > 0 }) {
			return nil
		}
	}

	return fmt.Errorf("%d changes in a row overran no watch", rounds*changes)
}

func (l *laboratory) lines(lines ...string) error {
	for _, line := range lines {
		if err := l.do(strings.TrimSpace(line)); err != nil {
			return err
		}
	}

	return nil
}
