//go:build !since1.14

package snapshot

import "github.com/cosi-project/runtime/pkg/resource"

func newKinds() []Kind { return nil }

// lack is what is known although this release does not serve it.
func (s *Snapshot) lack() { kernelBootID(s) }

// readNew reads a resource that older releases do not have, and says whether it was one.
func (s *Snapshot) readNew(resource.Resource) bool { return false }
