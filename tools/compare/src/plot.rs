//! The figures as plots (SVG): latency by percentile at 64 clients, and rate against the number of clients.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::systems::System;
use crate::table::{Rounds, part, spread};
use crate::workload::WORKLOADS;

const SIZE: (u32, u32) = (760, 420);
const PERCENTILES: [(f64, &str, &str); 5] = [
    (0.0, "p50_us", "p50"),
    (1.0, "p90_us", "p90"),
    (2.0, "p99_us", "p99"),
    (3.0, "p99_9_us", "p99.9"),
    (4.0, "max_us", "max"),
];

fn color(system: System) -> RGBColor {
    match system {
        System::Echo | System::Relay => RGBColor(130, 130, 130),
        System::Raftkv => RGBColor(200, 60, 30),
        System::Etcd => RGBColor(40, 110, 180),
        System::Redis => RGBColor(60, 140, 70),
    }
}

/// A line for each system.
type Lines = Vec<(System, Vec<(f64, f64)>)>;

/// Medians of the load at place `at`, by percentile.
pub fn by_percentile(rounds: &Rounds, at: usize, file: &Path) -> Result<(), Box<dyn Error>> {
    let workload = &WORKLOADS[at];
    let line = |system: System| {
        let rounds = rounds.get(&(at, system))?;
        let figure = |key| Some(spread(rounds, part(workload), key)?.median);
        Some((system, PERCENTILES.iter().filter_map(|(x, key, _)| Some((*x, figure(key)?))).collect()))
    };
    let lines: Lines = System::ALL.into_iter().filter_map(line).collect();
    let name = |x: &f64| {
        PERCENTILES.iter().find(|(at, ..)| (at - x).abs() < 0.01).map_or(String::new(), |it| it.2.to_string())
    };
    draw(file, &format!("{}: latency, us", workload.name), &lines, (0.0, 4.0), PERCENTILES.len(), &name)
}

/// Medians of the closed loops of writes, one deep, by the number of clients.
pub fn by_clients(rounds: &Rounds, file: &Path) -> Result<(), Box<dyn Error>> {
    let is_in = |at: &usize| {
        let workload = &WORKLOADS[*at];
        workload.read_share == 0.0 && workload.depth == 1 && workload.rate.is_none()
    };
    let line = |system: System| {
        let point = |at: usize| {
            let rate = spread(rounds.get(&(at, system))?, part(&WORKLOADS[at]), "per_second")?.median;
            Some(((WORKLOADS[at].clients as f64).log2(), rate))
        };
        let points: Vec<(f64, f64)> = (0..WORKLOADS.len()).filter(is_in).filter_map(point).collect();
        (!points.is_empty()).then_some((system, points))
    };
    let lines: Lines = System::ALL.into_iter().filter_map(line).collect();
    draw(file, "durable writes a second, by clients", &lines, (0.0, 8.0), 9, &|x| format!("{:.0}", x.exp2()))
}

fn draw(
    file: &Path,
    title: &str,
    lines: &Lines,
    (left, right): (f64, f64),
    labels: usize,
    label: &dyn Fn(&f64) -> String,
) -> Result<(), Box<dyn Error>> {
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y)).filter(|y| *y > 0.0);
    if values().next().is_none() {
        return Ok(());
    }
    let (low, high) = (values().fold(f64::MAX, f64::min) / 1.5, values().fold(0.0, f64::max) * 1.5);
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(left..right, (low..high).log_scale())?;
    chart.configure_mesh().disable_x_mesh().x_labels(labels).x_label_formatter(label).draw()?;
    for (system, points) in lines {
        let style = color(*system).stroke_width(2);
        let series = chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        series.label(system.name()).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).position(SeriesLabelPosition::UpperLeft).draw()?;
    root.present()?;
    Ok(())
}
