//! The private apt against a small archive on this disk; no network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::{Cache, Kind, Progress, quiet};
use farm::kernel::{
    Fetcher, Kernel, KernelError, KernelPackages, MirrorChoice, Mirrors, Origin, Packages, Pinned, Refresh,
    Source,
};
use farm::plan::KernelKey;

const SUITE: &str = "here";

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

    /// An archive with one suite and one package, busybox-static; its Release file is not signed.
    fn archive(&self) -> String {
        self.put("package/bin/busybox", b"busybox");
        self.archive_of("busybox-static")
    }

    /// The same of another package, version 1.0, of the files that were put into `package/`.
    fn archive_of(&self, package: &str) -> String {
        let control = format!(
            "Package: {package}\nVersion: 1.0\nArchitecture: s390x\nMaintainer: Nobody <nobody@example.invalid>\nDescription: x\n"
        );
        self.put("package/DEBIAN/control", control.as_bytes());
        let deb = self.root.join(format!("archive/{package}_1.0_s390x.deb"));
        fs::create_dir_all(deb.parent().unwrap()).unwrap();
        run("dpkg-deb", &["--root-owner-group", "--build", self.root.join("package").as_str(), deb.as_str()]);
        let size = fs::metadata(&deb).unwrap().len();
        let hash = sha256(&deb);
        let packages = format!("{control}Filename: {package}_1.0_s390x.deb\nSize: {size}\nSHA256: {hash}\n");
        let index =
            self.put(&format!("archive/dists/{SUITE}/main/binary-s390x/Packages"), packages.as_bytes());
        let release = format!(
            "Origin: Debian\nLabel: Debian\nSuite: {SUITE}\nCodename: {SUITE}\nComponents: main\nArchitectures: s390x\n\
             Date: Sun, 22 Nov 2026 12:00:00 UTC\nSHA256:\n {} {} main/binary-s390x/Packages\n",
            sha256(&index),
            packages.len()
        );
        self.put(&format!("archive/dists/{SUITE}/Release"), release.as_bytes());
        format!("file://{}/archive", self.root)
    }

    /// Signs the archive with a key made for this, and gives the key. Nothing if there is no gpg here.
    fn sign(&self) -> Option<Utf8PathBuf> {
        Command::new("gpg").arg("--version").output().ok()?;
        let home = self.root.join("gpg");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let gpg = |arguments: &[&str]| {
            run(
                "gpg",
                &[&["--homedir", home.as_str(), "--batch", "--quiet", "--passphrase", ""], arguments]
                    .concat(),
            );
        };
        gpg(&["--quick-generate-key", "farm test <farm@example.invalid>", "rsa2048", "sign", "never"]);
        let suite = self.root.join("archive/dists").join(SUITE);
        let (release, signed) = (suite.join("Release"), suite.join("InRelease"));
        gpg(&["--clearsign", "--output", signed.as_str(), release.as_str()]);
        let keyring = self.root.join("keyring.gpg");
        gpg(&["--export", "--output", keyring.as_str()]);
        run("gpgconf", &["--homedir", home.as_str(), "--kill", "gpg-agent"]);
        Some(keyring)
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.root.join("cache")).unwrap()
    }

    fn fetch(&self, mirrors: Mirrors, refresh: Refresh) -> Result<Utf8PathBuf, KernelError> {
        self.fetch_and_tell(mirrors, refresh, &quiet)
    }

    fn fetch_and_tell(
        &self,
        mirrors: Mirrors,
        refresh: Refresh,
        progress: Progress<'_>,
    ) -> Result<Utf8PathBuf, KernelError> {
        self.fetch_pinned(mirrors, refresh, progress, Vec::new())
    }

    fn fetch_pinned(
        &self,
        mirrors: Mirrors,
        refresh: Refresh,
        progress: Progress<'_>,
        pinned: Vec<Pinned>,
    ) -> Result<Utf8PathBuf, KernelError> {
        let cache = self.cache();
        let mirrors = MirrorChoice::These(mirrors);
        let name = SUITE.to_owned();
        let source = Source { main: vec![name.clone()], name, security: Vec::new(), pinned };
        let packages = Packages { names: vec!["busybox-static".to_owned()], source };
        Fetcher { cache: &cache, refresh, mirrors, progress }.busybox(&packages)
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn reason(error: &KernelError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

fn sha256(path: &Utf8Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
}

#[test]
fn an_archive_that_is_not_signed_gives_nothing_and_apt_says_why() {
    let place = Place::new();
    let uri = place.archive();
    let error = place.fetch(
        Mirrors::at(&uri, Utf8Path::new("/usr/share/keyrings/debian-archive-keyring.gpg")),
        Refresh::No,
    );
    let Err(KernelError::NoPackage { package, suites, complaints }) = error else { panic!("{error:?}") };
    assert_eq!((package.as_str(), suites.as_str()), ("busybox-static", SUITE));
    assert!(complaints.contains("not signed"), "{complaints}");
    assert!(place.cache().entries(Kind::Package).unwrap().is_empty());
}

#[test]
fn what_no_verified_index_lists_is_the_pinned_version_and_only_that() {
    let place = Place::new();
    let uri = place.archive();
    let keyring = Utf8Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    let file = "busybox-static_1.0_s390x.deb";
    let deb = place.root.join("archive").join(file);
    let pinned = |sha256: String| Pinned {
        package: "busybox-static".to_owned(),
        version: "1.0".to_owned(),
        file: file.to_owned(),
        bytes: fs::metadata(&deb).unwrap().len(),
        sha256,
        depends: Vec::new(),
    };
    let said = Mutex::new(Vec::new());
    let progress = |line: &str| said.lock().unwrap().push(line.to_owned());
    let fetch = |pinned| place.fetch_pinned(Mirrors::at(&uri, keyring), Refresh::No, &progress, vec![pinned]);
    let error = fetch(pinned("00".repeat(32))).unwrap_err();
    assert!(reason(&error).contains("Hash Sum mismatch"), "{error:?}");
    assert!(place.cache().entries(Kind::Package).unwrap().is_empty());

    let busybox = fetch(pinned(sha256(&deb))).unwrap();
    assert_eq!(fs::read(&busybox).unwrap(), b"busybox");
    let said = said.into_inner().unwrap();
    let expected = "no verified index lists busybox-static; taking the pinned 1.0, by its SHA-256";
    assert!(said.iter().any(|line| line == expected), "{said:?}");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn what_an_index_lists_and_the_mirror_lacks_is_the_pinned_version() {
    let place = Place::new();
    let uri = place.archive();
    let Some(keyring) = place.sign() else {
        eprintln!("skipped: no gpg here to sign an archive with");
        return;
    };
    let listed = place.root.join("archive/busybox-static_1.0_s390x.deb");
    let older = "busybox-static_0.9_s390x.deb";
    fs::rename(&listed, place.root.join("archive").join(older)).unwrap();
    let pinned = Pinned {
        package: "busybox-static".to_owned(),
        version: "0.9".to_owned(),
        file: older.to_owned(),
        bytes: 1,
        sha256: sha256(&place.root.join("archive").join(older)),
        depends: Vec::new(),
    };
    let said = Mutex::new(Vec::new());
    let progress = |line: &str| said.lock().unwrap().push(line.to_owned());
    let fetch = |pins| place.fetch_pinned(Mirrors::at(&uri, &keyring), Refresh::No, &progress, pins);
    let error = fetch(Vec::new()).unwrap_err();
    let KernelError::Download { package, version, .. } = &error else { panic!("{error:?}") };
    assert_eq!((package.as_str(), version.as_str()), ("busybox-static", "1.0"));

    let other_package = Pinned { package: "busybox".to_owned(), ..pinned.clone() };
    fetch(vec![other_package]).unwrap_err();
    assert!(place.cache().entries(Kind::Package).unwrap().is_empty());

    let busybox = fetch(vec![pinned]).unwrap();
    assert_eq!(fs::read(&busybox).unwrap(), b"busybox");
    let said = said.into_inner().unwrap();
    let expected = "the archive lists busybox-static 1.0, but does not give it; taking the pinned busybox-static 0.9, by its SHA-256";
    assert!(said.iter().any(|line| line == expected), "{said:?}");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_signed_package_is_fetched_once_and_a_damaged_one_is_refused() {
    let place = Place::new();
    let uri = place.archive();
    let Some(keyring) = place.sign() else {
        eprintln!("skipped: no gpg here to sign an archive with");
        return;
    };
    let mirrors = Mirrors::at(&uri, &keyring);
    let deb = place.root.join("archive/busybox-static_1.0_s390x.deb");
    let whole = fs::read(&deb).unwrap();

    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&deb, damaged).unwrap();
    let error = place.fetch(mirrors.clone(), Refresh::No).unwrap_err();
    assert!(reason(&error).contains("Hash Sum mismatch"), "{error:?}");
    assert!(place.cache().entries(Kind::Package).unwrap().is_empty());

    fs::write(&deb, whole).unwrap();
    let busybox = place.fetch(mirrors.clone(), Refresh::No).unwrap();
    assert_eq!(fs::read(&busybox).unwrap(), b"busybox");

    // The archive is gone: what was fetched still serves, and only a refresh asks again and says so.
    fs::remove_dir_all(place.root.join("archive")).unwrap();
    let said = Mutex::new(Vec::new());
    let progress = |line: &str| said.lock().unwrap().push(line.to_owned());
    assert_eq!(place.fetch_and_tell(mirrors.clone(), Refresh::No, &progress).unwrap(), busybox);
    assert_eq!(said.lock().unwrap().len(), 0);
    assert_eq!(place.fetch_and_tell(mirrors, Refresh::Yes, &progress).unwrap(), busybox);
    let said = said.into_inner().unwrap();
    assert!(said.iter().any(|line| line.starts_with("not all of here could be asked")), "{said:?}");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_debug_package_of_a_kernel_is_fetched_on_request_and_fits_or_is_refused() {
    let place = Place::new();
    for file in ["boot/vmlinux-6.9.0", "lib/modules/6.9.0/kernel/fs/ext4/ext4.ko"] {
        place.put(&format!("package/usr/lib/debug/{file}"), file.as_bytes());
    }
    std::os::unix::fs::symlink(
        "../../../boot/vmlinux-6.9.0",
        place.root.join("package/usr/lib/debug/lib/modules/6.9.0/vmlinux"),
    )
    .unwrap();
    let uri = place.archive_of("linux-image-6.9.0-dbg");
    let Some(keyring) = place.sign() else {
        eprintln!("skipped: no gpg here to sign an archive with");
        return;
    };
    let name = SUITE.to_owned();
    let source = Source { main: vec![name.clone()], name, security: Vec::new(), pinned: Vec::new() };
    let image = Packages { names: vec!["linux-image-s390x".to_owned()], source: source.clone() };
    let packages = KernelPackages { image, kbuild: source, libc: None };
    let kernel = |release: &str, version: &str| Kernel {
        key: KernelKey {
            name: "named".to_owned(),
            release: release.to_owned(),
            version: version.to_owned(),
            sha256: String::new(),
        },
        boot: "/boot".into(),
        modules: None,
        vmlinux: None,
        debug_modules: None,
        config: None,
        headers: None,
        origin: Origin::Package {
            package: format!("linux-image-{release}"),
            version: version.to_owned(),
            sha256: String::new(),
        },
        command_line_bytes: 896,
    };
    let cache = place.cache();
    let fetch = |kernel, mirrors| {
        let mirrors = MirrorChoice::These(mirrors);
        let fetcher = Fetcher { cache: &cache, refresh: Refresh::No, mirrors, progress: &quiet };
        fetcher.debug_package(&packages, kernel)
    };
    let here = || Mirrors::at(&uri, &keyring);
    let found = fetch(kernel("6.9.0", "1.0"), here()).unwrap();
    assert_eq!(fs::read(found.vmlinux.as_ref().unwrap()).unwrap(), b"boot/vmlinux-6.9.0");
    assert!(found.debug_modules.as_ref().unwrap().join("kernel/fs/ext4/ext4.ko").is_file());
    // Nobody is asked for what is there.
    assert_eq!(fetch(kernel("6.9.0", "1.0"), Mirrors::none()).unwrap(), found);

    let error = fetch(kernel("6.9.0", "1.1"), here()).unwrap_err().to_string();
    assert_eq!(error, "Debian's archive has linux-image-6.9.0-dbg 1.0, but named in the cache is 1.1");
    let error = fetch(kernel("6.8.0", "1.0"), here()).unwrap_err().to_string();
    assert!(error.starts_with("linux-image-6.8.0-dbg is not among the packages of here; "), "{error}");
}

#[test]
fn a_missing_keyring_names_its_package() {
    let place = Place::new();
    let error = place
        .fetch(Mirrors::at("file:///nowhere", Utf8Path::new("/no/keyring.gpg")), Refresh::No)
        .unwrap_err();
    let expected = "/no/keyring.gpg is missing; Debian's package debian-archive-keyring has it and `cargo xtask setup` installs it";
    assert_eq!(error.to_string(), expected);
}
