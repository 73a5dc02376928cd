//! How full the node's own filesystems are.
//!
//! ```text
//!  volumes, mounts ──what Talos mounted──┐
//!  Mounts call ──────size, free space────┼─one per filesystem──> settle ──> JSON, or the packed form
//!  sysfs ────────────virtual disks───────┘
//! ```
//!
//! A node with pods has hundreds of mounts, most of them the same filesystem again. Only what Talos itself mounted is
//! told, each filesystem once, at its shortest mount point. Free space changes all the time; it is told again when it
//! has moved enough to be seen.

#![forbid(unsafe_code)]

mod device;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{debug, info};

pub use self::device::Devices;
use super::control::Control;
use crate::{
    jitter::jittered,
    rpci::Request,
    talos::{Client, Snapshot, snapshot::Filesystem},
};

/// Filesystems that the host shows, those of open-vm-tools' list that Talos makes (diskInfo.c).
const SHOWN: [&str; 4] = ["btrfs", "ext4", "vfat", "xfs"];
/// Most disks in the packed form, which counts them in one byte.
const MAX_PACKED: usize = 255;
/// Room for a mount point in the packed form, in bytes, with its NUL (`PARTITION_NAME_SIZE`).
const PACKED_NAME: usize = 100;
/// Most disks in the JSON form. A Talos volume each; with names of full length it stays below a message.
const MAX_JSON: usize = 64;
/// Most virtual disks of one filesystem: those of a full SCSI adapter.
const MAX_DEVICES: usize = 15;
/// A mount point beyond this is left out, in bytes.
const MAX_NAME: usize = 255;
/// Free space that has moved by less is not told, in bytes.
const STEP: u64 = 64 * 1024 * 1024;
/// Likewise as a part of the size: one hundredth.
const SHARE: u64 = 100;
/// After this time it is told however little it has moved.
const OLDEST: Duration = Duration::from_secs(300);
/// Pause between two looks at the free space.
const PERIOD: Duration = Duration::from_secs(60);
/// Share by which it varies.
const JITTER: f64 = 0.1;
/// Pause behind the first look that failed; each one after it is twice as long, up to [`PERIOD`]. No two looks are
/// closer to each other than this.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// One filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Where it is mounted: `/var`.
    pub mount_point: String,
    /// `xfs`, …
    pub filesystem: String,
    /// Bytes.
    pub size: u64,
    /// Bytes that an unprivileged process may still write.
    pub free: u64,
    /// The virtual disks that it lies on (`scsi0:1`); empty where that is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mount_point,
            filesystem,
            size,
            free,
            devices,
        } = self;
        write!(f, "{mount_point} {filesystem}, {free} of {size} bytes free")?;
        if devices.is_empty() {
            Ok(())
        } else {
            write!(f, ", on {}", devices.join(" "))
        }
    }
}

/// The latest answer of the `Mounts` call; none before the first.
pub type Filesystems = Option<Arc<Vec<Filesystem>>>;

/// The filesystems that Talos mounted and the host shows, by mount point, with their kinds; none while unknown.
pub fn mount_points(snapshot: &Snapshot) -> Option<BTreeMap<&str, &str>> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut known = false;
    for mounts in [&snapshot.runtime_mounts, &snapshot.mounts] {
        let Some(mounts) = mounts.value() else { continue };
        known = true;
        for mount in mounts.values().filter(|mount| !mount.target.is_empty()) {
            kinds.insert(&mount.target, &mount.filesystem);
        }
    }
    if let Some(volumes) = snapshot.volumes.value() {
        known = true;
        for volume in volumes.values() {
            if let Some(name) = volume.filesystem_name()
                && !volume.target_path.is_empty()
            {
                kinds.insert(&volume.target_path, name);
            }
        }
    }
    kinds.retain(|_, kind| SHOWN.contains(kind));
    known.then_some(kinds)
}

/// The disks of the node by mount point; none while either half is unknown.
pub fn select(snapshot: &Snapshot, filesystems: &Filesystems, devices: &mut Devices) -> Option<Vec<Disk>> {
    let filesystems = filesystems.as_ref()?;
    let kinds = mount_points(snapshot)?;
    let mut by_source: BTreeMap<&str, Disk> = BTreeMap::new();
    for filesystem in filesystems.iter() {
        let target = filesystem.target.as_str();
        let Some(kind) = kinds.get(target) else { continue };
        let printable = target.len() <= MAX_NAME && !target.contains('\0');
        if filesystem.size == 0 || !printable {
            continue;
        }
        let disk = Disk {
            mount_point: target.to_owned(),
            filesystem: (*kind).to_owned(),
            size: filesystem.size,
            free: filesystem.available.min(filesystem.size),
            devices: Vec::new(),
        };
        let rank = |disk: &Disk| (disk.mount_point.len(), disk.mount_point.clone());
        let shorter = by_source
            .get(filesystem.source.as_str())
            .is_none_or(|other| rank(&disk) < rank(other));
        if shorter {
            by_source.insert(&filesystem.source, disk);
        }
    }
    let mut disks: Vec<Disk> = by_source
        .into_iter()
        .map(|(source, disk)| Disk {
            devices: devices.of(source),
            ..disk
        })
        .collect();
    disks.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    disks.truncate(MAX_JSON);
    Some(disks)
}

