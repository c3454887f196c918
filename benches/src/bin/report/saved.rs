//! The report as it is kept: `report.json`.

use std::fs;
use std::path::Path;

use proactor_bench::rows::Row;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::parts::Part;

/// What was measured, part by part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) parts: Vec<Measured>,
}

/// One part, and what it was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) part: Part,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        serde_json::from_str(&text).map_err(|error| named(&error))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| named(&error))?;
        fs::write(path, text + "\n").map_err(|error| named(&error))
    }

    /// Takes a part in, in the place of what was there of it.
    pub(crate) fn put(&mut self, measured: Measured) {
        self.parts.retain(|old| old.part != measured.part);
        self.parts.push(measured);
        self.parts.sort_by_key(|measured| measured.part);
    }

    /// The rows of that part; none, if it was not measured.
    pub(crate) fn rows(&self, part: Part) -> &[Row] {
        let found = self.parts.iter().find(|measured| measured.part == part);
        found.map_or(&[], |measured| &measured.rows)
    }
}
