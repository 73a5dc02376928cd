//! Which links pass for adapters of a virtual machine.
//!
//! A container or a KVM guest has no vmxnet3; the link that carries its default route stands in for one, so that the
//! node has something to report. Where there is no such link either, one is made up.

use std::{fs, path::Path};

use super::{
    super::network::{
        Address, ETHER, FLAGS_UP, Link, MAIN_TABLE, OPER_UP, Origin, PERMANENT, Route, broadcast_of,
    },
    kernel::Machine,
};

/// Drivers of the adapters that VMware emulates.
const VMWARE_DRIVERS: [&str; 3] = ["vmxnet3", "e1000", "e1000e"];
/// Kinds of links that stand in for an adapter; a bond, a bridge or a VLAN stays what it is.
const STAND_INS: [&str; 4] = ["", "veth", "macvlan", "ipvlan"];
/// Where the stand-in sits, the usual place of a VM's first vmxnet3.
const BUS: &str = "0000:0b:00.0";
const VMXNET3: &str = "vmxnet3";
const VMXNET3_ID: &str = "15AD:07B0";
/// Mb/s of a vmxnet3
const SPEED: i64 = 10_000;

/// Name, index and addresses of the link that is made up; TEST-NET-1 of RFC 5737 and no index that a kernel reaches.
const MADE_UP: (&str, u32, [u8; 4], [u8; 4]) = ("ens192", 1_000_000, [192, 0, 2, 10], [192, 0, 2, 1]);

/// Describes each adapter, lets one stand in where that is needed, and tells every address where it came from. Returns
/// what a person should know.
pub fn present(machine: &mut Machine) -> Vec<String> {
    machine.links.iter_mut().for_each(describe);
    let carrier = default_route_link(&machine.routes);
    let mut notices = Vec::new();
    if let Some(link) = machine.links.iter_mut().find(|link| Some(link.index) == carrier) {
        let foreign = !VMWARE_DRIVERS.contains(&link.driver.as_str());
        if link.link_type == ETHER && foreign && STAND_INS.contains(&link.kind.as_str()) {
            let was = match (link.kind.as_str(), link.driver.as_str()) {
                ("", "") => "no driver".to_owned(),
                ("", driver) => driver.to_owned(),
                (kind, _) => kind.to_owned(),
            };
            notices.push(format!("{} ({was}) is served as a vmxnet3 adapter", link.name));
            stand_in(link);
        }
    }
    let usable = |link: &Link| link.is_physical() && VMWARE_DRIVERS.contains(&link.driver.as_str());
    if !machine.links.iter().any(usable) {
        notices.push(format!(
            "this machine has no link that could be an adapter: {} with 192.0.2.10/24 is made up",
            MADE_UP.0
        ));
        make_up(machine);
    }
    trace_origins(machine);
    notices
}

/// The link of the best default route, IPv4 before IPv6.
fn default_route_link(routes: &[Route]) -> Option<u32> {
    routes
        .iter()
        .filter(|route| {
            route
                .destination
                .is_none_or(|destination| destination.length == 0)
        })
        .filter(|route| route.table == MAIN_TABLE && route.route_type == 1 && route.index != 0)
        .min_by_key(|route| (route.ipv6, route.priority))
        .map(|route| route.index)
}

fn stand_in(link: &mut Link) {
    link.kind = String::new();
    link.link_index = 0;
    link.driver = VMXNET3.to_owned();
    link.bus_path = BUS.to_owned();
    link.pci_id = VMXNET3_ID.to_owned();
    link.speed = SPEED;
    link.permanent_addr.clone_from(&link.hardware_addr);
}

fn make_up(machine: &mut Machine) {
    let (name, index, own, gateway) = MADE_UP;
    let mut link = Link {
        name: name.to_owned(),
        index,
        link_type: ETHER,
        flags: FLAGS_UP,
        operational_state: OPER_UP,
        carrier: true,
        hardware_addr: "00:50:56:00:02:0a".to_owned(),
        broadcast_addr: "ff:ff:ff:ff:ff:ff".to_owned(),
        mtu: 1500,
        queue_disc: "mq".to_owned(),
        ..Default::default()
    };
    stand_in(&mut link);
    machine.links.push(link);
    let prefix = super::super::spec::Prefix {
        address: own.into(),
        length: 24,
    };
    machine.addresses.push(Address {
        link: name.to_owned(),
        index,
        prefix,
        local: Some(prefix.address),
        broadcast: broadcast_of(prefix),
        flags: PERMANENT,
        scope: 0,
        priority: 0,
        origin: Origin::Static,
    });
    machine.routes.push(Route {
        destination: None,
        ipv6: false,
        source: None,
        gateway: Some(gateway.into()),
        link: name.to_owned(),
        index,
        table: MAIN_TABLE,
        priority: 1024,
        scope: 0,
        route_type: 1,
        flags: 0,
        protocol: 4,
        mtu: 0,
        next_hops: Vec::new(),
    });
}

