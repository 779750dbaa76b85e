use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use super::*;

fn cache() -> (TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
    (directory, cache)
}

fn fill(directory: &Utf8Path) -> Result<(), CacheError> {
    fs::write(directory.join("part"), "whole").map_err(|error| write_error(directory, error))
}

fn names(directory: &Utf8Path) -> Vec<String> {
    let mut names: Vec<_> =
        directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_entry_is_filled_once_and_leaves_only_its_lock() {
    let (_guard, cache) = cache();
    let path = cache.entry(Kind::Kernel, "a_1.0", &quiet, fill).unwrap();
    assert_eq!(fs::read_to_string(path.join("part")).unwrap(), "whole");
    let again =
        cache.entry(Kind::Kernel, "a_1.0", &quiet, |_| -> Result<(), CacheError> { panic!("filled twice") });
    assert_eq!(again.unwrap(), path);
    assert_eq!(names(&cache.root().join("kernel")), [".a_1.0.lock", "a_1.0"]);
    assert_eq!(cache.entries(Kind::Kernel).unwrap(), [path]);
}

#[test]
fn a_failed_fill_leaves_nothing_and_can_be_tried_again() {
    let (_guard, cache) = cache();
    let error = cache.entry(Kind::Disk, "d", &quiet, |directory| {
        fill(directory)?;
        Err(CacheError::NoPlace)
    });
    assert!(matches!(error, Err(CacheError::NoPlace)));
    assert_eq!(names(&cache.root().join("disk")), [".d.lock"]);
    cache.entry(Kind::Disk, "d", &quiet, fill).unwrap();
}

#[test]
fn leftovers_of_a_killed_run_are_removed_and_those_of_others_stay() {
    let (_guard, cache) = cache();
    let directory = cache.root().join("image");
    for name in [".a.filling.xyz", ".ab.filling.xyz"] {
        fs::create_dir_all(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("half"), "").unwrap();
    }
    cache.entry(Kind::Image, "a", &quiet, fill).unwrap();
    assert_eq!(names(&directory), [".a.lock", ".ab.filling.xyz", "a"]);
}

#[test]
fn two_farms_at_once_fill_one_entry_once_and_the_second_says_that_it_waits() {
    let (_guard, cache) = cache();
    let fills = AtomicUsize::new(0);
    let said = Mutex::new(Vec::new());
    let waiting = Barrier::new(2);
    // The first farm ends its fill only when the second has said that it waits, so both are surely at it.
    let progress = |line: &str| {
        said.lock().unwrap().push(line.to_owned());
        waiting.wait();
    };
    let filling = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            cache.entry(Kind::Kernel, "k", &quiet, |directory| {
                filling.wait();
                waiting.wait();
                fills.fetch_add(1, Ordering::Relaxed);
                fill(directory)
            })
        });
        filling.wait();
        let path = cache.entry(Kind::Kernel, "k", &progress, |directory| {
            fills.fetch_add(1, Ordering::Relaxed);
            fill(directory)
        });
        assert!(path.unwrap().join("part").is_file());
    });
    assert_eq!(fills.into_inner(), 1);
    let said = said.into_inner().unwrap();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("waiting for another farm"), "{said:?}");
}

#[test]
fn keys_that_are_no_file_names_are_refused() {
    let (_guard, cache) = cache();
    for key in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(201)] {
        let outcome = cache.entry(Kind::Image, key, &quiet, fill);
        assert!(matches!(outcome, Err(CacheError::BadKey { .. })), "{key:?}");
    }
    cache.entry(Kind::Image, "linux-image_1:6.1~bpo+1_0f", &quiet, fill).unwrap();
}

#[test]
fn a_note_is_replaced_and_a_damaged_one_is_named() {
    let (_guard, cache) = cache();
    assert_eq!(cache.recall::<String>("kernel.x").unwrap(), None);
    cache.remember("kernel.x", &"one").unwrap();
    cache.remember("kernel.x", &"two").unwrap();
    assert_eq!(cache.recall::<String>("kernel.x").unwrap().as_deref(), Some("two"));
    fs::write(cache.root().join("notes/kernel.x.json"), "{").unwrap();
    let error = cache.recall::<String>("kernel.x").unwrap_err();
    assert!(error.to_string().contains("notes/kernel.x.json is damaged"), "{error}");
}

