//! A hit under gdb, and in dumps of a guest's memory.

use std::fs;
use std::time::{Duration, Instant};

use object::read::elf::{FileHeader, ProgramHeader};
use object::{BigEndian, elf};
use rustix::process::Signal;

use super::harness::{Farm, wait_gone};

/// A complaint on one CPU, seen once; gives the hit's id.
fn warned(farm: &Farm) -> String {
    let scenario =
        "steps: [{write: /sys/kernel/debug/tripwire/trip, text: warn-once}]\nmodules: [tripwire]\n";
    let scenario = farm.scenario("warned", scenario);
    // Of a saved guest: in each that boots this kernel has its modules elsewhere.
    let ran = farm.warm_command(&["run", &scenario, "--kernel", "debian-12", "--json"]);
    first_hit(&farm.finish(ran).with_code(100).json(), "WARNING in tripwire_warn_once_one")
}

fn first_hit(ran: &serde_json::Value, title: &str) -> String {
    let hits = ran["lives"][0]["hits"].as_array().unwrap();
    let hit = hits.iter().find(|hit| hit["judged"]["hit"]["title"] == title).unwrap();
    hit["id"].as_str().unwrap().to_owned()
}

/// What gdb prints goes to farm's own stdout, as gdb likes it.
fn gdb(farm: &Farm, hit: &str, options: &[&str], commands: &[&str]) -> (String, String) {
    let mut arguments = vec!["repro", hit, "--gdb"];
    arguments.extend(options);
    arguments.extend(["--", "-batch", "-nx"]);
    arguments.extend(commands.iter().flat_map(|command| ["-ex", command]));
    let mut command = assert_cmd::Command::from_std(farm.command(&arguments));
    let output = command.timeout(Duration::from_secs(180)).output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert_eq!(farm.processes(), [], "left running");
    (stdout, stderr)
}

#[test]
fn gdb_stands_where_the_kernel_is_about_to_complain() {
    let farm = Farm::new();
    let hit = warned(&farm);
    let (out, told) = gdb(&farm, &hit, &[], &["backtrace 3", "x/i $pc", "frame 1"]);
    assert!(told.contains("life 1 of 10: halted where the kernel is about to complain"), "{told}");
    // guests/modules/tripwire/warn.c: who calls tripwire_warn_once_one(), and what the kernel warns by.
    assert!(out.contains("#0  tripwire_warn_once_one () at guests/modules/tripwire/warn.c:18"), "{out}");
    assert!(out.contains(" in tripwire_warn_once () at guests/modules/tripwire/warn.c:30"), "{out}");
    assert!(out.contains(":\tmc\t0,0"), "{out}");
    // Behind the place is another breakpoint: the guest comes by a second time in the same life.
    let twice = gdb(&farm, &hit, &[], &["continue", "backtrace 2"]).0;
    assert!(twice.contains("\nBreakpoint 1, "), "{twice}");
}

#[test]
fn a_recorded_life_goes_backwards_and_comes_to_the_same_place_again() {
    let farm = Farm::new();
    let hit = warned(&farm);
    let commands = [
        "p/x $pc",
        "reverse-stepi",
        "p/x $pc",
        "stepi",
        "p/x $pc",
        "reverse-step",
        "reverse-step",
        "backtrace 1",
    ];
    let out = gdb(&farm, &hit, &["--record"], &commands).0;
    let printed = out.lines().filter(|line| line.starts_with('$'));
    let places: Vec<&str> = printed.filter_map(|line| Some(line.split_once(" = ")?.1)).collect();
    let [here, before, again] = places[..] else { panic!("{out}") };
    assert_eq!(here, again, "{out}");
    assert_ne!(here, before, "{out}");
    // Lines back from WARN_ON_ONCE() are the beginning of its function, and the call.
    assert!(out.contains("#0  tripwire_warn_once () at guests/modules/tripwire/warn.c:30"), "{out}");
}

#[test]
fn an_exact_cell_comes_to_the_same_moment_each_time() {
    let farm = Farm::new();
    let arguments = ["run", "lost-update", "--kernel", "debian-12", "--schedule", "deterministic", "--json"];
    let ran = farm.run(&arguments).json();
    let hit = first_hit(&ran, "WARNING in tripwire_lost_update");
    let commands = ["info registers", "x/64gx $r15"];
    // Of the CPU that complains: the others go on until QEMU's main loop has stopped them.
    let [first, second] = [0; 2].map(|_| gdb(&farm, &hit, &[], &commands).0);
    let behind = |out: &str| out.split_once("\nBreakpoint 1 at ").unwrap().1.to_owned();
    assert_eq!(behind(&first), behind(&second));
    assert!(behind(&first).contains("\npswa "), "{first}");
    assert!(first.contains("in tripwire_lost_update () at guests/modules/tripwire/race.c:72"), "{first}");
    let refused = farm.run(&["repro", &hit, "--gdb", "--record"]).with_code(2).stderr;
    assert!(refused.contains("the hit's guest has 2 CPUs, and QEMU records one"), "{refused}");
}

