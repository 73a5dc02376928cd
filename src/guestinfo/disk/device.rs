//! Which virtual disks a filesystem lies on, by the names that the hypervisor has for them.
//!
//! ```text
//!  /dev/dm-0 ──slaves──> sda6 ──device──> …/0000:00:10.0/host2/target2:0:1/2:0:1:0
//!                                          label, or scsi0              unit 1      ──> scsi0:1
//! ```
//!
//! The rules are those of open-vm-tools (diskInfoPosix.c). sysfs answers from memory, whatever state the disk is in.
//! What is not understood has no name: a wrong one would be somebody else's disk.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Deepest stack of devices that is followed: LUKS on LVM on a multipath disk are three.
const MAX_DEPTH: usize = 8;
/// Longest attribute that is read, in bytes.
const MAX_ATTRIBUTE: u64 = 256;
/// Longest name of a disk, in bytes (`DISK_DEVICE_NAME_SIZE` less its NUL).
const MAX_NAME: usize = 14;
/// Most devices that are remembered; a node has a few volumes.
const MAX_KNOWN: usize = 256;

/// PCI class, base and sub-class: IDE.
const IDE: u32 = 0x0101;
/// PCI class with interface: AHCI.
const AHCI: u32 = 0x01_0601;

/// The names of disks, looked up once for each device.
#[derive(Debug)]
pub struct Devices {
    sys: PathBuf,
    known: BTreeMap<String, Vec<String>>,
}

impl Default for Devices {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Devices {
    /// Those that the sysfs at `sys` tells.
    pub fn at(sys: impl Into<PathBuf>) -> Self {
        Self {
            sys: sys.into(),
            known: BTreeMap::new(),
        }
    }

    /// The disks that the device `source` (`/dev/sda6`, `/dev/mapper/name`) lies on; empty where one of them has no
    /// name.
    pub fn of(&mut self, source: &str) -> Vec<String> {
        if let Some(known) = self.known.get(source) {
            return known.clone();
        }
        let found = self.look_up(source).unwrap_or_default();
        if self.known.len() < MAX_KNOWN {
            self.known.insert(source.to_owned(), found.clone());
        }
        found
    }

    /// Looks again next time: a disk may have been replaced.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn look_up(&self, source: &str) -> Option<Vec<String>> {
        let name = source.strip_prefix("/dev/")?;
        let blocks = self.sys.join("class/block");
        let block = match name.strip_prefix("mapper/") {
            Some(mapped) => fs::read_dir(&blocks)
                .ok()?
                .flatten()
                .map(|entry| entry.path())
                .find(|block| attribute(&block.join("dm/name")).is_some_and(|name| name == mapped))?,
            // A name with a slash in it is no block device's (`cciss!c0d0`).
            None if name.is_empty() || name.contains('/') || name.starts_with('.') => return None,
            None => blocks.join(name),
        };
        let mut disks = disks(&block, MAX_DEPTH)?;
        disks.sort();
        disks.dedup();
        Some(disks)
    }
}

/// The names of the disks below `block`, all or none.
fn disks(block: &Path, depth: usize) -> Option<Vec<String>> {
    let depth = depth.checked_sub(1)?;
    let below: Vec<PathBuf> = fs::read_dir(block.join("slaves"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    if below.is_empty() {
        return Some(vec![disk(block)?]);
    }
    let below: Option<Vec<Vec<String>>> = below.iter().map(|slave| disks(slave, depth)).collect();
    Some(below?.concat())
}

/// The name of the disk that `block` is or is a part of.
fn disk(block: &Path) -> Option<String> {
    let block = fs::canonicalize(block).ok()?;
    let whole = if block.join("device").exists() {
        block
    } else {
        block.parent()?.to_owned()
    };
    let device = fs::canonicalize(whole.join("device")).ok()?;
    let last = device.file_name()?.to_str()?;
    let (controller, unit) = if is_numbered(last, "nvme") {
        let namespace: u32 = attribute(&whole.join("nsid"))?.parse().ok()?;
        let pci = device.parent()?.parent()?;
        (label(pci)?, namespace.checked_sub(1)?)
    } else {
        scsi(&device, last)?
    };
    let name = format!("{controller}:{unit}");
    (name.len() <= MAX_NAME).then_some(name)
}

/// A disk behind a SCSI host, real or emulated: its address is `host:channel:target:lun`.
fn scsi(device: &Path, address: &str) -> Option<(String, u32)> {
    let parts: Vec<u32> = address
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [_, _, target, _] = parts.as_slice() else {
        return None;
    };
    // …/host2/target2:0:0/2:0:0:0 hangs below the controller, with SAS also a port and an end device in between.
    let above = device.parent()?.parent()?.parent()?;
    if above.join("sas_port").exists() {
        let phy = fs::read_dir(above).ok()?.flatten().find_map(|entry| {
            let name = entry.file_name();
            let (_, phy) = name.to_str()?.strip_prefix("phy-")?.rsplit_once(':')?;
            phy.parse().ok()
        })?;
        return Some((label(above.parent()?.parent()?)?, phy));
    }
    // Newer kernels have …/ata1/host0/… below an ATA controller.
    let pci = if above.join("class").exists() {
        above
    } else {
        above.parent()?
    };
    let class = attribute(&pci.join("class"));
    let class = class.and_then(|class| u32::from_str_radix(class.strip_prefix("0x")?, 16).ok());
    match class {
        Some(class) if class >> 8 == IDE => Some((format!("ide{}", rank(pci, device)?), *target)),
        Some(AHCI) => Some((label(pci)?, rank(pci, device)?)),
        _ => Some((label(pci)?, *target)),
    }
}

/// Which of the controller's ports leads to `device`: the number of siblings below it.
fn rank(pci: &Path, device: &Path) -> Option<u32> {
    let port = device.strip_prefix(pci).ok()?.iter().next()?.to_str()?;
    let kind = port.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = |name: &str| -> Option<u32> { name.strip_prefix(kind)?.parse().ok() };
    let own = number(port)?;
    let before = fs::read_dir(pci).ok()?.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(number).is_some_and(|other| other < own)
    });
    u32::try_from(before.count()).ok()
}

