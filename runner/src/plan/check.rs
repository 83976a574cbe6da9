//! What a query may do in its output mode: a list of what is allowed, walked over the logical plan.
//!
//! A micro-batch sees only its own rows. A query that would need others (an aggregate, a sort, a join) is refused
//! here unless the whole read is one execution; whatever is not on the list is refused too, so that a construct
//! new in DataFusion is never approximated.

use millrace_crds::OutputMode;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::clock::CLOCK_FUNCTIONS;
use super::error::{Place, PlanError};
use super::text::QueryText;

/// How to have a query run over everything at once.
pub(super) const COMPLETE: &str = "with `trigger: {availableNow: {}}` and `outputMode: complete`";

/// How a query is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Execution {
    /// Each micro-batch by itself.
    PerBatch,
    /// Once, over everything a bounded read gives.
    Whole,
}

/// How an output of this mode is run.
///
/// # Errors
/// A mode that is not supported for this kind of read.
pub(super) fn execution(output: &str, mode: OutputMode, bounded: bool) -> Result<Execution, PlanError> {
    match (mode, bounded) {
        (OutputMode::Append | OutputMode::Update, _) => Ok(Execution::PerBatch),
        (OutputMode::Complete, true) => Ok(Execution::Whole),
        (OutputMode::Complete, false) => {
            let message = "outputMode complete over an endless read needs state, which is not supported yet";
            let help = "set `trigger: {availableNow: {}}` to read what the topics hold now, or `outputMode: append`";
            Err(PlanError::new(Place::Output(output.to_owned()), message).with_help(help))
        }
    }
}

