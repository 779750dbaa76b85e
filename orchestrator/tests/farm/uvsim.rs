//! The module uvsim, on each kernel: whatever is done to it, it stays whole and leaves nothing behind; and what is done
//! right is no alarm.

use std::time::Duration;

use super::harness::{Farm, verdict};

const RELEASED: [&str; 4] = ["--kernel", "debian-12", "--kernel", "debian-13"];

fn survives(kernels: &[&str], opens: u32, kills: u32, seconds: u32, limit: Duration) {
    let farm = Farm::new();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/modules/uvsim");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/farm/uvsim/survive.c");
    farm.compile("survive", &["-I", include, source]);
    let scenario = format!(
        "name: survive\npurpose: a test\nmachine: {{cpus: 2, memory: 512M}}\n\
         steps:\n\
         - {{exec: survive, args: ['{opens}', '{kills}', '{seconds}'], limit: {}s}}\n",
        limit.as_secs()
    );
    let scenario = farm.file("survive.yaml", scenario).into_string();
    let command =
        farm.command(&[&["run", &scenario, "--json", "--protection", "emulated"], kernels].concat());
    let run = farm.finish_within(4 * limit, command).with_code(0).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), kernels.len() / 2);
    for life in lives {
        assert_eq!(verdict(life).0, "passed", "{life}");
    }
}

#[test]
fn the_module_survives_kills_strange_calls_and_being_unloaded() {
    survives(&RELEASED, 100, 10, 3, Duration::from_secs(200));
}

mod soak {
    use super::*;

    const ALL: [&str; 6] = ["--kernel", "debian-12", "--kernel", "debian-13", "--kernel", "debian-14"];

    /// Also where the kernel checks its memory management itself, which is built here.
    const CHECKED: [&str; 2] = ["--kernel", "debug-vm-6.1"];

    #[test]
    fn the_module_survives_five_minutes_of_strange_calls() {
        survives(&[&ALL[..], &CHECKED].concat(), 1000, 100, 300, Duration::from_secs(1500));
    }

    /// A thousand repetitions of each control.
    #[test]
    fn a_thousand_controls_in_ten_guests_are_no_hit() {
        let farm = Farm::new();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/uvsim/secure-controls.yaml");
        let controls = std::fs::read_to_string(path).unwrap();
        let more = controls.replace("ops: 20,", "ops: 100,").replace("ops: 60,", "ops: 100,");
        assert_eq!(more.matches("ops: 100,").count(), 8);
        let scenario = farm.file("controls.yaml", more).into_string();
        let arguments = [&["run", &scenario, "--repeat", "10", "--jobs", "1", "--json"], &ALL[..]].concat();
        let run = farm.finish_within(Duration::from_secs(3600), farm.command(&arguments)).with_code(0).json();
        let lives = run["lives"].as_array().unwrap();
        assert_eq!(lives.len(), 30);
        for life in lives {
            assert_eq!((verdict(life).0, &life["hits"]), ("passed", &serde_json::json!([])), "{life}");
        }
    }
}
