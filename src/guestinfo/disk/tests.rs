use super::*;
use crate::{
    guestinfo::nodes::known,
    talos::snapshot::{MountStatus, VolumeStatus},
};

const GIB: u64 = 1 << 30;

fn filesystem(source: &str, target: &str, size: u64, available: u64) -> Filesystem {
    Filesystem {
        source: source.into(),
        target: target.into(),
        size,
        available,
    }
}

fn node() -> Snapshot {
    let mount = |target: &str, filesystem: &str| MountStatus {
        target: target.into(),
        filesystem: filesystem.into(),
        ..MountStatus::default()
    };
    let mounts = [
        ("EPHEMERAL".to_owned(), mount("/var", "xfs")),
        ("STATE".to_owned(), mount("/system/state", "xfs")),
        ("log".to_owned(), mount("/var/log", "xfs")),
        ("nowhere".to_owned(), mount("", "xfs")),
        ("root".to_owned(), mount("/", "squashfs")),
    ];
    let volume = VolumeStatus {
        filesystem: 3,
        target_path: "/var/mnt/data".into(),
        ..VolumeStatus::default()
    };
    Snapshot {
        mounts: known(Arc::new(mounts.into())),
        volumes: known(Arc::new([("u-data".to_owned(), volume)].into())),
        ..Snapshot::default()
    }
}

fn busy() -> Filesystems {
    let mut list = vec![
        filesystem("/dev/sda6", "/var/log", 40 * GIB, 20 * GIB),
        filesystem("/dev/sda6", "/var", 40 * GIB, 20 * GIB),
        filesystem("/dev/sda5", "/system/state", GIB, GIB / 2),
        filesystem("/dev/sdb1", "/var/mnt/data", 10 * GIB, 11 * GIB),
        filesystem("/dev/loop0", "/", GIB, 0),
        filesystem("tmpfs", "/run", GIB, GIB),
    ];
    for pod in 0..500 {
        let target = format!("/var/lib/kubelet/pods/{pod}/volumes/data");
        list.push(filesystem("/dev/sdc", &target, GIB, GIB));
    }
    Some(Arc::new(list))
}

