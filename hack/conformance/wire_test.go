package conformance

import (
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/reference"
)

// watch opens a watch and takes the empty message that begins every one.
func watch(
	t *testing.T, stream grpc.ServerStreamingClient[v1alpha1.WatchResponse], err error,
) grpc.ServerStreamingClient[v1alpha1.WatchResponse] {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}

	if first := next(t, stream); len(first.GetEvent()) != 0 {
		t.Fatalf("the first message of a watch has events: %v", first)
	}

	return stream
}

func next(t *testing.T, stream grpc.ServerStreamingClient[v1alpha1.WatchResponse]) *v1alpha1.WatchResponse {
	t.Helper()

	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}

	return response
}

// event takes the next message, which must have one event.
func event(t *testing.T, stream grpc.ServerStreamingClient[v1alpha1.WatchResponse]) *v1alpha1.Event {
	t.Helper()

	response := next(t, stream)
	if len(response.GetEvent()) != 1 {
		t.Fatalf("%d events in one message: %v", len(response.GetEvent()), response)
	}

	return response.GetEvent()[0]
}

// TestWatchRules are the rules of watches that the daemon is built on, as this release has them.
func TestWatchRules(t *testing.T) {
	t.Parallel()

	ctx, n, conn := connect(t)
	ctx = reference.WithRoles(ctx, "os:reader")
	client := v1alpha1.NewStateClient(conn)
	eth0 := adapter("eth0", 2)

	request := &v1alpha1.WatchRequest{
		Namespace: network.NamespaceName,
		Type:      network.AddressStatusType,
		Options: &v1alpha1.WatchOptions{
			BootstrapContents: true,
			IdQuery:           &v1alpha1.IDQuery{Regexp: "^(?:eth0)/"},
		},
		ApiVersion: 1,
	}

	first, other := address(eth0, "10.5.0.2/24"), address(adapter("eth1", 3), "10.6.0.2/24")
	for _, r := range []*network.AddressStatus{first, other} {
		if err := n.Put(ctx, r); err != nil {
			t.Fatal(err)
		}
	}

	stream, err := client.Watch(ctx, request)
	stream = watch(t, stream, err)

	created := event(t, stream)
	if created.GetEventType() != v1alpha1.EventType_CREATED || created.GetResource().GetMetadata().GetId() != "eth0/10.5.0.2/24" {
		t.Errorf("the bootstrap begins with %v", created)
	}

	if spec := created.GetResource().GetSpec(); len(spec.GetProtoSpec()) == 0 || spec.GetYamlSpec() == "" {
		t.Errorf("a spec comes in both forms: %v", spec)
	}

	if end := event(t, stream); end.GetEventType() != v1alpha1.EventType_BOOTSTRAPPED || len(end.GetBookmark()) == 0 {
		t.Errorf("the bootstrap ends with %v", end)
	}

	first.TypedSpec().Flags = 0x20
	if err := n.Put(ctx, first); err != nil {
		t.Fatal(err)
	}

	updated := event(t, stream)
	if updated.GetEventType() != v1alpha1.EventType_UPDATED || updated.GetOld() == nil ||
		updated.GetResource().GetMetadata().GetVersion() != "2" {
		t.Errorf("a change is %v", updated)
	}

	if err := n.Condemn(ctx, first); err != nil {
		t.Fatal(err)
	}

	phase := event(t, stream).GetResource().GetMetadata().GetPhase()
	for phase == "running" { // the finalizer is a change of its own
		phase = event(t, stream).GetResource().GetMetadata().GetPhase()
	}

	if phase != "tearingDown" {
		t.Errorf("the phase of what goes away is %q", phase)
	}

	if err := n.Resources.RemoveFinalizer(ctx, first.Metadata(), "conformance"); err != nil {
		t.Fatal(err)
	}

	event(t, stream)

	if err := n.Remove(ctx, first); err != nil {
		t.Fatal(err)
	}

	gone := event(t, stream)
	if gone.GetEventType() != v1alpha1.EventType_DESTROYED || len(gone.GetResource().GetSpec().GetProtoSpec()) == 0 {
		t.Errorf("a removal is %v", gone)
	}

	request.ApiVersion = 0
	stream, err = client.Watch(ctx, request)
	stream = watch(t, stream, err)

	if err := n.Put(ctx, address(eth0, "10.5.0.3/24")); err != nil {
		t.Fatal(err)
	}

	if silent := event(t, stream); silent.GetEventType() != v1alpha1.EventType_CREATED {
		t.Errorf("with API version 0 the bootstrap ends with %v", silent)
	}
}

// TestSingleWatch is a watch of one resource, which says at once that there is none.
func TestSingleWatch(t *testing.T) {
	t.Parallel()

	ctx, n, conn := connect(t)
	ctx = reference.WithRoles(ctx, "os:reader")

	id := runtime.MachineStatusID
	request := &v1alpha1.WatchRequest{
		Namespace:  runtime.NamespaceName,
		Type:       runtime.MachineStatusType,
		Id:         &id,
		Options:    &v1alpha1.WatchOptions{},
		ApiVersion: 1,
	}

	stream, err := v1alpha1.NewStateClient(conn).Watch(ctx, request)
	stream = watch(t, stream, err)

	missing := event(t, stream)
	if missing.GetEventType() != v1alpha1.EventType_DESTROYED || len(missing.GetResource().GetSpec().GetProtoSpec()) != 0 {
		t.Errorf("what does not exist is %v", missing)
	}

	if err := n.Put(ctx, machineStatus(runtime.MachineStageRunning)); err != nil {
		t.Fatal(err)
	}

	if created := event(t, stream); created.GetEventType() != v1alpha1.EventType_CREATED {
		t.Errorf("a creation is %v", created)
	}
}

