package conformance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc/codes"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

// check is one thing that a subject has to get right. Its error is a failure of the check itself.
type check struct {
	name string
	run  func(*inspection) error
}

// checks are all of them that this release can be asked for.
var checks = append([]check{
	{"an empty node", func(i *inspection) error { return i.agrees("empty") }},
	{"a running node", checkRunning},
	{"additions, changes, removals", checkChanges},
	{"a random walk", checkWalk},
	{"going away", checkGoingAway},
	{"a busy node", checkBusy},
	{"started before the node", checkStartedFirst},
	{"restarted during the look", checkRestart},
	{"refused at first", checkRefusedFirst},
	{"a type that is not served", checkUnsupported},
	{"a node that is gone", checkOutage},
}, peerChecks()...)

func peerChecks() []check {
	if !node.ChecksPeer {
		return nil
	}

	return []check{
		{"an unknown process", checkUnknownProcess},
		{"a process recorded late", checkRecordedLate},
	}
}

func checkRunning(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	return i.agrees("running")
}

// step is a change of the node after which the subject must agree again.
type step struct {
	name   string
	change func() error
}

func (i *inspection) steps(steps ...step) error {
	for _, step := range steps {
		if err := step.change(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}

		if err := i.agrees(step.name); err != nil {
			return err
		}
	}

	return nil
}

func checkChanges(i *inspection) error {
	eth0, eth1 := adapter("eth0", 2), adapter("eth1", 3)
	down := adapter("eth0", 2)
	down.TypedSpec().OperationalState = 2
	down.TypedSpec().LinkState = false
	down.TypedSpec().Flags = 0x1003

	tentative := address(eth0, "2001:db8::6/64")
	tentative.TypedSpec().Flags = 0x40

	return i.steps(
		step{"in maintenance", func() error {
			return i.put(loopback(), eth0, machineStatus(runtime.MachineStageMaintenance), securityState(false))
		}},
		step{"configured", func() error { return i.put(running()...) }},
		step{"an adapter more", func() error {
			return i.put(eth1, address(eth1, "192.0.2.7/25"), address(eth1, "fe80::250:56ff:feab:3/64"),
				route("inet4/192.0.2.1/198.51.100.0/24/2048", eth1, "198.51.100.0/24", "192.0.2.1"))
		}},
		step{"a tentative address", func() error { return i.put(tentative) }},
		step{"the address is usable", func() error { return i.put(address(eth0, "2001:db8::6/64")) }},
		step{"another name and no domain", func() error { return i.put(hostname("worker-1", "")) }},
		step{"other resolvers", func() error { return i.put(resolvers("192.0.2.53")) }},
		step{"no cable", func() error { return i.put(down) }},
		step{"not ready", func() error {
			return i.put(machineStatus(runtime.MachineStageBooting,
				runtime.UnmetCondition{Name: "nodeReady", Reason: "node is not ready"},
				runtime.UnmetCondition{Name: "time", Reason: "time is not in sync"}))
		}},
		step{"an address less", func() error { return i.remove(tentative) }},
		step{"a route less", func() error { return i.remove(route("inet6/fe80::1//1024", eth0, "", "")) }},
		step{"an adapter less", func() error {
			return i.remove(eth1, address(eth1, "192.0.2.7/25"), address(eth1, "fe80::250:56ff:feab:3/64"),
				route("inet4/192.0.2.1/198.51.100.0/24/2048", eth1, "198.51.100.0/24", "192.0.2.1"))
		}},
		step{"no name", func() error { return i.remove(hostname("", "")) }},
		step{"no node address", func() error { return i.remove(nodeAddresses(network.NodeAddressDefaultID)) }},
		step{"shutting down", func() error { return i.put(machineStatus(runtime.MachineStageShuttingDown)) }},
	)
}

// checkWalk adds, changes and removes at random.
func checkWalk(i *inspection) error {
	const (
		looks   = 8
		between = 12
	)

	random := rand.New(rand.NewPCG(seed(), 1))
	links := []*network.LinkStatus{
		adapter("eth0", 2), adapter("eth1", 3), adapter("ens192.1", 4), virtual("veth0", 20, "veth"),
	}
	present := make(map[string]resource.Resource)

	for n := range looks {
		for range between {
			r := somethingOf(random, links)
			key := resource.String(r)

			if _, exists := present[key]; exists && random.IntN(3) == 0 {
				delete(present, key)

				if err := i.remove(r); err != nil {
					return err
				}

				continue
			}

			present[key] = r

			if err := i.put(r); err != nil {
				return err
			}
		}

		if err := i.agrees(fmt.Sprintf("seed %d, look %d", seed(), n)); err != nil {
			return err
		}
	}

	return nil
}

// somethingOf is a resource that a node with these links may have.
func somethingOf(random *rand.Rand, links []*network.LinkStatus) resource.Resource {
	link := links[random.IntN(len(links))]
	host := netip.AddrFrom4([4]byte{10, 0, byte(link.TypedSpec().Index), byte(random.IntN(4))})

	switch random.IntN(6) {
	case 0:
		status := link.DeepCopy().(*network.LinkStatus) //nolint:forcetypeassert
		status.TypedSpec().MTU = uint32(1280 + random.IntN(3))

		return status
	case 1, 2:
		status := address(link, netip.PrefixFrom(host, 24).String())
		status.TypedSpec().Flags += 0x20 * 1 << random.IntN(2)

		return status
	case 3:
		gateway := host.String()

		return route("inet4/"+gateway+"//1024", link, "", gateway)
	case 4:
		return nodeAddresses([]string{"default", "current", "routed"}[random.IntN(3)], host.String()+"/24", "2001:db8::1/64")
	default:
		return hostname(fmt.Sprintf("node-%d", random.IntN(9)), []string{"", "example.org"}[random.IntN(2)])
	}
}

