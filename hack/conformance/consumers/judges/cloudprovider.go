package judges

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	cloudprovider "k8s.io/cloud-provider"
	_ "k8s.io/cloud-provider-vsphere/pkg/cloudprovider/vsphere" // it registers itself
	"k8s.io/klog/v2"
)

// clients gives the cloud provider a Kubernetes without nodes; its own state is not asked for anything.
type clients struct{ client kubernetes.Interface }

func (c clients) Config(string) (*rest.Config, error)         { return &rest.Config{}, nil }
func (c clients) ConfigOrDie(string) *rest.Config             { return &rest.Config{} }
func (c clients) Client(string) (kubernetes.Interface, error) { return c.client, nil }
func (c clients) ClientOrDie(string) kubernetes.Interface     { return c.client }

// noAddress is the answer of a cloud provider that keeps a node uninitialised.
const noAddress = "not found"

// CloudProvider is k8s.io/cloud-provider-vsphere, once for each family: it finds the node by its name in Kubernetes, and
// by the UUID of the virtual machine, and both must say the same.
func CloudProvider(server Machine) ([]Judge, error) {
	klog.SetLogger(logr.Discard())

	judges := make([]Judge, 0, 2) //nolint:mnd // families

	for _, family := range []string{"ipv4", "ipv6"} {
		password, _ := server.Server.User.Password()
		config := fmt.Sprintf(`
global:
  user: %q
  password: %q
  server: %q
  port: %s
  insecureFlag: true
  datacenters: [DC0]
  ipFamily: [%s]
`, server.Server.User.Username(), password, server.Server.Hostname(), server.Server.Port(), family)

		provider, err := cloudprovider.GetCloudProvider("vsphere", strings.NewReader(config))
		if err != nil {
			return nil, err
		}

		provider.Initialize(clients{fake.NewClientset()}, nil)

		instances, ok := provider.Instances()
		if !ok {
			return nil, fmt.Errorf("the cloud provider has no instances")
		}

		judges = append(judges, Judge{
			Name: "cloud provider", Question: "node, internal and external " + strings.Replace(family, "ip", "IP", 1),
			Ask: func(ctx context.Context, m Machine) (string, error) {
				byName, err := instances.NodeAddresses(ctx, types.NodeName(m.Node))
				if err != nil {
					return noAddress, nil //nolint:nilerr // it says no more
				}

				byUUID, err := instances.NodeAddressesByProviderID(ctx, "vsphere://"+m.UUID)
				if err != nil {
					return "", fmt.Errorf("found by name and not by UUID: %w", err)
				}

				if a, b := nodeAddresses(byName), nodeAddresses(byUUID); a != b {
					return "", fmt.Errorf("%s by name, %s by UUID", a, b)
				}

				return nodeAddresses(byName), nil
			},
			Right: func(t Truth) []string {
				own := t.IPv4
				if family == "ipv6" {
					own = t.IPv6
				}

				if own == "" {
					return one(noAddress)
				}

				return one(t.Name + " " + own + " " + own)
			},
		})
	}

	return judges, nil
}

func nodeAddresses(addresses []corev1.NodeAddress) string {
	found := map[corev1.NodeAddressType]string{}
	for _, address := range addresses {
		found[address.Type] = address.Address
	}

	return found[corev1.NodeHostName] + " " + found[corev1.NodeInternalIP] + " " + found[corev1.NodeExternalIP]
}
