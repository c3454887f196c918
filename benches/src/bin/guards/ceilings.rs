//! The file of ceilings, and what is said when one is exceeded.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::guard::Guard;
use proactor_bench::example::workspace;

pub(crate) struct Ceilings {
    path: PathBuf,
    text: String,
    each: Vec<(Guard, f64)>,
}

/// A figure beside its ceiling.
pub(crate) struct Measured {
    pub(crate) guard: Guard,
    pub(crate) figure: f64,
    pub(crate) ceiling: f64,
    pub(crate) look_at: String,
}

impl Ceilings {
    pub(crate) fn read(guards: &[Guard]) -> Result<Self, String> {
        let path = workspace().join("benches/ceilings.txt");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let each = parse(&text, guards).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, text, each })
    }

    /// Every guard has one: [`read`](Self::read) saw to it.
    pub(crate) fn of(&self, guard: Guard) -> f64 {
        let found = self.each.iter().find(|(one, _)| *one == guard);
        found.map_or(0.0, |(_, ceiling)| *ceiling)
    }

    /// Writes the file anew, with the ceilings that can be lower.
    pub(crate) fn lower(&self, measured: &[Measured]) -> Result<(), String> {
        let text = lowered(&self.text, measured);
        std::fs::write(&self.path, text)
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

/// A line is a guard's name and its ceiling; what follows a `#` is a comment.
fn parse(text: &str, guards: &[Guard]) -> Result<Vec<(Guard, f64)>, String> {
    let mut each: Vec<(Guard, f64)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let said = |what: String| format!("line {}: {what}", at + 1);
        let words = words(line);
        let [name, ceiling] = words[..] else {
            match words.is_empty() {
                true => continue,
                false => return Err(said("not a name and a ceiling".into())),
            }
        };
        let guard = guards.iter().find(|guard| guard.to_string() == name);
        let guard = *guard.ok_or_else(|| said(format!("there is no guard `{name}`")))?;
        let ceiling = ceiling.parse().ok().filter(|ceiling: &f64| *ceiling > 0.0);
        let ceiling = ceiling.ok_or_else(|| said("not a ceiling above 0".into()))?;
        if each.iter().any(|(one, _)| *one == guard) {
            return Err(said(format!("a second ceiling for {name}")));
        }
        each.push((guard, ceiling));
    }
    let has_none = |guard: &&Guard| !each.iter().any(|(one, _)| one == *guard);
    match guards.iter().find(has_none) {
        Some(guard) => Err(format!("{guard} has no ceiling: add a line")),
        None => Ok(each),
    }
}

fn words(line: &str) -> Vec<&str> {
    let line = line.split('#').next().unwrap_or_default();
    line.split_whitespace().collect()
}

/// The text with the ceilings that what was measured leaves too much room.
fn lowered(text: &str, measured: &[Measured]) -> String {
    let mut new = String::new();
    for line in text.lines() {
        let lower = measured.iter().find_map(|one| {
            let words = words(line);
            let ceiling = one.guard.ceiling_for(one.figure);
            let its = words.first() == Some(&one.guard.to_string().as_str());
            (its && ceiling < one.ceiling)
                .then(|| line.replacen(words[1], &one.guard.write(ceiling), 1))
        });
        new.push_str(lower.as_deref().unwrap_or(line));
        new.push('\n');
    }
    new
}

impl Measured {
    pub(crate) fn holds(&self) -> bool {
        self.figure <= self.ceiling
    }

    /// What rose, by how much, and where to look.
    pub(crate) fn complaint(&self) -> String {
        let Self { guard, .. } = self;
        let above = self.figure - self.ceiling;
        format!(
            "{guard} rose to {} {}, {} ({:.1} %) above its ceiling of {}.\n\
             \x20 what it is made of: {}\n\
             \x20 if it has to be so, raise the ceiling in benches/ceilings.txt and say why in docs/decisions.md",
            guard.write(self.figure),
            guard.unit(),
            guard.write(above),
            100.0 * above / self.ceiling,
            guard.write(self.ceiling),
            self.look_at,
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.guard.to_string(),
            "unit": self.guard.unit(),
            "figure": self.figure,
            "ceiling": self.ceiling,
            "ok": self.holds(),
            "look_at": self.look_at,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, .. } = self;
        let (now, most) = (guard.write(self.figure), guard.write(self.ceiling));
        let verdict = if self.holds() { "" } else { "  TOO MUCH" };
        let name = guard.to_string();
        let unit = guard.unit();
        write!(f, "{name:<42} {now:>9} {most:>9}  {unit}{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards() -> Vec<Guard> {
        Guard::all()[..2].to_vec()
    }

    fn measured(figure: f64, ceiling: f64) -> Measured {
        Measured {
            guard: guards()[0],
            figure,
            ceiling,
            look_at: "cat profile".into(),
        }
    }

    /// A file with a ceiling for each.
    fn file(ceilings: [&str; 2]) -> String {
        let lines = guards().into_iter().zip(ceilings);
        let lines = lines.map(|(guard, ceiling)| format!("{guard}   {ceiling}   # why\n"));
        format!("# a comment\n\n{}", lines.collect::<String>())
    }

    #[test]
    fn a_figure_above_its_ceiling_is_told_with_what_to_do() {
        assert!(measured(400.0, 400.0).holds());
        let risen = measured(440.0, 400.0);
        assert!(!risen.holds());
        let complaint = risen.complaint();
        let name = guards()[0].to_string();
        for part in [name.as_str(), "440", "40 (10.0 %)", "cat profile"] {
            assert!(complaint.contains(part), "`{part}` in: {complaint}");
        }
    }

    #[test]
    fn every_guard_has_one_ceiling() {
        let read = |text: &str| parse(text, &guards());
        let each = read(&file(["400", "2.5"])).unwrap();
        assert_eq!(each, vec![(guards()[0], 400.0), (guards()[1], 2.5)]);
        let name = guards()[0].to_string();
        let wrong = [
            (file(["400", "2.5"]) + "other 3\n", "no guard `other`"),
            (format!("{name} 400\n"), "has no ceiling"),
            (file(["400", "2.5"]) + &name + " 1\n", "a second ceiling"),
            (file(["400", "many"]), "line 4: not a ceiling"),
            (file(["400", "-1"]), "not a ceiling"),
            (file(["400", ""]), "line 4: not a name"),
        ];
        for (text, what) in wrong {
            let error = read(&text).unwrap_err();
            assert!(error.contains(what), "`{what}` in: {error}");
        }
    }

    #[test]
    fn the_file_that_is_used_has_a_ceiling_for_every_guard() {
        let all = Guard::all();
        let ceilings = Ceilings::read(&all).unwrap();
        assert!(all.iter().all(|guard| ceilings.of(*guard) > 0.0));
    }

    #[test]
    fn ceilings_are_lowered_and_never_raised() {
        let text = file(["400", "2.5"]);
        let lower = lowered(&text, &[measured(100.0, 400.0)]);
        assert_eq!(lower, file(["103", "2.5"]));
        assert_eq!(lowered(&text, &[measured(399.0, 400.0)]), text);
        assert_eq!(lowered(&text, &[measured(500.0, 400.0)]), text);
    }
}
