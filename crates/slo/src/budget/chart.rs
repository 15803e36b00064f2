//! The course of a budget as a picture: in characters for a terminal, as SVG for everything else.

use std::fmt::Write as _;

use super::{Budget, day};

/// Lines of a plot between its highest and its lowest value.
const ROWS: usize = 8;

/// Size of a chart in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
/// The edges where figures stand.
const LEFT: f64 = 60.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 28.0;

/// What is left as columns, each with its part of the period; the lowest value that is shown.
fn columns(budget: &Budget, width: usize) -> (Vec<f64>, f64) {
    let course = budget.course();
    let (Some(first), Some(last)) = (course.first(), course.last()) else {
        return (Vec::new(), 0.0);
    };
    let length = (last.0 - first.0).max(1) as f64;
    let values: Vec<f64> = (0..width)
        .map(|column| {
            let until = first.0 + (length * (column + 1) as f64 / width as f64) as u64;
            let known = course.partition_point(|(at, _)| *at <= until);
            course[known.saturating_sub(1)].1
        })
        .collect();
    let lowest = values.iter().copied().fold(0.0, f64::min);
    // A budget that is overspent ten times would flatten everything else.
    (values, lowest.max(-1.0))
}

/// The share of the budget that is left over time, in so many columns of characters.
pub fn plot(budget: &Budget, width: usize) -> String {
    const PARTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (values, lowest) = columns(budget, width);
    if values.is_empty() {
        return "no events\n".to_owned();
    }
    // Rows above and below zero, so that zero lies between two of them.
    let below = if lowest < 0.0 { ROWS } else { 0 };
    let unit = 1.0 / ROWS as f64;
    let mut text = String::new();
    let mut write = |line: &str| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for row in (0..ROWS).rev() {
        let label = match row {
            row if row + 1 == ROWS => "100 %",
            row if row + 1 == ROWS / 2 => " 50 %",
            0 => "  0 %",
            _ => "     ",
        };
        let cells = values.iter().map(|value| {
            let parts = ((value - row as f64 * unit) / unit * 8.0).round().clamp(0.0, 8.0);
            PARTS[parts as usize]
        });
        write(&format!("{label} │{}", cells.collect::<String>()));
    }
    for row in 1..=below {
        let label = match row {
            row if row == below => "-100 %",
            _ => "      ",
        };
        let cells = values.iter().map(|value| {
            if *value <= -(row as f64 - 0.5) * unit {
                '░'
            } else {
                ' '
            }
        });
        write(&format!("{label}│{}", cells.collect::<String>()));
    }
    let (from, until) = ends(budget);
    let gap = width.saturating_sub(from.len() + until.len());
    write(&format!("       {from}{}{until}", " ".repeat(gap)));
    text
}

fn ends(budget: &Budget) -> (String, String) {
    let first = budget.slices.first().map_or(budget.at, |slice| slice.from);
    let last = budget.slices.last().map_or(budget.at, |slice| slice.until);
    (day(first), day(last))
}

/// Charts below one another, each with its title.
pub fn svg(budgets: &[(String, Budget)]) -> String {
    let height = HEIGHT * budgets.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (number, (title, budget)) in budgets.iter().enumerate() {
        chart(&mut text, title, budget, HEIGHT * number as f64);
    }
    text.push_str("</svg>\n");
    text
}

fn chart(text: &mut String, title: &str, budget: &Budget, down: f64) {
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    let (values, lowest) = columns(budget, 330);
    let range = 1.0 - lowest;
    let plane = HEIGHT - TOP - BOTTOM;
    let x = |column: usize| LEFT + (WIDTH - LEFT - 16.0) * column as f64 / values.len().max(1) as f64;
    let y = |value: f64| down + TOP + plane * (1.0 - value.clamp(lowest, 1.0)) / range;
    let left = budget.left().map_or_else(
        || "no events".to_owned(),
        |left| format!("{} % of the budget left", crate::decimal::short(left * 100.0, 3)),
    );
    line(format!(
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}: {left}</text>",
        down + 20.0,
        escape(title)
    ));
    for mark in [1.0, 0.5, 0.0, -0.5, -1.0]
        .into_iter()
        .filter(|mark| *mark >= lowest)
    {
        let (right, at) = (WIDTH - 16.0, y(mark));
        let colour = if mark == 0.0 { "#c00" } else { "#ddd" };
        line(format!(
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} %</text>",
            LEFT - 6.0,
            at + 4.0,
            mark * 100.0
        ));
    }
    if !values.is_empty() {
        let mut path = format!("M{:.1} {:.1}", x(0), y(1.0));
        for (column, value) in values.iter().enumerate() {
            write!(path, " L{:.1} {:.1}", x(column + 1), y(*value)).expect("a String takes everything");
        }
        line(format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>"
        ));
        let (from, until) = ends(budget);
        let at = down + HEIGHT - 8.0;
        line(format!(
            "<text x=\"{LEFT}\" y=\"{at}\">{from}</text><text x=\"{}\" y=\"{at}\" text-anchor=\"end\">{until}</text>",
            WIDTH - 16.0
        ));
    }
}

/// Text inside of SVG and HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
