//! What a host must have, how each part is recognised, and what distributions call it. No I/O.
//!
//! A part counts as there when its program or file is there, wherever it came from: a compiler built by
//! hand is as good as a package.

use crate::cmd::Cmd;

/// One thing that building or running needs on the host.
pub(crate) struct Requirement {
    pub(crate) purpose: &'static str,
    pub(crate) proof: Proof,
    pub(crate) debian: &'static str,
    pub(crate) ubuntu: &'static str,
    pub(crate) fedora: &'static str,
}

/// What shows that a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// An executable file of this name.
    Program(&'static str),
    /// A file at this path.
    File(&'static str),
    /// A library that [`CROSS_COMPILER`] finds in its own search path, which differs between distributions.
    CrossLibrary(&'static str),
}

pub(crate) const CROSS_COMPILER: &str = "s390x-linux-gnu-gcc";

pub(crate) const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        purpose: "compiles what runs inside a guest",
        proof: Proof::Program(CROSS_COMPILER),
        debian: "gcc-s390x-linux-gnu",
        ubuntu: "gcc-s390x-linux-gnu",
        fedora: "gcc-s390x-linux-gnu",
    },
    Requirement {
        purpose: "links it statically",
        proof: Proof::CrossLibrary("libc.a"),
        debian: "libc6-dev-s390x-cross",
        ubuntu: "libc6-dev-s390x-cross",
        fedora: "sysroot-s390x-fc$(rpm -E %fedora)-glibc",
    },
    Requirement {
        purpose: "builds kernel modules for guests",
        proof: Proof::Program("make"),
        debian: "make",
        ubuntu: "make",
        fedora: "make",
    },
    Requirement {
        purpose: "keeps the sources of kernels that are built here",
        proof: Proof::Program("git"),
        debian: "git",
        ubuntu: "git",
        fedora: "git",
    },
    Requirement {
        purpose: "builds kernels",
        proof: Proof::Program("flex"),
        debian: "flex",
        ubuntu: "flex",
        fedora: "flex",
    },
    Requirement {
        purpose: "builds kernels",
        proof: Proof::Program("bison"),
        debian: "bison",
        ubuntu: "bison",
        fedora: "bison",
    },
    Requirement {
        purpose: "builds kernels",
        proof: Proof::Program("bc"),
        debian: "bc",
        ubuntu: "bc",
        fedora: "bc",
    },
    Requirement {
        purpose: "builds kernels whose modules are signed",
        proof: Proof::File("/usr/include/openssl/ssl.h"),
        debian: "libssl-dev",
        ubuntu: "libssl-dev",
        fedora: "openssl-devel",
    },
    Requirement {
        purpose: "compiles nothing twice",
        proof: Proof::Program("ccache"),
        debian: "ccache",
        ubuntu: "ccache",
        fedora: "ccache",
    },
    Requirement {
        purpose: "debugs guests",
        proof: Proof::Program("gdb-multiarch"),
        debian: "gdb-multiarch",
        ubuntu: "gdb-multiarch",
        fedora: "gdb",
    },
    Requirement {
        // Debian 12 has it in qemu-system-misc, which provides this name.
        purpose: "runs guests",
        proof: Proof::Program("qemu-system-s390x"),
        debian: "qemu-system-s390x",
        ubuntu: "qemu-system-s390x",
        fedora: "qemu-system-s390x",
    },
    Requirement {
        purpose: "fetches kernels as Debian packages",
        proof: Proof::Program("apt-get"),
        debian: "apt",
        ubuntu: "apt",
        fedora: "apt",
    },
    Requirement {
        purpose: "verifies their signatures",
        proof: Proof::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        debian: "debian-archive-keyring",
        ubuntu: "debian-archive-keyring",
        fedora: "debian-keyring",
    },
    Requirement {
        purpose: "unpacks them",
        proof: Proof::Program("dpkg-deb"),
        debian: "dpkg",
        ubuntu: "dpkg",
        fedora: "dpkg",
    },
    Requirement {
        purpose: "orders kernel modules by dependency",
        proof: Proof::Program("depmod"),
        debian: "kmod",
        ubuntu: "kmod",
        fedora: "kmod",
    },
    Requirement {
        purpose: "formats guests' disks",
        proof: Proof::Program("mkfs.ext4"),
        debian: "e2fsprogs",
        ubuntu: "e2fsprogs",
        fedora: "e2fsprogs",
    },
    Requirement {
        purpose: "formats guests' disks with XFS",
        proof: Proof::Program("mkfs.xfs"),
        debian: "xfsprogs",
        ubuntu: "xfsprogs",
        fedora: "xfsprogs",
    },
    Requirement {
        purpose: "ends programs that outlive farm",
        proof: Proof::Program("setpriv"),
        debian: "util-linux",
        ubuntu: "util-linux",
        fedora: "util-linux",
    },
    Requirement {
        purpose: "checks spelling in CI",
        proof: Proof::Program("codespell"),
        debian: "codespell",
        ubuntu: "codespell",
        fedora: "codespell",
    },
];

/// A family of distributions that share package names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    Debian,
    Ubuntu,
    Fedora,
    Other,
}

impl Distribution {
    /// Reads the text of os-release(5): the distribution itself, then those it says it is like, nearest first.
    pub(crate) fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let assigned = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            assigned.unwrap_or_default().trim_matches(['"', '\''])
        };
        let names = [value("ID"), value("ID_LIKE")];
        let known = names.iter().flat_map(|names| names.split_whitespace()).find_map(|name| match name {
            "debian" => Some(Self::Debian),
            "ubuntu" => Some(Self::Ubuntu),
            "fedora" => Some(Self::Fedora),
            _ => None,
        });
        known.unwrap_or(Self::Other)
    }
}

