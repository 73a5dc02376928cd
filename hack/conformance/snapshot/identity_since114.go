//go:build since1.14

package snapshot

import "github.com/siderolabs/talos/pkg/machinery/resources/runtime"

// ReadBootID reads a BootID. Without an id it says nothing.
func ReadBootID(spec *runtime.BootIDSpec) (string, bool) { return spec.BootID, spec.BootID != "" }

// ReadSchematic reads an ImageFactorySchematic. Without an id it says nothing.
func ReadSchematic(spec *runtime.ImageFactorySchematicSpec) (Schematic, bool) {
	return Schematic{ID: spec.SchematicID, Flavor: spec.Flavor}, spec.SchematicID != ""
}
