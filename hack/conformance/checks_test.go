package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
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
	{"stacked links", checkStacked},
	{"a random walk", checkWalk},
	{"going away", checkGoingAway},
	{"a busy node", checkBusy},
	{"started before the node", checkStartedFirst},
	{"restarted during the look", checkRestart},
	{"refused at first", checkRefusedFirst},
	{"types that are not served", checkUnsupported},
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
		step{"another subnet of the kubelet", func() error { return i.put(nodeIPs(k8s.KubeletID, "172.20.0.2")) }},
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
		step{"a disk more, and one that has grown", func() error {
			return i.put(disk("sdb", 4*gigabyte), disk("sda", 80*gigabyte),
				partition("sda", "sda6", "EPHEMERAL", "xfs", 6, 70*gigabyte))
		}},
		step{"a volume fails, one is new, one has no place", func() error {
			return i.put(volume("EPHEMERAL", block.VolumePhaseFailed, "", "/var"),
				volume("u-data", block.VolumePhaseReady, "/dev/sdb1", "/var/mnt/data"),
				mount("u-data", "/dev/sdb1", ""))
		}},
		step{"a mount is read-only, and one gone", func() error {
			return errors.Join(i.put(runtimeMount("STATE", "/dev/sda5", "/system/state", "ro", "noatime")),
				i.remove(mount("u-data", "", "")))
		}},
		step{"cordoned and not ready", func() error { return i.put(kubernetesNode("talos-cp-1", false, true)) }},
		step{"another name in Kubernetes", func() error {
			return i.put(nodename("cp-1"), kubernetesNode("cp-1", true, false))
		}},
		step{"a worker, in a cluster without a name", func() error {
			return i.put(machineType(machinetype.TypeWorker), clusterInfo(""))
		}},
		step{"other extensions", func() error {
			return errors.Join(i.put(extensionStatus("0", "talos-vmtoolsd", "0.2.0")), i.remove(extensionStatus("1", "", "")))
		}},
		step{"another boot of another image", func() error {
			return i.put(newIdentity("4f1c9d0e-0000-4000-8000-000000000002", "000000000000")...)
		}},
		step{"another layer asks for the address", func() error {
			return errors.Join(i.put(addressSpec("configuration", "eth0", "10.5.0.2/24")),
				i.remove(addressSpec("dhcp4", "eth0", "10.5.0.2/24")))
		}},
		step{"secure boot is off", func() error { return i.put(securityState(false)) }},
		step{"disks less", func() error {
			return i.remove(disk("sdb", 0), cdrom(), partition("sda", "sda1", "", "", 0, 0),
				volume("STATE", 0, "", ""), mount("EPHEMERAL", "", ""), runtimeMount("STATE", "", ""))
		}},
		step{"nobody any more", func() error { return i.remove(identityNow()...) }},
		step{"no name", func() error { return i.remove(hostname("", "")) }},
		step{"no node address", func() error { return i.remove(nodeAddresses(network.NodeAddressDefaultID)) }},
		step{"no kubelet", func() error { return i.remove(nodeIPs(k8s.KubeletID)) }},
		step{"shutting down", func() error { return i.put(machineStatus(runtime.MachineStageShuttingDown)) }},
	)
}

// identityNow are the ids that checkChanges leaves of identity().
func identityNow() []resource.Resource {
	return append([]resource.Resource{
		machineType(machinetype.TypeUnknown), nodename(""), clusterInfo(""), extensionStatus("0", "", ""),
		kubernetesNode("cp-1", false, false), kubernetesNode("talos-cp-1", false, false),
		addressSpec("vip", "eth0", "10.5.0.100/32"),
	}, newIdentity("", "")...)
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

// routedNoK8s is the list of node addresses that the daemon reads beside the default one.
var routedNoK8s = network.FilteredNodeAddressID(network.NodeAddressRoutedID, "no-k8s")

// somethingOf is a resource that a node with these links may have.
func somethingOf(random *rand.Rand, links []*network.LinkStatus) resource.Resource {
	link := links[random.IntN(len(links))]
	host := netip.AddrFrom4([4]byte{10, 0, byte(link.TypedSpec().Index), byte(random.IntN(4))})

	switch random.IntN(9) {
	case 6:
		return disk([]string{"sda", "sdb"}[random.IntN(2)], random.Uint64())
	case 7:
		phase := block.VolumePhase(random.IntN(12))

		return volume([]string{"STATE", "EPHEMERAL"}[random.IntN(2)], phase, "/dev/sda6", "/var")
	case 8:
		return kubernetesNode("talos-cp-1", random.IntN(2) == 0, random.IntN(2) == 0)
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
		return nodeAddresses([]string{"default", "current", routedNoK8s}[random.IntN(3)], host.String()+"/24", "2001:db8::1/64")
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
		nodeAddresses(routedNoK8s), nodeIPs(k8s.KubeletID),
		disk("sda", 0), mount("EPHEMERAL", "", ""), kubernetesNode("talos-cp-1", false, false),
		machineType(machinetype.TypeUnknown), nodename(""), extensionStatus("1", "", ""),
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

	if err := i.put(
		hostname("after", "example.org"), address(adapter("eth0", 2), "10.5.0.99/24"),
		disk("sdb", gigabyte), volume("EPHEMERAL", block.VolumePhaseClosed, "", ""), kubernetesNode("talos-cp-1", true, true),
	); err != nil {
		return err
	}

	if err := i.remove(mount("EPHEMERAL", "", ""), extensionStatus("1", "", "")); err != nil {
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

// checkUnsupported takes one type after the other away, as an older release lacks it. Its fact is unknown then, and no
// other. Every release has links, and without them nothing can be asked about.
func checkUnsupported(i *inspection) error {
	if err := i.put(running()...); err != nil {
		return err
	}

	var gone []snapshot.Kind

	for _, kind := range snapshot.Kinds() {
		if kind.Type == network.LinkStatusType {
			continue
		}

		gone = append(gone, kind)

		if err := i.Forget(i.ctx, kind.Type); err != nil {
			return err
		}

		l, err := i.begin()
		if err != nil {
			return err
		}

		if err := i.Admit(i.ctx, service, l.pid()); err != nil {
			return err
		}

		if err := i.judge("without "+kind.Type, l, func() (snapshot.Snapshot, error) {
			facts, err := i.truth()

			for _, kind := range gone {
				kind.Forget(&facts)
			}

			return facts, err
		}); err != nil {
			return err
		}
	}

	return nil
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
