//go:build since1.13

package node

import (
	"context"
	"fmt"
	"os"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/talos/pkg/grpc/factory"
	"github.com/siderolabs/talos/pkg/grpc/middleware/auth/unix"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/talos/rules"
)

// ChecksPeer says whether this release looks at the process that calls.
const ChecksPeer = true

func (n *Node) peerCheck() []factory.Option {
	authorizer := &unix.Authorizer{Resources: n.Resources, AllowedServices: rules.AllowedServices}

	return []factory.Option{
		factory.ServerOptions(grpc.Creds(unix.NewServerCredentials())),
		factory.WithUnaryInterceptor(authorizer.UnaryInterceptor()),
		factory.WithStreamInterceptor(authorizer.StreamInterceptor()),
	}
}

// Admit records pid as the process of a service, as machined does once it has started it. An extension service is also
// known by the mount namespace of that process.
func (n *Node) Admit(ctx context.Context, service string, pid int) error {
	// A process may have ended by now; machined takes no notice of that either.
	namespace, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))

	record := runtime.NewServicePID(service)
	record.TypedSpec().PID = int32(pid)
	record.TypedSpec().MountNamespace = namespace

	return n.Put(ctx, record)
}

// Dismiss forgets the process of a service, as machined does when it has ended.
func (n *Node) Dismiss(ctx context.Context, service string) error {
	err := n.Resources.Destroy(ctx, runtime.NewServicePID(service).Metadata())
	if state.IsNotFoundError(err) {
		return nil
	}

	return err
}
