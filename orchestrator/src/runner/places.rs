//! Where in the kernel's source a life's hits, and the CPUs of a silent guest, stand.

use super::guest::Guest;
use super::hang::{self, Stands};
use super::life::{Task, Trouble};
use crate::event::What;
use crate::kernel::{Place, Sources, Spot};
use crate::machine::{Call, Cpu, CpuState};
use crate::store::{CallRecord, CpuRecord, LifeRecord};
use crate::verdict::Ending;

/// Frames of a life's hits that are looked up in the kernel's debug information: those of sixty long reports. A guest in a
/// storm has thousands, which say the same.
const MOST_FRAMES: usize = 4096;

impl Task {
    /// Where the CPUs of a guest stand that hangs, or that stopped, perhaps without a word of why.
    pub(super) async fn stands(
        &self,
        guest: &Guest,
        ending: &Result<Ending, Trouble>,
        cpus: Option<CpuState>,
    ) -> Stands {
        match (ending, cpus) {
            (Ok(Ending::Hung | Ending::Panicked), Some(cpus)) => {
                self.ask(guest, move |sources| hang::stands(&cpus, sources)).await.unwrap_or_default()
            }
            _ => Stands::default(),
        }
    }

    /// What the CPUs of a guest were doing that crashed or hangs.
    pub(super) async fn cpus(&self, guest: &Guest, cpus: Option<CpuState>) -> Vec<CpuRecord> {
        let Some(CpuState { cpus, .. }) = cpus else { return Vec::new() };
        let plain = |cpu: &Cpu, places: &mut dyn FnMut(Call) -> Vec<Place>| CpuRecord {
            number: cpu.number,
            state: cpu.state.clone(),
            psw: cpu.psw,
            trace: cpu.trace.iter().map(|call| CallRecord { call: *call, places: places(*call) }).collect(),
        };
        let known = cpus.clone();
        let located = self.ask(guest, move |sources| {
            let mut places = |Call { address, returns }| sources.places_at(address - u64::from(returns));
            known.iter().map(|cpu| plain(cpu, &mut places)).collect()
        });
        located.await.unwrap_or_else(|| cpus.iter().map(|cpu| plain(cpu, &mut |_| Vec::new())).collect())
    }

    /// The record, with where in the source the traces of its hits stand.
    pub(super) async fn with_places(&self, mut record: LifeRecord) -> LifeRecord {
        let Ok(guest) = &self.assignment.guest else { return record };
        let mut room = MOST_FRAMES;
        let mut spots: Vec<Vec<Spot>> = Vec::new();
        for hit in &record.hits {
            let of_hit: Vec<Spot> = hit.judged.hit.spots().take(room).collect();
            room -= of_hit.len();
            spots.push(of_hit);
        }
        if room == MOST_FRAMES {
            return record;
        }
        let places = |sources: &mut Sources, spots: &Vec<Spot>| -> Vec<Vec<Place>> {
            spots.iter().map(|spot| sources.places(spot)).collect()
        };
        let located = self
            .ask(guest, move |sources| spots.iter().map(|of_hit| places(sources, of_hit)).collect::<Vec<_>>())
            .await;
        for (hit, places) in record.hits.iter_mut().zip(located.unwrap_or_default()) {
            if places.iter().any(|places| !places.is_empty()) {
                hit.places = places;
            }
        }
        record
    }

    /// Asks the kernel's files with debug information. That may take a second, in which other lives are to be listened to.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        guest: &Guest,
        question: impl FnOnce(&mut Sources) -> T + Send + 'static,
    ) -> Option<T> {
        let sources = guest.sources.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut sources = sources.lock();
            (question(&mut sources), sources.take_troubles())
        });
        let (answer, reasons) = match asked.await {
            Ok((answer, reasons)) => (Some(answer), reasons),
            Err(error) => (None, vec![format!("reading the debug information failed: {error}")]),
        };
        for reason in reasons {
            self.say(What::NotLocated { life: self.life, reason }).await;
        }
        answer
    }
}
