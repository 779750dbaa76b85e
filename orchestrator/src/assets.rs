//! The repository's data, inside the binary: an installed `farm` needs no checkout.

use include_dir::{Dir, include_dir};

/// Sources of what runs in a guest, and the image manifests.
pub static GUESTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../guests");
/// The scenarios that have names.
pub static SCENARIOS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../scenarios");

/// The kernels that have names.
pub const KERNELS_YAML: &str = include_str!("../../kernels/kernels.yaml");
/// Pieces of kernels' configurations.
static CONFIGS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../kernels/configs");

/// The piece of that name.
pub fn fragment(name: &str) -> Option<String> {
    CONFIGS.get_file(format!("{name}.config"))?.contents_utf8().map(str::to_owned)
}

/// What settles configurations, in C, for this host.
pub const OLDDEFCONFIG: &str = include_str!("../../kernels/kconfig/olddefconfig.c");

/// The planted bugs by name, and their patches.
pub const MUTANTS_YAML: &str = include_str!("../../kernels/mutants/mutants.yaml");
static MUTANTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../kernels/mutants");

/// The patch of that file name.
pub fn mutant(file: &str) -> Option<Vec<u8>> {
    MUTANTS.get_file(file).map(|file| file.contents().to_vec())
}

/// The stress programs and their options, and the file's name for messages.
pub const PROGRAMS_YAML: (&str, &str) =
    ("guests/stress/programs.yaml", include_str!("../../guests/stress/programs.yaml"));
/// The programs that run beside a step and their options, and the file's name for messages.
pub const INTERFERENCE_YAML: (&str, &str) =
    ("guests/interference/programs.yaml", include_str!("../../guests/interference/programs.yaml"));
/// What is in the image `lite`.
pub const LITE_YAML: &str = include_str!("../../guests/images/lite.yaml");