/// Tells each address of an adapter and of the loopback where it came from. The kernel knows only whether an address
/// lasts: one that does was configured, one that does not came by DHCP, unless it is a prefix that a router announced.
fn trace_origins(machine: &mut Machine) {
    for address in &mut machine.addresses {
        let link = machine.links.iter().find(|link| link.index == address.index);
        let ip = address.prefix.address;
        address.origin = match link {
            _ if ip.is_loopback() => Origin::Default,
            Some(link) if link.is_physical() => match ip {
                _ if address.scope >= 253 => Origin::Kernel,
                _ if address.flags & PERMANENT != 0 => Origin::Static,
                std::net::IpAddr::V6(_) if address.prefix.length != 128 => Origin::Kernel,
                _ => Origin::Dhcp,
            },
            _ => Origin::Kernel,
        };
    }
}

/// Fills in what the kernel says through sysfs, if sysfs speaks of this link and not of one of the same name in another
/// network namespace.
fn describe(link: &mut Link) {
    let path = Path::new("/sys/class/net").join(&link.name);
    let read = |name: &str| fs::read_to_string(path.join(name)).map(|text| text.trim().to_owned());
    let same = read("ifindex").is_ok_and(|index| index == link.index.to_string())
        && read("address").is_ok_and(|address| address == link.hardware_addr);
    let Some(device) = fs::canonicalize(path.join("device")).ok().filter(|_| same) else {
        return;
    };
    let driver = fs::canonicalize(device.join("driver")).ok();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    link.driver = driver.as_deref().and_then(name).unwrap_or_default();
    link.speed = read("speed")
        .ok()
        .and_then(|speed| speed.parse().ok())
        .filter(|speed| *speed > 0)
        .unwrap_or(0);
    // A virtio device sits below the PCI device that ethtool names.
    let slot = device.ancestors().find(|part| part.join("class").exists());
    if let Some(slot) = slot {
        let id = |file: &str| {
            let text = fs::read_to_string(slot.join(file)).ok()?;
            Some(text.trim().strip_prefix("0x")?.to_ascii_uppercase())
        };
        link.bus_path = name(slot).unwrap_or_default();
        if let (Some(vendor), Some(product)) = (id("vendor"), id("device")) {
            link.pci_id = format!("{vendor}:{product}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32, kind: &str) -> Link {
        Link {
            name: name.to_owned(),
            index,
            link_type: ETHER,
            kind: kind.to_owned(),
            hardware_addr: "02:fc:00:00:00:01".to_owned(),
            link_index: 9,
            ..Default::default()
        }
    }

    fn default_route(index: u32, ipv6: bool, priority: u32) -> Route {
        let mut machine = Machine::default();
        make_up(&mut machine);
        Route {
            ipv6,
            index,
            priority,
            ..machine.routes.remove(0)
        }
    }

    #[test]
    fn the_link_of_the_best_default_route_stands_in() {
        let mut machine = Machine {
            links: vec![link("veth-a", 70, "veth"), link("veth-b", 71, "veth")],
            routes: vec![
                default_route(70, true, 0),
                default_route(70, false, 200),
                default_route(71, false, 100),
            ],
            ..Default::default()
        };
        assert_eq!(
            present(&mut machine),
            ["veth-b (veth) is served as a vmxnet3 adapter"]
        );
        let adapter = &machine.links[1];
        assert!(adapter.is_physical());
        assert_eq!(
            (adapter.driver.as_str(), adapter.bus_path.as_str()),
            (VMXNET3, BUS)
        );
        assert_eq!(adapter.permanent_addr, adapter.hardware_addr);
        assert_eq!(machine.links[0].kind, "veth");
    }

    #[test]
    fn a_bridge_stays_a_bridge_and_an_adapter_is_made_up() {
        let mut machine = Machine {
            links: vec![link("br0", 72, "bridge")],
            routes: vec![default_route(72, false, 0)],
            ..Default::default()
        };
        let notices = present(&mut machine);
        assert_eq!(notices.len(), 1);
        assert!(notices[0].contains("ens192 with 192.0.2.10/24 is made up"));
        assert_eq!(machine.links[0].kind, "bridge");
        assert_eq!(machine.links[1].name, "ens192");
        assert_eq!(machine.addresses[0].origin, Origin::Static);
    }

    #[test]
    fn origins_follow_what_the_kernel_knows() {
        let mut machine = Machine::default();
        make_up(&mut machine);
        let example = machine.addresses.remove(0);
        for (text, flags, scope) in [
            ("10.0.0.1/24", PERMANENT, 0),
            ("10.0.0.2/24", 0, 0),
            ("2001:db8::5/128", 0, 0),
            ("2001:db8::5/64", 0, 0),
            ("fe80::1/64", PERMANENT, 253),
            ("127.0.0.1/8", PERMANENT, 254),
        ] {
            machine.addresses.push(Address {
                prefix: text.parse().unwrap(),
                flags,
                scope,
                ..example.clone()
            });
        }
        trace_origins(&mut machine);
        let origins: Vec<_> = machine.addresses.iter().map(|address| address.origin).collect();
        assert_eq!(
            origins,
            [
                Origin::Static,
                Origin::Dhcp,
                Origin::Dhcp,
                Origin::Kernel,
                Origin::Kernel,
                Origin::Default
            ]
        );
    }
}
