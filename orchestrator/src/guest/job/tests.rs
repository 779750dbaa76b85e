use std::collections::BTreeMap;

use super::*;
use crate::guest::archive::listing;
use crate::scenario::{ArgValue, Budget, DiskFormat};

fn image(modules: &[(&str, &[&str])]) -> LiteImage {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let modules: BTreeMap<_, _> =
        modules.iter().map(|(name, order)| ((*name).to_owned(), owned(order))).collect();
    LiteImage { path: "/image".into(), sha256: String::new(), kernel: String::new(), modules }
}

fn request<'a>(disks: &'a [Disk], steps: &'a [Step]) -> JobRequest<'a> {
    let heartbeat = HeartbeatLimit(Duration::from_secs(10));
    JobRequest {
        cell: "5f0c2a".to_owned(),
        disks,
        share: false,
        modules: Vec::new(),
        sets: Vec::new(),
        trace: Vec::new(),
        steps,
        seed: 8_812_345,
        heartbeat,
        delay: 0,
        epoch: 1_763_812_345,
        entropy: [0xa5; 32],
    }
}

fn disk(format: DiskFormat) -> Disk {
    Disk { size_mib: 64, format }
}

fn touch(functions: &[&str], least: u64) -> Touch {
    Touch { functions: functions.iter().map(|name| (*name).to_owned()).collect(), least, when: None }
}

fn text(text: &str) -> ArgValue {
    ArgValue::Text(text.to_owned())
}

fn interference(program: &str, args: &[(&str, ArgValue)]) -> Interference {
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Interference { program: program.to_owned(), args, secure: false }
}

fn exec(name: &str, path: Utf8PathBuf, args: &[&str]) -> Step {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let action = Action::Exec { path, sha256: String::new(), args, workers: 1 };
    let (limit, beside, touches) = (Duration::from_secs(5), Vec::new(), Vec::new());
    Step { name: name.to_owned(), action, limit, beside, touches }
}

