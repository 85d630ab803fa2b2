//! Tools other than servers: programs, ports, and recorders of logs and metrics.

use std::net::TcpListener;
use std::process::Command;

use limiter_test_servers::{Log, Metrics, Port, Process, at_once, until_async};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tracing::Level;

#[test]
fn a_program_is_read_signalled_and_waited_for() {
    let directory = TempDir::new().unwrap();
    let script =
        "echo one; echo two >&2; trap 'echo ended; exit 3' TERM; while :; do sleep 0.01; done";
    let mut program = shell(script, &directory);
    assert_eq!(program.line_with("tw"), Ok("two".to_owned()));
    assert_eq!(program.output(), "one\ntwo\n");
    assert!(!program.has_ended());
    program.signal(Signal::SIGTERM);
    assert_eq!(program.ended().code(), Some(3));
    assert_eq!(program.output(), "one\ntwo\nended\n");
}

#[test]
fn a_program_that_ends_too_early_leaves_its_output() {
    let directory = TempDir::new().unwrap();
    let output = shell("echo $NAME; exit 1", &directory).line_with("ready");
    assert_eq!(output, Err("of a test\n".to_owned()));
}

#[test]
fn a_port_is_taken_once() {
    let port = Port::take();
    assert!(Port::take_number(port.number()).is_none());
    let number = port.number();
    drop(port);
    assert!(Port::take_number(number).is_some());
}

#[test]
fn a_port_with_a_listener_is_not_taken() {
    let port = Port::take();
    let number = port.number();
    let _listener = TcpListener::bind(("127.0.0.1", number)).unwrap();
    drop(port);
    assert!(Port::take_number(number).is_none());
}

#[test]
fn the_log_has_the_lines_of_a_level_and_above() {
    let log = Log::listen(Level::WARN);
    tracing::warn!("of {}", 1);
    tracing::info!("of {}", 2);
    assert_eq!(log.lines_with("of ").len(), 1);
    assert!(log.text().contains("of 1"), "{}", log.text());
}

#[test]
fn metrics_are_recorded() {
    let metrics = Metrics::record();
    metrics::counter!("calls_total", "outcome" => "allowed").increment(2);
    metrics::counter!("calls_total", "outcome" => "denied").increment(0);
    assert_eq!(metrics.value(r#"calls_total{outcome="allowed"}"#), 2);
    metrics.assert_counted("calls_total", &[r#"{outcome="allowed"} 2"#]);
    assert_eq!(metrics.series().len(), 2, "{}", metrics.text());
}

#[test]
fn a_future_that_does_not_wait_is_polled_once() {
    assert_eq!(at_once(async { 7 }), 7);
    let mut times = 0;
    let holds = async || {
        times += 1;
        times == 1
    };
    at_once(until_async("it holds at once", holds));
    assert_eq!(times, 1);
}

fn shell(script: &str, directory: &TempDir) -> Process {
    let mut command = Command::new("sh");
    Process::start(command.args(["-c", script]).env("NAME", "of a test"), directory.path())
}
