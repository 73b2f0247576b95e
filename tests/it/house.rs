//! The rules of the house (style.md), as tests.

use crate::dynamic::{methods, procedure};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Every file below a folder with this ending: its path from the root, and its text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = vec![];
    walk(&root().join(folder), ending, &mut found);
    assert!(!found.is_empty(), "{folder} has files");
    let shown = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (shown(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The part of a file that is not its unit tests.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    for (path, text) in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{path} has {lines} lines: a noun is missing");
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        assert!(text.starts_with("//! "), "{path} opens with a sentence");
    }
}

#[test]
fn a_domain_is_pure() {
    for (path, text) in files("src/plugin", "domain.rs") {
        for impure in ["async ", "tokio", "sqlx::query", "sql!", "tonic", "http::", "Clock", "Entropy", "std::fs"] {
            assert!(!production(&text).contains(impure), "{path} mentions {impure}");
        }
    }
}

#[test]
fn sql_stands_in_stores() {
    for (path, text) in files("src", ".rs") {
        let is_home = path.ends_with("store.rs") || path.starts_with("src/database/");
        assert!(is_home || !(text.contains("sql!(") || text.contains("sqlx::query")), "{path} contains SQL");
    }
}

#[test]
fn statements_are_lower_case_and_name_their_columns() {
    for (path, text) in files("src", "store.rs") {
        for banned in ["select *", "SELECT", "INSERT", "UPDATE ", "DELETE ", "now()", "returning *"] {
            assert!(!text.contains(banned), "{path} contains {banned}");
        }
    }
}

#[test]
fn transport_names_no_procedure() {
    let names: Vec<_> = methods().map(|method| procedure(&method).split_once('.').unwrap().1.to_owned()).collect();
    for (path, text) in files("src/transport", ".rs") {
        let code: String = production(&text).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for name in names.iter().filter(|name| *name != "permissions") {
            assert!(!code.contains(name.as_str()), "{path} names {name}");
        }
    }
}

#[test]
fn plugins_know_nothing_of_the_wire() {
    for (path, text) in files("src/plugin", ".rs") {
        for word in ["transport", "axum", "hyper", "HeaderMap", "StatusCode", "content-type"] {
            assert!(!text.contains(word), "{path} mentions {word}");
        }
    }
}

#[test]
fn calls_go_one_way() {
    let forbidden = [
        ("src/database", ["crate::access", "crate::plugin", "crate::transport", "crate::app"].as_slice()),
        ("src/access", &["crate::plugin", "crate::transport", "crate::app"]),
        ("src/json", &["crate::access", "crate::plugin", "crate::transport", "crate::database"]),
        ("src/transport", &["crate::plugin", "crate::app", "crate::cli"]),
    ];
    for (folder, banned) in forbidden {
        for (path, text) in files(folder, ".rs") {
            for module in banned {
                assert!(!production(&text).contains(module), "{path} reaches {module}");
            }
        }
    }
}

#[test]
fn nothing_is_left_open() {
    for (path, text) in files("src", ".rs").into_iter().chain(files("proto", ".proto")) {
        for mark in ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"] {
            assert!(!text.contains(mark), "{path} contains {mark}");
        }
    }
}

#[test]
fn every_migration_describes_its_tables() {
    for (path, text) in files("migrations", ".sql") {
        let tables = text.matches("create table").count();
        let described = text
            .split("create table")
            .take(tables)
            .filter(|before| before.trim_end().lines().last().is_some_and(|line| line.starts_with("--")));
        assert_eq!(described.count(), tables, "{path}: a comment above each table");
    }
}
