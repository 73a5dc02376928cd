// Package laboratory runs talos-vmtoolsd, unmodified, between the simulated node and the simulated VMware host of
// hack/lab, and keeps every byte that it tells the host.
package laboratory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/report"
)

const (
	// patience is the longest wait for an answer.
	patience = 30 * time.Second
	// limit ends a run that nobody ended.
	limit = "10m"
	// looks at a socket that does not exist yet, and the pause between two.
	looks, between = 300, 20 * time.Millisecond
	// glance is the pause between two looks at the transcript.
	glance = 5 * time.Millisecond
	// rounds of waiting until nothing more is reported.
	rounds = 20
)

// Programs are the paths of what is run.
type Programs struct{ Lab, Daemon string }

// Run is the daemon between a node and a host.
type Run struct {
	directory  string
	node, host *peer
	file       *os.File
	told       *report.Reader
}

// peer is a program of the laboratory with its control socket.
type peer struct {
	command *exec.Cmd
	said    bytes.Buffer
	conn    net.Conn
	answers *bufio.Reader
}

// Start starts the node in this state, then the daemon under the host.
func (p Programs) Start(ctx context.Context, state string) (*Run, error) {
	directory, err := os.MkdirTemp("", "consumers")
	if err != nil {
		return nil, err
	}

	r := &Run{directory: directory}

	// The daemon is another user than we.
	if err := os.Chmod(directory, 0o755); err != nil { //nolint:gosec // sockets with modes of their own
		return nil, errors.Join(err, r.Stop())
	}

	file := filepath.Join(directory, "state.yaml")
	if err := os.WriteFile(file, []byte(state), 0o600); err != nil {
		return nil, errors.Join(err, r.Stop())
	}

	socket := filepath.Join(directory, "machine.sock")
	control := filepath.Join(directory, "node.sock")
	node := exec.CommandContext(ctx, p.Lab, "node", "--socket", socket, "--control", control, "--state", file)

	if r.node, err = start(node, control); err != nil {
		return nil, errors.Join(err, r.Stop())
	}

	control = filepath.Join(directory, "host.sock")
	host := exec.CommandContext(ctx, p.Lab, "vmx", "--limit", limit, "--control", control, "--transcript", r.transcript(),
		"--", p.Daemon, "run")
	host.Env = append(os.Environ(), "VMTOOLSD_TALOS_SOCKET="+socket)

	if r.host, err = start(host, control); err != nil {
		return nil, errors.Join(err, r.Stop())
	}

	if r.file, err = os.Open(r.transcript()); err != nil {
		return nil, errors.Join(err, r.Stop())
	}

	r.told = report.NewReader(r.file)

	return r, nil
}

func (r *Run) transcript() string { return filepath.Join(r.directory, "vmx.jsonl") }

func start(command *exec.Cmd, control string) (*peer, error) {
	p := &peer{command: command}
	command.Stdout, command.Stderr = &p.said, &p.said
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = patience

	if err := command.Start(); err != nil {
		return nil, err
	}

	var err error

	for range looks {
		if p.conn, err = net.Dial("unix", control); err == nil {
			p.answers = bufio.NewReader(p.conn)

			return p, nil
		}

		time.Sleep(between)
	}

	p.stop()

	return nil, fmt.Errorf("%w: %s", err, p.said.String())
}

func (p *peer) do(line string) error {
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}

	if _, err := fmt.Fprintln(p.conn, line); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}

	text, err := p.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}

	var answer struct {
		OK bool `json:"ok"`
	}

	if err := json.Unmarshal(text, &answer); err != nil || !answer.OK {
		return fmt.Errorf("%s: %s", line, bytes.TrimSpace(text))
	}

	return nil
}

func (p *peer) stop() {
	if p == nil {
		return
	}

	if p.conn != nil {
		p.conn.Close() //nolint:errcheck // nothing more is written
	}

	p.command.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
	p.command.Wait()                       //nolint:errcheck // likewise
}

// Node gives a command to the node.
func (r *Run) Node(line string) error { return r.node.do(line) }

// Host gives a line of the scenario language to the host; what it expects and does not see is an error.
func (r *Run) Host(line string) error { return r.host.do(line) }

// Settle waits until name and network are told and nothing more about the network follows.
func (r *Run) Settle() error {
	for _, line := range []string{
		"expect running within 20s",
		`expect rpci "SetGuestInfo  1 " within 10s`,
		`expect rpci "SetGuestInfo  10 " within 10s`,
	} {
		if err := r.Host(line); err != nil {
			return fmt.Errorf("%w\n%s", err, r.host.said.String())
		}
	}

	return r.Quiet()
}

// Quiet waits until nothing more about the network follows.
func (r *Run) Quiet() error {
	var err error

	for range rounds {
		if err = errors.Join(r.Host("remember"), r.Host(`expect no rpci "SetGuestInfo  10 " for 300ms`)); err == nil {
			return nil
		}
	}

	return err
}

// Guest gives what was told until now.
func (r *Run) Guest() (*report.Guest, error) { return r.told.More() }

// Await waits until the guest has told what is looked for.
func (r *Run) Await(what string, told func(*report.Guest) bool) error {
	for end := time.Now().Add(patience); ; time.Sleep(glance) {
		guest, err := r.Guest()
		if err != nil || told(guest) {
			return err
		}

		if time.Now().After(end) {
			return fmt.Errorf("not told within %s: %s", patience, what)
		}
	}
}

// Stop ends everything and removes its files.
func (r *Run) Stop() error {
	r.host.stop()
	r.node.stop()

	if r.file != nil {
		r.file.Close() //nolint:errcheck // it was only read
	}

	return os.RemoveAll(r.directory)
}
