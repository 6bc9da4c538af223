//! `invite`.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use filesync_repo::{ClusterAnswer, ClusterRequest, InviteRequest, OpenInvite, Role};

use super::commit::short;
use crate::context::{Context, misunderstood};
use crate::error::{Exit, Failure};
use crate::{json, time, units};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Make an invite: one line that lets somebody join
///
/// Whoever has the line can join as often as --uses says, until it expires. The cluster knows no more of it than a public
/// key. A voter's invite makes a candidate: `filesync peers promote` has it vote.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync invite                    for one writer, for a day
  filesync invite --role voter       for a server that is to vote
  filesync invite list               which can still be used
  filesync invite revoke 3f9c        end one")]
pub struct InviteArgs {
    #[command(subcommand)]
    command: Option<InviteCommand>,
    /// What it makes: writer, reader, or voter
    #[arg(long, value_name = "ROLE", value_enum, default_value_t = RoleWord::Writer, hide_possible_values = true)]
    role: RoleWord,
    /// For how long it can be used
    #[arg(long, value_name = "TIME", value_parser = lifetime, default_value = "24h")]
    expires: Duration,
    /// How many may use it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 1)]
    uses: u32,
}

#[derive(Debug, Subcommand)]
enum InviteCommand {
    /// List the invites that can still be used
    List,
    /// End an invite
    Revoke {
        /// Its id, or the beginning of it
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleWord {
    Writer,
    Reader,
    Voter,
}

impl RoleWord {
    pub fn role(self) -> Role {
        match self {
            Self::Writer => Role::Writer,
            Self::Reader => Role::Reader,
            Self::Voter => Role::Candidate,
        }
    }
}

/// The word for what an invite makes.
pub fn word(role: Role) -> &'static str {
    match role {
        Role::Writer => "writer",
        Role::Reader => "reader",
        Role::Candidate => "voter",
    }
}

pub fn run(args: &InviteArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = match &args.command {
        None => ClusterRequest::Invite(InviteRequest {
            role: args.role.role(),
            expires: Some(args.expires),
            uses: args.uses,
            timeout: TIMEOUT,
        }),
        Some(InviteCommand::List) => ClusterRequest::Invites(TIMEOUT),
        Some(InviteCommand::Revoke { id }) => ClusterRequest::Revoke(id.clone(), TIMEOUT),
    };
    let (answer, json) = (context.ask_cluster(&request)?, context.global.json);
    let out = &mut context.output;
    match &answer {
        ClusterAnswer::Invited(invited) if json => out.json(&json::Invited::new(invited)),
        ClusterAnswer::Invited(invited) => out.write_all(format!("{}\n", invited.line).as_bytes()),
        ClusterAnswer::Invites(list) if json => {
            list.iter().try_for_each(|invite| out.json(&json::OpenInvite::new(invite)))
        }
        ClusterAnswer::Invites(list) => list.iter().try_for_each(|invite| out.write_all(line(invite).as_bytes())),
        ClusterAnswer::Revoked(id) if json => out.json(&json::Revoked::new(id)),
        ClusterAnswer::Revoked(id) => out.write_all(format!("revoked {}\n", short(id)).as_bytes()),
        _ => return Err(misunderstood()),
    }
    .map_err(Failure::Output)?;
    Ok(Exit::Done)
}

/// One that has expired when it is made lets nobody in.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lives = units::parse_duration(text)?;
    if lives.is_zero() { Err("it would have expired before anybody could use it".to_owned()) } else { Ok(lives) }
}

fn line(invite: &OpenInvite) -> String {
    let expires = invite.expires.map_or_else(|| "never".to_owned(), time::of_millis);
    let uses = units::count(u64::from(invite.uses), "use");
    format!("{}  {:7} {uses}, expires {expires}, by node {}\n", short(&invite.id), word(invite.role), invite.by)
}
