//! How deeply a query is nested. Planning and running recurse over expressions, so that a chain of a thousand
//! operators would overflow the stack and take the process with it: such a query is refused while it is only text.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SetExpr, Visit, Visitor};

/// Levels that a query may have. A run-time thread of 2 MiB was seen to bear twice as many of the costliest kind; chains of AND
/// or + bear more.
pub(super) const DEEPEST: usize = 256;

/// What is nested too deeply in `query`, if anything is. Recurses itself, over small frames.
pub(super) fn too_deep(query: &Query) -> Option<&'static str> {
    match query.visit(&mut Depth(0)) {
        ControlFlow::Break(what) => Some(what),
        ControlFlow::Continue(()) => None,
    }
}

struct Depth(usize);

impl Depth {
    fn enter(&mut self, what: &'static str) -> ControlFlow<&'static str> {
        self.0 += 1;
        if self.0 > DEEPEST { ControlFlow::Break(what) } else { ControlFlow::Continue(()) }
    }

    fn leave(&mut self) -> ControlFlow<&'static str> {
        self.0 -= 1;
        ControlFlow::Continue(())
    }
}

impl Visitor for Depth {
    type Break = &'static str;

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<&'static str> {
        self.enter("expressions")
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<&'static str> {
        self.leave()
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
        let mut branches = 0;
        let mut body = query.body.as_ref();
        while let SetExpr::SetOperation { left, .. } = body {
            branches += 1;
            body = left;
        }
        if branches > DEEPEST {
            return ControlFlow::Break("UNIONs");
        }
        self.enter("queries")
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<&'static str> {
        self.leave()
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<&'static str> {
        let relations: usize = select.from.iter().map(|table| 1 + table.joins.len()).sum();
        if relations > DEEPEST { ControlFlow::Break("joins") } else { ControlFlow::Continue(()) }
    }
}
