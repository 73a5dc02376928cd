package conformance

import (
	"os"
	"strconv"
)

// seed starts every random sequence. It is fixed, so that a failure comes again; CONFORMANCE_SEED gives another.
func seed() uint64 {
	const usual = 20260903

	if given, err := strconv.ParseUint(os.Getenv("CONFORMANCE_SEED"), 10, 64); err == nil {
		return given
	}

	return usual
}
