//! `farm scan`: the kernel's complaints in a log that is there already.

use std::fs::File;
use std::io::{self, Read};

use camino::Utf8PathBuf;
use serde::Serialize;

use super::args::ScanArgs;
use super::environment::Environment;
use super::output;
use crate::detect::{Frame, Hit, Reliability, Scan};
use crate::error::{ExitCode, Failure};
use crate::kernel::{Place, Pointer, Sources, SourcesError};

/// What is read at once. Larger pieces are no faster.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
struct ReadError {
    path: Utf8PathBuf,
    source: io::Error,
}

impl From<SourcesError> for Failure {
    fn from(error: SourcesError) -> Self {
        Failure::of(ExitCode::Usage, &error)
            .hint("--vmlinux wants the kernel's ELF file with symbols, as its build leaves it or a -dbg package has it")
    }
}

pub(super) fn scan(environment: &Environment, options: &ScanArgs) -> Result<ExitCode, Failure> {
    let sources = options.vmlinux.as_deref().map(Sources::of_vmlinux).transpose()?;
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
            let traced = Traced::new(&hit, sources.as_ref());
            if environment.json {
                output::json_line(&traced)?;
            } else {
                output::text(&format!("{}{}", if found > 0 { "\n" } else { "" }, text(&traced)))?;
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

/// A hit, and what its kernel's vmlinux tells of its trace.
#[derive(Serialize)]
struct Traced<'a> {
    #[serde(flatten)]
    hit: &'a Hit,
    /// For each frame where its instruction stands in the source, and behind that where it was inlined.
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<Vec<Vec<Place>>>,
}

impl<'a> Traced<'a> {
    fn new(hit: &'a Hit, sources: Option<&Sources>) -> Self {
        let places = sources.map(|sources| {
            let frames = hit.frames.iter().enumerate();
            frames.map(|(index, frame)| places(hit, index, frame, sources)).collect()
        });
        Self { hit, places }
    }
}

fn places(hit: &Hit, index: usize, frame: &Frame, sources: &Sources) -> Vec<Place> {
    // A module's functions are in no vmlinux.
    if frame.module.is_some() {
        return Vec::new();
    }
    let pointer = if index == 0 && is_at_fault(hit) { Pointer::At } else { Pointer::Behind };
    sources.places(&frame.function, frame.offset, frame.size, pointer)
}

/// Whether a trace begins with the instruction that faulted. Exceptions of address translation are nullifying: the
/// PSW still points at the instruction, and not behind it (z/Architecture Principles of Operation, "Types of
/// Instruction Ending").
fn is_at_fault(hit: &Hit) -> bool {
    const NULLIFYING: [&str; 6] = ["0010", "0011", "0038", "0039", "003a", "003b"];
    let codes = hit.text.lines().filter_map(|line| line.strip_prefix("Oops: ")?.split(' ').next());
    codes.into_iter().any(|code| NULLIFYING.contains(&code))
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
    for (index, frame) in hit.frames.iter().enumerate().filter(|_| traced.places.is_some()) {
        let key = if index == 0 { "trace" } else { "" };
        let places = traced.places.iter().filter_map(|places| places.get(index)).flatten();
        line(key, &frame_text(frame));
        for place in places {
            line("", &format!("  {place}"));
        }
    }
    out
}

fn frame_text(frame: &Frame) -> String {
    let Frame { function, offset, size, module, reliability } = frame;
    let module = module.as_ref().map_or_else(String::new, |module| format!(" [{module}]"));
    match reliability {
        Reliability::Reliable => format!("{function}+{offset:#x}/{size:#x}{module}"),
        Reliability::Unreliable => format!("({function}+{offset:#x}/{size:#x}{module})"),
    }
}
