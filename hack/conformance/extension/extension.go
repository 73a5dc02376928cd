// Package extension judges the extension image by the code of Talos that builds a node's file system from it and by
// the code of machined that reads its service: archiver.Untar as the imager calls it, extensions.Load and Validate,
// services.Spec.Validate, and the rules of Kubernetes labels.
package extension

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/extensions"
	"github.com/siderolabs/talos/pkg/machinery/extensions/services"
	"github.com/siderolabs/talos/pkg/machinery/labels"
)

// labelPrefix is that of the label which Talos gives a Kubernetes node for an extension
// (internal/app/machined/pkg/controllers/k8s/node_label_spec.go).
const labelPrefix = "extensions.talos.dev/"

// Unpack has Talos unpack an uncompressed tarball into a new directory.
func Unpack(ctx context.Context, tarball, directory string) error {
	file, err := os.Open(tarball)
	if err != nil {
		return err
	}

	defer file.Close() //nolint:errcheck

	if err = os.Mkdir(directory, 0o755); err != nil {
		return err
	}

	return untar(ctx, file, directory)
}

// Judge judges an unpacked extension for a Talos release, such as v1.14.1, and gives everything that is wrong with it.
func Judge(directory, release string) error {
	version, err := semver.ParseTolerant(release)
	if err != nil {
		return err
	}

	extension, err := extensions.Load(directory)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}

	metadata := extension.Manifest.Metadata

	return errors.Join(
		strict(filepath.Join(directory, "manifest.yaml"), new(extensions.Manifest)),
		extension.Validate(
			extensions.WithValidateConstraints(),
			extensions.WithValidateContents(),
			extensions.WithTalosVersion(&version),
		),
		labels.ValidateQualifiedName(labelPrefix+metadata.Name),
		labels.ValidateLabelValue(metadata.Version),
		judgeService(extension.RootfsPath(), metadata.Name),
	)
}

// strict decodes a file with Talos's decoder and refuses keys that Talos would not see.
func strict(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}

	return decode(bytes.NewReader(text), into)
}

func judgeService(rootfs, name string) error {
	path := filepath.Join(rootfs, constants.ExtensionServiceConfigPath, name+".yaml")
	spec := services.Spec{}

	if err := strict(path, &spec); err != nil {
		return fmt.Errorf("service: %w", err)
	}

	if err := spec.Validate(); err != nil {
		return fmt.Errorf("service: %w", err)
	}

	var wrong []error

	if spec.Name != name {
		wrong = append(wrong, fmt.Errorf("the service is called %q, the extension %q", spec.Name, name))
	}

	if !strings.Contains(spec.Container.Entrypoint, "/") {
		wrong = append(wrong, fmt.Errorf("the entrypoint %q would be looked for in a PATH", spec.Container.Entrypoint))
	}

	program := filepath.Join(rootfs, constants.ExtensionServiceRootfsPath, spec.Name, spec.Container.Entrypoint)
	if info, err := os.Stat(program); err != nil {
		wrong = append(wrong, fmt.Errorf("entrypoint: %w", err))
	} else if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 != 0o111 || info.Size() == 0 {
		wrong = append(wrong, fmt.Errorf("the entrypoint has mode %v and %d bytes", info.Mode(), info.Size()))
	}

	// What machined has made before the service starts, on this release.
	if wanted := []services.Dependency{{Path: constants.MachineSocketPath}}; !reflect.DeepEqual(spec.Depends, wanted) {
		wrong = append(wrong, fmt.Errorf("the service waits for %+v", spec.Depends))
	}

	directory := filepath.Dir(constants.MachineSocketPath)
	for _, mount := range spec.Container.Mounts {
		if mount.Source != directory || mount.Destination != directory {
			wrong = append(wrong, fmt.Errorf("the mount %+v is not of %s", mount, directory))
		}
	}

	return errors.Join(wrong...)
}
