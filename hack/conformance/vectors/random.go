package vectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"time"
)

const (
	// maxEnum is one more than the largest usual value of an enumeration: larger than any that Talos or the kernel has.
	maxEnum = 300
	// numberBits is the width of an enumeration on the wire.
	numberBits = 32
)

var (
	addrType     = reflect.TypeFor[netip.Addr]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	addrPortType = reflect.TypeFor[netip.AddrPort]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[[]byte]()
)

// Fill gives every field of a spec that goes over the wire a random value. A field is zero now and then, and so are many
// at once: what a release does with zero values is where releases differ.
func Fill(random *rand.Rand, spec reflect.Value) {
	sparse := random.IntN(4) == 0

	for i := range spec.NumField() {
		field := spec.Type().Field(i)
		if field.Tag.Get("protobuf") == "" || !field.IsExported() {
			continue
		}

		if random.IntN(5) == 0 || sparse && random.IntN(4) != 0 {
			continue
		}

		fillValue(random, spec.Field(i))
	}
}

func fillValue(random *rand.Rand, value reflect.Value) {
	switch t := value.Type(); {
	case t == addrType:
		value.Set(reflect.ValueOf(randomAddr(random)))
	case t == prefixType:
		value.Set(reflect.ValueOf(randomPrefix(random)))
	case t == addrPortType:
		value.Set(reflect.ValueOf(netip.AddrPortFrom(randomAddr(random), uint16(random.Uint32()))))
	case t == timeType:
		value.Set(reflect.ValueOf(time.Unix(random.Int64N(1<<33), random.Int64N(1e9)).UTC()))
	case t == durationType:
		value.SetInt(random.Int64N(1 << 50))
	case t.ConvertibleTo(bytesType) && t.Kind() == reflect.Slice:
		value.SetBytes(randomHardwareAddr(random))
	default:
		fillKind(random, value)
	}
}

func fillKind(random *rand.Rand, value reflect.Value) {
	enum := value.Type().PkgPath() != ""

	switch value.Kind() { //nolint:exhaustive
	case reflect.Bool:
		value.SetBool(random.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		value.SetInt(randomInt(random, value.Type().Bits(), enum))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		// Flags are enumerations of any value.
		value.SetUint(random.Uint64() >> (64 - random.IntN(value.Type().Bits()) - 1))
	case reflect.String:
		value.SetString(randomString(random))
	case reflect.Struct:
		Fill(random, value)
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fillValue(random, value.Elem())
	case reflect.Slice:
		slice := reflect.MakeSlice(value.Type(), random.IntN(5), 5)
		for i := range slice.Len() {
			fillValue(random, slice.Index(i))
		}

		value.Set(slice)
	case reflect.Map:
		value.Set(reflect.MakeMap(value.Type()))

		for range random.IntN(4) {
			key, element := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
			fillValue(random, key)
			fillValue(random, element)
			value.SetMapIndex(key, element)
		}
	default:
		panic(fmt.Sprintf("no random value of %s is known", value.Type()))
	}
}

func randomInt(random *rand.Rand, bits int, enum bool) int64 {
	// An enumeration that nobody knows may be any number, also a negative one, which is the longest on the wire.
	if enum && bits >= numberBits && random.IntN(16) == 0 {
		return int64(int32(random.Uint32()))
	}

	if enum {
		return random.Int64N(min(maxEnum, int64(math.MaxInt64)>>(64-bits)))
	}

	// Numbers of every magnitude, and negative ones, which are the longest on the wire.
	number := int64(random.Uint64() >> (64 - random.IntN(bits-1) - 1))
	if random.IntN(4) == 0 {
		number = -number
	}

	return number
}

func randomString(random *rand.Rand) string {
	alphabet := []rune("abcXYZ019-_./:# \"\\\nöß€漢🐧")

	text := make([]rune, random.IntN(24))
	for i := range text {
		text[i] = alphabet[random.IntN(len(alphabet))]
	}

	return string(text)
}

// randomID begins as those of an AddressSpec do, now and then with what no release has.
func randomID(random *rand.Rand) string {
	layers := []string{
		"dhcp4", "dhcp6", "vip", "configuration", "platform", "cmdline", "default", "ipam", "VIP", "", "vip2",
	}

	return layers[random.IntN(len(layers))] + "/eth0/" + randomString(random)
}

// randomHardwareAddr is that of an Ethernet, now and then of an InfiniBand adapter, and rarely longer than any.
func randomHardwareAddr(random *rand.Rand) []byte {
	length := []int{6, 6, 6, 6, 6, 0, 8, 20, 32, 33}[random.IntN(10)]

	address := make([]byte, length)
	for i := range address {
		address[i] = byte(random.Uint32())
	}

	return address
}

func randomAddr(random *rand.Rand) netip.Addr {
	var octets [16]byte

	for i := range octets {
		if random.IntN(3) != 0 {
			octets[i] = byte(random.Uint32())
		}
	}

	switch random.IntN(8) {
	case 0:
		return netip.Addr{}
	case 1, 2, 3:
		return netip.AddrFrom4([4]byte(octets[:4]))
	case 4: // IPv4-mapped
		return netip.AddrFrom16(netip.AddrFrom4([4]byte(octets[:4])).As16())
	case 5:
		return netip.AddrFrom16(octets).WithZone("eth0")
	default:
		return netip.AddrFrom16(octets)
	}
}

func randomPrefix(random *rand.Rand) netip.Prefix {
	address := randomAddr(random).WithZone("")
	if !address.IsValid() {
		return netip.Prefix{}
	}

	// A length of its own that is none is -1 on the wire.
	if random.IntN(16) == 0 {
		return netip.PrefixFrom(address, -1)
	}

	return netip.PrefixFrom(address, random.IntN(address.BitLen()+1))
}
