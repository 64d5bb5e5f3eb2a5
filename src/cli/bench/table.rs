//! The figures, and how they are printed.

use serde::Serialize;

/// One row: what was measured, beside its limit and its goal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    name: String,
    unit: &'static str,
    /// The median of all rounds.
    value: f64,
    lowest: f64,
    highest: f64,
    /// The median of the bare loop.
    limit: Option<f64>,
    /// The median of `value / limit`, round by round.
    ratio: Option<f64>,
    goal: Option<String>,
    is_reached: Option<bool>,
}

impl Figure {
    fn new(name: &str, unit: &'static str, values: &[f64], limits: &[f64]) -> Self {
        let ratios: Vec<f64> = values.iter().zip(limits).map(|(value, limit)| value / limit).collect();
        Figure {
            name: name.to_owned(),
            unit,
            value: median(values),
            lowest: values.iter().copied().fold(f64::INFINITY, f64::min),
            highest: values.iter().copied().fold(0.0, f64::max),
            limit: (!limits.is_empty()).then(|| median(limits)),
            ratio: (!limits.is_empty()).then(|| median(&ratios)),
            goal: None,
            is_reached: None,
        }
    }

    /// More is better, and `goal` of the limit is wanted.
    pub(super) fn rate(name: &str, unit: &'static str, values: &[f64], limits: &[f64], goal: f64) -> Self {
        let figure = Self::new(name, unit, values, limits);
        let is_reached = figure.ratio.map(|ratio| ratio >= goal);
        Figure { goal: Some(format!(">= {goal} of limit")), is_reached, ..figure }
    }

    /// More is better, and `goal` is wanted.
    pub(super) fn at_least(name: &str, unit: &'static str, values: &[f64], limits: &[f64], goal: Option<f64>) -> Self {
        let figure = Self::new(name, unit, values, limits);
        let is_reached = goal.map(|goal| figure.value >= goal);
        Figure { goal: goal.map(|goal| format!(">= {goal}")), is_reached, ..figure }
    }

    /// Milliseconds, of which less is better.
    pub(super) fn latency(name: &str, values: &[f64], limits: &[f64], goal: Option<f64>) -> Self {
        let figure = Self::new(name, "ms", values, limits);
        let is_reached = goal.map(|goal| figure.value <= goal);
        Figure { goal: goal.map(|goal| format!("<= {goal:.2}")), is_reached, ..figure }
    }

    /// Only shown.
    pub(super) fn plain(name: &str, unit: &'static str, value: f64) -> Self {
        Self::new(name, unit, &[value], &[])
    }

    /// Less is better, and less than `goal` is wanted.
    pub(super) fn below(name: &str, unit: &'static str, values: &[f64], goal: f64) -> Self {
        let figure = Self::new(name, unit, values, &[]);
        let is_reached = Some(figure.value < goal);
        Figure { goal: Some(format!("< {goal}")), is_reached, ..figure }
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// All figures.
#[derive(Default)]
pub(super) struct Table(Vec<Figure>);

impl Table {
    pub(super) fn add(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(&self.0).expect("figures are JSON") + "\n"
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:42}{:>10}  {:32}{:>10}{:>8}  goal\n",
            "medians", "cerbas", "[lowest-highest] unit", "limit", "ratio"
        );
        for figure in &self.0 {
            let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
            let goal = match (&figure.goal, figure.is_reached) {
                (Some(goal), Some(true)) => format!("{goal}: reached"),
                (Some(goal), _) => format!("{goal}: MISSED"),
                (None, _) => "-".to_owned(),
            };
            text += &format!(
                "{:42}{:>10}  {:32}{:>10}{:>8}  {goal}\n",
                figure.name,
                number(figure.value),
                format!("[{}-{}] {}", number(figure.lowest), number(figure.highest), figure.unit),
                optional(figure.limit),
                optional(figure.ratio),
            );
        }
        text
    }
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_and_not_that_of_the_medians() {
        let figure = Figure::rate("drain", "requests/s", &[10.0, 20.0, 30.0], &[10.0, 40.0, 20.0], 0.8);
        assert_eq!((figure.value, figure.limit, figure.ratio), (20.0, Some(20.0), Some(1.0)));
        assert_eq!(figure.is_reached, Some(true));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_middle_of_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
