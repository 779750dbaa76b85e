//! A developer's own kernel: a boot image, and what belongs to it.

use camino::{Utf8Path, Utf8PathBuf};
use object::Endianness;
use object::elf::{EM_S390, FileHeader64};
use object::read::elf::FileHeader;

use super::boot::{NotBootable, inspect};
use super::headers::check_tree;
use super::{Kernel, KernelError, Origin, modules, read, sha256_hex};
use crate::plan::KernelKey;

/// What the developer gave.
#[derive(Debug, Clone, Copy)]
pub struct OwnKernel<'a> {
    /// arch/s390/boot/bzImage of a build, or an installed vmlinuz.
    pub boot: &'a Utf8Path,
    /// `lib/modules/RELEASE`, or the INSTALL_MOD_PATH above it.
    pub modules: Option<&'a Utf8Path>,
    /// The vmlinux of the same build, for symbols.
    pub vmlinux: Option<&'a Utf8Path>,
    /// The build tree, for farm's own modules.
    pub headers: Option<&'a Utf8Path>,
}

impl Kernel {
    /// Checks that the files are what they are said to be and belong together. The kernel is named by the
    /// path of its boot image.
    pub fn from_path(own: OwnKernel<'_>) -> Result<Self, KernelError> {
        let boot = absolute(own.boot)?;
        let bytes = read(&boot)?;
        let facts = inspect(&bytes).map_err(|NotBootable { looks_like }| KernelError::NotAKernel {
            path: boot.clone(),
            looks_like,
        })?;
        let modules = own.modules.map(|path| modules::given(&absolute(path)?)).transpose()?;
        let vmlinux = own.vmlinux.map(checked_vmlinux).transpose()?;
        let of_modules = modules.as_ref().and_then(|path| path.file_name()).map(str::to_owned);
        if let (Some(modules), Some(found), Some(expected)) = (&modules, &of_modules, &facts.release)
            && found != expected
        {
            let (modules, found, expected) = (modules.clone(), found.clone(), expected.clone());
            return Err(KernelError::OtherRelease { modules, found, boot, expected });
        }
        let release =
            facts.release.or(of_modules).ok_or_else(|| KernelError::NoRelease { path: boot.clone() })?;
        // A cell is the same wherever its kernel lies; the path stands in the origin.
        let name = boot.file_name().unwrap_or("kernel").to_owned();
        let key = KernelKey { name, release, version: String::new(), sha256: sha256_hex(&bytes) };
        let config = config_beside(&boot);
        let headers = match own.headers {
            Some(path) => {
                let path = absolute(path)?;
                check_tree(&path, &key.release)?;
                Some(path)
            }
            // `make modules_install` leaves this link; elsewhere than on the host of the build it leads nowhere.
            None => modules.as_ref().map(|modules| modules.join("build")).filter(|link| link.is_dir()),
        };
        let origin = Origin::Own { boot: boot.clone() };
        let command_line_bytes = facts.command_line_bytes;
        // As its build installs them they have debug information; without a vmlinux nobody asks for it.
        let debug_modules = modules.clone().filter(|_| vmlinux.is_some());
        Ok(Self { key, boot, modules, vmlinux, debug_modules, config, headers, origin, command_line_bytes })
    }
}

impl Kernel {
    /// The kernel that a bundle brings, under the name that it had where it was found. Of its files only the boot image.
    pub fn brought(boot: &Utf8Path, key: KernelKey) -> Result<Self, KernelError> {
        let facts = inspect(&read(boot)?).map_err(|NotBootable { looks_like }| KernelError::NotAKernel {
            path: boot.to_owned(),
            looks_like,
        })?;
        Ok(Self {
            key,
            boot: boot.to_owned(),
            modules: None,
            vmlinux: None,
            debug_modules: None,
            config: None,
            headers: None,
            origin: Origin::Own { boot: boot.to_owned() },
            command_line_bytes: facts.command_line_bytes,
        })
    }
}

fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, KernelError> {
    path.canonicalize_utf8().map_err(|source| KernelError::Io { path: path.to_owned(), source })
}

fn checked_vmlinux(path: &Utf8Path) -> Result<Utf8PathBuf, KernelError> {
    let path = absolute(path)?;
    let bytes = read(&path)?;
    let header = FileHeader64::<Endianness>::parse(&bytes[..]);
    let is_s390x = header.is_ok_and(|header| {
        header.endian().is_ok_and(|endian| endian == Endianness::Big && header.e_machine(endian) == EM_S390)
    });
    if is_s390x { Ok(path) } else { Err(KernelError::NotVmlinux { path }) }
}

