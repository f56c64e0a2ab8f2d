//! Checks the structure of the source and of the documents: which layer may use which, and what no
//! file may contain.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layers that each layer may use besides itself. `error` is a leaf that folds the errors of
/// the layers below it.
const LAYERS: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("thread", &[]),
    ("cron", &[]),
    ("calendar", &["cron", "sync"]),
    ("model", &["calendar", "cron", "sync"]),
    ("clock", &["calendar"]),
    ("plan", &["model", "calendar"]),
    // No `plan`: the effect of a command on a row is in `store::tables::transitions`; which
    // commands to send is decided above.
    ("store", &["model", "calendar", "process", "sync", "thread"]),
    ("process", &[]),
    ("error", &["store", "model", "calendar", "cron"]),
    ("engine", &["plan", "store", "model", "clock", "calendar", "sync", "thread"]),
    (
        "service",
        &[
            "engine", "plan", "store", "model", "clock", "calendar", "cron", "error", "process", "sync",
            "thread",
        ],
    ),
    (
        "bindings",
        &[
            "service", "engine", "plan", "store", "model", "clock", "calendar", "cron", "error", "process",
            "sync", "thread",
        ],
    ),
];

/// A longer file covers more than one topic.
const LINES_MAX: usize = 700;

/// Words that the glossary (`docs/glossary.md`) replaces, as parts of identifiers and file names.
/// Not `fate`, which is the name of a column.
const RETIRED: &[(&str, &str)] = &[
    ("arrival", "transfer target"),
    ("attentive", "watching since"),
    ("buried", "expired"),
    ("bury", "expire"),
    ("crowd", "burst"),
    ("departure", "transfer source"),
    ("desk", "service"),
    ("hearer", "handler"),
    ("hears_of", "on"),
    ("in_line", "queued"),
    ("is_told", "on_advice"),
    ("let_go", "untrack"),
    ("leave_out", "skip"),
    ("left_out", "skipped"),
    ("look_around", "refresh peers"),
    ("patience", "timeout"),
    ("setback", "rollback"),
    ("sign_of_life", "last alive"),
    ("size_up", "estimate"),
    ("take_back", "revoke"),
    ("take_in", "accept"),
    ("takes_back", "revokes"),
    ("taken_back", "revoked"),
];

/// The widest line of a comment, or of prose in a document.
const WIDTH_MAX: usize = 100;

/// Documents whose lines are not checked: `make bench` writes the first, and entries of the second
/// are merged by union (`.gitattributes`), so wrapping them again would repeat them.
const NOT_WRAPPED: &[&str] = &["benches/RESULTS.md", "CHANGELOG.md"];

/// Phrases that the glossary replaces, as documents used them: unambiguous ones, in lower case.
const RETIRED_PHRASES: &[(&str, &str)] = &[
    ("sign of life", "heartbeat"),
    ("signs of life", "heartbeats"),
    ("buried", "expired"),
    ("buries", "expires"),
    ("bury", "expire"),
    ("crowd", "burst"),
    ("crowds", "bursts"),
    ("fate", "outcome"),
    ("fates", "outcomes"),
    ("gave.", "effect"),
    ("given back", "released"),
    ("gives back", "releases"),
    ("goes on", "continues"),
    ("in line", "queued"),
    ("its beat", "its heartbeat"),
    ("seen by", "tested by"),
    ("setback", "rollback"),
    ("signed in", "registered"),
    ("signs in", "registers"),
    ("signs out", "deregisters"),
    ("sweep", "prune"),
    ("sweeps", "prunes"),
    ("take back", "revoke"),
    ("taken back", "revoked"),
    ("takes back", "revokes"),
];

struct Source {
    /// Below `src`, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn layer(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Without comments: only the code that a compiler sees, line by line.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(|line| line.split("//").next().unwrap_or(line))
    }
}

/// The folder of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// All Rust files of a folder, in order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let root = root().join("src");
    let source = |path: PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(&path).unwrap(),
    };
    rust_files(&root).into_iter().map(source).collect()
}

/// Layers that a line names: `crate::store`, also in `use crate::{model::Run, store::Store}`. The
/// bindings are a package of their own and name the others as `polos::store`.
fn layers_named(code: &str) -> BTreeSet<String> {
    let mut layers = BTreeSet::new();
    let prefixes = ["crate::", "polos::"];
    for (start, prefix) in prefixes.iter().flat_map(|prefix| code.match_indices(prefix)) {
        let rest = &code[start + prefix.len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            None => vec![rest],
            Some(list) => list.split([',', '}']).map(str::trim).collect(),
        };
        for name in names {
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            layers.insert(name[..end].to_owned());
        }
    }
    layers.remove("");
    layers
}

