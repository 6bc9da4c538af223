//! `check-ignore` as data.

/// `check-ignore`.
#[derive(Debug, Clone, Default)]
pub struct CheckIgnoreRequest {
    /// From the root of the repository. One that ends in `/` is taken for a directory, whatever stands there; one where
    /// nothing stands is taken for a file.
    pub paths: Vec<Vec<u8>>,
}

/// What holds for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreAnswer {
    /// As it was asked for.
    pub path: Vec<u8>,
    /// Whether it is left out of the next commit.
    pub ignored: bool,
    /// The rule that decides; none if no rule matches, or if the path is tracked, to which no rule applies.
    pub rule: Option<IgnoreRule>,
}

/// A line of a `.filesyncignore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreRule {
    /// The file, from the root of the repository.
    pub source: Vec<u8>,
    /// The line, from 1.
    pub line: usize,
    /// The rule as it is written.
    pub pattern: Vec<u8>,
    /// Whether it takes in (`!`) rather than leaves out.
    pub negated: bool,
}
