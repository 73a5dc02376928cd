package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/reference"
)

// connect starts a node that knows this process as the daemon's, and opens a connection to it.
func connect(t *testing.T) (context.Context, *node.Node, *grpc.ClientConn) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)

	directory, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(directory) }) //nolint:errcheck

	n, err := node.New(filepath.Join(directory, "machine.sock"), &logBuffer{})
	if err != nil {
		t.Fatal(err)
	}

	if err := n.Admit(ctx, service, os.Getpid()); err != nil {
		t.Fatal(err)
	}

	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := n.Kill(); err != nil {
			t.Error(err)
		}
	})

	conn, err := reference.Dial(n.Socket)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() }) //nolint:errcheck

	return ctx, n, conn
}

// method is one that the daemon calls, or might be tempted to.
type method struct {
	name string
	call func(context.Context, *grpc.ClientConn) error
}

var (
	callVersion = method{"Version", func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := machine.NewMachineServiceClient(c).Version(ctx, &emptypb.Empty{})

		return err
	}}
	callShutdown = method{"Shutdown", func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := machine.NewMachineServiceClient(c).Shutdown(ctx, &machine.ShutdownRequest{})

		return err
	}}
	callReboot = method{"Reboot", func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := machine.NewMachineServiceClient(c).Reboot(ctx, &machine.RebootRequest{})

		return err
	}}
	callEvents = method{"Events", func(ctx context.Context, c *grpc.ClientConn) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()

		stream, err := machine.NewMachineServiceClient(c).Events(ctx, &machine.EventsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}

		return err
	}}
	callForfeit = method{"EtcdForfeitLeadership", func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := machine.NewMachineServiceClient(c).
			EtcdForfeitLeadership(ctx, &machine.EtcdForfeitLeadershipRequest{})

		return err
	}}
	watchHostname = watching(network.NamespaceName, network.HostnameStatusType)
	watchOperator = watching(network.NamespaceName, network.OperatorSpecType)
	watchUnknown  = watching(network.NamespaceName, "Unicorns.net.talos.dev")
	watchNowhere  = watching("", network.HostnameStatusType)
	create        = method{"Create", func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := v1alpha1.NewStateClient(c).Create(ctx, &v1alpha1.CreateRequest{
			Resource: &v1alpha1.Resource{
				Metadata: &v1alpha1.Metadata{
					Namespace: network.NamespaceName,
					Type:      network.HostnameStatusType,
					Id:        network.HostnameID,
					Version:   "1",
					Phase:     "running",
				},
				Spec: &v1alpha1.Spec{YamlSpec: "hostname: intruder\n"},
			},
			Options: &v1alpha1.CreateOptions{},
		})

		return err
	}}
)

func watching(namespace, kind string) method {
	return method{fmt.Sprintf("Watch %q/%s", namespace, kind), func(ctx context.Context, c *grpc.ClientConn) error {
		return reference.Watch(ctx, v1alpha1.NewStateClient(c), &v1alpha1.WatchRequest{
			Namespace:  namespace,
			Type:       kind,
			Options:    &v1alpha1.WatchOptions{BootstrapContents: true},
			ApiVersion: 1,
		}, func(reference.Event) bool { return false })
	}}
}

