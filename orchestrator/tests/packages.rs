//! Real packages from Debian's archive, through the host's apt. What these tests fetch stays in
//! `FARM_TEST_CACHE` (default: target/test-cache), so that a second run needs no network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::{Cache, quiet};
use farm::kernel::{
    Catalog, Fetcher, Kernel, MirrorChoice, Mirrors, Origin, OwnKernel, Refresh, find_qemus, inspect,
};

fn cache() -> Cache {
    let default = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-cache");
    let root = std::env::var("FARM_TEST_CACHE").map_or(default, Utf8PathBuf::from);
    Cache::new(&root).unwrap()
}

fn catalog() -> Catalog {
    Catalog::embedded().unwrap()
}

fn fetcher(cache: &Cache) -> Fetcher<'_> {
    Fetcher { cache, refresh: Refresh::No, mirrors: MirrorChoice::OfHost, progress: &quiet }
}

fn is_fetched_once_and_is_what_it_says(name: &str, series: &str) {
    let cache = cache();
    let kernel = fetcher(&cache).kernel(catalog().kernel(name).unwrap()).unwrap();
    assert!(kernel.key.release.starts_with(series), "{:?}", kernel.key);
    assert_eq!(kernel.key.name, name);
    let facts = inspect(&std::fs::read(&kernel.boot).unwrap()).unwrap();
    assert_eq!(facts.release.as_deref(), Some(kernel.key.release.as_str()));
    let config = std::fs::read_to_string(kernel.config.as_ref().unwrap()).unwrap();
    assert!(config.contains("CONFIG_COMMAND_LINE_SIZE=4096\n"));
    assert_eq!((facts.command_line_bytes, kernel.command_line_bytes), (4096, 4096));
    let index = std::fs::read_to_string(kernel.modules.as_ref().unwrap().join("modules.dep")).unwrap();
    assert!(index.contains("/ext4.ko"));
    let Origin::Package { package, version, sha256 } = &kernel.origin else { panic!("{:?}", kernel.origin) };
    assert_eq!(*package, format!("linux-image-{}", kernel.key.release));
    assert_eq!((version, sha256.len()), (&kernel.key.version, 64));

    // The same again, with no mirror to ask.
    let offline = Fetcher { mirrors: MirrorChoice::These(Mirrors::none()), ..fetcher(&cache) };
    assert_eq!(offline.kernel(catalog().kernel(name).unwrap()).unwrap(), kernel);

    // The same files, given as a developer's own.
    let modules = kernel.modules.as_deref();
    let own =
        Kernel::from_path(OwnKernel { boot: &kernel.boot, modules, vmlinux: None, headers: None }).unwrap();
    assert_eq!((own.key.sha256, own.config.is_some()), (kernel.key.sha256, true));
}

#[test]
fn debians_kernels_are_fetched_once_and_are_what_they_say() {
    is_fetched_once_and_is_what_it_says("debian-12", "6.1.");
    is_fetched_once_and_is_what_it_says("debian-13", "6.12.");
}

mod soak {
    /// What Debian 14 is changes from day to day, until it is released.
    #[test]
    fn debian_14_is_fetched_once_and_is_what_it_says() {
        super::is_fetched_once_and_is_what_it_says("debian-14", "7.");
    }
}

#[test]
fn busybox_is_a_static_s390x_program() {
    let cache = cache();
    let busybox = std::fs::read(fetcher(&cache).busybox(&catalog().busybox).unwrap()).unwrap();
    // ELF class 64, big-endian; machine 22 is EM_S390.
    assert_eq!((&busybox[..6], &busybox[18..20]), (&b"\x7fELF\x02\x02"[..], &[0, 22][..]));
}

#[test]
fn a_newer_qemu_stands_beside_the_hosts() {
    let cache = cache();
    let qemu = fetcher(&cache).qemu(&catalog().qemu).unwrap();
    assert!(qemu.data.join("s390-ccw.img").is_file());
    assert_eq!(find_qemus(&cache).unwrap(), [qemu]);
}

#[test]
fn a_suite_that_fails_does_not_keep_the_others_from_use() {
    let cache = cache();
    let mut busybox = catalog().busybox;
    busybox.source.name = "bookworm-and-a-missing-suite".to_owned();
    busybox.source.main = vec!["bookworm".to_owned(), "farm-has-no-such-suite".to_owned()];
    busybox.source.security = Vec::new();
    assert!(fetcher(&cache).busybox(&busybox).unwrap().is_file());
}
