package conformance

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
)

// TestFacts has the host see what Talos says of the node beside its network, as it changes, and keep what Talos ceases to
// say: a fact that was known becomes stale, never unknown.
func TestFacts(t *testing.T) {
	t.Parallel()

	atWork(t, func(i *inspection, l *laboratory) error {
		facts, err := i.truth()
		if err != nil {
			return err
		}

		schematic := "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
		if facts.Schematic.Value != nil {
			schematic = facts.Schematic.Value.ID
		}

		if err := l.variables(map[string]string{
			"version":      facts.Version.Value.Tag,
			"stage":        "running",
			"ready":        "true",
			"machine-type": "controlplane",
			"node-name":    "talos-cp-1",
			"node-ready":   "true",
			"cluster-name": "prod",
			"schematic-id": schematic,
			"boot-id":      *facts.BootID.Value,
		}); err != nil {
			return err
		}

		// The publisher writes twenty-two of these at once, and then six a minute.
		if err := i.put(
			machineStatus(runtime.MachineStageShuttingDown, runtime.UnmetCondition{Name: "time", Reason: "not in sync"}),
			machineType(machinetype.TypeWorker), clusterInfo("staging"), kubernetesNode("talos-cp-1", false, true),
		); err != nil {
			return err
		}

		changed := map[string]string{
			"stage":            "shutting down",
			"ready":            "false",
			"unmet-conditions": "time: not in sync",
			"machine-type":     "worker",
			"cluster-name":     "staging",
			"node-ready":       "false",
		}
		if err := l.variables(changed); err != nil {
			return err
		}

		if err := i.remove(
			machineStatus(0), machineType(0), clusterInfo(""), nodename(""), kubernetesNode("talos-cp-1", false, false),
		); err != nil {
			return err
		}

		if err := i.seesWhatFollows(l, 0); err != nil {
			return fmt.Errorf("after the removal: %w", err)
		}

		// Of Kubernetes' nodes there is a set, which is known to be empty now.
		changed["node-ready"] = ""
		changed["node-name"] = "talos-cp-1"
		if err := l.variables(changed); err != nil {
			return fmt.Errorf("after the removal: %w", err)
		}

		// A node that is there again and does not say it either is no reason to forget it.
		if err := i.Kill(); err != nil {
			return err
		}

		if err := i.Start(i.ctx); err != nil {
			return err
		}

		if err := i.seesWhatFollows(l, 1); err != nil {
			return fmt.Errorf("after a restart: %w", err)
		}

		if err := l.variables(changed); err != nil {
			return fmt.Errorf("after a restart: %w", err)
		}

		return nil
	})
}

// TestDisks has the host see the free space of what Talos mounted, and of nothing else, as volumes and mounts change.
func TestDisks(t *testing.T) {
	t.Parallel()

	filesystems := func(i *inspection) error {
		i.Machine.SetFilesystems(
			node.Filesystem{Source: "none", Target: "/", Size: gigabyte, Available: 0},
			node.Filesystem{Source: "/dev/sda6", Target: "/var", Size: 40 * gigabyte, Available: 30 * gigabyte},
			node.Filesystem{Source: "/dev/sda6", Target: "/var/lib/kubelet/pods/1", Size: 40 * gigabyte, Available: 30 * gigabyte},
			node.Filesystem{Source: "/dev/sdb1", Target: "/var/mnt/data", Size: 4 * gigabyte, Available: 1 * gigabyte},
			node.Filesystem{Source: "overlay", Target: "/opt", Size: 40 * gigabyte, Available: 30 * gigabyte},
			node.Filesystem{Source: "tmpfs", Target: "/run", Size: gigabyte, Available: gigabyte},
		)

		return nil
	}

	atWorkAfter(t, filesystems, func(i *inspection, l *laboratory) error {
		ephemeral := shown("/var", 30*gigabyte, 40*gigabyte)
		if err := l.disks(ephemeral); err != nil {
			return err
		}

		if err := i.put(mount("u-data", "/dev/sdb1", "/var/mnt/data")); err != nil {
			return err
		}

		if err := l.disks(ephemeral, shown("/var/mnt/data", 1*gigabyte, 4*gigabyte)); err != nil {
			return err
		}

		if err := i.remove(mount("EPHEMERAL", "", ""), volume("EPHEMERAL", 0, "", "")); err != nil {
			return err
		}

		return l.disks(shown("/var/mnt/data", 1*gigabyte, 4*gigabyte))
	})
}

// shown is a filesystem as the host is told of it.
func shown(target string, free, size uint64) string {
	name := base64.StdEncoding.EncodeToString([]byte(target))

	return fmt.Sprintf(`{"name":"%s","free":"%d","size":"%d","fstype":"xfs"}`, name, free, size)
}

// disks waits until the host is told of these filesystems and no other.
func (l *laboratory) disks(all ...string) error {
	text := "SetGuestDiskInfo {\n\"version\":\"1\",\n\"disks\":[\n" + strings.Join(all, ",\n") + "\n]}"

	return l.do("expect rpci " + strconv.Quote(text) + " within 10s")
}

// variables waits for the state of Talos at the host.
func (l *laboratory) variables(want map[string]string) error {
	for key, value := range want {
		if err := l.do(fmt.Sprintf("expect variable guestinfo.talos.%s = %q within 10s", key, value)); err != nil {
			return err
		}
	}

	return nil
}
