// Command runspec writes the OCI runtime specification that machined gives containerd for an extension service: the same
// options in the same order, carried out by containerd's own packages, its default seccomp profile included.
//
//	runspec SERVICE.yaml ROOT MACHINED > config.json
//
// SERVICE.yaml is the service specification, ROOT the container's root file system, and MACHINED the directory that
// stands for /system/run/machined of the node. Sources: getOCIOptions in
// internal/app/machined/pkg/system/services/extension.go and newOCISpecOpts in
// internal/app/machined/pkg/system/runner/containerd/containerd.go of siderolabs/talos 1.14. Left out is what needs a node:
// cgroup path, OOM score, SELinux label, and the host's files of names.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.yaml.in/yaml/v3"
)

// dropped is DefaultDroppedCapabilities of Talos's constants.
var dropped = []string{"CAP_SYS_BOOT", "CAP_SYS_MODULE"}

// machined is the directory whose place another one takes.
const machined = "/system/run/machined"

type service struct {
	Name      string
	Container struct {
		Entrypoint string
		Args       []string
		Mounts     []specs.Mount
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runspec:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("usage: runspec SERVICE.yaml ROOT MACHINED")
	}

	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}

	var svc service
	if err = yaml.Unmarshal(text, &svc); err != nil {
		return err
	}

	for i, mount := range svc.Container.Mounts {
		if mount.Source == machined {
			svc.Container.Mounts[i].Source = arguments[2]
		}
	}

	// machined's bounding set is this process's.
	grantable, err := cap.Current()
	if err != nil {
		return err
	}

	grantable = slices.DeleteFunc(grantable, func(name string) bool { return slices.Contains(dropped, name) })

	ctx := namespaces.WithNamespace(context.Background(), "system")
	container := &containers.Container{ID: "ext-" + svc.Name}

	spec, err := oci.GenerateSpec(ctx, nil, container,
		oci.WithProcessArgs(append([]string{svc.Container.Entrypoint}, svc.Container.Args...)...),
		oci.WithNoNewPrivileges,
		oci.WithRootFSPath(arguments[1]),
		oci.WithMounts(svc.Container.Mounts),
		oci.WithHostNamespace(specs.NetworkNamespace),
		oci.WithHostNamespace(specs.IPCNamespace),
		oci.WithSelinuxLabel(""),
		oci.WithApparmorProfile(""),
		oci.WithCapabilities(grantable),
		oci.WithAllDevicesAllowed,
		oci.WithEnv(nil),
		func(_ context.Context, _ oci.Client, _ *containers.Container, spec *oci.Spec) error {
			spec.Process.Rlimits = nil
			// containerd's default variable; machined's images have none.
			spec.Process.Env = slices.DeleteFunc(spec.Process.Env, func(pair string) bool {
				return strings.HasPrefix(pair, "PATH=")
			})
			spec.Linux.CgroupsPath = ""

			return nil
		},
		oci.WithRootFSReadonly(),
		seccomp.WithDefaultProfile(),
	)
	if err != nil {
		return err
	}

	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")

	return encoder.Encode(spec)
}
