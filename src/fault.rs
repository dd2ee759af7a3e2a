//! What is wrong with a value that somebody wrote, and how to mend it.
//!
//! Every room parses its own values and answers with a [`Fault`] when one is bad; only `config` knows
//! the file and the line it stood on. Messages are lower case without a final stop, quote the
//! reader's own text in backticks, and never name a Rust type; the help is a sentence.

use std::ops::Range;

/// One thing wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, as in ``unknown policy `two-factor` ``.
    pub message: String,
    /// The way out, as in ``did you mean `two_factor`?``.
    pub help: Option<String>,
    /// The bytes of the value that are at fault, where it is not all of it.
    pub at: Option<Range<usize>>,
}

impl Fault {
    /// A fault of the whole value.
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), help: None, at: None }
    }

    /// The same fault with a way to mend it.
    pub fn help(self, help: impl Into<String>) -> Fault {
        Fault { help: Some(help.into()), ..self }
    }

    /// The same fault, pointing at `at` within the value.
    pub fn at(self, at: Range<usize>) -> Fault {
        Fault { at: Some(at), ..self }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