/// Checks that `plan`, as written (before it is optimized), can be run so. `texts` are the texts of the output and of the views it
/// reads, in which positions are looked for.
///
/// # Errors
/// One error for each kind of construct that is not allowed.
pub(super) fn check(
    plan: &LogicalPlan,
    execution: Execution,
    bounded: bool,
    texts: &[&QueryText],
) -> Result<(), Vec<PlanError>> {
    let mut found: Vec<Refused> = Vec::new();
    let mut reads_source = false;
    let walked = plan.apply_with_subqueries(|node| {
        reads_source |= matches!(node, LogicalPlan::TableScan(_));
        if let Some(refused) = refused_node(node, execution) {
            add(&mut found, refused);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some(refused) = refused_expr(expr, execution) {
                    add(&mut found, refused);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    if walked.is_err() {
        add(&mut found, Refused::new(Reason::Unknown, "a construct that cannot be examined"));
    }
    if !reads_source && !found.iter().any(|refused| refused.reason == Reason::NoSource) {
        add(&mut found, Refused::new(Reason::NoSource, "the query"));
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(merge(found).iter().filter_map(|refused| refused.error(bounded, texts)).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It needs rows of other micro-batches.
    State,
    /// It makes rows out of nothing.
    NoSource,
    /// It differs from run to run.
    Volatile,
    /// Spark counts from 0, this dialect from 1.
    IndexZero,
    /// It is not on the list.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    reason: Reason,
    construct: String,
    /// Words by which the construct may be found in the text, likeliest first.
    words: Vec<Vec<String>>,
}

impl Refused {
    fn new(reason: Reason, construct: impl Into<String>) -> Self {
        Self { reason, construct: construct.into(), words: Vec::new() }
    }

    fn at(mut self, words: &[&str]) -> Self {
        self.words.push(words.iter().map(|word| (*word).to_owned()).collect());
        self
    }

    fn error(&self, bounded: bool, texts: &[&QueryText]) -> Option<PlanError> {
        let construct = &self.construct;
        let (message, help) = match self.reason {
            Reason::State if bounded => (
                format!("{construct}: each micro-batch would be computed by itself"),
                "set `outputMode: complete`, which writes one result at the end of the read".to_owned(),
            ),
            Reason::State => (
                format!("{construct}: this needs state across micro-batches, which is not supported yet"),
                format!("{COMPLETE} the query runs once over everything the topics hold"),
            ),
            Reason::NoSource => (
                format!("{construct} makes rows that come from no source"),
                "they would be written again in every micro-batch: select FROM a source".to_owned(),
            ),
            Reason::Volatile => (
                format!("{construct} gives another value each time it runs"),
                "rows computed again after a crash would differ: derive the value from columns, as in sha256(…) of _topic, _partition and _offset".to_owned(),
            ),
            Reason::IndexZero => (
                format!("{construct}: elements are counted from 1, so there is none at 0"),
                "write [1] for the first, [-1] for the last".to_owned(),
            ),
            Reason::Unknown => (format!("{construct} is not supported"), "rewrite the query without it".to_owned()),
        };
        let mut error = PlanError::new(texts.first()?.place.clone(), message).with_help(help);
        error.position = self.words.iter().find_map(|words| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            texts.iter().find_map(|text| text.find(&words))
        });
        Some(error)
    }
}

fn add(found: &mut Vec<Refused>, refused: Refused) {
    if !found.contains(&refused) {
        found.push(refused);
    }
}

/// One error for everything that needs state, naming each construct: they have one fix.
fn merge(found: Vec<Refused>) -> Vec<Refused> {
    let (state, mut rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|refused| refused.reason == Reason::State);
    let mut constructs = state.iter().map(|refused| refused.construct.clone()).collect::<Vec<_>>();
    // The walk goes from the result down to the source; people read the other way round.
    constructs.reverse();
    if !constructs.is_empty() {
        let words = state.into_iter().rev().flat_map(|refused| refused.words).collect();
        rest.insert(0, Refused { reason: Reason::State, construct: constructs.join(", "), words });
    }
    rest
}

fn refused_node(node: &LogicalPlan, execution: Execution) -> Option<Refused> {
    use LogicalPlan as P;
    let whole = execution == Execution::Whole;
    match node {
        P::Projection(_) | P::Filter(_) | P::SubqueryAlias(_) | P::TableScan(_) | P::Union(_) | P::Unnest(_) => None,
        P::Aggregate(_)
        | P::Sort(_)
        | P::Limit(_)
        | P::Distinct(_)
        | P::Window(_)
        | P::Join(_)
        | P::Subquery(_)
        | P::Values(_)
        | P::EmptyRelation(_)
            if whole =>
        {
            None
        }
        P::Aggregate(aggregate) => Some(aggregate_of(&aggregate.group_expr, &aggregate.aggr_expr)),
        P::Sort(_) => Some(Refused::new(Reason::State, "ORDER BY").at(&["ORDER", "BY"])),
        P::Limit(_) => Some(Refused::new(Reason::State, "LIMIT").at(&["LIMIT"]).at(&["OFFSET"]).at(&["FETCH"])),
        P::Distinct(_) => {
            Some(Refused::new(Reason::State, "DISTINCT (or UNION without ALL)").at(&["DISTINCT"]).at(&["UNION"]))
        }
        P::Window(_) => Some(Refused::new(Reason::State, "a window function (OVER)").at(&["OVER"])),
        P::Join(_) => {
            let join = Refused::new(Reason::State, "a join (also INTERSECT, EXCEPT, or several relations in FROM)");
            Some(join.at(&["JOIN"]).at(&["INTERSECT"]).at(&["EXCEPT"]).at(&["FROM"]))
        }
        P::Subquery(_) => Some(Refused::new(Reason::State, "a subquery").at(&["LATERAL"])),
        P::Values(_) => Some(Refused::new(Reason::NoSource, "VALUES").at(&["VALUES"])),
        P::EmptyRelation(_) => Some(Refused::new(Reason::NoSource, "SELECT without FROM")),
        P::RecursiveQuery(_) => Some(Refused::new(Reason::Unknown, "WITH RECURSIVE").at(&["RECURSIVE"])),
        other => {
            let described = other.display().to_string();
            let name = described.split([':', ' ', '(']).next().unwrap_or("a construct").to_owned();
            Some(Refused::new(Reason::Unknown, name))
        }
    }
}

fn aggregate_of(group: &[Expr], aggregates: &[Expr]) -> Refused {
    let mut refused = Refused::new(Reason::State, "");
    let mut parts = Vec::new();
    if let Some(aggregate) = aggregates.first() {
        parts.push(format!("the aggregate {}", aggregate.to_string().replace("count(Int64(1))", "count(*)")));
    }
    if !group.is_empty() {
        parts.push("GROUP BY".to_owned());
        refused = refused.at(&["GROUP", "BY"]);
    }
    for aggregate in aggregates {
        if let Expr::AggregateFunction(function) = aggregate {
            refused = refused.at(&[function.func.name(), "("]);
        }
    }
    refused.construct = parts.join(" with ");
    refused
}

fn refused_expr(expr: &Expr, execution: Execution) -> Option<Refused> {
    let whole = execution == Execution::Whole;
    match expr {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Literal(..)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_)
        | Expr::Unnest(_)
        | Expr::HigherOrderFunction(_)
        | Expr::Lambda(_)
        | Expr::LambdaVariable(_) => None,
        Expr::ScalarFunction(function) => {
            let name = function.name();
            if function.func.signature().volatility != Volatility::Immutable && !CLOCK_FUNCTIONS.contains(&name) {
                return Some(Refused::new(Reason::Volatile, format!("{name}()")).at(&[name]));
            }
            if name == "array_element" && function.args.get(1).is_some_and(is_zero) {
                return Some(Refused::new(Reason::IndexZero, expr.to_string()).at(&["[", "0", "]"]));
            }
            None
        }
        Expr::AggregateFunction(_)
        | Expr::WindowFunction(_)
        | Expr::GroupingSet(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::SetComparison(_)
        | Expr::ScalarSubquery(_)
        | Expr::OuterReferenceColumn(..)
            if whole =>
        {
            None
        }
        // The nodes that hold these are refused themselves.
        Expr::AggregateFunction(_)
        | Expr::WindowFunction(_)
        | Expr::GroupingSet(_)
        | Expr::OuterReferenceColumn(..) => None,
        Expr::Exists(_) => Some(Refused::new(Reason::State, "EXISTS over a query").at(&["EXISTS"])),
        Expr::InSubquery(_) => Some(Refused::new(Reason::State, "IN over a query").at(&["IN", "("])),
        Expr::SetComparison(_) => Some(Refused::new(Reason::State, "a comparison with ANY or ALL of a query")),
        Expr::ScalarSubquery(_) => Some(Refused::new(Reason::State, "a query as a value")),
        Expr::Placeholder(_) => Some(Refused::new(Reason::Unknown, format!("the placeholder {expr}"))),
        other => Some(Refused::new(Reason::Unknown, other.to_string())),
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => *value == 0,
        Expr::Literal(ScalarValue::UInt64(Some(value)), _) => *value == 0,
        _ => false,
    }
}
