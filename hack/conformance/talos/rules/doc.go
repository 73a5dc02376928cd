// Package rules is machined's own table of methods and roles, and from 1.13 on of the services that may call it.
//
// Both stand in internal/app/machined/pkg/system/services/machined.go, beside much that cannot be imported. The script
// `overlay` cuts the two literals out of the source of the release under test and puts them into this package as Rules and
// AllowedServices (`go build -overlay`), with the version as Release; nothing of them is kept here.
package rules