#[test]
fn the_place_is_what_was_asked_for_then_xdg_then_home() {
    let table = [
        (Some("/asked"), Some("/xdg"), Some("/home/u"), Ok("/asked")),
        (None, Some("/xdg"), Some("/home/u"), Ok("/xdg/farm")),
        (None, Some("relative"), Some("/home/u"), Ok("/home/u/.cache/farm")),
        (None, Some(""), Some("/home/u"), Ok("/home/u/.cache/farm")),
        (None, None, None, Err(())),
    ];
    for (asked, xdg, home, expected) in table {
        let variable = |name: &str| match name {
            "XDG_CACHE_HOME" => xdg.map(str::to_owned),
            "HOME" => home.map(str::to_owned),
            other => panic!("unexpected variable {other}"),
        };
        let cache = Cache::locate(asked.map(Utf8Path::new), variable);
        assert_eq!(cache.as_ref().map(|cache| cache.root().as_str()).map_err(|_| ()), expected);
    }
}

#[test]
fn a_full_disk_is_blamed_wherever_it_was_met() {
    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("unpacking failed")]
        Unpack(#[source] io::Error),
        #[error(transparent)]
        Cache(#[from] CacheError),
    }
    let (_guard, cache) = cache();
    let outcome = cache
        .entry(Kind::Kernel, "k", &quiet, |_| Err(Outer::Unpack(io::Error::from(ErrorKind::StorageFull))));
    assert!(matches!(outcome, Err(Outer::Cache(CacheError::Full { .. }))), "{outcome:?}");
    let outcome =
        cache.entry(Kind::Kernel, "k", &quiet, |_| Err(Outer::Unpack(io::Error::from(ErrorKind::NotFound))));
    assert!(matches!(outcome, Err(Outer::Unpack(_))), "{outcome:?}");
}

#[test]
fn what_was_not_used_for_longest_goes_first_and_what_is_wanted_stays() {
    let (_guard, cache) = cache();
    let fill = |directory: &Utf8Path| {
        fs::write(directory.join("part"), vec![1; 1 << 20]).map_err(|error| write_error(directory, error))
    };
    let entries = ["a", "b", "c", "d"].map(|key| cache.entry(Kind::Saved, key, &quiet, fill).unwrap());
    let keys = || {
        cache
            .entries(Kind::Saved)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // From the oldest: a, b, c, d; then b is used.
    for (age, entry) in entries.iter().rev().enumerate() {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60 * (age as u64 + 1));
        File::open(entry).unwrap().set_times(fs::FileTimes::new().set_modified(then)).unwrap();
    }
    cache.mark_used(&entries[1]);
    cache.prune(Kind::Saved, "", 5 << 20, &entries[3]).unwrap();
    assert_eq!(keys(), ["a", "b", "c", "d"], "there is room");
    cache.prune(Kind::Saved, "", 2 << 20, &entries[0]).unwrap();
    assert_eq!(keys(), ["a", "b"], "a is wanted, c and d were not used");
    cache.remove(Kind::Saved, "b").unwrap();
    cache.remove(Kind::Saved, "b").unwrap();
    assert_eq!(keys(), ["a"]);
    assert_eq!(names(&cache.root().join("saved")).iter().filter(|name| name.contains("filling")).count(), 0);
}

#[test]
fn only_entries_of_one_prefix_are_pruned_and_all_that_is_in_them_counts() {
    let (_guard, cache) = cache();
    let make = |key: &str| {
        let fill = |work: &Utf8Path| -> Result<(), CacheError> {
            fs::create_dir_all(work.join("build/include")).unwrap();
            fs::write(work.join("build/include/large"), vec![1; 1 << 20]).unwrap();
            Ok(())
        };
        cache.entry(Kind::Kernel, key, &quiet, fill).unwrap()
    };
    let [debian, old, new] = ["debian-12", "built-old", "built-new"].map(make);
    for entry in [&debian, &old] {
        let then = std::time::SystemTime::UNIX_EPOCH;
        File::open(entry).unwrap().set_times(fs::FileTimes::new().set_modified(then)).unwrap();
    }
    cache.prune(Kind::Kernel, "built-", 3 << 19, &new).unwrap();
    assert!(debian.exists() && new.exists() && !old.exists());
}
