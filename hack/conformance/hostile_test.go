package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

const (
	// recovery is how long the daemon may take to be right again, with room for a busy machine: it is to be 5 s.
	recovery = 10 * time.Second
	// huge is the length of a message that no client should take.
	huge = 200 << 20
	// mostResident is what the daemon may hold at its peak, in KiB. Idle it holds 6 MiB.
	mostResident = 16 << 10
)

// hostileEvent is an event about a resource, with a spec of the test's own.
func hostileEvent(kind v1alpha1.EventType, of, id string, spec []byte) *v1alpha1.Event {
	return &v1alpha1.Event{
		EventType: kind,
		Resource: &v1alpha1.Resource{
			Metadata: &v1alpha1.Metadata{
				Namespace: network.NamespaceName, Type: of, Id: id, Version: "7", Phase: "running",
			},
			Spec: &v1alpha1.Spec{ProtoSpec: spec},
		},
	}
}

func message(events ...*v1alpha1.Event) *v1alpha1.WatchResponse {
	return &v1alpha1.WatchResponse{Event: events}
}

// hostility is what a node does that is not right, on an open watch of a type.
type hostility struct {
	name string
	kind string
	say  *v1alpha1.WatchResponse
	// warning is the one line that it is worth, or nothing.
	warning string
}

func hostilities() []hostility {
	const (
		created, updated   = v1alpha1.EventType_CREATED, v1alpha1.EventType_UPDATED
		destroyed, errored = v1alpha1.EventType_DESTROYED, v1alpha1.EventType_ERRORED
		bootstrapped       = v1alpha1.EventType_BOOTSTRAPPED
		later              = v1alpha1.EventType(99)
		names, addresses   = network.HostnameStatusType, network.AddressStatusType
		links              = network.LinkStatusType
		other              = "eth0/10.5.0.55/24"
	)

	var (
		// The beginning of a LinkStatus, whose first field is a number where a name has its text.
		link = []byte{0x08, 0x02, 0x10, 0x01}
		// A name that is no UTF-8.
		binary = []byte{0x0a, 0x02, 0xff, 0xfe}
		// An address that ends in its length.
		cut = []byte{0x0a, 0x08, 0x0a, 0x04, 0x0a}
	)

	return []hostility{
		{
			"a spec of another type, twice", names,
			message(hostileEvent(updated, names, network.HostnameID, link), hostileEvent(updated, names, network.HostnameID, link)),
			"a resource cannot be read",
		},
		{"a name that is no text", names, message(hostileEvent(created, names, network.HostnameID, binary)), ""},
		{
			"an address that is cut", addresses,
			message(hostileEvent(updated, addresses, "eth0/10.5.0.2/24", cut)), "a resource cannot be read",
		},
		{
			"a resource of another type", names,
			message(hostileEvent(updated, links, network.HostnameID, link), hostileEvent(destroyed, links, network.HostnameID, nil)),
			"",
		},
		{"a resource of another id", names, message(hostileEvent(destroyed, names, "other", nil)), ""},
		{
			"events out of order", addresses,
			message(
				hostileEvent(destroyed, addresses, other, nil), &v1alpha1.Event{EventType: bootstrapped},
				hostileEvent(later, addresses, "eth0/10.5.0.2/24", nil), &v1alpha1.Event{EventType: bootstrapped},
				&v1alpha1.Event{EventType: destroyed}, &v1alpha1.Event{EventType: created}, &v1alpha1.Event{},
			),
			"",
		},
		{
			"an error on a watch that stays open", addresses,
			message(&v1alpha1.Event{EventType: errored, Error: strptr("buffer overrun")}), "a watch failed",
		},
		{
			"200 MiB in one message", links,
			message(hostileEvent(updated, links, "eth0", make([]byte, huge))), "a watch failed",
		},
	}
}

func strptr(text string) *string { return &text }

