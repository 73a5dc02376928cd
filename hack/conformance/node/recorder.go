package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Call is one call as it arrived, before anybody judged it.
type Call struct {
	// Method is the full name of the method.
	Method string
	// Roles are the values of the metadata key talos-role.
	Roles []string
	// Metadata is everything that came with the call.
	Metadata metadata.MD
	// Request is its message, none as long as a stream's has not been read.
	Request any
	// Resources are the ids of the resources that a watch delivered.
	Resources []string
	// Overruns counts the ERRORED events of a watch: what it was to tell came faster than it could.
	Overruns int
	// Ended says that Code is the status that went back.
	Ended bool
	// Code is codes.OK until the call has ended.
	Code codes.Code
}

// Recorder keeps every call, and can refuse some.
type Recorder struct {
	mu       sync.Mutex
	calls    []*Call
	changed  chan struct{} // closed and replaced with each change
	failures map[string][]codes.Code
	open     map[*recordedStream]struct{}
}

func newRecorder() *Recorder {
	return &Recorder{
		changed:  make(chan struct{}),
		failures: make(map[string][]codes.Code),
		open:     make(map[*recordedStream]struct{}),
	}
}

// All gives the calls so far, in the order in which they arrived.
func (r *Recorder) All() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()

	calls := make([]Call, 0, len(r.calls))

	for _, call := range r.calls {
		snapshot := *call
		snapshot.Resources = slices.Clone(call.Resources)
		calls = append(calls, snapshot)
	}

	return calls
}

// Reset forgets the calls so far and the refusals to come.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.calls = nil
	clear(r.failures)
}

// Fail refuses the next calls of a method with these codes, one each.
func (r *Recorder) Fail(method string, with ...codes.Code) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.failures[method] = append(r.failures[method], with...)
}

// Await waits until a call is as asked for.
func (r *Recorder) Await(ctx context.Context, asked func(Call) bool) (Call, error) {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()

		if calls := r.All(); slices.ContainsFunc(calls, asked) {
			return calls[slices.IndexFunc(calls, asked)], nil
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return Call{}, fmt.Errorf("no such call: %w", ctx.Err())
		}
	}
}

// update changes a call under the lock and wakes those who wait.
func (r *Recorder) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()

	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

// begin records a call, and gives an error where it is to be refused.
func (r *Recorder) begin(ctx context.Context, method string, request any) (*Call, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	call := &Call{
		Method:   method,
		Roles:    md.Get(constants.APIAuthzRoleMetadataKey),
		Metadata: md,
		Request:  request,
	}

	var err error

	r.update(func() {
		r.calls = append(r.calls, call)

		if codes := r.failures[method]; len(codes) > 0 {
			err = status.Error(codes[0], "refused by the test")
			r.failures[method] = codes[1:]
		}
	})

	return call, err
}

func (r *Recorder) end(call *Call, err error) {
	r.update(func() {
		call.Ended = true
		call.Code = status.Code(err)
	})
}

func (r *Recorder) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	var reply any

	call, err := r.begin(ctx, info.FullMethod, request)
	if err == nil {
		reply, err = handler(ctx, request)
	}

	r.end(call, err)

	return reply, err
}

func (r *Recorder) stream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	call, err := r.begin(stream.Context(), info.FullMethod, nil)
	if err == nil {
		ctx, end := context.WithCancelCause(stream.Context())
		recorded := &recordedStream{ServerStream: stream, ctx: ctx, end: end, recorder: r, call: call}

		r.update(func() { r.open[recorded] = struct{}{} })
		err = outcome(ctx, handler(service, recorded))
		r.update(func() { delete(r.open, recorded) })
		end(nil)
	}

	r.end(call, err)

	return err
}

type recordedStream struct {
	grpc.ServerStream

	ctx      context.Context //nolint:containedctx // that of the stream, which the test can end
	end      context.CancelCauseFunc
	recorder *Recorder
	call     *Call
	sending  sync.Mutex
}

// Context implements grpc.ServerStream.
func (s *recordedStream) Context() context.Context { return s.ctx }

// send is for messages of Talos and of the test alike: a stream takes one at a time.
func (s *recordedStream) send(message any) error {
	s.sending.Lock()
	defer s.sending.Unlock()

	return s.ServerStream.SendMsg(message)
}

func (s *recordedStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	if err == nil {
		s.recorder.update(func() { s.call.Request = message })
	}

	return err
}

func (s *recordedStream) SendMsg(message any) error {
	if response, ok := message.(*v1alpha1.WatchResponse); ok {
		s.recorder.update(func() {
			for _, event := range response.GetEvent() {
				if event.GetEventType() == v1alpha1.EventType_ERRORED {
					s.call.Overruns++
				}

				if id := event.GetResource().GetMetadata().GetId(); id != "" {
					s.call.Resources = append(s.call.Resources, id)
				}
			}
		})
	}

	return s.send(message)
}
