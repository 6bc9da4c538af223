//! Has the program bring its C++ library along: commands start a millisecond earlier when it need not be loaded and bound, and
//! one thing less must be installed where they run.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CXX");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") || env::var("HOST") != env::var("TARGET") {
        return;
    }
    // Where there is no archive, the compiler answers with the bare name.
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut words = compiler.split_whitespace();
    let asked = words.next().map(|word| Command::new(word).args(words).arg("--print-file-name=libstdc++.a").output());
    let Some(Ok(answer)) = asked else { return };
    let archive = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let Ok(out) = env::var("OUT_DIR") else { return };
    // RocksDB asks for the shared library by name. The linker finds this first, which sends it to the archive.
    let script = Path::new(&out).join("libstdc++.so");
    if Path::new(&archive).is_absolute() && fs::write(script, format!("INPUT(\"{archive}\")\n")).is_ok() {
        println!("cargo::rerun-if-changed={archive}");
        println!("cargo::rustc-link-search=native={out}");
    }
}
