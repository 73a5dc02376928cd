package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/extension"
)

// killed is when machined sends SIGKILL after SIGTERM: GracefulShutdownTimeout of its runner.
const killed = 10 * time.Second

// container is the finished image as runc runs it, under the specification that machined would compute.
type container struct {
	runc      string
	id        string
	directory string
}

// needs fails or skips where something is not here.
func needs(t *testing.T, met bool, what string) {
	t.Helper()

	if met {
		return
	}

	if os.Getenv("CONFORMANCE_REQUIRED") == "1" {
		t.Fatalf("%s, and CONFORMANCE_REQUIRED is set", what)
	}

	t.Skip(what)
}

// unpackContainer makes a bundle of the image, with the directory of the machine API's socket from elsewhere.
func unpackContainer(t *testing.T, machined string) *container {
	t.Helper()

	image := theImage(t)
	runspec := os.Getenv("CONFORMANCE_RUNSPEC")
	needs(t, os.Geteuid() == 0, "a container needs root")
	needs(t, runspec != "", "CONFORMANCE_RUNSPEC does not name the program of runspec/")

	runc, err := exec.LookPath("runc")
	if err != nil {
		runc = "/usr/sbin/runc"
		_, err = os.Stat(runc)
	}

	needs(t, err == nil, "there is no runc")

	directory, err := os.MkdirTemp("", "container")
	if err != nil {
		t.Fatal(err)
	}

	c := &container{runc: runc, id: filepath.Base(directory), directory: directory}

	t.Cleanup(func() {
		c.call("delete", "--force", c.id) //nolint:errcheck // it may be gone
		os.RemoveAll(directory)           //nolint:errcheck
	})

	tarballs, err := filepath.Glob(filepath.Join(image, "*-"+architecture+".tar"))
	if err != nil || len(tarballs) != 1 {
		t.Fatalf("%v, %v are not one tarball for %s", tarballs, err, architecture)
	}

	unpacked := filepath.Join(directory, "extension")
	if err = extension.Unpack(t.Context(), tarballs[0], unpacked); err != nil {
		t.Fatal(err)
	}

	const local = "rootfs/usr/local"

	spec, err := exec.CommandContext(t.Context(), runspec,
		filepath.Join(unpacked, local, "etc/containers/talos-vmtoolsd.yaml"),
		filepath.Join(unpacked, local, "lib/containers/talos-vmtoolsd"),
		machined,
	).Output()
	if err != nil {
		t.Fatalf("runspec: %v", err)
	}

	if err = os.WriteFile(filepath.Join(directory, "config.json"), spec, 0o600); err != nil {
		t.Fatal(err)
	}

	// What the laboratory can start in place of the daemon.
	script := fmt.Sprintf("#!/bin/sh\nexec %s --root %s/state run --bundle %s %s\n", runc, directory, directory, c.id)
	if err = os.WriteFile(c.script(), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}

	return c
}

func (c *container) script() string { return filepath.Join(c.directory, "run") }

func (c *container) call(arguments ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), killed)
	defer cancel()

	return exec.CommandContext(ctx, c.runc, append([]string{"--root", c.directory + "/state"}, arguments...)...).Output()
}

// started waits until the container runs and gives its first process.
func (c *container) started() (int, error) {
	const attempts, between = 300, 100 * time.Millisecond

	for range attempts {
		var state struct {
			Status string
			PID    int
		}

		output, err := c.call("state", c.id)
		if err == nil && json.Unmarshal(output, &state) == nil && state.Status == "running" {
			return state.PID, nil
		}

		time.Sleep(between)
	}

	return 0, errors.New("the container does not start")
}

// procStatus is /proc/PID/status.
func procStatus(pid int) (map[string]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}

	fields := map[string]string{}

	for line := range strings.SplitSeq(string(text), "\n") {
		if key, value, found := strings.Cut(line, ":"); found {
			fields[key] = strings.Join(strings.Fields(value), " ")
		}
	}

	return fields, nil
}

// child gives the only child of a process.
func child(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}

	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// judgeProcesses looks at the supervisor and the daemon from outside.
