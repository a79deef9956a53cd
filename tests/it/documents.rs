//! The documents against the code: what they list is what there is, and what there is they list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chatbill_domain::delivery::SCHEDULE;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README.md and everything in docs/ that a person reads.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            found.push(format!("docs/{name}"));
        }
    }
    found
}

/// The code that runs in functions, without its tests.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for crate_name in ["domain", "gateways", "channels", "store", "runtime"] {
        collect(
            &root().join("shared").join(crate_name).join("src"),
            &mut found,
        );
    }
    for function in fs::read_dir(root().join("functions")).unwrap() {
        collect(&function.unwrap().path().join("src"), &mut found);
    }
    assert!(found.len() > 30, "{} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs")
            && path.file_stem().is_some_and(|s| s != "tests")
        {
            let code = fs::read_to_string(&path).unwrap();
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            found.push((path.display().to_string(), code.to_owned()));
        }
    }
}

/// The text literals in argument number `index` of every call that begins with `call`, e.g. `.fault(`.
fn literals(code: &str, call: &str, index: usize) -> BTreeSet<String> {
    code.match_indices(call)
        .filter(|(at, _)| !code[..*at].ends_with("fn "))
        .flat_map(|(at, _)| words(&argument(&code[at + call.len()..], index)))
        .collect()
}

/// One argument of a call whose opening bracket is just behind us.
fn argument(code: &str, index: usize) -> String {
    let (mut depth, mut number, mut quoted) = (0_i32, 0, false);
    let mut found = String::new();
    let mut previous = ' ';
    for c in code.chars() {
        if c == '"' && previous != '\\' {
            quoted = !quoted;
        }
        if !quoted {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            if depth < 0 {
                break;
            }
            if c == ',' && depth == 0 {
                number += 1;
                continue;
            }
        }
        if number == index {
            found.push(c);
        }
        previous = c;
    }
    found
}

/// The snake_case literals of a piece of code.
fn words(code: &str) -> BTreeSet<String> {
    code.split('"')
        .skip(1)
        .step_by(2)
        .filter(|w| w.len() > 1 && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .map(str::to_owned)
        .collect()
}

/// A section of a document: from its heading to the next one of the same or a higher level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no section {heading}"))
        + heading.len()
        + 2;
    let level = heading.split(' ').next().unwrap().len();
    let rest = &document[start..];
    let end = rest
        .match_indices("\n#")
        .find(|(at, _)| rest[at + 1..].split(' ').next().unwrap().len() <= level)
        .map_or(rest.len(), |(at, _)| at);
    &rest[..end]
}

/// What stands in backticks in the first cell of each row of a section's tables.
fn rows(section: &str) -> BTreeSet<String> {
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

fn same(documented: &BTreeSet<String>, used: &BTreeSet<String>, what: &str) {
    let missing: Vec<_> = used.difference(documented).collect();
    let stale: Vec<_> = documented.difference(used).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "{what}: not documented {missing:?}, documented but unused {stale:?}"
    );
}

#[test]
fn every_error_code_of_the_api_is_documented() {
    let mut used = BTreeSet::new();
    for (_, code) in sources() {
        for (call, index) in [
            ("ApiError::bad_request(", 0),
            ("ApiError::bad_fields(", 0),
            ("ApiError::conflict(", 0),
            ("ApiError::unavailable(", 0),
            ("Self::unavailable(", 0),
            ("Self::conflict(", 0),
        ] {
            used.extend(literals(&code, call, index));
        }
        if code.contains("pub struct ApiError") {
            used.extend(literals(&code, "Self::new(", 1));
        }
    }
    // What API Gateway answers by itself.
    for (at, mark) in text("template.yaml").match_indices("\"code\":\"") {
        let code = &text("template.yaml")[at + mark.len()..];
        used.insert(code.split('"').next().unwrap().to_owned());
    }
    assert!(used.len() > 15, "{used:?}");
    let document = text("docs/errors.md");
    same(
        &rows(section(&document, "## Answers of the API")),
        &used,
        "docs/errors.md",
    );
}

#[test]
fn every_fault_code_is_documented() {
    let mut used = BTreeSet::new();
    for (_, code) in sources() {
        for call in ["Fault::new(", ".fault("] {
            used.extend(literals(&code, call, 1));
        }
    }
    assert!(used.len() > 15, "{used:?}");
    let document = text("docs/errors.md");
    same(
        &rows(section(&document, "## Faults of fields")),
        &used,
        "docs/errors.md",
    );
}

