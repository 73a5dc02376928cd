package consumers

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/laboratory"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/report"
)

const (
	// shuffles is how often everything goes and comes again in another order, before the daemon's eyes.
	shuffles = 100
	// starts is how often the daemon starts on a node that was put together in another order.
	starts = 2
)

// state is what a shuffle needs to know of a file.
type state struct {
	Links, Addresses, Routes []string
}

// TestShuffle changes the order of everything, and the report must stay the same byte by byte: a hundred times in one life
// of the daemon, and at a few new starts.
func TestShuffle(t *testing.T) {
	lab := programs(t)

	for number, tp := range topologies() {
		t.Run(tp.Name, func(t *testing.T) {
			t.Parallel()

			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()

			random := rand.New(rand.NewPCG(7, uint64(number))) //nolint:gosec,mnd // the same orders every time

			baseline := shuffleAlive(ctx, t, lab, tp, random)
			for range starts {
				guest, err := record(ctx, lab, reordered(t, tp, random))
				if err != nil {
					t.Fatal(err)
				}

				if !bytes.Equal(guest.NetworkMessage(), baseline) {
					t.Fatalf("a start in another order:\n%x\nbefore:\n%x", guest.NetworkMessage(), baseline)
				}
			}
		})
	}
}

// shuffleAlive takes every address and route from the node and gives them back in another order, and gives the message
// that was the same each time.
func shuffleAlive(
	ctx context.Context, t *testing.T, lab laboratory.Programs, tp topology, random *rand.Rand,
) []byte {
	t.Helper()

	run, err := lab.Start(ctx, tp.state(t))
	if err != nil {
		t.Fatal(err)
	}

	defer run.Stop() //nolint:errcheck // only files in a temporary directory

	if err := run.Settle(); err != nil {
		t.Fatal(err)
	}

	guest, err := run.Guest()
	if err != nil {
		t.Fatal(err)
	}

	baseline := bytes.Clone(guest.NetworkMessage())
	if len(tp.all()) == 0 {
		return baseline
	}

	lines := changes(read(t, tp))

	for round := range shuffles {
		for _, line := range lines {
			do(t, run, removal(line))
		}

		gone := func(guest *report.Guest) bool { return addresses(guest) == 0 }
		if err := run.Await("no address", gone); err != nil {
			t.Fatalf("round %d: %s", round, err)
		}

		random.Shuffle(len(lines), func(a, b int) { lines[a], lines[b] = lines[b], lines[a] })

		for _, line := range lines {
			do(t, run, line)
		}

		same := func(guest *report.Guest) bool { return bytes.Equal(guest.NetworkMessage(), baseline) }
		if err := run.Await("the same bytes", same); err != nil {
			t.Fatalf("round %d: %s\n%s\nlast:\n%x\nbefore:\n%x", round, err, strings.Join(lines, "\n"),
				guest.NetworkMessage(), baseline)
		}
	}

	if err := run.Quiet(); err != nil {
		t.Fatal(err)
	}

	if guest, err = run.Guest(); err != nil || !bytes.Equal(guest.NetworkMessage(), baseline) {
		t.Fatalf("at the end: %v\n%x\nbefore:\n%x", err, guest.NetworkMessage(), baseline)
	}

	return baseline
}

// all addresses that are right to report.
func (tp topology) all() []string {
	var all []string
	for _, adapter := range tp.Adapters {
		all = append(all, adapter.Addresses...)
	}

	return all
}

func addresses(guest *report.Guest) int {
	count := 0
	for _, adapter := range guest.Network.Adapters {
		count += len(adapter.Addresses)
	}

	return count
}

func do(t *testing.T, run *laboratory.Run, line string) {
	t.Helper()

	if err := run.Node(line); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, tp topology) state {
	t.Helper()

	var s state
	if err := yaml.Unmarshal([]byte(tp.state(t)), &s); err != nil {
		t.Fatal(err)
	}

	return s
}

// changes are the commands that give a node its addresses and routes, without those of the loopback.
func changes(s state) []string {
	var lines []string

	for _, address := range s.Addresses {
		if !strings.HasPrefix(address, "lo ") {
			lines = append(lines, "address add "+address)
		}
	}

	for _, route := range s.Routes {
		lines = append(lines, "route add "+route)
	}

	return lines
}

// removal is the command that takes back what the line gives: of an address the link and the prefix, of a route the whole.
func removal(line string) string {
	const words = 4

	line = strings.Replace(line, " add ", " remove ", 1)
	if strings.HasPrefix(line, "address ") {
		line = strings.Join(strings.Fields(line)[:words], " ")
	}

	return line
}

// reordered is the state with the lines of each list in another order; a link stays behind those that it needs.
func reordered(t *testing.T, tp topology, random *rand.Rand) string {
	t.Helper()

	var whole map[string]any
	if err := yaml.Unmarshal([]byte(tp.state(t)), &whole); err != nil {
		t.Fatal(err)
	}

	s := read(t, tp)

	for _, list := range [][]string{s.Addresses, s.Routes, s.Links} {
		random.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
	}

	whole["links"], whole["addresses"] = feasible(t, s.Links), s.Addresses
	if s.Routes != nil {
		whole["routes"] = s.Routes
	}

	text, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}

// feasible keeps the order as far as it can.
func feasible(t *testing.T, links []string) []string {
	t.Helper()

	var placed, names []string

	for len(placed) < len(links) {
		index := slices.IndexFunc(links, func(link string) bool {
			words := strings.Fields(link)

			return !slices.Contains(names, words[0]) && needs(words, names) == ""
		})
		if index < 0 {
			t.Fatal(fmt.Errorf("links that need each other: %q", links))
		}

		placed = append(placed, links[index])
		names = append(names, strings.Fields(links[index])[0])
	}

	return placed
}

// needs is a link that this one lies on or belongs to and that is not there yet.
func needs(words, names []string) string {
	for index, word := range words[:len(words)-1] {
		if (word == "master" || word == "parent") && !slices.Contains(names, words[index+1]) {
			return words[index+1]
		}
	}

	return ""
}
