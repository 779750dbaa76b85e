//! Init, the stress programs and what runs beside them, compiled for s390x from the sources in farm's own binary.
//!
//! The compiler runs in a directory of nothing but its sources and sees relative paths only, so the same
//! sources and compiler make the same bytes anywhere.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use include_dir::{Dir, File};

use super::GuestError;
use crate::cache::{Cache, Kind, Progress};
use crate::kernel::sha256_hex;
use crate::kernel::tool::CROSS_GCC;
use crate::scenario::programs::{Catalog, Program, header};

const COMPILE: [&str; 8] = ["-c", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-pthread", "-I."];
/// The name of a unit's main(), where it has one.
const ENTRY: &str = "-DPROGRAM_MAIN";
/// Static: a guest has no libraries. A build id would only repeat what the hash of the file says.
const LINK: [&str; 4] = ["-static", "-s", "-pthread", "-Wl,--build-id=none"];

/// The compiled programs, in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub init: Utf8PathBuf,
    /// All stress programs, and all that run beside them, in one file: each on its own brings the C library along, a
    /// megabyte that every guest would have to load.
    pub workload: Utf8PathBuf,
    /// The names by which the one file is each of them.
    pub stress: Vec<String>,
    pub interference: Vec<String>,
}

/// Sources of one file to be made.
struct Sources {
    program: String,
    /// Name and content, in the order of the names.
    files: Vec<(String, Vec<u8>)>,
}

/// Compiles what is not in the cache yet. `guests` is the directory of that name in the repository.
pub fn compile(
    cache: &Cache,
    guests: &Dir<'_>,
    catalog: &Catalog,
    progress: Progress<'_>,
) -> Result<Programs, GuestError> {
    let compiler = compiler_identity()?;
    let build = |sources: &Sources| build_one(cache, &compiler, sources, progress);
    let names = |programs: &[Program]| programs.iter().map(|program| program.name.clone()).collect();
    Ok(Programs {
        init: build(&init_sources(guests)?)?,
        workload: build(&workload_sources(guests, catalog)?)?,
        stress: names(catalog.programs()),
        interference: names(catalog.interference()),
    })
}

fn init_sources(guests: &Dir<'_>) -> Result<Sources, GuestError> {
    Ok(Sources { program: "init".to_owned(), files: files(guests, "init")? })
}

/// What programs and the module uvsim know of each other.
const UVSIM_COMMANDS: &str = "modules/uvsim/uvsim_uapi.h";

/// The sources of both directories, the header of each program's arguments, and the table of all programs.
fn workload_sources(guests: &Dir<'_>, catalog: &Catalog) -> Result<Sources, GuestError> {
    let mut all = Vec::new();
    let mut table = "/* Made from programs.yaml. */\n".to_owned();
    for (directory, programs) in [("stress", catalog.programs()), ("interference", catalog.interference())] {
        let found = files(guests, directory)?;
        for program in programs {
            let source = format!("{}.c", program.name);
            if !found.iter().any(|(file, _)| *file == source) {
                return Err(GuestError::NoSource { path: format!("guests/{directory}/{source}") });
            }
            table += &format!("PROGRAM(\"{}\", {})\n", program.name, entry_point(&program.name));
            all.push((format!("{}.args.h", program.name), header(program).into_bytes()));
        }
        all.extend(found);
    }
    let commands = guests.get_file(UVSIM_COMMANDS);
    let commands =
        commands.ok_or_else(|| GuestError::NoSource { path: format!("guests/{UVSIM_COMMANDS}") })?;
    all.push(("uvsim_uapi.h".to_owned(), commands.contents().to_vec()));
    all.push(("programs.h".to_owned(), table.into_bytes()));
    all.sort();
    Ok(Sources { program: "workload".to_owned(), files: all })
}

/// What main() is called where programs are linked together.
fn entry_point(program: &str) -> String {
    format!("main_{}", program.replace('-', "_"))
}

/// The C sources in a directory.
fn files(guests: &Dir<'_>, directory: &str) -> Result<Vec<(String, Vec<u8>)>, GuestError> {
    let missing = || GuestError::NoSource { path: format!("guests/{directory}") };
    let file_name =
        |file: &File<'_>| file.path().file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let mut files: Vec<_> = guests
        .get_dir(directory)
        .ok_or_else(missing)?
        .files()
        .filter_map(|file| Some((file_name(file)?, file.contents().to_vec())))
        .filter(|(name, _)| name.ends_with(".c") || name.ends_with(".h"))
        .collect();
    if files.is_empty() {
        return Err(missing());
    }
    files.sort();
    Ok(files)
}

