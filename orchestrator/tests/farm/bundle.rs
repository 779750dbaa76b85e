//! A hit that travels: made into a bundle, had again without farm and with it; and bundles that nobody should trust.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use farm::scenario::Catalog;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::data::{Planter, arguments};
use super::harness::{Farm, Finished, newer_qemu};

const CRASH: &str = "steps: [{write: /proc/sysrq-trigger, text: c}]\n";
/// What a colleague's script may use: no grep, sed, awk, tar, perl, python.
const COREUTILS: [&str; 14] = [
    "cat",
    "cut",
    "date",
    "dd",
    "dirname",
    "head",
    "mkdir",
    "rm",
    "seq",
    "sha256sum",
    "sleep",
    "tail",
    "tr",
    "truncate",
];

fn on_path(program: &str) -> Utf8PathBuf {
    let path = std::env::var("PATH").unwrap();
    path.split(':')
        .map(|directory| Utf8Path::new(directory).join(program))
        .find(|path| path.exists())
        .unwrap()
}

/// The QEMU of the host itself, which needs nothing of farm's cache.
pub(crate) fn qemu() -> Utf8PathBuf {
    on_path("qemu-system-s390x")
}

/// A directory with the programs that `run.sh` may use, and QEMU or what stands for it.
pub(crate) fn programs(farm: &Farm, name: &str, qemu: &Utf8Path) -> Utf8PathBuf {
    let bin = farm.path(name);
    fs::create_dir(&bin).unwrap();
    for program in COREUTILS.iter().chain(&["sh", "wc"]) {
        symlink(on_path(program), bin.join(program)).unwrap();
    }
    symlink(qemu, bin.join("qemu-system-s390x")).unwrap();
    bin
}

