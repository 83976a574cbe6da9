//! Prints the custom resource definition, or with `--write` puts it where it is checked in.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = millrace_crds::crd_yaml()?;
    if std::env::args().any(|argument| argument == "--write") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/streamingjobs.yaml"), yaml)?;
    } else {
        std::io::stdout().write_all(yaml.as_bytes())?;
    }
    Ok(())
}
