// Package conformance judges talos-vmtoolsd by Talos's own code, one release at a time: see README.md.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/reference"
)

// referenceVariable makes this program the reference client, with the fault that it names.
const referenceVariable = "CONFORMANCE_REFERENCE"

// architecture is what Talos calls this machine's.
const architecture = runtime.GOARCH

func TestMain(m *testing.M) {
	if fault, ok := os.LookupEnv(referenceVariable); ok {
		os.Exit(beReference(reference.Fault(fault)))
	}

	os.Exit(m.Run())
}

// beReference is `query --json` of the reference client.
func beReference(fault reference.Fault) int {
	ctx, cancel := context.WithTimeout(context.Background(), outage)
	defer cancel()

	facts, err := reference.Query(ctx, os.Getenv("VMTOOLSD_TALOS_SOCKET"), fault)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}

	if err := json.NewEncoder(os.Stdout).Encode(facts); err != nil {
		return 2
	}

	if err != nil {
		return 1
	}

	return 0
}

// TestReference lets the reference pass every check: they ask for nothing that cannot be done.
func TestReference(t *testing.T) {
	t.Parallel()

	everyCheck(t, theReference(reference.None))
}

// TestDaemon is what all of this is for.
func TestDaemon(t *testing.T) {
	t.Parallel()

	everyCheck(t, theDaemon(t))
}

func everyCheck(t *testing.T, s subject) {
	t.Helper()

	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()

			for _, finding := range inspect(t, s, check.run) {
				t.Error(finding)
			}
		})
	}
}

// TestFaults lets a reference with a fault fail: the checks see what they are there for.
func TestFaults(t *testing.T) {
	t.Parallel()

	seenBy := map[reference.Fault]string{
		reference.StrongRole:   "a running node",
		reference.JoinedRoles:  "a running node",
		reference.AllAddresses: "a busy node",
		reference.KeepsGoing:   "going away",
		reference.NoRoutes:     "a running node",
		reference.NoVolumes:    "additions, changes, removals",
		reference.OnlyAdapters: "stacked links",
		reference.GivesUp:      "refused at first",
	}

	for _, fault := range reference.Faults {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()

			for _, check := range checks {
				if check.name == seenBy[fault] {
					if findings := inspect(t, theReference(fault), check.run); len(findings) == 0 {
						t.Errorf("%q finds nothing wrong with a client that has the fault %s", check.name, fault)
					}

					return
				}
			}

			t.Errorf("no check is to see the fault %s", fault)
		})
	}
}

// logBuffer is what a program or machined says, as it comes.
type logBuffer struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed by the next line, where somebody waits for one
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}

	return b.text.Write(line)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.text.String()
}

// await waits until the text is as asked for, or the context ends.
func (b *logBuffer) await(ctx context.Context, asked func(string) bool) {
	for {
		b.mu.Lock()

		if b.changed == nil {
			b.changed = make(chan struct{})
		}

		changed := b.changed

		b.mu.Unlock()

		if asked(b.String()) {
			return
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
