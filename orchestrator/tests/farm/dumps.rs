//! Dumps of guests' memory, read by drgn.

mod soak {
    use std::process::Command;
    use std::time::Duration;

    use camino::Utf8PathBuf;
    use serde_json::Value;

    use crate::harness::Farm;

    /// Has types; it is built if the tests' cache does not have it.
    const KERNEL: [&str; 3] = ["--kernel", "debug-info-6.1", "--json"];
    const LONG: Duration = Duration::from_secs(1500);
    /// As it was when these tests were written. On PyPI; Debian 12 has none.
    const DRGN: &str = "drgn==0.3.0";
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/farm/dumps/read.py");

    /// A directory with the program `drgn`.
    fn install_drgn(farm: &Farm) -> Utf8PathBuf {
        let place = farm.path("drgn");
        let run = |program: &str, arguments: &[&str], lacking: &str| {
            let output = Command::new(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("{program}: {error}; {lacking}"));
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{}\n{lacking}", String::from_utf8_lossy(&said));
        };
        run("python3", &["-m", "venv", place.as_str()], "apt-get install python3-venv");
        let pip = place.join("bin/pip");
        run(pip.as_str(), &["install", "--quiet", DRGN], "drgn is fetched from PyPI");
        place.join("bin")
    }

    /// What drgn reads of the dump of a hit's life, opened by the very command that farm shows.
    fn read(farm: &Farm, drgn: &Utf8PathBuf, hit: &Value) -> Value {
        let shown = farm.run(&["show", hit["id"].as_str().unwrap()]).with_code(0).stdout;
        let command = shown.lines().find_map(|line| line.strip_prefix("open it ")).unwrap();
        let path = format!("{drgn}:{}", std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .args(["-c", &format!("{command} {SCRIPT}")])
            .env("PATH", path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{command}\n{said}");
        let read: Value = serde_json::from_slice(&output.stdout).unwrap();
        // What every kernel has.
        let tasks = read["tasks"].as_array().unwrap();
        for (pid, comm) in [(1, "init"), (2, "kthreadd")] {
            assert!(tasks.contains(&serde_json::json!({"pid": pid, "comm": comm})), "{read}");
        }
        for comm in ["ksoftirqd/0", "khungtaskd", "kswapd0"] {
            assert!(tasks.iter().any(|task| task["comm"] == comm), "no {comm} in {read}");
        }
        assert_eq!(read["idle"][0], serde_json::json!({"pid": 0, "comm": "swapper/0"}));
        // Init waits for its workers.
        assert!(calls(&read["init"], &["__schedule", "do_poll"]), "{read}");
        read
    }

    /// Whether these functions call one another from the last to the first, others between them.
    fn calls(stack: &Value, functions: &[&str]) -> bool {
        let plain = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let mut stack = stack.as_array().unwrap().iter();
        functions.iter().all(|function| {
            stack.any(|names| {
                names.as_array().unwrap().iter().any(|name| plain(name.as_str().unwrap()) == *function)
            })
        })
    }

    fn first_hit(ran: &Value) -> &Value {
        &ran["lives"][0]["hits"][0]
    }

    #[test]
    fn drgn_reads_the_dump_of_a_panic_of_a_hang_and_of_a_warning() {
        let farm = Farm::new();
        let drgn = install_drgn(&farm);
        let run = |arguments: &[&str]| {
            let arguments = [arguments, &KERNEL].concat();
            farm.finish_within(LONG, farm.warm_command(&arguments)).with_code(0).json()
        };

        let panic = read(&farm, &drgn, first_hit(&run(&["run", "panic", "--dump"])));
        let stopped = &panic["running"][0];
        assert_eq!(stopped["comm"], "tripwire");
        assert!(
            calls(&stopped["stack"], &["disabled_wait", "panic", "tripwire_panic", "kthread"]),
            "{stopped}"
        );

        let hang = read(&farm, &drgn, first_hit(&run(&["run", "hang", "--dump"])));
        let spinning = &hang["running"][0];
        assert_eq!(spinning["comm"], "init");
        assert_ne!(spinning["pid"], 1);
        assert_eq!(spinning["stack"][0], serde_json::json!(["tripwire_hang"]));
        assert!(calls(&spinning["stack"], &["tripwire_hang", "vfs_write", "system_call"]), "{spinning}");

        let ran = run(&["run", "secure-vmsplice-uvsinkb"]);
        let hit = first_hit(&ran)["id"].as_str().unwrap();
        let again = farm.run(&["repro", hit, "--repeat", "1", "--dump", "--json"]).with_code(0).json();
        let warning = read(&farm, &drgn, first_hit(&again));
        told_by_the_warning(&warning, &first_hit(&again)["judged"]["hit"]);
    }

    /// The stack is that of the warning's own trace, and the page as the warning has it:
    /// `uvsim: inaccessible page pfn:fe57 refcount:4 mapcount:1 flags:0x2281e(referenced|lru|zone=0) reached dma(uvsinkb) …`.
    fn told_by_the_warning(read: &Value, hit: &Value) {
        let frames = hit["frames"].as_array().unwrap().iter();
        let mut frames: Vec<&str> = frames.map(|frame| frame["function"].as_str().unwrap()).collect();
        // The place of the warning itself is told twice.
        frames.dedup();
        assert!(frames.len() > 8 && frames[0] == "uvsim_report_sink", "{hit}");
        let mut running = read["running"].as_array().unwrap().iter();
        assert!(
            running.any(|task| task["comm"] == "vmsplice" && calls(&task["stack"], &frames)),
            "{frames:?} {read}"
        );

        let text = hit["text"].as_str().unwrap();
        let word = |key: &str| text.split_once(key).unwrap().1.split([' ', '(']).next().unwrap();
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let pages = read["pages"].as_array().unwrap();
        assert_eq!(pages.len(), 1, "the dump is of the moment of the first: {pages:?}");
        let page = &pages[0];
        assert_eq!(page["pfn"], hex(word("page pfn:")));
        assert_eq!(page["flags"], hex(word("flags:0x")));
        assert_eq!(page["references"].to_string(), word("refcount:"));
        assert_eq!(page["mappings"].to_string(), word("mapcount:"));
        // The kernel's own mark of a secure page; and it is a file's.
        let names = page["names"].as_array().unwrap();
        assert!(names.contains(&"PG_arch_1".into()) && names.contains(&"PG_lru".into()), "{page}");
        assert!(page["inode"].as_u64().unwrap() > 0, "{page}");
    }
}
