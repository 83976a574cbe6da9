//! Syntax that parses and that DataFusion would leave out without a word: it is refused instead.
//!
//! Every field is named, so that a field new in the parser has to be judged here before this compiles.

use datafusion::sql::sqlparser::ast::{
    GroupByExpr, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, TableFactor,
};

/// A clause of the query's own level that would have no effect.
pub(super) fn unsupported_in_query(query: &Query) -> Option<&'static str> {
    let Query {
        with,
        body: _,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    let limit_by = match limit_clause {
        Some(LimitClause::LimitOffset { limit: _, offset: _, limit_by }) => !limit_by.is_empty(),
        Some(LimitClause::OffsetCommaLimit { offset: _, limit: _ }) | None => false,
    };
    first([
        (with.as_ref().is_some_and(|with| with.recursive), "WITH RECURSIVE"),
        (order_by.as_ref().is_some_and(fills_gaps), "WITH FILL"),
        (limit_by, "LIMIT BY"),
        (fetch.is_some(), "FETCH"),
        (!locks.is_empty(), "FOR UPDATE"),
        (for_clause.is_some(), "FOR"),
        (settings.is_some(), "SETTINGS"),
        (format_clause.is_some(), "FORMAT"),
        (!pipe_operators.is_empty(), "|>"),
    ])
}

/// A clause of a SELECT that would have no effect.
pub(super) fn unsupported_in_select(select: &Select) -> Option<&'static str> {
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views: _,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let modified = match group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => !modifiers.is_empty(),
    };
    first([
        (select_modifiers.is_some(), "SELECT modifiers"),
        (top.is_some(), "TOP"),
        (exclude.is_some(), "EXCLUDE after the select list"),
        (into.is_some(), "INTO"),
        (prewhere.is_some(), "PREWHERE"),
        (!connect_by.is_empty(), "CONNECT BY"),
        (modified, "GROUP BY … WITH"),
        (!cluster_by.is_empty(), "CLUSTER BY"),
        (!distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!sort_by.is_empty(), "SORT BY"),
        (value_table_mode.is_some(), "AS STRUCT"),
        (!matches!(flavor, SelectFlavor::Standard), "FROM before SELECT"),
    ])
}

/// A clause behind a relation that would have no effect.
pub(super) fn unsupported_in_relation(factor: &TableFactor) -> Option<&'static str> {
    match factor {
        TableFactor::Table {
            name: _,
            alias: _,
            args: _,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => first([
            (!with_hints.is_empty() || !index_hints.is_empty(), "hints on a relation"),
            (version.is_some(), "a version of a relation"),
            (*with_ordinality, "WITH ORDINALITY"),
            (!partitions.is_empty(), "PARTITION"),
            (json_path.is_some(), "a path behind a relation"),
            (sample.is_some(), "TABLESAMPLE"),
        ]),
        TableFactor::Derived { lateral: _, subquery: _, alias: _, sample } => {
            first([(sample.is_some(), "TABLESAMPLE")])
        }
        // Others than these are refused as a whole.
        _ => None,
    }
}

fn fills_gaps(order_by: &OrderBy) -> bool {
    let OrderBy { kind, interpolate } = order_by;
    let filled = match kind {
        OrderByKind::All(_) => false,
        OrderByKind::Expressions(expressions) => expressions.iter().any(|expression| {
            let OrderByExpr { expr: _, options: _, with_fill } = expression;
            with_fill.is_some()
        }),
    };
    filled || interpolate.is_some()
}

fn first<const N: usize>(found: [(bool, &'static str); N]) -> Option<&'static str> {
    found.into_iter().find(|(present, _)| *present).map(|(_, name)| name)
}
