//! Kernels that are none, and kernels that do not come up.

use std::fs;

use super::harness::{Farm, debian_12, hits, verdict};

#[test]
fn a_file_that_is_no_kernel_is_refused_with_what_it_is() {
    let farm = Farm::new();
    let scenario = farm.short();
    let mut x86 = vec![0; 0x400];
    x86[0x202..0x206].copy_from_slice(b"HdrS");
    let directory = farm.path("directory");
    fs::create_dir(&directory).unwrap();
    for (path, why) in [
        (farm.file("text", "hello\n"), "is not an s390x kernel: it is text"),
        (farm.file("x86", x86), "is not an s390x kernel: it is an x86 bzImage"),
        (farm.file("empty", ""), "is not an s390x kernel: it is empty"),
        (directory, "Is a directory"),
        (farm.path("absent"), "No such file or directory"),
    ] {
        let refused = farm.run(&["run", &scenario, "--kernel", path.as_str()]).with_code(2);
        assert!(refused.stderr.contains(path.as_str()) && refused.stderr.contains(why), "{}", refused.stderr);
        assert_eq!(refused.stdout, "");
    }
    assert!(!farm.state().exists(), "no run was begun");
}

#[test]
fn a_damaged_kernel_is_a_boot_failure() {
    let farm = Farm::new();
    let scenario = farm.short();
    let kernel = debian_12();
    let (mut image, modules) = (fs::read(kernel.boot).unwrap(), kernel.modules.unwrap());
    // In the midst of the compressed kernel: its loader finds that out, and stops.
    let middle = image.len() / 2;
    image[middle..middle + 4096].fill(0xa5);
    let damaged = farm.file("damaged", image);
    let run = ["run", &scenario, "--kernel", damaged.as_str(), "--modules", modules.as_str(), "--json"];
    let life = farm.run(&run).with_code(102).life("short");
    assert_eq!(verdict(&life).0, "boot-failed", "{life}");
    assert!(verdict(&life).1.contains("before init was ready"), "{life}");
    assert_eq!(life["ready"], serde_json::Value::Null);
    assert!(hits(&life).len() <= 1, "{life}");
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("1 boot-failed"), "{shown}");
}
