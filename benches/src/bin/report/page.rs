//! What is written between the markers of `docs/benchmarks.md`.

/// A line of its own before what is generated, and the one behind it.
fn markers(name: &str) -> (String, String) {
    (format!("<!-- report: {name} -->"), "<!-- end -->".into())
}

/// The page with `text` between the markers of that name.
pub(crate) fn put(page: &str, name: &str, text: &str) -> Result<String, String> {
    let (begin, end) = markers(name);
    let Some((before, rest)) = page.split_once(&begin) else {
        return Err(format!("the page has no line `{begin}`"));
    };
    let Some((_, after)) = rest.split_once(&end) else {
        return Err(format!("the page has no `{end}` after `{begin}`"));
    };
    Ok(format!(
        "{before}{begin}\n\n{}\n\n{end}{after}",
        text.trim()
    ))
}

/// A table in Markdown: the first line is its head, the first column stands to the left.
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let written = |line: &Vec<String>| format!("| {} |\n", line.join(" | "));
    let Some((head, body)) = lines.split_first() else {
        return String::new();
    };
    let rule = Vec::from_iter((0..head.len()).map(|column| match column {
        0 => "---".to_owned(),
        _ => "---:".to_owned(),
    }));
    let body = body.iter().map(written).collect::<String>();
    written(head) + &written(&rule) + &body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_markers_is_replaced() {
        let page =
            "a\n<!-- report: one -->\nold\n<!-- end -->\nb\n<!-- report: two -->\n<!-- end -->\n";
        let new = put(page, "one", "new\n").unwrap();
        let expected = "a\n<!-- report: one -->\n\nnew\n\n<!-- end -->\nb\n<!-- report: two -->\n<!-- end -->\n";
        assert_eq!(new, expected);
        assert_eq!(put(&new, "one", "new").unwrap(), expected);
        assert!(put(page, "three", "").is_err());
    }

    #[test]
    fn tables_have_a_head_and_a_rule() {
        let lines = [["", "1"], ["ours", "0.9"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(table(&lines), "|  | 1 |\n| --- | ---: |\n| ours | 0.9 |\n");
    }
}
