//! The daemon's own client against the habits of each release.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use talos_vmtoolsd::talos::{
    self, Client, ResourceType, Selection, Settings,
    snapshot::{LinkStatus, Origin},
};

use super::*;

fn physical() -> Selection {
    Arc::new(|links: &BTreeMap<String, LinkStatus>| {
        links
            .iter()
            .filter(|(_, link)| link.is_physical())
            .map(|(name, _)| name.clone())
            .collect::<BTreeSet<_>>()
    })
}

async fn observe(lab: &Lab) -> talos::Observation {
    talos::observe(Settings::new(&lab.socket), physical(), DEADLINE).await
}

async fn control_plane(release: Release) -> Lab {
    lab_with(
        release,
        Source::Script(Box::new(Script::control_plane().unwrap())),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_release_tells_the_same_node() {
    for release in Release::ALL {
        let lab = control_plane(release).await;
        let seen = observe(&lab).await;
        let snapshot = &seen.snapshot;
        assert!(seen.missing.is_empty(), "{release}: {:?}", seen.missing);
        let absent: Vec<_> = seen.troubles.keys().copied().collect();
        if release < Release::V1_14 {
            assert_eq!(
                absent,
                [ResourceType::Schematic, ResourceType::BootId],
                "{release}"
            );
        } else {
            assert!(absent.is_empty(), "{release}: {absent:?}");
        }

        let specs = snapshot.address_specs.value().unwrap();
        let origin = |address: &str| {
            let mut found = specs
                .values()
                .filter(|spec| spec.address.to_string() == address && spec.link_name == "eth0")
                .map(|spec| spec.origin);
            (found.next(), found.next())
        };
        assert_eq!(origin("10.5.0.2/24"), (Some(Origin::Configuration), None));
        assert_eq!(origin("10.5.1.2/24"), (Some(Origin::Dhcp4), None));
        assert_eq!(origin("10.5.0.40/32"), (Some(Origin::Vip), None));
        assert_eq!(origin("fe80::250:56ff:feab:cdef/64"), (None, None));

        assert_eq!(
            snapshot.machine_type.value().unwrap().name(),
            Some("controlplane")
        );
        let (name, node) = snapshot.kubernetes_node().unwrap();
        assert!(name == "talos-cp-1" && node.ready && !node.unschedulable);
        assert_eq!(snapshot.cluster_name.value().unwrap(), "talos-vsphere");
        assert!(snapshot.schematic_id().unwrap().starts_with("376567988ad3"));
        let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let boot_id = snapshot.boot_id.value().unwrap();
        // An older Talos has no such resource, so it is the kernel's.
        assert_eq!(*boot_id == kernel.trim(), release < Release::V1_14, "{release}");

        assert_eq!(snapshot.disks.value().unwrap()["sda"].size, 21_474_836_480);
        let part = &snapshot.discovered_volumes.value().unwrap()["sda6"];
        assert_eq!(
            (part.name.as_str(), part.parent_dev_path.as_str()),
            ("xfs", "/dev/sda")
        );
        let volume = &snapshot.volumes.value().unwrap()["EPHEMERAL"];
        assert_eq!(volume.filesystem_name(), Some("xfs"));
        assert_eq!(
            (volume.phase, volume.target_path.as_str()),
            (6, "/var"),
            "{release}"
        );
        let mount = &snapshot.mounts.value().unwrap()["EPHEMERAL"];
        assert_eq!(mount, &snapshot.runtime_mounts.value().unwrap()["EPHEMERAL"]);
        lab.node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn free_space_comes_from_the_call() {
    let lab = control_plane(Release::V1_14).await;
    lab.node
        .apply("filesystem set /dev/sda6 /var 1000 400")
        .await
        .unwrap();
    let mounts = Client::new(Settings::new(&lab.socket)).mounts().await.unwrap();
    let var = mounts.iter().find(|it| it.target == "/var").unwrap();
    assert_eq!(
        (var.source.as_str(), var.size, var.available),
        ("/dev/sda6", 1000, 400)
    );
    let calls = lab.node.calls();
    let call = calls.iter().find(|call| call.method == "Mounts").unwrap();
    assert_eq!(call.roles, ["os:reader"]);
    lab.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_just_started_is_let_in_once_it_is_registered() {
    let lab = control_plane(Release::V1_13).await;
    lab.node.apply("peer-check on").await.unwrap();
    let client = Client::new(Settings::new(&lab.socket));
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move { client.version().await });
    // The call arrives, and waits.
    lab.node.apply("expect call Version within 5s").await.unwrap();
    // Another service's process is not this one's; its id says that it is no extension.
    let own = std::process::id();
    lab.node
        .apply(&format!("service-pid {own} kubelet"))
        .await
        .unwrap();
    assert!(timeout(QUIET, calls.join_next()).await.is_err());
    lab.node.apply(&format!("service-pid {own}")).await.unwrap();
    let answer = timeout(DEADLINE, calls.join_next()).await.unwrap();
    let version = answer.unwrap().unwrap().unwrap();
    assert_eq!(version.tag, "v1.13.6");
    lab.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_waits_five_seconds_and_is_refused() {
    let lab = control_plane(Release::V1_14).await;
    lab.node.apply("peer-check on").await.unwrap();
    let begun = Instant::now();
    let error = Client::new(Settings::new(&lab.socket))
        .version()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not authorized"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(5));
    lab.node.shutdown().await;
    // Before 1.13 nobody looks at the process.
    let lab = control_plane(Release::V1_12).await;
    lab.node.apply("peer-check on").await.unwrap();
    Client::new(Settings::new(&lab.socket)).version().await.unwrap();
    lab.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_a_crowd_never_arrive() {
    let lab = control_plane(Release::V1_14).await;
    lab.node.apply("crowd 300 links 500 addresses").await.unwrap();
    let seen = observe(&lab).await;
    assert!(seen.missing.is_empty(), "{:?}", seen.missing);
    assert_eq!(seen.snapshot.addresses.value().unwrap().len(), 4);
    assert_eq!(seen.snapshot.links.value().unwrap().len(), 1);

    let mut tasks = tokio::task::JoinSet::new();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (mut snapshots, _) = talos::spawn(
        Settings::new(&lab.socket),
        physical(),
        &mut tasks,
        shutdown.clone(),
    );
    let known = snapshots.wait_for(|now| now.addresses.value().is_some_and(|all| all.len() == 4));
    timeout(DEADLINE, known).await.unwrap().unwrap();
    lab.node.apply("churn 1000/s for 1s").await.unwrap();
    lab.node.apply("address add eth0 10.5.0.9/24").await.unwrap();
    let known = snapshots.wait_for(|now| now.addresses.value().is_some_and(|all| all.len() == 5));
    timeout(DEADLINE, known).await.unwrap().unwrap();
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    lab.node.shutdown().await;
}
