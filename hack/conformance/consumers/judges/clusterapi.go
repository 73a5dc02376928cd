package judges

import (
	"context"
	"strings"

	"sigs.k8s.io/cluster-api-provider-vsphere/pkg/services/govmomi/net"
)

// ClusterAPI is sigs.k8s.io/cluster-api-provider-vsphere: the network status of the machine by virtual adapter, without
// what the provider leaves out (sanitizeIPAddrs in pkg/services/govmomi/util.go, by the same function). The machine gets
// these addresses in this order, and waits while there is none.
func ClusterAPI() Judge {
	return Judge{
		Name: "Cluster API", Question: "addresses of the machine",
		Ask: func(ctx context.Context, m Machine) (string, error) {
			status, err := net.GetNetworkStatus(ctx, m.VM.Client(), m.VM.Reference())
			if err != nil {
				return "", err
			}

			var addresses []string

			for _, adapter := range status {
				for _, address := range adapter.IPAddrs {
					if net.ErrOnLocalOnlyIPAddr(address) == nil {
						addresses = append(addresses, address)
					}
				}
			}

			return waited(strings.Join(addresses, " "), nil)
		},
		Right: func(t Truth) []string { return one(strings.Join(t.all(global), " ")) },
	}
}
