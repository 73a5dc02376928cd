package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Machine plays machine.MachineService: Version, Mounts, Shutdown, Reboot and Events. A power call starts a sequence that is
// nothing but its event. Every other method is answered UNIMPLEMENTED, after the check of the role.
type Machine struct {
	machine.UnimplementedMachineServiceServer

	mu  sync.Mutex
	tag string

	filesystems []Filesystem

	events  []*machine.Event
	changed chan struct{} // closed and replaced with each event
	closed  chan struct{} // closed when the server stops
}

func newMachine(tag string) *Machine {
	return &Machine{
		tag:     tag,
		changed: make(chan struct{}),
		closed:  make(chan struct{}),
	}
}

// SetTag makes the release another one, and gives the one before.
func (m *Machine) SetTag(tag string) string {
	m.mu.Lock()
	defer m.mu.Unlock()

	before := m.tag
	m.tag = tag

	return before
}

func (m *Machine) open() {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.closed = make(chan struct{})
}

func (m *Machine) close() {
	m.mu.Lock()
	defer m.mu.Unlock()

	close(m.closed)
}

// Version implements machine.MachineServiceServer.
func (m *Machine) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	return &machine.VersionResponse{Messages: []*machine.Version{{
		Version: &machine.VersionInfo{
			Tag:       m.tag,
			Sha:       "0123abcd",
			Built:     "2026-01-01T00:00:00Z",
			GoVersion: runtime.Version(),
			Os:        runtime.GOOS,
			Arch:      runtime.GOARCH,
		},
		Platform: &machine.PlatformInfo{Name: "vmware", Mode: "cloud"},
		Features: &machine.FeaturesInfo{Rbac: true},
	}}}, nil
}

// Filesystem is one that Mounts tells, with its sizes in bytes.
type Filesystem struct {
	Source, Target  string
	Size, Available uint64
}

// SetFilesystems makes these the ones that Mounts tells.
func (m *Machine) SetFilesystems(filesystems ...Filesystem) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.filesystems = filesystems
}

// Mounts implements machine.MachineServiceServer.
func (m *Machine) Mounts(context.Context, *emptypb.Empty) (*machine.MountsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	stats := make([]*machine.MountStat, 0, len(m.filesystems))

	for _, filesystem := range m.filesystems {
		stats = append(stats, &machine.MountStat{
			Filesystem: filesystem.Source,
			MountedOn:  filesystem.Target,
			Size:       filesystem.Size,
			Available:  filesystem.Available,
		})
	}

	return &machine.MountsResponse{Messages: []*machine.Mounts{{Stats: stats}}}, nil
}

// Shutdown implements machine.MachineServiceServer.
func (m *Machine) Shutdown(context.Context, *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	actor, err := m.begin("shutdown")
	if err != nil {
		return nil, err
	}

	return &machine.ShutdownResponse{Messages: []*machine.Shutdown{{ActorId: actor}}}, nil
}

// Reboot implements machine.MachineServiceServer.
func (m *Machine) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	actor, err := m.begin("reboot")
	if err != nil {
		return nil, err
	}

	return &machine.RebootResponse{Messages: []*machine.Reboot{{ActorId: actor}}}, nil
}

// Events implements machine.MachineServiceServer: a hello, what came after the event of tail_id, and what comes.
func (m *Machine) Events(request *machine.EventsRequest, stream grpc.ServerStreamingServer[machine.Event]) error {
	if request.GetTailEvents() != 0 || request.GetTailSeconds() != 0 {
		return status.Error(codes.Unimplemented, "only tail_id is played")
	}

	cursor := m.position(request.GetTailId())

	hello := &machine.Event{Data: &anypb.Any{}, Id: identifier(0), ActorId: request.GetWithActorId()}
	if err := stream.Send(hello); err != nil {
		return err
	}

	for {
		events, changed, closed := m.since(cursor)
		cursor += len(events)

		for _, event := range events {
			if actor := request.GetWithActorId(); actor != "" && event.GetActorId() != actor {
				continue
			}

			if err := stream.Send(event); err != nil {
				return err
			}
		}

		select {
		case <-changed:
		case <-closed:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// position is the number of events up to the one with this id, or of all where no event is named.
func (m *Machine) position(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()

	for i, event := range m.events {
		if id != "" && event.GetId() > id {
			return i
		}
	}

	return len(m.events)
}

// since gives the events from a position on, and what is closed when there are more or the server stops.
func (m *Machine) since(position int) ([]*machine.Event, <-chan struct{}, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()

	return slices.Clone(m.events[position:]), m.changed, m.closed
}

// begin publishes the START of a sequence and gives the id of the request that caused it.
func (m *Machine) begin(sequence string) (string, error) {
	var uuid [16]byte

	if _, err := rand.Read(uuid[:]); err != nil {
		return "", err
	}

	actor := fmt.Sprintf("%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:])

	payload, err := proto.Marshal(&machine.SequenceEvent{
		Sequence: sequence,
		Action:   machine.SequenceEvent_START,
	})
	if err != nil {
		return "", err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	m.events = append(m.events, &machine.Event{
		Data:    &anypb.Any{TypeUrl: "talos/runtime/machine.SequenceEvent", Value: payload},
		Id:      identifier(len(m.events) + 1),
		ActorId: actor,
	})

	close(m.changed)
	m.changed = make(chan struct{})

	return actor, nil
}

// identifier is as long as an xid and ordered like one.
func identifier(n int) string { return fmt.Sprintf("%020d", n) }
