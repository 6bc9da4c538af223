//! What an operator sees of those who were turned away: figures, and a line in the log now and then.

use std::fmt::Write;
use std::time::Duration;

use filesync_p2p::transport::TurnedAway;
use tokio::time::Instant;

/// Between two lines: whoever comes again and again does not fill the log.
const PAUSE: Duration = Duration::from_secs(60);

/// Adds the figures.
pub fn metrics(count: &TurnedAway, out: &mut dyn Write) {
    let TurnedAway { strangers, banned, breaches } = count;
    // A string takes everything.
    let _ = writeln!(out, "# TYPE filesync_connections_turned_away_total counter");
    let _ = writeln!(out, "filesync_connections_turned_away_total{{why=\"stranger\"}} {strangers}");
    let _ = writeln!(out, "filesync_connections_turned_away_total{{why=\"banned\"}} {banned}");
    let _ =
        writeln!(out, "# TYPE filesync_protocol_breaches_total counter\nfilesync_protocol_breaches_total {breaches}");
}

/// What the log has told of.
#[derive(Debug, Default)]
pub struct Told {
    count: TurnedAway,
    at: Option<Instant>,
}

impl Told {
    /// What is to be told now, if there is anything new and the last line is some time ago.
    pub fn news(&mut self, count: TurnedAway, now: Instant) -> Option<TurnedAway> {
        let is_due = self.at.is_none_or(|at| at + PAUSE <= now);
        (count != self.count && is_due).then(|| {
            self.at = Some(now);
            self.count = count;
            count
        })
    }

    /// A line in the log, if it is time for one.
    pub fn tell(&mut self, count: TurnedAway, now: Instant) {
        if let Some(TurnedAway { strangers, banned, breaches }) = self.news(count, now) {
            tracing::warn!(
                strangers,
                banned,
                breaches,
                "peers were turned away, or left alone for what they did, since the start"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_told_and_seldom() {
        let (mut told, begin) = (Told::default(), Instant::now());
        let strangers = |strangers| TurnedAway { strangers, ..TurnedAway::default() };
        assert_eq!(told.news(strangers(0), begin), None, "there is nothing to tell");
        assert_eq!(told.news(strangers(1), begin), Some(strangers(1)));
        assert_eq!(told.news(strangers(900), begin + PAUSE / 2), None);
        assert_eq!(told.news(strangers(900), begin + PAUSE), Some(strangers(900)));
        assert_eq!(told.news(strangers(900), begin + 3 * PAUSE), None);
    }
}
