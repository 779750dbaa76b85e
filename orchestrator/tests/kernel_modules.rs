//! Kernel modules, built against the real headers of Debian's kernels. What is fetched stays in `FARM_TEST_CACHE`
//! (default: target/test-cache).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::{Cache, Kind, quiet};
use farm::guest::{GuestError, ModuleRequest, build_module, module_names};
use farm::kernel::{
    BuildTree, Catalog, Fetcher, Kernel, MirrorChoice, Mirrors, Pointer, Refresh, Sources, Spot,
};
use include_dir::{Dir, DirEntry, File};
use object::{Object, ObjectSection, ObjectSymbol};

/// WARN_ON puts the name of its file into the module.
const GOOD: &str = r#"
#include <linux/bug.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include "good.h"

static int __init good_init(void)
{
	WARN_ON(jiffies == NOTHING);
	return 0;
}

module_init(good_init);
MODULE_DESCRIPTION("nothing");
MODULE_LICENSE("GPL");
"#;

static ENTRIES: &[DirEntry<'_>] = &[DirEntry::Dir(Dir::new(
    "modules",
    &[
        DirEntry::Dir(Dir::new(
            "modules/good",
            &[
                DirEntry::File(File::new("modules/good/Kbuild", b"obj-m := good.o\n")),
                DirEntry::File(File::new("modules/good/good.c", GOOD.as_bytes())),
                DirEntry::File(File::new("modules/good/good.h", b"#define NOTHING 0\n")),
            ],
        )),
        DirEntry::Dir(Dir::new(
            "modules/bad",
            &[
                DirEntry::File(File::new("modules/bad/Kbuild", b"obj-m := bad.o\n")),
                DirEntry::File(File::new(
                    "modules/bad/bad.c",
                    b"#include <linux/module.h>\nint bad = nowhere;\n",
                )),
            ],
        )),
        DirEntry::Dir(Dir::new(
            "modules/unresolved",
            &[
                DirEntry::File(File::new("modules/unresolved/Kbuild", b"obj-m := unresolved.o\n")),
                DirEntry::File(File::new(
                    "modules/unresolved/unresolved.c",
                    b"#include <linux/module.h>\nvoid nowhere(void);\nvoid call(void);\nvoid call(void) { nowhere(); }\n\
                      MODULE_DESCRIPTION(\"\");\nMODULE_LICENSE(\"GPL\");\n",
                )),
            ],
        )),
        DirEntry::Dir(Dir::new(
            "modules/other",
            &[
                DirEntry::File(File::new("modules/other/Kbuild", b"obj-m := another.o\n")),
                DirEntry::File(File::new("modules/other/another.c", GOOD.as_bytes())),
                DirEntry::File(File::new("modules/other/good.h", b"#define NOTHING 0\n")),
            ],
        )),
    ],
))];
static GUESTS: Dir<'_> = Dir::new("", ENTRIES);

fn shared_cache() -> Cache {
    let default = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-cache");
    Cache::new(&std::env::var("FARM_TEST_CACHE").map_or(default, Utf8PathBuf::from)).unwrap()
}

/// A cache of its own for what is built.
fn own_cache() -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
    (directory, cache)
}

