//go:build !since1.14

package conformance

import "github.com/cosi-project/runtime/pkg/resource"

// newIdentity is what older releases do not tell of themselves.
func newIdentity(_, _ string) []resource.Resource { return nil }
