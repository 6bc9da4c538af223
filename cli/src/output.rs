//! Standard output: buffered, never a panic, and the first failure remembered.
//!
//! The façade sees the output as a callback or a writer and folds its failure into an error of its own. What
//! really happened (a closed pipe, a full disk) is kept here, and goes before that echo.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::Failure;
use crate::{json, signals};

const BUFFER_LEN: usize = 64 << 10;

pub struct Output {
    to: BufWriter<Box<dyn Write>>,
    failure: Option<io::Error>,
    pub paint: Paint,
}

impl Output {
    pub fn stdout(paint: Paint) -> Self {
        // The standard library's own handle looks for newlines in everything that passes.
        let to: Box<dyn Write> = match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Box::new(File::from(descriptor)),
            Err(_) => Box::new(io::stdout()),
        };
        Self::new(to, paint)
    }

    fn new(to: Box<dyn Write>, paint: Paint) -> Self {
        Self { to: BufWriter::with_capacity(BUFFER_LEN, to), failure: None, paint }
    }

    /// One object as a line of JSON.
    pub fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        self.write_all(json::line(object).as_bytes())
    }

    /// A writer for output of any length, which ends when a signal comes. The result of something done is not
    /// written through it: that is shown even so.
    pub fn stream(&mut self) -> Stream<'_> {
        Stream(self)
    }

    /// Writes out what is buffered, and says how the command ended in the light of that.
    pub fn conclude<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Some(error) = self.failure.take() {
            return Err(Failure::Output(error));
        }
        // A failure of the command itself matters more than the loss of what it had to say before.
        let flushed = self.flush();
        let value = outcome?;
        flushed.map(|()| value).map_err(|echo| Failure::Output(self.failure.take().unwrap_or(echo)))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.to.write(bytes);
        remember(&mut self.failure, result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.to.flush();
        remember(&mut self.failure, result)
    }
}

fn remember<T>(failure: &mut Option<io::Error>, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| {
        let echo = io::Error::from(error.kind());
        if error.kind() != io::ErrorKind::Interrupted {
            failure.get_or_insert(error);
        }
        echo
    })
}

pub struct Stream<'a>(&'a mut Output);

impl Stream<'_> {
    /// As [`Output::json`].
    pub fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        self.write_all(json::line(object).as_bytes())
    }

    pub fn paint(&self) -> Paint {
        self.0.paint
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        signals::check()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What a colour says.
#[derive(Debug, Clone, Copy)]
pub enum Shade {
    Id,
    Good,
    Notable,
    Bad,
    Strong,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    pub const fn new(colors: bool) -> Self {
        Self(colors)
    }

    pub fn id(self, text: &str) -> String {
        self.with(Shade::Id, text)
    }

    pub fn good(self, text: &str) -> String {
        self.with(Shade::Good, text)
    }

    pub fn notable(self, text: &str) -> String {
        self.with(Shade::Notable, text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with(Shade::Bad, text)
    }

    /// What to write before a text, and after it.
    pub fn around(self, shade: Shade) -> (String, String) {
        if !self.0 {
            return (String::new(), String::new());
        }
        let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        let style = match shade {
            Shade::Id => color(AnsiColor::Yellow),
            Shade::Good => color(AnsiColor::Green),
            Shade::Notable => color(AnsiColor::Cyan),
            Shade::Bad => color(AnsiColor::Red),
            Shade::Strong => Style::new().bold(),
        };
        (style.to_string(), format!("{style:#}"))
    }

    fn with(self, shade: Shade, text: &str) -> String {
        let (on, off) = self.around(shade);
        format!("{on}{text}{off}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn closed() -> Output {
        Output::new(Box::new(Closed), Paint::new(false))
    }

    #[test]
    fn a_closed_pipe_goes_before_its_echo() {
        let mut output = closed();
        assert!(output.write_all(&[0; 2 * BUFFER_LEN]).is_err());
        let failure = output.conclude::<()>(Err(Failure::usage("the echo"))).unwrap_err();
        assert!(matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_closed_pipe_is_seen_at_the_end() {
        let mut output = closed();
        output.write_all(b"short").unwrap();
        assert!(matches!(output.conclude(Ok(())), Err(Failure::Output(_))));
    }

    #[test]
    fn a_failure_of_the_command_goes_before_the_loss_of_its_words() {
        let mut output = closed();
        output.write_all(b"short").unwrap();
        let failure = output.conclude::<()>(Err(Failure::usage("damage"))).unwrap_err();
        assert!(matches!(failure, Failure::Usage { .. }));
    }
}