fn build_one(
    cache: &Cache,
    compiler: &str,
    sources: &Sources,
    progress: Progress<'_>,
) -> Result<Utf8PathBuf, GuestError> {
    let program = &sources.program;
    let key = format!("{program}-{}", &source_hash(compiler, sources)[..16]);
    let entry = cache.entry(Kind::Program, &key, progress, |work| {
        progress(&format!("compiling {program}"));
        run_compiler(sources, work)
    })?;
    Ok(entry.join(program))
}

fn run_compiler(sources: &Sources, work: &Utf8Path) -> Result<(), GuestError> {
    let failed = |source: io::Error| GuestError::Io { path: work.to_owned(), source };
    let source_directory = work.join("source");
    fs::create_dir(&source_directory).map_err(failed)?;
    for (name, content) in &sources.files {
        fs::write(source_directory.join(name), content).map_err(failed)?;
    }
    let units = sources.files.iter().filter_map(|(name, _)| name.strip_suffix(".c"));
    let units: Vec<&str> = units.collect();
    compile_units(&source_directory, &units)?;
    let objects = units.iter().map(|unit| format!("{unit}.o"));
    let output = format!("../{}", sources.program);
    run(
        &source_directory,
        LINK.map(str::to_owned).into_iter().chain(["-o".to_owned(), output]).chain(objects),
    )?;
    fs::remove_dir_all(&source_directory).map_err(failed)
}

/// Each unit on its own, as many at a time as there are CPUs.
fn compile_units(directory: &Utf8Path, units: &[&str]) -> Result<(), GuestError> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            let entry = format!("{ENTRY}={}", entry_point(unit));
            run(directory, COMPILE.map(str::to_owned).into_iter().chain([entry, format!("{unit}.c")]))?;
        }
        Ok(())
    };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| worker.join().expect("a compiling thread panicked"));
        results.collect()
    })
}

fn run(directory: &Utf8Path, args: impl Iterator<Item = String>) -> Result<(), GuestError> {
    let mut command = CROSS_GCC.command()?;
    command.current_dir(directory).args(args);
    // These would add directories or flags of the host's own.
    for variable in ["CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH"] {
        command.env_remove(variable);
    }
    CROSS_GCC.stdout(&mut command)?;
    Ok(())
}

/// What of the compiler shows in its output: its version, and the C library that it links in.
fn compiler_identity() -> Result<String, GuestError> {
    let version = CROSS_GCC.stdout(CROSS_GCC.command()?.arg("--version"))?;
    let library = CROSS_GCC.stdout(CROSS_GCC.command()?.arg("-print-file-name=libc.a"))?;
    let library = Utf8PathBuf::from(String::from_utf8_lossy(&library).trim());
    let content = fs::read(&library).map_err(|source| GuestError::Io { path: library, source })?;
    Ok(format!("{} {}", sha256_hex(&version), sha256_hex(&content)))
}

