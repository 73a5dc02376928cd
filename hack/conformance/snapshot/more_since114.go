//go:build since1.14

package snapshot

import "github.com/siderolabs/talos/pkg/machinery/resources/runtime"

// BootID is the reading of BootID.
type BootID struct {
	BootID string `json:"boot_id"`
}

// ReadBootID reads a BootID.
func ReadBootID(spec *runtime.BootIDSpec) BootID { return BootID{BootID: spec.BootID} }

// Schematic is the reading of ImageFactorySchematic.
type Schematic struct {
	SchematicID string `json:"schematic_id"`
	Flavor      string `json:"flavor"`
	APIURL      string `json:"apiurl"`
}

// ReadSchematic reads an ImageFactorySchematic.
func ReadSchematic(spec *runtime.ImageFactorySchematicSpec) Schematic {
	return Schematic{SchematicID: spec.SchematicID, Flavor: spec.Flavor, APIURL: spec.APIURL}
}
