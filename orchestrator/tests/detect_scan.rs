//! `farm scan`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use assert_cmd::Command;
use camino::Utf8Path;
use farm::kernel::{DebugFiles, Pointer, Sources, Spot};
use object::{Object, ObjectSymbol};

fn farm(directory: &Path) -> Command {
    let mut farm = Command::cargo_bin("farm").unwrap();
    farm.env_clear().env("HOME", directory).arg("scan");
    farm
}

const WARNING: &str = "\
all is well
[    5.027303] ------------[ cut here ]------------
[    5.027485] WARNING: CPU: 1 PID: 99 at mm/gup.c:224 try_grab_page+0x110/0x160
[    5.029113] Call Trace:
[    5.029336]  [<000000000037c884>] try_grab_page+0x114/0x160
[    5.029634] ---[ end trace 0000000000000000 ]---
";

#[test]
fn hits_are_told_with_their_places_and_the_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let second = WARNING.replace("try_grab_page", "unpin_user_pages").replace("gup.c:224", "gup.c:441");
    let log = format!("{WARNING}{second}");
    let output = farm(home.path()).arg("-").write_stdin(log.clone()).assert().code(100).get_output().clone();
    let end = WARNING.len();
    let expected = format!(
        "\
WARNING in try_grab_page
  kind         warning
  fingerprint  warning:try_grab_page:mm/gup.c
  function     try_grab_page
  source       mm/gup.c:224
  at           5.027303 s
  place        line 2, bytes 12 to {end}

WARNING in unpin_user_pages
  kind         warning
  fingerprint  warning:unpin_user_pages:mm/gup.c
  function     unpin_user_pages
  source       mm/gup.c:441
  at           5.027303 s
  place        line 8, bytes {} to {}
",
        end + 12,
        log.len(),
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);

    let file = home.path().join("console.log");
    fs::write(&file, &log).unwrap();
    let output = farm(home.path()).arg(&file).arg("--json").assert().code(100).get_output().clone();
    let lines: Vec<serde_json::Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["fingerprint"], "warning:unpin_user_pages:mm/gup.c");
    assert_eq!((&lines[1]["line"], &lines[1]["end"]), (&8.into(), &log.len().into()));
    assert!(lines[1].get("places").is_none());
}