// TestAggregated is a set that arrives as a whole.
func TestAggregated(t *testing.T) {
	t.Parallel()

	ctx, n, conn := connect(t)
	ctx = reference.WithRoles(ctx, "os:reader")

	for _, r := range running() {
		if err := n.Put(ctx, r); err != nil {
			t.Fatal(err)
		}
	}

	stream, err := v1alpha1.NewStateClient(conn).Watch(ctx, &v1alpha1.WatchRequest{
		Namespace:  network.NamespaceName,
		Type:       network.LinkStatusType,
		Options:    &v1alpha1.WatchOptions{BootstrapContents: true, Aggregated: true},
		ApiVersion: 1,
	})
	stream = watch(t, stream, err)

	var ids []string

	for _, event := range next(t, stream).GetEvent() {
		ids = append(ids, event.GetEventType().String()+" "+event.GetResource().GetMetadata().GetId())
	}

	want := "CREATED cni0, CREATED eth0, CREATED eth0.4000, CREATED flannel.1, CREATED lo, CREATED veth1a2b, BOOTSTRAPPED "
	if got := strings.Join(ids, ", "); got != want {
		t.Errorf("the set is %q, want %q", got, want)
	}
}

// TestNoOptions is a watch without options, which crashes the call up to Talos 1.12. The daemon sends them always.
func TestNoOptions(t *testing.T) {
	t.Parallel()

	ctx, _, conn := connect(t)
	ctx = reference.WithRoles(ctx, "os:reader")

	stream, err := v1alpha1.NewStateClient(conn).Watch(ctx, &v1alpha1.WatchRequest{
		Namespace: network.NamespaceName,
		Type:      network.HostnameStatusType,
	})
	if err != nil {
		t.Fatal(err)
	}

	_, err = stream.Recv()
	if code := status.Code(err); (code == codes.Internal) != crashesWithoutOptions || (err != nil) != crashesWithoutOptions {
		t.Errorf("a watch without options: %v", err)
	}
}

// TestEncoding is one address byte for byte: zero values are written up to 1.11, and left out from 1.12 on.
func TestEncoding(t *testing.T) {
	t.Parallel()

	ctx, n, conn := connect(t)
	ctx = reference.WithRoles(ctx, "os:reader")
	status := address(adapter("eth0", 2), "10.5.0.2/24")
	status.TypedSpec().Broadcast = status.TypedSpec().Local.Next().Prev()

	if err := n.Put(ctx, status); err != nil {
		t.Fatal(err)
	}

	response, err := v1alpha1.NewStateClient(conn).Get(ctx, &v1alpha1.GetRequest{
		Namespace: network.NamespaceName,
		Type:      network.AddressStatusType,
		Id:        status.Metadata().ID(),
		Options:   &v1alpha1.GetOptions{},
	})
	if err != nil {
		t.Fatal(err)
	}

	if got := hex.EncodeToString(response.GetResource().GetSpec().GetProtoSpec()); got != encodedAddress {
		t.Errorf("the address is\n%s, want\n%s", got, encodedAddress)
	}
}

// TestEvents is the stream that a power call can be followed by.
func TestEvents(t *testing.T) {
	t.Parallel()

	ctx, n, conn := connect(t)
	client := machine.NewMachineServiceClient(conn)

	stream, err := client.Events(reference.WithRoles(ctx, "os:reader"), &machine.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	hello, err := stream.Recv()
	if err != nil || hello.GetData().GetTypeUrl() != "" {
		t.Fatalf("the hello is %v, %v", hello, err)
	}

	reply, err := client.Shutdown(reference.WithRoles(ctx, "os:operator"), &machine.ShutdownRequest{Force: true})
	if err != nil {
		t.Fatal(err)
	}

	started, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}

	if started.GetActorId() != reply.GetMessages()[0].GetActorId() ||
		started.GetData().GetTypeUrl() != "talos/runtime/machine.SequenceEvent" {
		t.Errorf("the shutdown of %v starts with %v", reply, started)
	}

	after, err := client.Events(
		reference.WithRoles(ctx, "os:reader"), &machine.EventsRequest{TailId: hello.GetId()},
	)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := after.Recv(); err != nil { // its hello
		t.Fatal(err)
	}

	if again, err := after.Recv(); err != nil || again.GetId() != started.GetId() {
		t.Errorf("after %s comes %v, %v", hello.GetId(), again, err)
	}

	call, err := n.Calls.Await(ctx, func(c node.Call) bool { return strings.HasSuffix(c.Method, "/Shutdown") && c.Ended })
	if err != nil {
		t.Fatal(err)
	}

	if request, ok := call.Request.(*machine.ShutdownRequest); !ok || !request.GetForce() || call.Code != codes.OK {
		t.Errorf("the recorded call is %+v", call)
	}

	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}

	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("when the node stops, the stream ends with %v", err)
	}
}
