//! `farm scan`: the kernel's complaints in a log that is there already.

use std::fs::File;
use std::io::{self, Read};

use camino::Utf8PathBuf;
use serde::Serialize;

use super::args::ScanArgs;
use super::environment::Environment;
use super::output;
use crate::detect::{Hit, Scan};
use crate::error::{ExitCode, Failure};
use crate::kernel::{DebugFileError, DebugFiles, Place, Sources};
use crate::report::trace_lines;

/// What is read at once. Larger pieces are no faster.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
struct ReadError {
    path: Utf8PathBuf,
    source: io::Error,
}

impl From<DebugFileError> for Failure {
    fn from(error: DebugFileError) -> Self {
        Failure::of(ExitCode::Usage, &error)
            .hint("--vmlinux wants the kernel's ELF file with symbols, as its build leaves it or a -dbg package has it")
    }
}

pub(super) fn scan(environment: &Environment, options: &ScanArgs) -> Result<ExitCode, Failure> {
    let mut sources = sources(options)?;
    let path = options.file.as_path();
    let unreadable =
        |source: io::Error| Failure::of(ExitCode::Usage, &ReadError { path: path.to_owned(), source });
    let mut reader: Box<dyn Read> = match path.as_str() {
        "-" => Box::new(io::stdin().lock()),
        file => Box::new(File::open(file).map_err(unreadable)?),
    };
    let (mut scan, mut hits) = (Scan::default(), Vec::new());
    let mut chunk = vec![0; CHUNK];
    let mut found = 0_u64;
    loop {
        let count = match reader.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count.map_err(unreadable)?,
        };
        match count {
            0 => scan.finish(&mut hits),
            _ => scan.push(&chunk[..count], &mut hits),
        }
        for hit in hits.drain(..) {
            let traced = Traced::new(&hit, sources.as_mut());
            if environment.json {
                output::json_line(&traced)?;
            } else {
                output::text(&format!("{}{}", if found > 0 { "\n" } else { "" }, text(&traced)))?;
            }
            for trouble in sources.iter_mut().flat_map(Sources::take_troubles) {
                output::note(&format!("not all traces show their source: {trouble}"));
            }
            found += 1;
        }
        if count == 0 {
            break;
        }
    }
    if found == 0 {
        if !environment.json {
            output::note(&format!("no hits in {path}"));
        }
        return Ok(ExitCode::Passed);
    }
    Ok(ExitCode::Hits)
}

/// The kernel's files, if any are named.
fn sources(options: &ScanArgs) -> Result<Option<Sources>, Failure> {
    let files = DebugFiles { vmlinux: options.vmlinux.clone(), modules: options.modules.clone() };
    if files == DebugFiles::default() {
        return Ok(None);
    }
    let mut sources = Sources::new(files);
    sources.open_vmlinux()?;
    Ok(Some(sources))
}

/// A hit, and what its kernel's files tell of its trace.
#[derive(Serialize)]
struct Traced<'a> {
    #[serde(flatten)]
    hit: &'a Hit,
    /// For each frame where its instruction stands in the source, and behind that where it was inlined.
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<Vec<Vec<Place>>>,
}

impl<'a> Traced<'a> {
    fn new(hit: &'a Hit, sources: Option<&mut Sources>) -> Self {
        let places = sources.map(|sources| hit.spots().map(|spot| sources.places(&spot)).collect());
        Self { hit, places }
    }
}

fn text(traced: &Traced<'_>) -> String {
    let hit = traced.hit;
    let mut out = format!("{}\n", hit.title);
    let mut line = |key: &str, value: &str| out += &format!("  {key:<12} {value}\n");
    line("kind", hit.kind.as_str());
    line("fingerprint", hit.fingerprint.as_str());
    if let Some(frame) = &hit.frame {
        line("function", frame);
    }
    if let Some(location) = &hit.location {
        line("source", &location.to_string());
    }
    if let Some(at) = hit.at {
        line("at", &at.to_string());
    }
    let number = hit.line.map_or_else(String::new, |line| format!("line {line}, "));
    line("place", &format!("{number}bytes {} to {}", hit.start, hit.end));
    if hit.truncated {
        line("truncated", "the report is not all there");
    }
    for (index, frame) in traced.places.iter().flat_map(|places| trace_lines(&hit.frames, places)).enumerate()
    {
        line(if index == 0 { "trace" } else { "" }, &frame);
    }
    out
}
