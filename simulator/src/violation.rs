//! A broken promise: what ends a run.

/// What was promised, and what was seen instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a check gives.
pub type Checked<T = ()> = Result<T, Violation>;

/// Ends the check with a [`Violation`] unless the promise holds.
#[macro_export]
macro_rules! promise {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::violation::Violation(format!($($text)+)));
        }
    };
}

/// A [`Violation`] with this text.
#[macro_export]
macro_rules! violation {
    ($($text:tt)+) => {
        $crate::violation::Violation(format!($($text)+))
    };
}
