//! Mistakes that are made on purpose, each at one line of what ships, to see that a test finds it.
//!
//! [`assert_caught`] runs one test in a process of its own that makes a mistake: whatever stores and threads that test has,
//! nobody else's are touched. Without the feature `testing` no mistake can be made, and nothing of this is in the program.

/// Whether a mistake is made here; never in what ships.
#[cfg(not(any(test, feature = "testing")))]
#[inline(always)]
pub const fn mistake(_name: &str) -> bool {
    false
}

#[cfg(any(test, feature = "testing"))]
pub use chosen::{assert_caught, mistake};

#[cfg(any(test, feature = "testing"))]
mod chosen {
    use std::process::{Command, Stdio};
    use std::sync::{LazyLock, Once};

    /// Names the mistake of this process.
    const VARIABLE: &str = "FILESYNC_MISTAKE";

    /// Whether this process makes a mistake here.
    pub fn mistake(name: &str) -> bool {
        static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(VARIABLE).ok());
        static TOLD: Once = Once::new();
        let is_made = CHOSEN.as_deref() == Some(name);
        if is_made {
            TOLD.call_once(|| eprintln!("{}", made(name)));
        }
        is_made
    }

    /// What tells that a test has come to where the mistake is made.
    fn made(name: &str) -> String {
        format!("made on purpose: {name}")
    }

    /// Runs a test of this binary with a mistake. It must come to where that is made, fail, and say `told` of it.
    #[track_caller]
    pub fn assert_caught(name: &str, test: &str, told: &str) {
        let own = std::env::current_exe().expect("a test binary");
        let mut command = Command::new(own);
        command.args(["--exact", test, "--nocapture"]).env(VARIABLE, name).stdin(Stdio::null());
        // What it says is known of the usual run.
        command.env_remove("FILESYNC_SEED").env_remove("FILESYNC_LONG");
        let output = command.output().expect("it runs");
        let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        let is_made = err.contains(&made(name));
        let has_failed = out.contains("FAILED. 0 passed; 1 failed");
        let is_told = [&out, &err].iter().any(|said| said.contains(told));
        assert!(is_made && has_failed && is_told, "{name}: {test}: {}\n{out}\n{err}", output.status);
    }
}

/// Those of this crate.
#[cfg(test)]
mod tests {
    use super::assert_caught;

    #[test]
    fn a_mistake_that_nobody_makes_is_not_caught() {
        let caught = std::panic::catch_unwind(|| {
            assert_caught("none", "vfs::tests::replace_leaves_no_temporary_file_after_an_error", "");
        });
        assert!(caught.is_err(), "a test that passes has caught nothing");
    }

    #[test]
    fn a_rename_before_the_sync_of_its_file() {
        let mistake = "a rename before the sync of its file";
        assert_caught(
            mistake,
            "vfs::tests::replace_survives_every_crash_with_the_old_or_the_new_content",
            "found == before",
        );
        assert_caught(mistake, "store::tests::cuts::power_cuts_at_every_call", "its last line is not whole");
    }

    #[test]
    fn an_acknowledgement_before_the_sync() {
        let test = "store::tests::cuts::power_cuts_at_every_call";
        assert_caught("an acknowledgement before the sync", test, "were durable");
    }

    #[test]
    fn a_collection_without_roots() {
        assert_caught("a collection without roots", "store::tests::gc::space_comes_back", "is missing");
    }

    #[test]
    fn a_collection_that_ignores_pins() {
        assert_caught("a collection that ignores pins", "store::tests::gc::pinned_is_kept", "is missing");
    }

    #[test]
    fn a_claim_that_is_not_noted() {
        assert_caught("a claim that is not noted", "store::tests::gc::claims_made_after_marking_count", "is missing");
        assert_caught("a claim that is not noted", "store::tests::gc::claims_made_before_marking_count", "is missing");
    }

    #[test]
    fn a_hash_that_is_trusted() {
        let test = "relay::tests::a_lie_with_good_checks_has_no_good_hash";
        assert_caught("a hash that is trusted", test, "is_err()");
    }
}
