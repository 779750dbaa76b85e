use std::collections::HashSet;

use super::*;
use crate::scenario::tests::{parse, parse_with};
use crate::scenario::{Fix, Touch, docs};

const YAML: &str = "
name: two
purpose: two steps
machine: {cpus: 2, memory: 512M, disks: [{size: 256M}], kernel-args: [quiet]}
steps:
  - {stress: splice, args: {mode: file-file, direct: true}, for: 3s, workers: 2}
  - {write: /proc/sys/vm/drop_caches, text: '3'}
";

pub(super) fn request() -> Request {
    Request {
        kernels: vec![kernel("debian-12")],
        image: Image::Lite,
        protection: None,
        fixes: None,
        schedule: Schedule::Parallel,
        seed: None,
        counting: Counting::On,
        accel: Accel::Tcg,
        cpu_model: "max".to_owned(),
        qemu: QemuKey { version: "10.0.2".to_owned() },
    }
}

fn kernel(name: &str) -> KernelKey {
    KernelKey {
        name: name.to_owned(),
        release: "6.1.0-50-s390x".to_owned(),
        version: "6.1.176-1".to_owned(),
        sha256: "ab".repeat(32),
    }
}

pub(super) fn cells(yaml: &str, request: &Request) -> Vec<Cell> {
    expand(&Arc::new(parse(yaml)), request)
}

fn id(yaml: &str, request: &Request) -> String {
    let cells = cells(yaml, request);
    assert_eq!(cells.len(), 1);
    cells[0].id.to_string()
}

/// Histories, bundles and comparisons go by these ids: one that changes by accident cuts them all. If the
/// inputs of a cell change on purpose, raise the number behind "cell" and put the new id here.
#[test]
fn an_id_stays_as_it_is() {
    let text = concat!(
        r#"[["cell",1],["scenario","two"],["heartbeat_ms",30000],["kernel",["debian-12","6.1.0-50-s390x","#,
        r#""6.1.176-1","abababababababababababababababababababababababababababababababab"]],"#,
        r#"["image","lite"],["protection","none"],["schedule","parallel"],["seed",1],["cpus",2],"#,
        r#"["memory_mib",512],["disks",[[256,"ext4"]]],["kernel_args",["quiet"]],["accel","tcg"],"#,
        r#"["cpu_model","max"],["qemu","10.0.2"],["steps",[["splice",["stress","splice","#,
        r#"[["direct",true],["mode","file-file"]],["for_ms",3000],2,"/mnt/0"],33000],"#,
        r#"["write",["write","/proc/sys/vm/drop_caches","3"],60000]]]]"#,
    );
    assert_eq!(ids::canonical(&cells(YAML, &request())[0]).to_string(), text);
    // The first 16 digits of sha256sum over it.
    assert_eq!(id(YAML, &request()), "101ccb094eb362f1");
}

#[test]
fn what_does_not_run_does_not_change_the_id() {
    let plain = id(YAML, &request());
    for (what, yaml) in [
        ("comment", format!("# remark\n{YAML}")),
        ("purpose", YAML.replace("two steps", "another purpose")),
        ("hunts", format!("{YAML}hunts: [bugs]\n")),
        ("expect", format!("{YAML}expect: [{{title: WARNING in foo}}]\n")),
        ("known", format!("{YAML}known: [{{title: WARNING in foo, reason: old}}]\n")),
        ("order", YAML.replace("mode: file-file, direct: true", "direct: true, mode: file-file")),
        ("default written out", format!("{YAML}heartbeat: 30s\n")),
        ("no modules", format!("{YAML}modules: []\n")),
        ("no share", YAML.replace("cpus: 2", "cpus: 2, share: false")),
        ("no protection", format!("{YAML}protection: none\n")),
        ("not secure", YAML.replace("for: 3s", "for: 3s, secure: false")),
        ("seed in a matrix", format!("{YAML}matrix: {{seeds: [1]}}\n")),
        ("cpus in a matrix", format!("{YAML}matrix: {{cpus: [2]}}\n")),
    ] {
        assert_ne!(yaml, YAML, "{what}");
        assert_eq!(id(&yaml, &request()), plain, "{what}");
    }
}

