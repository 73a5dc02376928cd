package node

import (
	"context"
	"errors"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errNoWatch says that nobody watches a type.
var errNoWatch = errors.New("nobody watches this type")

// Say puts a message of the test's own into every open watch of a type, between those of Talos.
func (r *Recorder) Say(kind resource.Type, response *v1alpha1.WatchResponse) error {
	streams := r.watches(kind)
	if len(streams) == 0 {
		return errNoWatch
	}

	for _, stream := range streams {
		if err := stream.send(response); err != nil {
			return err
		}
	}

	return nil
}

// End ends every open watch of a type with a status.
func (r *Recorder) End(kind resource.Type, code codes.Code) error {
	streams := r.watches(kind)
	if len(streams) == 0 {
		return errNoWatch
	}

	for _, stream := range streams {
		stream.end(errEnded{code})
	}

	return nil
}

// watches are the open ones of a type.
func (r *Recorder) watches(kind resource.Type) []*recordedStream {
	r.mu.Lock()
	defer r.mu.Unlock()

	var streams []*recordedStream

	for stream := range r.open {
		if request, ok := stream.call.Request.(*v1alpha1.WatchRequest); ok && request.GetType() == kind {
			streams = append(streams, stream)
		}
	}

	return streams
}

// errEnded is how the test ends a stream.
type errEnded struct{ code codes.Code }

func (e errEnded) Error() string { return e.code.String() }

// outcome is what a stream that was served ends with: what the test wants, or else what Talos says.
func outcome(ctx context.Context, err error) error {
	var ended errEnded
	if errors.As(context.Cause(ctx), &ended) {
		return status.Error(ended.code, "ended by the test")
	}

	return err
}
