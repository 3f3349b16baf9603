//! Owns when the binary is built anew because of the UI it embeds. Knows no code.

/// Where the UI lies once it is built; before that, any change beside it may be the build.
const BUILT: &str = "web/dist";

fn main() {
    let watched = if std::path::Path::new(BUILT).exists() { BUILT } else { "web" };
    if std::path::Path::new(watched).exists() {
        println!("cargo::rerun-if-changed={watched}");
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
}
