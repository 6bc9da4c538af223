//! What every command needs: the repository, the way out, the progress.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use filesync_repo::{
    BringRequest, ClusterAnswer, ClusterRequest, Command, ErrorKind, OpenOptions, Repo, Silent, Target,
};

use crate::args::{Environment, Global, When};
use crate::error::Failure;
use crate::output::{Output, Paint};
use crate::progress::Progress;
use crate::{paths, quote};

pub struct Context {
    pub global: Global,
    pub environment: Environment,
    pub output: Output,
    pub progress: Progress,
}

impl Context {
    pub fn new(global: Global, environment: Environment) -> Result<Self, Failure> {
        if let Some(directory) = &global.directory {
            std::env::set_current_dir(directory)
                .map_err(|error| Failure::local(format!("-C: {}", quote::path(directory)), &error))?;
        }
        let stdout = std::io::stdout();
        let colors = global.color.holds(&stdout) && (global.color == When::Always || !environment.plain);
        let output = Output::stdout(Paint::new(colors));
        let terminal = std::io::stderr().is_terminal();
        let progress = Progress::new(global.progress, terminal, global.quiet, global.json);
        Ok(Self { global, environment, output, progress })
    }

    /// Whether summaries are wanted.
    pub fn is_chatty(&self) -> bool {
        !self.global.quiet
    }

    pub fn open_reader(&self) -> Result<Repo, Failure> {
        Ok(Repo::open_reader(&self.root()?, &self.open_options(), &self.progress)?)
    }

    /// How wide the terminal is; 80 if there is none.
    pub fn columns(&self) -> usize {
        let width = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| usize::from(size.ws_col));
        width.ok().filter(|width| *width > 0).unwrap_or(80)
    }

    /// For hints: nothing is said of what is wrong, nor twice.
    pub fn peek(&self) -> Option<Repo> {
        Repo::open_reader(&self.root().ok()?, &self.open_options(), &Silent).ok()
    }

    /// Carries out a command that writes: by the daemon if there is one.
    pub fn carry_out<C: Command>(&self, command: C) -> Result<C::Result, Failure> {
        Ok(filesync_repo::carry_out(&self.root()?, command, &self.open_options(), &self.progress)?)
    }

    /// Paths as the user writes them, from the working directory, to paths from the root of a repository.
    pub fn paths_in(&self, root: &Path, words: &[OsString]) -> Result<Vec<Vec<u8>>, Failure> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let directory = working_directory()?;
        // The working directory is spelled without symlinks; the root may have been named through some.
        let plain = root.canonicalize();
        let plain = plain.as_deref().unwrap_or(root);
        words.iter().map(|word| paths::from_root(word, &directory, &[plain, root])).collect()
    }

    /// Adds the hint for those who named a path of `REV:PATH` from the working directory.
    pub fn hint_at_root(&self, repo: &Repo, error: filesync_repo::Error, target: Option<&str>) -> Failure {
        let find = || {
            let (rev, path) = target.filter(|_| error.kind() == ErrorKind::NotFound)?.split_once(':')?;
            std::fs::symlink_metadata(path).ok()?;
            let from_root = self.paths_in(repo.root(), &[path.into()]).ok()?.pop()?;
            let meant = String::from_utf8(from_root).ok().filter(|meant| meant != path)?;
            Some(format!("paths behind a colon are from the root: {}", quote::shell(&format!("{rev}:{meant}"))))
        };
        let hint = find();
        Failure::Repo { error, hint }
    }

    /// The root of the repository.
    pub fn root(&self) -> Result<PathBuf, Failure> {
        match &self.environment.repository {
            Some(root) => Ok(root.clone()),
            None => Ok(Repo::discover(&working_directory()?)?),
        }
    }

    /// Has this repository's node carry out something: by the daemon if there is one.
    pub fn ask_cluster(&self, request: &ClusterRequest) -> Result<ClusterAnswer, Failure> {
        let answer = filesync_repo::cluster::carry_out(&self.root()?, request, &self.open_options(), &self.progress);
        self.progress.finish();
        Ok(answer?)
    }

    /// Has paths brought here that this partial copy does not have (of directories their names only, if that is enough), for who
    /// has failed for want of them. `false` if it has failed for something else, or nobody could be asked.
    pub fn bring<T>(
        &self,
        outcome: &Result<T, filesync_repo::Error>,
        rev: Option<&str>,
        (paths, names_only): (&[Vec<u8>], bool),
    ) -> Result<bool, Failure> {
        let is_absent = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Absent);
        if !is_absent || !filesync_repo::cluster::is_member(&self.root()?) {
            return Ok(false);
        }
        let request = BringRequest { rev: rev.map(str::to_owned), paths: paths.to_vec(), names_only };
        self.ask_cluster(&ClusterRequest::Bring(request)).map(|_| true)
    }

    /// How it is opened.
    pub fn open_options(&self) -> OpenOptions {
        let Global { allow_foreign, lock_timeout, .. } = self.global;
        OpenOptions { allow_foreign, lock_timeout, behind_sudo: self.environment.behind_sudo }
    }
}

/// What a daemon of another version may answer.
pub fn misunderstood() -> Failure {
    Failure::Local { message: "cannot understand what the daemon answered".to_owned(), hint: None }
}

fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::local("the working directory", &error))
}

/// `REV[:PATH]` as a typed request takes it.
pub fn target(word: Option<&OsString>) -> Result<Target, Failure> {
    Ok(word.map_or(Ok(Target::default()), |word| Target::parse(word.as_encoded_bytes()))?)
}

/// A revision as a typed request takes it.
pub fn revision(word: Option<OsString>) -> Result<Option<String>, Failure> {
    let not_utf8 = |word: OsString| Failure::Usage {
        message: format!("{}: not UTF-8", quote::name(word.as_encoded_bytes())),
        hint: None,
    };
    word.map(|word| word.into_string().map_err(not_utf8)).transpose()
}

/// Adds the hint for those who named a path where a revision belongs.
pub fn hint_at_path(error: filesync_repo::Error, word: Option<&str>) -> Failure {
    let unknown = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Usage);
    let hint = word
        .filter(|word| unknown && std::fs::symlink_metadata(OsStr::new(word)).is_ok())
        .map(|word| format!("to name a path, put it behind --: `-- {}`", quote::shell(word)));
    Failure::Repo { error, hint }
}

/// Which of the words behind `--` is a revision and no path that is there: what to say to who put it there.
pub fn hint_at_revision(repo: &Repo, words: &[OsString]) -> Option<String> {
    let is_meant = |word: &&str| std::fs::symlink_metadata(OsStr::new(word)).is_err() && repo.is_revision(word);
    let word = words.iter().filter_map(|word| word.to_str()).find(is_meant)?;
    Some(format!("to name a revision, put it before --: `{} -- PATH`", quote::shell(word)))
}
