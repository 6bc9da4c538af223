//! `peers`.

use std::io::{self, BufRead as _, Read as _, Write};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use filesync_repo::{ClusterAnswer, ClusterRequest, Event, Observer as _, Peer, PeersRequest, Role, Warning};

use crate::context::{Context, misunderstood};
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Show the members: role, address, who is reachable, who leads, who holds the head
///
/// NODE is a number, a name, or the beginning of a key.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync peers
  filesync peers promote server-2    make a voter of it, and of another candidate: voters come in pairs
  filesync peers demote server-2 --role writer
  filesync peers remove laptop")]
pub struct PeersArgs {
    #[command(subcommand)]
    command: Option<PeersCommand>,
    /// How long to wait for a quorum, or for bytes that do not come
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "60s", global = true)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// End a membership
    Remove {
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Have a candidate vote
    Promote {
        #[arg(value_name = "NODE")]
        node: String,
        /// Also if that makes an even number of voters
        #[arg(long)]
        even: bool,
    },
    /// Make something less of a member
    Demote {
        #[arg(value_name = "NODE")]
        node: String,
        /// What it is to be: candidate (it follows the log, and can be promoted again), writer, or reader
        #[arg(long, value_name = "ROLE", value_enum, hide_possible_values = true)]
        role: Lesser,
    },
    /// Go on with this voter alone, when the majority is lost for good
    ///
    /// What this node does not have of what was published is given up. It begins a new epoch: whoever voted before is a
    /// member no more, and joins again with an invite; so do writers and readers. Asks for a line on standard input.
    Recover {
        /// That the other voters will never come back
        #[arg(long, required = true)]
        only_survivor: bool,
    },
}

/// What a member can be that does not vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lesser {
    Candidate,
    Writer,
    Reader,
}

impl Lesser {
    fn role(self) -> Role {
        match self {
            Self::Candidate => Role::Candidate,
            Self::Writer => Role::Writer,
            Self::Reader => Role::Reader,
        }
    }
}

pub fn run(args: &PeersArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = match &args.command {
        None => PeersRequest::List,
        Some(PeersCommand::Remove { node }) => PeersRequest::Remove { node: node.clone() },
        Some(PeersCommand::Promote { node, even }) => PeersRequest::Promote { node: node.clone(), even: *even },
        Some(PeersCommand::Recover { .. }) => {
            confirm(context)?;
            PeersRequest::Recover
        }
        Some(PeersCommand::Demote { node, role }) => PeersRequest::Demote { node: node.clone(), role: role.role() },
    };
    let ClusterAnswer::Peers(peers) = context.ask_cluster(&ClusterRequest::Peers(request, args.timeout))? else {
        return Err(misunderstood());
    };
    if context.global.json {
        peers.iter().try_for_each(|peer| context.output.json(&json::Peer::new(peer)))
    } else {
        let newest = peers.iter().filter_map(|peer| peer.applied_index).max().unwrap_or(0);
        peers.iter().try_for_each(|peer| context.output.write_all(line(peer, newest).as_bytes()))
    }
    .map_err(Failure::Output)?;
    if matches!(args.command, Some(PeersCommand::Remove { .. })) && peers.is_empty() && context.is_chatty() {
        let message = "this node is no member any more; the others go on without it".to_owned();
        context.progress.event(Event::Warning(Warning { path: None, message }));
    }
    let voters = peers.iter().filter(|peer| peer.role == "voter").count();
    if changes_voters(args.command.as_ref()) && voters > 0 && voters.is_multiple_of(2) {
        let message = format!("{voters} voters bear no more failures than {}: promote another", voters - 1);
        context.progress.event(Event::Warning(Warning { path: None, message }));
    }
    Ok(Exit::Done)
}

/// `promote` has asked before.
fn changes_voters(command: Option<&PeersCommand>) -> bool {
    matches!(command, Some(PeersCommand::Remove { .. } | PeersCommand::Demote { .. }))
}

/// A clock that is further off than this, in milliseconds, is mentioned.
const CLOCK_OFF_MAX: u64 = 60_000;