#[test]
fn nothing_found_and_nothing_to_read_differ() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("console.log");
    fs::write(&file, "all is well\n").unwrap();
    farm(home.path()).arg(&file).assert().code(0).stdout("");
    let missing = home.path().join("missing");
    for (arguments, message) in [
        (vec![missing.as_path()], "missing"),
        (vec![home.path()], "cannot read"),
        (vec![&file, Path::new("--vmlinux"), &missing], "missing"),
        (vec![&file, Path::new("--vmlinux"), &file], "is no vmlinux with symbols"),
    ] {
        let output = farm(home.path()).args(&arguments).assert().code(2).stdout("").get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

/// Three functions inlined into one another. Each site stands directly behind an instruction of its own.
const SOURCE: &str = r#"
#define SITE(name) __asm__ volatile("nop\n.globl " #name "\n" #name ":")
static volatile int sink;
static inline __attribute__((always_inline)) void innermost(void)
{
	SITE(innermost_site);
	sink++;
}
static inline __attribute__((always_inline)) void middle(void)
{
	innermost();
}
__attribute__((noinline, noclone)) void outer(void)
{
	middle();
	SITE(outer_site);
}
__attribute__((noinline, noclone)) void caller(void)
{
	outer();
	SITE(caller_site);
}
int main(void) { caller(); return 0; }
"#;

/// The line of SOURCE that holds `text`.
fn line_of(text: &str) -> usize {
    SOURCE.lines().position(|line| line.contains(text)).unwrap() + 1
}

struct Built {
    file: PathBuf,
    symbols: Vec<(String, u64, u64)>,
}

impl Built {
    fn new(directory: &Path) -> Self {
        let source = directory.join("traced.c");
        fs::write(&source, SOURCE).unwrap();
        let file = directory.join("vmlinux");
        let compiler = Process::new("s390x-linux-gnu-gcc")
            .args(["-g", "-O1", "-static", "-fno-optimize-sibling-calls", "-o"])
            .args([&file, &source])
            .status()
            .expect("s390x-linux-gnu-gcc, which `cargo xtask setup` installs");
        assert!(compiler.success());
        let bytes = fs::read(&file).unwrap();
        let symbols = object::File::parse(&*bytes)
            .unwrap()
            .symbols()
            .map(|symbol| (symbol.name().unwrap().to_owned(), symbol.address(), symbol.size()))
            .collect();
        Self { file, symbols }
    }

    /// Start and size of a function, or of a site.
    fn symbol(&self, name: &str) -> (u64, u64) {
        let (_, start, size) = self.symbols.iter().find(|(other, ..)| other == name).unwrap();
        (*start, *size)
    }

    /// A place in `function` as a trace of a kernel shows it that runs at other addresses than it was linked for.
    fn frame(&self, function: &str, site: &str) -> String {
        let (start, size) = self.symbol(function);
        trace_line(function, self.symbol(site).0 - start, size)
    }

    /// Of each line of a trace, the places.
    fn places(&self, directory: &Path, trace: &str) -> serde_json::Value {
        let mut scan = farm(directory);
        scan.arg("-").arg("--vmlinux").arg(&self.file).arg("--json").write_stdin(report(trace));
        let output = scan.assert().code(100).get_output().clone();
        let hit: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        hit["places"].clone()
    }
}

fn report(trace: &str) -> String {
    format!("[    1.000000] BUG: Bad page state in process t  pfn:01efc\n[    1.000000] Call Trace:\n{trace}")
}

fn trace_line(function: &str, offset: u64, size: u64) -> String {
    format!("[    1.000000]  [<000003ffe0a1b2c8>] {function}+{offset:#x}/{size:#x} \n")
}

/// Each function begins a section.
const MODULE: &str = r#"
extern void warn(void);
__attribute__((noinline, noclone)) void in_text(void)
{
	warn();
	__asm__ volatile("");
}
__attribute__((noinline, noclone, section(".init.text"))) int in_init(void)
{
	warn(); /* init */
	return 1;
}
static inline void inlined(void)
{
	warn(); /* inlined */
}
__attribute__((noinline, noclone, section(".exit.text"))) int in_exit(void)
{
	inlined();
	return 2;
}
"#;

/// A module is not linked: each of its sections begins at 0, and what its debug information says stands in relocations.
#[test]
fn a_modules_frames_are_found_in_whatever_section_they_are() {
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("some-thing.c");
    fs::write(&source, MODULE).unwrap();
    let modules = home.path().join("modules");
    fs::create_dir_all(modules.join("kernel/fs")).unwrap();
    let file = modules.join("kernel/fs/some-thing.ko");
    let compiler = Process::new("s390x-linux-gnu-gcc")
        .args(["-g1", "-O1", "-fno-optimize-sibling-calls", "-c", "-o"])
        .args([&file, &source])
        .status()
        .expect("s390x-linux-gnu-gcc, which `cargo xtask setup` installs");
    assert!(compiler.success());
    let bytes = fs::read(&file).unwrap();
    let object = object::File::parse(&*bytes).unwrap();
    let size = |name: &str| object.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap().size();
    // Return addresses of the calls of warn().
    let mut objdump = Process::new("s390x-linux-gnu-objdump");
    let disassembly = String::from_utf8(objdump.arg("-d").arg(&file).output().unwrap().stdout).unwrap();
    let line = |name: &str, size: u64| {
        let behind = offset_behind_call(&disassembly, name);
        format!("[    1.000000]  [<000003ff80a1b2c8>] {name}+{behind:#x}/{size:#x} [some_thing]\n")
    };
    let page = 4096 - 1;
    let trace = [
        line("in_text", size("in_text")),
        line("in_init", size("in_init")),
        // The last function of a section may have what is left of a page counted to it.
        line("in_exit", size("in_exit") + page),
        line("in_exit", size("in_exit") + page + 1),
        line("in_init", size("in_init") - 2),
    ]
    .concat();
    let mut scan = farm(home.path());
    scan.arg("-").arg("--modules").arg(&modules).arg("--json").write_stdin(report(&trace));
    let output = scan.assert().code(100).get_output().clone();
    let hit: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let place = |function: &str, text: &str| {
        let line = MODULE.lines().position(|line| line.contains(text)).unwrap() + 1;
        serde_json::json!({ "function": function, "file": source, "line": line })
    };
    let expected = serde_json::json!([
        [place("in_text", "\twarn();")],
        [place("in_init", "/* init */")],
        [place("inlined", "/* inlined */"), place("in_exit", "\tinlined();")],
        [],
        [],
    ]);
    assert_eq!(hit["places"], expected);
    let told = String::from_utf8(output.stderr).unwrap();
    let said = format!(
        "{} has no in_exit of {:#x} bytes; is it of another build?",
        file.display(),
        size("in_exit") + page + 1
    );
    assert_eq!(told.matches("has no in_").count(), 1, "{told}");
    assert!(told.contains(&said), "{told}");
}

/// In a disassembly, the offset in the function behind its first `brasl`, which is 6 bytes long.
fn offset_behind_call(disassembly: &str, function: &str) -> u64 {
    let (_, body) = disassembly.split_once(&format!("<{function}>:\n")).unwrap();
    let address = |line: &str| u64::from_str_radix(line.split(':').next().unwrap().trim(), 16).unwrap();
    let call = body.lines().find(|line| line.contains("brasl")).unwrap();
    address(call) + 6 - address(body)
}

#[test]
fn a_vmlinux_of_another_kernel_tells_nothing() {
    let home = tempfile::tempdir().unwrap();
    let built = Built::new(home.path());
    let (start, size) = built.symbol("outer");
    let site = built.symbol("innermost_site").0 - start;
    let found = |offset, size| {
        built.places(home.path(), &trace_line("outer", offset, size))[0] != serde_json::json!([])
    };
    // The kernel's size may have the padding behind the function in it, which is less than 64 bytes.
    for (offset, size, expected) in [
        (site, size, true),
        (site, size + 63, true),
        (site, size + 64, false),
        (site, size - 1, false),
        // A return address may be the end of the function, behind a call that does not return.
        (size, size + 8, true),
        (size + 1, size + 8, false),
        (0, size, false),
    ] {
        assert_eq!(found(offset, size), expected, "{offset:#x}/{size:#x}");
    }
}

#[test]
fn a_vmlinux_tells_lines_and_inlined_functions() {
    let home = tempfile::tempdir().unwrap();
    let built = Built::new(home.path());
    let trace = [
        built.frame("outer", "innermost_site"),
        built.frame("caller", "caller_site"),
        "[    1.000000]  [<000003ffe0a1b2c8>] outer+0x2/0x40 [uvsim] \n".to_owned(),
        trace_line("no_such_function", 0x2, 0x40),
    ]
    .concat();
    let source = home.path().join("traced.c");
    let place = |function: &str, text: &str| serde_json::json!({ "function": function, "file": source, "line": line_of(text) });
    let expected = serde_json::json!([
        [
            place("innermost", "SITE(innermost_site)"),
            place("middle", "\tinnermost();"),
            place("outer", "\tmiddle();"),
        ],
        [place("caller", "SITE(caller_site)")],
        [],
        [],
    ]);
    assert_eq!(built.places(home.path(), &trace), expected);

    let mut scan = farm(home.path());
    scan.arg("-").arg("--vmlinux").arg(&built.file).write_stdin(report(&trace));
    let text = String::from_utf8(scan.assert().code(100).get_output().stdout.clone()).unwrap();
    let innermost = format!("innermost at {}:{}", source.display(), line_of("SITE(innermost_site)"));
    assert!(text.contains(&innermost), "{text}");
    assert!(text.contains("outer+0x2/0x40 [uvsim]\n"), "{text}");
}

/// Numbers that look drawn and are the same each time (xorshift).
fn drawn(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 1).unwrap()
}

