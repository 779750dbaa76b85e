//! What a life boots: prepared in its directory just before it starts, removed when it is over.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use crate::cache::{Cache, quiet};
use crate::guest::{
    CellJob, GuestError, Job, JobRequest, LiteImage, disk_template, fresh_disk, write_initrd,
};
use crate::kernel::{Kernel, Symbols};
use crate::machine::{BY_HAND, Boot, CommandLineTooLong, Qemu, Spec, quote, script};
use crate::plan::{Cell, LifeId};
use crate::store::{LifeFiles, StoreError};

/// What all lives of a kernel share.
#[derive(Debug, Clone)]
pub struct Guest {
    pub kernel: Kernel,
    pub image: LiteImage,
    pub qemu: Qemu,
    pub symbols: Symbols,
    pub cache: Cache,
}

/// A guest ready to start, and its scratch files.
pub(super) struct PreparedGuest {
    pub(super) spec: Spec,
    scratch: Vec<Utf8PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    CommandLine(#[from] CommandLineTooLong),
    #[error("cannot remove {path}")]
    Remove { path: Utf8PathBuf, source: io::Error },
}

impl Guest {
    /// Makes initrd and disks for the cell's job in the life's directory.
    pub(super) fn prepare(
        &self,
        cell: &Cell,
        life: &LifeId,
        files: &LifeFiles,
    ) -> Result<PreparedGuest, PrepareError> {
        let job = CellJob::new(request(cell, life), &self.image)?;
        self.prepare_job(cell, &job, files)
    }

    /// The same, with a shell in the place of the job's steps.
    pub(super) fn prepare_shell(
        &self,
        cell: &Cell,
        life: &LifeId,
        files: &LifeFiles,
    ) -> Result<PreparedGuest, PrepareError> {
        let job = Job::shell(request(cell, life), &self.image)?;
        self.prepare_job(cell, &CellJob { job, executables: Vec::new() }, files)
    }

    fn prepare_job(
        &self,
        cell: &Cell,
        job: &CellJob,
        files: &LifeFiles,
    ) -> Result<PreparedGuest, PrepareError> {
        let mut prepared = PreparedGuest { spec: self.spec(cell, files.directory()), scratch: Vec::new() };
        match self.make_files(cell, job, files, &mut prepared) {
            Ok(()) => Ok(prepared),
            Err(error) => {
                prepared.remove()?;
                Err(error)
            }
        }
    }

    /// The machine, with its scratch files in `directory`.
    fn spec(&self, cell: &Cell, directory: &Utf8Path) -> Spec {
        Spec {
            qemu: self.qemu.clone(),
            accel: cell.shape.accel,
            threads: cell.shape.threads,
            cpu_model: cell.shape.cpu_model.clone(),
            cpus: cell.shape.cpus,
            memory_mib: cell.shape.memory_mib,
            boot: Boot::Direct {
                kernel: self.kernel.boot.clone(),
                initrd: Some(directory.join("initrd")),
                kernel_args: cell.shape.kernel_args.clone(),
            },
            disks: (0..cell.shape.disks.len())
                .map(|number| directory.join(format!("disk{number}.raw")))
                .collect(),
            schedule: cell.schedule,
        }
    }

    fn make_files(
        &self,
        cell: &Cell,
        job: &CellJob,
        files: &LifeFiles,
        prepared: &mut PreparedGuest,
    ) -> Result<(), PrepareError> {
        let archive = job.archive()?;
        files.text("job.txt", &job.job.text()?)?;
        files.bytes("job.cpio", &archive)?;
        let initrd = files.path("initrd");
        prepared.scratch.push(initrd.clone());
        write_initrd(&self.image, &archive, &initrd)?;
        for (disk, path) in cell.shape.disks.iter().zip(&prepared.spec.disks) {
            prepared.scratch.push(path.clone());
            fresh_disk(&self.cache, *disk, path, &quiet)?;
        }
        files.text("command.sh", &self.script(cell)?)?;
        Ok(())
    }

    /// The same guest as a shell script, which first makes the scratch files that farm removes.
    fn script(&self, cell: &Cell) -> Result<String, CommandLineTooLong> {
        let spec = self.spec(cell, Utf8Path::new(BY_HAND));
        let mut preparation =
            vec![format!("cat {} job.cpio > {BY_HAND}/initrd", quote(self.image.path.as_str()))];
        for (disk, path) in cell.shape.disks.iter().zip(&spec.disks) {
            preparation.push(match disk_template(&self.cache, *disk) {
                Some(template) => format!("cp --sparse=always {} {path}", quote(template.as_str())),
                None => format!("rm -f {path} && truncate -s {}M {path}", disk.size_mib),
            });
        }
        script(&spec, &preparation)
    }
}

fn request<'a>(cell: &'a Cell, life: &LifeId) -> JobRequest<'a> {
    JobRequest {
        cell: life.to_string(),
        disks: &cell.shape.disks,
        modules: &cell.scenario.modules,
        steps: &cell.steps,
        seed: cell.seed,
        heartbeat: cell.scenario.heartbeat,
        epoch: Timestamp::now().as_second(),
    }
}

impl PreparedGuest {
    /// Removes the scratch files: they are big, and can be made again from the cell.
    pub(super) fn remove(self) -> Result<(), PrepareError> {
        for path in self.scratch {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(PrepareError::Remove { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}
