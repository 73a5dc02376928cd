// Package reference is a client of the machine API that does what `talos-vmtoolsd query --json` does, in Go.
//
// It proves the judge: what it says of a node must pass every comparison that the daemon has to pass, and each of its
// deliberate faults must fail one. It is no part of the product.
//
//	Version ── watch of links ── reported links ──┬── watches of addresses and routes ──┬── Snapshot
//	        └─ watches of everything else ────────┴─────────────────────────────────────┘
package reference

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
)

// pause lies between two attempts of a look.
const pause = 100 * time.Millisecond

// Fault is a mistake that the judge has to find.
type Fault string

// The faults.
const (
	// None is a client without fault.
	None Fault = "none"
	// StrongRole asks as administrator for what a reader may have.
	StrongRole Fault = "strong-role"
	// JoinedRoles puts two roles into one value.
	JoinedRoles Fault = "joined-roles"
	// AllAddresses asks for the addresses of every link.
	AllAddresses Fault = "all-addresses"
	// KeepsGoing reports what is going away.
	KeepsGoing Fault = "keeps-going"
	// NoRoutes forgets the routes.
	NoRoutes Fault = "no-routes"
	// NoVolumes forgets the volumes.
	NoVolumes Fault = "no-volumes"
	// OnlyAdapters does not ask for what stands on an adapter.
	OnlyAdapters Fault = "only-adapters"
	// GivesUp does not try again.
	GivesUp Fault = "gives-up"
)

// Faults are all of them.
var Faults = []Fault{StrongRole, JoinedRoles, AllAddresses, KeepsGoing, NoRoutes, NoVolumes, OnlyAdapters, GivesUp}

// errUnsupported is Talos's answer to a watch of a type that it does not serve.
var errUnsupported = errors.New("not served")

// Dial opens a connection to the node lazily.
func Dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize)),
	)
}

// WithRoles asserts roles, one value each.
func WithRoles(ctx context.Context, roles ...string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	md.Set(constants.APIAuthzRoleMetadataKey, roles...)

	return metadata.NewOutgoingContext(ctx, md)
}

// Query looks at the node until everything was answered, or until the context ends. Then it gives what is known: nothing.
func Query(ctx context.Context, socket string, fault Fault) (snapshot.Snapshot, error) {
	for {
		look, err := query(ctx, socket, fault)
		if err == nil {
			return look, nil
		}

		if fault == GivesUp {
			return snapshot.Unknown(), err
		}

		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return snapshot.Unknown(), err
		}
	}
}

func query(ctx context.Context, socket string, fault Fault) (snapshot.Snapshot, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	switch fault { //nolint:exhaustive
	case StrongRole:
		ctx = WithRoles(ctx, string(role.Admin))
	case JoinedRoles:
		ctx = WithRoles(ctx, string(role.Reader)+","+string(role.Operator))
	default:
		ctx = WithRoles(ctx, string(role.Reader))
	}

	conn, err := Dial(socket)
	if err != nil {
		return snapshot.Unknown(), err
	}

	defer conn.Close() //nolint:errcheck

	version, err := askVersion(ctx, conn)
	if err != nil {
		return snapshot.Unknown(), err
	}

	look := looker{state: v1alpha1.NewStateClient(conn), fault: fault}
	if err := look.everything(ctx); err != nil {
		return snapshot.Unknown(), err
	}

	facts := snapshot.From(version, look.seen)
	for _, kind := range look.refused {
		kind.Forget(&facts)
	}

	switch fault { //nolint:exhaustive
	case NoRoutes:
		facts.Routes.Value = &map[string]snapshot.Route{}
	case NoVolumes:
		facts.Volumes.Value = &map[string]snapshot.Volume{}
	}

	return facts, nil
}

func askVersion(ctx context.Context, conn *grpc.ClientConn) (snapshot.Version, error) {
	reply, err := machine.NewMachineServiceClient(conn).Version(ctx, &emptypb.Empty{})
	if err != nil {
		return snapshot.Version{}, err
	}

	if len(reply.GetMessages()) != 1 {
		return snapshot.Version{}, fmt.Errorf("version: %d messages", len(reply.GetMessages()))
	}

	message := reply.GetMessages()[0]

	return snapshot.Version{
		Tag:      message.GetVersion().GetTag(),
		Arch:     message.GetVersion().GetArch(),
		Platform: message.GetPlatform().GetName(),
	}, nil
}

// looker collects the first answer of every watch.
type looker struct {
	state v1alpha1.StateClient
	fault Fault
	seen  []resource.Resource
	// refused are the kinds that the node does not serve.
	refused []snapshot.Kind
}

