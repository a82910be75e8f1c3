//! How a command fails, and its exit status.

use std::fmt;
use std::process::ExitCode;

use crate::api::client::ClientError;
use crate::error::one_line;

/// Fixed interface: scripts rely on the numbers.
#[derive(Debug)]
pub enum Failure {
    /// 1: nothing was changed; one line that says why and what to do.
    Refused(String),
    /// 1: everything was said already.
    Told,
    /// 2
    Usage(String),
    /// 3: also where there is one that does not serve yet, or no more.
    NoAgent(String),
}

impl Failure {
    #[must_use]
    pub fn status(&self) -> ExitCode {
        match self {
            Self::Refused(_) | Self::Told => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::NoAgent(_) => ExitCode::from(3),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) | Self::Usage(message) | Self::NoAgent(message) => {
                f.write_str(&one_line(message))
            }
            Self::Told => Ok(()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoAgent { .. } | ClientError::NotServing(_) | ClientError::HungUp(_) => {
                Self::NoAgent(error.to_string())
            }
            ClientError::Refused(_)
            | ClientError::NotAllowed { .. }
            | ClientError::Answer(_)
            | ClientError::Request(_) => Self::Refused(error.to_string()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(crate::error::chain(error.as_ref()))
    }
}

/// Something of the library refused.
pub fn refused(error: impl fmt::Display) -> Failure {
    Failure::Refused(error.to_string())
}
