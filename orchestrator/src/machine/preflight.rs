//! What this host lacks for a machine: a cell runs as it was asked for, or is skipped with the reasons.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Access as Mode, access};
use serde::Serialize;

use super::qemu::{Feature, Qemu};
use crate::plan::{Accel, Protection};
use crate::scenario::Need;

/// Facility bits (z/Architecture Principles of Operation, "Facility Indications").
const EDAT: u16 = 8;
const ULTRAVISOR_CALL: u16 = 158;

/// The host's side of the question. Read once by [`Host::gather`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The machine name of uname(2).
    pub architecture: String,
    pub kvm: Access,
    pub vhost: Access,
    pub tun: Access,
    /// The facilities of an s390x host's CPUs.
    pub facilities: BTreeSet<u16>,
    /// The content of `/sys/firmware/uv/prot_virt_host`; `None` if there is no such file.
    pub prot_virt_host: Option<String>,
}

/// What the user who runs farm may do with a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    Usable,
    Denied,
    Missing,
}

/// What a cell asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub accel: Accel,
    pub protection: Protection,
    pub needs: &'a [Need],
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preflight {
    Run,
    /// Everything that is missing, each with its mend where there is one.
    Skip {
        reasons: Vec<String>,
    },
}

/// A fact of the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct HostError {
    path: Utf8PathBuf,
    #[source]
    source: io::Error,
}

/// Decides from facts alone.
pub fn preflight(wanted: Wanted<'_>, host: &Host, qemu: &Qemu) -> Preflight {
    let mut reasons = Vec::new();
    let needs = |need| wanted.needs.contains(&need);

    if wanted.accel == Accel::Kvm {
        reasons.extend(lacks_for_kvm(host, qemu));
    } else if needs(Need::Kvm) {
        reasons.push("the scenario needs KVM, and TCG was asked for".to_owned());
    }
    match wanted.protection {
        Protection::Hardware => reasons.extend(lacks_for_protection(wanted.accel, host, qemu)),
        Protection::None | Protection::Emulated if needs(Need::Pv) => {
            reasons.push("the scenario needs hardware protection, which was not asked for".to_owned());
        }
        Protection::None | Protection::Emulated => {}
    }
    if needs(Need::Edat) {
        match wanted.accel {
            Accel::Tcg => reasons.push("large pages (EDAT) are not emulated by TCG".to_owned()),
            Accel::Kvm if !host.facilities.contains(&EDAT) => {
                reasons.push("the host's CPUs have no large pages (EDAT, facility 8)".to_owned());
            }
            Accel::Kvm => {}
        }
    }
    if needs(Need::Vhost) {
        reasons.extend(lack_of_device(host.vhost, "/dev/vhost-net", "modprobe vhost_net"));
    }
    if needs(Need::Tap) {
        reasons.extend(lack_of_device(host.tun, "/dev/net/tun", "modprobe tun"));
    }
    match reasons.is_empty() {
        true => Preflight::Run,
        false => Preflight::Skip { reasons },
    }
}

fn lacks_for_kvm(host: &Host, qemu: &Qemu) -> Vec<String> {
    if host.architecture != "s390x" {
        // Its /dev/kvm, if there is one, runs guests of its own architecture only.
        return vec![format!("KVM runs s390x guests on an s390x host, this is {}", host.architecture)];
    }
    let mut lacks = Vec::new();
    lacks.extend(lack_of_device(host.kvm, "/dev/kvm", "modprobe kvm"));
    if qemu.kvm == Feature::Absent {
        lacks.push(format!("{} {} is built without KVM", qemu.binary, qemu.version));
    }
    lacks
}

