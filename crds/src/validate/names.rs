//! Names: identifiers that SQL can use without quotes, each there once.

use super::{Errors, Path};
use crate::spec::{SqlName, StreamingJobSpec};

/// Checks that no name is there twice: sources and views share SQL's tables, outputs are apart. Case does not count.
pub(super) fn check(spec: &StreamingJobSpec, at: &Path, errors: &mut Errors) {
    let sources = at.each("sources", &spec.sources).map(|(at, source)| (at, &source.name));
    let views = at.each("views", &spec.views).map(|(at, view)| (at, &view.name));
    distinct(sources.chain(views), "tables in SQL", errors);
    distinct(at.each("outputs", &spec.outputs).map(|(at, output)| (at, &output.name)), "outputs", errors);
}

fn distinct<'a>(names: impl Iterator<Item = (Path, &'a SqlName)>, what: &str, errors: &mut Errors) {
    let mut seen: Vec<(String, Path)> = Vec::new();
    for (at, name) in names {
        let lower = name.to_lowercase();
        match seen.iter().find(|(other, _)| *other == lower) {
            Some((_, first)) => {
                let problem = format!("the name of {first} too, and {what} need names of their own");
                errors.add(&at.field("name"), Some(name), problem, "rename one of them");
            }
            None => seen.push((lower, at)),
        }
    }
}

/// A letter, then letters, digits and underscores, at most 63 of them.
pub(super) fn identifier(name: &SqlName, at: &Path, errors: &mut Errors) -> Option<String> {
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    if fits && begins && name.len() <= 63 {
        return Some(name.to_string());
    }
    let mut plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    plain.truncate(63);
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let fix = match plain {
        "" => "use a letter, then letters, digits and underscores".to_owned(),
        plain => format!("use a letter, then letters, digits and underscores, such as `{plain}`"),
    };
    errors.add(at, Some(name), "not a name that SQL can use without quotes", fix);
    None
}