#[test]
fn a_cells_steps_and_disks_become_lines() {
    let steps = [
        Step {
            name: "splice".to_owned(),
            action: Action::Stress {
                program: "splice".to_owned(),
                args: vec![
                    ("direct".to_owned(), ArgValue::Flag(true)),
                    ("mode".to_owned(), ArgValue::Text("file-file".to_owned())),
                ],
                budget: Budget::For(Duration::from_secs(3)),
                workers: 2,
                dir: "/mnt/1".to_owned(),
                secure: true,
            },
            limit: Duration::from_secs(30),
            beside: vec![
                interference("compact", &[]),
                interference("pageout", &[("all", ArgValue::Flag(true)), ("rate", text("20"))]),
            ],
            touches: vec![touch(&["do_splice"], 1000), touch(&["a", "b.isra.0"], 1)],
        },
        exec("mine", "/home/me/a".into(), &["two words", "100%", "grün"]),
        exec("other", "/home/me/b".into(), &[]),
        exec("again", "/home/me/a".into(), &[]),
        Step {
            name: "crash".to_owned(),
            action: Action::Write { path: "/proc/sysrq-trigger".to_owned(), text: "c\n".to_owned() },
            limit: Duration::from_secs(30),
            beside: Vec::new(),
            touches: Vec::new(),
        },
    ];
    let disks = [disk(DiskFormat::Raw), disk(DiskFormat::Ext4), disk(DiskFormat::Ext4)];
    let image = image(&[("ext4", &["jbd2.ko", "ext4.ko"])]);
    let cell = CellJob::new(request(&disks, &steps), &image).unwrap();
    let seed = step_seed(8_812_345, 0).to_string();
    insta::assert_snapshot!(cell.job.text().unwrap().replace(&seed, "SEED-OF-STEP-0"), @r"
    farm-job 1
    cell 5f0c2a
    epoch 1763812345
    entropy a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
    heartbeat 1000
    module jbd2.ko
    module ext4.ko
    mount ext4 /dev/disk1 /mnt/1
    mount ext4 /dev/disk2 /mnt/2
    step splice
    run /farm/stress/splice
    arg --direct
    arg --mode=file-file
    arg --for=3000
    arg --dir=/mnt/1
    arg --secure
    seed SEED-OF-STEP-0
    workers 2
    limit 30000
    beside /farm/interference/compact
    beside /farm/interference/pageout
    beside-arg --all
    beside-arg --rate=20
    touch 1000 do_splice
    touch 1 a|b.isra.0
    end
    step mine
    run /job/exec/1
    arg two%20words
    arg 100%25
    arg gr%C3%BCn
    bare
    workers 1
    limit 5000
    end
    step other
    run /job/exec/2
    bare
    workers 1
    limit 5000
    end
    step again
    run /job/exec/1
    bare
    workers 1
    limit 5000
    end
    step crash
    write /proc/sysrq-trigger c%0A
    limit 30000
    end
    ");
    let executables: Vec<_> = cell.executables.iter().map(|e| (e.number, e.path.as_str())).collect();
    assert_eq!(executables, [(1, "/home/me/a"), (2, "/home/me/b")]);
}

#[test]
fn the_emulated_ultravisors_disk_gets_a_file_system_where_a_step_uses_it() {
    let step = |dir: &str| Step {
        name: "dio".to_owned(),
        action: Action::Stress {
            program: "dio".to_owned(),
            args: Vec::new(),
            budget: Budget::Ops(1),
            workers: 1,
            dir: dir.to_owned(),
            secure: true,
        },
        limit: Duration::from_secs(30),
        beside: Vec::new(),
        touches: Vec::new(),
    };
    let image = image(&[("ext4", &["jbd2.ko", "ext4.ko"]), ("uvsim", &["uvsim.ko"])]);
    let set_up = |dir: &str| {
        let steps = [step("/tmp"), step(dir)];
        let request = JobRequest { modules: vec!["uvsim".to_owned()], ..request(&[], &steps) };
        let text = CellJob::new(request, &image).unwrap().job.text().unwrap();
        text.lines().skip(5).take_while(|line| !line.starts_with("step")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(set_up("/tmp"), "module uvsim.ko");
    assert_eq!(
        set_up("/mnt/uvsinkb"),
        "module jbd2.ko\nmodule ext4.ko\nmodule uvsim.ko\nformat /dev/uvsinkb\nmount ext4 /dev/uvsinkb /mnt/uvsinkb"
    );
}

#[test]
fn a_shell_has_the_disks_and_no_steps() {
    let disks = [disk(DiskFormat::Ext4)];
    let job = Job::shell(request(&disks, &[]), &image(&[("ext4", &[])])).unwrap();
    insta::assert_snapshot!(job.text().unwrap(), @r"
    farm-job 1
    cell 5f0c2a
    epoch 1763812345
    entropy a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
    heartbeat 1000
    mount ext4 /dev/disk0 /mnt/0
    shell
    ");
}

#[test]
fn without_ext4_disks_no_module_is_needed_and_with_one_a_kernel_must_have_it() {
    let none = image(&[]);
    let raw = [disk(DiskFormat::Raw)];
    assert!(Job::shell(request(&raw, &[]), &none).unwrap().mounts.is_empty());
    let ext4 = [disk(DiskFormat::Ext4)];
    let error = Job::shell(request(&ext4, &[]), &none).unwrap_err();
    assert!(matches!(error, GuestError::NoModule { ref module, .. } if module == "ext4"), "{error}");
}

#[test]
fn a_share_is_mounted_behind_the_disks() {
    let disks = [disk(DiskFormat::Ext4)];
    let image = image(&[("ext4", &["ext4.ko"]), ("9p", &["9pnet.ko", "9p.ko"])]);
    let request = JobRequest { share: true, modules: vec!["9p".to_owned()], ..request(&disks, &[]) };
    let text = Job::shell(request, &image).unwrap().text().unwrap();
    let lines = "module ext4.ko\nmodule 9pnet.ko\nmodule 9p.ko\nmount ext4 /dev/disk0 /mnt/0\n\
                 mount 9p share /mnt/share trans=virtio,version=9p2000.L,cache=none,msize=262144\nshell\n";
    assert!(text.ends_with(lines), "{text}");
}

#[test]
fn farms_own_modules_come_behind_those_of_the_disks() {
    let image = image(&[("ext4", &["jbd2.ko", "ext4.ko"]), ("tripwire", &["tripwire.ko"])]);
    let modules = vec!["tripwire".to_owned()];
    let disks = [disk(DiskFormat::Ext4)];
    let job = Job::shell(JobRequest { modules, ..request(&disks, &[]) }, &image).unwrap();
    assert_eq!(job.modules, ["jbd2.ko", "ext4.ko", "tripwire.ko"]);
}

#[test]
fn each_file_system_brings_its_module_and_what_two_need_is_loaded_once() {
    let image = image(&[("ext4", &["crc.ko", "ext4.ko"]), ("xfs", &["crc.ko", "xfs.ko"])]);
    let disks = [disk(DiskFormat::Xfs), disk(DiskFormat::Raw), disk(DiskFormat::Ext4)];
    let modules = vec!["xfs".to_owned()];
    let job = Job::shell(JobRequest { modules, ..request(&disks, &[]) }, &image).unwrap();
    assert_eq!(job.modules, ["crc.ko", "xfs.ko", "ext4.ko"]);
    let mounts = job.mounts.iter().map(|mount| format!("{} {}", mount.file_system, mount.directory));
    assert_eq!(mounts.collect::<Vec<_>>(), ["xfs /mnt/0", "ext4 /mnt/2"]);
}

#[test]
fn what_is_set_stands_behind_modules_and_mounts_and_before_the_work() {
    let image = image(&[("ext4", &["ext4.ko"])]);
    let set = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let sets = vec![set("/proc/sys/vm/swappiness", "7"), set("/sys/a b", "1\n")];
    let disks = [disk(DiskFormat::Ext4)];
    let trace = vec!["sched:sched_switch".to_owned(), "try_get_folio".to_owned()];
    let job = Job::shell(JobRequest { sets, trace, ..request(&disks, &[]) }, &image).unwrap();
    let text = job.text().unwrap();
    let (_, behind) = text.split_once("module ext4.ko\n").unwrap();
    assert_eq!(
        behind,
        "mount ext4 /dev/disk0 /mnt/0\nset /proc/sys/vm/swappiness 7\nset /sys/a%20b 1%0A\n\
         trace sched:sched_switch\ntrace try_get_folio\nshell\n"
    );
}

#[test]
fn beats_come_several_times_within_the_limit_and_at_least_each_second() {
    for (limit_ms, beat_ms) in [(2_000, 500), (4_000, 1_000), (60_000, 1_000)] {
        let heartbeat = HeartbeatLimit(Duration::from_millis(limit_ms));
        let job = Job::shell(JobRequest { heartbeat, ..request(&[], &[]) }, &image(&[])).unwrap();
        assert_eq!(job.heartbeat, Duration::from_millis(beat_ms));
    }
}

#[test]
fn a_line_that_a_guest_would_refuse_is_refused_here() {
    // "arg " and the argument: 4,096 bytes are taken, one more is not.
    for (length, taken) in [(4092, true), (4093, false)] {
        let steps = [exec("s", "/a".into(), &[&"x".repeat(length)])];
        let job = CellJob::new(request(&[], &steps), &image(&[])).unwrap().job;
        assert_eq!(job.text().is_ok(), taken, "{length}");
    }
}

#[test]
fn an_empty_argument_is_an_argument() {
    let steps = [exec("s", "/a".into(), &[""])];
    let text = CellJob::new(request(&[], &steps), &image(&[])).unwrap().job.text().unwrap();
    assert!(text.contains("\narg \nbare\n"), "{text}");
}

#[test]
fn the_archive_brings_the_job_and_the_users_programs() {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(directory.path().join("prog")).unwrap();
    fs::write(&path, b"\x7fELF").unwrap();
    let steps = [exec("mine", path.clone(), &[])];
    let cell = CellJob::new(request(&[], &steps), &image(&[])).unwrap();
    let length = cell.job.text().unwrap().len();
    assert_eq!(
        listing(&cell.archive().unwrap()),
        [
            "1 40755 0 0:0 job".to_owned(),
            "2 40755 0 0:0 job/exec".to_owned(),
            "3 100755 4 0:0 job/exec/1".to_owned(),
            format!("4 100644 {length} 0:0 job/job"),
        ]
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(cell.archive().unwrap_err().to_string(), format!("cannot use {path}"));
}
