//! Who uses the cluster: on each node somebody who publishes and reads, one after the other, whatever happens.

use filesync_cas::testing::Rng;
use filesync_tests::world::Ran;

use super::super::until;
use super::history::{History, Outcome, What};
use super::machine::{Machine, values};
use super::work::Work;

/// How long a publish or a read waits for a majority.
const TIMEOUT: &str = "5s";

pub struct Client<'a> {
    machine: &'a Machine,
    history: &'a History,
    work: &'a Work,
    rng: Rng,
    /// Changes so far.
    changes: u32,
    /// Whether there are commits here of which it is not known that they are published.
    is_pending: bool,
}

impl<'a> Client<'a> {
    pub fn new(machine: &'a Machine, history: &'a History, work: &'a Work, rng: Rng) -> Self {
        Self { machine, history, work, rng, changes: 0, is_pending: false }
    }

    /// Goes on until it is over. One of so many operations is a publish.
    pub fn run(&mut self, publish_one_of: u64) {
        while !self.history.is_over() {
            let what = match self.is_pending {
                true => What::Settle,
                false if self.rng.chance(1, publish_one_of) => What::Publish,
                false => What::Read,
            };
            if what == What::Publish {
                self.commit();
            }
            let also_commits = self.rng.coin();
            self.sync(what, also_commits);
            if !self.is_pending {
                self.machine.rest.pause();
            }
        }
    }

    /// Brings everything to an end, when nothing stands in the way any more.
    pub fn finish(&mut self) {
        until("everything is published", || self.sync(if self.is_pending { What::Settle } else { What::Read }, false));
    }

    /// One change as a commit. Whatever becomes of the daemon meanwhile, it is there in the end, and once.
    fn commit(&mut self) {
        let (node, change) = (self.machine.number, self.changes + 1);
        let (path, bytes) = (Work::path(node, change), self.work.content(node, change));
        let message = Work::message(node, change);
        let mut commit = None;
        until("the commit is made", || {
            // Its disk may be full: what it cannot write it does not commit.
            if !self.machine.world().try_write(&path, &bytes) {
                self.sync(What::Read, false);
                return false;
            }
            let made = self.machine.json(&["commit", "-m", &message]);
            // Nothing to commit: it had been made by one whose answer was lost.
            commit =
                made.and_then(|made| made[0]["commit"].as_str().map(str::to_owned).or(self.machine.world().head()));
            commit.is_some()
        });
        self.changes = change;
        self.is_pending = true;
        self.history.note_made(node, change, commit.expect("it was made"));
    }

    /// Publishes or reads; whether it was done. With `also_commits` it looks for something to commit, which there is not, and asks
    /// the cluster meanwhile.
    fn sync(&mut self, what: What, also_commits: bool) -> bool {
        let mut args = vec!["--json", "sync", "--timeout", TIMEOUT];
        if what == What::Read {
            args.push("--pull");
        }
        if also_commits {
            args.push("--commit");
        }
        let begin = self.history.now();
        let outcome = outcome(&self.machine.run(&args));
        let (node, is_done) = (self.machine.number, matches!(outcome, Outcome::Done(_)));
        if is_done {
            self.is_pending = false;
            self.history.acknowledge(node);
        }
        self.history.note(node, what, begin, outcome);
        is_done
    }
}

fn outcome(ran: &Ran) -> Outcome {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    match ran.status {
        Some(0) => {
            let result = &values(ran)[0];
            assert_eq!(result["outcome"], "done", "{ran:?}");
            Outcome::Done(text(&result["head"]).expect("there is a head"))
        }
        Some(4) => {
            let cause = values(ran).first().and_then(|result| text(&result["cause"]));
            Outcome::Unknown(cause.unwrap_or_else(|| error(ran)))
        }
        // Damage that was not made is no outcome: the machine has looked.
        Some(1 | 5) => Outcome::Refused(error(ran)),
        _ => panic!("nobody else touches these files: {ran:?}"),
    }
}

/// The last line of standard error is the error, behind warnings.
fn error(ran: &Ran) -> String {
    let last = ran.err.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    last.and_then(|it| it["error"].as_str().map(str::to_owned)).unwrap_or_else(|| ran.err.clone())
}
