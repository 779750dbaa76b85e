//! The share: what a guest finds there, that it can do nothing to it, and that nothing is left of it.

use camino::Utf8PathBuf;
use serde_json::Value;

use super::harness::{Farm, Finished, hits, newer_qemu, verdict};

const BOTH: [&str; 4] = ["--kernel", "debian-12", "--kernel", "debian-13"];

/// Tries all that would change a directory or its file, and says what each came to.
const VANDAL: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE "/mnt/share/lines"

static void tell(const char *what, int failed)
{
	printf("%s: %s\n", what, failed ? strerror(errno) : "done");
}

int main(void)
{
	tell("write", open(FILE, O_WRONLY) < 0);
	tell("truncate", truncate(FILE, 0) < 0);
	tell("make", open("/mnt/share/new", O_WRONLY | O_CREAT, 0600) < 0);
	tell("mkdir", mkdir("/mnt/share/directory", 0700) < 0);
	tell("symlink", symlink("/etc/passwd", "/mnt/share/link") < 0);
	tell("rename", rename(FILE, "/mnt/share/other") < 0);
	tell("chmod", chmod(FILE, 0777) < 0);
	tell("unlink", unlink(FILE) < 0);
	return 0;
}
"#;

/// Neither file nor directory of a share outlives the guest.
fn nothing_is_left(farm: &Farm) {
    for life in farm.lives() {
        let left: Vec<Utf8PathBuf> =
            life.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
        assert!(left.iter().all(|path| path.is_file() && path.file_name() != Some("lines")), "{left:?}");
    }
}

fn lives(run: Finished, count: usize) -> Vec<Value> {
    let run = run.with_code(0).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), count);
    lives.clone()
}

#[test]
fn a_guest_can_do_nothing_to_its_share() {
    let farm = Farm::new();
    farm.program("vandal", VANDAL);
    let scenario = farm.file(
        "vandal.yaml",
        "name: vandal\npurpose: a test\nmachine: {cpus: 1, memory: 256M, share: true}\n\
         steps:\n  - {exec: vandal}\n  - {stress: share, ops: 5}\n",
    );
    for life in lives(farm.run(&[&["run", scenario.as_str(), "--json"], &BOTH[..]].concat()), 2) {
        assert_eq!(verdict(&life), ("passed", ""));
    }
    for directory in farm.lives() {
        let results = std::fs::read_to_string(directory.join("results.log")).unwrap();
        for act in ["write", "truncate", "make", "mkdir", "symlink", "rename", "chmod", "unlink"] {
            assert!(results.contains(&format!("    {act}: Read-only file system\n")), "{act}: {results}");
        }
    }
    nothing_is_left(&farm);
}

/// A guest that was saved has not mounted its share yet, so that QEMU can save it, and each copy has its own.
#[test]
fn secure_pages_reach_9p_where_nobody_has_pinned_them_before() {
    newer_qemu();
    let farm = Farm::new();
    let command = farm.warm_command(&[&["run", "secure-9p", "--json"], &BOTH[..]].concat());
    let hit = "uvsim: inaccessible page reached virtqueue(requests) in p9_virtio_zc_request";
    for life in lives(farm.finish(command), 2) {
        assert_eq!(verdict(&life).0, "passed", "{life}");
        assert_eq!(life["timings"]["start"]["type"], "resumed", "{life}");
        let old = life["kernel"]["release"].as_str().unwrap().starts_with("6.1.");
        let titles: Vec<_> = hits(&life).into_iter().map(|(title, _)| title).collect();
        assert!(titles.iter().all(|title| *title == hit) && titles.is_empty() != old, "{titles:?}");
    }
    nothing_is_left(&farm);
}
