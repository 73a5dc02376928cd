//! Resources that follow from others, and the example states.

use lab::node::schema::cluster::NODE_IPS;

use super::*;

#[tokio::test]
async fn node_addresses_follow_links_and_addresses() {
    let lab = lab(Release::V1_14).await;
    let list = async |id| node_address(&lab, id).await;
    assert_eq!(
        list("current").await,
        ["10.5.0.2/24", "10.5.0.40/32", "10.5.1.2/24"]
    );
    assert_eq!(list("default").await, ["10.5.0.2/24"]);

    // The default address stays while it is there, the accumulated ones for ever.
    lab.apply("address add eth0 10.4.0.1/24").await;
    assert_eq!(list("default").await, ["10.5.0.2/24"]);
    lab.apply("address remove eth0 10.5.0.2/24").await;
    assert_eq!(list("default").await, ["10.4.0.1/24"]);
    assert!(list("accumulative").await.contains(&"10.5.0.2/24".to_owned()));

    lab.apply("link add cni0 bridge").await;
    lab.apply("address add cni0 10.244.3.1/24 kernel").await;
    assert!(list("routed").await.contains(&"10.244.3.1/24".to_owned()));
    assert!(!list("routed-no-k8s").await.contains(&"10.244.3.1/24".to_owned()));
    assert_eq!(list("current-only-k8s").await, ["10.244.3.1/24"]);

    lab.apply("link down eth0").await;
    assert_eq!(list("current").await, ["10.244.3.1/24"]);
    lab.apply("link up eth0").await;
    lab.apply("link remove cni0").await;
    assert_eq!(
        list("current").await,
        ["10.4.0.1/24", "10.5.0.40/32", "10.5.1.2/24"]
    );
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_node_address_with_an_owner_of_its_own_is_left_alone() {
    let lab = lab(Release::V1_14).await;
    let document = r#"{"type": "NodeAddresses.net.talos.dev", "id": "routed-no-k8s", "owner": "by hand",
        "spec": {"addresses": ["10.5.0.40/32"]}}"#;
    lab.apply(&format!("resource put {document}")).await;
    lab.apply("address add eth0 10.5.0.3/24").await;
    assert_eq!(node_address(&lab, "routed-no-k8s").await, ["10.5.0.40/32"]);
    assert_eq!(node_address(&lab, "routed").await.len(), 4);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn node_ips_follow_the_subnets_of_the_kubelet() {
    let text = "
kubeletSubnets: ['2001:db8:2::/64', 10.2.0.0/16]
links: [eth0 vmxnet3, eth1 vmxnet3]
addresses: [eth0 10.1.0.5/24 static, eth1 10.2.0.5/24 static, eth1 10.2.0.6/24 static, 'eth1 2001:db8:2::5/64 static']
";
    let script = Script::read(text).unwrap();
    let lab = lab_with(Release::V1_14, Source::Script(Box::new(script))).await;
    let ips = || {
        let dump = lab.node.store().dump();
        let found = dump.into_iter().find(|it| it.kind == NODE_IPS);
        found
            .map(|it| it.spec["addresses"].to_string())
            .unwrap_or_default()
    };
    assert_eq!(ips(), r#"["2001:db8:2::5","10.2.0.5"]"#);
    lab.apply("address remove eth1 10.2.0.5/24").await;
    assert_eq!(ips(), r#"["2001:db8:2::5","10.2.0.6"]"#);
    lab.apply("link down eth1").await;
    assert_eq!(
        ips(),
        r#"["2001:db8:2::5","10.2.0.6"]"#,
        "there is nothing to replace them by"
    );
    lab.apply("maintenance").await;
    assert_eq!(ips(), "");
    lab.node.shutdown().await;
}

#[tokio::test]
async fn an_address_spec_says_where_an_address_came_from() {
    let lab = lab(Release::V1_14).await;
    lab.apply("address add eth0 10.5.7.7/24 dhcp").await;
    let request = |id: &str| GetRequest {
        namespace: "network-config".to_owned(),
        r#type: network::ADDRESS_SPECS.to_owned(),
        id: id.to_owned(),
        options: None,
    };
    for id in [
        "configuration/eth0/10.5.0.2/24",
        "dhcp4/eth0/10.5.7.7/24",
        "vip/eth0/10.5.0.40/32",
        "default/lo/127.0.0.1/8",
    ] {
        assert!(soon(lab.state().get(read(request(id)))).await.is_ok(), "{id}");
    }
    assert!(
        get(&lab, network::ADDRESS_SPECS, "eth0/10.5.7.7/24")
            .await
            .is_ok()
    );
    lab.apply("address remove eth0 10.5.7.7/24").await;
    let outcome = soon(lab.state().get(read(request("dhcp4/eth0/10.5.7.7/24")))).await;
    assert_eq!(code(outcome).0, Code::NotFound);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn every_example_is_a_node_of_every_release() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nodes");
    let mut count = 0;
    for file in fs::read_dir(examples).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let script = Script::read(&text).unwrap();
        for release in Release::ALL {
            let lab = lab_with(release, Source::Script(Box::new(script.clone()))).await;
            assert!(!node_address(&lab, "routed-no-k8s").await.is_empty());
            lab.node.shutdown().await;
        }
        count += 1;
    }
    assert_eq!(count, 3);
}

#[tokio::test]
async fn bond_members_share_an_address_and_keep_their_permanent_one() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/nodes/bond-vlan.yaml")).unwrap();
    let script = Script::read(&text).unwrap();
    let lab = lab_with(Release::V1_14, Source::Script(Box::new(script))).await;
    let link = async |name| -> spec::LinkStatus {
        decode(Some(&get(&lab, network::LINK_STATUSES, name).await.unwrap()))
    };
    let (bond, member, vlan) = (link("bond0").await, link("eth1").await, link("bond0.100").await);
    assert_eq!((bond.kind.as_str(), member.slave_kind.as_str()), ("bond", "bond"));
    assert_eq!(member.master_index, bond.index);
    assert_eq!(member.hardware_addr, bond.hardware_addr);
    assert_ne!(member.permanent_addr, member.hardware_addr);
    assert_eq!(vlan.link_index, bond.index);
    assert_eq!(
        vlan.vlan.unwrap(),
        spec::Vlan {
            vid: 100,
            protocol: 0x8100
        }
    );
    lab.node.shutdown().await;
}
