//! The directories that `assets` embeds are watched as a whole: the macro alone would not see a new file.

fn main() {
    for directory in ["guests", "kernels", "scenarios"] {
        println!("cargo::rerun-if-changed=../{directory}");
    }
}
