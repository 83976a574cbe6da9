//! Which segments of an instance to rewrite: a pure choice.
//!
//! Two things make an instance worse than it need be: dead rows, which hold memory, and many small segments, which
//! make every gather slower. Neither is mended all at once. The segments with the most dead rows free at least as many
//! rows as they cost to copy once half of all rows are dead, so an epoch that appends `n` rows keeps up by copying
//! about `n`; and small segments are merged by size class, so that a row is copied once per class.

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Which one.
    pub segment: usize,
    /// Its rows.
    pub rows: usize,
    /// Those of them that are alive.
    pub live: usize,
}

/// Below so many rows nothing is rewritten for its dead.
const FEW_ROWS: usize = 4 * 1024;
/// Segments below so many rows are merged with others of their size.
const SMALL: usize = 2 * 1024;
/// How many segments of one size class are kept before they are merged, and how many are merged at a time.
const CLASS: usize = 8;

/// The segments to rewrite now so that about `budget` live rows are copied, beyond it by one segment at most.
pub(super) fn choose(segments: &[Weight], budget: usize) -> Vec<usize> {
    let dead = deadest(segments, budget);
    let small = crowded(segments).into_iter().filter(|segment| !dead.contains(segment));
    dead.iter().copied().chain(small).collect()
}

/// The few segments with the most dead rows, by share; none if no row is dead.
pub(super) fn squeeze(segments: &[Weight]) -> Vec<usize> {
    let with_dead = by_death(segments).into_iter().filter(|weight| weight.live < weight.rows);
    with_dead.take(CLASS).map(|weight| weight.segment).collect()
}

/// The deadest segments, while more than half of all rows are dead.
fn deadest(segments: &[Weight], budget: usize) -> Vec<usize> {
    let mut rows: usize = segments.iter().map(|weight| weight.rows).sum();
    let live: usize = segments.iter().map(|weight| weight.live).sum();
    if rows <= FEW_ROWS || rows <= 2 * live {
        return Vec::new();
    }
    let mut chosen = Vec::new();
    let mut copied = 0;
    for weight in by_death(segments) {
        if rows <= 2 * live || (!chosen.is_empty() && copied + weight.live > budget) {
            break;
        }
        chosen.push(weight.segment);
        copied += weight.live;
        rows -= weight.rows - weight.live;
    }
    chosen
}

/// Ascending by the share of rows that live.
fn by_death(segments: &[Weight]) -> Vec<Weight> {
    let mut sorted = segments.to_vec();
    sorted.sort_by(|a, b| (a.live * b.rows).cmp(&(b.live * a.rows)).then(a.segment.cmp(&b.segment)));
    sorted
}

/// The small segments of every size class (by powers of eight) that has too many.
fn crowded(segments: &[Weight]) -> Vec<usize> {
    let mut classes: [Vec<usize>; 4] = Default::default();
    for weight in segments.iter().filter(|weight| weight.rows < SMALL) {
        let class = weight.rows.max(1).ilog2() as usize / 3;
        classes[class.min(3)].push(weight.segment);
    }
    let crowded = classes.iter().filter(|class| class.len() >= CLASS);
    crowded.flat_map(|class| class.iter().take(CLASS).copied()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn weights(sizes: &[(usize, usize)]) -> Vec<Weight> {
        sizes.iter().enumerate().map(|(segment, (rows, live))| Weight { segment, rows: *rows, live: *live }).collect()
    }

    #[test]
    fn nothing_is_rewritten_while_half_of_the_rows_live() {
        assert!(choose(&weights(&[(10_000, 5_000), (10_000, 5_000)]), 100_000).is_empty());
    }

    #[test]
    fn the_deadest_are_rewritten_until_half_of_the_rows_live() {
        let chosen = choose(&weights(&[(10_000, 9_000), (10_000, 100), (10_000, 200), (10_000, 300)]), 100_000);
        assert_eq!(chosen, [1, 2, 3]);
        let chosen = choose(&weights(&[(10_000, 9_000), (10_000, 100), (10_000, 9_000), (10_000, 300)]), 100_000);
        assert_eq!(chosen, [1]);
    }

    #[test]
    fn an_epoch_copies_no_more_than_its_budget_and_one_segment() {
        let segments = weights(&[(10_000, 3_000); 20]);
        assert_eq!(choose(&segments, 0).len(), 1);
        assert_eq!(choose(&segments, 6_500).len(), 2);
    }

    #[test]
    fn memory_is_squeezed_out_of_the_deadest_segments_until_no_row_is_dead() {
        assert_eq!(squeeze(&weights(&[(100, 90), (100, 100), (10, 1)])), [2, 0]);
        assert!(squeeze(&weights(&[(100, 100)])).is_empty());
    }

    #[test]
    fn small_segments_of_one_size_are_merged_eight_at_a_time() {
        let mut sizes = vec![(20, 20); 9];
        sizes.extend([(1_000, 1_000); 7]);
        assert_eq!(choose(&weights(&sizes), 0), (0..8).collect::<Vec<_>>());
    }
}
