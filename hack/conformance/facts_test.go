package conformance

import (
	"fmt"
	"testing"

	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
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

// variables waits for the state of Talos at the host.
func (l *laboratory) variables(want map[string]string) error {
	for key, value := range want {
		if err := l.do(fmt.Sprintf("expect variable guestinfo.talos.%s = %q within 10s", key, value)); err != nil {
			return err
		}
	}

	return nil
}
