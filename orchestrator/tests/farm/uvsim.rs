//! The module uvsim, on both kernels: whatever is done to it, it stays whole and leaves nothing behind.

use std::time::Duration;

use super::harness::{Farm, verdict};

fn survives(opens: u32, kills: u32, seconds: u32, limit: Duration) {
    let farm = Farm::new();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/modules/uvsim");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/farm/uvsim/survive.c");
    farm.compile("survive", &["-I", include, source]);
    let scenario = format!(
        "name: survive\npurpose: a test\nmachine: {{cpus: 2, memory: 256M}}\nmodules: [uvsim]\n\
         steps:\n\
         - {{write: /proc/sys/vm/allocate_pgste, text: '1'}}\n\
         - {{exec: survive, args: ['{opens}', '{kills}', '{seconds}'], limit: {}s}}\n",
        limit.as_secs()
    );
    let scenario = farm.file("survive.yaml", scenario).into_string();
    let command =
        farm.command(&["run", &scenario, "--kernel", "debian-12", "--kernel", "debian-13", "--json"]);
    let run = farm.finish_within(3 * limit, command).with_code(0).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), 2);
    for life in lives {
        assert_eq!(verdict(life).0, "passed", "{life}");
    }
}

#[test]
fn the_module_survives_kills_strange_calls_and_being_unloaded() {
    survives(100, 10, 3, Duration::from_secs(200));
}

mod soak {
    use super::*;

    #[test]
    fn the_module_survives_five_minutes_of_strange_calls() {
        survives(1000, 100, 300, Duration::from_secs(1500));
    }
}
