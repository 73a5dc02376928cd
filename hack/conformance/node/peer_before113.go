//go:build !since1.13

package node

import (
	"context"

	"github.com/siderolabs/talos/pkg/grpc/factory"
)

// ChecksPeer says whether this release looks at the process that calls.
const ChecksPeer = false

func (n *Node) peerCheck() []factory.Option { return nil }

// Admit does nothing: before 1.13 whoever can open the socket may call.
func (n *Node) Admit(context.Context, string, int) error { return nil }

// Dismiss does nothing.
func (n *Node) Dismiss(context.Context, string) error { return nil }