func judgeProcesses(t *testing.T, supervisor int) {
	t.Helper()

	daemon, err := child(supervisor)
	if err != nil {
		t.Error(err)

		return
	}

	for pid, wanted := range map[int]map[string]string{
		supervisor: {"Uid": "0 0 0 0", "NoNewPrivs": "1", "Seccomp": "2"},
		daemon: {
			"Uid": "50 50 50 50", "Gid": "50 50 50 50", "NoNewPrivs": "1", "Seccomp": "2",
			"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapAmb": "0000000000000000",
		},
	} {
		found, err := procStatus(pid)
		if err != nil {
			t.Error(err)

			continue
		}

		for key, value := range wanted {
			if found[key] != value {
				t.Errorf("%s of process %s is %q instead of %q", key, found["Name"], found[key], value)
			}
		}

		// The last number is the one in the container.
		if numbers := strings.Fields(found["NSpid"]); pid == supervisor && numbers[len(numbers)-1] != "1" {
			t.Errorf("the supervisor is process %v", numbers)
		}
	}

	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", daemon))
	if err != nil {
		t.Error(err)
	}

	for line := range strings.SplitSeq(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 3 && (fields[1] == "/" || fields[1] == "/system/run/machined") {
			if !strings.HasPrefix(fields[3]+",", "ro,") {
				t.Errorf("%s is mounted %s", fields[1], fields[3])
			}
		}
	}
}

// TestContainer runs the finished image as a VMware guest, before the node of this release: it connects from within its
// container, reports, survives a socket that goes and comes again, and ends when it is told to.
func TestContainer(t *testing.T) {
	t.Parallel()

	lab := os.Getenv("TALOS_VMTOOLSD_LAB")
	needs(t, lab != "", "TALOS_VMTOOLSD_LAB does not name the laboratory")

	findings := inspect(t, subject{name: "container"}, func(i *inspection) error {
		c := unpackContainer(t, filepath.Dir(i.Socket))

		if err := i.put(running()...); err != nil {
			return err
		}

		l, err := startLaboratory(i.ctx, c.directory, lab, c.script(), i.Socket)
		if err != nil {
			return err
		}

		defer l.conn.Close() //nolint:errcheck

		if err := i.followContainer(t, c, l); err != nil {
			return fmt.Errorf("%w\n%s", err, l.stop())
		}

		if err := l.do("signal TERM"); err != nil {
			return err
		}

		begun := time.Now()
		if err := l.command.Wait(); err != nil || time.Since(begun) > killed {
			i.find("the container ended %v after SIGTERM with %v:\n%s", time.Since(begun), err, l.said.String())
		}

		t.Logf("ended %v after SIGTERM", time.Since(begun))

		return nil
	})
	for _, finding := range findings {
		t.Error(finding)
	}
}

func (i *inspection) followContainer(t *testing.T, c *container, l *laboratory) error {
	t.Helper()

	supervisor, err := c.started()
	if err != nil {
		return err
	}

	if err := i.Admit(i.ctx, service, supervisor); err != nil {
		return err
	}

	nic := "nic " + adapterMAC

	if err := l.lines(
		`expect running within 20s`,
		`expect hostname "talos-cp-1" within 20s`,
		`expect `+nic+` address 10.5.0.2/24 within 20s`,
	); err != nil {
		return err
	}

	judgeProcesses(t, supervisor)

	// A new socket under the old name: the directory is mounted, not the file.
	if err := i.Kill(); err != nil {
		return err
	}

	if err := i.put(address(adapter("eth0", 2), "10.5.0.88/24")); err != nil {
		return err
	}

	if err := i.Start(i.ctx); err != nil {
		return err
	}

	return l.do(`expect ` + nic + ` address 10.5.0.88/24 within 20s`)
}

// TestContainerElsewhere runs the finished image on this machine as it is, which is no VMware guest: the service stays and
// does nothing, or a node of another platform would never finish its boot.
func TestContainerElsewhere(t *testing.T) {
	t.Parallel()

	machined := t.TempDir()
	c := unpackContainer(t, machined)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	command := exec.CommandContext(ctx, c.script())
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := command.Start(); err != nil {
		t.Fatal(err)
	}

	said := bufio.NewScanner(output)
	idle := false

	for !idle && said.Scan() {
		t.Log(said.Text())
		idle = strings.Contains(said.Text(), "staying idle")
	}

	if !idle {
		t.Fatal("it does not say that it stays idle")
	}

	supervisor, err := c.started()
	if err != nil {
		t.Fatal(err)
	}

	judgeProcesses(t, supervisor)

	if _, err := c.call("kill", c.id, strconv.Itoa(int(syscall.SIGTERM))); err != nil {
		t.Fatal(err)
	}

	begun := time.Now()

	for said.Scan() {
		t.Log(said.Text())
	}

	if err := command.Wait(); err != nil || time.Since(begun) > killed {
		t.Errorf("it ended %v after SIGTERM with %v", time.Since(begun), err)
	}

	t.Logf("ended %v after SIGTERM", time.Since(begun))
}
