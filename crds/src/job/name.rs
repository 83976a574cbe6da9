//! The job's name.

use std::fmt;

/// The longest job name: `<job>-<ordinal>-<pod number>` has to stay a valid pod name and label value.
pub const MAX_JOB_NAME: usize = 40;

/// A StreamingJob's name: a DNS label of at most [`MAX_JOB_NAME`] characters, so no dots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobName(String);

impl JobName {
    /// Checks a name; the error says what is wrong with it.
    pub fn new(name: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("the job has no name".to_owned());
        }
        if name.contains('.') {
            return Err("a job's name has no dots".to_owned());
        }
        if name.len() > MAX_JOB_NAME {
            return Err(format!("the name has {} characters, {MAX_JOB_NAME} are allowed", name.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(c) = name.chars().find(|c| !allowed(*c)) {
            return Err(format!("`{c}` is not allowed in a job's name"));
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err("a job's name begins and ends with a letter or digit".to_owned());
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for JobName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_label_is_a_job_name() {
        for name in ["a", "orders-to-lake", "0-9", &"x".repeat(40)] {
            assert_eq!(JobName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_name_that_no_pod_could_carry_is_refused_with_the_reason() {
        let cases = [
            ("", "the job has no name"),
            ("a.b", "a job's name has no dots"),
            (&"x".repeat(41), "the name has 41 characters, 40 are allowed"),
            ("Orders", "`O` is not allowed in a job's name"),
            ("-a", "a job's name begins and ends with a letter or digit"),
        ];
        for (name, reason) in cases {
            assert_eq!(JobName::new(name).unwrap_err(), reason);
        }
    }
}
