//go:build since1.12

package conformance

// encodedAddress is 10.5.0.2/24 of eth0 without any zero value.
const encodedAddress = "0a080a040a050002101812060a040a0500021a060a040a050002" + "30023a0465746830" + "4002" + "508001"
