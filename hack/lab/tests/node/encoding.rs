//! What a node of each release puts on the wire.

use super::*;

/// What Talos's encoder makes, on the wire of each release.
#[tokio::test]
async fn an_address_is_sent_with_the_habit_of_the_release() {
    let old = "0a080a040a050002101812060a040a0500021a060a040a0500ff22002a0030023a046574683040024800508001\
               5800";
    let new = "0a080a040a050002101812060a040a0500021a060a040a0500ff30023a04657468304002508001";
    for release in Release::ALL {
        let lab = lab(release).await;
        let resource = get(&lab, network::ADDRESS_STATUSES, "eth0/10.5.0.2/24")
            .await
            .unwrap();
        let bytes = resource.spec.as_ref().unwrap().proto_spec.iter();
        let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, if release < Release::V1_12 { old } else { new }, "{release}");
        let yaml = &resource.spec.as_ref().unwrap().yaml_spec;
        assert!(
            yaml.contains("family: inet4\nscope: global\nflags: permanent\n"),
            "{yaml}"
        );
        lab.node.shutdown().await;
    }
}

/// As Talos encodes it: the example link is the adapter of the default state.
#[tokio::test]
async fn a_link_is_read_alike_from_every_release() {
    for release in Release::ALL {
        let lab = lab(release).await;
        let resource = get(&lab, network::LINK_STATUSES, "eth0").await.unwrap();
        let link: spec::LinkStatus = decode(Some(&resource));
        assert_eq!((link.index, link.r#type, link.flags), (2, 1, 69699));
        assert_eq!(link.permanent_addr, [0x00, 0x50, 0x56, 0xab, 0xcd, 0xef]);
        assert_eq!(
            (link.driver.as_str(), link.bus_path.as_str()),
            ("vmxnet3", "0000:0b:00.0")
        );
        assert_eq!(link.vlan.is_some(), release < Release::V1_12, "{release}");
        lab.node.shutdown().await;
    }
}

#[tokio::test]
async fn the_version_names_the_release_and_has_no_metadata() {
    for release in Release::ALL {
        let lab = lab(release).await;
        let reply = soon(lab.machine().version(read(()))).await.unwrap().into_inner();
        let [message] = reply.messages.as_slice() else {
            panic!("{} messages", reply.messages.len());
        };
        assert!(message.metadata.is_none());
        assert_eq!(message.version.as_ref().unwrap().tag, release.tag());
        assert_eq!(message.platform.as_ref().unwrap().name, "vmware");
        lab.node.shutdown().await;
    }
}