fn lacks_for_protection(accel: Accel, host: &Host, qemu: &Qemu) -> Vec<String> {
    let mut lacks = Vec::new();
    if accel != Accel::Kvm {
        lacks.push("hardware protection needs KVM, and TCG was asked for".to_owned());
    }
    if qemu.protected == Feature::Absent {
        lacks.push(format!("{} {} has no s390-pv-guest object", qemu.binary, qemu.version));
    }
    if !host.facilities.contains(&ULTRAVISOR_CALL) {
        lacks.push(
            "the host has no ultravisor (facility 158): an IBM z15, LinuxONE III or newer has one".to_owned(),
        );
    } else if host.prot_virt_host.as_deref() != Some("1") {
        lacks.push(
            "the host's ultravisor is off: boot the host's kernel with prot_virt=1 \
             (/sys/firmware/uv/prot_virt_host is then 1)"
                .to_owned(),
        );
    }
    lacks
}

fn lack_of_device(access: Access, path: &str, mend: &str) -> Option<String> {
    match access {
        Access::Usable => None,
        Access::Denied => Some(format!("{path} may not be opened by this user")),
        Access::Missing => Some(format!("{path} does not exist: {mend}")),
    }
}

impl Host {
    pub fn of_this_machine() -> Result<Self, HostError> {
        Self::gather(Utf8Path::new("/"))
    }

    /// Reads the facts below `root`.
    pub(super) fn gather(root: &Utf8Path) -> Result<Self, HostError> {
        let cpuinfo = read(&root.join("proc/cpuinfo"))?.unwrap_or_default();
        let prot_virt_host = read(&root.join("sys/firmware/uv/prot_virt_host"))?;
        Ok(Self {
            architecture: rustix::system::uname().machine().to_string_lossy().into_owned(),
            kvm: device(&root.join("dev/kvm")),
            vhost: device(&root.join("dev/vhost-net")),
            tun: device(&root.join("dev/net/tun")),
            facilities: facilities(&cpuinfo),
            prot_virt_host: prot_virt_host.map(|text| text.trim().to_owned()),
        })
    }
}

fn read(path: &Utf8Path) -> Result<Option<String>, HostError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError { path: path.to_owned(), source }),
    }
}

fn device(path: &Utf8Path) -> Access {
    match access(path.as_std_path(), Mode::READ_OK | Mode::WRITE_OK) {
        Ok(()) => Access::Usable,
        Err(rustix::io::Errno::NOENT) => Access::Missing,
        Err(_) => Access::Denied,
    }
}

