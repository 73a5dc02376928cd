package vcenter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/report"
)

// The names of the vSphere API for the numbers of nicinfo.x (NetIpConfigInfoIpAddressOrigin and -Status).
var (
	origins = map[uint32]types.NetIpConfigInfoIpAddressOrigin{
		1: types.NetIpConfigInfoIpAddressOriginOther,
		2: types.NetIpConfigInfoIpAddressOriginManual,
		4: types.NetIpConfigInfoIpAddressOriginDhcp,
		5: types.NetIpConfigInfoIpAddressOriginLinklayer,
		6: types.NetIpConfigInfoIpAddressOriginRandom,
	}
	states = map[uint32]types.NetIpConfigInfoIpAddressStatus{
		1: types.NetIpConfigInfoIpAddressStatusPreferred,
		2: types.NetIpConfigInfoIpAddressStatusDeprecated,
		3: types.NetIpConfigInfoIpAddressStatusInvalid,
		4: types.NetIpConfigInfoIpAddressStatusInaccessible,
		5: types.NetIpConfigInfoIpAddressStatusUnknown,
		6: types.NetIpConfigInfoIpAddressStatusTentative,
		7: types.NetIpConfigInfoIpAddressStatusDuplicate,
		// The vSphere API has no word for an optimistic address, which is in use (RFC 4429) and may still be a duplicate.
		8: types.NetIpConfigInfoIpAddressStatusUnknown,
	}
)

// toolsUnmanaged is the version that says "managed by the guest" (TOOLS_VERSION_UNMANAGED).
const toolsUnmanaged = "2147483647"

// notMapped is the device of an entry whose MAC is that of no virtual adapter.
const notMapped = -1

// guestInfo is what vCenter makes of a report: `guest` of a virtual machine with these adapters.
func guestInfo(
	guest *report.Guest, devices object.VirtualDeviceList, cards []types.BaseVirtualEthernetCard, network string,
) *types.GuestInfo {
	info := &types.GuestInfo{
		ToolsStatus:                     types.VirtualMachineToolsStatusToolsOk,
		ToolsRunningStatus:              string(types.VirtualMachineToolsRunningStatusGuestToolsRunning),
		ToolsVersion:                    guest.ToolsVersion,
		GuestState:                      string(types.VirtualMachineGuestStateRunning),
		HostName:                        guest.HostName,
		GuestFamily:                     string(types.VirtualMachineGuestOsFamilyLinuxGuest),
		GuestFullName:                   guest.OSFull,
		GuestStateChangeSupported:       types.NewBool(guest.Capabilities["statechange"]),
		GuestOperationsReady:            types.NewBool(false),
		InteractiveGuestOperationsReady: types.NewBool(false),
	}
	if guest.ToolsVersion == toolsUnmanaged {
		info.ToolsVersionStatus2 = string(types.VirtualMachineToolsVersionStatusGuestToolsUnmanaged)
		info.ToolsVersionStatus = info.ToolsVersionStatus2
	}

	for _, disk := range guest.Disks {
		info.Disk = append(info.Disk, types.GuestDiskInfo{
			DiskPath: disk.Path, Capacity: disk.Capacity, FreeSpace: disk.Free, FilesystemType: disk.Type,
			Mappings: mappings(disk.Devices, devices),
		})
	}

	if guest.Network != nil {
		for _, adapter := range guest.Network.Adapters {
			info.Net = append(info.Net, nic(adapter, cards, network))
		}

		info.IpStack = []types.GuestStackInfo{stack(guest.Network)}
	}

	info.IpAddress = primary(guest)

	return info
}

// mappings are the virtual disks of those names, by their keys. One that the virtual machine does not have is none.
func mappings(names []string, devices object.VirtualDeviceList) []types.GuestInfoVirtualDiskMapping {
	var mappings []types.GuestInfoVirtualDiskMapping

	for _, device := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		name := diskName(device.GetVirtualDevice(), devices)
		if name != "" && slices.Contains(names, name) {
			mappings = append(mappings, types.GuestInfoVirtualDiskMapping{Key: device.GetVirtualDevice().Key})
		}
	}

	return mappings
}