/// Unpacks it with tar and zstd into an empty folder, and gives the bundle's directory.
pub(crate) fn unpacked(farm: &Farm, bundle: &Utf8Path, name: &str) -> Utf8PathBuf {
    let folder = farm.path(name);
    fs::create_dir(&folder).unwrap();
    let tar =
        Command::new("tar").args(["-C", folder.as_str(), "--zstd", "-xf", bundle.as_str()]).status().unwrap();
    assert!(tar.success());
    let entries: Vec<_> = folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

/// `./run.sh` with no network, no environment, and these programs only.
fn run(farm: &Farm, bundle: &Utf8Path, bin: &Utf8Path, arguments: &[&str]) -> Finished {
    farm.finish_within(Duration::from_secs(100), command(bundle, bin, "", arguments))
}

/// The same, after shell commands that arrange the file systems.
pub(crate) fn command(bundle: &Utf8Path, bin: &Utf8Path, prepare: &str, arguments: &[&str]) -> Command {
    let env = on_path("env");
    let script = format!("set -e; {prepare}\ncd {bundle}; exec {env} -i PATH={bin} sh ./run.sh \"$@\"");
    let mut command = Command::new(on_path("unshare"));
    command.args(["-rnm", "sh", "-c", &script, "sh"]).args(arguments);
    command
}

/// A crash that was found on the host's own QEMU, and its bundle.
pub(crate) fn bundled(farm: &Farm, run: &[&str], bundle: &[&str]) -> (String, Utf8PathBuf, Value) {
    let qemu = qemu();
    let with_qemu = ["--qemu", qemu.as_str(), "--json"];
    let ran = farm.run(&[&["run"], run, &with_qemu].concat()).with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap().to_owned();
    let to = farm.path("hit.tar.zst");
    let made = farm.run(&[&["repro", &hit, "--bundle", to.as_str()], bundle, &with_qemu].concat());
    (hit, to, made.with_code(0).json())
}

/// Of the reports in a guest's console, as farm sees them.
fn fingerprints(farm: &Farm, log: &Utf8Path) -> Vec<String> {
    let lines = farm.run(&["scan", log.as_str(), "--json"]).with_code(100).stdout;
    let hits = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    hits.map(|hit| hit["fingerprint"].as_str().unwrap().to_owned()).collect()
}

fn names_beneath(directory: &Utf8Path) -> Vec<String> {
    let mut names: Vec<_> =
        directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_crash_comes_again_without_farm_and_with_it() {
    let farm = Farm::new();
    let (hit, bundle, made) = bundled(&farm, &["crash-unexpected"], &[]);
    assert_eq!((&made["tried"]["lives"], &made["tried"]["same"]), (&3.into(), &3.into()), "{made}");

    let place = unpacked(&farm, &bundle, "colleague");
    assert!(!place.join("vmlinux").exists());
    let readme = fs::read_to_string(place.join("README.md")).unwrap();
    assert!(readme.contains("it came in 3 of 3 guests") && readme.contains("gdb"), "{readme}");
    let bin = programs(&farm, "bin", &qemu());
    let said = run(&farm, &place, &bin, &[]).with_code(0);
    assert_eq!(said.stdout, "same hit (the guest's words are in runs/1)\n", "{said:?}");
    assert_eq!(fingerprints(&farm, &place.join("runs/1/console.log")), ["panic:sysrq-triggered-crash"]);
    assert!(run(&farm, &place, &bin, &["--repeat", "2"]).with_code(0).stdout.ends_with("same hit: 2 of 2\n"));
    assert_eq!(names_beneath(&place.join("runs")), ["1", "2", "3"]);

    // With a cache that has nothing of it.
    let qemu = qemu();
    let mut command =
        farm.command(&["repro", bundle.as_str(), "--repeat", "2", "--qemu", qemu.as_str(), "--json"]);
    command.env("FARM_CACHE", farm.path("empty"));
    let again = farm.finish(command).with_code(0).json();
    assert_eq!((&again["repro"]["same"], &again["repro"]["other"]), (&2.into(), &0.into()), "{again}");
    assert_eq!(again["run"]["repro"]["hit"], hit.as_str());
    let told = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(told.contains("same hit: 2 of 2 (with 95 % between 15.8 % and 100.0 % of lives)"), "{told}");
    assert_eq!(names_beneath(&farm.state()), ["runs"]);
    // Of the bundle's kernel and image nothing is kept.
    let found = again["lives"][0]["hits"][0]["id"].as_str().unwrap();
    let refused = farm.run(&["repro", found]).with_code(2).stderr;
    assert!(refused.contains(&format!("hint: run that again: farm repro {bundle}\n")), "{refused}");

    // The same bytes whenever the same goes in.
    let other = farm.path("other.tar.zst");
    let pack = |to: &Utf8Path| {
        let made = ["repro", &hit, "--bundle", to.as_str(), "--unchecked", "--qemu", qemu.as_str()];
        farm.run(&made).with_code(0);
        fs::read(to).unwrap()
    };
    assert!(pack(&bundle) == pack(&other));
    let refused = farm.run(&["repro", &hit, "--bundle", "hit.zip"]).with_code(2).stderr;
    assert!(refused.contains("does not end in .tar.zst"), "{refused}");
}

/// A disk of the colleague's that has no room for an initrd, and one that is full as soon as QEMU runs.
#[test]
fn a_full_disk_is_no_silent_guest() {
    let farm = Farm::new();
    let crash = farm.scenario("crash", CRASH);
    let (_, bundle, _) = bundled(&farm, &[&crash], &["--unchecked"]);
    let place = unpacked(&farm, &bundle, "colleague");
    let filler = farm.file(
        "filler",
        format!(
            "#!/bin/sh\ncase $1 in --version) ;; *) head -c 1G /dev/zero > ../fill 2> /dev/null ;; esac\nexec {} \"$@\"\n",
            qemu()
        ),
    );
    fs::set_permissions(&filler, fs::Permissions::from_mode(0o755)).unwrap();
    let bin = programs(&farm, "bin", &filler);
    let small = farm.path("small");
    fs::create_dir(&small).unwrap();
    let bytes: u64 =
        place.read_dir_utf8().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    for (room, began) in [(2 << 20, false), (64 << 20, true)] {
        let prepare =
            format!("mount -t tmpfs -o size={} none {small}; cp {place}/* {small}", bytes + (1 << 20) + room);
        let said =
            farm.finish_within(Duration::from_secs(60), command(&small, &bin, &prepare, &[])).with_code(2);
        let words =
            format!("run.sh: cannot write to {small}/runs/1: free space, or unpack the bundle elsewhere\n");
        assert!(said.stderr.ends_with(&words) && said.stdout.is_empty(), "{said:?}");
        assert_eq!(said.stderr.contains("No space left on device"), !began, "{said:?}");
    }
}

/// farm is killed while guests run from a bundle that it has unpacked: the next farm has the disk space back.
#[test]
fn what_a_killed_farm_unpacked_goes_with_the_next() {
    let farm = Farm::new();
    let short = farm.short();
    let (_, bundle, _) = bundled(&farm, &["crash-unexpected"], &["--unchecked"]);
    let unpacked = || {
        let names = names_beneath(&farm.state()).into_iter();
        names.filter(|name| name.starts_with("bundle-")).collect::<Vec<_>>()
    };
    let mut killed = farm.start(&["repro", bundle.as_str(), "--repeat", "50"]);
    killed.wait_for("starting");
    let held = unpacked();
    assert_eq!(held.len(), 1);
    // It is in use.
    farm.finish_beside(farm.command(&["run", &short])).with_code(0);
    assert_eq!(unpacked(), held);
    killed.kill();
    assert_eq!(unpacked(), held);
    farm.run(&["run", &short]).with_code(0);
    assert_eq!(unpacked(), [""; 0]);
}

#[test]
fn a_hang_comes_again_as_silence() {
    let farm = Farm::new();
    let hang = farm.scenario(
        "hang",
        "modules: [tripwire]\nheartbeat: 5s\n\
         steps: [{write: /sys/kernel/debug/tripwire/trip, text: hang, limit: 1m}]\n",
    );
    let (_, bundle, _) = bundled(&farm, &[&hang], &["--unchecked"]);
    let place = unpacked(&farm, &bundle, "colleague");
    let bin = programs(&farm, "bin", &qemu());
    let said = run(&farm, &place, &bin, &[]).with_code(0);
    assert_eq!((&*said.stdout, &*said.stderr), ("same hit (the guest's words are in runs/1)\n", ""));
    // A guest that does its job.
    change_job(&place, b"write /sys/kernel/debug/tripwire/trip ", b"hang", b"list");
    let said = run(&farm, &place, &bin, &[]).with_code(1);
    assert_eq!((&*said.stdout, &*said.stderr), ("clean (runs/2)\n", ""));
}

#[test]
fn wrong_data_comes_again_by_the_words_of_the_program() {
    let farm = Farm::new();
    let catalog = Catalog::embedded().unwrap();
    let splice = catalog.programs().iter().find(|program| program.name == "splice").unwrap();
    Planter::new(&farm).plant("stress", splice);
    let step = format!("{{exec: splice, args: {:?}}}", arguments(splice, 1));
    let head = "name: data\npurpose: a test\nmachine: {cpus: 1, memory: 256M, disks: [{size: 64M}]}\n";
    let planted = farm.file("data.yaml", format!("{head}steps: [{step}]\n"));
    let (_, bundle, _) = bundled(&farm, &[planted.as_str()], &["--unchecked"]);
    let place = unpacked(&farm, &bundle, "colleague");
    assert!(fs::read_to_string(place.join("README.md")).unwrap().contains("read other data than it wrote"));
    let bin = programs(&farm, "bin", &qemu());
    let said = run(&farm, &place, &bin, &[]).with_code(0);
    assert_eq!((&*said.stdout, &*said.stderr), ("same hit (the guest's words are in runs/1)\n", ""));
    let again = farm.run(&["repro", bundle.as_str(), "--repeat", "1"]).with_code(0).stdout;
    assert!(again.contains("same hit: 1 of 1"), "{again}");
    // The same program with no bug.
    change_job(&place, b"--worker=", b"1", b"0");
    let said = run(&farm, &place, &bin, &[]).with_code(1);
    assert_eq!(said.stdout, "clean (runs/2)\n", "{said:?}");
}

/// Puts other words of the same length behind some in a bundle's job.
fn change_job(place: &Utf8Path, behind: &[u8], from: &[u8], to: &[u8]) {
    let path = place.join("job.cpio");
    let mut job = fs::read(&path).unwrap();
    let words = [behind, from].concat();
    let at = job.windows(words.len()).position(|window| window == words).unwrap() + behind.len();
    job[at..at + from.len()].copy_from_slice(to);
    fs::write(path, job).unwrap();
}

#[test]
fn of_an_exact_cell_the_console_is_the_same_to_the_byte() {
    let farm = Farm::new();
    let crash = farm.scenario("crash", CRASH);
    let (_, bundle, made) = bundled(&farm, &[&crash, "--schedule", "deterministic", "--seed", "3"], &[]);
    assert_eq!((&made["tried"]["lives"], &made["tried"]["same"]), (&2.into(), &2.into()), "{made}");
    assert_eq!(made["console"]["whole"], true, "{made}");
    let place = unpacked(&farm, &bundle, "colleague");
    let bin = programs(&farm, "bin", &qemu());
    let said = run(&farm, &place, &bin, &[]).with_code(0).stdout;
    assert!(said.starts_with("same hit") && said.ends_with("console: the same to the byte\n"), "{said}");

    // A job that only asks what sysrq could do.
    change_job(&place, b"write /proc/sysrq-trigger ", b"c", b"h");
    let said = run(&farm, &place, &bin, &[]).with_code(1).stdout;
    assert_eq!(said, "clean (runs/2)\nconsole: another than it was\n");

    // Another version of QEMU, and one that is not there.
    let other = farm.file(
        "other-qemu",
        format!(
            "#!/bin/sh\ncase $1 in --version) echo 'QEMU emulator version 1.2.3' ;; *) exec {} \"$@\" ;; esac\n",
            qemu()
        ),
    );
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let bin = programs(&farm, "other-bin", &other);
    let said = run(&farm, &place, &bin, &[]).with_code(1).stdout;
    assert!(said.starts_with("this is another QEMU: QEMU emulator version 1.2.3\n"), "{said}");
    assert!(said.ends_with("console: another than it was, as another QEMU's is\n"), "{said}");
    fs::remove_file(bin.join("qemu-system-s390x")).unwrap();
    let said = run(&farm, &place, &bin, &[]).with_code(2).stderr;
    assert!(said.contains("there is no qemu-system-s390x"), "{said}");
}

#[test]
fn a_warning_comes_again_with_its_disks_its_share_and_a_program_of_the_users() {
    newer_qemu();
    let farm = Farm::new();
    farm.program(
        "prove",
        "#include <fcntl.h>\n#include <unistd.h>\n\
         int main(void) { return open(\"/mnt/0/new\", O_CREAT | O_WRONLY, 0600) < 0 || access(\"/mnt/share/lines\", R_OK)\n\
         || access(\"/dev/disk1\", R_OK); }\n",
    );
    let warning = farm.file(
        "warning.yaml",
        "name: warning\npurpose: a test\nmodules: [tripwire]\n\
         machine: {cpus: 2, memory: 256M, share: true, disks: [{size: 16M}, {size: 16M, format: raw}]}\n\
         steps: [{exec: prove}, {write: /sys/kernel/debug/tripwire/trip, text: warn-text, limit: 20s}]\n",
    );
    let (_, bundle, made) = bundled(&farm, &[warning.as_str()], &[]);
    assert_eq!(made["tried"]["same"], 3, "{made}");
    fs::remove_file(farm.path("prove")).unwrap();

    let place = unpacked(&farm, &bundle, "colleague");
    let bin = programs(&farm, "bin", &qemu());
    let said = run(&farm, &place, &bin, &[]).with_code(0);
    assert_eq!(said.stdout, "same hit (the guest's words are in runs/1)\n", "{said:?}");
    let results = fs::read_to_string(place.join("runs/1/results.log")).unwrap();
    assert!(results.contains("ok 1 prove") && !results.contains("not ok"), "{results}");
    let fingerprint = "warning:tripwire_warn_text:";
    let found = fingerprints(&farm, &place.join("runs/1/console.log"));
    assert!(found.iter().any(|found| found.starts_with(fingerprint)), "{found:?}");
    assert_eq!(
        names_beneath(&place.join("runs/1")),
        ["console.log", "kmsg.log", "pid", "qemu.log", "results.log", "status"]
    );

    let again = farm.run(&["repro", bundle.as_str(), "--repeat", "1"]).with_code(0).stdout;
    assert!(again.contains("same hit: 1 of 1"), "{again}");
    assert!(again.contains("not as it was: QEMU is "), "{again}");
    assert!(!again.contains("workload-failed"), "{again}");
    // With a cache that has no file system, and gets none: the bundle's own is what the guest has.
    let (empty, qemu) = (farm.path("empty"), qemu());
    let mut command = farm.command(&["repro", bundle.as_str(), "--repeat", "1", "--qemu", qemu.as_str()]);
    command.env("FARM_CACHE", &empty);
    let again = farm.finish(command).with_code(0).stdout;
    assert!(again.contains("same hit: 1 of 1") && !again.contains("workload-failed"), "{again}");
    assert!(!empty.join("disk").exists(), "{:?}", names_beneath(&empty));
}

/// An archive in the making.
#[derive(Clone)]
struct Crafted {
    manifest: Value,
    files: Vec<(String, Vec<u8>)>,
    /// Bytes behind the files, before the archive's end.
    raw: Vec<u8>,
    behind: Vec<u8>,
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(path: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    // `set_path` would refuse what is to be tried.
    header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

impl Crafted {
    /// As farm's own is, but for what boots.
    fn of(place: &Utf8Path) -> Self {
        let text = |name: &str| fs::read(place.join(name)).unwrap();
        let mut cell: Value = serde_json::from_slice(&text("cell.json")).unwrap();
        cell["kernel"]["sha256"] = hash(b"kernel").into();
        let files = [
            ("cell.json", serde_json::to_vec(&cell).unwrap()),
            ("hit.json", text("hit.json")),
            ("image.cpio", b"image".to_vec()),
            ("job.cpio", b"job".to_vec()),
            ("kernel", b"kernel".to_vec()),
        ];
        let mut crafted = Self {
            manifest: serde_json::from_slice(&text("bundle.json")).unwrap(),
            files: files.map(|(name, bytes)| (name.to_owned(), bytes)).into(),
            raw: Vec::new(),
            behind: Vec::new(),
        };
        crafted.name_all();
        crafted
    }

    /// The manifest says what is there.
    fn name_all(&mut self) {
        let entry = |(name, bytes): &(String, Vec<u8>)| json!({"name": name, "bytes": bytes.len(), "sha256": hash(bytes)});
        self.manifest["files"] = self.files.iter().map(entry).collect();
    }

    fn document(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let (_, bytes) = self.files.iter_mut().find(|(known, _)| known == name).unwrap();
        let mut value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        *bytes = serde_json::to_vec(&value).unwrap();
        self.name_all();
    }

    fn cell(&mut self, change: impl FnOnce(&mut Value)) {
        self.document("cell.json", change);
    }

    fn tar(&self) -> Vec<u8> {
        let document = serde_json::to_vec(&self.manifest).unwrap();
        let mut bytes = entry("farm-1/bundle.json", EntryType::Regular, "", &document);
        for (name, content) in &self.files {
            bytes.extend(entry(&format!("farm-1/{name}"), EntryType::Regular, "", content));
        }
        bytes.extend(&self.raw);
        bytes.extend([0; 1024]);
        bytes.extend(&self.behind);
        bytes
    }
}

type Change = fn(&mut Crafted);

/// What is done to a bundle that is well, and why it is refused then.
const HOSTILE: &[(Change, &str)] = &[
    // The control: all but what boots is well.
    (|_| {}, "is not an s390x kernel"),
    // What an archive can hold.
    (|c| c.raw = entry("../evil", EntryType::Regular, "", b"x"), "../evil is no name of a file in a bundle"),
    (|c| c.raw = entry("/tmp/evil", EntryType::Regular, "", b"x"), "/tmp/evil is no name"),
    (|c| c.raw = entry("farm-1/../../evil", EntryType::Regular, "", b"x"), "is no name"),
    (|c| c.raw = entry("farm-1/..", EntryType::Regular, "", b"x"), "is no name"),
    (|c| c.raw = entry("farm-1/a/evil", EntryType::Regular, "", b"x"), "is no name"),
    (|c| c.raw = entry("evil", EntryType::Regular, "", b"x"), "is no name"),
    (|c| c.raw = entry("farm-1/e\u{1b}[1m", EntryType::Regular, "", b"x"), "farm-1/e\\x1b[1m is no name"),
    (|c| c.raw = entry("farm-1/config", EntryType::Symlink, "/etc/passwd", b""), "config is no plain file"),
    (|c| c.raw = entry("farm-1/config", EntryType::Link, "/etc/passwd", b""), "config is no plain file"),
    (|c| c.raw = entry("farm-1/config", EntryType::Char, "", b""), "config is no plain file"),
    (|c| c.raw = entry("farm-1/config", EntryType::Block, "", b""), "config is no plain file"),
    (|c| c.raw = entry("farm-1/config", EntryType::Fifo, "", b""), "config is no plain file"),
    (|c| c.raw = entry("farm-1/sub", EntryType::Directory, "", b""), "sub is no plain file"),
    (|c| c.raw = entry("farm-1/config", EntryType::GNULongName, "", b"../evil"), "config is no plain file"),
    (
        |c| c.raw = entry("farm-1/config", EntryType::XHeader, "", b"16 path=../evil\n"),
        "config is no plain file",
    ),
    (|c| c.raw = entry("farm-1/config", EntryType::GNUSparse, "", b""), "config is no plain file"),
    (|c| c.raw = entry("farm-2/config", EntryType::Regular, "", b"x"), "is not in farm-1/"),
    (
        |c| c.raw = entry("farm-1/config", EntryType::Regular, "", b"x"),
        "a config that bundle.json does not name",
    ),
    (
        |c| c.raw = entry("farm-1/kernel", EntryType::Regular, "", b"kernel"),
        "a kernel that bundle.json does not name, or twice",
    ),
    (|c| c.behind = b"more".to_vec(), "there is more behind its end"),
    (|c| c.behind = vec![0; 8 << 20], "there is more behind its end"),
    // What the manifest may say.
    (|c| c.manifest["format"] = 2.into(), "its format is 2, and this farm knows 1"),
    (|c| c.manifest["surprise"] = 1.into(), "bundle.json is not what farm writes"),
    (|c| c.manifest["qemu"] = "\u{1b}[2J".into(), "text that no terminal should see"),
    (|c| c.manifest["qemu"] = "x".repeat(5 << 20).into(), "its bundle.json has more than"),
    (
        |c| c.manifest["files"][4]["bytes"] = (1_u64 << 60).into(),
        "kernel has 1152921504606846976 bytes, and 268435456 are allowed",
    ),
    (|c| c.manifest["files"][4]["bytes"] = 7.into(), "kernel has another size than"),
    (|c| c.manifest["files"][4]["sha256"] = hash(b"other").into(), "kernel has another hash than"),
    (|c| c.manifest["files"][4]["name"] = "../kernel".into(), "that no bundle has"),
    (|c| c.manifest["files"][4] = c.manifest["files"][3].clone(), "names job.cpio twice"),
    (|c| drop(c.files.pop()), "it has no kernel, which bundle.json names"),
    (
        |c| {
            c.files.pop();
            c.name_all()
        },
        "it has no kernel",
    ),
    (|c| c.manifest["disks"] = json!([{"disk": 0, "extents": []}]), "the data of the disks [0]"),
    // What a cell may say.
    (
        |c| {
            c.files[0].1 = b"{}".to_vec();
            c.name_all()
        },
        "cell.json is not what farm writes",
    ),
    (
        |c| {
            c.files[0].1 = b"[".repeat(100_000);
            c.name_all()
        },
        "cell.json is not what farm writes",
    ),
    (
        |c| c.cell(|v| v["shape"]["memory_mib"] = 1_000_000.into()),
        "MiB of memory: 1000000 is not from 128 to 65536",
    ),
    (|c| c.cell(|v| v["shape"]["cpus"] = 0.into()), "cpus: 0 is not from 1 to 64"),
    (
        |c| c.cell(|v| v["shape"]["disks"] = json!([{"size_mib": 4_000_000_000_u32, "format": "raw"}])),
        "MiB of a disk: 4000000000",
    ),
    (
        |c| c.cell(|v| v["shape"]["disks"] = json!([{"size_mib": 16, "format": "raw"}])),
        "its machine is not its scenario's",
    ),
    (|c| c.cell(|v| v["scenario"]["heartbeat"] = u64::MAX.into()), "heartbeat: "),
    (|c| c.cell(|v| v["steps"][0]["limit_ms"] = u64::MAX.into()), "limit: "),
    (|c| c.cell(|v| v["steps"] = vec![v["steps"][0].clone(); 65].into()), "steps: 65 is not from 0 to 64"),
    (|c| c.cell(|v| v["shape"]["cpu_model"] = "max,help".into()), "\"max,help\" is no CPU model"),
    (|c| c.cell(|v| v["shape"]["cpu_model"] = "max,x=/etc/passwd".into()), "is no CPU model"),
    (|c| c.cell(|v| v["shape"]["cpu_model"] = "-readconfig".into()), "is no CPU model"),
    (|c| c.cell(|v| v["shape"]["kernel_args"] = json!(["a b"])), "kernel-args: \"a b\" is not a word"),
    (
        |c| c.cell(|v| v["shape"]["kernel_args"] = vec!["x".repeat(100); 6].into()),
        "bytes of kernel-args: 606",
    ),
    (|c| c.cell(|v| v["kernel"]["release"] = "../../evil".into()), "\"../../evil\" is no kernel's release"),
    (|c| c.cell(|v| v["kernel"]["release"] = "a/b".into()), "\"a/b\" is no kernel's release"),
    (|c| c.cell(|v| v["kernel"]["release"] = "..".into()), "\"..\" is no kernel's release"),
    (|c| c.cell(|v| v["kernel"]["release"] = "".into()), "\"\" is no kernel's release"),
    (|c| c.cell(|v| v["kernel"]["sha256"] = hash(b"other").into()), "its kernel is not that of cell.json"),
    (|c| c.cell(|v| v["kernel"]["name"] = "\u{1b}]0;x\u{7}".into()), "text that no terminal should see"),
    (|c| c.cell(|v| v["scenario"]["name"] = "../evil".into()), "name: \"../evil\" is not a name"),
    (
        |c| c.document("hit.json", |v| v["title"] = "a\u{202e}b".into()),
        "hit.json: it has text that no terminal should see",
    ),
    (|c| c.document("hit.json", |v| v["kind"] = "nothing".into()), "hit.json is not what farm writes"),
];

#[test]
fn bundles_that_nobody_should_trust_are_refused_and_leave_nothing() {
    let farm = Farm::new();
    let crash = farm.scenario("crash", CRASH);
    let (_, bundle, made) = bundled(&farm, &[&crash], &["--unchecked"]);
    assert_eq!(made["tried"], Value::Null);
    let place = unpacked(&farm, &bundle, "genuine");
    let well = Crafted::of(&place);
    let file = farm.path("hostile.tar.zst");
    let before = (names_beneath(farm.path("x").parent().unwrap()), names_beneath(&farm.state().join("runs")));
    let refused = |bytes: &[u8], words: &str| {
        fs::File::create(&file).unwrap().write_all(bytes).unwrap();
        let refused = farm.run(&["repro", file.as_str()]).with_code(2).stderr;
        assert!(refused.contains(words), "{words:?} is not in {refused:?}");
        assert_eq!(names_beneath(&farm.state()), ["runs"], "left behind after {words:?}");
    };
    for (change, words) in HOSTILE {
        let mut crafted = well.clone();
        change(&mut crafted);
        refused(&packed(&crafted.tar()), words);
    }
    let tar = well.tar();
    let whole = packed(&tar);
    for cut in [1, 20, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..cut], "it is cut short");
    }
    refused(&packed(&tar[..2000]), "failed to read entire block");
    refused(b"", "it is cut short");
    refused(b"not zstd at all", "it cannot be read as tar in zstd");
    refused(&tar, "it cannot be read as tar in zstd");
    refused(&packed(&b"no tar ".repeat(1000)), "it cannot be read as tar in zstd");
    refused(&packed(&[]), "it is empty");
    refused(
        &packed(&entry("farm-1/kernel", EntryType::Regular, "", b"x")),
        "its first entry is not bundle.json",
    );
    // A header that promises more than there is.
    let mut bomb = entry("farm-1/bundle.json", EntryType::Regular, "", b"{}");
    let mut header = Header::from_byte_slice(&bomb[..512]).clone();
    header.set_size(1 << 32);
    header.set_cksum();
    bomb[..512].copy_from_slice(header.as_bytes());
    refused(&packed(&bomb), "its bundle.json has more than");
    assert_eq!(names_beneath(&farm.state().join("runs")), before.1);
    let mut now = names_beneath(farm.path("x").parent().unwrap());
    now.retain(|name| name != "hostile.tar.zst");
    assert_eq!(now, before.0);
    let pipe = farm.path("pipe.tar.zst");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, words) in [
        (pipe.as_str(), "it is no file"),
        ("/", "it is no file"),
        ("./gone.tar.zst", "cannot read ./gone.tar.zst"),
    ] {
        let refused = farm.run(&["repro", path]).with_code(2).stderr;
        assert!(refused.contains(words), "{refused}");
    }
}
