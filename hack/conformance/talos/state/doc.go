// Package v1alpha2 is Talos's own resource state, compiled from its source: every namespace and every resource type
// that machined of the release under test registers, over an in-memory state with machined's history limits.
//
// internal/app/machined/pkg/runtime/v1alpha2/v1alpha2_state.go cannot be imported from outside of Talos. The script
// `run` puts that very file into this package (`go build -overlay`); nothing of it is kept here.
package v1alpha2
