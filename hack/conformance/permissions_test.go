package conformance

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/reference"
)

// permission is a call of the daemon with the role that it names for it.
type permission struct {
	method string
	role   string
}

// watched is a resource type that the daemon watches.
type watched struct {
	kind      string
	namespace string
}

// permissions reads the daemon's own table, which its code prints.
func permissions(t *testing.T) ([]permission, []watched) {
	t.Helper()

	page, err := os.ReadFile("../../docs/permissions.md")
	if err != nil {
		t.Fatal(err)
	}

	var (
		calls []permission
		types []watched
	)

	for _, row := range regexp.MustCompile("(?m)^\\| `(/[^`]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		calls = append(calls, permission{row[1], row[2]})
	}

	for _, row := range regexp.MustCompile("(?m)^\\| `([^/`]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		types = append(types, watched{row[1], row[2]})
	}

	if len(calls) == 0 || len(types) == 0 {
		t.Fatalf("docs/permissions.md has %d calls and %d types", len(calls), len(types))
	}

	return calls, types
}

// describe finds a method in the API of this release.
func (p permission) describe() (protoreflect.MethodDescriptor, bool) {
	service, name, _ := strings.Cut(strings.TrimPrefix(p.method, "/"), "/")

	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil {
		return nil, false
	}

	method, ok := found.(protoreflect.MethodDescriptor)

	return method, ok
}

// call makes it, with an empty request. What a stream says first counts.
func (p permission) call(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	if method, ok := p.describe(); !ok || !method.IsStreamingServer() {
		return conn.Invoke(ctx, p.method, &emptypb.Empty{}, &emptypb.Empty{})
	}

	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, p.method)
	if err != nil {
		return err
	}

	if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
		return err
	}

	if err := stream.CloseSend(); err != nil {
		return err
	}

	return stream.RecvMsg(&emptypb.Empty{})
}

// isRefusal says whether Talos's check of roles stopped a call. What comes after it (a method that is not played, a
// request that makes no sense) has other codes or words.
func isRefusal(err error) bool {
	return status.Code(unwrapped(err)) == codes.PermissionDenied && strings.Contains(fmt.Sprint(err), "not authorized")
}

// TestPermissions asks for each call of the daemon's table with the role that it names, which must get through, and with
// every weaker, wrong or joined one, which must not: so the table names the least role, and none is missing.
func TestPermissions(t *testing.T) {
	t.Parallel()

	ctx, _, conn := connect(t)
	calls, types := permissions(t)

	ladder := []string{"", string(role.Reader), string(role.Operator), string(role.Admin)}

	for _, call := range calls {
		rank := -1

		for n, step := range ladder {
			if step == call.role {
				rank = n
			}
		}

		if rank < 1 {
			t.Errorf("%s names the role %q", call.method, call.role)

			continue
		}

		for n, step := range ladder[1:] {
			err := call.call(reference.WithRoles(ctx, step), conn)
			if refused := n+1 < rank; isRefusal(err) != refused {
				t.Errorf("%s as %s, named is %s: %v", call.method, step, call.role, err)
			}
		}

		for _, roles := range [][]string{
			nil, {""}, {"reader"}, {"os:unknown"}, {"os:etcd:backup"}, {"os:impersonator"}, {strings.ToUpper(call.role)},
			{call.role + "," + call.role}, {call.role + ",os:admin"}, {"os:admin," + call.role}, {"os:unknown," + call.role},
		} {
			if err := call.call(reference.WithRoles(ctx, roles...), conn); !isRefusal(err) {
				t.Errorf("%s with the roles %q: %v", call.method, roles, err)
			}
		}

		for _, roles := range [][]string{{"os:unknown", call.role}, {call.role, call.role}, {" " + call.role + " "}} {
			if err := call.call(reference.WithRoles(ctx, roles...), conn); isRefusal(err) {
				t.Errorf("%s with the roles %q: %v", call.method, roles, err)
			}
		}
	}

	for _, watched := range types {
		watch := watching(watched.namespace, watched.kind)

		err := watch.call(reference.WithRoles(ctx, string(role.Reader)), conn)
		if err != nil && !isAbsent(err) {
			t.Errorf("a reader may not have %s: %v", watched.kind, err)
		}

		for _, roles := range [][]string{nil, {"os:reader,os:operator"}, {"os:etcd:backup"}} {
			if err := watch.call(reference.WithRoles(ctx, roles...), conn); !isRefusal(err) {
				t.Errorf("%s with the roles %q: %v", watched.kind, roles, err)
			}
		}
	}
}

// isAbsent says whether this release has no such resource type.
func isAbsent(err error) bool {
	return status.Code(unwrapped(err)) == codes.PermissionDenied && strings.Contains(fmt.Sprint(err), "resource type") &&
		strings.Contains(fmt.Sprint(err), "is not supported")
}