#[test]
fn however_a_session_ends_nothing_of_it_is_left() {
    let farm = Farm::new();
    let hit = warned(&farm);
    // Ctrl-C, while farm waits for the guest to come there.
    let mut coming = farm.start(&["repro", &hit, "--gdb", "--cold"]);
    coming.wait_for("the guest's console is in ");
    coming.signal(Signal::INT);
    coming.end().with_code(130);
    assert_eq!(farm.processes(), []);
    // A gdb that works, and farm is told to end, or killed.
    let busy = ["repro", &hit, "--gdb", "--", "-nx", "-ex", "python import time; time.sleep(600)"];
    for (signal, code) in [(Signal::TERM, Some(130)), (Signal::KILL, None)] {
        let mut session = farm.start(&busy);
        session.wait_for("halted where the kernel is about to complain");
        let qemu = farm.qemu().handle();
        session.signal(signal);
        wait_gone(&qemu);
        assert_eq!(session.end().code, code);
        // gdb and setpriv die with farm, but not in the same moment.
        let until = Instant::now() + Duration::from_secs(20);
        while !farm.processes().is_empty() && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(farm.processes(), [], "left running");
    }
}

#[test]
fn a_gdb_that_fails_is_no_success() {
    let farm = Farm::new();
    let hit = warned(&farm);
    for arguments in [&["--no-such-option"][..], &["-batch", "-nx", "-ex", "no-such-command"]] {
        let command = farm.command(&[&["repro", &hit, "--gdb", "--"], arguments].concat());
        let mut command = assert_cmd::Command::from_std(command);
        let output = command.timeout(Duration::from_secs(120)).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(103), "{told}");
        assert!(told.contains("gdb ended with exit status: 1"), "{told}");
    }
}

#[test]
fn guests_that_go_off_without_the_hit_are_told_and_counted() {
    let farm = Farm::new();
    // Whether it complains is the program's affair.
    let tripping = "#include <fcntl.h>\n#include <unistd.h>\nint main(void) {\n\
        int trip = open(\"/sys/kernel/debug/tripwire/trip\", O_WRONLY);\n\
        return write(trip, \"refcount-underflow\", 18) == 18 ? 0 : 1; }\n";
    farm.program("tripping", tripping);
    let scenario = farm.scenario("now-and-then", "steps: [{exec: tripping}]\nmodules: [tripwire]\n");
    let ran = farm.run(&["run", &scenario, "--kernel", "debian-12", "--json"]).with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap();
    farm.program("tripping", "int main(void) { return 0; }\n");
    let told = farm.run(&["repro", hit, "--gdb", "--repeat", "2"]).with_code(107).stderr;
    for life in ["life 1 of 2: it does not come", "life 2 of 2: it does not come"] {
        assert!(told.contains(life), "{told}");
    }
}

#[test]
fn a_missing_gdb_is_told_with_what_mends_it() {
    let farm = Farm::new();
    let hit = warned(&farm);
    let programs = farm.path("programs");
    fs::create_dir(&programs).unwrap();
    for program in ["setpriv", "s390x-linux-gnu-gcc", "qemu-system-s390x", "apt-cache", "dpkg", "make"] {
        if let Some(path) = which(program) {
            std::os::unix::fs::symlink(path, programs.join(program)).unwrap();
        }
    }
    let mut command = farm.command(&["repro", &hit, "--gdb"]);
    command.env("PATH", &programs);
    let told = farm.finish(command).with_code(103).stderr;
    assert!(told.contains("there is no gdb that knows s390x") && told.contains("gdb-multiarch"), "{told}");
}

fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.exists())
}