/// What was told last, and when.
#[derive(Debug, Default)]
pub struct Told(Option<(Vec<Disk>, Instant)>);

impl Told {
    /// What to tell: `disks`, or what was told last where nobody would see the difference.
    pub fn settle(&mut self, disks: Vec<Disk>, now: Instant) -> Vec<Disk> {
        if let Some((told, when)) = &self.0
            && now < *when + OLDEST
            && told.len() == disks.len()
            && told.iter().zip(&disks).all(|(told, disk)| looks_like(told, disk))
        {
            return told.clone();
        }
        self.0 = Some((disks.clone(), now));
        disks
    }
}

fn looks_like(told: &Disk, disk: &Disk) -> bool {
    let moved = told.free.abs_diff(disk.free);
    let same = Disk {
        free: told.free,
        ..disk.clone()
    };
    *told == same && moved < STEP && moved < (disk.size / SHARE).max(1)
}

/// `SetGuestDiskInfo`: order of keys and numbers as text are a contract (diskInfo.c).
pub fn json(disks: &[Disk]) -> Request {
    let disks: Vec<String> = disks
        .iter()
        .map(|disk| {
            let Disk {
                mount_point,
                filesystem,
                size,
                free,
                devices,
            } = disk;
            let name = STANDARD.encode(mount_point);
            let devices = match devices.get(..MAX_DEVICES).unwrap_or(devices) {
                [] => String::new(),
                some => format!(r#","devices":["{}"]"#, some.join(r#"",""#)),
            };
            format!(r#"{{"name":"{name}","free":"{free}","size":"{size}","fstype":"{filesystem}"{devices}}}"#)
        })
        .collect();
    let list = disks.join(",\n");
    let end = if list.is_empty() { "" } else { "\n" };
    Request::text(format!(
        "SetGuestDiskInfo {{\n\"version\":\"1\",\n\"disks\":[\n{list}{end}]}}"
    ))
}

/// The packed form for hosts that refuse the other: a count, then free, size and name of each, little-endian.
pub fn packed(disks: &[Disk]) -> Vec<u8> {
    let disks = disks.get(..MAX_PACKED).unwrap_or(disks);
    let mut bytes = vec![u8::try_from(disks.len()).unwrap_or(u8::MAX)];
    for disk in disks {
        bytes.extend(disk.free.to_le_bytes());
        bytes.extend(disk.size.to_le_bytes());
        let name = disk.mount_point.bytes().take(PACKED_NAME - 1);
        let padded = name.chain(std::iter::repeat(0)).take(PACKED_NAME);
        bytes.extend(padded);
    }
    bytes
}

/// Asks Talos for the free space, time and again, as long as somebody wants it; at once when Talos has mounted or
/// unmounted something. Does not while publishing is suspended: then filesystems may be frozen.
pub async fn follow(
    client: Arc<Client>,
    control: Control,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    filesystems: watch::Sender<Filesystems>,
) {
    let mounts = move || {
        let client = Arc::clone(&client);
        async move { client.mounts().await }
    };
    look_at(mounts, control, snapshots, filesystems).await;
}

/// [`follow`], with the call as a function.
async fn look_at<F: Future<Output = Result<Vec<Filesystem>, E>>, E: fmt::Display>(
    mounts: impl Fn() -> F,
    control: Control,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    filesystems: watch::Sender<Filesystems>,
) {
    let mut random = fastrand::Rng::new();
    let mut silent = false;
    let mut pause = FIRST_RETRY;
    let mut wants = control.subscribe();
    loop {
        if wants.wait_for(|wants| !wants.suspended).await.is_err() {
            return;
        }
        let mounted = owned(mount_points(&snapshots.borrow_and_update()));
        match mounts().await {
            Ok(list) => {
                pause = PERIOD;
                if std::mem::take(&mut silent) {
                    info!(feature = "guestinfo", "Talos tells the free space again");
                }
                filesystems.send_replace(Some(Arc::new(list)));
            }
            Err(error) if silent => debug!(feature = "guestinfo", err = %error, "no free space"),
            Err(error) => {
                silent = true;
                info!(feature = "guestinfo", reason = %error, "Talos does not tell the free space");
            }
        }
        if filesystems.is_closed() {
            return;
        }
        sleep(FIRST_RETRY).await;
        let rest = jittered(&mut random, pause, JITTER);
        pause = (pause * 2).min(PERIOD);
        tokio::select! {
            () = sleep(rest.saturating_sub(FIRST_RETRY)) => {}
            () = remounted(&mut snapshots, &mounted) => {}
            // The next look is that of the resumption.
            _ = wants.wait_for(|wants| wants.suspended) => {}
        }
    }
}

/// The mount points of a snapshot, to be kept.
type Mounted = Option<BTreeMap<String, String>>;

fn owned(mounted: Option<BTreeMap<&str, &str>>) -> Mounted {
    let mounted = mounted?.into_iter();
    Some(
        mounted
            .map(|(target, kind)| (target.into(), kind.into()))
            .collect(),
    )
}

/// Waits until a snapshot has other mount points than `mounted`.
async fn remounted(snapshots: &mut watch::Receiver<Arc<Snapshot>>, mounted: &Mounted) {
    let changed = snapshots.wait_for(|snapshot| owned(mount_points(snapshot)) != *mounted);
    if changed.await.is_err() {
        // No snapshot will follow; the last one stays true.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
