//go:build since1.14

package vectors

import (
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

func newKinds() []Kind {
	return []Kind{
		kind(runtime.BootIDType, &runtime.BootID{}, sometimes(snapshot.ReadBootID)),
		kind(runtime.ImageFactorySchematicType, &runtime.ImageFactorySchematic{}, sometimes(snapshot.ReadSchematic)),
	}
}