// diskName is how the guest calls a disk: kind and number of its controller, and its unit there. Empty where the disk is
// on none.
func diskName(disk *types.VirtualDevice, devices object.VirtualDeviceList) string {
	var kind string

	controller := devices.FindByKey(disk.ControllerKey)
	switch controller.(type) {
	case types.BaseVirtualSCSIController:
		kind = "scsi"
	case *types.VirtualNVMEController:
		kind = "nvme"
	case types.BaseVirtualSATAController:
		kind = "sata"
	case *types.VirtualIDEController:
		kind = "ide"
	}

	numbered, ok := controller.(types.BaseVirtualController)
	if !ok || kind == "" || disk.UnitNumber == nil {
		return ""
	}

	return fmt.Sprintf("%s%d:%d", kind, numbered.GetVirtualController().BusNumber, *disk.UnitNumber)
}

// primary is what vCenter shows as the address. It has two feeds: the first address of the NIC record, and
// `guestinfo.ip` where the record has none.
func primary(guest *report.Guest) string {
	if guest.Network != nil {
		for _, adapter := range guest.Network.Adapters {
			for _, address := range adapter.Addresses {
				return address.IP.String()
			}
		}
	}

	return guest.Variables["guestinfo.ip"]
}

// nic is an entry of `guest.net`. Which virtual adapter it belongs to is found by the MAC.
func nic(adapter report.Adapter, cards []types.BaseVirtualEthernetCard, network string) types.GuestNicInfo {
	info := types.GuestNicInfo{
		MacAddress:     adapter.MAC,
		DeviceConfigId: notMapped,
		IpConfig:       &types.NetIpConfigInfo{},
	}

	for _, card := range cards {
		card := card.GetVirtualEthernetCard()
		if strings.EqualFold(card.MacAddress, adapter.MAC) {
			info.DeviceConfigId, info.Network, info.Connected = card.Key, network, true
		}
	}

	for _, address := range adapter.Addresses {
		info.IpAddress = append(info.IpAddress, address.IP.String())
		info.IpConfig.IpAddress = append(info.IpConfig.IpAddress, types.NetIpConfigInfoIpAddress{
			IpAddress:    address.IP.String(),
			PrefixLength: int32(address.Prefix), //nolint:gosec // at most 128
			Origin:       string(origins[address.Origin]),
			State:        string(states[address.State]),
		})
	}

	if adapter.DHCP4 != nil || adapter.DHCP6 != nil {
		info.IpConfig.Dhcp = &types.NetDhcpConfigInfo{Ipv4: dhcp(adapter.DHCP4), Ipv6: dhcp(adapter.DHCP6)}
	}

	return info
}

func dhcp(enabled *bool) *types.NetDhcpConfigInfoDhcpOptions {
	if enabled == nil {
		return nil
	}

	return &types.NetDhcpConfigInfoDhcpOptions{Enable: *enabled}
}

// stack is the entry of `guest.ipStack`: routes name their adapter by its number, and the gateway is a string.
func stack(network *report.Network) types.GuestStackInfo {
	var info types.GuestStackInfo

	if dns := network.DNS; dns != nil {
		info.DnsConfig = &types.NetDnsConfigInfo{
			HostName: dns.Host, DomainName: dns.Domain, SearchDomain: dns.Suffixes, IpAddress: texts(dns.Servers),
		}
	}

	if len(network.Routes) > 0 {
		info.IpRouteConfig = &types.NetIpRouteConfigInfo{}
	}

	for _, route := range network.Routes {
		gateway := types.NetIpRouteConfigInfoGateway{Device: strconv.Itoa(route.Adapter)}
		if route.Gateway.IsValid() {
			gateway.IpAddress = route.Gateway.String()
		}

		info.IpRouteConfig.IpRoute = append(info.IpRouteConfig.IpRoute, types.NetIpRouteConfigInfoIpRoute{
			Network:      route.Destination.String(),
			PrefixLength: int32(route.Prefix), //nolint:gosec // at most 128
			Gateway:      gateway,
		})
	}

	return info
}

func texts(addresses []netip.Addr) []string {
	var texts []string
	for _, address := range addresses {
		texts = append(texts, address.String())
	}

	return texts
}
