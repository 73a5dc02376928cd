package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/node"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/reference"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/snapshot"
	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/talos/rules"
)

const (
	// service is the id of the daemon's extension service.
	service = "ext-talos-vmtoolsd"
	// patience bounds one look of a subject; it may wait for an outage to end, but not for ever.
	patience = time.Minute
	// outage is how long the reference waits for a node that does not answer.
	outage = 8 * time.Second

	watchMethod   = "/cosi.resource.State/Watch"
	versionMethod = "/machine.MachineService/Version"
)

// subject is a program that looks at a node and prints what it knows, as `talos-vmtoolsd query --json` does.
type subject struct {
	name    string
	program string
	environ []string
}

// theReference is this test program itself, as a client with or without a fault: see TestMain.
func theReference(fault reference.Fault) subject {
	return subject{name: "reference", program: os.Args[0], environ: []string{referenceVariable + "=" + string(fault)}}
}

// theDaemon is the program under test.
func theDaemon(t *testing.T) subject {
	program := os.Getenv("TALOS_VMTOOLSD")
	if program == "" {
		if os.Getenv("CONFORMANCE_REQUIRED") == "1" {
			t.Fatal("TALOS_VMTOOLSD does not name the daemon, and CONFORMANCE_REQUIRED is set")
		}

		t.Skip("TALOS_VMTOOLSD does not name the daemon")
	}

	return subject{name: "daemon", program: program}
}

// look is one run of a subject.
type look struct {
	command   *exec.Cmd
	output    bytes.Buffer
	complaint bytes.Buffer
	ended     chan error
}

// begin starts the subject. As root it has a mount namespace of its own, as a container has.
func (s subject) begin(ctx context.Context, n *node.Node) (*look, error) {
	l := &look{command: exec.CommandContext(ctx, s.program, "query", "--json"), ended: make(chan error, 1)}
	l.command.Env = append([]string{"VMTOOLSD_TALOS_SOCKET=" + n.Socket}, s.environ...)
	l.command.Stdout = &l.output
	l.command.Stderr = &l.complaint

	if os.Geteuid() == 0 {
		l.command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}

	if err := l.command.Start(); err != nil {
		return nil, err
	}

	go func() { l.ended <- l.command.Wait() }()

	return l, nil
}

func (l *look) pid() int { return l.command.Process.Pid }

// finish waits for the output. An exit status other than 0 may be right: it is the output that counts.
func (l *look) finish() ([]byte, error) {
	var exit *exec.ExitError
	if err := <-l.ended; err != nil && !errors.As(err, &exit) {
		return nil, err
	}

	if state := l.command.ProcessState; !state.Exited() {
		return nil, fmt.Errorf("%s: %s", state, l.complaint.Bytes())
	}

	return l.output.Bytes(), nil
}

// inspection is a subject before a node, and what was found wrong.
type inspection struct {
	*node.Node

	ctx      context.Context //nolint:containedctx // lives as long as one check
	subject  subject
	findings []string
}

// inspect runs a check on a fresh node that serves already.
func inspect(t *testing.T, s subject, check func(*inspection) error) []string {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()

	directory, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}

	defer os.RemoveAll(directory) //nolint:errcheck

	var log logBuffer

	n, err := node.New(filepath.Join(directory, "machine.sock"), &log)
	if err != nil {
		t.Fatal(err)
	}

	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}

	i := &inspection{Node: n, ctx: ctx, subject: s}

	if err := check(i); err != nil {
		t.Fatalf("the check itself failed: %v\n%s", err, log.String())
	}

	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}

	return i.findings
}

// find notes what is wrong, each thing once.
func (i *inspection) find(format string, arguments ...any) {
	if finding := fmt.Sprintf(format, arguments...); !slices.Contains(i.findings, finding) {
		i.findings = append(i.findings, finding)
	}
}

func (i *inspection) put(resources ...resource.Resource) error {
	for _, r := range resources {
		if err := i.Put(i.ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.Metadata(), err)
		}
	}

	return nil
}

func (i *inspection) remove(resources ...resource.Resource) error {
	for _, r := range resources {
		if err := i.Remove(i.ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.Metadata(), err)
		}
	}

	return nil
}

// truth is what the node's state says.
func (i *inspection) truth() (snapshot.Snapshot, error) {
	version := snapshot.Version{Tag: node.Release(), Arch: architecture, Platform: "vmware"}

	return snapshot.Read(i.ctx, version, i.Resources)
}

// begin starts the subject as a service that machined has just started.
func (i *inspection) begin() (*look, error) {
	ctx, cancel := context.WithTimeout(i.ctx, patience)
	context.AfterFunc(i.ctx, cancel)

	l, err := i.subject.begin(ctx, i.Node)
	if err != nil {
		cancel()
	}

	return l, err
}

// agrees lets the subject look, and compares what it says with the state of the node.
func (i *inspection) agrees(moment string) error {
	l, err := i.begin()
	if err != nil {
		return err
	}

	if err := i.Admit(i.ctx, service, l.pid()); err != nil {
		return err
	}

	return i.judge(moment, l, i.truth)
}

// judge compares the output of a look, and what it called, with what they have to be.
func (i *inspection) judge(moment string, l *look, expected func() (snapshot.Snapshot, error)) error {
	output, err := l.finish()
	if err != nil {
		i.find("%s: the subject was killed: %v", moment, err)

		return nil
	}

	want, err := expected()
	if err != nil {
		return err
	}

	difference, err := snapshot.Diff(want, output)

	switch {
	case err != nil:
		i.find("%s: %v; it says: %s", moment, err, l.complaint.Bytes())
	case difference != "":
		i.find("%s: the subject differs from Talos (-Talos +subject):\n%s", moment, difference)
	}

	i.judgeCalls(moment, want)
	i.Calls.Reset()

	return nil
}

// judgeCalls checks manners: the least role and no other, no metadata that only apid understands, and watches that every
// release takes and that do not fetch what is not reported.
func (i *inspection) judgeCalls(moment string, facts snapshot.Snapshot) {
	reported := facts.Reported()

	for _, call := range i.Calls.All() {
		if least := leastRole(call.Method); !slices.Equal(call.Roles, []string{least}) {
			i.find("%s: %s was called with the roles %q; the least is %s", moment, call.Method, call.Roles, least)
		}

		for _, key := range []string{"node", "nodes", "proxyfrom"} {
			if values := call.Metadata.Get(key); len(values) > 0 {
				i.find("%s: %s was called with %s=%q", moment, call.Method, key, values)
			}
		}

		request, ok := call.Request.(*v1alpha1.WatchRequest)
		if !ok {
			continue
		}

		if request.GetOptions() == nil || request.GetApiVersion() != 1 {
			i.find("%s: the watch of %s has options %v and API version %d",
				moment, request.GetType(), request.GetOptions(), request.GetApiVersion())
		}

		if request.GetType() == "AddressStatuses.net.talos.dev" && facts.Links.Value != nil {
			for _, id := range call.Resources {
				link, _, _ := strings.Cut(id, "/")
				if !reported[link] {
					i.find("%s: the address %s of a link that is not reported was fetched", moment, id)
				}
			}
		}
	}
}

// leastRole is the weakest of the roles that Talos's own table accepts.
func leastRole(method string) string {
	accepted, ok := rules.Rules[method]
	if !ok {
		return string(role.Admin)
	}

	for _, weak := range []role.Role{role.Reader, role.Operator} {
		if accepted.Includes(weak) {
			return string(weak)
		}
	}

	return string(role.Admin)
}
