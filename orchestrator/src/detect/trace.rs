//! What the frames of a hit's trace point to.

use super::hit::{Frame, Hit};
use crate::kernel::{Pointer, Spot};

impl Hit {
    /// For each frame, the instruction that it names.
    pub fn spots(&self) -> impl Iterator<Item = Spot> {
        let first = if self.begins_at_fault() { Pointer::At } else { Pointer::Behind };
        let pointers = std::iter::once(first).chain(std::iter::repeat(Pointer::Behind));
        self.frames.iter().zip(pointers).map(|(frame, pointer)| {
            let Frame { function, offset, size, module, reliability: _ } = frame.clone();
            Spot { function, offset, size, module, pointer }
        })
    }

    /// Whether the trace begins with the instruction that faulted. Exceptions of address translation are nullifying: the
    /// PSW still points at the instruction, and not behind it (z/Architecture Principles of Operation, "Types of
    /// Instruction Ending").
    fn begins_at_fault(&self) -> bool {
        const NULLIFYING: [&str; 6] = ["0010", "0011", "0038", "0039", "003a", "003b"];
        let mut codes = self.text.lines().filter_map(|line| line.strip_prefix("Oops: ")?.split(' ').next());
        codes.any(|code| NULLIFYING.contains(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Reliability;

    #[test]
    fn only_the_frame_of_a_nullifying_fault_is_the_instruction_itself() {
        let frame = Frame {
            function: "f".to_owned(),
            offset: 2,
            size: 8,
            module: Some("m".to_owned()),
            reliability: Reliability::Reliable,
        };
        let pointers = |text: &str| {
            let hit = Hit { frames: vec![frame.clone(); 2], ..Hit::hang("f").with_text(text) };
            hit.spots().map(|spot| spot.pointer).collect::<Vec<_>>()
        };
        use Pointer::{At, Behind};
        // A translation exception, an illegal operation, and a warning.
        assert_eq!(pointers("Oops: 0011 ilc:3 [#1] SMP"), [At, Behind]);
        assert_eq!(pointers("Oops: 0001 ilc:1 [#1] SMP"), [Behind, Behind]);
        assert_eq!(pointers("WARNING: CPU: 0"), [Behind, Behind]);
    }
}
