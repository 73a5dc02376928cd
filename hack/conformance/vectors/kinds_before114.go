//go:build !since1.14

package vectors

func newKinds() []Kind { return nil }