/// The controller's name: what the firmware calls it. The first one of a VM, on bus 0, may have none.
fn label(pci: &Path) -> Option<String> {
    match attribute(&pci.join("label")) {
        Some(label) => {
            let label = label.to_ascii_lowercase();
            let known = ["scsi", "sata", "nvme", "ide"];
            known
                .iter()
                .any(|kind| is_numbered(&label, kind))
                .then_some(label)
        }
        None => pci.ends_with("0000:00:10.0").then(|| "scsi0".to_owned()),
    }
}

/// `scsi0` and the like.
fn is_numbered(name: &str, kind: &str) -> bool {
    let number = name.strip_prefix(kind);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The first line of an attribute.
fn attribute(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(MAX_ATTRIBUTE).read_to_string(&mut text).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with the disks of virtual machines.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(sys.0.path().join("class/block")).unwrap();
            sys
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(self.0.path().join(target), path).unwrap();
        }

        /// A disk at `device`, with one partition.
        fn disk(&self, name: &str, device: &str) {
            let block = format!("{device}/block/{name}");
            self.write(&format!("{block}/{name}1/partition"), "1\n");
            self.link(&format!("{block}/device"), device);
            self.link(&format!("class/block/{name}"), &block);
            self.link(&format!("class/block/{name}1"), &format!("{block}/{name}1"));
        }

        /// A device mapper's device on others.
        fn mapped(&self, name: &str, called: &str, on: &[&str]) {
            self.write(
                &format!("devices/virtual/block/{name}/dm/name"),
                &format!("{called}\n"),
            );
            for slave in on {
                self.link(
                    &format!("devices/virtual/block/{name}/slaves/{slave}"),
                    &format!("class/block/{slave}"),
                );
            }
            self.link(
                &format!("class/block/{name}"),
                &format!("devices/virtual/block/{name}"),
            );
        }

        fn of(&self, source: &str) -> Vec<String> {
            Devices::at(self.0.path()).of(source)
        }
    }

    /// The adapters of a VM: LSI Logic on bus 0 without a label, paravirtual SCSI, SAS, AHCI, NVMe, IDE.
    fn machine() -> Sys {
        let sys = Sys::new();
        let root = "devices/pci0000:00";
        sys.write(&format!("{root}/0000:00:10.0/class"), "0x010000\n");
        sys.disk("sda", &format!("{root}/0000:00:10.0/host2/target2:0:0/2:0:0:0"));
        sys.disk("sdb", &format!("{root}/0000:00:10.0/host2/target2:0:9/2:0:9:0"));
        sys.write(&format!("{root}/0000:03:00.0/class"), "0x010700\n");
        sys.write(&format!("{root}/0000:03:00.0/label"), "SCSI1\n");
        sys.disk("sdc", &format!("{root}/0000:03:00.0/host3/target3:0:2/3:0:2:0"));
        sys.write(&format!("{root}/0000:04:00.0/label"), "SCSI2\n");
        let port = format!("{root}/0000:04:00.0/host4/port-4:3");
        sys.write(&format!("{port}/sas_port/port-4:3/x"), "");
        sys.write(&format!("{port}/phy-4:3/x"), "");
        sys.disk("sdd", &format!("{port}/end_device-4:3/target4:0:0/4:0:0:0"));
        sys.write(&format!("{root}/0000:05:00.0/class"), "0x010601\n");
        sys.write(&format!("{root}/0000:05:00.0/label"), "SATA0\n");
        for (port, host, name) in [(3, 5, "sde"), (4, 6, "sdf")] {
            sys.disk(
                name,
                &format!("{root}/0000:05:00.0/ata{port}/host{host}/target{host}:0:0/{host}:0:0:0"),
            );
        }
        sys.write(&format!("{root}/0000:0b:00.0/label"), "NVME0\n");
        let nvme = format!("{root}/0000:0b:00.0/nvme/nvme0");
        for (name, nsid) in [("nvme0n1", "1\n"), ("nvme0n2", "2\n")] {
            sys.write(&format!("{nvme}/{name}/nsid"), nsid);
            sys.link(&format!("{nvme}/{name}/device"), &nvme);
            sys.write(&format!("{nvme}/{name}/{name}p1/partition"), "1\n");
            sys.link(&format!("class/block/{name}"), &format!("{nvme}/{name}"));
            sys.link(
                &format!("class/block/{name}p1"),
                &format!("{nvme}/{name}/{name}p1"),
            );
        }
        sys.write(&format!("{root}/0000:00:07.1/class"), "0x01018a\n");
        for (port, host, target, name) in [(1, 7, 0, "sdg"), (2, 8, 1, "sdh")] {
            let device = format!("{host}:0:{target}:0");
            sys.disk(
                name,
                &format!("{root}/0000:00:07.1/ata{port}/host{host}/target{host}:0:{target}/{device}"),
            );
        }
        sys.write("devices/virtual/block/loop0/size", "1\n");
        sys.link("class/block/loop0", "devices/virtual/block/loop0");
        sys
    }

    #[test]
    fn each_controller_of_a_virtual_machine() {
        let sys = machine();
        for (source, disk) in [
            ("/dev/sda", "scsi0:0"),
            ("/dev/sda1", "scsi0:0"),
            ("/dev/sdb1", "scsi0:9"),
            ("/dev/sdc1", "scsi1:2"),
            ("/dev/sdd1", "scsi2:3"),
            ("/dev/sde1", "sata0:0"),
            ("/dev/sdf1", "sata0:1"),
            ("/dev/nvme0n1p1", "nvme0:0"),
            ("/dev/nvme0n2p1", "nvme0:1"),
            ("/dev/sdg1", "ide0:0"),
            ("/dev/sdh1", "ide1:1"),
        ] {
            assert_eq!(sys.of(source), [disk], "{source}");
        }
    }

    #[test]
    fn an_encrypted_volume_lies_on_what_is_below_it() {
        let sys = machine();
        sys.mapped("dm-0", "luks2-EPHEMERAL", &["sda1"]);
        sys.mapped("dm-1", "striped", &["dm-0", "sdc1", "sda1"]);
        sys.mapped("dm-2", "half", &["sda1", "loop0"]);
        assert_eq!(sys.of("/dev/dm-0"), ["scsi0:0"]);
        assert_eq!(sys.of("/dev/mapper/luks2-EPHEMERAL"), ["scsi0:0"]);
        assert_eq!(sys.of("/dev/mapper/striped"), ["scsi0:0", "scsi1:2"]);
        assert_eq!(sys.of("/dev/mapper/half"), [""; 0], "all or none");
        sys.mapped("dm-3", "circle", &["dm-3"]);
        assert_eq!(sys.of("/dev/mapper/circle"), [""; 0]);
    }

    #[test]
    fn what_is_not_understood_has_no_name() {
        let sys = machine();
        for source in [
            "tmpfs",
            "/dev/",
            "/dev/../sda",
            "/dev/..",
            "/dev/root",
            "/dev/loop0",
            "/dev/mapper/none",
            "",
        ] {
            assert_eq!(sys.of(source), [""; 0], "{source}");
        }
        sys.write("devices/pci0000:00/0000:03:00.0/label", "SCSI1\",\"x\n");
        assert_eq!(sys.of("/dev/sdc"), [""; 0], "the name goes into JSON");
        assert_eq!(Devices::at("/nonexistent").of("/dev/sda"), [""; 0]);
    }

    #[test]
    fn a_name_is_looked_up_once_until_it_is_forgotten() {
        let sys = machine();
        let mut devices = Devices::at(sys.0.path());
        assert_eq!(devices.of("/dev/sdc"), ["scsi1:2"]);
        sys.write("devices/pci0000:00/0000:03:00.0/label", "SCSI3\n");
        assert_eq!(devices.of("/dev/sdc"), ["scsi1:2"]);
        devices.forget();
        assert_eq!(devices.of("/dev/sdc"), ["scsi3:2"]);
    }
}
