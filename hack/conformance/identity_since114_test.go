//go:build since1.14

package conformance

import (
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// newIdentity is what older releases do not tell of themselves.
func newIdentity(bootID, schematic string) []resource.Resource {
	boot := runtime.NewBootID()
	boot.TypedSpec().BootID = bootID

	image := runtime.NewImageFactorySchematic(runtime.NamespaceName, runtime.ImageFactorySchematicID)
	image.TypedSpec().SchematicID = schematic
	image.TypedSpec().APIURL = "https://factory.talos.dev"

	return []resource.Resource{boot, image}
}
