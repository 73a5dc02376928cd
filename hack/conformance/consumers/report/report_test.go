package report

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
)

// worked is a record put together by hand from nicinfo.x: one adapter with a leased IPv4 address and one by
// autoconfiguration, the default route, and the resolver.
var worked = join(
	"00000003 00000001",                                              // version 3, present
	"00000001", "00000011 30303a35303a35363a61303a30313a3031 000000", // one adapter, 00:50:56:a0:01:01
	"00000002",
	"00000001 00000004 0a01000b 00000018 00000001 00000004 00000001 00000001", // 10.1.0.11/24, DHCP, preferred
	"00000002 00000010 20010db8000000000000000000000011 00000040 00000001 00000005 00000000",
	"00000000 00000000 00000001 00000001 00000000 00000000", // no DNS, no WINS, DHCPv4 on without settings, no DHCPv6
	"00000001",
	"00000001 00000004 00000000 00000000 00000001 00000001 00000004 0a010001 00000000 00000000 00000400",
	"00000001 00000001 00000003 612d3100 00000000", // DNS: host "a-1", no domain
	"00000001 00000001 00000004 0a000035 00000000", // one server, no suffixes
	"00000000 00000000 00000000",                   // no WINS, no DHCP of the whole
)

func join(parts ...string) []byte {
	var bytes []byte

	for _, part := range parts {
		piece, err := hex.DecodeString(string(slices.DeleteFunc([]byte(part), func(b byte) bool { return b == ' ' })))
		if err != nil {
			panic(err)
		}

		bytes = append(bytes, piece...)
	}

	return bytes
}

func TestDecodeNetwork(t *testing.T) {
	network, err := DecodeNetwork(worked)
	if err != nil {
		t.Fatal(err)
	}

	adapter := network.Adapters[0]
	want := []Address{
		{IP: netip.MustParseAddr("10.1.0.11"), Prefix: 24, Origin: 4, State: 1},
		{IP: netip.MustParseAddr("2001:db8::11"), Prefix: 64, Origin: 5},
	}

	if adapter.MAC != "00:50:56:a0:01:01" || !slices.Equal(adapter.Addresses, want) {
		t.Errorf("the adapter is %+v", adapter)
	}

	if adapter.DHCP4 == nil || !*adapter.DHCP4 || adapter.DHCP6 != nil {
		t.Errorf("its DHCP is %v and %v", adapter.DHCP4, adapter.DHCP6)
	}

	route := Route{
		Destination: netip.MustParseAddr("0.0.0.0"), Gateway: netip.MustParseAddr("10.1.0.1"), Metric: 1024,
	}
	if !slices.Equal(network.Routes, []Route{route}) {
		t.Errorf("the routes are %+v", network.Routes)
	}

	if dns := network.DNS; dns == nil || dns.Host != "a-1" || dns.Domain != "" || len(dns.Servers) != 1 {
		t.Errorf("the resolver is %+v", dns)
	}
}

// TestDecodeNetworkIsStrict cuts the record at each length, adds to it, and makes single words wrong.
func TestDecodeNetworkIsStrict(t *testing.T) {
	for length := range worked {
		if _, err := DecodeNetwork(worked[:length]); err == nil {
			t.Errorf("%d bytes of %d are enough", length, len(worked))
		}
	}

	for _, wrong := range []struct {
		what   string
		offset int
		value  byte
	}{
		{"version 2", 3, 2},
		{"no record", 7, 0},
		{"17 adapters", 11, 17},
		{"padding of the MAC", 35, 1},
		{"an IPv4 address called IPv6", 43, 2},
		{"a prefix of 33 bits", 55, 33},
		{"origin 3", 63, 3},
		{"status 9", 71, 9},
	} {
		changed := bytes.Clone(worked)
		changed[wrong.offset] = wrong.value

		if _, err := DecodeNetwork(changed); err == nil {
			t.Errorf("%s is accepted", wrong.what)
		}
	}

	if _, err := DecodeNetwork(append(bytes.Clone(worked), 0, 0, 0, 0)); err == nil {
		t.Error("bytes after the record are accepted")
	}
}

// TestReader reads a transcript in pieces: what the host refused or has not answered yet was not told.
func TestReader(t *testing.T) {
	line := func(fields map[string]any) []byte {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}

		return append(text, '\n')
	}
	ask := func(text string) []byte {
		return line(map[string]any{"ev": "rpci", "ch": 1, "text": text, "nul": 1, "len": len(text) + 1})
	}
	reply := func(text string) []byte {
		return line(map[string]any{"ev": "rpci-reply", "ch": 1, "text": text, "len": len(text)})
	}

	var transcript bytes.Buffer

	reader := NewReader(&transcript)
	more := func(pieces ...[]byte) *Guest {
		t.Helper()
		transcript.Write(bytes.Join(pieces, nil))

		guest, err := reader.More()
		if err != nil {
			t.Fatal(err)
		}

		return guest
	}

	if guest := more(ask("SetGuestInfo  1 a-1"), reply("0 no")); guest.HostName != "" {
		t.Errorf("%q was refused", guest.HostName)
	}

	answer := reply("1 ")
	if guest := more(ask("SetGuestInfo  1 a-2"), answer[:5]); guest.HostName != "" {
		t.Errorf("%q was not answered", guest.HostName)
	}

	if guest := more(answer[5:]); guest.HostName != "a-2" {
		t.Errorf("%q was told", guest.HostName)
	}

	binary := append([]byte("SetGuestInfo  10 "), worked...)
	told := line(map[string]any{"ev": "rpci", "ch": 1, "hex": hex.EncodeToString(binary), "len": len(binary)})

	if guest := more(told, reply("1 ")); !bytes.Equal(guest.NetworkMessage(), binary) || guest.Network == nil {
		t.Errorf("%x was told", guest.NetworkMessage())
	}

	transcript.Write(ask("SetGuestInfo 1 a-3"))
	transcript.Write(reply("1 "))

	if _, err := reader.More(); err == nil {
		t.Error("a message with one blank is accepted")
	}
}
