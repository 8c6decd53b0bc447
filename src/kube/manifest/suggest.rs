//! "Did you mean": the closest of the known names.
//!
//! Distance is optimal string alignment (insert, delete, replace, swap two neighbours), letters' case
//! counting a little, so that `nodename` finds `nodeName` before anything else. Ties go to the first
//! name listed.

/// The known name that `written` was probably meant to be, if one is close enough.
pub fn closest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const NAME_MAX: usize = 64;
    if written.is_empty() || written.len() > NAME_MAX {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    // One typing error per three letters, as git and clap accept about as many.
    let allowed = (written.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for name in known
        .into_iter()
        .filter(|name| name.len() <= NAME_MAX && *name != written)
    {
        let distance = distance(&lower, &name.to_ascii_lowercase());
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&last, j) + usize::from(x != *y);
            let mut least = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = j > 0 && previous == Some(*y) && b.get(j - 1) == Some(&x);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_misspellings() {
        let known = ["nodeName", "nodeSelector", "hostNetwork", "containers"];
        assert_eq!(closest("nodename", known), Some("nodeName"));
        assert_eq!(closest("ndoeName", known), Some("nodeName"));
        assert_eq!(closest("container", known), Some("containers"));
        assert_eq!(closest("hostnet", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
