// Package report reads what a guest told its host: the bytes that crossed the backdoor, as `lab vmx --transcript` wrote
// them down. It shares nothing with the encoders of talos-vmtoolsd, nor with the decoders of the laboratory.
package report

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Numbers of `SetGuestInfo`, from guestInfo.h of open-vm-tools
// (https://github.com/vmware/open-vm-tools/blob/master/open-vm-tools/lib/include/guestInfo.h).
const (
	infoHostName   = 1
	infoUptime     = 7
	infoNetworkV2  = 9
	infoNetworkV3  = 10
	infoOSDetailed = 11
)

// Where things stand in the detailed OS record, HostinfoDetailedDataHeader of the same project: a word, the short and the
// full name with a NUL each, padding, and the text of properties.
const (
	detailedShortName  = 4
	detailedFullName   = detailedShortName + 129
	detailedProperties = 648
)

// longestLine of a transcript in bytes: a message has at most 64 KiB, and is written twice.
const longestLine = 1 << 20

// Disk is a filesystem of the guest.
type Disk struct {
	Path, Type     string
	Capacity, Free int64
	// Devices are the virtual disks that it lies on: scsi0:1.
	Devices []string
}

// Guest is what a guest has told.
type Guest struct {
	// Messages are those that the host accepted, in order, byte by byte.
	Messages [][]byte

	HostName string
	// Uptime in hundredths of a second.
	Uptime  uint64
	Network *Network
	// networkAt is the number of the message that holds it.
	networkAt int
	// OSShort and OSFull are the names of the operating system, OSDetails all that was said about it.
	OSShort, OSFull, OSDetails string
	Disks                      []Disk
	// Variables are those under `guestinfo.`.
	Variables map[string]string
	// Capabilities that the tools announced, such as "statechange".
	Capabilities map[string]bool
	ToolsVersion string
}

// event is a line of a transcript.
type event struct {
	Kind    string `json:"ev"`
	Channel int    `json:"ch"`
	Hex     string `json:"hex"`
	Text    string `json:"text"`
	NUL     int    `json:"nul"`
	Length  int    `json:"len"`
}

// payload gives the bytes: binary ones stand in hexadecimal, others as text without the NULs at the end.
func (e event) payload() ([]byte, error) {
	if e.Hex != "" {
		return hex.DecodeString(e.Hex)
	}

	payload := append([]byte(e.Text), make([]byte, e.NUL)...)
	if len(payload) != e.Length {
		return nil, fmt.Errorf("%d bytes where %d were sent", len(payload), e.Length)
	}

	return payload, nil
}

// Reader reads a transcript, also while it is being written.
type Reader struct {
	lines *bufio.Reader
	// half is the beginning of a line whose end is not written yet.
	half  []byte
	asked map[int][]byte
	guest *Guest
}

// NewReader reads from the transcript's beginning.
func NewReader(transcript io.Reader) *Reader {
	return &Reader{
		lines: bufio.NewReader(transcript),
		asked: map[int][]byte{},
		guest: &Guest{Variables: map[string]string{}, Capabilities: map[string]bool{}},
	}
}

// ReadFile reads the transcript at path.
func ReadFile(path string) (*Guest, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}

	defer file.Close() //nolint:errcheck // it was only read

	return NewReader(file).More()
}

// More reads what was written since, and gives all that was told until now.
func (r *Reader) More() (*Guest, error) {
	for {
		piece, err := r.lines.ReadBytes('\n')
		r.half = append(r.half, piece...)

		if errors.Is(err, io.EOF) {
			return r.guest, nil
		}

		if err == nil && len(r.half) > longestLine {
			err = fmt.Errorf("a line of %d bytes", len(r.half))
		}

		if err == nil {
			err = r.line(r.half)
		}

		if err != nil {
			return nil, err
		}

		r.half = r.half[:0]
	}
}