/// What has to be typed before a majority is given up.
const CONFIRMATION: &str = "only survivor";

fn confirm(context: &Context) -> Result<(), Failure> {
    let root = context.root()?;
    eprintln!("{}: this node will be the only voter, and the others are given up for good.", root.display());
    eprintln!("Type \"{CONFIRMATION}\" to go on:");
    let mut line = String::new();
    io::stdin().lock().take(256).read_line(&mut line).map_err(|error| Failure::local("standard input", &error))?;
    if line.trim() == CONFIRMATION {
        return Ok(());
    }
    Err(Failure::Local { message: "cannot recover: not confirmed; nothing was changed".to_owned(), hint: None })
}

/// `newest` is the last entry of the log that any of them has.
fn line(peer: &Peer, newest: u64) -> String {
    let leader = if peer.is_leader { ", leads" } else { "" };
    // Only the command's own node is heard of and not reached: no daemon listens for it.
    let is_silent = !peer.is_reachable && peer.applied_index.is_some();
    let state = match (peer.is_reachable || is_silent, peer.holds_head) {
        // Who listens nowhere comes by itself.
        (false, _) if peer.addresses.is_empty() => "-".to_owned(),
        (false, _) => "not reachable".to_owned(),
        (true, Some(true)) => format!("holds the head{leader}"),
        (true, _) if peer.is_partial => "a partial copy".to_owned(),
        (true, _) => match peer.applied_index.filter(|index| *index < newest) {
            Some(index) => format!("behind, at entry {index} of {newest}{leader}"),
            None => format!("does not hold the head yet{leader}"),
        },
    };
    let state = if is_silent { format!("{state}, no daemon listens here") } else { state };
    let clock = match peer.clock_off {
        Some(off) if off.unsigned_abs() > CLOCK_OFF_MAX => {
            let by = units::show_duration(Duration::from_millis(off.unsigned_abs()));
            format!(", its clock is {by} {}", if off > 0 { "ahead" } else { "behind" })
        }
        _ => String::new(),
    };
    let name = quote::name(peer.name.as_bytes());
    let addresses = if peer.addresses.is_empty() { "-".to_owned() } else { peer.addresses.join(" ") };
    // Members say themselves where they are reached, and what they are called.
    let addresses = quote::line(&addresses);
    format!("{:3}  {name:16} {:9} {addresses:21} {state}{clock}\n", peer.node, peer.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_say_of_themselves_is_quoted() {
        let mut peer = Peer {
            node: 7,
            name: "a\nb".to_owned(),
            key: "0".repeat(64),
            role: "voter",
            addresses: vec!["/ip4/10.0.0.1/udp/1".to_owned(), "\u{1b}[2J\n  1  forged\u{202e}".to_owned()],
            is_reachable: true,
            is_leader: true,
            applied_index: None,
            holds_head: Some(true),
            is_partial: false,
            clock_off: Some(900),
        };
        let shown = line(&peer, 9);
        assert!(shown.contains("/ip4/10.0.0.1/udp/1 \\033[2J\\n  1  forged\\342\\200\\256"), "{shown:?}");
        assert!(shown.contains("\"a\\nb\"") && shown.ends_with("holds the head, leads\n"), "{shown:?}");
        assert!(!shown.trim_end_matches('\n').contains(|c: char| c.is_control()), "{shown:?}");
        (peer.holds_head, peer.applied_index, peer.is_leader) = (Some(false), Some(7), false);
        assert!(line(&peer, 9).ends_with(" behind, at entry 7 of 9\n"), "{:?}", line(&peer, 9));
        peer.is_reachable = false;
        assert!(line(&peer, 9).ends_with(" behind, at entry 7 of 9, no daemon listens here\n"), "{:?}", line(&peer, 9));
        peer.is_reachable = true;
        peer.clock_off = Some(-3_600_000);
        assert!(
            line(&peer, 9).contains(", its clock is ") && line(&peer, 9).ends_with(" behind\n"),
            "{:?}",
            line(&peer, 9)
        );
        peer.addresses.clear();
        assert!(line(&peer, 9).contains(" - "), "{:?}", line(&peer, 9));
    }
}
