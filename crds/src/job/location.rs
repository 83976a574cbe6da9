//! Where data lives: a folder in a bucket or on a disk.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// The folder name that Millrace keeps to itself under every output.
const OWN_FOLDER: &str = "_millrace";

/// A folder in an S3 bucket or on the local disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// `s3://bucket/prefix` (`s3a://` is the same); the prefix has no leading and no trailing slash.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The folder inside the bucket, never empty.
        prefix: String,
    },
    /// A path on this machine; relative ones are relative to the runner's working directory.
    Local(PathBuf),
}

/// Why a text is no location, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct LocationError {
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub fix: String,
}

/// How two locations lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// Neither holds the other, or only in a folder that readers of tables skip (`_…`).
    Apart,
    /// They are one.
    Same,
    /// The first lies in the second.
    Inside,
    /// The second lies in the first.
    Around,
}

impl Location {
    /// How this location lies to another. Compared as text: links on a disk are not followed.
    pub(crate) fn overlap(&self, other: &Self) -> Overlap {
        let (Some(own), Some(others)) = (self.segments(), other.segments()) else { return Overlap::Apart };
        let common = own.iter().zip(&others).take_while(|(one, two)| one == two).count();
        let hidden = |rest: &[String]| rest.first().is_some_and(|segment| segment.starts_with('_'));
        match (&own[common..], &others[common..]) {
            ([], []) => Overlap::Same,
            ([], rest) if !hidden(rest) => Overlap::Around,
            (rest, []) if !hidden(rest) => Overlap::Inside,
            _ => Overlap::Apart,
        }
    }

    /// The folders from the outermost in; the first names the store. `None` for a local path with `..`.
    fn segments(&self) -> Option<Vec<String>> {
        match self {
            Self::S3 { bucket, prefix } => {
                let store = format!("s3://{bucket}");
                Some(std::iter::once(store).chain(prefix.split('/').map(str::to_owned)).collect())
            }
            Self::Local(path) => {
                let mut segments = vec![if path.is_absolute() { "/".to_owned() } else { ".".to_owned() }];
                for component in path.components() {
                    match component {
                        Component::Normal(name) => segments.push(name.to_string_lossy().into_owned()),
                        Component::ParentDir => return None,
                        Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                    }
                }
                Some(segments)
            }
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.trim() != text {
            return Err(error("white space around it", &format!("write `{}`", text.trim())));
        }
        if text.is_empty() {
            return Err(error("no location", "write `s3://bucket/folder`, or a path on a laptop"));
        }
        let location = match text.split_once("://") {
            Some(("s3" | "s3a", rest)) => s3(rest)?,
            Some(("file", path)) if path.starts_with('/') => local(path)?,
            Some(("file", path)) => {
                return Err(error("a relative file:// location", &format!("write `file:///{path}` or `{path}`")));
            }
            Some((scheme, _)) => {
                let problem = format!("the scheme `{scheme}` is not supported");
                return Err(error(&problem, "write `s3://bucket/folder`, `file:///folder` or a path"));
            }
            None => local(text)?,
        };
        let own = location.segments().is_some_and(|segments| segments.iter().any(|segment| segment == OWN_FOLDER));
        if own {
            return Err(error(&format!("`{OWN_FOLDER}` is kept for Millrace's own files"), "choose another folder"));
        }
        Ok(location)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

fn s3(rest: &str) -> Result<Location, LocationError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if bucket.is_empty() {
        return Err(error("the bucket is missing", "write `s3://bucket/folder`"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some(c) = bucket.chars().find(|c| !fits(*c)) {
        return Err(error(&format!("`{c}` in the bucket's name"), "write `s3://bucket/folder`"));
    }
    if prefix.is_empty() {
        let fix = format!("name a folder in the bucket, such as `s3://{bucket}/folder`");
        return Err(error("a whole bucket", &fix));
    }
    if prefix.split('/').any(str::is_empty) {
        return Err(error("an empty folder name", "write one slash between folders"));
    }
    if prefix.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(error("`.` or `..` in a bucket", "write the folder's full name"));
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// A path without its `.` parts and trailing slashes.
fn local(text: &str) -> Result<Location, LocationError> {
    let path: PathBuf = Path::new(text).components().filter(|component| *component != Component::CurDir).collect();
    if path.as_os_str().is_empty() || path == Path::new("/") {
        return Err(error("no folder of its own", "name a folder, such as `./out/orders`"));
    }
    Ok(Location::Local(path))
}

fn error(problem: &str, fix: &str) -> LocationError {
    LocationError { problem: problem.to_owned(), fix: fix.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_paths_are_read_in_every_spelling() {
        let s3 = |prefix: &str| Location::S3 { bucket: "lake".into(), prefix: prefix.into() };
        let cases = [
            ("s3://lake/a", s3("a")),
            ("s3a://lake/a/b/", s3("a/b")),
            ("file:///data/a/", Location::Local("/data/a".into())),
            ("/data/a", Location::Local("/data/a".into())),
            ("./out//a", Location::Local("out/a".into())),
            ("../out", Location::Local("../out".into())),
        ];
        for (text, location) in cases {
            assert_eq!(text.parse::<Location>().unwrap(), location, "{text}");
            assert_eq!(location.to_string().parse::<Location>().unwrap(), location, "{text}");
        }
    }

    #[test]
    fn what_is_no_folder_of_its_own_is_refused_with_the_reason() {
        let cases = [
            ("", "no location; write `s3://bucket/folder`, or a path on a laptop"),
            (" s3://lake/a", "white space around it; write `s3://lake/a`"),
            ("gs://lake/a", "the scheme `gs` is not supported; write `s3://bucket/folder`, `file:///folder` or a path"),
            ("file://data", "a relative file:// location; write `file:///data` or `data`"),
            ("s3://", "the bucket is missing; write `s3://bucket/folder`"),
            ("s3://lake", "a whole bucket; name a folder in the bucket, such as `s3://lake/folder`"),
            ("s3://lake//a", "an empty folder name; write one slash between folders"),
            ("s3://lake/a/../b", "`.` or `..` in a bucket; write the folder's full name"),
            ("s3://la ke/a", "` ` in the bucket's name; write `s3://bucket/folder`"),
            ("s3://lake/a/_millrace/b", "`_millrace` is kept for Millrace's own files; choose another folder"),
            ("/", "no folder of its own; name a folder, such as `./out/orders`"),
            (".", "no folder of its own; name a folder, such as `./out/orders`"),
        ];
        for (text, problem) in cases {
            assert_eq!(text.parse::<Location>().unwrap_err().to_string(), problem, "{text:?}");
        }
    }

    #[test]
    fn overlaps_are_found_by_folder_not_by_letters() {
        let cases = [
            ("s3://lake/a", "s3a://lake/a/", Overlap::Same),
            ("s3://lake/a/b", "s3://lake/a", Overlap::Inside),
            ("s3://lake/a", "s3://lake/a/b", Overlap::Around),
            ("s3://lake/a", "s3://lake/ab", Overlap::Apart),
            ("s3://lake/a", "s3://pond/a", Overlap::Apart),
            ("s3://lake/a", "s3://lake/a/_checkpoint", Overlap::Apart),
            ("out/a", "./out/a/", Overlap::Same),
            ("/out/a", "out/a", Overlap::Apart),
        ];
        for (one, two, overlap) in cases {
            let (one, two) = (one.parse::<Location>().unwrap(), two.parse::<Location>().unwrap());
            assert_eq!(one.overlap(&two), overlap, "{one} {two}");
        }
    }
}
