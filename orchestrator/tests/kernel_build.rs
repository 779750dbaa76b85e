//! How kernels are built: a small tree stands in for the kernel's, whose Makefile takes the same targets and settings.
//! The real one is built by the tests that run guests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::{Cache, Kind, quiet};
use farm::kernel::{
    BuildRequest, ConfigRecipe, Fragment, Kernel, KernelError, Origin, Tree, build, configuration,
};

/// `allnoconfig` drops what the tree does not know, as `conf` does; the boot image is what farm reads of one.
const MAKEFILE: &str = r#"
CFLAGS := -c -g $(KCFLAGS)
.PHONY: allnoconfig bzImage modules modules_install
allnoconfig:
	@grep -v NEVER $(KCONFIG_ALLCONFIG) > $(O)/.config || true
bzImage:
	@echo "  CC      main.o"
	@mkdir -p $(O)/arch/s390/boot $(O)/include/generated $(O)/scripts/mod
	$(CC) $(CFLAGS) -o $(O)/vmlinux $(CURDIR)/main.c
	@{ head -c 65544 /dev/zero; printf S390EP; head -c 4096 /dev/zero; cat $(O)/vmlinux; } > $(O)/arch/s390/boot/bzImage
	@echo '#define UTS_RELEASE "6.1.0-small"' > $(O)/include/generated/utsrelease.h
	@gcc $(HOSTCFLAGS) -c -o $(O)/scripts/mod/of-host $(CURDIR)/main.c
	@mkdir -p $(O)/include/config && echo 6.1.0-small > $(O)/include/config/kernel.release
	@echo built >> $(O)/times
modules:
modules_install:
	@mkdir -p $(INSTALL_MOD_PATH)/lib/modules/6.1.0-small
	@touch $(INSTALL_MOD_PATH)/lib/modules/6.1.0-small/modules.order $(INSTALL_MOD_PATH)/lib/modules/6.1.0-small/modules.builtin
"#;
const MAIN: &str = "/* one */\nint answer = 42;\nconst char *place(void) { return __FILE__; }\n";
const KCONFIG: &str = "config NEVER\n\tbool \"never\"\n\tdepends on MARS\n";

struct Place {
    _guard: tempfile::TempDir,
    root: Utf8PathBuf,
}

impl Place {
    /// A small tree and an empty cache.
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let place = Self { root: Utf8PathBuf::try_from(guard.path().to_owned()).unwrap(), _guard: guard };
        for (path, text) in [
            ("Makefile", MAKEFILE),
            ("Kconfig", KCONFIG),
            ("main.c", MAIN),
            ("arch/s390/Makefile", ""),
            ("arch/s390/include/a.h", ""),
            ("include/b.h", ""),
            ("scripts/kconfig/Makefile", ""),
            (".gitignore", "*.o\n"),
        ] {
            place.put(path, text);
        }
        place
    }

    fn tree(&self) -> Utf8PathBuf {
        self.root.join("linux")
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Lets its files be of an hour ago.
    fn make_older(&self) {
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        for file in walk(&self.tree()) {
            fs::File::options().write(true).open(file).unwrap().set_modified(an_hour_ago).unwrap();
        }
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.root.join("cache")).unwrap()
    }

    fn build(&self) -> Result<Kernel, KernelError> {
        self.build_with("CONFIG_A=y\nCONFIG_MODULES=y\n", &[])
    }

    fn build_with(&self, fragment: &str, patches: &[(&str, &str)]) -> Result<Kernel, KernelError> {
        let cache = self.cache();
        let config = config(fragment);
        let patches: Vec<_> =
            patches.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        let (tree, id) = Tree::of_directory(&cache, &self.tree(), &quiet)?;
        let request = BuildRequest { patches: &patches, ..BuildRequest::new("small", &config) };
        build(&cache, (&tree, &id), &request, &quiet)
    }

    /// How often the tree was built.
    fn times(&self) -> usize {
        let trees = self.cache().entries(Kind::Tree).unwrap();
        let objects = trees[0].read_dir_utf8().unwrap().flatten();
        let mut times = objects.filter_map(|entry| fs::read_to_string(entry.path().join("times")).ok());
        times.next().unwrap_or_default().lines().count()
    }

    fn git(&self, arguments: &[&str]) {
        let git = Command::new("git").arg("-C").arg(self.tree()).args(arguments).output().unwrap();
        assert!(git.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&git.stderr));
    }
}

