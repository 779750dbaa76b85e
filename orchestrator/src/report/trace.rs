//! The trace of a hit, with where its frames stand in the source.

use crate::detect::{Frame, Reliability};
use crate::escape::escape;
use crate::kernel::Place;

/// One line for each frame, as the kernel wrote it but for its address, and indented behind it one for each place: where
/// the instruction stands, and where that was inlined.
pub fn trace_lines(frames: &[Frame], places: &[Vec<Place>]) -> Vec<String> {
    let of_frame = |(index, frame): (usize, &Frame)| {
        let places = places.get(index).map_or(&[][..], Vec::as_slice);
        let places = places.iter().map(|place| format!("  {}", escape(place.to_string().as_bytes())));
        std::iter::once(frame_text(frame)).chain(places).collect::<Vec<_>>()
    };
    frames.iter().enumerate().flat_map(of_frame).collect()
}

fn frame_text(frame: &Frame) -> String {
    let Frame { function, offset, size, module, reliability } = frame;
    let module = module.as_ref().map_or_else(String::new, |module| format!(" [{module}]"));
    let text = format!("{function}+{offset:#x}/{size:#x}{module}");
    let text = match reliability {
        Reliability::Reliable => text,
        Reliability::Unreliable => format!("({text})"),
    };
    escape(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stand_behind_their_frames() {
        let frame = |function: &str, module: Option<&str>, reliability| Frame {
            function: function.to_owned(),
            offset: 0x1a,
            size: 0x90,
            module: module.map(str::to_owned),
            reliability,
        };
        let frames = [
            frame("warn_here", Some("tripwire"), Reliability::Reliable),
            frame("old", None, Reliability::Unreliable),
            frame("caller", None, Reliability::Reliable),
        ];
        let place = |function: &str, file: &str, line| Place {
            function: function.to_owned(),
            file: Some(file.to_owned()),
            line,
        };
        let places = [
            vec![
                place("inlined", "a.h", Some(7)),
                place("warn_here", "guests/modules/tripwire/warn.c", Some(12)),
            ],
            Vec::new(),
            vec![place("caller", "fs/splice.c", None)],
        ];
        insta::assert_snapshot!(trace_lines(&frames, &places).join("\n"), @"
        warn_here+0x1a/0x90 [tripwire]
          inlined at a.h:7
          warn_here at guests/modules/tripwire/warn.c:12
        (old+0x1a/0x90)
        caller+0x1a/0x90
          caller in fs/splice.c
        ");
    }
}
