package vcenter

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

func TestMappingsAreFoundByControllerAndUnit(t *testing.T) {
	t.Parallel()

	disk := func(key, controller, unit int32) *types.VirtualDisk {
		return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
			Key: key, ControllerKey: controller, UnitNumber: types.NewInt32(unit),
		}}
	}
	bus := func(key, number int32) types.VirtualController {
		return types.VirtualController{VirtualDevice: types.VirtualDevice{Key: key}, BusNumber: number}
	}
	devices := object.VirtualDeviceList{
		&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{VirtualController: bus(1000, 0)}},
		&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{VirtualController: bus(1001, 1)}},
		&types.VirtualNVMEController{VirtualController: bus(31000, 0)},
		disk(2000, 1000, 0), disk(2016, 1001, 0), disk(2017, 1001, 2), disk(32000, 31000, 0), disk(9, 7, 0),
	}

	for name, key := range map[string]int32{"scsi0:0": 2000, "scsi1:0": 2016, "scsi1:2": 2017, "nvme0:0": 32000} {
		found := mappings([]string{name}, devices)
		if !slices.Equal(found, []types.GuestInfoVirtualDiskMapping{{Key: key}}) {
			t.Errorf("%s: %v", name, found)
		}
	}

	if found := mappings([]string{"scsi2:0", "sata0:0", ""}, devices); found != nil {
		t.Errorf("found %v", found)
	}
}