// TestHostile has a node say what is not right. What was known before must stay, one line must say so, and what happens
// then must be seen again in time.
func TestHostile(t *testing.T) {
	t.Parallel()

	atWork(t, func(i *inspection, l *laboratory) error {
		for n, hostility := range hostilities() {
			before := len(l.said.String())
			subscribed := i.subscriptions(hostility.kind)

			if err := i.Calls.Say(hostility.kind, hostility.say); err != nil {
				return fmt.Errorf("%s: %w", hostility.name, err)
			}

			if hostility.warning == "a watch failed" {
				if err := i.awaitWatch(hostility.kind, subscribed); err != nil {
					return fmt.Errorf("%s: %w", hostility.name, err)
				}
			}

			if err := i.seesWhatFollows(l, n); err != nil {
				return fmt.Errorf("after %s: %w", hostility.name, err)
			}

			i.expectWarnings(hostility.name, l, before, hostility.warning)
		}

		i.judgeMemory(l)

		return nil
	})
}

// TestStreamCodes ends a stream of a type each with each of gRPC's codes.
func TestStreamCodes(t *testing.T) {
	t.Parallel()

	atWork(t, func(i *inspection, l *laboratory) error {
		kinds := snapshot.Kinds()

		for code := codes.OK; code <= codes.Unauthenticated; code++ {
			kind := kinds[int(code)].Type
			before := len(l.said.String())
			subscribed := i.subscriptions(kind)

			if err := i.Calls.End(kind, code); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}

			// What is not implemented will not be, before there is another Talos.
			if code != codes.Unimplemented {
				if err := i.awaitWatch(kind, subscribed); err != nil {
					return fmt.Errorf("%s ended with %v: %w", kind, code, err)
				}
			}

			if err := i.seesWhatFollows(l, int(code)); err != nil {
				return fmt.Errorf("after %v: %w", code, err)
			}

			warning := "a watch failed"
			if code == codes.Unimplemented {
				warning = "Talos does not serve this"
			}

			i.expectWarnings(code.String(), l, before, warning)
		}

		refused := kinds[int(codes.Unimplemented)].Type
		subscribed := i.subscriptions(refused)

		if err := i.Kill(); err != nil {
			return err
		}

		if err := i.Start(i.ctx); err != nil {
			return err
		}

		if err := i.awaitWatch(refused, subscribed); err != nil {
			return fmt.Errorf("%s with the next connection: %w", refused, err)
		}

		return i.seesWhatFollows(l, int(codes.Unauthenticated)+1)
	})
}

// TestSentAway has a node that ends every connection after a second, by GOAWAY and then for good.
func TestSentAway(t *testing.T) {
	t.Parallel()

	atWork(t, func(i *inspection, l *laboratory) error {
		const connections = 2

		if err := i.Kill(); err != nil {
			return err
		}

		i.Extra = []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: time.Second, MaxConnectionAgeGrace: time.Second / 2,
		})}

		if err := i.Start(i.ctx); err != nil {
			return err
		}

		for n := range connections {
			if err := i.awaitWatch(network.LinkStatusType, i.subscriptions(network.LinkStatusType)); err != nil {
				return fmt.Errorf("sent away %d times: %w", n, err)
			}
		}

		return i.seesWhatFollows(l, 0)
	})
}

// TestHugeReply has a node that comes back and tells its release in 200 MiB. The daemon asks again until it is told well.
func TestHugeReply(t *testing.T) {
	t.Parallel()

	atWork(t, func(i *inspection, l *laboratory) error {
		before := len(l.said.String())

		if err := i.Kill(); err != nil {
			return err
		}

		asked := i.versions()
		tag := i.Machine.SetTag(strings.Repeat("v", huge))

		if err := i.Start(i.ctx); err != nil {
			return err
		}

		if _, err := i.Calls.Await(i.ctx, func(node.Call) bool { return i.versions() > asked+1 }); err != nil {
			return err
		}

		if err := l.do(`expect hostname "talos-cp-1" within 1s`); err != nil {
			return err
		}

		i.Machine.SetTag(tag)

		if err := i.seesWhatFollows(l, 0); err != nil {
			return err
		}

		i.expectWarnings("told its release in 200 MiB", l, before, "Talos does not answer")
		i.judgeMemory(l)

		return nil
	})
}

