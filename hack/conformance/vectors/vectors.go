// Package vectors makes specs of Talos's resources with random values, encodes them with Talos's own encoder, and states
// what Talos's own decoder reads in them. A Rust test decodes the same bytes and must read the same: README.md has the
// format.
//
//	Fill ── Go spec ── Talos's encoder ── bytes ──┬──────────────────────────── Rust
//	                                              └── Talos's decoder ── JSON ──┘ equal?
package vectors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
)

// Vector is one encoded spec and its reading.
type Vector struct {
	// Type is the resource type.
	Type resource.Type
	// ID is the id of the resource, which some readings depend on.
	ID resource.ID
	// Spec is what Talos's encoder writes.
	Spec []byte
	// Reading is what the daemon has to read in it: JSON, or null where the spec says nothing that can be used.
	Reading []byte
}

// Kind is a resource type with its random values and its reading.
type Kind struct {
	// Type is the resource type.
	Type resource.Type

	empty func() resource.Resource
	fill  func(*rand.Rand, resource.Resource)
	read  func(resource.Resource) (any, bool)
}

// typed is a resource whose spec is a T.
type typed[T any] interface{ TypedSpec() *T }

func kind[T any](of resource.Type, example typed[T], read func(resource.ID, *T) (any, bool)) Kind {
	return Kind{
		Type: of,
		empty: func() resource.Resource {
			return reflect.New(reflect.TypeOf(example).Elem()).Interface().(resource.Resource) //nolint:forcetypeassert
		},
		fill: func(random *rand.Rand, r resource.Resource) {
			Fill(random, reflect.ValueOf(r.(typed[T]).TypedSpec()).Elem()) //nolint:forcetypeassert
		},
		read: func(r resource.Resource) (any, bool) {
			return read(r.Metadata().ID(), r.(typed[T]).TypedSpec()) //nolint:forcetypeassert
		},
	}
}

// always is for a reading that cannot fail.
func always[T, R any](read func(*T) R) func(resource.ID, *T) (any, bool) {
	return func(_ resource.ID, spec *T) (any, bool) { return read(spec), true }
}

func sometimes[T, R any](read func(*T) (R, bool)) func(resource.ID, *T) (any, bool) {
	return func(_ resource.ID, spec *T) (any, bool) { return read(spec) }
}

// named is for a reading of the id and the spec.
func named[T, R any](read func(resource.ID, *T) (R, bool)) func(resource.ID, *T) (any, bool) {
	return func(id resource.ID, spec *T) (any, bool) { return read(id, spec) }
}

// Vector makes one. It fails if Talos's encoder and decoder do not agree with each other.
func (k Kind) Vector(random *rand.Rand) (Vector, error) {
	made := k.empty()
	*made.Metadata() = resource.NewMetadata("conformance", k.Type, randomID(random), resource.VersionUndefined)
	k.fill(random, made)

	encoder, err := protobuf.FromResource(made, protobuf.WithoutYAML())
	if err != nil {
		return Vector{}, fmt.Errorf("encode %s: %w", k.Type, err)
	}

	encoded, err := encoder.Marshal()
	if err != nil {
		return Vector{}, fmt.Errorf("encode %s: %w", k.Type, err)
	}

	decoder, err := protobuf.Unmarshal(encoded)
	if err != nil {
		return Vector{}, fmt.Errorf("decode %s: %w", k.Type, err)
	}

	decoded, err := protobuf.UnmarshalResource(decoder)
	if err != nil {
		return Vector{}, fmt.Errorf("decode %s: %w", k.Type, err)
	}

	reading, err := k.reading(decoded)
	if err != nil {
		return Vector{}, err
	}

	if before, err := k.reading(made); err != nil || !bytes.Equal(before, reading) {
		return Vector{}, fmt.Errorf("%s: Talos encoded %s and decoded %s (%w)", k.Type, before, reading, err)
	}

	return Vector{
		Type:    k.Type,
		ID:      made.Metadata().ID(),
		Spec:    encoded.GetSpec().GetProtoSpec(),
		Reading: reading,
	}, nil
}

func (k Kind) reading(r resource.Resource) ([]byte, error) {
	value, ok := k.read(r)
	if !ok {
		value = nil
	}

	return json.Marshal(value)
}

// Header begins a file of vectors.
type Header struct {
	Format  int    `json:"format"`
	Release string `json:"release"`
	Seed    uint64 `json:"seed"`
}

// Writer writes a file of vectors.
type Writer struct {
	w io.Writer
}

// NewWriter writes the header.
func NewWriter(w io.Writer, header Header) (*Writer, error) {
	encoded, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}

	writer := &Writer{w}

	return writer, writer.field(encoded)
}

// Write writes a vector.
func (w *Writer) Write(v Vector) error {
	for _, field := range [][]byte{[]byte(v.Type), []byte(v.ID), v.Spec, v.Reading} {
		if err := w.field(field); err != nil {
			return err
		}
	}

	return nil
}

func (w *Writer) field(content []byte) error {
	if err := binary.Write(w.w, binary.BigEndian, uint32(len(content))); err != nil {
		return err
	}

	_, err := w.w.Write(content)

	return err
}
