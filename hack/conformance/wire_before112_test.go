//go:build !since1.12

package conformance

// encodedAddress is 10.5.0.2/24 of eth0 with every zero value.
const encodedAddress = "0a080a040a050002101812060a040a0500021a060a040a05000222002a00" +
	"30023a046574683040024800" + "508001" + "5800"