// subscriptions is how often a type has been watched so far.
func (i *inspection) subscriptions(kind string) int {
	count := 0

	for _, call := range i.Calls.All() {
		if request, ok := call.Request.(*v1alpha1.WatchRequest); ok && request.GetType() == kind {
			count++
		}
	}

	return count
}

func (i *inspection) versions() int {
	count := 0

	for _, call := range i.Calls.All() {
		if call.Method == versionMethod && call.Ended {
			count++
		}
	}

	return count
}

// awaitWatch waits until a type is watched once more.
func (i *inspection) awaitWatch(kind string, before int) error {
	begun := time.Now()

	if _, err := i.Calls.Await(i.ctx, func(node.Call) bool { return i.subscriptions(kind) > before }); err != nil {
		return err
	}

	if waited := time.Since(begun); waited > recovery {
		i.find("%s was watched again after %s", kind, waited)
	}

	return nil
}

// seesWhatFollows changes the name and an address, waits for both at the host, and finds there what was known before.
func (i *inspection) seesWhatFollows(l *laboratory, n int) error {
	fresh := address(adapter("eth0", 2), fmt.Sprintf("10.5.7.%d/24", n+1))
	name := fmt.Sprintf("conformance-%d", n)

	if err := i.put(fresh, hostname(name, "example.org")); err != nil {
		return err
	}

	within := strconv.Itoa(int(recovery/time.Second)) + "s"

	return l.lines(
		`expect nic `+adapterMAC+` address `+fresh.TypedSpec().Address.String()+` within `+within,
		`expect hostname "`+name+`" within `+within,
		`expect nic `+adapterMAC+` address 10.5.0.2/24 within 1s`,
		`expect nic `+adapterMAC+` address 2001:db8::5/64 within 1s`,
		`expect no nic `+adapterMAC+` address 10.5.0.55/24 within 1s`,
	)
}

// expectWarnings wants one line of a text after an offset, or none.
func (i *inspection) expectWarnings(moment string, l *laboratory, after int, want string) {
	if want != "" {
		ctx, cancel := context.WithTimeout(i.ctx, recovery)
		defer cancel()

		// Lines are written by a thread of their own.
		l.said.await(ctx, func(text string) bool { return len(warnings(text[after:])) > 0 })
	}

	got := warnings(l.said.String()[after:])
	if want == "" && len(got) == 0 || want != "" && len(got) == 1 && strings.Contains(got[0], want) {
		return
	}

	i.find("%s: the daemon warned %d times, wanted is %q:\n%s", moment, len(got), want, strings.Join(got, "\n"))
}

// warnings are the daemon's lines of that level and above.
func warnings(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return !strings.Contains(line, `"level":"warn"`) && !strings.Contains(line, `"level":"error"`)
	})
}

// judgeMemory looks at the peak of every process below the laboratory.
func (i *inspection) judgeMemory(l *laboratory) {
	seen := 0

	for _, pid := range below(l.command.Process.Pid) {
		status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err != nil {
			continue // it has ended
		}

		for _, line := range strings.Split(string(status), "\n") {
			value, ok := strings.CutPrefix(line, "VmHWM:")
			if !ok {
				continue
			}

			seen++

			peak, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
			if err != nil || peak > mostResident {
				i.find("process %s held %s at its peak, more than %d kB", pid, strings.TrimSpace(value), mostResident)
			}
		}
	}

	if seen == 0 {
		i.find("no process of the daemon was found")
	}
}

// below are the children of a process, and theirs.
func below(pid int) []string {
	var all []string

	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}

		for _, child := range strings.Fields(string(children)) {
			if number, err := strconv.Atoi(child); err == nil {
				all = append(append(all, child), below(number)...)
			}
		}
	}

	return all
}
