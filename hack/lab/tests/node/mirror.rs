//! The mirror of this machine, in network namespaces that the tests make for themselves.

use futures::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio_util::task::AbortOnDropHandle;

use libtest_mimic::Trial;

use super::{
    client::*,
    needs::{Need, trial},
};

/// Runs `test` on a thread in a new network namespace.
fn in_namespace<F: Future>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // One thread, so that every netlink socket is of the namespace.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    thread.join().unwrap();
}

struct Net {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

impl Net {
    fn connect() -> Self {
        let (connection, handle, _) = new_connection().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the handle owns it")]
        let task = tokio::spawn(connection);
        Self {
            handle,
            _connection: AbortOnDropHandle::new(task),
        }
    }

    async fn index(&self, name: &str) -> u32 {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        soon(links.try_next()).await.unwrap().unwrap().header.index
    }

    async fn set(&self, name: &str, up: bool) {
        let message = LinkUnspec::new_with_index(self.index(name).await);
        let message = if up { message.up() } else { message.down() };
        soon(self.handle.link().set(message.build()).execute())
            .await
            .unwrap();
    }

    async fn add_address(&self, name: &str, address: &str, length: u8) {
        let index = self.index(name).await;
        let address = address.parse().unwrap();
        soon(self.handle.address().add(index, address, length).execute())
            .await
            .unwrap();
    }

    async fn remove_address(&self, address: &str) {
        let mut found = self
            .handle
            .address()
            .get()
            .set_address_filter(address.parse().unwrap())
            .execute();
        let message = soon(found.try_next()).await.unwrap().unwrap();
        soon(self.handle.address().del(message).execute()).await.unwrap();
    }
}

async fn container() -> Net {
    let net = Net::connect();
    let pair = LinkVeth::new("eth0", "peer0").build();
    soon(net.handle.link().add(pair).execute()).await.unwrap();
    for name in ["lo", "peer0", "eth0"] {
        net.set(name, true).await;
    }
    net.add_address("eth0", "10.77.0.2", 24).await;
    let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .gateway("10.77.0.1".parse().unwrap())
        .build();
    soon(net.handle.route().add(route).execute()).await.unwrap();
    net
}

fn the_veth_of_a_container_is_an_adapter_and_its_changes_are_seen() {
    in_namespace(async || {
        let net = container().await;
        let lab = lab_with(Release::V1_14, Source::Mirror).await;
        assert_eq!(lab.node.notices(), ["eth0 (veth) is served as a vmxnet3 adapter"]);

        let link: spec::LinkStatus = decode(Some(&get(&lab, network::LINK_STATUSES, "eth0").await.unwrap()));
        assert_eq!((link.kind.as_str(), link.driver.as_str()), ("", "vmxnet3"));
        assert_eq!(link.permanent_addr, link.hardware_addr);
        assert_eq!(link.index, net.index("eth0").await);
        assert!(link.link_state);
        let peer: spec::LinkStatus = decode(Some(&get(&lab, network::LINK_STATUSES, "peer0").await.unwrap()));
        assert_eq!(peer.kind, "veth");
        let route = get(&lab, network::ROUTE_STATUSES, "inet4/10.77.0.1//0")
            .await
            .unwrap();
        let route: spec::RouteStatus = decode(Some(&route));
        assert_eq!(
            (route.table, route.r#type, route.out_link_name.as_str()),
            (254, 1, "eth0")
        );
        assert!(route.destination.is_none());
        assert_eq!(node_address(&lab, "routed-no-k8s").await, ["10.77.0.2/24"]);

        let mut request = kind(network::ADDRESS_STATUSES);
        request.options.as_mut().unwrap().id_query = Some(IdQuery {
            regexp: "^eth0/10".to_owned(),
        });
        let mut stream = watch(&lab, request).await;
        assert_eq!(ids(&next(&mut stream).await), ["eth0/10.77.0.2/24", ""]);
        net.add_address("eth0", "10.77.0.3", 24).await;
        let response = next(&mut stream).await;
        assert_eq!(types(&response), [EventType::Created]);
        assert_eq!(ids(&response), ["eth0/10.77.0.3/24"]);
        assert_eq!(
            node_address(&lab, "routed-no-k8s").await,
            ["10.77.0.2/24", "10.77.0.3/24"]
        );
        net.remove_address("10.77.0.3").await;
        assert_eq!(types(&next(&mut stream).await), [EventType::Destroyed]);
        lab.node.shutdown().await;
    });
}

fn what_was_put_by_hand_survives_a_change_of_the_machine() {
    in_namespace(async || {
        let net = container().await;
        let lab = lab_with(Release::V1_14, Source::Mirror).await;
        lab.apply("address add eth0 10.88.0.1/24 vip").await;
        let mut stream = watch(&lab, single(network::LINK_STATUSES, "eth0")).await;
        assert_eq!(types(&next(&mut stream).await), [EventType::Created]);
        net.set("peer0", false).await;
        let down = async {
            loop {
                let response = next(&mut stream).await;
                let link: spec::LinkStatus = decode(response.event[0].resource.as_ref());
                if !link.link_state {
                    return;
                }
            }
        };
        soon(down).await;
        assert!(
            get(&lab, network::ADDRESS_STATUSES, "eth0/10.88.0.1/24")
                .await
                .is_ok()
        );
        lab.node.shutdown().await;
    });
}

fn a_machine_without_any_link_gets_one() {
    in_namespace(async || {
        let lab = lab_with(Release::V1_14, Source::Mirror).await;
        let [notice] = lab.node.notices() else {
            panic!("{:?}", lab.node.notices());
        };
        assert!(
            notice.ends_with("ens192 with 192.0.2.10/24 is made up"),
            "{notice}"
        );
        assert_eq!(node_address(&lab, "default").await, ["192.0.2.10/24"]);
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let resource = get(&lab, network::HOSTNAME_STATUSES, "hostname").await.unwrap();
        let served: spec::HostnameStatus = decode(Some(&resource));
        assert_eq!(name.trim().split('.').next(), Some(served.hostname.as_str()));
        lab.node.shutdown().await;
    });
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "the_veth_of_a_container_is_an_adapter_and_its_changes_are_seen",
            &[Need::Root],
            the_veth_of_a_container_is_an_adapter_and_its_changes_are_seen,
        ),
        trial(
            "what_was_put_by_hand_survives_a_change_of_the_machine",
            &[Need::Root],
            what_was_put_by_hand_survives_a_change_of_the_machine,
        ),
        trial(
            "a_machine_without_any_link_gets_one",
            &[Need::Root],
            a_machine_without_any_link_gets_one,
        ),
    ]
}
