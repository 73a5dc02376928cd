//go:build since1.12

package snapshot

import "github.com/siderolabs/talos/pkg/machinery/resources/block"

func detached(spec *block.MountStatusSpec) bool { return spec.Detached }
