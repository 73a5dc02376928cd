package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/gendata"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/extension"
)

// theImage is the directory that hack/image has written.
func theImage(t *testing.T) string {
	t.Helper()

	directory := os.Getenv("TALOS_VMTOOLSD_IMAGE")
	if directory == "" {
		if os.Getenv("CONFORMANCE_REQUIRED") == "1" {
			t.Fatal("TALOS_VMTOOLSD_IMAGE does not name the output of hack/image, and CONFORMANCE_REQUIRED is set")
		}

		t.Skip("TALOS_VMTOOLSD_IMAGE does not name the output of hack/image")
	}

	return directory
}

func theTarballs(t *testing.T) []string {
	t.Helper()

	tarballs, err := filepath.Glob(filepath.Join(theImage(t), "*.tar"))
	if err != nil || len(tarballs) == 0 {
		t.Fatalf("there is no tarball: %v", err)
	}

	return tarballs
}

// TestExtension has Talos take the tarballs.
func TestExtension(t *testing.T) {
	t.Parallel()

	for _, tarball := range theTarballs(t) {
		t.Run(filepath.Base(tarball), func(t *testing.T) {
			t.Parallel()

			unpacked := filepath.Join(t.TempDir(), "0")
			if err := extension.Unpack(t.Context(), tarball, unpacked); err != nil {
				t.Fatal(err)
			}

			if err := extension.Judge(unpacked, gendata.VersionTag); err != nil {
				t.Error(err)
			}

			// These modes become those of the node's own directories.
			err := filepath.WalkDir(filepath.Join(unpacked, "rootfs"), func(path string, entry fs.DirEntry, err error) error {
				if err != nil || !entry.IsDir() {
					return err
				}

				info, err := entry.Info()
				if err == nil && info.Mode().Perm() != 0o755 {
					t.Errorf("%s has mode %v", path, info.Mode())
				}

				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLayout has the layer that stands in the layout's own index for each processor unpacked by Talos, as the imager does
// after it has chosen by the platform in index.json (pkg/imager/profile/input.go).
func TestLayout(t *testing.T) {
	t.Parallel()

	layout := filepath.Join(theImage(t), "oci")

	type descriptor struct {
		Digest   string
		Platform *struct{ OS, Architecture string }
	}

	var index struct{ Manifests []descriptor }

	read(t, filepath.Join(layout, "index.json"), &index)

	blob := func(digest string) string {
		return filepath.Join(layout, "blobs", strings.Replace(digest, ":", "/", 1))
	}
	judged := map[string]bool{}

	for _, entry := range index.Manifests {
		if entry.Platform == nil {
			continue
		}

		var manifest struct{ Layers []descriptor }

		read(t, blob(entry.Digest), &manifest)

		if len(manifest.Layers) != 1 {
			t.Fatalf("%d layers", len(manifest.Layers))
		}

		plain := filepath.Join(t.TempDir(), "layer.tar")
		uncompress(t, blob(manifest.Layers[0].Digest), plain)

		unpacked := filepath.Join(t.TempDir(), "0")
		if err := extension.Unpack(t.Context(), plain, unpacked); err != nil {
			t.Fatal(err)
		}

		if err := extension.Judge(unpacked, gendata.VersionTag); err != nil {
			t.Error(err)
		}

		judged[entry.Platform.OS+"/"+entry.Platform.Architecture] = true
	}

	if !judged["linux/"+architecture] {
		t.Errorf("nothing for linux/%s among %v", architecture, judged)
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func uncompress(t *testing.T, from, to string) {
	t.Helper()

	compressed, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}

	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}

	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	goodManifest = "version: v1alpha1\nmetadata:\n  name: x\n  version: 0.1.0\n" +
		"  compatibility:\n    talos:\n      version: \">= v1.10.0\"\n"
	goodService = "name: x\ncontainer:\n  entrypoint: ./x\n  mounts:\n    - source: /system/run/machined\n" +
		"      destination: /system/run/machined\n      type: bind\n      options: [rbind, rslave, ro]\n" +
		"depends:\n  - path: /system/run/machined/machine.sock\nrestart: always\n"
	serviceFile = "rootfs/usr/local/etc/containers/x.yaml"
	programFile = "rootfs/usr/local/lib/containers/x/x"
)

// TestBadExtensions has the judge refuse what it must, and accept the extension that the bad ones are made from.
func TestBadExtensions(t *testing.T) {
	t.Parallel()

	replaced := func(path, from, to string) func(map[string]string) {
		return func(files map[string]string) { files[path] = strings.Replace(files[path], from, to, 1) }
	}

	for name, bad := range map[string]struct {
		change func(map[string]string)
		says   string
	}{
		"good":            {func(map[string]string) {}, ""},
		"third name":      {func(files map[string]string) { files["LICENSE"] = "" }, "unexpected file"},
		"no manifest":     {func(files map[string]string) { delete(files, "manifest.yaml") }, "manifest"},
		"format":          {replaced("manifest.yaml", "v1alpha1", "v1"), "unsupported manifest version"},
		"unknown key":     {replaced("manifest.yaml", "  name:", "  nick: x\n  name:"), "nick"},
		"newer Talos":     {replaced("manifest.yaml", "v1.10.0", "v99.0.0"), "99"},
		"half a version":  {replaced("manifest.yaml", "v1.10.0", "v1.10"), "1.10"},
		"label":           {replaced("manifest.yaml", "0.1.0", "0.1.0+x"), "0.1.0+x"},
		"outside":         {func(files map[string]string) { files["rootfs/etc/x"] = "" }, "/etc/x"},
		"service key":     {replaced(serviceFile, "restart:", "replicas: 1\nrestart:"), "replicas"},
		"no restart":      {replaced(serviceFile, "restart: always", ""), "restart"},
		"two conditions":  {replaced(serviceFile, "  - path:", "  - time: true\n    path:"), "single dependency"},
		"another wait":    {replaced(serviceFile, "machine.sock", "other.sock"), "waits for"},
		"another mount":   {replaced(serviceFile, "source: /system/run/machined", "source: /var"), "/var"},
		"bare entrypoint": {replaced(serviceFile, "./x", "x"), "PATH"},
		"no entrypoint":   {func(files map[string]string) { delete(files, programFile) }, "entrypoint"},
		"empty program":   {func(files map[string]string) { files[programFile] = "" }, "0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			files := map[string]string{"manifest.yaml": goodManifest, serviceFile: goodService, programFile: "x"}
			bad.change(files)

			directory := t.TempDir()
			for path, content := range files {
				path = filepath.Join(directory, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}

				if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
					t.Fatal(err)
				}
			}

			err := extension.Judge(directory, gendata.VersionTag)
			if bad.says == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), bad.says) {
				t.Errorf("%v does not speak of %q", err, bad.says)
			}
		})
	}
}

// TestUnpackFacts holds what the image is built around: what Talos makes of entries that it does not know.
func TestUnpackFacts(t *testing.T) {
	t.Parallel()

	directory := t.TempDir()
	tarball := filepath.Join(directory, "x.tar")

	var archive bytes.Buffer

	writer := tar.NewWriter(&archive)
	for _, header := range []*tar.Header{
		{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		{Name: "b", Typeflag: tar.TypeLink, Linkname: "a", Mode: 0o644},
	} {
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}

		if header.Size > 0 {
			if _, err := writer.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}

	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(tarball, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	unpacked := filepath.Join(directory, "out")
	if err := extension.Unpack(context.Background(), tarball, unpacked); err != nil {
		t.Fatal(err)
	}

	info, err := os.Lstat(filepath.Join(unpacked, "b"))
	if err != nil || info.Size() != 0 {
		t.Errorf("a hard link became %+v, %v instead of an empty file", info, err)
	}
}