fn walk(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn config(fragment: &str) -> ConfigRecipe {
    let fragment = Fragment { name: "piece".to_owned(), text: fragment.to_owned() };
    ConfigRecipe::of_file("little", fragment)
}

fn hash(path: &Utf8Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
}

fn vmlinux(kernel: &Kernel) -> String {
    hash(kernel.vmlinux.as_ref().unwrap())
}

fn signature(kernel: &Kernel) -> &str {
    let Origin::Built { signature, .. } = &kernel.origin else { panic!("{:?}", kernel.origin) };
    signature
}

/// Path, time of change and content of all files. git may refresh the time of an object that it finds.
fn contents(directory: &Utf8Path) -> Vec<(Utf8PathBuf, Option<SystemTime>, String)> {
    let mut found = Vec::new();
    for entry in directory.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(contents(entry.path()));
        } else {
            let is_object = entry.path().as_str().contains("/.git/objects/");
            let changed = (!is_object).then(|| entry.metadata().unwrap().modified().unwrap());
            found.push((entry.path().to_owned(), changed, hash(entry.path())));
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_is_built_as_it_is_once_and_nothing_is_written_into_it() {
    let place = Place::new();
    place.git(&["init", "--quiet"]);
    place.put("kept.o", "tracked, although it is ignored");
    place.git(&["add", "--all"]);
    place.git(&["add", "--force", "kept.o"]);
    place.git(&[
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.invalid",
        "commit",
        "--quiet",
        "--message=a",
    ]);
    place.put("left-out.o", "");
    let before = contents(&place.tree());
    let first = place.build().unwrap();
    assert_eq!(contents(&place.tree()), before);
    assert_eq!((first.key.name.as_str(), first.key.release.as_str()), ("small", "6.1.0-small"));
    let cache = place.cache();
    let source = cache.entries(Kind::Tree).unwrap()[0].join("source");
    assert!(source.join("kept.o").is_file() && !source.join("left-out.o").exists());
    assert!(first.headers.as_ref().unwrap().join("include/b.h").is_file());
    assert!(first.headers.as_ref().unwrap().join("include/generated/utsrelease.h").is_file());

    assert_eq!(place.build().unwrap(), first);
    assert_eq!(place.times(), 1);

    // Not committed, and built all the same.
    place.put("main.c", &MAIN.replace("42", "43"));
    let second = place.build().unwrap();
    assert_eq!(place.times(), 2);
    assert_ne!(second.key.version, first.key.version);
    assert_ne!(signature(&second), signature(&first));
    // A comment builds another vmlinux, of which the same is loaded.
    place.put("main.c", &MAIN.replace("one", "another, in\n   two lines"));
    let third = place.build().unwrap();
    assert_ne!(vmlinux(&third), vmlinux(&first));
    assert_eq!(signature(&third), signature(&first));
    // Back again: it is still there.
    place.put("main.c", MAIN);
    assert_eq!(place.build().unwrap(), first);
    assert_eq!(place.times(), 3);
}

#[test]
fn another_folder_makes_the_same_bytes() {
    let [one, other] = [Place::new(), Place::new()].map(|place| (place.build().unwrap(), place));
    let files = |place: &Place| -> Vec<_> {
        let entry = place.cache().entries(Kind::Kernel).unwrap().remove(0);
        let relative = |path: Utf8PathBuf| path.strip_prefix(&entry).unwrap().to_owned();
        contents(&entry).into_iter().map(|(path, _, hash)| (relative(path), hash)).collect()
    };
    assert_ne!(one.0.boot, other.0.boot);
    assert_eq!(files(&one.1), files(&other.1));
    assert_eq!(one.0.key, other.0.key);
}

#[test]
fn an_option_that_does_not_survive_is_told_with_what_it_depends_on() {
    let place = Place::new();
    let error = place.build_with("CONFIG_A=y\nCONFIG_MODULES=y\nCONFIG_NEVER=y\n", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "small does not take what its configuration asks for:\nCONFIG_NEVER=y (piece) became n; Kconfig:1 depends on MARS (MARS=n)"
    );
    let error = place.build_with("CONFIG_A=y\nCONFIG_MODULES=y\nnonsense\n", &[]).unwrap_err();
    assert_eq!(error.to_string(), "piece:3: neither CONFIG_NAME=VALUE nor `# CONFIG_NAME is not set`");
    assert!(place.cache().entries(Kind::Kernel).unwrap().is_empty());

    let cache = place.cache();
    let (tree, id) = Tree::of_directory(&cache, &place.tree(), &quiet).unwrap();
    let config = config("CONFIG_B=m\n");
    let request = BuildRequest::new("small", &config);
    assert_eq!(configuration(&cache, (&tree, &id), &request, &quiet).unwrap(), "CONFIG_B=m\n");
}

#[test]
fn what_does_not_build_leaves_nothing_and_its_first_error_is_told() {
    let place = Place::new();
    place.put("main.c", "int a = nowhere;\n");
    let KernelError::Build { words, log, .. } = place.build().unwrap_err() else { panic!() };
    assert!(words.starts_with("main.c:1:9: error: 'nowhere' undeclared"), "{words}");
    assert!(fs::read_to_string(log).unwrap().contains("nowhere"));
    assert!(place.cache().entries(Kind::Kernel).unwrap().is_empty());
    place.put("main.c", MAIN);
    place.build().unwrap();

    fs::remove_file(place.tree().join("Kconfig")).unwrap();
    let error = place.build().unwrap_err().to_string();
    assert_eq!(error, format!("{} is no kernel tree: there is no Kconfig in it", place.tree()));
}

/// What the compiler says of it must not be lost on the very disk, which has room again when it has given up.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_disk_that_is_full_is_no_fault_of_the_sources() {
    if let Ok(root) = std::env::var("FULL_PLACE") {
        return builds_where_there_is_no_room(Utf8Path::new(&root));
    }
    let place = Place::new();
    let fills = "\tdd if=/dev/zero of=$(O)/large bs=1M count=64 || { rm $(O)/large; exit 1; }\n\t$(CC) ";
    place.put("Makefile", &MAKEFILE.replace("\t$(CC) ", fills));
    let cache = place.root.join("cache");
    fs::create_dir(&cache).unwrap();
    let namespace = ["-Urm", "sh", "-c", "mount -t tmpfs -o size=16m none $0 && exec \"$@\"", cache.as_str()];
    let unshare = |program: &std::ffi::OsStr| {
        let mut command = Command::new("unshare");
        command.args(namespace).arg(program);
        command
    };
    if !unshare("true".as_ref()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no mount namespaces for this user here");
        return;
    }
    let child = unshare(std::env::current_exe().unwrap().as_os_str())
        .args(["--exact", "a_disk_that_is_full_is_no_fault_of_the_sources"])
        .env("FULL_PLACE", &place.root)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

fn builds_where_there_is_no_room(root: &Utf8Path) {
    let cache = Cache::new(&root.join("cache")).unwrap();
    let config = config("CONFIG_A=y\nCONFIG_MODULES=y\n");
    let (tree, id) = Tree::of_directory(&cache, &root.join("linux"), &quiet).unwrap();
    let error = build(&cache, (&tree, &id), &BuildRequest::new("small", &config), &quiet).unwrap_err();
    assert!(farm::error::is_full_disk(&error) && !error.is_of_the_sources(), "{error:?}");
    assert!(cache.entries(Kind::Kernel).unwrap().is_empty());
}

#[test]
fn patches_are_part_of_what_is_built() {
    let place = Place::new();
    let plain = place.build().unwrap();
    let patch = "--- a/main.c\n+++ b/main.c\n@@ -1,3 +1,3 @@\n /* one */\n-int answer = 42;\n+int answer = 44;\n const char *place(void) { return __FILE__; }\n";
    let patched = place.build_with("CONFIG_A=y\nCONFIG_MODULES=y\n", &[("answer.patch", patch)]).unwrap();
    assert_ne!(signature(&patched), signature(&plain));
    assert_eq!(fs::read_to_string(place.tree().join("main.c")).unwrap(), MAIN);
    // The same by hand is the same kernel, by whatever name.
    place.put("main.c", &MAIN.replace("42", "44"));
    assert_eq!(place.build().unwrap(), patched);

    let error = place.build_with("CONFIG_A=y\nCONFIG_MODULES=y\n", &[("answer.patch", patch)]).unwrap_err();
    let KernelError::PatchRefused { name, said } = error else { panic!() };
    assert_eq!(name, "answer.patch");
    assert!(said.contains("main.c"), "{said}");
}

/// What a git that was killed leaves behind is nobody's.
#[test]
fn locks_that_were_left_behind_and_a_checkout_that_was_cut_short_are_mended() {
    let place = Place::new();
    place.make_older();
    let first = place.build().unwrap();
    let tree = place.cache().entries(Kind::Tree).unwrap().remove(0);
    for index in ["index", "index-of-user", "index-of-patches"] {
        fs::write(tree.join(format!("{index}.lock")), "").unwrap();
    }
    // Put there by a checkout that did not end: no index knows of it.
    fs::write(tree.join("source/include/stray.h"), "").unwrap();
    place.put("main.c", &MAIN.replace("42", "45"));
    let second = place.build().unwrap();
    assert_ne!(signature(&second), signature(&first));
    assert_eq!(fs::read_to_string(tree.join("source/main.c")).unwrap(), MAIN.replace("42", "45"));
    assert!(!second.headers.unwrap().join("include/stray.h").exists());
    // A repository that was not wholly made, beside indices that name what was in it: git trusts them where a file is older.
    fs::remove_file(tree.join("git/farm-is-ready")).unwrap();
    fs::write(tree.join("git/config.lock"), "").unwrap();
    fs::write(tree.join("index"), "cut").unwrap();
    place.put("main.c", &MAIN.replace("42", "46"));
    place.build().unwrap();
}

/// make takes what is newer than its sources for made, also where it was killed half-way.
#[test]
fn objects_of_a_build_that_did_not_end_are_not_used_again() {
    let place = Place::new();
    place.build().unwrap();
    let tree = place.cache().entries(Kind::Tree).unwrap().remove(0);
    let objects =
        tree.read_dir_utf8().unwrap().flatten().find(|entry| entry.file_name().starts_with("objects-"));
    let objects = objects.unwrap().into_path();
    assert!(!objects.join("farm-at-work").exists());
    fs::write(objects.join("farm-at-work"), "").unwrap();
    fs::write(objects.join("half-written.o"), "").unwrap();
    place.put("main.c", &MAIN.replace("42", "47"));
    place.build().unwrap();
    assert!(!objects.join("half-written.o").exists());
}

#[test]
fn a_kernel_may_have_no_modules() {
    let place = Place::new();
    place.put("Makefile", &MAKEFILE.replace("modules:\n", "modules:\n\tfalse\n"));
    assert!(place.build().is_err());
    let without = place.build_with("CONFIG_A=y\n", &[]).unwrap();
    assert_eq!((without.key.release.as_str(), without.modules), ("6.1.0-small", None));
}

/// As Debian's sources have it.
#[test]
fn a_gitignore_that_names_everything_hides_nothing() {
    let place = Place::new();
    place.put(".gitignore", "/*\n");
    let first = place.build().unwrap();
    place.put("include/added.h", "");
    let second = place.build().unwrap();
    assert_ne!(first.key.version, second.key.version);
    assert!(second.headers.unwrap().join("include/added.h").is_file());
}

/// Debian's archives have the dates of their files: those of a newer one may be older than the objects of the other.
#[test]
fn another_archive_of_the_same_tree_is_compiled_anew() {
    let place = Place::new();
    let cache = place.cache();
    let config = config("CONFIG_A=y\nCONFIG_MODULES=y\n");
    let build_archive = |key: &str| {
        let archive = place.root.join(format!("{key}.tar.xz"));
        let tar = ["--mtime=2001-01-01", "-cJf", archive.as_str(), "-C", place.root.as_str(), "linux"];
        assert!(Command::new("tar").args(tar).status().unwrap().success());
        let (tree, id) = Tree::of_archive(&cache, "sources", &archive, key, &quiet).unwrap();
        let main = tree.source().join("main.c");
        assert!(fs::metadata(main).unwrap().modified().unwrap().elapsed().unwrap().as_secs() < 3600);
        build(&cache, (&tree, &id), &BuildRequest::new("small", &config), &quiet).unwrap()
    };
    let first = build_archive("one");
    place.put("main.c", &MAIN.replace("42", "48"));
    assert_ne!(signature(&build_archive("two")), signature(&first));
}

#[test]
fn two_farms_that_want_one_kernel_build_it_once() {
    let place = Place::new();
    let waited = Mutex::new(0);
    let kernels: Vec<Kernel> = thread::scope(|scope| {
        let farms: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let cache = place.cache();
                    let tell =
                        |line: &str| *waited.lock().unwrap() += usize::from(line.starts_with("waiting"));
                    let config = config("CONFIG_A=y\nCONFIG_MODULES=y\n");
                    let (tree, id) = Tree::of_directory(&cache, &place.tree(), &tell).unwrap();
                    let request = BuildRequest::new("small", &config);
                    build(&cache, (&tree, &id), &request, &tell).unwrap()
                })
            })
            .collect();
        farms.into_iter().map(|farm| farm.join().unwrap()).collect()
    });
    assert_eq!(kernels[0], kernels[1]);
    assert_eq!(place.times(), 1);
    assert!(waited.into_inner().unwrap() <= 1);
}
