//! Why the stand-in could not start.

/// A step of the start that failed.
#[derive(Debug)]
pub enum StartError {
    /// The key that signs tokens could not be made.
    Key,
    /// The CA or its certificate could not be made.
    Certificate(String),
    /// A port could not be bound, or no thread be started.
    Io(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key => formatter.write_str("cannot make the key that signs tokens"),
            Self::Certificate(text) => write!(formatter, "cannot make a certificate: {text}"),
            Self::Io(error) => write!(formatter, "cannot listen: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
