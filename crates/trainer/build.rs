//! Lets the linker fold functions of the same code into one, where it can: generic code is compiled
//! many times. The linker is the user's, and one that does not know the flag fails, so it is tried.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const FLAG: &str = "-Wl,--icf=all";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    // Windows' linker folds by itself, and only warns of a flag that it does not know.
    let is_asked =
        env::var_os("CARGO_CFG_UNIX").is_some() && env::var("PROFILE").is_ok_and(|it| it == "release");
    if is_asked && links() == Some(true) {
        println!("cargo:rustc-link-arg-bins={FLAG}");
    }
}

/// Whether a program can be linked with the flag.
fn links() -> Option<bool> {
    let mut rustc = Command::new(env::var_os("RUSTC")?);
    rustc.args(["--crate-type", "bin", "--target", &env::var("TARGET").ok()?, "-"]);
    rustc.arg("-o").arg(Path::new(&env::var_os("OUT_DIR")?).join("linked"));
    rustc.arg(format!("-Clink-arg={FLAG}"));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    let mut compiling =
        rustc.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    compiling.stdin.take()?.write_all(b"fn main() {}").ok()?;
    Some(compiling.wait().ok()?.success())
}
