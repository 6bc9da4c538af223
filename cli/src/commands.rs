//! The commands, a file each: words, request, call, result shown.

mod cat;
mod check_ignore;
mod clone;
mod commit;
mod completions;
mod config;
mod diff;
mod du;
mod forget;
mod fsck;
mod gc;
mod init;
pub mod invite;
mod log;
mod ls;
mod man;
mod peers;
mod restore;
mod serve;
mod show;
mod snapshot;
mod status;
mod stop;
pub mod sync;
mod tag;
mod upgrade;
mod version;

use clap::Subcommand;

use crate::context::Context;
use crate::error::{Exit, Failure};

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    Init(init::InitArgs),
    Commit(commit::CommitArgs),
    Status(status::StatusArgs),
    Log(log::LogArgs),
    Diff(diff::DiffArgs),
    Show(show::ShowArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Du(du::DuArgs),
    #[command(visible_alias = "checkout")]
    Restore(restore::RestoreArgs),
    Tag(tag::TagArgs),
    CheckIgnore(check_ignore::CheckIgnoreArgs),
    Config(config::ConfigArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    Forget(forget::ForgetArgs),
    Gc(gc::GcArgs),
    Fsck(fsck::FsckArgs),
    Clone(clone::CloneArgs),
    Sync(sync::SyncArgs),
    Invite(invite::InviteArgs),
    Peers(peers::PeersArgs),
    Snapshot(snapshot::SnapshotArgs),
    Serve(serve::ServeArgs),
    Stop(stop::StopArgs),
    Upgrade(upgrade::UpgradeArgs),
    Version(version::VersionArgs),
}

impl Command {
    pub fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Init(args) => init::run(args, context),
            Self::Commit(args) => commit::run(args, context),
            Self::Status(args) => status::run(&args, context),
            Self::Log(args) => log::run(args, context),
            Self::Diff(args) => diff::run(args, context),
            Self::Show(args) => show::run(args, context),
            Self::Ls(args) => ls::run(args, context),
            Self::Cat(args) => cat::run(args, context),
            Self::Du(args) => du::run(args, context),
            Self::Restore(args) => restore::run(args, context),
            Self::Tag(args) => tag::run(args, context),
            Self::CheckIgnore(args) => check_ignore::run(&args, context),
            Self::Config(args) => config::run(args, context),
            Self::Completions(args) => completions::run(&args, context),
            Self::Man(args) => man::run(&args, context),
            Self::Forget(args) => forget::run(&args, context),
            Self::Gc(args) => gc::run(&args, context),
            Self::Fsck(args) => fsck::run(&args, context),
            Self::Clone(args) => clone::run(args, context),
            Self::Sync(args) => sync::run(&args, context),
            Self::Invite(args) => invite::run(&args, context),
            Self::Peers(args) => peers::run(&args, context),
            Self::Snapshot(args) => snapshot::run(&args, context),
            Self::Serve(args) => serve::run(args, context),
            Self::Stop(_) => stop::run(context),
            Self::Upgrade(_) => upgrade::run(context),
            Self::Version(_) => version::run(context),
        }
    }

    /// Whether all is done by the time that it is told: then words that are lost undo nothing.
    pub fn changes_before_it_tells(&self) -> bool {
        use Command::{Clone, Commit, Forget, Gc, Init, Restore, Sync, Upgrade};
        matches!(self, Clone(_) | Commit(_) | Forget(_) | Gc(_) | Init(_) | Restore(_) | Sync(_) | Upgrade(_))
    }

    /// Whether status 1 is an answer, and a failure has to be another.
    pub fn uses_one_for_differs(&self) -> bool {
        match self {
            Self::Status(args) => args.exit_code,
            Self::CheckIgnore(_) => true,
            Self::Diff(args) => args.exit_code,
            _ => false,
        }
    }
}