/// The line `facilities      : 0 1 2 …` of an s390x `/proc/cpuinfo` (arch/s390/kernel/processor.c).
fn facilities(cpuinfo: &str) -> BTreeSet<u16> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim_end() == "facilities")
        .flat_map(|(_, bits)| bits.split_ascii_whitespace())
        .filter_map(|bit| bit.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::argv::tests::spec;
    use super::*;

    /// A z15 with everything on.
    fn mainframe() -> Host {
        Host {
            architecture: "s390x".into(),
            kvm: Access::Usable,
            vhost: Access::Usable,
            tun: Access::Usable,
            facilities: [8, 78, 158].into(),
            prot_virt_host: Some("1".into()),
        }
    }

    fn laptop() -> Host {
        Host {
            architecture: "x86_64".into(),
            kvm: Access::Usable,
            vhost: Access::Missing,
            tun: Access::Denied,
            facilities: BTreeSet::new(),
            prot_virt_host: None,
        }
    }

    fn full_qemu() -> Qemu {
        Qemu { kvm: Feature::Present, protected: Feature::Present, ..spec().qemu }
    }

    const PLAIN: Wanted<'_> = Wanted { accel: Accel::Tcg, protection: Protection::None, needs: &[] };
    const KVM: Wanted<'_> = Wanted { accel: Accel::Kvm, ..PLAIN };
    const PROTECTED: Wanted<'_> = Wanted { protection: Protection::Hardware, ..KVM };

    #[test]
    fn cells_that_run() {
        let everything = [Need::Pv, Need::Kvm, Need::Edat, Need::Vhost, Need::Tap];
        for (what, wanted, host) in [
            ("TCG anywhere", PLAIN, laptop()),
            ("emulated protection anywhere", Wanted { protection: Protection::Emulated, ..PLAIN }, laptop()),
            ("TCG on a mainframe", PLAIN, mainframe()),
            ("KVM", KVM, mainframe()),
            ("protected", PROTECTED, mainframe()),
            ("protected, all needs", Wanted { needs: &everything, ..PROTECTED }, mainframe()),
        ] {
            assert_eq!(preflight(wanted, &host, &full_qemu()), Preflight::Run, "{what}");
        }
    }

    /// Each row takes one thing away from a cell that would run, and expects that thing's name.
    #[test]
    fn cells_that_are_skipped() {
        let small_qemu = Qemu { kvm: Feature::Absent, protected: Feature::Absent, ..full_qemu() };
        let on = |change: fn(&mut Host)| {
            let mut host = mainframe();
            change(&mut host);
            host
        };
        let needs = |wanted, needs| Wanted { needs, ..wanted };
        let table: &[(Wanted<'_>, Host, &Qemu, &[&str])] = &[
            (KVM, laptop(), &full_qemu(), &["on an s390x host, this is x86_64"]),
            (KVM, on(|host| host.kvm = Access::Missing), &full_qemu(), &["/dev/kvm does not exist"]),
            (KVM, on(|host| host.kvm = Access::Denied), &full_qemu(), &["/dev/kvm may not be opened"]),
            (KVM, mainframe(), &small_qemu, &["built without KVM"]),
            (Wanted { accel: Accel::Tcg, ..PROTECTED }, mainframe(), &full_qemu(), &["needs KVM, and TCG"]),
            (PROTECTED, mainframe(), &small_qemu, &["built without KVM", "no s390-pv-guest"]),
            (PROTECTED, on(|host| host.facilities = [8].into()), &full_qemu(), &["facility 158"]),
            (PROTECTED, on(|host| host.prot_virt_host = Some("0".into())), &full_qemu(), &["prot_virt=1"]),
            (PROTECTED, on(|host| host.prot_virt_host = None), &full_qemu(), &["prot_virt=1"]),
            (PROTECTED, laptop(), &small_qemu, &["this is x86_64", "no s390-pv-guest", "facility 158"]),
            (needs(PLAIN, &[Need::Kvm]), mainframe(), &full_qemu(), &["needs KVM, and TCG"]),
            (needs(KVM, &[Need::Pv]), mainframe(), &full_qemu(), &["hardware protection, which was not"]),
            (needs(PLAIN, &[Need::Edat]), mainframe(), &full_qemu(), &["not emulated by TCG"]),
            (
                needs(KVM, &[Need::Edat]),
                on(|host| host.facilities = [158].into()),
                &full_qemu(),
                &["facility 8"],
            ),
            (
                needs(PLAIN, &[Need::Vhost, Need::Tap]),
                laptop(),
                &full_qemu(),
                &["/dev/vhost-net does not exist", "/dev/net/tun may not be opened"],
            ),
        ];
        for (wanted, host, qemu, expected) in table {
            let Preflight::Skip { reasons } = preflight(*wanted, host, qemu) else {
                panic!("{wanted:?} on {host:?} would run");
            };
            assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
            for (reason, expected) in reasons.iter().zip(*expected) {
                assert!(reason.contains(expected), "{reason:?} lacks {expected:?}");
            }
        }
    }

    #[test]
    fn facts_of_an_s390x_host() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        for (path, text) in [
            (
                "proc/cpuinfo",
                "vendor_id       : IBM/S390\nfeatures\t: esan3 zarch\n\
                 facilities      : 0 1 2 8 78 158\ncache0          : level=1 type=Data\n",
            ),
            ("sys/firmware/uv/prot_virt_host", "1\n"),
            ("dev/kvm", ""),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::gather(root).unwrap();
        assert_eq!(host.facilities, [0, 1, 2, 8, 78, 158].into());
        assert_eq!(host.prot_virt_host.as_deref(), Some("1"));
        assert_eq!((host.kvm, host.vhost, host.tun), (Access::Usable, Access::Missing, Access::Missing));
    }
}
