use super::*;
use crate::cache::quiet;
use crate::guest::archive::listing;
use crate::kernel::Origin;
use crate::plan::KernelKey;

struct Place {
    _guard: tempfile::TempDir,
    root: Utf8PathBuf,
}

impl Place {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::try_from(guard.path().to_owned()).unwrap();
        Self { _guard: guard, root }
    }

    fn put(&self, path: &str, content: &[u8]) -> Utf8PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A kernel with ext4 as a compressed module that needs jbd2, virtio_blk as a module, virtio_console
    /// built in.
    fn kernel(&self) -> Kernel {
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&b"ext4 code"[..], 6).read_to_end(&mut xz).unwrap();
        self.put("m/kernel/ext4.ko.xz", &xz);
        self.put("m/kernel/jbd2.ko", b"jbd2 code");
        self.put("m/kernel/virtio_blk.ko", b"blk code");
        let dep = "kernel/ext4.ko.xz: kernel/jbd2.ko\nkernel/jbd2.ko:\nkernel/virtio_blk.ko:\n";
        self.put("m/modules.dep", dep.as_bytes());
        self.put("m/modules.builtin", b"kernel/virtio_console.ko\n");
        Kernel {
            key: KernelKey {
                name: "k".into(),
                release: "6.9.0".into(),
                version: String::new(),
                sha256: String::new(),
            },
            boot: "/k".into(),
            modules: Some(self.root.join("m")),
            vmlinux: None,
            debug_modules: None,
            config: None,
            headers: None,
            origin: Origin::Own { boot: "/k".into() },
            command_line_bytes: 4096,
        }
    }

    fn image(&self, kernel: &Kernel, manifest: &str) -> Result<LiteImage, GuestError> {
        self.image_with(kernel, manifest, &BTreeMap::new())
    }

    fn image_with(
        &self,
        kernel: &Kernel,
        manifest: &str,
        own_modules: &BTreeMap<String, Utf8PathBuf>,
    ) -> Result<LiteImage, GuestError> {
        let programs = Programs {
            init: self.put("init", b"init"),
            workload: self.put("workload", b"workload"),
            stress: vec!["splice".to_owned()],
            interference: vec!["compact".to_owned()],
        };
        let cache = Cache::new(&self.root.join("cache")).unwrap();
        let busybox = self.put("busybox", b"busybox");
        let manifest = Manifest::parse(manifest).unwrap();
        let parts =
            ImageParts { kernel, programs: &programs, busybox: &busybox, manifest: &manifest, own_modules };
        lite_image(&cache, parts, &quiet)
    }
}

const MANIFEST: &str = "boot-modules: [virtio_console, virtio_blk]\nmodules: [ext4, xfs]\n";

#[test]
fn the_image_has_what_the_protocol_says_and_its_modules_unpacked() {
    let place = Place::new();
    let image = place.image(&place.kernel(), MANIFEST).unwrap();
    let bytes = fs::read(&image.path).unwrap();
    assert_eq!(image.sha256, sha256_hex(&bytes));
    assert_eq!(
        listing(&bytes),
        [
            "1 40755 0 0:0 bin",
            "2 100755 7 0:0 bin/busybox",
            "3 40755 0 0:0 dev",
            "4 20600 0 5:1 dev/console",
            "5 40755 0 0:0 farm",
            "6 40755 0 0:0 farm/interference",
            "7 120777 14 0:0 farm/interference/compact",
            "8 40755 0 0:0 farm/modules",
            "9 100644 14 0:0 farm/modules.boot",
            "10 100644 9 0:0 farm/modules/ext4.ko",
            "11 100644 9 0:0 farm/modules/jbd2.ko",
            "12 100644 8 0:0 farm/modules/virtio_blk.ko",
            "13 40755 0 0:0 farm/stress",
            "14 120777 14 0:0 farm/stress/splice",
            "15 100755 8 0:0 farm/workload",
            "16 100755 4 0:0 init",
        ]
    );
    // A link's content is where it leads.
    assert_eq!(bytes.windows(14).filter(|window| window == b"/farm/workload").count(), 2);
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"ext4 code") && has(b"virtio_blk.ko\n"));
    assert_eq!(image.modules["ext4"], ["jbd2.ko", "ext4.ko"]);
    assert!(!image.modules.contains_key("xfs"));
}

