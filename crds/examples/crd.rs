//! Prints the custom resource definition; with `--write` puts it and the reference page where they are checked in.

use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = millrace_crds::crd_yaml()?;
    if std::env::args().any(|argument| argument == "--write") {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::write(crate_dir.join("streamingjobs.yaml"), yaml)?;
        std::fs::write(crate_dir.join("../docs/reference/streamingjob.md"), millrace_crds::reference_markdown())?;
    } else {
        std::io::stdout().write_all(yaml.as_bytes())?;
    }
    Ok(())
}
