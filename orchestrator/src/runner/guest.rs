//! What a life boots: prepared in its directory just before it starts, removed when it is over.

use std::fs;
use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use crate::cache::{Cache, quiet};
use crate::guest::{
    CellJob, Entropy, Extent, GuestError, Job, JobRequest, LiteImage, SHARE_TAG, disk_template, fresh_disk,
    fresh_share, lay_out, share_command, write_initrd,
};
use crate::kernel::{Kernel, SharedSources, sha256_hex};
use crate::machine::{
    BY_HAND, Boot, CommandLineTooLong, Feature, KERNEL_ARGUMENTS, Memory, Qemu, Spec, Stub, quote, script,
};
use crate::plan::{Cell, LifeId, Shape};
use crate::store::{LifeFiles, StoreError};

const RANDOM: &str = "/dev/urandom";
/// What the wall clock of a guest is set to whose schedule is deterministic: 2026-01-02, some time after its boot.
const EXACT_EPOCH: i64 = 1_767_312_000;

/// What all lives of a kernel share.
#[derive(Debug, Clone)]
pub struct Guest {
    pub kernel: Kernel,
    pub image: LiteImage,
    pub qemu: Qemu,
    /// Of the kernel and the modules that its image has, farm's own among them.
    pub sources: SharedSources,
    pub cache: Cache,
    /// None: the cell makes its job and its disks.
    pub brought: Option<Brought>,
}

/// What a guest has that was not made here, from its cell.
#[derive(Debug, Clone)]
pub struct Brought {
    /// The archive with the job, as it once ran.
    pub job: Vec<u8>,
    /// Of the formatted disks that are not made here either: number, file with the pieces, where they belong.
    pub disks: Vec<(usize, Utf8PathBuf, Vec<Extent>)>,
}

/// A guest ready to start, and its scratch files.
pub(super) struct PreparedGuest {
    pub(super) spec: Spec,
    /// What nobody needs by name once QEMU has opened it.
    scratch: Scratch,
    /// What QEMU opens again and again while the guest runs.
    served: Scratch,
}

/// Files and directories that are big, and can be made again from the cell.
#[derive(Default)]
pub(super) struct Scratch(Vec<Utf8PathBuf>);