#[test]
fn what_talos_mounted_once_each() {
    let mut none = Devices::at("/nonexistent");
    let disks = select(&node(), &busy(), &mut none).unwrap();
    let shown: Vec<(&str, &str, u64)> = disks
        .iter()
        .map(|disk| {
            (
                disk.mount_point.as_str(),
                disk.filesystem.as_str(),
                disk.free / GIB,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("/system/state", "xfs", 0),
            ("/var", "xfs", 20),
            ("/var/mnt/data", "ext4", 10),
        ],
        "no pod's, and no more free than there is"
    );
    assert_eq!(select(&node(), &None, &mut none), None);
    assert_eq!(select(&Snapshot::default(), &busy(), &mut none), None);
}

#[test]
fn row_38_a_node_with_five_hundred_pod_mounts_is_like_an_empty_one() {
    let mut none = Devices::at("/nonexistent");
    let crowded = busy().unwrap();
    let mut empty = crowded.to_vec();
    empty.retain(|filesystem| !filesystem.target.starts_with("/var/lib/kubelet"));
    assert!(crowded.len() >= empty.len() + 500);
    assert_eq!(
        select(&node(), &Some(crowded), &mut none),
        select(&node(), &Some(Arc::new(empty)), &mut none)
    );
}

#[test]
fn a_full_a_vanished_and_an_impossible_mount() {
    let mut none = Devices::at("/nonexistent");
    let mut shown = |list: Vec<Filesystem>| -> Vec<(String, u64)> {
        let disks = select(&node(), &Some(Arc::new(list)), &mut none).unwrap();
        disks
            .into_iter()
            .map(|disk| (disk.mount_point, disk.free))
            .collect()
    };
    let var = |available| filesystem("/dev/sda6", "/var", 40 * GIB, available);
    assert_eq!(shown(vec![var(0)]), [("/var".to_owned(), 0)], "full");
    assert_eq!(shown(vec![]), [], "nothing of what Talos mounted answers");
    // A filesystem that failed has no size; one cannot have more free than it has.
    let broken = filesystem("/dev/sda5", "/system/state", 0, 0);
    assert_eq!(
        shown(vec![broken, var(u64::MAX)]),
        [("/var".to_owned(), 40 * GIB)]
    );
}

fn disk(mount_point: &str, size: u64, free: u64) -> Disk {
    Disk {
        mount_point: mount_point.into(),
        filesystem: "xfs".into(),
        size,
        free,
        devices: Vec::new(),
    }
}

/// The worked example, of 253 bytes with devices (diskInfo.c).
#[test]
fn the_json_form() {
    let mut disks = [
        disk("/var", 42_949_672_960, 21_474_836_480),
        disk("/system/state", 104_857_600, 94_371_840),
    ];
    for disk in &mut disks {
        disk.devices = vec!["scsi0:0".to_owned()];
    }
    let expected = concat!(
        "SetGuestDiskInfo {\n\"version\":\"1\",\n\"disks\":[\n",
        r#"{"name":"L3Zhcg==","free":"21474836480","size":"42949672960","fstype":"xfs","devices":["scsi0:0"]},"#,
        "\n",
        r#"{"name":"L3N5c3RlbS9zdGF0ZQ==","free":"94371840","size":"104857600","fstype":"xfs","devices":["scsi0:0"]}"#,
        "\n]}\0"
    );
    assert_eq!(String::from_utf8_lossy(json(&disks).bytes()), expected);
    assert_eq!(expected.len(), 253);
    disks[0].devices = vec!["scsi0:0".to_owned(), "nvme0:1".to_owned()];
    disks[1].devices = vec![];
    assert!(json(&[]).bytes().ends_with(b"\"disks\":[\n]}\0"));
    let value: serde_json::Value = serde_json::from_slice(
        json(&disks).bytes()[b"SetGuestDiskInfo ".len()..]
            .strip_suffix(b"\0")
            .unwrap(),
    )
    .unwrap();
    assert_eq!(value["disks"].as_array().unwrap().len(), 2);
    assert_eq!(
        value["disks"][0]["devices"],
        serde_json::json!(["scsi0:0", "nvme0:1"])
    );
    assert_eq!(value["disks"][1].get("devices"), None);
    let mut longest = disk(&"m".repeat(MAX_NAME), u64::MAX, u64::MAX);
    longest.devices = vec!["scsi9999:99999".to_owned(); 100];
    let most = vec![longest; MAX_JSON];
    assert!(json(&most).bytes().len() < crate::rpci::MAX_REQUEST);
}

#[test]
fn the_packed_form() {
    let bytes = packed(&[disk("/var", 40 * GIB, 20 * GIB)]);
    assert_eq!(bytes.len(), 117);
    assert_eq!(bytes[..22], *b"\x01\0\0\0\0\x05\0\0\0\0\0\0\0\x0a\0\0\0/var\0");
    let long = packed(&[disk(&"x".repeat(300), 1, 1)]);
    assert_eq!((long.len(), long[115], long[116]), (117, b'x', 0));
    assert_eq!(packed(&vec![disk("/", 1, 1); 300]).len(), 1 + 255 * 116);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_would_see_is_not_told() {
    let now = Instant::now();
    let mut told = Told::default();
    let mut free = |free, seconds| {
        let disks = told.settle(
            vec![disk("/var", 40 * GIB, free)],
            now + Duration::from_secs(seconds),
        );
        disks[0].free
    };
    assert_eq!(free(20 * GIB, 0), 20 * GIB);
    assert_eq!(free(20 * GIB - 1, 60), 20 * GIB);
    assert_eq!(free(20 * GIB - STEP, 120), 20 * GIB - STEP);
    assert_eq!(free(20 * GIB - STEP + 1, 180), 20 * GIB - STEP);
    assert_eq!(
        free(20 * GIB - STEP + 1, 420),
        20 * GIB - STEP + 1,
        "after five minutes it is"
    );
    let small = told.settle(vec![disk("/var", 1000, 500)], now);
    assert_eq!(told.settle(vec![disk("/var", 1000, 511)], now)[0].free, 511);
    assert_eq!(small[0].free, 500);
}

/// Looks of the first minutes, each failing or not; the moments at which they were.
async fn looks(
    fails: impl Fn(usize) -> bool,
    drive: impl AsyncFnOnce(&Control, &watch::Sender<Arc<Snapshot>>),
) -> Vec<Duration> {
    let start = Instant::now();
    let moments = std::cell::RefCell::new(Vec::new());
    let control = Control::default();
    let (snapshots, receiver) = watch::channel(Arc::<Snapshot>::default());
    let (sender, _filesystems) = watch::channel(None);
    let mounts = || {
        let mut moments = moments.borrow_mut();
        moments.push(start.elapsed());
        let answer = if fails(moments.len()) {
            Err("no answer")
        } else {
            Ok(Vec::new())
        };
        std::future::ready(answer)
    };
    tokio::select! {
        () = look_at(mounts, control.clone(), receiver, sender) => {}
        () = drive(&control, &snapshots) => {}
    }
    moments.into_inner()
}

#[tokio::test(start_paused = true)]
async fn a_first_look_that_fails_is_soon_repeated() {
    let moments = looks(|look| look < 4, async |_, _| sleep(Duration::from_secs(50)).await).await;
    assert_eq!(moments.len(), 4, "{moments:?}");
    assert!(moments[3] <= Duration::from_secs(10), "{moments:?}");
    let silent = looks(|_| true, async |_, _| sleep(Duration::from_secs(3600)).await).await;
    assert!((50..=75).contains(&silent.len()), "{}", silent.len());
}

#[tokio::test(start_paused = true)]
async fn a_new_mount_point_and_a_resumption_are_looked_at_at_once() {
    let second = || sleep(Duration::from_secs(1));
    let moments = looks(
        |_| false,
        async |control, snapshots| {
            sleep(Duration::from_secs(5)).await;
            snapshots.send_replace(Arc::new(node()));
            second().await;
            // Not another mount point.
            snapshots.send_modify(|snapshot| Arc::make_mut(snapshot).boot_id = known("6a1b".into()));
            second().await;
            control.suspend();
            second().await;
            control.resume();
            second().await;
        },
    )
    .await;
    let seconds: Vec<u64> = moments.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 5, 8]);
}
