//! Who this node is: an Ed25519 key, made at `init` and never given away.

use std::io;
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use filesync_cas::ContentHash;
use filesync_cas::hash::{hex, unhex};
use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::{Open, Vfs, read_to_end, replace};
use filesync_merkle::{Commit, InvalidError};

use crate::error::{Error, ErrorKind};
use crate::request::SignatureState;

const TITLE: &str = "filesync identity 1";
const PATH: &str = "identity";

/// The key of this node.
pub struct Identity(SigningKey);

impl Identity {
    /// A new key.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot make a key: {error}")))?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key that a seed makes.
    #[cfg(test)]
    pub fn of_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads the key of a repository.
    pub fn load(vfs: &dyn Vfs) -> Result<Self, Error> {
        let bytes =
            read_to_end(vfs, Path::new(PATH), 4096).map_err(|error| Error::io("cannot read identity", &error))?;
        let damaged = |cause: &str| Error::new(ErrorKind::Damage, format!("identity: damaged: {cause}"));
        let lines = Lines::parse(&bytes, TITLE).map_err(|cause| damaged(&cause))?;
        let secret = lines.iter().next().and_then(|line| line.strip_prefix("secret "));
        let seed: Option<[u8; 32]> = secret.and_then(unhex).and_then(|seed| seed.try_into().ok());
        let identity = Self(SigningKey::from_bytes(&seed.ok_or_else(|| damaged("no key in it"))?));
        check_form(&bytes, &identity.encode()).map_err(|cause| damaged(&cause))?;
        Ok(identity)
    }

    /// Whether the key is there, and not for us.
    pub fn is_closed(vfs: &dyn Vfs) -> bool {
        let opened = vfs.open(Path::new(PATH), Open::Read);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Writes the key, readable by its owner alone; durable on return.
    pub fn save(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        let written = replace(vfs, Path::new(PATH), &self.encode(), 0o600);
        written.map_err(|error| Error::io("cannot write identity", &error))
    }

    fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        file.line(&format!("secret {}", hex(&self.0.to_bytes())));
        file.finish()
    }

    /// What the key is made of, for the network.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key: what names this node.
    pub fn node(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a commit for a repository.
    pub fn sign(&self, commit: &mut Commit, repository: &ContentHash) -> Result<(), InvalidError> {
        commit.signature = self.0.sign(&commit.signed_message(repository.as_bytes())?).to_bytes();
        Ok(())
    }
}

/// Whether the node that a commit names has signed it.
pub fn verify(commit: &Commit, repository: &ContentHash) -> SignatureState {
    let (Ok(key), Ok(message)) = (VerifyingKey::from_bytes(&commit.node), commit.signed_message(repository.as_bytes()))
    else {
        return SignatureState::Bad;
    };
    match key.verify_strict(&message, &Signature::from_bytes(&commit.signature)) {
        Ok(()) => SignatureState::Good,
        Err(_) => SignatureState::Bad,
    }
}