// checkGoingAway has resources that exist only because somebody has not let go of them yet.
func checkGoingAway(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	eth0 := adapter("eth0", 2)

	for _, r := range []resource.Resource{
		address(eth0, "2001:db8::5/64"),
		route("inet6/fe80::1//1024", eth0, "", ""),
		nodeAddresses(network.NodeAddressRoutedID),
	} {
		if err := i.Condemn(i.ctx, r); err != nil {
			return err
		}
	}

	return i.agrees("going away")
}

// checkBusy has the links and addresses of a node with many pods.
func checkBusy(i *inspection) error {
	const pods = 3000

	if err := i.put(running()...); err != nil {
		return err
	}

	for n := range uint32(pods) {
		pod := virtual(fmt.Sprintf("lxc%04x", n), 100+n, "veth")

		host := netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}).String()
		if err := i.put(pod, address(pod, host+"/32"), route("inet4//"+host+"/32/0", pod, host+"/32", "")); err != nil {
			return err
		}
	}

	return i.agrees("busy")
}

func checkStartedFirst(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	if err := i.Stop(); err != nil {
		return err
	}

	l, err := i.begin()
	if err != nil {
		return err
	}

	if err := i.Admit(i.ctx, service, l.pid()); err != nil {
		return err
	}

	if err := i.Start(i.ctx); err != nil {
		return err
	}

	return i.judge("started first", l, i.truth)
}

// checkRestart takes the socket away under a subject that is looking, and changes the node before it is back.
func checkRestart(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	// The look cannot end before the restart: no watch is answered.
	i.Calls.Fail(watchMethod, slices.Repeat([]codes.Code{codes.Unavailable}, 1000)...)

	l, err := i.begin()
	if err != nil {
		return err
	}

	if err := i.Admit(i.ctx, service, l.pid()); err != nil {
		return err
	}

	if _, err := i.Calls.Await(i.ctx, func(c node.Call) bool { return c.Method == watchMethod }); err != nil {
		return err
	}

	if err := i.Kill(); err != nil {
		return err
	}

	i.Calls.Reset()

	if err := i.put(hostname("after", "example.org"), address(adapter("eth0", 2), "10.5.0.99/24")); err != nil {
		return err
	}

	if err := i.Start(i.ctx); err != nil {
		return err
	}

	return i.judge("restarted", l, i.truth)
}

// checkRefusedFirst fails the first calls in the ways of a machined that is coming up or going down.
func checkRefusedFirst(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	i.Calls.Fail(versionMethod, codes.Unavailable, codes.Unknown)
	i.Calls.Fail(watchMethod, codes.Unavailable, codes.Unknown)

	return i.agrees("refused at first")
}

// checkUnsupported takes a type away, as an older release lacks it. That fact is unknown, and no other.
func checkUnsupported(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	if err := i.Forget(i.ctx, runtime.SecurityStateType); err != nil {
		return err
	}

	l, err := i.begin()
	if err != nil {
		return err
	}

	if err := i.Admit(i.ctx, service, l.pid()); err != nil {
		return err
	}

	return i.judge("not served", l, func() (snapshot.Snapshot, error) {
		facts, err := i.truth()
		facts.Security = snapshot.Unknown().Security

		return facts, err
	})
}

// checkOutage has a subject before a node that never comes. It must end, and know nothing.
func checkOutage(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	if err := i.Stop(); err != nil {
		return err
	}

	return i.knowsNothing("gone")
}

// checkUnknownProcess lets machined have started another process than the subject. Without root the subject shares the
// mount namespace of every other process, so that it would be known by that; then no process is known.
func checkUnknownProcess(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	if os.Geteuid() == 0 {
		if err := i.Admit(i.ctx, service, os.Getpid()); err != nil {
			return err
		}
	}

	return i.knowsNothing("an unknown process")
}

// knowsNothing lets a subject look that cannot learn anything.
func (i *inspection) knowsNothing(moment string) error {
	l, err := i.begin()
	if err != nil {
		return err
	}

	output, err := l.finish()
	if err != nil {
		i.find("%s: the subject was killed: %v", moment, err)

		return nil
	}

	if len(output) == 0 && l.complaint.Len() > 0 {
		return nil
	}

	// What the daemon must not invent is any fact at all.
	if !json.Valid(output) {
		i.find("%s: the subject says %q", moment, output)

		return nil
	}

	difference, err := snapshot.Diff(snapshot.Unknown(), output)
	if err != nil || difference != "" {
		i.find("%s: the subject knows what nobody told it (%v):\n%s", moment, err, difference)
	}

	return nil
}

// checkRecordedLate lets the subject call before machined has recorded its process, as a service that starts fast does.
func checkRecordedLate(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	l, err := i.begin()
	if err != nil {
		return err
	}

	if _, err := i.Calls.Await(i.ctx, func(c node.Call) bool { return c.Method == versionMethod }); err != nil {
		return err
	}

	if err := i.Admit(i.ctx, service, l.pid()); err != nil {
		return err
	}

	return i.judge("recorded late", l, i.truth)
}
