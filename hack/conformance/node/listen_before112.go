//go:build !since1.12

package node

import (
	"context"
	"net"

	"github.com/siderolabs/talos/pkg/grpc/factory"
)

func listen(_ context.Context, socket string) (net.Listener, error) {
	return factory.NewListener(factory.Network("unix"), factory.SocketPath(socket))
}
