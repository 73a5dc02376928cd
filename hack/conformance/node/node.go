// Package node is a Talos node's machine API, assembled from Talos's own code: machined's resource state, its access
// filter, its role middleware, its table of methods and roles, from 1.13 on its check of the calling process, and its
// gRPC server. Only the power calls are played: they are recorded instead of carried out.
//
//	machine.sock ── factory.NewServer ── recorder ── injector ── (peer authorizer) ── authorizer ─┬─ Machine
//	                                                                                              └─ COSI state server
//	                                                                                                 └─ access filter
//	                                                                                                    └─ Resources
//
// The order of the interceptors is that of internal/app/machined/pkg/system/services/machined.go.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/talos/pkg/grpc/factory"
	"github.com/siderolabs/talos/pkg/grpc/middleware/authz"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"

	resources "github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/talos/access"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/talos/rules"
	v1alpha2 "github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/talos/state"
)

// drain is how long machined lets running calls go on when it stops.
const drain = 10 * time.Second

// Node is one node. Its resources outlive its server, as a machined that is restarted would find them again.
type Node struct {
	// Socket is the path of the unix socket.
	Socket string
	// Resources is the state behind the API, with everything allowed.
	Resources state.State
	// Machine answers machine.MachineService.
	Machine *Machine
	// Calls is what was called.
	Calls *Recorder
	// Extra are options for the next Start that machined does not use.
	Extra []grpc.ServerOption

	log io.Writer

	mu      sync.Mutex
	server  *grpc.Server
	serving chan error
}

// New assembles a node that does not serve yet. The log is machined's own log of calls.
func New(socket string, log io.Writer) (*Node, error) {
	st, err := v1alpha2.NewState()
	if err != nil {
		return nil, fmt.Errorf("machined's state: %w", err)
	}

	return &Node{
		Socket:    socket,
		Resources: st.Resources(),
		Machine:   newMachine(Release()),
		Calls:     newRecorder(),
		log:       log,
	}, nil
}

// Release is the version of the Talos that this program was built from, such as v1.14.1.
func Release() string { return rules.Release }

// Register implements factory.Registrator, with the services that the daemon may call.
func (n *Node) Register(s *grpc.Server) {
	filtered := state.WrapCore(state.Filter(n.Resources, resources.AccessPolicy(n.Resources)))

	machine.RegisterMachineServiceServer(s, n.Machine)
	v1alpha1.RegisterStateServer(s, server.NewState(filtered))
}

// Start makes the socket and serves on it until Stop.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.server != nil {
		return fmt.Errorf("the node serves already on %s", n.Socket)
	}

	injector := &authz.Injector{Mode: authz.MetadataOnly}
	authorizer := &authz.Authorizer{Rules: rules.Rules, FallbackRoles: role.MakeSet(role.Admin)}

	options := []factory.Option{
		factory.WithLog("machined ", n.log),
		factory.ServerOptions(append(n.Extra, grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize))...),
		factory.WithUnaryInterceptor(n.Calls.unary),
		factory.WithStreamInterceptor(n.Calls.stream),
		factory.WithUnaryInterceptor(injector.UnaryInterceptor()),
		factory.WithStreamInterceptor(injector.StreamInterceptor()),
	}
	options = append(options, n.peerCheck()...)
	options = append(options,
		factory.WithUnaryInterceptor(authorizer.UnaryInterceptor()),
		factory.WithStreamInterceptor(authorizer.StreamInterceptor()),
	)

	if err := os.MkdirAll(filepath.Dir(n.Socket), 0o770); err != nil {
		return err
	}

	if err := os.Chmod(filepath.Dir(n.Socket), 0o771); err != nil {
		return err
	}

	listener, err := listen(ctx, n.Socket)
	if err != nil {
		return err
	}

	if os.Geteuid() == 0 {
		if err := os.Chown(n.Socket, constants.ApidUserID, constants.ApidUserID); err != nil {
			return err
		}
	}

	n.Machine.open()
	n.server = factory.NewServer(n, options...)
	n.serving = make(chan error, 1)

	go func(s *grpc.Server, l net.Listener, serving chan<- error) {
		serving <- s.Serve(l)
	}(n.server, listener, n.serving)

	return nil
}

// Stop ends the server as machined does: the socket goes at once, running calls have 10 s.
func (n *Node) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.server == nil {
		return nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()

	n.Machine.close()
	factory.ServerGracefulStop(n.server, ctx)

	return n.ended()
}

// Kill ends the server without any warning, as a crash does.
func (n *Node) Kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.server == nil {
		return nil
	}

	n.Machine.close()
	n.server.Stop()

	return n.ended()
}

func (n *Node) ended() error {
	n.server = nil

	// A server that is stopped before it came to serve says so.
	if err := <-n.serving; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}

	return nil
}

// Put makes a resource be as given, whether it exists or not.
func (n *Node) Put(ctx context.Context, r resource.Resource) error {
	present, err := n.Resources.Get(ctx, r.Metadata())
	if state.IsNotFoundError(err) {
		return n.Resources.Create(ctx, r)
	}

	if err != nil {
		return err
	}

	next := r.DeepCopy()
	next.Metadata().SetVersion(present.Metadata().Version())

	return n.Resources.Update(ctx, next)
}

// Remove destroys a resource at once.
func (n *Node) Remove(ctx context.Context, r resource.Resource) error {
	return n.Resources.Destroy(ctx, r.Metadata())
}

// Condemn marks a resource as going away; a finalizer keeps it in existence, as a controller that still needs it does.
func (n *Node) Condemn(ctx context.Context, r resource.Resource) error {
	if err := n.Resources.AddFinalizer(ctx, r.Metadata(), "conformance"); err != nil {
		return err
	}

	_, err := n.Resources.Teardown(ctx, r.Metadata())

	return err
}

// Forget makes the node one that does not know a resource type, as an older release is.
func (n *Node) Forget(ctx context.Context, kind resource.Type) error {
	definition := resource.NewMetadata(
		meta.NamespaceName, meta.ResourceDefinitionType, strings.ToLower(kind), resource.VersionUndefined,
	)

	return n.Resources.Destroy(ctx, definition, state.WithDestroyOwner(meta.Owner))
}
