//! The figures as a picture: cost against flows and against Services.
//!
//! Invariant: a point is a row of the tables, and nothing is drawn that was not measured.

use super::args::Scenario;
use super::figures::Row;
use crate::report::chart::{Chart, Panel, Series};
use anyhow::Context;
use std::path::Path;

/// A point's place on an axis.
type Of = fn(&Point) -> f64;

/// What one row cost.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    scenario: String,
    services: f64,
    flows: f64,
    /// Nanoseconds for a packet, or for a flow where flows are counted.
    cost: f64,
    /// The limit's, where there is one.
    limit: Option<f64>,
}

impl Point {
    /// The point of a row; `NaN` where it has no such figure.
    pub fn of(scenario: Scenario, row: &Row) -> Point {
        let figure = |name| row.get(name);
        let cost = figure("ns_per_packet").or_else(|| figure("ns_per_flow"));
        Point {
            scenario: scenario.to_string(),
            services: figure("services").unwrap_or(f64::NAN),
            flows: figure("flows").unwrap_or(f64::NAN),
            cost: cost.unwrap_or(f64::NAN),
            limit: figure("limit_ns"),
        }
    }
}

/// Writes the picture.
pub fn write(points: &[Point], file: &Path) -> anyhow::Result<()> {
    let text = chart(points).svg();
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

fn chart(points: &[Point]) -> Chart {
    let (x, z): (Of, Of) = (|p| p.flows, |p| p.services);
    Chart {
        title: "What a packet costs".into(),
        subtitle:
            "nanoseconds of one core for a packet (connect: for a new flow); dashed: the limit, \
                   the same work with nothing around it"
                .into(),
        panels: vec![
            panel(points, "Services", "flows", x, z),
            panel(points, "flows", "Services", z, x),
        ],
    }
}

/// Cost against one thing; of the other the first that was measured.
fn panel(points: &[Point], fixed: &str, name: &str, x: Of, z: Of) -> Panel {
    // Where something was measured with several: there a line is.
    let lines = |at: f64| points.iter().filter(|p| z(p) == at).count();
    let mut at = points.first().map_or(f64::NAN, z);
    for p in points {
        if lines(z(p)) > lines(at) {
            at = z(p);
        }
    }
    let mut series: Vec<Series> = Vec::new();
    let mut add = |name: &str, dashed: bool, point: (f64, f64)| {
        if !point.1.is_finite() {
            return;
        }
        match series.iter_mut().find(|s| s.name == name) {
            // The limit is run beside every scenario: the first one stands for all.
            Some(s) if s.points.iter().any(|p| p.0 == point.0) => {}
            Some(s) => s.points.push(point),
            None => series.push(Series {
                name: name.to_owned(),
                dashed,
                points: vec![point],
            }),
        }
    };
    for p in points.iter().filter(|p| z(p) == at) {
        add(&p.scenario, false, (x(p), p.cost));
        if let Some(limit) = p.limit {
            add("limit", true, (x(p), limit));
        }
    }
    for s in &mut series {
        s.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Panel {
        title: format!("against {name}, {at} {fixed}"),
        x: name.to_owned(),
        y: "ns".to_owned(),
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panel_has_the_points_of_one_kind() {
        let point = |services: f64, flows: f64, cost: f64| Point {
            scenario: "service".into(),
            services,
            flows,
            cost,
            limit: Some(20.0),
        };
        let points = [
            point(10.0, 1e6, 90.0),
            point(10.0, 64.0, 30.0),
            point(20_000.0, 64.0, 31.0),
        ];
        let chart = chart(&points);
        let [flows, services] = chart.panels.as_slice() else {
            panic!("{chart:?}")
        };
        assert_eq!(flows.title, "against flows, 10 Services");
        assert_eq!(flows.series[0].points, [(64.0, 30.0), (1e6, 90.0)]);
        assert_eq!(services.title, "against Services, 64 flows");
        assert_eq!(services.series[0].points, [(10.0, 30.0), (20_000.0, 31.0)]);
        assert_eq!(services.series[1].name, "limit");
    }
}