fn kernel_and_tree(name: &str) -> (Kernel, BuildTree) {
    let (cache, catalog) = (shared_cache(), Catalog::embedded().unwrap());
    let named = catalog.kernel(name).unwrap();
    let fetcher =
        Fetcher { cache: &cache, refresh: Refresh::No, mirrors: MirrorChoice::OfHost, progress: &quiet };
    let kernel = fetcher.kernel(named).unwrap();
    let tree = fetcher.headers(named, &kernel).unwrap();
    // The same again, with no mirror to ask.
    let offline = Fetcher { mirrors: MirrorChoice::These(Mirrors::none()), ..fetcher };
    assert_eq!(offline.headers(named, &kernel).unwrap(), tree);
    (kernel, tree)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn is_the_same_to_the_byte_and_fits(name: &str) {
    let (kernel, tree) = kernel_and_tree(name);
    let release = kernel.key.release.as_str();
    let request = ModuleRequest { name: "good", release, tree: &tree };
    let [(one, first), (_two, second)] = [own_cache(), own_cache()];
    let [built, other] =
        [&first, &second].map(|cache| build_module(cache, &GUESTS, request, &quiet).unwrap());
    assert_ne!(built, other);
    let [module, debug] = [&built.stripped, &built.debug].map(|path| fs::read(path).unwrap());
    assert_eq!(
        [&module, &debug],
        [&other.stripped, &other.debug].map(|path| fs::read(path).unwrap()).each_ref()
    );
    // Big-endian ELF of type ET_REL for machine 22, EM_S390.
    assert_eq!((&module[..6], &module[16..20]), (&b"\x7fELF\x02\x02"[..], &[0, 1, 0, 22][..]));
    assert!(contains(&module, &format!("vermagic={release} SMP ")), "{name}");
    // Since 6.13 the kernel compiles a module in the module's directory, and says no more of it.
    let source = if name == "debian-14" { "good.c\0" } else { "guests/modules/good/good.c\0" };
    assert!(contains(&module, source), "{name}");
    for place in [one.path().to_str().unwrap(), shared_cache().root().as_str(), "/home", "/root"] {
        assert!(!contains(&module, place), "{place} is in the module for {name}");
        assert!(!contains(&debug, place), "{place} is in the debug information for {name}");
    }
    let sections = |bytes: &[u8]| {
        let file = object::File::parse(bytes).unwrap();
        let names: Vec<String> = file.sections().map(|section| section.name().unwrap().to_owned()).collect();
        names
    };
    let with_lines = |bytes: &[u8]| sections(bytes).iter().any(|name| name == ".debug_line");
    assert_eq!([with_lines(&module), with_lines(&debug)], [false, true], "{name}");
    // Nothing on the way to them is kept, and nothing is built twice.
    let files: Vec<_> = built.stripped.parent().unwrap().read_dir_utf8().unwrap().collect();
    assert_eq!(files.len(), 2, "{files:?}");
    let modified = || fs::metadata(&built.stripped).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(build_module(&first, &GUESTS, request, &quiet).unwrap(), built);
    assert_eq!(modified(), before);
    warning_is_found_in_the_source(&built.debug);
}

/// As from the trace of a guest that has loaded it.
fn warning_is_found_in_the_source(debug: &Utf8Path) {
    let bytes = fs::read(debug).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let init = file.symbols().find(|symbol| symbol.name() == Ok("good_init")).unwrap();
    let line = 1 + GOOD.lines().position(|line| line.contains("WARN_ON")).unwrap();
    let mut sources = Sources::default();
    sources.add_module("good", debug);
    let spot = |offset, pointer| Spot {
        function: "good_init".to_owned(),
        offset,
        size: init.size(),
        module: Some("good".to_owned()),
        pointer,
    };
    let offsets = 2..init.size();
    let places: Vec<_> = offsets.flat_map(|offset| sources.places(&spot(offset, Pointer::At))).collect();
    assert_eq!(sources.take_troubles(), <[&str; 0]>::default());
    let file = Some("guests/modules/good/good.c");
    assert!(
        places.iter().any(|place| (place.file.as_deref(), place.line) == (file, u32::try_from(line).ok())),
        "{places:?}"
    );
    assert!(
        places.iter().all(|place| place.file.as_deref().is_some_and(|file| !file.starts_with(['/', '.']))),
        "{places:?}"
    );
}

#[test]
fn a_module_is_the_same_to_the_byte_wherever_it_is_built_and_fits_its_kernel() {
    for name in ["debian-12", "debian-13"] {
        is_the_same_to_the_byte_and_fits(name);
    }
}

mod soak {
    /// What Debian 14 is changes from day to day, until it is released.
    #[test]
    fn a_module_for_debian_14_is_the_same_to_the_byte_and_fits() {
        super::is_the_same_to_the_byte_and_fits("debian-14");
    }
}

#[test]
fn what_does_not_build_is_told_with_the_first_errors_and_places_in_the_repository() {
    let (kernel, tree) = kernel_and_tree("debian-12");
    let (_guard, cache) = own_cache();
    for (name, expected) in [
        ("bad", "guests/modules/bad/bad.c:2:11: error: 'nowhere' undeclared here (not in a function)"),
        ("unresolved", r#"ERROR: modpost: "nowhere" [guests/modules/unresolved/unresolved.ko] undefined!"#),
        ("other", "make made no other.ko (exit status: 0)"),
    ] {
        let request = ModuleRequest { name, release: &kernel.key.release, tree: &tree };
        let error = build_module(&cache, &GUESTS, request, &quiet).unwrap_err();
        let GuestError::ModuleBuild { words, .. } = &error else { panic!("{error:?}") };
        assert_eq!(words, expected);
        assert_eq!(
            error.to_string(),
            format!("the module {name} cannot be built for the kernel {}: {expected}", kernel.key.release)
        );
    }
    assert!(cache.entries(Kind::Module).unwrap().is_empty());
    let request = ModuleRequest { name: "absent", release: &kernel.key.release, tree: &tree };
    let error = build_module(&cache, &GUESTS, request, &quiet).unwrap_err();
    assert_eq!(error.to_string(), "the source guests/modules/absent is missing from farm's own data");
}

#[test]
fn a_folder_is_a_module() {
    assert_eq!(module_names(&GUESTS), ["good", "bad", "unresolved", "other"]);
}
