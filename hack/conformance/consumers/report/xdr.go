package report

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Limits of nicinfo.x.
const (
	maxAdapters    = 16
	maxAddresses   = 2048
	maxRoutes      = 100
	maxServers     = 16
	maxSuffixes    = 10
	maxMAC         = 18
	maxAddress     = 255
	maxName        = 255
	maxDHCP        = 16384
	version3       = 3
	familyIPv4     = 1
	familyIPv6     = 2
	maxIPv4Prefix  = 32
	maxIPv6Prefix  = 128
	originUnknown  = 3
	highestOrigin  = 6
	highestState   = 8
	wordSize       = 4
	highestRouting = 4
)

// Address is an address of an adapter.
type Address struct {
	IP     netip.Addr
	Prefix int
	// Origin and State are the numbers of IpAddressOrigin and IpAddressStatus, 0 where they were not sent.
	Origin, State uint32
}

// Adapter is an entry of the NIC record.
type Adapter struct {
	MAC       string
	Addresses []Address
	// DHCP4 and DHCP6 tell whether the adapter asks for addresses, nil where nothing was sent.
	DHCP4, DHCP6 *bool
}

// Route is a route of the NIC record.
type Route struct {
	Destination netip.Addr
	Prefix      int
	// Gateway is not valid where there is none.
	Gateway netip.Addr
	// Adapter is an index into the record's adapters.
	Adapter int
	Metric  uint32
}

// DNS is what the resolver of the guest uses.
type DNS struct {
	Host, Domain string
	Servers      []netip.Addr
	Suffixes     []string
}

// Network is a NIC record, GuestNicProto of nicinfo.x in version 3.
type Network struct {
	Adapters []Adapter
	Routes   []Route
	DNS      *DNS
}

// errShort says that the record ends within an item.
var errShort = errors.New("the record ends within an item")

// cursor reads XDR (RFC 4506) and keeps the first mistake.
type cursor struct {
	left []byte
	err  error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *cursor) word() uint32 {
	if c.err == nil && len(c.left) < wordSize {
		c.fail(errShort)
	}

	if c.err != nil {
		return 0
	}

	value := binary.BigEndian.Uint32(c.left)
	c.left = c.left[wordSize:]

	return value
}

func (c *cursor) flag(what string) bool {
	value := c.word()
	if value > 1 {
		c.fail(fmt.Errorf("%s: %d is no boolean", what, value))
	}

	return value == 1
}

func (c *cursor) count(what string, limit uint32) int {
	value := c.word()
	if value > limit {
		c.fail(fmt.Errorf("%s: %d, the limit is %d", what, value, limit))

		return 0
	}

	return int(value)
}

func (c *cursor) bytes(what string, limit uint32) []byte {
	length := c.count(what, limit)
	padded := (length + wordSize - 1) / wordSize * wordSize

	if c.err == nil && len(c.left) < padded {
		c.fail(errShort)
	}

	if c.err != nil {
		return nil
	}

	value, padding := c.left[:length], c.left[length:padded]
	c.left = c.left[padded:]

	for _, b := range padding {
		if b != 0 {
			c.fail(fmt.Errorf("%s: padding with %d", what, b))
		}
	}

	return value
}

func (c *cursor) text(what string, limit uint32) string { return string(c.bytes(what, limit)) }

// optional reads T* by read where it is present.
func optional[T any](c *cursor, what string, read func() T) *T {
	if !c.flag(what) || c.err != nil {
		return nil
	}

	value := read()

	return &value
}

// list reads T<limit>.
func list[T any](c *cursor, what string, limit uint32, read func() T) []T {
	count := c.count(what, limit)

	var values []T

	for range count {
		if c.err != nil {
			return nil
		}

		values = append(values, read())
	}

	return values
}

func (c *cursor) address() netip.Addr {
	family := c.word()
	bytes := c.bytes("address", maxAddress)

	ip, ok := netip.AddrFromSlice(bytes)
	if c.err != nil {
		return netip.Addr{}
	}

	if !ok || (family != familyIPv4 || !ip.Is4()) && (family != familyIPv6 || !ip.Is6()) {
		c.fail(fmt.Errorf("an address of family %d with %d bytes", family, len(bytes)))
	}

	return ip
}

