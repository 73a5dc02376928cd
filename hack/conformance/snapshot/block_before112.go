//go:build !since1.12

package snapshot

import "github.com/siderolabs/talos/pkg/machinery/resources/block"

func detached(*block.MountStatusSpec) bool { return false }
