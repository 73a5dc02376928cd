// Package vcenter is govmomi's own simulated vCenter, with virtual machines whose guests have told it something: what
// crossed the backdoor becomes `guest` of the vSphere API, and clients read it over HTTPS as they read any vCenter.
package vcenter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/talos-vmtoolsd/talos-vmtoolsd/hack/conformance/consumers/report"
)

// firstKey is that of the first network adapter of a virtual machine.
const firstKey = 4000

// VCenter is a server with one virtual machine for each that was added.
type VCenter struct {
	model    *simulator.Model
	server   *simulator.Server
	machines []*simulator.VirtualMachine
	used     int
}

// Start starts a server with room for so many virtual machines.
func Start(machines int) (*VCenter, error) {
	model := simulator.VPX()
	model.Host, model.ClusterHost, model.Machine = 0, 1, machines

	if err := model.Create(); err != nil {
		return nil, err
	}

	model.Service.TLS = new(tls.Config)
	model.Service.RegisterEndpoints = true
	v := &VCenter{model: model, server: model.Service.NewServer()}

	for _, entity := range model.Map().All("VirtualMachine") {
		if machine, ok := entity.(*simulator.VirtualMachine); ok {
			v.machines = append(v.machines, machine)
		}
	}

	slices.SortFunc(v.machines, func(a, b *simulator.VirtualMachine) int { return compareLength(a.Name, b.Name) })

	return v, nil
}

// compareLength orders VM2 before VM10.
func compareLength(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}

	if a < b {
		return -1
	}

	return 1
}

// URL of the SDK, with user and password.
func (v *VCenter) URL() *url.URL { return v.server.URL }

// Client logs in.
func (v *VCenter) Client(ctx context.Context) (*govmomi.Client, error) {
	return govmomi.NewClient(ctx, v.server.URL, true)
}

// Stop ends the server.
func (v *VCenter) Stop() {
	v.server.Close()
	v.model.Remove()
}

// Add makes a virtual machine of this name, as an administrator makes one for Talos, with vmxnet3 adapters of these MACs in
// this order, and lets its guest have told what the report says.
func (v *VCenter) Add(name string, macs []string, guest *report.Guest) (*object.VirtualMachine, error) {
	if v.used == len(v.machines) {
		return nil, errors.New("no room for another virtual machine")
	}

	machine := v.machines[v.used]
	v.used++

	devices := object.VirtualDeviceList(machine.Config.Hardware.Device)
	old := devices.SelectByType((*types.VirtualEthernetCard)(nil))

	if len(old) == 0 {
		return nil, fmt.Errorf("%s has no adapter to copy", name)
	}

	backing, controller := old[0].GetVirtualDevice().Backing, old[0].GetVirtualDevice().ControllerKey
	network := networkName(v.model.Map(), machine)

	var (
		kept  []types.BaseVirtualDevice
		cards []types.BaseVirtualEthernetCard
	)

	for _, device := range devices {
		if !slices.Contains(old, device) {
			kept = append(kept, device)
		}
	}

	for index, mac := range macs {
		card := &types.VirtualVmxnet3{}
		card.Key = firstKey + int32(index) //nolint:gosec // a handful
		card.Backing, card.ControllerKey = backing, controller
		card.UnitNumber = types.NewInt32(int32(index) + 7) //nolint:gosec,mnd // 7 is where adapters begin on a PCI bus
		card.MacAddress, card.AddressType = mac, string(types.VirtualEthernetCardMacTypeManual)
		card.Connectable = &types.VirtualDeviceConnectInfo{Connected: true, StartConnected: true}
		kept, cards = append(kept, card), append(cards, card)
	}

	info := guestInfo(guest, devices, cards, network)
	booted := time.Now().Add(-time.Duration(guest.Uptime) * 10 * time.Millisecond) //nolint:gosec,mnd // hundredths

	extra := machine.Config.ExtraConfig
	for key, value := range guest.Variables {
		extra = append(extra, &types.OptionValue{Key: key, Value: value})
	}

	v.model.Map().AtomicUpdate(v.model.Service.Context, machine, []types.PropertyChange{
		{Name: "name", Val: name},
		{Name: "config.name", Val: name},
		{Name: "summary.config.name", Val: name},
		{Name: "summary.config.guestId", Val: string(types.VirtualMachineGuestOsIdentifierOther6xLinux64Guest)},
		{Name: "summary.config.guestFullName", Val: "Other 6.x or later Linux (64-bit)"},
		{Name: "summary.config.memorySizeMB", Val: int32(2048)}, //nolint:mnd // the least that Talos asks for
		{Name: "summary.config.numCpu", Val: int32(2)},          //nolint:mnd // likewise
		{Name: "config.hardware.device", Val: kept},
		{Name: "config.extraConfig", Val: extra},
		{Name: "summary.config.numEthernetCards", Val: int32(len(cards))}, //nolint:gosec // a handful
		{Name: "summary.runtime.bootTime", Val: &booted},
		{Name: "guest", Val: info},
		{Name: "guestHeartbeatStatus", Val: types.ManagedEntityStatusGreen},
		{Name: "summary.guest", Val: &types.VirtualMachineGuestSummary{
			GuestId: info.GuestId, GuestFullName: info.GuestFullName, HostName: info.HostName,
			IpAddress: info.IpAddress, ToolsStatus: info.ToolsStatus,
			ToolsVersionStatus2: info.ToolsVersionStatus2, ToolsRunningStatus: info.ToolsRunningStatus,
		}},
	})

	client, err := v.Client(context.Background())
	if err != nil {
		return nil, err
	}

	return object.NewVirtualMachine(client.Client, machine.Reference()), nil
}

// UUID of the virtual machine that was added under this name.
func (v *VCenter) UUID(name string) string {
	for _, machine := range v.machines {
		if machine.Name == name {
			return machine.Config.Uuid
		}
	}

	return ""
}

// networkName of the port group that the machine is connected to.
func networkName(registry *simulator.Registry, machine *simulator.VirtualMachine) string {
	for _, reference := range machine.Network {
		if entity, ok := registry.Get(reference).(mo.Entity); ok {
			return entity.Entity().Name
		}
	}

	return ""
}
