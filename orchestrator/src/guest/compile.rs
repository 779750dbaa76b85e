//! Init, the stress programs and what runs beside them, compiled for s390x from the sources in farm's own binary.
//!
//! The compiler runs in a directory of nothing but its sources and sees relative paths only, so the same
//! sources and compiler make the same bytes anywhere.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use include_dir::{Dir, File};

use super::GuestError;
use crate::cache::{Cache, Kind, Progress};
use crate::kernel::sha256_hex;
use crate::kernel::tool::CROSS_GCC;
use crate::scenario::programs::{Catalog, Program, header};

/// Every program is static: a guest has no libraries. A build id would only repeat what the hash of the file
/// says.
const FLAGS: [&str; 9] =
    ["-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-pthread", "-Wl,--build-id=none"];

/// The compiled programs, in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub init: Utf8PathBuf,
    /// By name.
    pub stress: Vec<(String, Utf8PathBuf)>,
    /// What runs beside them, by name.
    pub interference: Vec<(String, Utf8PathBuf)>,
}

/// Sources of one program: file name and content, in the order of the names.
struct Sources {
    program: String,
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
    let init = build(&init_sources(guests)?)?;
    let stress = catalog.programs().iter().map(|program| {
        let sources = stress_sources(guests, catalog, &program.name, &header(program))?;
        Ok((program.name.clone(), build(&sources)?))
    });
    let stress = stress.collect::<Result<_, GuestError>>()?;
    let interference = catalog.interference().iter().map(|program| {
        let sources = interference_sources(guests, catalog, &program.name, &header(program))?;
        Ok((program.name.clone(), build(&sources)?))
    });
    Ok(Programs { init, stress, interference: interference.collect::<Result<_, GuestError>>()? })
}

fn init_sources(guests: &Dir<'_>) -> Result<Sources, GuestError> {
    Ok(Sources { program: "init".to_owned(), files: files(guests, "init", |_| true)? })
}

/// The program's own file, what all programs share, and the header of its arguments.
fn stress_sources(
    guests: &Dir<'_>,
    catalog: &Catalog,
    name: &str,
    arguments: &str,
) -> Result<Sources, GuestError> {
    let files = own_and_shared(guests, "stress", catalog.programs(), Some(name))?;
    Ok(Sources::new(name, files, arguments))
}

/// The program's own file, what all interference shares, what all stress programs share, and the header.
fn interference_sources(
    guests: &Dir<'_>,
    catalog: &Catalog,
    name: &str,
    arguments: &str,
) -> Result<Sources, GuestError> {
    let mut files = own_and_shared(guests, "interference", catalog.interference(), Some(name))?;
    files.extend(own_and_shared(guests, "stress", catalog.programs(), None)?);
    Ok(Sources::new(name, files, arguments))
}

impl Sources {
    fn new(program: &str, mut files: Vec<(String, Vec<u8>)>, arguments: &str) -> Self {
        files.push((format!("{program}.args.h"), arguments.as_bytes().to_vec()));
        files.sort();
        Self { program: program.to_owned(), files }
    }
}

/// The files of a directory but for those of other programs.
fn own_and_shared(
    guests: &Dir<'_>,
    directory: &str,
    programs: &[Program],
    name: Option<&str>,
) -> Result<Vec<(String, Vec<u8>)>, GuestError> {
    let of_another = |file: &str| {
        let stem = file.strip_suffix(".c");
        programs.iter().any(|program| Some(&*program.name) == stem && Some(&*program.name) != name)
    };
    let files = files(guests, directory, |file| !of_another(file))?;
    match name.map(|name| format!("{name}.c")) {
        Some(own) if !files.iter().any(|(file, _)| *file == own) => {
            Err(GuestError::NoSource { path: format!("guests/{directory}/{own}") })
        }
        _ => Ok(files),
    }
}

fn files(
    guests: &Dir<'_>,
    directory: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Vec<u8>)>, GuestError> {
    let missing = || GuestError::NoSource { path: format!("guests/{directory}") };
    let file_name =
        |file: &File<'_>| file.path().file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let mut files: Vec<_> = guests
        .get_dir(directory)
        .ok_or_else(missing)?
        .files()
        .filter_map(|file| Some((file_name(file)?, file.contents().to_vec())))
        .filter(|(name, _)| (name.ends_with(".c") || name.ends_with(".h")) && wanted(name))
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
    let units = sources.files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".c"));
    let output = format!("../{}", sources.program);
    let mut command = CROSS_GCC.command()?;
    command.current_dir(&source_directory).args(FLAGS).args(["-I", ".", "-o", &output]).args(units);
    // These would add directories or flags of the host's own.
    for variable in ["CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH"] {
        command.env_remove(variable);
    }
    CROSS_GCC.stdout(&mut command)?;
    fs::remove_dir_all(&source_directory).map_err(failed)
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
    let mut text = format!("{compiler}\n{}\n{}\n", FLAGS.join(" "), sources.program);
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
                DirEntry::File(File::new("stress/one.c", b"#include \"common.h\"\n#include \"one.args.h\"\n")),
                DirEntry::File(File::new("stress/two.c", b"#include \"common.h\"\n#include \"two.args.h\"\n")),
                DirEntry::File(File::new("stress/common.c", b"int main(void) { return 0; }\n")),
                DirEntry::File(File::new(
                    "stress/common.h",
                    b"enum { STRESS_FLAG };\nstruct stress_arg { const char *a; int b; const char *c, *d; long e, f; const char *g; };\n\
                      #pragma GCC diagnostic ignored \"-Wunused-variable\"\n",
                )),
                DirEntry::File(File::new("stress/programs.yaml", b"")),
            ],
        )),
        DirEntry::Dir(Dir::new(
            "interference",
            &[
                DirEntry::File(File::new(
                    "interference/beside.c",
                    b"#include \"common.h\"\n#include \"beside.args.h\"\n#include \"shared.h\"\n",
                )),
                DirEntry::File(File::new("interference/other.c", b"")),
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
- name: two
  purpose: p
  kernel: k
";
        let beside = "- {name: beside, purpose: p, kernel: k}\n- {name: other, purpose: p, kernel: k}\n";
        Catalog::parse("programs.yaml", text).unwrap().with_interference("i.yaml", beside).unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        (directory, cache)
    }

    #[test]
    fn a_program_is_built_from_its_own_file_and_what_all_share() {
        let sources = stress_sources(&GUESTS, &catalog(), "one", "/* args */").unwrap();
        let names: Vec<_> = sources.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["common.c", "common.h", "one.args.h", "one.c"]);
        let sources = interference_sources(&GUESTS, &catalog(), "beside", "/* args */").unwrap();
        let names: Vec<_> = sources.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["beside.args.h", "beside.c", "common.c", "common.h", "shared.h"]);
        let error = interference_sources(&GUESTS, &catalog(), "one", "").err().unwrap();
        assert_eq!(error.to_string(), "the source guests/interference/one.c is missing from farm's own data");
        let error = stress_sources(&GUESTS, &catalog(), "three", "").err().unwrap();
        assert_eq!(error.to_string(), "the source guests/stress/three.c is missing from farm's own data");
    }

    #[test]
    fn two_builds_in_different_places_are_the_same_to_the_byte() {
        let (_one, first) = cache();
        let (_two, second) = cache();
        let [a, b] = [first, second].map(|cache| compile(&cache, &GUESTS, &catalog(), &quiet).unwrap());
        assert_ne!(a.init, b.init);
        let bytes = |programs: &Programs| {
            let others = programs.stress.iter().chain(&programs.interference).map(|(_, path)| path);
            others.chain([&programs.init]).map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
        };
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
