//! Every call and every resource type that is asked for stands, with its role, in `docs/permissions.md`; `UPDATE=1`
//! rewrites it. A call that is made beside the table fails here.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use talos_vmtoolsd::talos::{ResourceType, Snapshot, client::METHODS};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const HEAD: &str = "\
# What the daemon asks Talos for

This page is generated from the code: `UPDATE=1 cargo test --test permissions`.

Each call carries one role, the least one that Talos accepts for it; a call that is not in this table would go out
without a role, and Talos would refuse it. No call needs `os:admin`, and none writes a resource.

";

fn page() -> Result<String, std::fmt::Error> {
    let mut page = String::from(HEAD);
    page.push_str("| call | role | an answer may take |\n| --- | --- | --- |\n");
    for method in METHODS {
        writeln!(
            page,
            "| `{}` | `{}` | {:?} |",
            method.path, method.role, method.deadline
        )?;
    }
    page.push_str(
        "\nThe first call may take 10 s: Talos 1.13 and later hold it for up to 5 s while they learn the process.\n\n\
         `Watch` is asked for these resources, each with `os:reader`:\n\n\
         | type | namespace | which |\n| --- | --- | --- |\n",
    );
    for resource_type in ResourceType::ALL {
        let which = match resource_type.only_id() {
            Some(id) => format!("`{id}`"),
            None if resource_type.follows_selection() => "of the reported links".to_owned(),
            None if !resource_type.ids().is_empty() => format!("`{}`", resource_type.ids().join("`, `")),
            None => "all".to_owned(),
        };
        writeln!(
            page,
            "| `{resource_type}` | `{}` | {which} |",
            resource_type.namespace()
        )?;
    }
    page.push_str("\nA type that a release does not have costs its fact and nothing else.\n");
    Ok(page)
}

#[test]
fn the_page_is_what_the_code_asks_for() -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/permissions.md");
    let fresh = page()?;
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &fresh)?;
    }
    assert!(
        fs::read_to_string(&path)? == fresh,
        "docs/permissions.md differs from the code: run UPDATE=1 cargo test --test permissions"
    );
    Ok(())
}

#[test]
fn every_call_and_every_fact_is_described() -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/talos.md");
    let described = fs::read_to_string(path)?;
    for method in METHODS {
        let row = format!("\n| `{}` | `{}` | ", method.path, method.role);
        assert!(described.contains(&row), "docs/talos.md has no {row}");
    }
    let facts = serde_json::to_value(Snapshot::default())?;
    for name in facts.as_object().ok_or("a snapshot is an object")?.keys() {
        let row = format!("\n| `{name}` | ");
        assert!(described.contains(&row), "docs/talos.md has no {row}");
    }
    Ok(())
}

/// All Rust sources of the daemon but the generated ones, without white space.
fn sources(directory: &Path, found: &mut Vec<(String, String)>) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("src/pb") {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text: String = fs::read_to_string(&path)?.split_whitespace().collect();
            found.push((path.display().to_string(), text));
        }
    }
    Ok(())
}

#[test]
fn every_call_in_the_code_is_in_the_table() -> Outcome {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found)?;
    let mut called = BTreeSet::new();
    for (path, text) in &found {
        let makes_calls = text.contains("ServiceClient::new(") || text.contains("StateClient::new(");
        assert!(
            !makes_calls || text.contains("fnassert_role("),
            "{path}: a client of the machine API beside the one that asserts the roles"
        );
        if makes_calls {
            // Each call has the form `service.method(request)`.
            for rest in text.split("service.").skip(1) {
                if let Some((name, argument)) = rest.split_once('(')
                    && argument.starts_with("request)")
                {
                    called.insert(name.to_owned());
                }
            }
        }
    }
    let known: BTreeSet<String> = METHODS
        .iter()
        .filter_map(|method| method.path.rsplit('/').next())
        .map(snake_case)
        .collect();
    assert_eq!(called, known, "calls in the code, and calls in METHODS");
    Ok(())
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[test]
fn no_role_is_stronger_than_operator() -> Outcome {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found)?;
    for (path, text) in found {
        for role in ["\"os:admin\"", "\"os:impersonator\"", "\"os:meta:writer\""] {
            assert!(!text.contains(role), "{path}: {role}");
        }
    }
    assert!(
        METHODS
            .iter()
            .all(|method| ["os:reader", "os:operator"].contains(&method.role))
    );
    Ok(())
}
