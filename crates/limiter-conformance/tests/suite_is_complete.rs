//! A test that is written but not listed would never run, and nobody would notice.

use std::fs;
use std::path::Path;

#[test]
fn every_test_of_the_suite_is_listed_in_the_macro() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list = fs::read_to_string(source.join("suite.rs")).expect("the macro is here");
    let mut tests = 0;
    for file in fs::read_dir(source.join("suite")).expect("the suite is here") {
        let file = file.expect("the folder can be read").path();
        let module = file.file_stem().and_then(|name| name.to_str()).expect("a module").to_owned();
        let code = fs::read_to_string(&file).expect("a module is a text file");
        for test in code.lines().filter_map(test_of) {
            let listed = list.split(&format!(" {module} {{")).nth(1);
            let listed = listed.and_then(|rest| rest.split('}').next());
            let listed =
                listed.is_some_and(|names| names.split_whitespace().any(|name| name == test));
            assert!(listed, "{module}::{test} is not in the list");
            tests += 1;
        }
    }
    assert!(tests > 100, "only {tests} tests were found");
}

/// The name of the test that a line begins.
fn test_of(line: &str) -> Option<&str> {
    line.strip_prefix("pub async fn ")?.split(['(', '<']).next()
}
