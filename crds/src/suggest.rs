//! "Did you mean": the known name nearest to a mistyped one.

/// The known name that was most likely meant, if any is near enough.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bare_written = bare(written);
    let allowed = (bare_written.chars().count() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for name in known {
        let distance = strsim::damerau_levenshtein(&bare_written, &bare(name));
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// A name without what spellings differ in: `bootstrap.servers`, `bootstrap_servers` and `bootstrapServers` are one.
fn bare(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_or_differently_spelled_name_is_recognized() {
        let known = ["bootstrapServers", "topics", "topicPattern", "tls"];
        for (written, meant) in [
            ("bootstrap.servers", Some("bootstrapServers")),
            ("bootstrap_server", Some("bootstrapServers")),
            ("topcis", Some("topics")),
            ("topic", Some("topics")),
            ("groupId", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
