//go:build since1.12

package node

import (
	"context"
	"net"

	"github.com/siderolabs/talos/pkg/grpc/factory"
)

func listen(ctx context.Context, socket string) (net.Listener, error) {
	return factory.NewListener(ctx, factory.Network("unix"), factory.SocketPath(socket))
}