func (l *looker) everything(ctx context.Context) error {
	kinds := snapshot.Kinds()

	// Which addresses and routes are asked for depends on the links.
	links := slices.IndexFunc(kinds, func(kind snapshot.Kind) bool { return kind.Type == network.LinkStatusType })
	if err := l.kind(ctx, kinds[links], ""); err != nil {
		return err
	}

	var names []string

	look := snapshot.From(snapshot.Version{}, l.seen)

	for name, reported := range look.Reported() {
		if reported && (l.fault != OnlyAdapters || (*look.Links.Value)[name].Kind == "") {
			names = append(names, regexp.QuoteMeta(name))
		}
	}

	query := strings.Join(names, "|")

	for _, kind := range slices.Delete(kinds, links, links+1) {
		var err error

		switch {
		case kind.Type == network.AddressStatusType && l.fault == AllAddresses:
			err = l.kind(ctx, kind, "")
		case kind.Type == network.AddressStatusType:
			err = l.kind(ctx, kind, "^(?:"+query+")/")
		case kind.Type == network.RouteStatusType:
			err = l.kind(ctx, kind, "^(?:inet4|inet6||"+query+")/")
		case kind.ID != "":
			err = l.single(ctx, kind)
		default:
			err = l.kind(ctx, kind, "")
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// kind watches a type until its set is complete.
func (l *looker) kind(ctx context.Context, kind snapshot.Kind, idQuery string) error {
	options := &v1alpha1.WatchOptions{BootstrapContents: true, Aggregated: true}
	if idQuery != "" {
		options.IdQuery = &v1alpha1.IDQuery{Regexp: idQuery}
	}

	set := make(map[resource.ID]resource.Resource)

	err := Watch(ctx, l.state, &v1alpha1.WatchRequest{
		Namespace:  kind.Namespace,
		Type:       kind.Type,
		Options:    options,
		ApiVersion: 1,
	}, func(event Event) bool {
		switch event.Type { //nolint:exhaustive
		case v1alpha1.EventType_CREATED, v1alpha1.EventType_UPDATED:
			set[event.Resource.Metadata().ID()] = event.Resource
		case v1alpha1.EventType_DESTROYED:
			delete(set, event.Resource.Metadata().ID())
		case v1alpha1.EventType_BOOTSTRAPPED:
			return false
		}

		return true
	})

	return l.keep(err, kind, slices.Collect(maps.Values(set)))
}

// single watches one resource until its first event, which says also that there is none.
func (l *looker) single(ctx context.Context, kind snapshot.Kind) error {
	var present []resource.Resource

	err := Watch(ctx, l.state, &v1alpha1.WatchRequest{
		Namespace:  kind.Namespace,
		Type:       kind.Type,
		Id:         &kind.ID,
		Options:    &v1alpha1.WatchOptions{},
		ApiVersion: 1,
	}, func(event Event) bool {
		if event.Type == v1alpha1.EventType_CREATED {
			present = append(present, event.Resource)
		}

		return false
	})

	return l.keep(err, kind, present)
}

func (l *looker) keep(err error, kind snapshot.Kind, resources []resource.Resource) error {
	if errors.Is(err, errUnsupported) {
		l.refused = append(l.refused, kind)

		return nil
	}

	if l.fault == KeepsGoing {
		for _, r := range resources {
			r.Metadata().SetPhase(resource.PhaseRunning)
		}
	}

	l.seen = append(l.seen, resources...)

	return err
}

// Event is one event of a watch, with the resource as Talos's own code decodes it.
type Event struct {
	Type     v1alpha1.EventType
	Resource resource.Resource
}

// Watch hands every event to a function until that gives false.
func Watch(
	ctx context.Context, client v1alpha1.StateClient, request *v1alpha1.WatchRequest, take func(Event) bool,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	stream, err := client.Watch(ctx, request)
	if err != nil {
		return err
	}

	for {
		response, err := stream.Recv()
		if err != nil {
			if status.Code(err) == codes.PermissionDenied && strings.Contains(err.Error(), "is not supported") {
				return fmt.Errorf("%w: %w", errUnsupported, err)
			}

			return err
		}

		for _, event := range response.GetEvent() {
			read := Event{Type: event.GetEventType()}

			switch event.GetEventType() {
			case v1alpha1.EventType_CREATED, v1alpha1.EventType_UPDATED, v1alpha1.EventType_DESTROYED:
				if read.Resource, err = Decode(event.GetResource()); err != nil {
					return err
				}
			case v1alpha1.EventType_ERRORED:
				return fmt.Errorf("watch of %s: %s", request.GetType(), event.GetError())
			}

			if !take(read) {
				return nil
			}
		}
	}
}

// Decode reads a resource with the code of Talos. A tombstone has its metadata only.
func Decode(encoded *v1alpha1.Resource) (resource.Resource, error) {
	raw, err := protobuf.Unmarshal(encoded)
	if err != nil {
		return nil, err
	}

	if len(encoded.GetSpec().GetProtoSpec()) == 0 && encoded.GetSpec().GetYamlSpec() == "" {
		return resource.NewTombstone(raw.Metadata()), nil
	}

	return protobuf.UnmarshalResource(raw)
}
