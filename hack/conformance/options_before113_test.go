//go:build !since1.13

package conformance

// crashesWithoutOptions says what COSI up to 1.14.0, that is every Talos up to 1.12, does with a watch whose request has no options.
const crashesWithoutOptions = true