#[test]
fn every_input_changes_the_id() {
    let mut ids = HashSet::from([id(YAML, &request())]);
    for (from, to) in [
        ("name: two", "name: three"),
        ("cpus: 2", "cpus: 1"),
        ("cpus: 2", "cpus: 2, share: true"),
        ("512M", "256M"),
        ("size: 256M", "size: 128M"),
        ("size: 256M}]", "size: 256M}, {size: 256M}]"),
        ("size: 256M}]", "size: 256M}, {size: 256M, format: raw}]"),
        ("[quiet]", "[quiet, nokaslr]"),
        ("[quiet]", "[]"),
        ("mode: file-file", "mode: all"),
        ("mode: file-file, ", ""),
        ("direct: true", "direct: false"),
        ("for: 3s", "for: 4s"),
        ("for: 3s", "for: 3s, limit: 20s"),
        ("for: 3s", "ops: 3000"),
        ("for: 3s", "for: 3s, dir: tmp"),
        ("for: 3s", "for: 3s, name: first"),
        ("workers: 2", "workers: 3"),
        ("text: '3'", "text: '2'"),
        ("drop_caches", "compact_memory"),
        ("steps:", "heartbeat: 20s\nsteps:"),
        ("steps:", "modules: [tripwire]\nsteps:"),
        ("steps:", "modules: [tripwire, other]\nsteps:"),
        ("steps:", "modules: [other, tripwire]\nsteps:"),
    ] {
        let yaml = YAML.replace(from, to);
        assert_ne!(yaml, YAML, "{from}");
        assert!(ids.insert(id(&yaml, &request())), "{from} → {to}");
    }
    let kernel = |edit: fn(&mut KernelKey)| move |request: &mut Request| edit(&mut request.kernels[0]);
    type Edit = Box<dyn Fn(&mut Request)>;
    let edits: [Edit; 10] = [
        Box::new(kernel(|kernel| kernel.name.push('x'))),
        Box::new(kernel(|kernel| kernel.release.push('x'))),
        Box::new(kernel(|kernel| kernel.version.push('x'))),
        Box::new(kernel(|kernel| kernel.sha256.push('x'))),
        Box::new(|request| request.protection = Some(Protection::Emulated)),
        Box::new(|request| request.protection = Some(Protection::Hardware)),
        Box::new(|request| request.seed = Some(2)),
        Box::new(|request| request.accel = Accel::Kvm),
        Box::new(|request| request.cpu_model = "z13".to_owned()),
        Box::new(|request| request.qemu.version = "7.2.22".to_owned()),
    ];
    for (index, edit) in edits.iter().enumerate() {
        let mut request = request();
        edit(&mut request);
        assert!(ids.insert(id(YAML, &request)), "edit {index}");
    }
}

const TOUCHES: &str = "
name: two
purpose: two steps
steps:
  - stress: splice
    for: 3s
    touches: [{function: a|b, count: 5}, {function: c, count: 1, when: kernel >= 6.5}]
";

#[test]
fn what_is_counted_changes_the_id_and_how_often_is_enough_does_not() {
    let uncounted = Request { counting: Counting::Off, ..request() };
    let counted = id(TOUCHES, &request());
    for (from, to) in
        [("count: 5", "count: 6"), ("c, count: 1", "d, count: 1"), ("kernel >= 6.5", "kernel > 6.1")]
    {
        assert_eq!(id(&TOUCHES.replace(from, to), &request()), counted, "{to}");
    }
    assert_ne!(id(&TOUCHES.replace("a|b", "b|a"), &request()), counted);
    assert_ne!(id(&TOUCHES.replace(">= 6.5", "== 6.1"), &request()), counted);
    assert_ne!(id(TOUCHES, &uncounted), counted);
    assert_eq!(id(YAML, &uncounted), id(YAML, &request()), "nothing to count");
}

