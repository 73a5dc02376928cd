//go:build !since1.12

package extension

import (
	"io"

	"gopkg.in/yaml.v3"
)

func decode(text io.Reader, into any) error {
	decoder := yaml.NewDecoder(text)
	decoder.KnownFields(true)

	return decoder.Decode(into)
}
