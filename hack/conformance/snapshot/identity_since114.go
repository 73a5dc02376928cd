//go:build since1.14

package snapshot

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

func newKinds() []Kind {
	return []Kind{
		{runtime.NamespaceName, runtime.BootIDType, runtime.BootIDID, kernelBootID},
		{
			runtime.NamespaceName, runtime.ImageFactorySchematicType, runtime.ImageFactorySchematicID,
			func(s *Snapshot) { forget(&s.Schematic) },
		},
	}
}

// lack is what is known although this release does not serve it.
func (s *Snapshot) lack() {}

// readNew reads a resource that older releases do not have, and says whether it was one.
func (s *Snapshot) readNew(r resource.Resource) bool {
	switch r := r.(type) {
	case *runtime.BootID:
		s.BootID = fact(ReadBootID(r.TypedSpec()))
	case *runtime.ImageFactorySchematic:
		s.Schematic = fact(ReadSchematic(r.TypedSpec()))
	default:
		return false
	}

	return true
}

// ReadBootID reads a BootID. Without an id it says nothing.
func ReadBootID(spec *runtime.BootIDSpec) (string, bool) { return spec.BootID, spec.BootID != "" }

// ReadSchematic reads an ImageFactorySchematic. Without an id it says nothing.
func ReadSchematic(spec *runtime.ImageFactorySchematicSpec) (Schematic, bool) {
	return Schematic{ID: spec.SchematicID, Flavor: spec.Flavor}, spec.SchematicID != ""
}