#[test]
fn layers_use_only_lower_layers() {
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let layer = source.layer();
        if layer == "lib" {
            continue;
        }
        let Some(may_use) = table.get(layer) else {
            wrong.push(format!("{}: `{layer}` is not in the table of layers", source.path));
            continue;
        };
        for (number, line) in source.code().enumerate() {
            for named in layers_named(line) {
                // `crate::Something` is not a layer but an item of the root, of which none exist.
                if named != layer && !may_use.contains(&named.as_str()) {
                    wrong.push(format!("{}:{}: {layer} uses {named}", source.path, number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_of_layers_is_complete() {
    let folders: BTreeSet<String> =
        sources().iter().map(|source| source.layer().to_owned()).filter(|layer| layer != "lib").collect();
    let table: BTreeSet<String> = LAYERS.iter().map(|(layer, _)| (*layer).to_owned()).collect();
    assert_eq!(folders, table);
    for (layer, allowed) in LAYERS {
        for below in *allowed {
            let (_, back) = LAYERS.iter().find(|(name, _)| name == below).unwrap();
            assert!(!back.contains(layer), "{layer} and {below} may use each other");
        }
    }
}

#[test]
fn only_the_bindings_name_python() {
    for source in sources().iter().filter(|source| source.layer() != "bindings") {
        assert!(source.code().all(|line| !line.contains("pyo3")), "{} names pyo3", source.path);
    }
}

#[test]
fn only_the_clock_reads_the_machine_s_time() {
    // SQLite waits for locks by itself and needs a timeout.
    const MAY_ASK: &[&str] = &["clock.rs", "store/sqlite/busy.rs"];
    for source in sources().iter().filter(|source| !MAY_ASK.contains(&source.path.as_str())) {
        for asking in ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"] {
            assert!(source.code().all(|line| !line.contains(asking)), "{} calls {asking}", source.path);
        }
    }
}

#[test]
fn every_file_opens_with_a_module_doc() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} does not open with `//!`", source.path);
    }
}

#[test]
fn tests_are_outside_of_the_library() {
    // Tests inside the library would never run: `Cargo.toml` says `test = false`.
    for source in sources() {
        assert!(source.code().all(|line| !line.contains("cfg(test)")), "{} has tests", source.path);
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for source in sources() {
        for macro_name in ["todo!", "unimplemented!", "dbg!"] {
            assert!(source.code().all(|line| !line.contains(macro_name)), "{} has {macro_name}", source.path);
        }
    }
}

#[test]
fn no_file_exceeds_the_length_limit() {
    for source in sources() {
        let count = source.text.lines().count();
        assert!(count <= LINES_MAX, "{} has {count} lines", source.path);
    }
}

/// `EndRun` as `_end_run_`: the words of an identifier, so that they can be searched.
fn words(identifier: &str) -> String {
    let mut words = String::from("_");
    let mut was_lower = false;
    for letter in identifier.chars() {
        if letter.is_ascii_uppercase() && was_lower {
            words.push('_');
        }
        was_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        words.push(letter.to_ascii_lowercase());
    }
    words.push('_');
    words
}

/// The identifiers of a line of code, without quoted text.
fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    let bare = code.split('"').step_by(2);
    bare.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
}

#[test]
fn no_retired_word_is_used() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.trim_end_matches(".rs");
        let names = path.split('/').chain(source.code().flat_map(identifiers));
        for name in names {
            for (retired, instead) in RETIRED {
                if words(name).contains(&format!("_{retired}_")) {
                    wrong.push(format!("{}: `{name}`; say {instead}", source.path));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A Markdown file of the repository.
struct Document {
    /// Below the repository's folder, with `/`.
    path: String,
    text: String,
}

impl Document {
    /// The lines that a person wrote as prose, with their numbers: no code, tables, or headings.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            let content = line.trim_start();
            let is_fence = content.starts_with("```") || content.starts_with("~~~");
            is_code ^= is_fence;
            let is_prose = !is_code && !is_fence && !content.starts_with(['|', '#']);
            is_prose.then_some((index + 1, line))
        })
    }
}

/// The documents outside of folders that are built or installed.
fn documents() -> Vec<Document> {
    fn walk(root: &Path, folder: &Path, depth: usize, found: &mut Vec<Document>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if depth > 0 {
                    walk(root, &path, depth - 1, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Document { path: name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(root, root, 0, &mut found);
    for folder in ["benches", "docs", "examples", "tests"] {
        walk(root, &root.join(folder), 3, &mut found);
    }
    found.retain(|document| !NOT_WRAPPED.contains(&document.path.as_str()));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Whether a line has a space at which it could be broken: not one in a code span, and not the one
/// after the mark of a list item.
fn can_be_broken(line: &str) -> bool {
    let content = line.trim_start().trim_start_matches(|c: char| "-*>:.".contains(c) || c.is_ascii_digit());
    let content = content.trim_start();
    let is_link =
        content.starts_with(['[', '!']) && content.matches("](").count() == 1 && content.ends_with(')');
    let is_definition = content.starts_with('[') && content.contains("]: ");
    let mut is_code = false;
    let has_space = content.chars().any(|c| {
        is_code ^= c == '`';
        c == ' ' && !is_code
    });
    has_space && !is_link && !is_definition
}

#[test]
fn prose_is_wrapped() {
    let mut wrong = Vec::new();
    for document in documents() {
        for (number, line) in document.prose() {
            if line.chars().count() > WIDTH_MAX && can_be_broken(line) {
                wrong.push(format!("{}:{number}: wrap at {WIDTH_MAX} columns", document.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn comments_are_wrapped() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            if line.chars().count() > WIDTH_MAX && can_be_broken(comment.trim_start_matches(['/', '!'])) {
                wrong.push(format!("{}:{}: wrap at {WIDTH_MAX} columns", source.path, index + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_retired_phrase_is_used_in_the_documents() {
    let mut wrong = Vec::new();
    for document in documents().iter().filter(|document| document.path.starts_with("docs/")) {
        // A phrase may continue on the next line.
        let words = document.text.to_lowercase();
        let words = words.split(|c: char| c.is_whitespace() || "*_`\"'(),:;|".contains(c));
        let text = format!(" {} ", words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
        for (retired, instead) in RETIRED_PHRASES {
            if [" ", ". "].iter().any(|end| text.contains(&format!(" {retired}{end}"))) {
                wrong.push(format!("{}: `{retired}`; say {instead}", document.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_decision_record_has_the_same_structure() {
    let mut count = 0;
    for document in documents() {
        let Some(name) = document.path.strip_prefix("docs/decisions/") else { continue };
        let title = format!("# {} ", &name[..4]);
        assert!(document.text.starts_with(&title), "{} does not open with `{title}`", document.path);
        assert!(document.text.contains("\n**Decision.** "), "{} has no decision", document.path);
        count += 1;
    }
    assert!(count > 0, "there are decision records");
}

/// A test that is renamed must be renamed in the planted bugs that it catches, too.
/// `tests/unit/test_planted_bugs.py` checks the rest of them.
#[test]
fn planted_bugs_name_tests_that_exist() {
    let folder = root().join("tests/mutants");
    // `make mutants` tests a copy of the tree without them.
    let Ok(entries) = fs::read_dir(folder) else { return };
    let listed = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut names: Vec<String> =
        listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    // The other program with tests may not be built.
    let others = root().join("tests/optimized");
    for path in rust_files(&others) {
        let module = path.strip_prefix(&others).unwrap().with_extension("");
        let module = module.to_string_lossy().replace(['/', '\\'], "::");
        let module = module.strip_suffix("::mod").unwrap_or(&module);
        let text = fs::read_to_string(&path).unwrap();
        let tests = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
        names.extend(tests.map(|line| format!("{module}::{}", line.split(['(', '<']).next().unwrap())));
    }
    let mut wrong = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let filters = text.lines().filter_map(|line| line.strip_prefix("tests: "));
        for wanted in filters.flat_map(str::split_whitespace) {
            // After the slash: one case of a suite that is a single test.
            let (filter, case) = wanted.split_once('/').unwrap_or((wanted, ""));
            let has_case = case.is_empty() || crate::store::conformance::has_case(case);
            if !has_case || !names.iter().any(|name| name.contains(filter)) {
                wrong.push(format!("{}: no test matches `{wanted}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