#[test]
fn what_the_emulated_ultravisor_does_changes_the_id_and_its_defaults_do_not() {
    let emulated = format!("{YAML}protection: emulated\n");
    let plain = id(&emulated, &request());
    assert_ne!(plain, id(YAML, &request()));
    let asked = Request { protection: Some(Protection::Emulated), ..request() };
    assert_eq!(id(YAML, &asked), plain, "however it is asked for");
    let defaults = "uvsim: {busy: 0, freeze-delay: 0s, pin-shared: false}\n";
    assert_eq!(id(&format!("{emulated}{defaults}"), &request()), plain);

    let mut ids = HashSet::from([plain.clone()]);
    for knob in [
        "fix: [splice]",
        "fix: [dio]",
        "fix: [splice, dio]",
        "busy: 5",
        "partial: 5",
        "export-failure: 5",
        "owner-mismatch: 5",
        "freeze-delay: 5us",
        "pin-shared: true",
        "early: true",
    ] {
        assert!(ids.insert(id(&format!("{emulated}uvsim: {{{knob}}}\n"), &request())), "{knob}");
    }
    for step in [
        "secure: true",
        "dir: uvsinkb",
        "beside: [{interference: ksm}]",
        "beside: [{interference: ksm, secure: true}]",
    ] {
        assert!(
            ids.insert(id(&emulated.replace("for: 3s", &format!("for: 3s, {step}")), &request())),
            "{step}"
        );
    }
    let fixes = |fixes: &[Fix]| Request { fixes: Some(fixes.to_vec()), ..asked.clone() };
    let of_scenario = |fix: &str| id(&format!("{emulated}uvsim: {{fix: [{fix}]}}\n"), &request());
    assert_eq!(id(YAML, &fixes(&[Fix::Dio, Fix::Splice])), of_scenario("splice, dio"));
    assert_eq!(of_scenario("dio, splice"), of_scenario("splice, dio"));
    // Where no module watches there is nothing to fix.
    assert_eq!(id(YAML, &Request { fixes: Some(vec![Fix::Dio]), ..request() }), id(YAML, &request()));
}

#[test]
fn delays_of_the_matrix_are_the_cells_that_the_knob_makes() {
    let emulated = format!("{YAML}protection: emulated\n");
    let matrix = format!("{emulated}matrix: {{freeze-delay: [0s, 50us]}}\n");
    let cells = cells(&matrix, &request());
    let labels: Vec<_> = cells.iter().map(Cell::label).collect();
    assert_eq!(labels, ["two freeze-delay=0us", "two freeze-delay=50us"]);
    let ids: Vec<_> = cells.iter().map(|cell| cell.id.to_string()).collect();
    let of_knob = format!("{emulated}uvsim: {{freeze-delay: 50us}}\n");
    assert_eq!(ids, [id(&emulated, &request()), id(&of_knob, &request())]);
}

#[test]
fn a_label_names_the_fixes() {
    let request = Request {
        protection: Some(Protection::Emulated),
        fixes: Some(vec![Fix::Dio, Fix::Splice]),
        ..request()
    };
    assert_eq!(cells(YAML, &request)[0].label(), "two fix=splice,dio");
}

#[test]
fn what_runs_beside_a_step_changes_the_id() {
    let yaml = |beside: &str| TOUCHES.replace("touches:", &format!("beside: {beside}\n    touches:"));
    let mut ids = HashSet::from([id(TOUCHES, &request())]);
    for beside in [
        "[{interference: ksm}]",
        "[{interference: compact}]",
        "[{interference: compact, args: {rate: 2}}]",
        "[{interference: compact, args: {rate: 3}}]",
        "[{interference: ksm}, {interference: compact}]",
    ] {
        assert!(ids.insert(id(&yaml(beside), &request())), "{beside}");
    }
    let ordered = yaml("[{interference: compact, args: {rate: 2, all: true}}]");
    let turned = yaml("[{interference: compact, args: {all: true, rate: 2}}]");
    assert_eq!(id(&ordered, &request()), id(&turned, &request()));
    assert_eq!(id(&yaml("[]"), &request()), id(TOUCHES, &request()));
}

