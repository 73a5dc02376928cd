//go:build !since1.13

package extension

import (
	"context"
	"io"

	"github.com/siderolabs/talos/pkg/archiver"
)

func untar(ctx context.Context, archive io.Reader, directory string) error {
	return archiver.Untar(ctx, archive, directory)
}
