//! A run as a picture: what each program costs, and what becomes of it with the number of routes.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use crate::report::Report;
use crate::sample::{Row, Unit, median, quantile};

const WIDTH: u32 = 1100;
const BAR: u32 = 18;
const LINES: u32 = 420;
const MARGIN: u32 = 60;
/// Where bars begin, ns.
const LEAST: f64 = 1.0;
/// Rows that are means to an end.
const HIDDEN: [&str; 5] = ["restore.", "random.", "lookup.", "scale.", "floor.tc-return"];

/// One line of the lower chart: the rows of its prefix, and the colour.
const SERIES: [(&str, &str, RGBColor); 4] = [
    ("random.route4.", "netroute, whole program", RGBColor(0x1f, 0x77, 0xb4)),
    ("random.fib4.", "bpf_fib_lookup, whole program", RGBColor(0xd6, 0x27, 0x28)),
    ("lookup.route4.", "netroute, lookup and making a packet new", RGBColor(0x8c, 0xb8, 0xda)),
    ("lookup.fib4.", "kernel FIB, lookup and making a packet new", RGBColor(0xf0, 0xa0, 0xa0)),
];
const SIZES: [(&str, f64); 4] = [("10", 10.0), ("1k", 1e3), ("100k", 1e5), ("1M", 1e6)];

pub fn write(report: &Report, path: &Path) -> Result<()> {
    let bars: Vec<&Row> = report.rows.iter().filter(|row| is_bar(row)).collect();
    let lines = report.rows.iter().any(|row| row.id.starts_with("random."));
    let upper = if bars.is_empty() { 0 } else { BAR * u32::try_from(bars.len())? + MARGIN };
    let lower = if lines { LINES } else { 0 };
    if upper + lower == 0 {
        return Err(anyhow!("nothing to plot: no row of this run has nanoseconds per packet"));
    }
    let area = SVGBackend::new(path, (WIDTH, upper + lower)).into_drawing_area();
    draw(&area, report, &bars, upper, lower)
        .and_then(|()| Ok(area.present()?))
        .with_context(|| format!("cannot plot {}", path.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(area: &Area<'_>, report: &Report, bars: &[&Row], upper: u32, lower: u32) -> Result<()> {
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(upper);
    if upper > 0 {
        self::bars(&above, bars)?;
    }
    if lower > 0 {
        self::lines(&below, &report.rows)?;
    }
    Ok(())
}

fn is_bar(row: &Row) -> bool {
    let hidden = HIDDEN.iter().any(|prefix| row.id.starts_with(prefix));
    row.unit == Unit::NanosecondsPerPacket && row.samples().is_some() && !hidden
}

/// Medians, and where eight of ten rounds lay. Logarithmic: a verdict and a path through iptables are four
/// powers of ten apart.
fn bars(area: &Area<'_>, rows: &[&Row]) -> Result<()> {
    let quantiles = |row: &Row, part| quantile(row.samples().unwrap_or_default(), part).max(LEAST);
    let largest = rows.iter().map(|row| quantiles(row, 0.9)).fold(1.0, f64::max);
    let count = rows.len();
    let mut chart = ChartBuilder::on(area)
        .caption("ns per packet, logarithmic: median, 10 % .. 90 % of the rounds", ("sans-serif", 16))
        .x_label_area_size(24)
        .y_label_area_size(230)
        .margin(6)
        .build_cartesian_2d((LEAST..largest * 2.0).log_scale(), 0.0..count as f64)?;
    let label = |place: &f64| {
        let index = count.checked_sub(1 + *place as usize);
        index.and_then(|index| rows.get(index)).map_or_else(String::new, |row| row.id.clone())
    };
    // One label in the middle of each bar.
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_label_formatter(&|number| format!("{number:.0}"))
        .draw()?;
    for (index, row) in rows.iter().enumerate() {
        let bottom = (count - 1 - index) as f64;
        let middle = bottom + 0.5;
        let colour = if row.id.starts_with("floor.") { RGBColor(0xa0, 0xa0, 0xa0) } else { SERIES[0].2 };
        let bar = [(LEAST, bottom + 0.15), (quantiles(row, 0.5), bottom + 0.85)];
        let spread = vec![(quantiles(row, 0.1), middle), (quantiles(row, 0.9), middle)];
        chart.draw_series([Rectangle::new(bar, colour.filled())])?;
        chart.draw_series([PathElement::new(spread, BLACK)])?;
        let at = chart.backend_coord(&(LEAST, middle));
        area.draw(&Text::new(label(&bottom), (at.0 - 224, at.1 - 6), ("sans-serif", 12)))?;
        let at = chart.backend_coord(&(quantiles(row, 0.9), middle));
        area.draw(&Text::new(
            format!("{:.0}", quantiles(row, 0.5)),
            (at.0 + 6, at.1 - 6),
            ("sans-serif", 12),
        ))?;
    }
    Ok(())
}

/// Cost against the number of routes, both logarithmic.
fn lines(area: &Area<'_>, rows: &[Row]) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .caption("ns per packet by number of IPv4 routes, random destinations", ("sans-serif", 16))
        .x_label_area_size(30)
        .y_label_area_size(60)
        .margin(6)
        .build_cartesian_2d((8.0..1.3e6).log_scale(), (10.0..4000.0).log_scale())?;
    let whole = |number: &f64| format!("{number:.0}");
    chart
        .configure_mesh()
        .x_desc("routes")
        .y_desc("ns")
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .draw()?;
    for (prefix, name, colour) in SERIES {
        let point = |(size, routes): (&str, f64)| {
            let row = rows.iter().find(|row| row.id == format!("{prefix}{size}"))?;
            Some((routes, median(row.samples()?)))
        };
        let points: Vec<(f64, f64)> = SIZES.into_iter().filter_map(point).collect();
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