/// Nothing that a damaged vmlinux or module holds may stop farm; what is wrong with it is told once.
#[test]
fn damaged_files_are_told_once_and_stop_nothing() {
    let home = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(home.path()).unwrap();
    let built = Built::new(home.path());
    let module = home.path().join("module.o");
    let source = home.path().join("traced.c");
    let mut compiler = Process::new("s390x-linux-gnu-gcc");
    compiler.args(["-g", "-O1", "-fno-optimize-sibling-calls", "-c", "-o"]).args([&module, &source]);
    assert!(compiler.status().unwrap().success());
    let spot = |module: Option<&str>| Spot {
        function: "outer".to_owned(),
        offset: built.symbol("innermost_site").0 - built.symbol("outer").0,
        size: built.symbol("outer").1,
        module: module.map(str::to_owned),
        pointer: Pointer::Behind,
    };
    let ask = |vmlinux: &[u8], module: &[u8]| {
        let files = [("vmlinux", vmlinux), ("damaged.ko", module)].map(|(name, bytes)| {
            let path = directory.join(name);
            // Not overwritten in place: a file that is mapped may be replaced, and not be cut.
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
            path
        });
        let mut sources = Sources::new(DebugFiles { vmlinux: Some(files[0].clone()), modules: None });
        sources.add_module("damaged", &files[1]);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push([None, Some("damaged")].map(|module| sources.places(&spot(module)).len()));
            sources.places_at(built.symbol("caller").0);
        }
        let troubles = sources.take_troubles();
        assert!(troubles.len() <= 2, "{troubles:?}");
        (places[0], troubles)
    };
    let whole = [fs::read(&built.file).unwrap(), fs::read(&module).unwrap()];
    let (places, troubles) = ask(&whole[0], &whole[1]);
    assert!(places[0] == 3 && places[1] > 0 && troubles.is_empty(), "{places:?} {troubles:?}");
    let (places, troubles) = ask(&whole[0][..1000], b"text");
    assert_eq!(places, [0, 0]);
    assert!(troubles.iter().any(|trouble| trouble.ends_with("damaged.ko is no module")), "{troubles:?}");
    assert!(
        troubles.iter().any(|trouble| trouble.contains("vmlinux is no vmlinux with symbols")),
        "{troubles:?}"
    );

    let mut state = 0x0123_4567_89ab_cdef;
    for _ in 0..60 {
        let mut damaged = whole.clone();
        for bytes in &mut damaged {
            for _ in 0..1 + drawn(&mut state) % 64 {
                let place = drawn(&mut state) % bytes.len();
                bytes[place] = u8::try_from(drawn(&mut state) % 256).unwrap();
            }
            if drawn(&mut state).is_multiple_of(4) {
                bytes.truncate(drawn(&mut state) % bytes.len());
            }
        }
        ask(&damaged[0], &damaged[1]);
    }
}