func (c *cursor) prefix(ip netip.Addr) int {
	limit := uint32(maxIPv6Prefix)
	if ip.Is4() {
		limit = maxIPv4Prefix
	}

	return c.count("prefix length", limit)
}

func (c *cursor) enumeration(what string, highest uint32, holes ...uint32) func() uint32 {
	return func() uint32 {
		value := c.word()

		for _, hole := range holes {
			if value == hole {
				c.fail(fmt.Errorf("%s: %d does not exist", what, value))
			}
		}

		if value == 0 || value > highest {
			c.fail(fmt.Errorf("%s: %d does not exist", what, value))
		}

		return value
	}
}

func (c *cursor) adapterAddress() Address {
	ip := c.address()
	address := Address{IP: ip, Prefix: c.prefix(ip)}

	if origin := optional(c, "origin", c.enumeration("origin", highestOrigin, originUnknown)); origin != nil {
		address.Origin = *origin
	}

	if state := optional(c, "status", c.enumeration("status", highestState)); state != nil {
		address.State = *state
	}

	return address
}

func (c *cursor) dns() DNS {
	var dns DNS

	if host := optional(c, "host name", func() string { return c.text("host name", maxName) }); host != nil {
		dns.Host = *host
	}

	if domain := optional(c, "domain", func() string { return c.text("domain", maxName) }); domain != nil {
		dns.Domain = *domain
	}

	dns.Servers = list(c, "servers", maxServers, c.address)
	dns.Suffixes = list(c, "suffixes", maxSuffixes, func() string { return c.text("suffix", maxName) })

	return dns
}

func (c *cursor) dhcp() bool {
	enabled := c.flag("DHCP")
	c.text("DHCP settings", maxDHCP)

	return enabled
}

// wins reads two addresses that nothing here asks for.
func (c *cursor) wins() struct{} {
	c.address()
	c.address()

	return struct{}{}
}

func (c *cursor) adapter() Adapter {
	adapter := Adapter{MAC: c.text("MAC", maxMAC)}
	adapter.Addresses = list(c, "addresses", maxAddresses, c.adapterAddress)
	optional(c, "DNS of an adapter", c.dns)
	optional(c, "WINS of an adapter", c.wins)
	adapter.DHCP4 = optional(c, "DHCPv4 of an adapter", c.dhcp)
	adapter.DHCP6 = optional(c, "DHCPv6 of an adapter", c.dhcp)

	return adapter
}

func (c *cursor) route() Route {
	var route Route

	route.Destination = c.address()
	route.Prefix = c.prefix(route.Destination)

	if gateway := optional(c, "gateway", c.address); gateway != nil {
		route.Gateway = *gateway
	}

	route.Adapter = int(c.word())
	if kind := c.word(); kind > highestRouting {
		c.fail(fmt.Errorf("route type: %d does not exist", kind))
	}

	route.Metric = c.word()

	return route
}

// DecodeNetwork reads the payload of `SetGuestInfo  9` and `SetGuestInfo  10`, as rpcgen would from nicinfo.x
// (https://github.com/vmware/open-vm-tools/blob/master/open-vm-tools/lib/guestRpc/nicinfo.x). Nothing may follow it.
func DecodeNetwork(payload []byte) (Network, error) {
	c := &cursor{left: payload}

	if version := c.word(); c.err == nil && version != version3 {
		c.fail(fmt.Errorf("version %d of the record", version))
	}

	if !c.flag("the record") {
		c.fail(errors.New("the record is absent"))
	}

	var network Network

	network.Adapters = list(c, "adapters", maxAdapters, c.adapter)
	network.Routes = list(c, "routes", maxRoutes, c.route)
	network.DNS = optional(c, "DNS", c.dns)
	optional(c, "WINS", c.wins)
	optional(c, "DHCPv4", c.dhcp)
	optional(c, "DHCPv6", c.dhcp)

	if c.err == nil && len(c.left) > 0 {
		c.fail(fmt.Errorf("%d bytes after the record", len(c.left)))
	}

	for _, route := range network.Routes {
		if route.Adapter >= len(network.Adapters) {
			c.fail(fmt.Errorf("a route of adapter %d of %d", route.Adapter, len(network.Adapters)))
		}
	}

	return network, c.err
}