#[test]
fn our_own_codes_inside_an_order_are_documented() {
    let document = text("docs/errors.md");
    let documented = rows(section(&document, "## Codes inside an order"));
    for (path, code) in sources() {
        if code.contains("pub struct ApiError") {
            continue;
        }
        let mut used: BTreeSet<String> = code
            .match_indices("failure(")
            .map(|(at, mark)| &code[at + mark.len()..])
            .filter(|arguments| argument(arguments, 0).trim().starts_with("Remedy::"))
            .flat_map(|arguments| words(&argument(arguments, 1)))
            .collect();
        for part in code.split("code: \"").skip(1) {
            used.insert(part.split('"').next().unwrap().to_owned());
        }
        // The gateway's words for a link that cannot be used again.
        used.extend(
            code.split("(\"link_")
                .skip(1)
                .map(|rest| format!("link_{}", rest.split('"').next().unwrap())),
        );
        for code in used {
            assert!(
                documented.contains(&code),
                "{path}: {code} is not in docs/errors.md"
            );
        }
    }
}

#[test]
fn every_event_that_is_logged_is_documented() {
    let mut used = BTreeSet::new();
    for (_, code) in sources() {
        for (at, mark) in code.match_indices("event = \"") {
            if !code[..at].ends_with("let ") {
                used.insert(
                    code[at + mark.len()..]
                        .split('"')
                        .next()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    assert!(used.len() > 4, "{used:?}");
    let document = text("docs/logging.md");
    let documented = rows(section(&document, "## Events"));
    same(&documented, &used, "docs/logging.md");

    let template = text("template.yaml");
    for (at, mark) in template.match_indices("$.fields.event = \"") {
        let event = template[at + mark.len()..].split('"').next().unwrap();
        assert!(
            documented.contains(event),
            "an alarm waits for {event}, which docs/logging.md does not name"
        );
    }
}

#[test]
fn the_table_of_what_works_names_everything_that_is_registered() {
    let readme = text("README.md");
    let table = section(&readme, "## What works today");
    for name in chatbill_gateways::names()
        .into_iter()
        .chain(chatbill_channels::names())
    {
        let cell = format!("`{name}`");
        assert!(
            table
                .lines()
                .any(|line| line.starts_with('|') && line.contains(&cell)),
            "README.md, \"What works today\", has no row with {cell}"
        );
    }
}

#[test]
fn the_retry_schedule_is_the_one_in_the_code() {
    let spelled: Vec<String> = SCHEDULE
        .iter()
        .map(|seconds| match seconds {
            s if s % 3600 == 0 => format!("{} h", s / 3600),
            s if s % 60 == 0 => format!("{} min", s / 60),
            s => format!("{s} s"),
        })
        .collect();
    let spelled = spelled.join(", ");
    for path in ["README.md", "docs/runbook.md"] {
        let flat = text(path).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&spelled), "{path} does not say: {spelled}");
    }
}

/// The name a heading gets on GitHub.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn without_code(document: &str) -> String {
    document.split("```").step_by(2).collect()
}

#[test]
fn links_lead_somewhere() {
    for path in documents() {
        let document = text(&path);
        let prose = without_code(&document);
        let folder = root().join(&path).parent().unwrap().to_owned();
        let targets = prose
            .split("](")
            .skip(1)
            .map(|rest| rest.split([')', ' ']).next().unwrap())
            .chain(
                prose
                    .split("src=\"")
                    .skip(1)
                    .map(|rest| rest.split('"').next().unwrap()),
            );
        for target in targets {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, mark) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                root().join(&path)
            } else {
                folder.join(file)
            };
            assert!(file.exists(), "{path}: {target} leads nowhere");
            if !mark.is_empty() {
                let there = without_code(&fs::read_to_string(&file).unwrap());
                assert!(
                    there
                        .lines()
                        .any(|l| l.starts_with('#') && anchor(l) == mark),
                    "{path}: {target}: no such heading"
                );
            }
        }
    }
}

#[test]
fn json_in_the_documents_is_json() {
    for path in documents() {
        for block in text(&path).split("```json\n").skip(1) {
            let block = block.split("```").next().unwrap();
            if let Err(error) = serde_json::from_str::<serde_json::Value>(block) {
                panic!("{path}: {error} in\n{block}");
            }
        }
    }
}

#[test]
fn verbs_and_files_that_the_documents_name_exist() {
    let verbs = text("xtask/src/main.rs");
    for path in documents() {
        let document = text(&path);
        for rest in document.split("cargo xtask ").skip(1) {
            let verb: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            assert!(
                verb.is_empty() || verbs.contains(&format!("\n  {verb} ")),
                "{path}: cargo xtask {verb}"
            );
        }
        for rest in document.split("events/").skip(1) {
            let file: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.'))
                .collect();
            if file.ends_with(".json") {
                assert!(
                    root().join("events").join(&file).exists(),
                    "{path}: events/{file}"
                );
            }
        }
    }
}