fn source_hash(compiler: &str, sources: &Sources) -> String {
    let mut text = format!("{compiler}\n{}\n{}\n", [&COMPILE[..], &LINK].concat().join(" "), sources.program);
    text += &format!("{ENTRY}\n");
    for (name, content) in &sources.files {
        text += &format!("{} {name}\n", sha256_hex(content));
    }
    sha256_hex(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use include_dir::DirEntry;

    use super::*;
    use crate::cache::quiet;

    static ENTRIES: &[DirEntry<'_>] = &[
        DirEntry::Dir(Dir::new(
            "init",
            &[DirEntry::File(File::new("init/init.c", b"int main(void) { return 0; }\n"))],
        )),
        DirEntry::Dir(Dir::new(
            "stress",
            &[
                DirEntry::File(File::new(
                    "stress/one.c",
                    b"#include \"common.h\"\n#include \"one.args.h\"\nint PROGRAM_MAIN(void) { return 1; }\n",
                )),
                DirEntry::File(File::new(
                    "stress/two-three.c",
                    b"#include \"common.h\"\n#include \"two-three.args.h\"\nint PROGRAM_MAIN(void) { return 2; }\n",
                )),
                DirEntry::File(File::new(
                    "stress/all.c",
                    b"#define PROGRAM(name, main) int main(void);\n#include \"programs.h\"\n#undef PROGRAM\n\
                      #define PROGRAM(name, main) + main()\nint main(void) { return 0\n#include \"programs.h\"\n; }\n",
                )),
                DirEntry::File(File::new(
                    "stress/common.h",
                    b"enum { STRESS_FLAG };\nstruct stress_arg { const char *a; int b; const char *c, *d; long e, f; const char *g; };\n\
                      #pragma GCC diagnostic ignored \"-Wunused-variable\"\n",
                )),
                DirEntry::File(File::new("stress/programs.yaml", b"")),
            ],
        )),
        DirEntry::Dir(Dir::new("modules/uvsim", &[DirEntry::File(File::new(UVSIM_COMMANDS, b""))])),
        DirEntry::Dir(Dir::new(
            "interference",
            &[
                DirEntry::File(File::new(
                    "interference/beside.c",
                    b"#include \"common.h\"\n#include \"beside.args.h\"\n#include \"shared.h\"\nint PROGRAM_MAIN(void) { return 3; }\n",
                )),
                DirEntry::File(File::new("interference/shared.h", b"")),
            ],
        )),
    ];
    static GUESTS: Dir<'_> = Dir::new("", ENTRIES);

    fn catalog() -> Catalog {
        let text = "\
- name: one
  purpose: p
  kernel: k
  args:
    - {name: direct, kind: flag, help: h}
- name: two-three
  purpose: p
  kernel: k
";
        let beside = "- {name: beside, purpose: p, kernel: k}\n";
        Catalog::parse("programs.yaml", text).unwrap().with_interference("i.yaml", beside).unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        (directory, cache)
    }

    #[test]
    fn all_programs_are_in_one_file_each_with_its_arguments_and_its_own_main() {
        let sources = workload_sources(&GUESTS, &catalog()).unwrap();
        let names: Vec<_> = sources.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "all.c",
                "beside.args.h",
                "beside.c",
                "common.h",
                "one.args.h",
                "one.c",
                "programs.h",
                "shared.h",
                "two-three.args.h",
                "two-three.c",
                "uvsim_uapi.h"
            ]
        );
        let table = &sources.files.iter().find(|(name, _)| name == "programs.h").unwrap().1;
        let table = std::str::from_utf8(table).unwrap();
        assert!(table.ends_with(
            "PROGRAM(\"one\", main_one)\nPROGRAM(\"two-three\", main_two_three)\nPROGRAM(\"beside\", main_beside)\n"
        ));
    }

    #[test]
    fn a_program_without_a_source_is_named() {
        let other = "- {name: other, purpose: p, kernel: k}\n";
        let catalog = catalog().with_interference("i.yaml", other).unwrap();
        let error = workload_sources(&GUESTS, &catalog).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the source guests/interference/other.c is missing from farm's own data"
        );
    }

    #[test]
    fn two_builds_in_different_places_are_the_same_to_the_byte() {
        let (_one, first) = cache();
        let (_two, second) = cache();
        let [a, b] = [first, second].map(|cache| compile(&cache, &GUESTS, &catalog(), &quiet).unwrap());
        assert_ne!(a.init, b.init);
        let bytes =
            |programs: &Programs| [&programs.init, &programs.workload].map(|path| fs::read(path).unwrap());
        assert_eq!(bytes(&a), bytes(&b));
        // Big-endian ELF for machine 22, EM_S390.
        assert!(bytes(&a).iter().all(|elf| elf[..6] == *b"\x7fELF\x02\x02" && elf[18..20] == [0, 22]));
    }

    #[test]
    fn the_hash_covers_sources_names_and_compiler() {
        let sources = |file: &str, content: &[u8]| Sources {
            program: "p".to_owned(),
            files: vec![(file.to_owned(), content.to_vec())],
        };
        let base = source_hash("gcc", &sources("a.c", b"x"));
        assert_eq!(base, source_hash("gcc", &sources("a.c", b"x")));
        for other in [
            source_hash("gcc2", &sources("a.c", b"x")),
            source_hash("gcc", &sources("a.c", b"y")),
            source_hash("gcc", &sources("b.c", b"x")),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_source_that_does_not_compile_gives_the_compilers_words_and_leaves_no_entry() {
        let (_guard, cache) = cache();
        let sources =
            Sources { program: "bad".into(), files: vec![("bad.c".into(), b"int main(void) {".to_vec())] };
        let error = build_one(&cache, "gcc", &sources, &quiet).unwrap_err().to_string();
        assert!(error.contains("bad.c:1:") && error.contains("expected declaration"), "{error}");
        assert!(cache.entries(Kind::Program).unwrap().is_empty());
    }
}
