//! The sweep's chart (`cargo run --release --example tune_pool_size`): throughput and latency over the size of the pool, a
//! line for each strategy, each point a median with bars from the least to the most.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cell::{Measured, Sample, Spread};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1000, 480);
const LEGEND_HEIGHT: u32 = 26;
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 86, 86),
];

/// One of the two pictures side by side.
struct Panel {
    unit: String,
    figure: fn(&Sample) -> f64,
}

/// Draws what was measured.
pub(crate) fn draw(
    path: &Path,
    load: &str,
    operation: &str,
    measured: &[Measured],
) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("proactor under {load}");
        let (legend, area) = root
            .titled(&title, ("sans-serif", 22))?
            .split_vertically(LEGEND_HEIGHT);
        draw_legend(&legend, measured)?;
        let panels = [
            Panel {
                unit: format!("throughput ({operation}s/s)"),
                figure: |sample| sample.throughput,
            },
            Panel {
                unit: "99th percentile of latency (us)".into(),
                figure: |sample| sample.p99_us,
            },
        ];
        for (area, panel) in area.split_evenly((1, 2)).iter().zip(panels) {
            panel.draw(area, measured)?;
        }
        root.present()?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

impl Panel {
    fn draw(&self, area: &Area<'_>, measured: &[Measured]) -> Result<(), Box<dyn Error>> {
        let threads = threads_of(measured);
        let extent = extent(&threads);
        let most = measured.iter().map(|row| row.spread(self.figure).max);
        let top = 1.15 * most.fold(f64::MIN_POSITIVE, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(76)
            .build_cartesian_2d(
                extent
                    .clone()
                    .log_scale()
                    .base(2.0)
                    .with_key_points(threads),
                0.0..top,
            )?;
        chart
            .configure_mesh()
            .x_desc("threads in the pool")
            .y_desc(&self.unit)
            .x_label_formatter(&|threads| format!("{threads:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .draw()?;
        for (index, series) in series_of(measured).into_iter().enumerate() {
            // A little beside each other, so that bars of equal cells can be told apart.
            let beside = (extent.end / extent.start).powf(0.012 * index as f64);
            let at = |row: &Measured| row.cell.threads.get() as f64 * beside;
            let medians = series
                .iter()
                .map(|row| (at(row), row.spread(self.figure).median));
            chart.draw_series(LineSeries::new(medians, colour(index).stroke_width(2)))?;
            chart.draw_series(series.iter().map(|row| {
                let Spread { median, min, max } = row.spread(self.figure);
                ErrorBar::new_vertical(at(row), min, median, max, colour(index).filled(), 8)
            }))?;
        }
        Ok(())
    }
}

fn colour(series: usize) -> RGBColor {
    COLOURS[series % COLOURS.len()]
}

/// A line of names, above both pictures: inside it would hide points.
fn draw_legend(area: &Area<'_>, measured: &[Measured]) -> Result<(), Box<dyn Error>> {
    const LETTER_WIDTH: usize = 9;
    let mut x = 90;
    for (index, series) in series_of(measured).into_iter().enumerate() {
        let (name, colour) = (series[0].cell.series(), colour(index));
        let stroke = [(x, 14), (x + 24, 14)];
        area.draw(&PathElement::new(stroke, colour.stroke_width(3)))?;
        let width = i32::try_from(name.len() * LETTER_WIDTH)?;
        area.draw(&Text::new(name, (x + 32, 6), ("sans-serif", 17)))?;
        x += 60 + width;
    }
    Ok(())
}

/// The pool sizes, each once, in order.
fn threads_of(measured: &[Measured]) -> Vec<f64> {
    let mut threads: Vec<usize> = measured.iter().map(|row| row.cell.threads.get()).collect();
    threads.sort_unstable();
    threads.dedup();
    threads.into_iter().map(|threads| threads as f64).collect()
}

fn extent(threads: &[f64]) -> Range<f64> {
    let end = |value: Option<&f64>| value.copied().unwrap_or(1.0);
    end(threads.first()) * 0.85..end(threads.last()) * 1.25
}

/// The cells that differ in nothing but the size of the pool, by its size.
fn series_of(measured: &[Measured]) -> Vec<Vec<&Measured>> {
    let mut all: Vec<Vec<&Measured>> = Vec::new();
    for row in measured {
        match all
            .iter_mut()
            .find(|series| series[0].cell.is_of_series(row.cell))
        {
            Some(series) => series.push(row),
            None => all.push(vec![row]),
        }
    }
    for series in &mut all {
        series.sort_by_key(|row| row.cell.threads);
    }
    all
}