// TestRoles has Talos's own middleware say who may do what, in the words that the daemon has to understand.
func TestRoles(t *testing.T) {
	t.Parallel()

	ctx, _, conn := connect(t)

	const (
		reader   = "os:reader"
		operator = "os:operator"
		admin    = "os:admin"
		refused  = "not authorized"
	)

	for _, test := range []struct {
		method method
		roles  []string
		code   codes.Code
		text   string
	}{
		{callVersion, []string{reader}, codes.OK, ""},
		{callVersion, []string{operator}, codes.OK, ""},
		{callVersion, []string{admin}, codes.OK, ""},
		{callVersion, []string{"os:unknown", reader}, codes.OK, ""},
		{callVersion, []string{" os:reader "}, codes.OK, ""},
		{callVersion, nil, codes.PermissionDenied, refused},
		{callVersion, []string{""}, codes.PermissionDenied, refused},
		{callVersion, []string{"reader"}, codes.PermissionDenied, refused},
		{callVersion, []string{"os:etcd:backup"}, codes.PermissionDenied, refused},
		{callVersion, []string{reader + "," + operator}, codes.PermissionDenied, refused},
		{callShutdown, []string{reader}, codes.PermissionDenied, refused},
		{callShutdown, []string{operator}, codes.OK, ""},
		{callShutdown, []string{reader, operator}, codes.OK, ""},
		{callShutdown, nil, codes.PermissionDenied, refused},
		{callReboot, []string{reader}, codes.PermissionDenied, refused},
		{callReboot, []string{operator}, codes.OK, ""},
		{callEvents, []string{reader}, codes.OK, ""},
		{callEvents, nil, codes.PermissionDenied, refused},
		{callForfeit, []string{operator}, codes.PermissionDenied, refused},
		{callForfeit, []string{admin}, codes.Unimplemented, ""},
		{watchHostname, []string{reader}, codes.OK, ""},
		{watchHostname, nil, codes.PermissionDenied, refused},
		{watchHostname, []string{reader + "," + operator}, codes.PermissionDenied, refused},
		{watchOperator, []string{operator}, codes.PermissionDenied, refused},
		{watchOperator, []string{admin}, codes.OK, ""},
		{watchUnknown, []string{reader}, codes.PermissionDenied, `resource type "Unicorns.net.talos.dev" is not supported`},
		{watchNowhere, []string{reader}, codes.PermissionDenied, `namespace "" is not supported`},
		{create, []string{operator}, codes.PermissionDenied, refused},
		{create, []string{admin}, codes.PermissionDenied, "write access is not allowed"},
	} {
		asked := ctx
		if len(test.roles) > 0 {
			asked = reference.WithRoles(ctx, test.roles...)
		}

		err := test.method.call(asked, conn)
		if code := status.Code(unwrapped(err)); code != test.code || !strings.Contains(fmt.Sprint(err), test.text) {
			t.Errorf("%s with roles %q: %v, want %v %s", test.method.name, test.roles, err, test.code, test.text)
		}
	}
}

// unwrapped is the gRPC status within an error, if there is one.
func unwrapped(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[1]
	}

	return err
}

// TestUnknownProcess is a caller that no service is known by: from 1.13 on it waits for 5 s and is refused then, whatever
// its role.
func TestUnknownProcess(t *testing.T) {
	t.Parallel()

	ctx, n, conn := connect(t)

	if err := n.Dismiss(ctx, service); err != nil {
		t.Fatal(err)
	}

	begun := time.Now()
	err := callVersion.call(reference.WithRoles(ctx, "os:admin"), conn)
	waited := time.Since(begun)

	if !node.ChecksPeer {
		if err != nil {
			t.Errorf("a release that does not look at processes refused one: %v", err)
		}

		return
	}

	if status.Code(err) != codes.PermissionDenied || waited < 4*time.Second {
		t.Errorf("%v after %s, want a refusal after 5 s", err, waited)
	}
}

// TestOtherService is a caller that is known as a service with fewer rights.
func TestOtherService(t *testing.T) {
	t.Parallel()

	if !node.ChecksPeer {
		return
	}

	ctx, n, conn := connect(t)

	if err := n.Dismiss(ctx, service); err != nil {
		t.Fatal(err)
	}

	if err := n.Admit(ctx, "dashboard", os.Getpid()); err != nil {
		t.Fatal(err)
	}

	ctx = reference.WithRoles(ctx, "os:reader", "os:operator")

	if err := callVersion.call(ctx, conn); err != nil {
		t.Errorf("the dashboard may read: %v", err)
	}

	if err := callShutdown.call(ctx, conn); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the dashboard may not shut down: %v", err)
	}
}
