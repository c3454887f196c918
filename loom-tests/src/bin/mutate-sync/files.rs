//! The library's sources as the models compile them: from the root, module by module.

use std::fs;
use std::path::Path;

use syn::Item;

use crate::Fault;
use crate::attributes::is_absent;

/// A file of the library.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// From the workspace's root, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The switch itself is the models' ground, and no part of a protocol.
pub(crate) const SWITCH: &str = "src/sync.rs";
/// So are the models of the conformance kit.
const KIT: &str = "src/conformance/";

/// Every file that the models compile, but for the switch and the kit, sorted.
pub(crate) fn sources(root: &Path) -> Result<Vec<SourceFile>, Fault> {
    let mut found = Vec::new();
    module(root, "src/lib.rs", "src", &mut found)?;
    found.retain(|file| file.path != SWITCH && !file.path.starts_with(KIT));
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Reads the file of a module, whose children's files stand in `folder`.
fn module(root: &Path, path: &str, folder: &str, found: &mut Vec<SourceFile>) -> Result<(), Fault> {
    let text = fs::read_to_string(root.join(path)).map_err(|e| Fault::of(path, e))?;
    let syntax = syn::parse_file(&text).map_err(|e| {
        let at = e.span().start();
        Fault::of(format!("{path}:{}", at.line), e)
    })?;
    found.push(SourceFile {
        path: path.to_owned(),
        text,
    });
    children(root, &syntax.items, folder, found)
}

fn children(
    root: &Path,
    items: &[Item],
    folder: &str,
    found: &mut Vec<SourceFile>,
) -> Result<(), Fault> {
    for item in items {
        let Item::Mod(child) = item else { continue };
        if is_absent(&child.attrs) {
            continue;
        }
        let inner = format!("{folder}/{}", child.ident);
        if let Some((_, items)) = &child.content {
            children(root, items, &inner, found)?;
            continue;
        }
        let flat = format!("{inner}.rs");
        let path = if root.join(&flat).exists() {
            flat
        } else {
            format!("{inner}/mod.rs")
        };
        module(root, &path, &inner, found)?;
    }
    Ok(())
}