/// How commands get root's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    Root,
    Sudo,
    None,
}

impl Requirement {
    /// The program or file, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self.proof {
            Proof::Program(name) | Proof::File(name) | Proof::CrossLibrary(name) => name,
        }
    }

    fn package(&self, distribution: Distribution) -> Option<&'static str> {
        match distribution {
            Distribution::Debian => Some(self.debian),
            Distribution::Ubuntu => Some(self.ubuntu),
            Distribution::Fedora => Some(self.fedora),
            Distribution::Other => None,
        }
    }
}

/// `apt-get update`, which brings the lists that installing needs.
pub(crate) fn apt_update(privilege: Privilege) -> Cmd {
    apt_get(privilege).args(["update"])
}

/// Installs the Debian packages of `missing`, and nothing that they merely recommend.
pub(crate) fn apt_install(missing: &[&Requirement], privilege: Privilege) -> Cmd {
    let packages = missing.iter().map(|requirement| requirement.debian);
    apt_get(privilege).args(["install", "--yes", "--no-install-recommends"]).args(packages)
}

/// What a person is to install where set-up does not do it itself; one line, or one for each part where the
/// distribution's names are not known.
pub(crate) fn advice(missing: &[&Requirement], distribution: Distribution) -> String {
    let packages: Option<Vec<_>> =
        missing.iter().map(|requirement| requirement.package(distribution)).collect();
    match (packages, distribution) {
        (Some(packages), Distribution::Fedora) => format!("sudo dnf install {}", packages.join(" ")),
        (Some(packages), _) => format!("sudo apt-get install --no-install-recommends {}", packages.join(" ")),
        (None, _) => {
            let line = |requirement: &&Requirement| {
                let Requirement { debian, ubuntu, fedora, .. } = requirement;
                format!("{}: {debian} on Debian, {ubuntu} on Ubuntu, {fedora} on Fedora", requirement.name())
            };
            missing.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

fn apt_get(privilege: Privilege) -> Cmd {
    // sudo drops the caller's environment, hence env(1). A fresh machine often updates itself in its first
    // minutes and holds dpkg's lock; mirrors drop a connection now and then.
    let sudo = (privilege == Privilege::Sudo).then_some("sudo");
    Cmd::new(sudo.into_iter().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])).args([
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Acquire::Retries=3",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
    const UBUNTU: &str = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n";
    const FEDORA: &str = "NAME=\"Fedora Linux\"\nVERSION_ID=42\nID=fedora\n";

    fn requirements(names: &[&str]) -> Vec<&'static Requirement> {
        REQUIREMENTS.iter().filter(|requirement| names.contains(&requirement.name())).collect()
    }

    #[test]
    fn distributions_are_told_by_os_release() {
        for (text, distribution) in [
            (DEBIAN, Distribution::Debian),
            (UBUNTU, Distribution::Ubuntu),
            (FEDORA, Distribution::Fedora),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distribution::Ubuntu),
            ("ID='rhel'\nID_LIKE='fedora'\n", Distribution::Fedora),
            ("ID=raspbian\nID_LIKE=debian", Distribution::Debian),
            ("ID_LIKE=debian\nID=ubuntu\n", Distribution::Ubuntu),
            // VERSION_ID and VARIANT_ID end in ID too.
            ("VERSION_ID=debian\nVARIANT_ID=fedora\nID=arch\n", Distribution::Other),
            ("", Distribution::Other),
        ] {
            assert_eq!(Distribution::from_os_release(text), distribution, "{text:?}");
        }
    }

    #[test]
    fn apt_is_asked_for_what_is_missing_only() {
        let missing = requirements(&["qemu-system-s390x", "depmod"]);
        let apt =
            "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3";
        let install = "install --yes --no-install-recommends qemu-system-s390x kmod";
        assert_eq!(apt_install(&missing, Privilege::Root).to_string(), format!("{apt} {install}"));
        assert_eq!(apt_install(&missing, Privilege::Sudo).to_string(), format!("sudo {apt} {install}"));
        assert_eq!(apt_install(&missing, Privilege::None).to_string(), format!("{apt} {install}"));
        assert_eq!(apt_update(Privilege::Root).to_string(), format!("{apt} update"));
    }

    #[test]
    fn advice_uses_the_names_of_the_distribution() {
        let missing = requirements(&["libc.a", "/usr/share/keyrings/debian-archive-keyring.gpg"]);
        for (text, expected) in [
            (
                UBUNTU,
                "sudo apt-get install --no-install-recommends libc6-dev-s390x-cross debian-archive-keyring",
            ),
            (FEDORA, "sudo dnf install sysroot-s390x-fc$(rpm -E %fedora)-glibc debian-keyring"),
            (
                "ID=arch",
                "libc.a: libc6-dev-s390x-cross on Debian, libc6-dev-s390x-cross on Ubuntu, \
                 sysroot-s390x-fc$(rpm -E %fedora)-glibc on Fedora\n\
                 /usr/share/keyrings/debian-archive-keyring.gpg: debian-archive-keyring on Debian, \
                 debian-archive-keyring on Ubuntu, debian-keyring on Fedora",
            ),
        ] {
            assert_eq!(advice(&missing, Distribution::from_os_release(text)), expected);
        }
    }
}
