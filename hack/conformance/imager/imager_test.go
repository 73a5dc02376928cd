// Package imager has Talos's imager take the extension image: its own choice of an image from an OCI layout, its own
// extraction, and its own builder of the initramfs, for both processors.
//
// It is a module of its own, since the imager pulls in the SDKs of several clouds. One release is enough: what differs
// between releases is judged in the directory above.
package imager

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	imager "github.com/siderolabs/talos/pkg/imager/extensions"
	"github.com/siderolabs/talos/pkg/imager/profile"
	"github.com/siderolabs/talos/pkg/machinery/extensions"
	"github.com/siderolabs/talos/pkg/machinery/imager/quirks"
)

const name = "talos-vmtoolsd"

// releases are those whose rules the builder is asked for.
var releases = []string{"v1.10.0", "v1.11.0", "v1.12.0", "v1.13.6", "v1.14.0"}

func theImage(t *testing.T) string {
	t.Helper()

	image := os.Getenv("TALOS_VMTOOLSD_IMAGE")
	if image == "" {
		t.Fatal("TALOS_VMTOOLSD_IMAGE does not name the output of hack/image")
	}

	return image
}

// sources are the ways in which the imager can be given the image for a processor.
func sources(t *testing.T, architecture string) map[string]profile.ContainerAsset {
	t.Helper()

	image := theImage(t)

	tarballs, err := filepath.Glob(filepath.Join(image, name+"-*-"+architecture+".tar"))
	if err != nil {
		t.Fatal(err)
	}

	if len(tarballs) != 1 {
		t.Skipf("%s holds no image for %s", image, architecture)
	}

	return map[string]profile.ContainerAsset{
		"layout":  {OCIPath: filepath.Join(image, "oci")},
		"tarball": {TarballPath: tarballs[0]},
	}
}

func TestImagerTakesTheImage(t *testing.T) {
	t.Parallel()

	for _, architecture := range []string{"amd64", "arm64"} {
		t.Run(architecture, func(t *testing.T) {
			t.Parallel()

			for way, source := range sources(t, architecture) {
				t.Run(way, func(t *testing.T) {
					t.Parallel()

					tree := t.TempDir()
					unpacked := filepath.Join(tree, "0")

					if err := os.Mkdir(unpacked, 0o755); err != nil {
						t.Fatal(err)
					}

					// Without a map: Debian 12's mksquashfs does not know the option that it leads to.
					if err := source.Extract(t.Context(), unpacked, architecture, t.Logf, nil); err != nil {
						t.Fatal(err)
					}

					program := filepath.Join(unpacked, "rootfs/usr/local/lib/containers", name, name)
					if info, err := os.Stat(program); err != nil || info.Mode().Perm() != 0o755 {
						t.Fatalf("%+v, %v", info, err)
					}

					// From here on it is the same tree.
					judged := releases
					if way == "tarball" {
						judged = releases[:1]
					}

					for _, release := range judged {
						build(t, tree, architecture, release)
					}
				})
			}
		})
	}
}

// build has the builder rebuild an empty initramfs, and looks at what it appended.
func build(t *testing.T, tree, architecture, release string) {
	t.Helper()

	directory := t.TempDir()
	initramfs := filepath.Join(directory, "initramfs.xz")

	if err := os.WriteFile(initramfs, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	builder := imager.Builder{
		InitramfsPath:             initramfs,
		Arch:                      architecture,
		ExtensionTreePath:         tree,
		ExtensionValidateContents: true,
		Printf:                    t.Logf,
		Quirks:                    quirks.New(release),
	}

	if err := builder.Build(t.Context()); err != nil {
		t.Fatalf("%s: %v", release, err)
	}

	shell := func(command string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", command)
		cmd.Dir = directory

		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, output)
		}

		return string(output)
	}

	shell("zstd -dc initramfs.xz | cpio -i --quiet")

	var config extensions.Config
	if err := config.Read(filepath.Join(directory, "extensions.yaml")); err != nil {
		t.Fatal(err)
	}

	if len(config.Layers) != 1 || config.Layers[0].Metadata.Name != name {
		t.Fatalf("%s: %+v", release, config.Layers)
	}

	listing := shell("unsquashfs -ll " + config.Layers[0].Image)
	if !strings.Contains(listing, "squashfs-root/usr/local/lib/containers/"+name+"/"+name) {
		t.Errorf("%s: %s", release, listing)
	}

	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, "d") && !strings.HasPrefix(line, "drwxr-xr-x root/root") {
			t.Errorf("%s: %s", release, line)
		}
	}
}

// TestImagerNeedsThePlatform holds the fact that the layout is built around.
func TestImagerNeedsThePlatform(t *testing.T) {
	t.Parallel()

	from := filepath.Join(theImage(t), "oci")
	to := filepath.Join(t.TempDir(), "oci")

	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(to, "index.json")

	index, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, bytes.ReplaceAll(index, []byte(`"platform"`), []byte(`"plattform"`)), 0o600); err != nil {
		t.Fatal(err)
	}

	source := profile.ContainerAsset{OCIPath: to}
	if err := source.Extract(t.Context(), t.TempDir(), "amd64", t.Logf, nil); err == nil ||
		!strings.Contains(err.Error(), "no OCI image found") {
		t.Errorf("a layout without platforms gave %v", err)
	}
}
