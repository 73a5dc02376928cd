//go:build since1.13

package extension

import (
	"context"
	"io"

	"github.com/siderolabs/talos/pkg/archiver"
)

// The map takes the SELinux labels of the archive, as the imager has it; there are none.
func untar(ctx context.Context, archive io.Reader, directory string) error {
	return archiver.Untar(ctx, archive, directory, map[string]string{})
}
