//! Why bytes are no record.
//!
//! Decides: nothing; these are names.

/// Why bytes were not taken for the record asked for. Every one is a miss, counted by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Not a record at all.
    Magic,
    /// A record of another version.
    Version,
    /// Cut short, or longer than it says.
    Length,
    /// Larger than any record we write.
    Limit,
    /// Changed since it was written.
    Checksum,
    /// The record of another key, or the chunk of another body.
    Key,
    /// Whole, but not what we write.
    Malformed,
    /// The compressed body is not one.
    Compression,
}

impl Rejected {
    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Length => "length",
            Self::Limit => "limit",
            Self::Checksum => "checksum",
            Self::Key => "key",
            Self::Malformed => "malformed",
            Self::Compression => "compression",
        }
    }
}
