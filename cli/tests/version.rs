//! That there is a program at all. It also has cargo build the program together with the tests of the workspace, with the
//! same features: `scripts/test` relies on that.
#![allow(missing_docs)]

use std::process::Command;

#[test]
fn the_program_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_filesync")).arg("--version").output().expect("it runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("filesync {}\n", env!("CARGO_PKG_VERSION")));
}