#[test]
fn a_cell_has_what_is_counted_on_its_kernel() {
    let mut request = request();
    request.kernels.push(KernelKey { release: "6.12.107+deb13-s390x".to_owned(), ..kernel("debian-13") });
    let counted = |request: &Request| -> Vec<_> {
        let touches = |cell: &Cell| cell.steps[0].touches.iter().map(Touch::alternatives).collect();
        cells(TOUCHES, request)
            .iter()
            .map(|cell| (cell.counting, touches(cell)))
            .collect::<Vec<(_, Vec<_>)>>()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(counted(&request), [(Counting::On, names(&["a|b"])), (Counting::On, names(&["a|b", "c"]))]);
    request.counting = Counting::Off;
    assert_eq!(counted(&request), [(Counting::Off, vec![]), (Counting::Off, vec![])]);
    assert_eq!(cells(YAML, &request)[0].counting, Counting::On, "nothing is left out");
}

#[test]
fn a_program_counts_by_content_not_by_path() {
    let id = |path: &str, content: &[u8]| {
        let yaml = format!("name: own\npurpose: p\nsteps:\n  - {{exec: {path}, name: own}}\n");
        let scenario = Arc::new(parse_with(&yaml, content));
        expand(&scenario, &request())[0].id
    };
    let elf = crate::scenario::tests::static_elf();
    let mut other = elf.clone();
    other.push(0);
    assert_eq!(id("./a", &elf), id("/b/c", &elf));
    assert_ne!(id("./a", &elf), id("./a", &other));
}

#[test]
fn a_matrix_makes_every_combination() {
    let yaml = format!(
        "{YAML}matrix: {{cpus: [1, 4], seeds: [5, 6], args: {{splice: {{mode: [all, file-file], direct: [true, false]}}}}}}\n"
    );
    let mut request = request();
    request.kernels.push(kernel("debian-13"));
    let rows: Vec<String> = cells(&yaml, &request)
        .iter()
        .map(|cell| {
            let args = cell.steps[0].action.arguments();
            format!("{} {} {} {}", cell.kernel.name, cell.shape.cpus, cell.seed, args.join(" "))
        })
        .collect();
    assert_eq!(rows.len(), 2 * 2 * 2 * 4);
    assert_eq!(rows.iter().collect::<HashSet<_>>().len(), rows.len());
    assert_eq!(rows[0], "debian-12 1 5 --direct --mode=all --for=3000 --dir=/mnt/0");
    assert_eq!(rows[1], "debian-12 1 5 --direct --mode=file-file --for=3000 --dir=/mnt/0");
    assert_eq!(rows[2], "debian-12 1 5 --mode=all --for=3000 --dir=/mnt/0");
    assert_eq!(rows[31], "debian-13 4 6 --mode=file-file --for=3000 --dir=/mnt/0");
}

#[test]
fn seeds_come_from_the_request_then_the_matrix_then_the_default() {
    let with_matrix = format!("{YAML}matrix: {{seeds: [5, 6]}}\n");
    let seeds = |yaml: &str, seed| {
        let request = Request { seed, ..request() };
        cells(yaml, &request).iter().map(|cell| cell.seed).collect::<Vec<_>>()
    };
    assert_eq!(seeds(YAML, None), [DEFAULT_SEED]);
    assert_eq!(seeds(&with_matrix, None), [5, 6]);
    assert_eq!(seeds(&with_matrix, Some(9)), [9]);
    assert_eq!(seeds(YAML, Some(9)), [9]);
}

#[test]
fn the_reference_names_the_default_seed() {
    let page = docs::reference(&crate::scenario::tests::catalog());
    assert!(page.contains(&format!("| seed {DEFAULT_SEED} |")));
    assert!(page.contains(&format!("`matrix.seeds`, or {DEFAULT_SEED};")));
}

#[test]
fn no_kernel_makes_no_cell() {
    assert!(cells(YAML, &Request { kernels: Vec::new(), ..request() }).is_empty());
}

#[test]
fn ids_are_sixteen_lowercase_digits_everywhere() {
    let id: CellId = "00ab000000000001".parse().unwrap();
    assert_eq!(id.to_string(), "00ab000000000001");
    assert_eq!(serde_json::to_string(&id).unwrap(), "\"00ab000000000001\"");
    assert_eq!(serde_json::from_str::<CellId>("\"00ab000000000001\"").unwrap(), id);
    for text in ["", "1", "00AB000000000001", "00ab00000000000g", "+0ab000000000001", "00ab0000000000011"] {
        assert!(text.parse::<CellId>().is_err(), "{text}");
    }
}

fn emulator() -> Emulator {
    Emulator { cpu_model: "max".to_owned(), qemu: "10.0.2 (Debian 1:10.0.2)".to_owned() }
}

#[test]
fn a_setting_changes_one_thing_and_the_id_with_it() {
    let request = Request { qemu: QemuKey { version: emulator().qemu }, ..request() };
    let cell = cells(YAML, &request).remove(0);
    let Choice { settings, left_out } = choose_settings(Accel::Tcg, &emulator(), Some("7.2.22 (Debian)"));
    assert_eq!(left_out, [""; 0]);
    let words: Vec<_> = settings.iter().map(|s| (s.to_string(), s.as_it_was(&emulator()))).collect();
    let all = "thread=multi, -cpu max, QEMU 10.0.2";
    let expected = [
        ("as it was", all),
        ("thread=single", "thread=multi"),
        ("-cpu z196-base…", "-cpu max"),
        ("QEMU 7.2.22", "QEMU 10.0.2"),
    ];
    assert_eq!(words, expected.map(|(setting, was)| (setting.to_owned(), was.to_owned())));

    let cells: Vec<Cell> = settings.iter().map(|setting| cell.under(setting)).collect();
    assert_eq!(cells[0], cell, "nothing changed is the same cell");
    let shape = |edit: fn(&mut Shape)| {
        let mut shape = cell.shape.clone();
        edit(&mut shape);
        shape
    };
    assert_eq!(cells[1].shape, shape(|shape| shape.threads = Threads::Single));
    assert_eq!(cells[3].shape, shape(|shape| shape.qemu.version = "7.2.22 (Debian)".to_owned()));
    assert!(cells[2].shape.cpu_model.starts_with("z196-base,"));
    for under in &cells {
        let rest = Cell { id: cell.id, shape: cell.shape.clone(), ..under.clone() };
        assert_eq!(rest, cell, "nothing but the shape and the id is another");
    }
    assert_eq!(cells.iter().map(|cell| cell.id).collect::<HashSet<_>>().len(), cells.len());
}

#[test]
fn what_cannot_be_changed_is_left_out_and_said() {
    let Choice { settings, left_out } = choose_settings(Accel::Tcg, &emulator(), None);
    assert_eq!(settings.len(), 3);
    assert!(left_out[0].contains("no QEMU of another version"), "{left_out:?}");

    let Choice { settings, left_out } = choose_settings(Accel::Kvm, &emulator(), Some("7.2.22"));
    assert_eq!(settings, []);
    assert!(left_out[0].contains("under KVM"), "{left_out:?}");

    // Who runs the other CPU model already gets the usual one as the other.
    let other = |emulator: &Emulator| match &choose_settings(Accel::Tcg, emulator, None).settings[2] {
        Setting::CpuModel { model } => model.clone(),
        setting => panic!("{setting}"),
    };
    let z196 = Emulator { cpu_model: other(&emulator()), ..emulator() };
    assert_eq!(other(&z196), "max");
}