#[test]
fn a_dump_of_a_complaint_is_of_the_moment_before_it() {
    let farm = Farm::new();
    let hit = warned(&farm);
    let again = farm.run(&["repro", &hit, "--repeat", "1", "--dump", "--json"]).with_code(0).json();
    let dump = &again["lives"][0]["dump"];
    assert_eq!(dump["at"], "just before the kernel complained", "{dump}");
    assert_eq!((&dump["vmcoreinfo"], &dump["trouble"]), (&true.into(), &serde_json::Value::Null));
    // The life went on, and was judged.
    assert_eq!(again["repro"]["same"], 1);
    let life = again["lives"][0]["life"].as_str().unwrap();
    let told = farm.run(&["show", "last"]).with_code(0).stdout;
    let directory = told.lines().find_map(|line| line.strip_prefix("results: ")).unwrap();
    let path = format!("{directory}/cells/{life}/dump.elf");
    assert!(told.contains(&format!("\ndump: {path} (made just before the kernel complained")), "{told}");
    let bytes = fs::read(path).unwrap();
    let header = elf::FileHeader64::<BigEndian>::parse(&*bytes).unwrap();
    let segments = header.program_headers(BigEndian, &*bytes).unwrap();
    let mut notes = Vec::new();
    for segment in segments {
        let Some(mut all) = segment.notes(BigEndian, &*bytes).unwrap() else { continue };
        while let Some(note) = all.next().unwrap() {
            notes.push((note.name().to_vec(), note.desc().to_vec()));
        }
    }
    let (_, text) = notes.iter().find(|(name, _)| name == b"VMCOREINFO").unwrap();
    let text = String::from_utf8_lossy(text);
    assert!(text.contains("OSRELEASE=6.1.") && text.contains("SYMBOL(init_uts_ns)="), "{text}");
    // The memory that the scenario's machine has.
    let memory: u64 =
        segments.iter().filter(|s| s.p_type(BigEndian) == elf::PT_LOAD).map(|s| s.p_memsz(BigEndian)).sum();
    assert_eq!(memory, 128 << 20);
}

/// A guest that panics or goes off afterwards has its stub tell of that, too.
#[test]
fn the_dump_of_a_complaint_stays_whatever_the_guest_comes_to() {
    let farm = Farm::new();
    for (name, then, ends) in [
        ("panicking", ", {write: /sys/kernel/debug/tripwire/trip, text: panic}", "panicked"),
        ("powering-off", "", "powered-off"),
    ] {
        let step = "{write: /sys/kernel/debug/tripwire/trip, text: refcount-underflow}";
        let scenario = farm.scenario(name, &format!("steps: [{step}{then}]\nmodules: [tripwire]\n"));
        let ran = farm.run(&["run", &scenario, "--kernel", "debian-12", "--json"]).with_code(100).json();
        let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap().to_owned();
        let again =
            farm.run(&["repro", &hit, "--cold", "--repeat", "1", "--dump", "--json"]).with_code(0).json();
        let life = &again["lives"][0];
        assert_eq!((&life["verdict"], &life["ending"]["type"]), (&"hit".into(), &ends.into()), "{life}");
        let dump = &life["dump"];
        assert_eq!(dump["at"], "just before the kernel complained", "{dump}");
        assert_eq!(dump["trouble"], serde_json::Value::Null, "{dump}");
        assert!(farm.lives()[0].join("dump.elf").exists());
    }
}

#[test]
fn what_the_cpus_of_a_crashed_guest_did_is_told() {
    let farm = Farm::new();
    let arguments = ["run", "crash-unexpected", "--kernel", "debian-12", "--dump", "--json"];
    let ran = farm.run(&arguments).with_code(100).json();
    let life = &ran["lives"][0];
    assert_eq!((&life["dump"]["at"], &life["dump"]["vmcoreinfo"]), (&"at its end".into(), &true.into()));
    let hit = &life["hits"][0];
    // The kernel's own trace of the panic, by the addresses that it printed, and the stack that farm walked.
    let text = hit["judged"]["hit"]["text"].as_str().unwrap();
    let printed = text.lines().filter_map(|line| Some(line.trim().strip_prefix("[<")?.split_once(">]")?.0));
    let printed: Vec<&str> =
        printed.skip_while(|address| !text.contains(&format!("[<{address}>] panic"))).collect();
    let walked: Vec<&str> = life["cpus"][0]["trace"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["address"].as_str().unwrap())
        .collect();
    // Below panic() both are the same.
    let callers = &printed[printed.len() - 6..];
    assert!(walked.ends_with(callers), "{walked:?}\n{printed:?}");
    let told = farm.run(&["show", hit["id"].as_str().unwrap()]).with_code(0).stdout;
    assert!(told.contains("\nCPU 0: operating, PSW 0002000180000000 "), "{told}");
    assert!(told.contains("dump.elf (made at its end"), "{told}");
}
