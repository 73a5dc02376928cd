// Package resources is Talos's own access filter of the resource API, compiled from its source.
//
// internal/app/resources/access.go cannot be imported from outside of Talos. The script `run` puts that very file, from
// the module of the release under test, into this package (`go build -overlay`); nothing of it is kept here.
package resources
