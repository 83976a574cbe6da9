//! What the README's first command shows, as a user runs it.

use std::time::Duration;

use millrace_tests::runner::Launch;
use millrace_tests::servers::scratch;

const SOON: Duration = Duration::from_secs(90);

#[test]
fn the_demo_kills_its_runner_twice_and_proves_that_every_order_is_there_once() {
    let lake = scratch("demo").unwrap();
    let launch = Launch::command("demo").unwrap().args(["--kill", "--orders", "30000", "--dir"]).arg(lake.path());
    let (status, printed) = launch.finish(SOON).unwrap();
    assert!(status.success(), "{status}: {printed}");
    assert_eq!(printed.matches("with SIGKILL").count(), 2, "{printed}");
    let proof = printed.lines().find(|line| line.starts_with("proved")).expect("a line of proof");
    assert!(proof.contains("30000 orders") && proof.contains("0 lost, 0 doubled"), "{proof}");
}
