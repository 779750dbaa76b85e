//! What the CPUs were doing when a guest crashed or hung.

use std::fmt;

use qapi::qmp;
use serde::{Deserialize, Serialize};

use super::unwind::Call;

/// The registers' text is kept up to here: some 2.5 KiB for each of up to 248 CPUs.
const REGISTERS_LIMIT: usize = 1 << 20;

/// A program status word: what a CPU runs, and in what mode (z/Architecture Principles of Operation, chapter 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Psw {
    #[serde(with = "hex")]
    pub mask: u64,
    #[serde(with = "hex")]
    pub addr: u64,
}

/// One virtual CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    pub number: u32,
    /// QEMU's word: `operating`, `stopped`, `check-stop`, `load`, `uninitialized`.
    pub state: String,
    /// `None` if the monitor's text about this CPU was not understood; the text is kept all the same.
    pub psw: Option<Psw>,
    /// Where it is in the kernel, and the calls that brought it there, the innermost first. Empty if it is in user space.
    #[serde(default)]
    pub trace: Vec<Call>,
}

/// All CPUs of a paused guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// QEMU's word for the machine: `guest-panicked`, `paused`, `io-error`, …
    pub status: String,
    pub cpus: Vec<Cpu>,
    /// The monitor's `info registers -a`, as text that a terminal may show.
    pub registers: String,
}

impl CpuState {
    pub(super) fn new(status: &qmp::StatusInfo, cpus: &[qmp::CpuInfoFast], registers: &str) -> Self {
        let psws = psws(registers);
        let psw_of = |number| psws.iter().find(|(cpu, _)| *cpu == number).map(|(_, psw)| *psw);
        let mut cpus: Vec<Cpu> = cpus
            .iter()
            .filter_map(|cpu| match cpu {
                qmp::CpuInfoFast::s390x { base, s390x } => Some((base, s390x)),
                _ => None,
            })
            .filter_map(|(base, s390x)| {
                let number = u32::try_from(base.cpu_index).ok()?;
                Some(Cpu { number, state: name(s390x.cpu_state), psw: psw_of(number), trace: Vec::new() })
            })
            .collect();
        cpus.sort_by_key(|cpu| cpu.number);
        Self { status: name(status.status), cpus, registers: bounded(registers) }
    }
}

fn name(word: impl qapi::Enum) -> String {
    word.name().to_owned()
}

fn bounded(registers: &str) -> String {
    let kept = &registers[..registers.floor_char_boundary(REGISTERS_LIMIT)];
    super::process::escape_lines(kept.replace("\r\n", "\n").as_bytes())
}

/// The PSW of each CPU in the text of `info registers -a` (QEMU, target/s390x/cpu-dump.c):
/// `CPU#0`, then `PSW=mask 0002000180000000 addr 000000000010fdee cc 00`.
fn psws(registers: &str) -> Vec<(u32, Psw)> {
    let mut found = Vec::new();
    let mut cpu = None;
    for line in registers.lines() {
        if let Some(number) = line.strip_prefix("CPU#") {
            cpu = number.trim_end().parse().ok();
        } else if let (Some(number), Some(psw)) = (cpu, line.strip_prefix("PSW=").and_then(psw)) {
            found.push((number, psw));
        }
    }
    found
}

/// A register of a CPU in that text: `R15=0000000000f3fe08` among others in a line.
pub(super) fn register(registers: &str, number: u32, name: &str) -> Option<u64> {
    let heading = format!("CPU#{number}");
    let lines = registers.lines().skip_while(|line| line.trim_end() != heading).skip(1);
    let words = lines.take_while(|line| !line.starts_with("CPU#")).flat_map(str::split_ascii_whitespace);
    let value = words.filter_map(|word| word.split_once('=')).find(|(known, _)| *known == name)?.1;
    u64::from_str_radix(value, 16).ok()
}

fn psw(text: &str) -> Option<Psw> {
    let mut words = text.split_ascii_whitespace();
    let mut field = |name| {
        (words.next()? == name).then_some(())?;
        u64::from_str_radix(words.next()?, 16).ok()
    };
    Some(Psw { mask: field("mask")?, addr: field("addr")? })
}

impl fmt::Display for Psw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x} {:016x}", self.mask, self.addr)
    }
}

/// 64-bit words as hexadecimal text: as JSON numbers they would lose bits in many readers, and nobody knows a PSW
/// by its decimal.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::machine) fn serialize<S: Serializer>(word: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{word:016x}"))
    }

    pub(in crate::machine) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psws_of_all_cpus() {
        let text = "\r\nCPU#0\r\nPSW=mask 0002000180000000 addr 000000000010fdee cc 00\r\nR00=00\r\n\
                    CPU#1\r\nPSW=mask 0706c00180000000 addr 0000000000b2a3f6 cc 02\r\n";
        let expected = [
            (0, Psw { mask: 0x0002_0001_8000_0000, addr: 0x10_fdee }),
            (1, Psw { mask: 0x0706_c001_8000_0000, addr: 0xb2_a3f6 }),
        ];
        assert_eq!(psws(text), expected);
    }

    #[test]
    fn registers_are_those_of_the_cpu() {
        let text = "CPU#0\nPSW=mask 0 addr 0 cc 00\nR14=01 R15=0f\nC13=a0\nCPU#1\nR14=02 R15=1f\n";
        assert_eq!(register(text, 0, "R15"), Some(0xf));
        assert_eq!(register(text, 1, "R15"), Some(0x1f));
        assert_eq!(register(text, 0, "C13"), Some(0xa0));
        assert_eq!((register(text, 1, "C13"), register(text, 2, "R15")), (None, None));
    }

    #[test]
    fn other_text_gives_no_psw() {
        for text in [
            "",
            "CPU#0\nPSW=\n",
            "CPU#x\nPSW=mask 0 addr 0\n",
            "PSW=mask 0 addr 0\n",
            "CPU#0\nPSW=mask g addr 0\n",
        ] {
            assert_eq!(psws(text), [], "{text:?}");
        }
    }

    #[test]
    fn state_joins_qmp_and_registers() {
        let status = serde_json::from_str(r#"{"status": "guest-panicked", "running": false}"#).unwrap();
        // QEMU 10 gives the topology, too.
        let cpus: Vec<qmp::CpuInfoFast> = serde_json::from_str(
            r#"[{"thread-id": 2, "props": {"core-id": 1, "socket-id": 0}, "cpu-state": "stopped",
                 "qom-path": "/machine/1", "cpu-index": 1, "target": "s390x"},
                {"thread-id": 1, "props": {"core-id": 0}, "cpu-state": "operating",
                 "qom-path": "/machine/0", "cpu-index": 0, "target": "s390x"}]"#,
        )
        .unwrap();
        let registers = "CPU#0\r\nPSW=mask 0002000180000000 addr 000000000000dead cc 00\r\n\x1b";
        insta::assert_json_snapshot!(CpuState::new(&status, &cpus, registers), @r#"
        {
          "status": "guest-panicked",
          "cpus": [
            {
              "number": 0,
              "state": "operating",
              "psw": {
                "mask": "0002000180000000",
                "addr": "000000000000dead"
              },
              "trace": []
            },
            {
              "number": 1,
              "state": "stopped",
              "psw": null,
              "trace": []
            }
          ],
          "registers": "CPU#0\nPSW=mask 0002000180000000 addr 000000000000dead cc 00\n\\x1b"
        }
        "#);
    }
}
