//! The figures as bar charts, in SVG.

use std::path::Path;

use anyhow::Context as _;
use plotters::prelude::*;

use super::report::{DataFrameReport, MiddlewareRow, QueryTable};
use crate::stats::Spread;

/// Width and height of a chart in pixels.
const SIZE: (u32, u32) = (960, 420);
/// The share of a category's width that its bars take.
const FILLED: f64 = 0.8;
/// Colours that people who confuse red and green can tell apart (Okabe and Ito, <https://jfly.uni-koeln.de/color/>).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
];

/// A chart: for each category one bar of each series.
struct BarChart<'a> {
    title: &'a str,
    unit: &'a str,
    categories: Vec<String>,
    series: Vec<(String, Vec<f64>)>,
}

/// Draws the charts of what was measured into a folder.
pub fn draw(report: &DataFrameReport, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let tables = [
        (&report.engines, "engines.svg", "One process and two workers over gRPC beside other DataFrames"),
        (&report.over_middlewares, "middlewares.svg", "Two workers over each middleware"),
        (&report.scaling, "workers.svg", "One machine beside 1, 2 and 4 workers over gRPC, one thread each"),
    ];
    for (table, file, title) in tables {
        if let Some(table) = table {
            seconds_of(table, title).draw(&folder.join(file))?;
        }
    }
    draw_middlewares(report, folder)
}

fn seconds_of<'a>(table: &QueryTable, title: &'a str) -> BarChart<'a> {
    let short = |title: &String| title.split(['(', ':']).next().unwrap_or(title).trim().to_owned();
    let of_side = |side: usize| table.rows.iter().map(|row| row.seconds[side].median).collect();
    let sides = table.sides.iter().enumerate();
    BarChart {
        title,
        unit: "seconds",
        categories: table.rows.iter().map(|row| short(&row.title)).collect(),
        series: sides.map(|(side, name)| (name.clone(), of_side(side))).collect(),
    }
}

fn draw_middlewares(report: &DataFrameReport, folder: &Path) -> anyhow::Result<()> {
    let rows = &report.middlewares;
    if rows.is_empty() {
        return Ok(());
    }
    let one = |title, unit, file: &str, value: fn(&MiddlewareRow) -> Spread| {
        let chart = BarChart {
            title,
            unit,
            categories: rows.iter().map(|row| row.name.clone()).collect(),
            series: vec![(String::new(), rows.iter().map(|row| value(row).median).collect())],
        };
        chart.draw(&folder.join(file))
    };
    one("An empty task, from the client to a worker and back (p50)", "ms", "task-latency.svg", |row| {
        row.latency_ms
    })?;
    one("Empty tasks a second", "tasks a second", "task-rate.svg", |row| row.tasks_per_second)?;
    one(
        "How much later a query ends when kill -9 ends one of two workers",
        "seconds",
        "recovery.svg",
        |row| row.recovery_seconds,
    )
}

impl BarChart<'_> {
    fn draw(&self, path: &Path) -> anyhow::Result<()> {
        self.try_draw(path).map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))
    }

    fn try_draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let highest = self.series.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (0..self.categories.len() - 1).into_segmented(),
                0.0..highest.max(1e-9) * 1.15,
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .y_desc(self.unit)
            .label_style(("sans-serif", 13))
            .x_label_formatter(&|position| match position {
                SegmentValue::CenterOf(index) => self.categories.get(*index).cloned().unwrap_or_default(),
                _ => String::new(),
            })
            .draw()?;
        let area = chart.plotting_area().strip_coord_spec();
        let (width, height) = area.dim_in_pixel();
        let slot = f64::from(width) / self.categories.len() as f64;
        let bar = slot * FILLED / self.series.len() as f64;
        let pixel = |value: f64| value.round() as i32;
        for (number, (name, values)) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            for (category, value) in values.iter().enumerate() {
                let left = slot * (category as f64 + (1.0 - FILLED) / 2.0) + bar * number as f64;
                let top = f64::from(height) * (1.0 - value / (highest.max(1e-9) * 1.15));
                let corners = [(pixel(left), pixel(top)), (pixel(left + bar) - 1, height as i32)];
                area.draw(&Rectangle::new(corners, colour.filled()))?;
                let figure = Text::new(shown(*value), (pixel(left), pixel(top) - 13), ("sans-serif", 11));
                area.draw(&figure)?;
            }
            if !name.is_empty() {
                // The legend lies in the room above the highest bar, in two columns.
                let place = (width as i32 - 380 + 190 * (number as i32 % 2), 4 + 16 * (number as i32 / 2));
                let box_corner = (place.0 - 14, place.1 + 10);
                area.draw(&Rectangle::new(
                    [(place.0 - 14, place.1), (box_corner.0 + 10, box_corner.1)],
                    colour.filled(),
                ))?;
                area.draw(&Text::new(name.clone(), place, ("sans-serif", 13)))?;
            }
        }
        area.present()?;
        Ok(())
    }
}

/// A figure above a bar, in at most four characters or so.
fn shown(value: f64) -> String {
    match value {
        large if large >= 1000.0 => format!("{:.1}k", large / 1000.0),
        middle if middle >= 10.0 => format!("{middle:.0}"),
        small => format!("{small:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_and_a_figure_for_each_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let chart = BarChart {
            title: "Times",
            unit: "seconds",
            categories: vec!["a".to_owned(), "b".to_owned()],
            series: vec![("one".to_owned(), vec![1.0, 12.5]), ("two".to_owned(), vec![0.25, 1500.0])],
        };
        let path = folder.path().join("chart.svg");
        chart.draw(&path).expect("a chart");
        let drawn = std::fs::read_to_string(path).expect("a file");
        for text in ["Times", "seconds", "one", "two", "1.00", "12", "0.25", "1.5k"] {
            assert!(drawn.contains(&format!("\n{text}\n")), "{text}: {drawn}");
        }
    }
}