/// The configuration of a build tree's bzImage, or of an installed vmlinuz.
fn config_beside(boot: &Utf8Path) -> Option<Utf8PathBuf> {
    let directory = boot.parent()?;
    let of_tree =
        directory.ends_with("arch/s390/boot").then(|| directory.ancestors().nth(3)?.join(".config").into());
    let installed =
        || boot.file_name()?.strip_prefix("vmlinuz-").map(|r| directory.join(format!("config-{r}")));
    of_tree.flatten().or_else(installed).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn utf8(directory: &tempfile::TempDir) -> &Utf8Path {
        Utf8Path::from_path(directory.path()).unwrap()
    }

    fn own(boot: &Utf8Path) -> OwnKernel<'_> {
        OwnKernel { boot, modules: None, vmlinux: None, headers: None }
    }

    fn boot_image(release: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x12000];
        bytes[0x10008..0x1000e].copy_from_slice(b"S390EP");
        if !release.is_empty() {
            bytes[0x10428..0x10430].copy_from_slice(&0x11800_u64.to_be_bytes());
            bytes[0x11800..0x11800 + release.len()].copy_from_slice(release.as_bytes());
        }
        bytes
    }

    fn put(root: &Utf8Path, path: &str, content: &[u8]) -> Utf8PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.canonicalize_utf8().unwrap()
    }

    #[test]
    fn a_built_tree_gives_release_config_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let boot = put(utf8(&directory), "linux/arch/s390/boot/bzImage", &boot_image("6.18.0-rc1+ "));
        let config = put(utf8(&directory), "linux/.config", b"");
        let kernel = Kernel::from_path(own(&boot)).unwrap();
        assert_eq!(kernel.key.release, "6.18.0-rc1+");
        assert_eq!(Some(kernel.key.name.as_str()), boot.file_name());
        assert_eq!(kernel.key.sha256, sha256_hex(&boot_image("6.18.0-rc1+ ")));
        assert_eq!(kernel.config, Some(config));
        assert_eq!(kernel.origin, Origin::Own { boot });
    }

    #[test]
    fn modules_must_be_of_the_same_release_and_name_it_if_the_image_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = utf8(&directory);
        put(root, "lib/modules/6.9.0/modules.dep", b"");
        let modules = Some(root);
        let same = put(root, "same", &boot_image("6.9.0 "));
        assert!(Kernel::from_path(OwnKernel { modules, ..own(&same) }).unwrap().modules.is_some());
        let silent = put(root, "silent", &boot_image(""));
        let kernel = Kernel::from_path(OwnKernel { modules, ..own(&silent) }).unwrap();
        assert_eq!(kernel.key.release, "6.9.0");
        let error = Kernel::from_path(own(&silent)).unwrap_err();
        assert!(error.to_string().contains("does not say its release"), "{error}");
        let other = put(root, "other", &boot_image("6.9.1 "));
        let error = Kernel::from_path(OwnKernel { modules, ..own(&other) }).unwrap_err();
        assert!(error.to_string().ends_with(&format!("of 6.9.0, but {other} is 6.9.1")), "{error}");
    }

    #[test]
    fn headers_are_those_given_or_where_the_modules_lead() {
        let directory = tempfile::tempdir().unwrap();
        let root = utf8(&directory);
        let boot = put(root, "boot", &boot_image("6.9.0 "));
        put(root, "lib/modules/6.9.0/modules.dep", b"");
        let modules = Some(root);
        let headers = |own| Kernel::from_path(own).unwrap().headers;
        let link = root.canonicalize_utf8().unwrap().join("lib/modules/6.9.0/build");
        std::os::unix::fs::symlink("/nowhere/linux", &link).unwrap();
        assert_eq!(headers(OwnKernel { modules, ..own(&boot) }), None);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(root, &link).unwrap();
        assert_eq!(headers(OwnKernel { modules, ..own(&boot) }), Some(link));
        // What is given by name is looked at right away.
        let error = Kernel::from_path(OwnKernel { headers: Some(root), ..own(&boot) }).unwrap_err();
        assert!(error.to_string().contains("is not a kernel's build tree"), "{error}");
        for (file, content) in [
            ("Makefile", &b""[..]),
            ("scripts/mod/modpost", b""),
            ("include/generated/autoconf.h", b""),
            ("include/generated/utsrelease.h", b"#define UTS_RELEASE \"6.9.0\"\n"),
        ] {
            put(root, file, content);
        }
        let given = headers(OwnKernel { headers: Some(root), ..own(&boot) });
        assert_eq!(given, Some(root.canonicalize_utf8().unwrap()));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = utf8(&directory);
        let absent = root.join("absent");
        let error = Kernel::from_path(own(&absent)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot use {absent}"));
        let text = put(root, "text", b"hello\n");
        let error = Kernel::from_path(own(&text)).unwrap_err();
        assert_eq!(error.to_string(), format!("{text} is not an s390x kernel: it is text"));
        let boot = put(root, "boot", &boot_image("6.9.0 "));
        let vmlinux = Some(Utf8Path::new("/bin/true"));
        let error = Kernel::from_path(OwnKernel { vmlinux, ..own(&boot) }).unwrap_err();
        assert!(error.to_string().ends_with("is not a vmlinux with s390x code"), "{error}");
    }
}
