//! How values travel that serde has no form for, or not a lossless one: ids as hex, bytes and paths as base64.
//!
//! For `#[serde(with = "wire")]`, below options and lists too.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use data_encoding::BASE64;
use filesync_cas::ContentHash;
use filesync_merkle::{CommitId, TreeId};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Fixed words that may come in from outside. There are a few dozen, each told by our own program.
const WORDS_MAX: usize = 256;
const WORD_LEN_MAX: usize = 64;

/// A fixed word. Under this name, since serde takes a `&str` for one that borrows from what it reads.
pub type Word = &'static str;

/// A value in a form that travels.
pub trait Wire: Sized {
    /// The form.
    type Form: Serialize + DeserializeOwned;

    /// Gives it.
    fn to_form(&self) -> Self::Form;

    /// Takes it, or says what is wrong with it.
    fn from_form(form: Self::Form) -> Result<Self, String>;
}

/// Writes a value in its form.
pub fn serialize<T: Wire, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_form().serialize(serializer)
}

/// Reads a value in its form.
pub fn deserialize<'de, T: Wire, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::from_form(T::Form::deserialize(deserializer)?).map_err(D::Error::custom)
}

impl<T: Wire> Wire for Option<T> {
    type Form = Option<T::Form>;

    fn to_form(&self) -> Self::Form {
        self.as_ref().map(T::to_form)
    }

    fn from_form(form: Self::Form) -> Result<Self, String> {
        form.map(T::from_form).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    type Form = Vec<T::Form>;

    fn to_form(&self) -> Self::Form {
        self.iter().map(T::to_form).collect()
    }

    fn from_form(form: Self::Form) -> Result<Self, String> {
        form.into_iter().map(T::from_form).collect()
    }
}

impl Wire for Vec<u8> {
    type Form = String;

    fn to_form(&self) -> String {
        BASE64.encode(self)
    }

    fn from_form(form: String) -> Result<Self, String> {
        BASE64.decode(form.as_bytes()).map_err(|error| format!("not base64: {error}"))
    }
}

impl Wire for PathBuf {
    type Form = String;

    fn to_form(&self) -> String {
        BASE64.encode(self.as_os_str().as_encoded_bytes())
    }

    fn from_form(form: String) -> Result<Self, String> {
        use std::os::unix::ffi::OsStringExt;
        Ok(std::ffi::OsString::from_vec(Vec::from_form(form)?).into())
    }
}

impl Wire for ContentHash {
    type Form = String;

    fn to_form(&self) -> String {
        self.to_string()
    }

    fn from_form(form: String) -> Result<Self, String> {
        form.parse().map_err(|_| format!("not an id: {form:?}"))
    }
}

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Wire for $id {
            type Form = String;

            fn to_form(&self) -> String {
                self.0.to_form()
            }

            fn from_form(form: String) -> Result<Self, String> {
                ContentHash::from_form(form).map($id)
            }
        }
    )*};
}

ids!(CommitId, TreeId);

/// A fixed word. One that comes in is kept for good, each of them once.
impl Wire for Word {
    type Form = String;

    fn to_form(&self) -> String {
        (*self).to_owned()
    }

    fn from_form(form: String) -> Result<Self, String> {
        static WORDS: Mutex<BTreeSet<Word>> = Mutex::new(BTreeSet::new());
        let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(word) = words.get(form.as_str()) {
            return Ok(word);
        }
        if words.len() >= WORDS_MAX || form.len() > WORD_LEN_MAX {
            return Err(format!("unknown word {:?}", form.chars().take(WORD_LEN_MAX).collect::<String>()));
        }
        let word: Word = Box::leak(form.into_boxed_str());
        words.insert(word);
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn there_and_back<T: Wire + PartialEq + std::fmt::Debug>(value: T) {
        let text = serde_json::to_string(&value.to_form()).unwrap();
        assert_eq!(T::from_form(serde_json::from_str(&text).unwrap()).unwrap(), value, "{text}");
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        use std::os::unix::ffi::OsStringExt;
        let id = ContentHash::from_bytes([0xab; 32]);
        there_and_back(vec![b"a\xff\n".to_vec(), Vec::new()]);
        there_and_back(Some(b"x".to_vec()));
        there_and_back(None::<Vec<u8>>);
        there_and_back(PathBuf::from(std::ffi::OsString::from_vec(b"/a\xff".to_vec())));
        there_and_back(id);
        there_and_back((vec![CommitId(id)], Some(TreeId(id))).0);
        there_and_back(Some(TreeId(id)));
        there_and_back("committing");
    }

    #[test]
    fn what_is_no_form_is_refused() {
        assert!(Vec::<u8>::from_form("*".into()).is_err());
        assert!(CommitId::from_form("abcd".into()).is_err());
        assert!(<&str>::from_form("x".repeat(WORD_LEN_MAX + 1)).is_err());
    }
}