/// To be raised whenever the same parts make another saved guest.
const SAVED_FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    CommandLine(#[from] CommandLineTooLong),
    #[error("cannot read {RANDOM}")]
    Random(#[source] io::Error),
    #[error("cannot remove {path}")]
    Remove { path: Utf8PathBuf, source: io::Error },
}

impl Guest {
    /// Writes down the cell's job, and gives the archive with it.
    pub(super) fn job(&self, cell: &Cell, life: &LifeId, files: &LifeFiles) -> Result<Vec<u8>, PrepareError> {
        if let Some(brought) = &self.brought {
            files.bytes("job.cpio", &brought.job)?;
            return Ok(brought.job.clone());
        }
        let job = CellJob::new(request(cell, life)?, &self.image)?;
        self.write_job(cell, &job, files)
    }

    /// What init is told in a life of the cell.
    pub fn job_of(&self, cell: &Cell) -> Result<Job, PrepareError> {
        let life = LifeId { cell: cell.id, number: 1 };
        Ok(CellJob::new(request(cell, &life)?, &self.image)?.job)
    }

    /// Makes what the guest needs in the life's directory: disks and, if it boots for a life, an initrd with the job.
    pub(super) fn prepare(
        &self,
        cell: &Cell,
        memory: Memory,
        job: &[u8],
        files: &LifeFiles,
    ) -> Result<PreparedGuest, PrepareError> {
        let spec = self.spec(cell, memory, files.directory());
        let mut prepared = PreparedGuest { spec, scratch: Scratch::default(), served: Scratch::default() };
        match self.make_files(cell, job, files, &mut prepared) {
            Ok(()) => Ok(prepared),
            Err(error) => {
                prepared.opened()?.remove()?;
                Err(error)
            }
        }
    }

    /// Names the saved guest that the cell can go on from: all that shows in its state went into it.
    pub(super) fn saved_key(&self, cell: &Cell) -> String {
        let Shape { cpus, memory_mib, disks, share, kernel_args, accel, threads, cpu_model, qemu: _ } =
            &cell.shape;
        let disks: Vec<u32> = disks.iter().map(|disk| disk.size_mib).collect();
        let described = format!(
            "{SAVED_FORMAT} {} {}\n{} {}\n{cpus} {memory_mib} {disks:?} {kernel_args:?} {KERNEL_ARGUMENTS:?}\n\
             {accel:?} {threads:?} {cpu_model} {:?}{}",
            self.qemu.full_version(),
            self.qemu.binary,
            cell.kernel.sha256,
            self.image.sha256,
            cell.turns().map(|turns| turns.shift),
            if *share { " share" } else { "" }
        );
        format!("{}-{}", self.kernel.key.release, &sha256_hex(described.as_bytes())[..32])
    }

    /// The same, with a shell in the place of the job's steps.
    pub(super) fn prepare_shell(
        &self,
        cell: &Cell,
        life: &LifeId,
        files: &LifeFiles,
    ) -> Result<PreparedGuest, PrepareError> {
        let job = Job::shell(request(cell, life)?, &self.image)?;
        // The user's own programs are there to be started by hand.
        let CellJob { executables, .. } = CellJob::new(request(cell, life)?, &self.image)?;
        let archive = self.write_job(cell, &CellJob { job, executables }, files)?;
        self.prepare(cell, Memory::Fresh, &archive, files)
    }

    fn write_job(&self, cell: &Cell, job: &CellJob, files: &LifeFiles) -> Result<Vec<u8>, PrepareError> {
        let archive = job.archive()?;
        files.text("job.txt", &job.job.text()?)?;
        files.bytes("job.cpio", &archive)?;
        files.text("command.sh", &self.script(cell)?)?;
        Ok(archive)
    }

    /// The machine for a script that has its scratch files in its working directory and the kernel elsewhere. What belongs to
    /// farm's own QEMU is left out: another starts it.
    pub fn unattended(&self, cell: &Cell, kernel: &Utf8Path) -> Spec {
        let spec = self.spec(cell, Memory::Fresh, Utf8Path::new(""));
        let boot = Boot::Direct {
            kernel: kernel.to_owned(),
            initrd: Some("initrd".into()),
            kernel_args: cell.shape.kernel_args.clone(),
        };
        let qemu = Qemu { data: None, sandbox: Feature::Absent, ..spec.qemu };
        Spec { qemu, boot, ..spec }
    }

    /// The machine, with its scratch files in `directory`.
    fn spec(&self, cell: &Cell, memory: Memory, directory: &Utf8Path) -> Spec {
        let initrd = match memory {
            Memory::Fresh => directory.join("initrd"),
            // A saved guest's job comes by way of its memory.
            Memory::ToSave(_) | Memory::Saved(_) => self.image.path.clone(),
        };
        Spec {
            qemu: self.qemu.clone(),
            accel: cell.shape.accel,
            threads: cell.shape.threads,
            cpu_model: cell.shape.cpu_model.clone(),
            cpus: cell.shape.cpus,
            memory_mib: cell.shape.memory_mib,
            boot: Boot::Direct {
                kernel: self.kernel.boot.clone(),
                initrd: Some(initrd),
                kernel_args: cell.shape.kernel_args.clone(),
            },
            disks: (0..cell.shape.disks.len())
                .map(|number| directory.join(format!("disk{number}.raw")))
                .collect(),
            share: cell.shape.share.then(|| directory.join(SHARE_TAG)),
            turns: cell.turns(),
            memory,
            recording: None,
            stub: Stub::Absent,
        }
    }

    fn make_files(
        &self,
        cell: &Cell,
        job: &[u8],
        files: &LifeFiles,
        prepared: &mut PreparedGuest,
    ) -> Result<(), PrepareError> {
        if let Memory::Fresh = prepared.spec.memory {
            let initrd = files.path("initrd");
            prepared.scratch.0.push(initrd.clone());
            write_initrd(&self.image, job, &initrd)?;
        }
        let brought = self.brought.iter().flat_map(|brought| &brought.disks);
        let brought: Vec<_> = brought.collect();
        for (number, (disk, path)) in cell.shape.disks.iter().zip(&prepared.spec.disks).enumerate() {
            prepared.scratch.0.push(path.clone());
            match brought.iter().find(|(of, ..)| *of == number) {
                Some((_, pieces, extents)) => lay_out(pieces, extents, disk.size_mib, path)?,
                None => fresh_disk(&self.cache, *disk, path, &quiet)?,
            }
        }
        if let Some(share) = &prepared.spec.share {
            prepared.served.0.push(share.clone());
            fresh_share(share)?;
        }
        Ok(())
    }

    /// The same guest as a shell script, which first makes the scratch files that farm removes.
    fn script(&self, cell: &Cell) -> Result<String, CommandLineTooLong> {
        let spec = self.spec(cell, Memory::Fresh, Utf8Path::new(BY_HAND));
        let mut preparation =
            vec![format!("cat {} job.cpio > {BY_HAND}/initrd", quote(self.image.path.as_str()))];
        for (disk, path) in cell.shape.disks.iter().zip(&spec.disks) {
            preparation.push(match disk_template(&self.cache, *disk) {
                Some(template) => format!("cp --sparse=always {} {path}", quote(template.as_str())),
                None => format!("rm -f {path} && truncate -s {}M {path}", disk.size_mib),
            });
        }
        preparation.extend(spec.share.as_deref().map(share_command));
        script(&spec, &preparation)
    }
}

fn request<'a>(cell: &'a Cell, life: &LifeId) -> Result<JobRequest<'a>, PrepareError> {
    // Where the cell decides every bit, nothing may tell one life from the next.
    let (name, delay, epoch, entropy) = match cell.turns() {
        Some(turns) => (cell.id.to_string(), turns.delay, EXACT_EPOCH, turns.entropy),
        None => (life.to_string(), 0, Timestamp::now().as_second(), random()?),
    };
    Ok(JobRequest {
        cell: name,
        disks: &cell.shape.disks,
        share: cell.shape.share,
        modules: cell.modules(),
        sets: cell.sets(),
        trace: cell.scenario.trace.clone(),
        steps: &cell.steps,
        seed: cell.seed,
        heartbeat: cell.scenario.heartbeat,
        delay,
        epoch,
        entropy,
    })
}