// line takes a line. A message counts when the host has answered it with success.
func (r *Reader) line(line []byte) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("%.80s: %w", line, err)
	}

	if e.Kind != "rpci" && e.Kind != "rpci-reply" {
		return nil
	}

	payload, err := e.payload()
	if err != nil {
		return fmt.Errorf("%.80s: %w", line, err)
	}

	if e.Kind == "rpci" {
		r.asked[e.Channel] = payload

		return nil
	}

	message, ok := r.asked[e.Channel]
	delete(r.asked, e.Channel)

	if !ok || !bytes.HasPrefix(payload, []byte("1")) {
		return nil
	}

	r.guest.Messages = append(r.guest.Messages, message)
	if err := r.guest.take(message); err != nil {
		return fmt.Errorf("%.40q: %w", message, err)
	}

	return nil
}

// take decodes one accepted message.
func (g *Guest) take(message []byte) error {
	name, rest, _ := bytes.Cut(message, []byte(" "))

	switch name := string(name); name {
	case "SetGuestInfo":
		return g.takeInfo(rest)
	case "SetGuestDiskInfo":
		return g.takeDisks(rest)
	case "info-set":
		key, value, _ := strings.Cut(text(rest), " ")
		g.Variables[key] = value
	case "tools.set.versiontype", "tools.set.version":
		g.ToolsVersion, _, _ = strings.Cut(text(rest), " ")
	default:
		if capability, ok := strings.CutPrefix(name, "tools.capability."); ok {
			g.Capabilities[capability] = true
		}
	}

	return nil
}

func (g *Guest) takeInfo(rest []byte) error {
	rest, ok := bytes.CutPrefix(rest, []byte(" "))
	number, payload, separated := bytes.Cut(rest, []byte(" "))

	id, err := strconv.Atoi(string(number))
	if !ok || !separated || err != nil {
		return errors.New("not two blanks, a number and a blank")
	}

	switch id {
	case infoHostName:
		g.HostName = text(payload)
	case infoUptime:
		g.Uptime, err = strconv.ParseUint(text(payload), 10, 64)
	case infoNetworkV2, infoNetworkV3:
		var network Network

		if network, err = DecodeNetwork(payload); err == nil {
			g.Network = &network
			g.networkAt = len(g.Messages) - 1
		}
	case infoOSDetailed:
		err = g.takeOS(payload)
	}

	return err
}

func (g *Guest) takeOS(payload []byte) error {
	if len(payload) < detailedProperties || binary.LittleEndian.Uint32(payload) != 1 {
		return errors.New("not the detailed OS record in version 1")
	}

	g.OSShort = text(payload[detailedShortName:detailedFullName])
	g.OSFull = text(payload[detailedFullName:detailedProperties])
	g.OSDetails = text(payload[detailedProperties:])

	return nil
}

func (g *Guest) takeDisks(payload []byte) error {
	var list struct {
		Disks []struct {
			Name string `json:"name"`
			Free string `json:"free"`
			Size string `json:"size"`
			Type string `json:"fstype"`

			Devices []string `json:"devices"`
		} `json:"disks"`
	}

	if err := json.Unmarshal(bytes.TrimRight(payload, "\x00"), &list); err != nil {
		return err
	}

	g.Disks = nil

	for _, disk := range list.Disks {
		path, err := base64.StdEncoding.DecodeString(disk.Name)
		if err != nil {
			return err
		}

		size, err := strconv.ParseInt(disk.Size, 10, 64)
		if err != nil {
			return err
		}

		free, err := strconv.ParseInt(disk.Free, 10, 64)
		if err != nil {
			return err
		}

		g.Disks = append(g.Disks, Disk{
			Path: text(path), Type: disk.Type, Capacity: size, Free: free, Devices: disk.Devices,
		})
	}

	return nil
}

// NetworkMessage gives the bytes of the last NIC record.
func (g *Guest) NetworkMessage() []byte {
	if g.Network == nil {
		return nil
	}

	return g.Messages[g.networkAt]
}

// text is what stands before the first NUL.
func text(payload []byte) string {
	before, _, _ := bytes.Cut(payload, []byte{0})

	return string(before)
}
