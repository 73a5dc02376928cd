package judges

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func guestOf(ctx context.Context, m Machine) (*types.GuestInfo, []types.BaseVirtualDevice, error) {
	var machine mo.VirtualMachine
	if err := m.VM.Properties(ctx, m.VM.Reference(), []string{"guest", "config.hardware.device"}, &machine); err != nil {
		return nil, nil, err
	}

	if machine.Guest == nil {
		return nil, nil, fmt.Errorf("%s has no guest", m.Name)
	}

	return machine.Guest, machine.Config.Hardware.Device, nil
}

// gateways are the default gateways as Terraform takes them: of several, the last.
func gateways(guest *types.GuestInfo) (v4, v6 net.IP) {
	for _, stack := range guest.IpStack {
		if stack.IpRouteConfig == nil {
			continue
		}

		for _, route := range stack.IpRouteConfig.IpRoute {
			switch route.Network {
			case "0.0.0.0":
				v4 = net.ParseIP(route.Gateway.IpAddress)
			case "::":
				v6 = net.ParseIP(route.Gateway.IpAddress)
			}
		}
	}

	return v4, v6
}

// reaches says whether the address, with its own mask, is in one network with the gateway.
func reaches(address types.NetIpConfigInfoIpAddress, gateway net.IP) bool {
	ip := net.ParseIP(address.IpAddress)
	bits := 8 * net.IPv6len

	if ip.To4() != nil {
		ip, gateway, bits = ip.To4(), gateway.To4(), 8*net.IPv4len //nolint:mnd // bits of a byte
	}

	mask := net.CIDRMask(int(address.PrefixLength), bits)

	return gateway != nil && ip.Mask(mask).Equal(gateway.Mask(mask))
}

func configured(guest *types.GuestInfo) []types.NetIpConfigInfoIpAddress {
	var addresses []types.NetIpConfigInfoIpAddress

	for _, nic := range guest.Net {
		if nic.IpConfig != nil {
			addresses = append(addresses, nic.IpConfig.IpAddress...)
		}
	}

	return addresses
}

// Terraform restates two rules of hashicorp/terraform-provider-vsphere, which cannot be had as a module:
// buildAndSelectGuestIPs of vsphere/virtual_machine_guest_structure.go, and WaitForGuestNet with routable set of
// vsphere/internal/helper/virtualmachine/virtual_machine_helper.go, without addresses to ignore.
func Terraform() []Judge {
	return []Judge{
		{
			Name: "Terraform", Question: "`default_ip_address`",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				guest, _, err := guestOf(ctx, m)
				if err != nil {
					return "", err
				}

				return defaultAddress(guest), nil
			},
			Right: func(t Truth) []string { return one(dash(t.first())) },
		},
		{
			Name: "Terraform", Question: "`wait_for_guest_net_routable`",
			Ask: func(ctx context.Context, m Machine) (string, error) {
				guest, _, err := guestOf(ctx, m)
				if err != nil {
					return "", err
				}

				if routable(guest) {
					return "ready", nil
				}

				return Waits, nil
			},
			Right: func(t Truth) []string {
				if t.NoRoute != "" {
					return one(Waits)
				}

				return one("ready")
			},
		},
	}
}

// defaultAddress takes the first IPv4 address beside the IPv4 gateway, else the same of IPv6, else the first one there is,
// IPv4 before IPv6.
func defaultAddress(guest *types.GuestInfo) string {
	gateway4, gateway6 := gateways(guest)

	var primary4, primary6, first4, first6 string

	set := func(value *string, text string) {
		if *value == "" {
			*value = text
		}
	}

	for _, address := range configured(guest) {
		if any4(address.IpAddress) {
			set(&first4, address.IpAddress)

			if reaches(address, gateway4) {
				set(&primary4, address.IpAddress)
			}
		} else {
			set(&first6, address.IpAddress)

			if reaches(address, gateway6) {
				set(&primary6, address.IpAddress)
			}
		}
	}

	for _, candidate := range []string{primary4, primary6, first4, first6} {
		if candidate != "" {
			return candidate
		}
	}

	return "-"
}

// routable wants an address, not link-local, in one network with the default gateway of its family.
func routable(guest *types.GuestInfo) bool {
	gateway4, gateway6 := gateways(guest)

	for _, address := range configured(guest) {
		ip, err := netip.ParseAddr(address.IpAddress)
		if err != nil || ip.IsLinkLocalUnicast() || ip.IsLoopback() || ip.IsMulticast() {
			continue
		}

		if ip.Is4() && reaches(address, gateway4) || ip.Is6() && reaches(address, gateway6) {
			return true
		}
	}

	return false
}

// Ansible restates gather_vm_facts of plugins/module_utils/vmware.py in ansible-collections/community.vmware, and the wait
// of `vmware_guest` for an address (wait_for_vm_ip there): `ipv4` or `ipv6` is guest.ipAddress by its colon, and the
// addresses of `hw_eth0` are those of the entry whose MAC equals that of the first virtual adapter, case included, where
// the device is a positive number.
func Ansible() Judge {
	return Judge{
		Name: "Ansible", Question: "fact of `wait_for_ip_address`, and addresses of `hw_eth0`",
		Ask: func(ctx context.Context, m Machine) (string, error) {
			guest, devices, err := guestOf(ctx, m)
			if err != nil {
				return "", err
			}

			fact := Waits

			switch {
			case any6(guest.IpAddress):
				fact = "ipv6 " + guest.IpAddress
			case guest.IpAddress != "":
				fact = "ipv4 " + guest.IpAddress
			}

			for _, device := range devices {
				card, ok := device.(types.BaseVirtualEthernetCard)
				if !ok {
					continue
				}

				count := 0

				for _, nic := range guest.Net {
					if nic.DeviceConfigId > 0 && nic.MacAddress == card.GetVirtualEthernetCard().MacAddress {
						count = len(nic.IpAddress)
					}
				}

				return fmt.Sprintf("%s, %d", fact, count), nil
			}

			return "", fmt.Errorf("%s has no adapter", m.Name)
		},
		Right: func(t Truth) []string {
			fact := Waits
			if first := t.first(); any6(first) {
				fact = "ipv6 " + first
			} else if first != "" {
				fact = "ipv4 " + first
			}

			return one(fmt.Sprintf("%s, %d", fact, len(t.Adapters[0].Addresses)))
		},
	}
}
