//! docs/models.md names what is in the source.

use std::path::Path;

use crate::support::{read, root};

/// Where a definition of this name begins.
fn defines(text: &str, name: &str) -> bool {
    ["fn", "const", "struct", "enum", "trait", "type"].iter().any(|keyword| {
        let definition = format!("{keyword} {name}");
        text.match_indices(&definition).any(|(at, _)| {
            let next = text[at + definition.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

/// The names in backticks of a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_mapping_names_functions_of_the_source() {
    let document = read("docs/models.md");
    let mapping = document.split("\n## From the models to the source\n").nth(1).expect("a mapping");
    let mapping = mapping.split("\n## ").next().expect("a section");
    let rows = mapping.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, model, actions, file, names, _] = cells[..] else { return None };
        model.starts_with('`').then_some((model, actions, file, names))
    });
    let mut seen = 0;
    for (model, actions, file, names) in rows {
        let model = model.trim_matches('`');
        let text = read(Path::new("tests/models").join(format!("{model}.rs")));
        for action in quoted(actions) {
            let listed = text.split("\nenum Action {\n").nth(1).expect("actions");
            let listed = listed.split("\n}\n").next().expect("an end");
            let names = |line: &str| line.trim().split(['(', ',']).next() == Some(action);
            assert!(listed.lines().any(names), "{model} has no action {action}");
        }
        let text = read(file.trim_matches('`'));
        for name in quoted(names) {
            assert!(defines(&text, name), "{file} does not define {name}");
        }
        seen += 1;
    }
    assert!(seen >= 20, "{seen} rows");
}

#[test]
fn every_mutation_is_documented() {
    let document = read("docs/models.md");
    for entry in std::fs::read_dir(root().join("tests/models")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = read(&path);
        let Some(variants) = text.split("\nenum Variant {\n").nth(1) else { continue };
        let variants = variants.split("\n}\n").next().expect("an end");
        let names = variants.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        for name in names.map(|line| line.trim_end_matches(',')) {
            let quoted = format!("`{name}`");
            let own = name.starts_with("As");
            assert!(own || document.contains(&quoted), "{}: {name}", path.display());
            let tested = text.matches(name).count() > 2;
            assert!(own || tested, "{}: {name} is not tested", path.display());
        }
    }
}
