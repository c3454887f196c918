//! Charts: who took how much, a bar each, with its least and its most.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use proactor_bench::stats::Spread;
use proactor_bench::table::short;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const OURS: RGBColor = RGBColor(0, 114, 178);
const BASE: RGBColor = RGBColor(86, 86, 86);
const PEERS: RGBColor = RGBColor(190, 190, 190);
const LIMIT: RGBColor = RGBColor(213, 94, 0);

const WIDTH: u32 = 1000;
const TITLE_HEIGHT: u32 = 34;
const PANEL_HEAD: i32 = 34;
const BAR_HEIGHT: i32 = 20;
const PANEL_FOOT: i32 = 14;
/// Room for the names, left of the bars, and for the figures, right of them.
const NAMES: i32 = 190;
const FIGURES: i32 = 70;
/// Bars longer than so many times the middle one are cut off, or the short ones could not be told apart.
const CUT_OFF: f64 = 4.0;

/// Bars that are compared with each other.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
    /// What is to be reached: a line across the bars.
    pub(crate) limit: Option<f64>,
}

pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) spread: Spread,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Ours,
    Base,
    Peer,
}

impl Panel {
    fn height(&self) -> u32 {
        let bars = i32::try_from(self.bars.len()).unwrap_or(i32::MAX);
        let height = PANEL_HEAD + bars.saturating_mul(BAR_HEIGHT) + PANEL_FOOT;
        u32::try_from(height).unwrap_or(u32::MAX)
    }

    /// What the full length of a bar stands for.
    fn full(&self) -> f64 {
        let medians = Vec::from_iter(self.bars.iter().map(|bar| bar.spread.median));
        let middle = Spread::of(&medians).map_or(0.0, |spread| spread.median);
        let most = self.bars.iter().map(|bar| bar.spread.max);
        let most = most.fold(self.limit.unwrap_or(0.0), f64::max);
        most.min(CUT_OFF * middle).max(f64::MIN_POSITIVE)
    }

    fn draw(&self, area: &Area<'_>, width: i32) -> Drawn {
        area.draw(&Text::new(self.title.clone(), (10, 12), ("sans-serif", 16)))?;
        let length = f64::from(width - NAMES - FIGURES);
        let at = |value: f64| {
            let share = (value / self.full()).clamp(0.0, 1.0);
            #[allow(clippy::cast_possible_truncation)] // at most `width`
            let x = (share * length).round() as i32;
            NAMES + x
        };
        let mut y = PANEL_HEAD;
        for bar in &self.bars {
            bar.draw(area, y, &at)?;
            bar.write(area, y, width - FIGURES + 8, self.full())?;
            y += BAR_HEIGHT;
        }
        if let Some(limit) = self.limit {
            let line = [(at(limit), PANEL_HEAD - 4), (at(limit), y)];
            area.draw(&PathElement::new(line, LIMIT.stroke_width(2)))?;
        }
        Ok(())
    }
}

impl Bar {
    fn draw(&self, area: &Area<'_>, top: i32, at: &dyn Fn(f64) -> i32) -> Drawn {
        let Spread { median, min, max } = self.spread;
        let colour = match self.kind {
            Kind::Ours => OURS,
            Kind::Base => BASE,
            Kind::Peer => PEERS,
        };
        let middle = top + BAR_HEIGHT / 2;
        let body = [(NAMES, top + 3), (at(median), top + BAR_HEIGHT - 3)];
        area.draw(&Rectangle::new(body, colour.filled()))?;
        let spread = [(at(min), middle), (at(max), middle)];
        area.draw(&PathElement::new(spread, BLACK.stroke_width(1)))?;
        for end in [at(min), at(max)] {
            let tick = [(end, middle - 3), (end, middle + 3)];
            area.draw(&PathElement::new(tick, BLACK.stroke_width(1)))?;
        }
        Ok(())
    }

    /// The name, left of the bar, and the figure, right of it.
    fn write(&self, area: &Area<'_>, top: i32, right: i32, full: f64) -> Drawn {
        let middle = top + BAR_HEIGHT / 2;
        let median = self.spread.median;
        let figure = match median > full {
            true => format!("\u{bb} {}", short(median)),
            false => short(median),
        };
        let texts = [
            (&self.name, NAMES - 8, HPos::Right),
            (&figure, right, HPos::Left),
        ];
        for (text, x, side) in texts {
            let style = ("sans-serif", 14).into_font().color(&BLACK);
            let style = style.pos(Pos::new(side, VPos::Center));
            area.draw(&Text::new(text.clone(), (x, middle), style))?;
        }
        Ok(())
    }
}

/// The chart as SVG: panels in two columns.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> Result<String, Box<dyn Error>> {
    let rows = Vec::from_iter(panels.chunks(2));
    let heights = Vec::from_iter(rows.iter().map(|row| {
        let heights = row.iter().map(Panel::height);
        heights.max().unwrap_or(0)
    }));
    let height = TITLE_HEIGHT + heights.iter().sum::<u32>();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, mut rest) = root.split_vertically(TITLE_HEIGHT);
        head.draw(&Text::new(title.to_owned(), (10, 10), ("sans-serif", 20)))?;
        for (row, height) in rows.iter().zip(heights) {
            let (this, below) = rest.split_vertically(height);
            let columns = this.split_evenly((1, 2));
            for (panel, area) in row.iter().zip(&columns) {
                let width = i32::try_from(area.dim_in_pixel().0)?;
                panel.draw(area, width)?;
            }
            rest = below;
        }
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, median: f64) -> Bar {
        let (min, max) = (0.9 * median, 1.1 * median);
        Bar {
            name: name.into(),
            kind: Kind::Ours,
            spread: Spread { median, min, max },
        }
    }

    #[test]
    fn every_bar_is_drawn_with_its_name_and_figure() {
        let panel = |title: &str| Panel {
            title: title.into(),
            bars: vec![bar("ours", 0.98), bar("theirs", 1.23)],
            limit: Some(1.03),
        };
        let svg = draw("all", &[panel("one"), panel("two"), panel("three")]).unwrap();
        for text in [
            "all", "one", "two", "three", "ours", "theirs", "0.98", "1.23",
        ] {
            assert!(svg.contains(text), "`{text}` in {svg}");
        }
    }

    #[test]
    fn a_bar_that_is_far_longer_than_the_others_is_cut_off_and_marked() {
        let panel = Panel {
            title: "one".into(),
            bars: vec![bar("a", 1.0), bar("b", 2.0), bar("c", 100.0)],
            limit: None,
        };
        assert_eq!(panel.full(), 2.0 * CUT_OFF);
        let svg = draw("all", &[panel]).unwrap();
        assert!(svg.contains("\u{bb} 100"), "{svg}");
    }
}
