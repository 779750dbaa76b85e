//! A guest that floods its streams, which no real one does fast enough.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;

use super::harness::{Farm, farm_program, hits, verdict};

/// A QEMU that answers farm's questions, and a guest whose one step prints without end on all its streams.
/// `$1` to `$3` of `report` are the number of the record, its time in microseconds and the function that warns.
const STAND_IN: &str = r#"#!/bin/bash
for word; do
    case $word in
    socket,*)
        fd=${word#*fd=}; fd=${fd%%,*}; id=${word#*id=}; id=${id%%,*}
        declare "$id=$fd" ;;
    esac
done
say() { echo "$1" >&$qmp; }
say '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}, "package": ""}, "capabilities": []}}'
answer() { read -r line <&$qmp; say "{\"return\": $2, \"id\": $1}"; }
answer 0 '{}'
if [ -z "$console" ]; then
    answer 1 '{"arch": "s390x"}'
    for id in 2 3 4; do answer $id '[]'; done
    exec sleep 1000
fi
answer 1 '{}'

report() {
    local text="------------[ cut here ]------------
WARNING: CPU: 0 PID: 9 at mm/gup.c:224 $3+0x110/0x160
Call Trace:
 [<000000000037c884>] $3+0x114/0x160
---[ end trace 0000000000000000 ]---"
    local at=$(printf '[%5d.%06d]' $(($2 / 1000000)) $(($2 % 1000000)))
    while IFS= read -r line; do
        echo "4,$1,$2,-;$line" >&$kmsg
        printf '%s %s\r\n' "$at" "$line" >&$console
    done <<< "$text"
}
# 250 MB on each stream.
flood() {
    yes "6,$1,$2,-;virtio_blk virtio0: [vda] 131072 512-byte logical blocks (67.1 MB/64.0 MiB)" |
        head -c 250000000 >&$kmsg &
    local kernel_log=$!
    yes "$(printf '[    9.000000] virtio_blk virtio0: [vda] 131072 512-byte logical blocks (67.1 MB/64.0 MiB)\r')" |
        head -c 250000000 >&$console
    wait $kernel_log
    echo >&$kmsg
    echo >&$console
}
tell() { echo "$1" >&$results; }
worker() {
    tell '{"type":"worker","step":1,"worker":1,"exit":0,"signal":null,"limit":false,"stuck":false,"wall_us":3,"cpu_us":3,"truncated":0}'
}
# 300 MB on the third stream: programs that print long names without end, and two with more names than anyone has.
flood_results() {
    local name=$(yes x | head -n 60000 | tr -d '\n')
    for turn in {1..10}; do
        yes "    ok 1 $name
    # farm-data path=$name check=flood" | head -c 30000000 >&$results
        tell ''
        worker
    done
    printf '    # farm-data path=p%d check=flood\n' {1..200} >&$results
    worker
    printf '    # farm-data path=p%d check=flood\n' {201..400} >&$results
    worker
}

tell '{"type":"ready","protocol":1,"release":"6.1.0","cpus":1,"memory_kib":131072,"uptime_us":1}'
tell '{"type":"job","cell":"x"}'
tell '{"type":"start","step":1,"name":"write","workers":1,"uptime_us":2}'
report 1 1000000 first_function
flood 2 2000000
report 3 3000000 middle_function
flood 4 4000000
report 5 5000000 last_function
flood_results
tell '{"type":"step","step":1,"outcome":"ok","wall_us":3,"kmsg_seq":5,"rearmed":true,"uptime_us":6}'
tell '{"type":"end","uptime_us":7}'
say '{"event": "SHUTDOWN", "timestamp": {"seconds": 1, "microseconds": 2}, "data": {"guest": true, "reason": "guest-shutdown"}}'
"#;

#[test]
fn a_gigabyte_of_messages_hides_no_report_and_fills_neither_memory_nor_disk() {
    /// Heap and stacks of farm, and of each program that it starts.
    const MEMORY: &str = "--data=268435456";
    let farm = Farm::new();
    let qemu = farm.file("qemu-system-s390x", STAND_IN);
    std::fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).unwrap();
    let scenario = farm.scenario(
        "flood",
        "heartbeat: 5m\nsteps: [{write: /proc/sys/vm/drop_caches, text: '3', limit: 10m}]\n",
    );
    let arguments = ["run", &scenario, "--qemu", qemu.as_str(), "--json", "--cold"];
    let command = farm.command_of(OsStr::new("prlimit"), &[MEMORY, farm_program()], &arguments);
    let run = farm.finish(command).with_code(100);

    let life = run.life("flood");
    assert_eq!(verdict(&life).0, "hit");
    let titles = ["first_function", "middle_function", "last_function"]
        .map(|function| (format!("WARNING in {function}"), "new"));
    let (kernels, programs): (Vec<_>, Vec<_>) =
        hits(&life).into_iter().partition(|(title, _)| title.starts_with("WARNING"));
    assert_eq!(kernels, titles.each_ref().map(|(title, standing)| (title.as_str(), *standing)));
    assert_eq!(programs.len(), 256);
    assert!(programs.iter().all(|(title, _)| title.len() < 400), "{programs:?}");
    let bytes = |key: &str| life["streams"][key].as_u64().unwrap();
    assert!(bytes("console_bytes") > 500_000_000 && bytes("kmsg_bytes") > 500_000_000, "{life}");
    assert!(bytes("results_bytes") > 300_000_000, "{life}");
    assert!(bytes("dropped_bytes") > 1_100_000_000, "{life}");
    let logs: u64 = ["console.log", "kmsg.log", "results.log"]
        .map(|log| farm.lives()[0].join(log).metadata().unwrap().len())
        .iter()
        .sum();
    assert!(logs < 120 << 20, "{logs} bytes of logs");
}