fn random() -> Result<Entropy, PrepareError> {
    let mut entropy = Entropy::default();
    let mut random = fs::File::open(RANDOM).map_err(PrepareError::Random)?;
    random.read_exact(&mut entropy).map_err(PrepareError::Random)?;
    Ok(entropy)
}

impl PreparedGuest {
    /// Removes the scratch files that nobody needs by name once QEMU has opened them. What comes back is to be removed when
    /// the guest is gone.
    pub(super) fn opened(self) -> Result<Scratch, PrepareError> {
        self.scratch.remove()?;
        Ok(self.served)
    }
}

impl Scratch {
    pub(super) fn remove(mut self) -> Result<(), PrepareError> {
        for path in std::mem::take(&mut self.0) {
            remove(&path).map_err(|source| PrepareError::Remove { path, source })?;
        }
        Ok(())
    }
}

/// An interrupt may give a guest up while QEMU starts.
impl Drop for Scratch {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = remove(path) {
                tracing::warn!(%path, %error, "a scratch file stays");
            }
        }
    }
}

fn remove(path: &Utf8Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_files_and_directories_go_when_a_guest_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8PathBuf::try_from(directory.path().join(name)).unwrap();
        fs::write(path("initrd"), "bytes").unwrap();
        fs::write(path("disk0.raw"), "bytes").unwrap();
        fresh_share(&path("share")).unwrap();
        drop(Scratch(vec![path("initrd"), path("never-made"), path("disk0.raw"), path("share")]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
