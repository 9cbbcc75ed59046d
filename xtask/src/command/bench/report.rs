//! Medians as a table, in Markdown and as a plot. Pure but for writing the two files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use xtask::say;

use super::measure::Measured;

/// Name, messages and bytes of a workload.
type Text = (String, usize, u64);

pub(super) fn write(
    workloads: &[Text],
    results: &BTreeMap<(String, String), Vec<Measured>>,
    round_trip: Option<Duration>,
    folder: &Path,
) -> anyhow::Result<()> {
    let way = round_trip.map_or_else(|| "loopback".to_owned(), |time| format!("{} ms round trip", time.as_millis()));
    let mut markdown = format!("# Benchmark, {way}\n");
    let mut bars = Vec::new();
    for (name, messages, bytes) in workloads {
        let mut rows: Vec<(&str, &[Measured])> = results
            .iter()
            .filter(|((workload, _), _)| workload == name)
            .map(|((_, tool), runs)| (tool.as_str(), runs.as_slice()))
            .collect();
        rows.sort_by(|a, b| median(a.1, |run| run.wall).total_cmp(&median(b.1, |run| run.wall)));
        let limit = rows.iter().find(|(tool, _)| *tool == "limit").map(|(_, runs)| median(runs, |run| run.wall));
        write!(markdown, "\n## {name}: {messages} messages, {:.0} MB\n\n", *bytes as f64 / 1e6)?;
        markdown.push_str("| program | runs | seconds, median (shortest–longest) | messages/s | MB/s | × limit | CPU s per 1,000 | MiB |\n|---|---|---|---|---|---|---|---|\n");
        for (tool, runs) in rows {
            let (wall, cpu) = (median(runs, |run| run.wall), median(runs, |run| run.cpu));
            let of = |pick: fn(f64, f64) -> f64, start| runs.iter().map(|run| run.wall).fold(start, pick);
            let (shortest, longest) = (of(f64::min, f64::MAX), of(f64::max, 0.0));
            let ratio = limit.map_or_else(|| "–".to_owned(), |limit| format!("{:.2}", wall / limit));
            writeln!(
                markdown,
                "| {tool} | {} | {wall:.3} ({shortest:.3}–{longest:.3}) | {:.0} | {:.1} | {ratio} | {:.3} | {:.0} |",
                runs.len(),
                *messages as f64 / wall,
                *bytes as f64 / 1e6 / wall,
                cpu * 1_000.0 / *messages as f64,
                median(runs, |run| run.mebibytes)
            )?;
            bars.push((name.clone(), tool.to_owned(), wall));
        }
    }
    say(format_args!("\n{markdown}"));
    fs::create_dir_all(folder)?;
    let stem = round_trip.map_or_else(|| "loopback".to_owned(), |time| format!("{}ms", time.as_millis()));
    fs::write(folder.join(format!("{stem}.md")), &markdown)?;
    fs::write(folder.join(format!("{stem}.svg")), plot(&way, &bars))?;
    say(format_args!("The table and a plot: {}/{stem}.md and .svg", folder.display()));
    Ok(())
}

fn median(runs: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}

/// Horizontal bars, each workload on a scale of its own.
fn plot(way: &str, bars: &[(String, String, f64)]) -> String {
    const LEFT: f64 = 150.0;
    const WIDE: f64 = 480.0;
    let mut body = String::new();
    let (mut y, mut workload) = (50.0, "");
    for (name, tool, seconds) in bars {
        if name != workload {
            workload = name;
            y += 16.0;
            body.push_str(&format!("<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{name}</text>\n"));
            y += 10.0;
        }
        let longest = bars.iter().filter(|(other, ..)| other == name).map(|(.., seconds)| *seconds).fold(0.0, f64::max);
        let width = (seconds / longest * WIDE).max(1.0);
        let colour = match tool.as_str() {
            "mailbox-collector" => "#1565c0",
            "limit" => "#9e9e9e",
            _ => "#ef9a5a",
        };
        body.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{tool}</text>\n<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{seconds:.2} s</text>\n",
            LEFT - 8.0,
            y + 12.5,
            LEFT + width + 6.0,
            y + 12.5
        ));
        y += 22.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">From a real Dovecot to durable files ({way}); shorter is better</text>\n{body}</svg>\n",
        y + 20.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_and_ratios_to_the_limit_and_the_plot_a_bar_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let run = |wall| Measured { wall, cpu: 1.0, mebibytes: 20.0 };
        let results = BTreeMap::from([
            (("W1".to_owned(), "limit".to_owned()), vec![run(1.0), run(9.0), run(2.0)]),
            (("W1".to_owned(), "mbsync".to_owned()), vec![run(7.0), run(9.0)]),
        ]);
        write(&[("W1".to_owned(), 1_000, 4_000_000)], &results, Some(Duration::from_millis(40)), folder.path()).unwrap();
        let table = fs::read_to_string(folder.path().join("40ms.md")).unwrap();
        assert!(table.contains("| limit | 3 | 2.000 (1.000–9.000) | 500 | 2.0 | 1.00 | 1.000 | 20 |"), "{table}");
        assert!(table.contains("| mbsync | 2 | 8.000 (7.000–9.000) | 125 | 0.5 | 4.00 |"), "{table}");
        let plot = fs::read_to_string(folder.path().join("40ms.svg")).unwrap();
        assert_eq!(plot.matches("<rect x=").count(), 2, "{plot}");
    }
}
