package conformance

import (
	"bufio"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/vectors"
)

// values is how many random values each resource type gets; CONFORMANCE_VALUES gives another number.
func values() int {
	const usual = 2000

	if given, err := strconv.Atoi(os.Getenv("CONFORMANCE_VALUES")); err == nil && given > 0 {
		return given
	}

	return usual
}

// TestVectors writes the vectors into the file that CONFORMANCE_VECTORS names, and fails where Talos's encoder and
// decoder do not agree about a field that is read.
func TestVectors(t *testing.T) {
	t.Parallel()

	sink := io.Writer(io.Discard)

	if path := os.Getenv("CONFORMANCE_VECTORS"); path != "" {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}

		defer func() {
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}()

		sink = file
	}

	buffer := bufio.NewWriter(sink)

	writer, err := vectors.NewWriter(buffer, vectors.Header{Format: 2, Release: node.Release(), Seed: seed()})
	if err != nil {
		t.Fatal(err)
	}

	for _, kind := range vectors.Kinds() {
		unreadable := 0
		hash := fnv.New64a()
		hash.Write([]byte(kind.Type))

		random := rand.New(rand.NewPCG(seed(), hash.Sum64()))

		for range values() {
			vector, err := kind.Vector(random)
			if err != nil {
				t.Fatalf("seed %d: %v", seed(), err)
			}

			if string(vector.Reading) == "null" {
				unreadable++
			}

			if err := writer.Write(vector); err != nil {
				t.Fatal(err)
			}
		}

		t.Logf("%s: %d values of seed %d, %d of them say nothing", kind.Type, values(), seed(), unreadable)

		if unreadable > values()*2/3 {
			t.Errorf("%s: %d of %d values say nothing", kind.Type, unreadable, values())
		}
	}

	if err := buffer.Flush(); err != nil {
		t.Fatal(err)
	}
}