#[test]
fn the_same_parts_in_another_place_make_the_same_bytes_and_other_parts_another_image() {
    let (one, two) = (Place::new(), Place::new());
    let first = one.image(&one.kernel(), MANIFEST).unwrap();
    let second = two.image(&two.kernel(), MANIFEST).unwrap();
    assert_ne!(first.path, second.path);
    assert_eq!(first.path.parent().unwrap().file_name(), second.path.parent().unwrap().file_name());
    assert!(fs::read(&first.path).unwrap() == fs::read(&second.path).unwrap());

    assert_eq!(one.image(&one.kernel(), MANIFEST).unwrap(), first);
    let kernel = one.kernel();
    one.put("m/kernel/jbd2.ko", b"jbd2 code, changed in place");
    let changed = one.image(&kernel, MANIFEST).unwrap();
    assert_ne!((changed.path, changed.sha256), (first.path, first.sha256));
}

#[test]
fn a_module_of_farms_own_is_only_in_the_image_that_is_asked_for_it() {
    let place = Place::new();
    // It comes along whether or not the kernel has modules itself.
    for kernel in [place.kernel(), Kernel { modules: None, ..place.kernel() }] {
        let plain = place.image(&kernel, MANIFEST).unwrap();
        let path = place.put("cache/module/tripwire.ko", b"tripwire code");
        let own_modules = BTreeMap::from([("tripwire".to_owned(), path)]);
        let image = place.image_with(&kernel, MANIFEST, &own_modules).unwrap();
        assert_eq!(image.modules_for("tripwire").unwrap(), ["tripwire.ko"]);
        assert_eq!(image.modules_for("ext4").unwrap(), plain.modules_for("ext4").unwrap());
        let bytes = fs::read(&image.path).unwrap();
        let lines = listing(&bytes);
        assert!(
            lines.iter().any(|line| line.ends_with("100644 13 0:0 farm/modules/tripwire.ko")),
            "{lines:?}"
        );

        assert!(plain.modules_for("tripwire").is_err());
        assert!(!listing(&fs::read(&plain.path).unwrap()).iter().any(|line| line.contains("tripwire")));
        place.put("cache/module/tripwire.ko", b"tripwire code, changed");
        assert_ne!(place.image_with(&kernel, MANIFEST, &own_modules).unwrap().sha256, image.sha256);
    }
}

#[test]
fn a_kernel_without_a_directory_of_modules_has_all_built_in() {
    let place = Place::new();
    let kernel = Kernel { modules: None, ..place.kernel() };
    let image = place.image(&kernel, MANIFEST).unwrap();
    assert_eq!(image.modules_for("ext4").unwrap(), Vec::<String>::new());
    assert!(!listing(&fs::read(&image.path).unwrap()).iter().any(|line| line.ends_with(".ko")));
}

#[test]
fn a_boot_module_that_the_kernel_lacks_is_named() {
    let place = Place::new();
    let error = place.image(&place.kernel(), "boot-modules: [virtio_scsi]").unwrap_err();
    assert!(error.to_string().starts_with("the kernel 6.9.0 has no module virtio_scsi"), "{error}");
}

#[test]
fn compression_that_is_not_supported_or_damaged_is_named() {
    let place = Place::new();
    let kernel = place.kernel();
    place.put("m/modules.dep", b"kernel/ext4.ko.zst:\nkernel/virtio_blk.ko:\n");
    place.put("m/kernel/ext4.ko.zst", b"(\xb5/\xfd");
    let error = place.image(&kernel, MANIFEST).unwrap_err();
    assert!(
        matches!(error, GuestError::ModuleCompression { ref path } if path.ends_with("ext4.ko.zst")),
        "{error}"
    );

    let kernel = place.kernel();
    place.put("m/kernel/ext4.ko.xz", b"\xfd7zXZ\0 and then nonsense");
    let error = place.image(&kernel, MANIFEST).unwrap_err();
    assert!(matches!(error, GuestError::Io { ref path, .. } if path.ends_with("ext4.ko.xz")), "{error}");
}
