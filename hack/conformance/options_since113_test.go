//go:build since1.13

package conformance

// crashesWithoutOptions says what later versions of COSI do.
const crashesWithoutOptions = false
